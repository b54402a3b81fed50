"""Exchange times that are none: null in the column, told of once a channel, counted in an event a file."""

from __future__ import annotations

import json
import os
import time

import numpy as np
import pyarrow as pa
import pytest

from tests.conftest import Wsrec, events_of, messages_of
from wsrec.decode.implementation import FieldReader
from wsrec.feed.schema import Feed
from wsrec.monitor.exchange_time import TimeChecker

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
SECONDS, MILLI, MICRO, NANO = 10**9, 10**6, 10**3, 1


async def changes_its_unit(connection) -> None:
    """20 times in ms, 30 in us, 7 in s, then none at all; beside it a book that is sound."""
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
        reported = [line for line in result.stderr.splitlines() if "exchange_time" in line]
        assert len(reported) == 1
        assert "trade" in reported[0]
        assert "as us it would fit" in reported[0]
        for pure in ("", "1"):
            verified = wsrec.run("verify", out, "--json", env={**os.environ, "WSREC_PURE": pure})
            assert verified.returncode == 0, verified.stdout
            (finding,) = json.loads(verified.stdout)["captures"][0]["findings"]
            assert finding["kind"] == "note"
            assert "39 messages of trade have a time too far from their arrival" in finding["what"]


def checked(payloads, arrival, **fields):
    """What of the times is odd, and what is told of them."""
    feed = Feed.model_validate(
        {
            "name": "times",
            "description": "",
            "sockets": {"main": {"url": "ws://x"}},
            "fields": {"channel": ["c"], "exchange_time": ["t"], **fields},
        }
    )
    checker, count = TimeChecker(feed), len(payloads)
    messages = pa.array([json.dumps(each).encode() for each in payloads], pa.large_binary())
    columns = FieldReader(feed).read(messages, np.ones(count, np.bool_))
    when = np.full(count, arrival, np.int64)
    odd = checker.odd(columns.exchange_time, when)
    reported = checker.count(odd, columns, when, 100, messages, np.zeros(count, np.bool_)) if odd is not None else []
    return odd, reported, checker


NOW = 1_795_780_000_000_000_000


class TestJudgement:
    @pytest.mark.parametrize("stated", ["s", "ms", "us", "ns", "iso"])
    @pytest.mark.parametrize("read", ["s", "ms", "us", "ns", "iso"])
    def test_the_unit_that_would_fit_is_found(self, stated, read):
        written = {"s": SECONDS, "ms": MILLI, "us": MICRO, "ns": NANO}
        value = "2026-11-27T10:26:40Z" if stated == "iso" else NOW // written[stated]
        odd, reported, _ = checked([{"c": "x", "t": value}], NOW, time_unit=read)
        if stated == read or (odd is None and "iso" in (stated, read)):
            # what is no text of a date, or no number, is no time at all
            assert odd is None
            return
        assert odd is not None
        assert odd.tolist() == [True]
        assert [(each.channel, each.unit, each.row) for each in reported] == [("x", stated, 100)]

    @pytest.mark.parametrize(
        ("off", "odd"), [(0, False), (86_399, False), (-86_399, False), (86_401, True), (-86_401, True)]
    )
    def test_a_day_is_allowed_by_default(self, off, odd):
        found, _, _ = checked([{"c": "x", "t": (NOW + off * SECONDS) // MILLI}], NOW)
        assert (found is not None) is odd

    def test_the_feed_says_how_far(self):
        payloads = [{"c": "x", "t": (NOW - off * SECONDS) // MILLI} for off in (1, 59, 61)]
        found, _, _ = checked(payloads, NOW, time_tolerance=60)
        assert found is not None
        assert found.tolist() == [False, False, True]

    def test_channels_without_end_are_told_of_together(self):
        payloads = [{"c": f"x{n}", "t": 1} for n in range(500)]
        _, reported, checker = checked(payloads, NOW)
        assert len(reported) <= 101
        counts = checker.take()
        assert sum(each.messages for each in counts) == 500
        assert len(counts) <= 101
        assert checker.take() == []
