"""Late comers and books that are replaced, from the exchange to what `wsrec verify` says of the capture."""

from __future__ import annotations

import json
import os

import pytest

from tests.conftest import events_of

YAML = """
name: mine
description: numbers of a connection, and a book that may be replaced
sockets: {{main: {{url: "{url}"}}}}
symbols: {{pattern: '[A-Z]+', words: capital letters, example: AB}}
default_symbols: [AB]
subscribe: {{message: '{{"topics":{{topics}}}}', batch: 100}}
limits: {{streams_per_connection: 100, messages_per_second: 100, connects: 100, connects_interval: 1}}
fields: {{channel: [c], symbol: [s]}}
"""
LATE = """
channels: {{book: {{topic: "book.{{symbol}}", default: true}}}}
sequence: {{exchange_seq: [n], late: {{where: {{type: subscribed}}, within: 50}}}}
"""
REPLACED = """
channels:
  book:
    topic: "book.{{symbol}}"
    default: true
    exchange_seq: [u]
    seq_first: [U]
    sequence: touching
    resets: {{messages: [{{path: full, match: true}}]}}
"""
LOST = {40, 41, 200, 380}
"""40 and 41 are one gap; 380 is not made good when the connection ends."""


async def answers_late(connection) -> None:
    await connection.recv()
    for number in range(400):
        if number not in LOST | {100, 301}:
            await connection.send(json.dumps({"c": "book", "s": "AB", "n": number}))
        if number in (120, 330):
            late = {120: 100, 330: 301}[number]
            await connection.send(json.dumps({"c": "book", "s": "AB", "n": late, "type": "subscribed"}))


async def replaces_its_book(connection) -> None:
    await connection.recv()
    for number in range(200):
        first = {"full": True} if number in (0, 100) else {"U": number * 10 + (50 if number > 100 else 0)}
        last = number * 10 + 9 + (50 if number >= 100 else 0)
        await connection.send(json.dumps({"c": "book", "s": "AB", "u": last, **first}))


def captured(wsrec, exchange, tmp_path, rules, behaviour):
    """A capture of several files, and what verify says of it, which both implementations say alike."""
    yaml = tmp_path / "mine.yaml"
    yaml.write_text((YAML + rules).format(url=exchange(behaviour).url))
    out = tmp_path / "out"
    result = wsrec.run("record", yaml, "--until-close", "--out", out, "--quiet", "--rotate", "2kB", "--batch", "1ms")
    stated = [
        wsrec.run("verify", out, "--json", "--again", env={**os.environ, "WSREC_PURE": pure}, timeout=120).stdout
        for pure in ("", "1")
    ]
    assert json.loads(stated[0]) == json.loads(stated[1])
    return result, out, json.loads(stated[0])["captures"][0]


@pytest.mark.long
def test_exactly_what_did_not_come_is_missing_by_writer_and_verify(wsrec, exchange, tmp_path):
    _, out, capture = captured(wsrec, exchange, tmp_path, LATE, answers_late)
    gaps = [event["detail"] for event in events_of(out) if event["kind"] == "gap"]
    assert [(gap["expected"], gap["found"], gap["missing"]) for gap in gaps] == [
        (40, 42, 2),
        (200, 201, 1),
        (380, 381, 1),
    ]
    assert {finding["kind"] for finding in capture["findings"]} <= {"note", "incomplete"}
    (session,) = capture["sessions"]
    (stream,) = session["streams"]
    reasons = {each["reason"] for each in stream["intervals"] if each["state"] == "incomplete"}
    assert len(reasons) == 3
    assert all("missing" in reason for reason in reasons)
    assert stream["state"] == "incomplete"


@pytest.mark.long
def test_nothing_is_proved_across_a_book_that_is_replaced(wsrec, exchange, tmp_path):
    result, out, capture = captured(wsrec, exchange, tmp_path, REPLACED, replaces_its_book)
    assert result.returncode == 0
    kinds = [event["kind"] for event in events_of(out)]
    assert (kinds.count("sequence_reset"), kinds.count("gap")) == (1, 0)
    (session,) = capture["sessions"]
    (stream,) = session["streams"]
    states = [each["state"] for each in stream["intervals"]]
    place = states.index("proved")
    assert "unbroken" in states[place : len(states) - states[::-1].index("proved")]
    assert stream["state"] != "incomplete"
