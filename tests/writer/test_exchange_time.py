"""Implausible exchange times in a recording: null in the column, reported once per channel, counted per file."""

from __future__ import annotations

import json
import os
import time

import pytest

from tests.conftest import Wsrec, events_of, messages_of

YAML = """
name: mine
description: times of many kinds
sockets: {{main: {{url: "{url}"}}}}
symbols: {{pattern: '[A-Z]+', words: capital letters, example: AB}}
default_symbols: [AB]
subscribe: {{message: '{{"topics":{{topics}}}}', batch: 100}}
limits: {{streams_per_connection: 100, messages_per_second: 100, connects: 100, connects_interval: 1}}
fields: {{channel: [c], symbol: [s], exchange_time: [t]}}
channels:
  trade: {{topic: "trade.{{symbol}}", default: true, exchange_seq: [n], sequence: next}}
  book: {{topic: "book.{{symbol}}", default: true}}
"""
SECONDS, MILLI, MICRO = 10**9, 10**6, 10**3


async def changes_its_unit(connection) -> None:
    """Sends 20 times in ms, 30 in us, 7 in s, then none at all; and a book with plausible times."""
    await connection.recv()
    for number in range(60):
        now = time.time_ns()
        stated = now // MILLI if number < 20 else now // MICRO if number < 50 else now // SECONDS
        stated = {57: 0, 58: -1, 59: None}.get(number, stated)
        await connection.send(json.dumps({"c": "trade", "s": "AB", "n": number, "t": stated}))
        await connection.send(json.dumps({"c": "book", "s": "AB", "t": now // MILLI}))


class TestRecorded:
    @pytest.mark.long
    def test_a_unit_that_changes_is_noticed_once(self, wsrec: Wsrec, exchange, tmp_path):
        yaml = tmp_path / "mine.yaml"
        yaml.write_text(YAML.format(url=exchange(changes_its_unit).url))
        out = tmp_path / "out"
        result = wsrec.run("record", yaml, "--until-close", "--out", out, "--quiet")
        assert result.returncode == 0, result.stderr
        rows = messages_of(out)
        trades = [row for row in rows.select(["channel", "exchange_time"]).to_pylist() if row["channel"] == "trade"]
        assert [row["exchange_time"] is not None for row in trades] == [True] * 20 + [False] * 40
        books = [row for row in rows.select(["channel", "exchange_time"]).to_pylist() if row["channel"] == "book"]
        assert all(row["exchange_time"] is not None for row in books)
        (event,) = [event for event in events_of(out) if event["kind"] == "exchange_time_off"]
        assert (event["channel"], event["detail"]["count"], event["detail"]["unit"]) == ("trade", 39, "us")
        assert (len(event["detail"]["stated"]), event["detail"]["value"]) == (16, None)
        reported = [line for line in result.stderr.splitlines() if "exchange_time" in line]
        assert len(reported) == 1
        assert "trade" in reported[0]
        assert "as us it would fit" in reported[0]
        for pure in ("", "1"):
            verified = wsrec.run("verify", out, "--json", "--again", env={**os.environ, "WSREC_PURE": pure})
            assert verified.returncode == 0, verified.stdout
            (finding,) = json.loads(verified.stdout)["captures"][0]["findings"]
            assert finding["kind"] == "note"
            assert "39 messages of trade have a time too far from their arrival" in finding["what"]
