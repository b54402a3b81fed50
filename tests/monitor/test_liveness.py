from __future__ import annotations

import json
import time

import numpy as np
import pyarrow as pa
import pytest

from tests.real_messages import read
from tests.subscriptions import requested
from wsrec.decode.implementation import FieldReader
from wsrec.feed.load import find_feed
from wsrec.feed.schema import Feed
from wsrec.monitor.check import MonitorEvent, RowColumns, Signal
from wsrec.monitor.feed_monitor import FeedMonitor
from wsrec.monitor.streams import StreamTable
from wsrec.plan.request_table import ConnectionRequests, Request, RequestTable
from wsrec.ring.events import EventKind

S = 1_000_000_000
FEED = Feed.model_validate(
    {
        "name": "quiet",
        "description": "",
        "sockets": {"main": {"url": "ws://x"}},
        "symbols": {"pattern": "[A-Z]+", "words": "letters", "example": "A", "topic_case": "lower"},
        "subscribe": {"message": "{topics}", "batch": 1},
        "limits": {"streams_per_connection": 9, "messages_per_second": 1, "connects": 1, "connects_interval": 1},
        "fields": {"channel": ["c"], "symbol": ["s"]},
        "channels": {
            "trade": {"topic": "{symbol}@trade", "idle_timeout": 5, "aliases": ["t"], "on_stale": "resubscribe"},
            "all": {"topic": "all", "idle_timeout": 5},
            "rare": {"topic": "{symbol}@rare"},
        },
    }
)


TOPICS = {
    one.topic: one
    for one in (
        requested(FEED, "all"),
        *(requested(FEED, channel, symbol) for channel in ("trade", "rare") for symbol in "ABC"),
    )
}


class WatchedFeed:
    """A monitor, and its findings about streams in short."""

    def __init__(self, *topics: str, conns=(0,)) -> None:
        requests = RequestTable()
        request = Request(number=1, topics=tuple(TOPICS[name] for name in topics))
        for conn in conns:
            requests.learn(conn, ConnectionRequests(requests=(request,)))
        self.monitor = FeedMonitor(FEED, requests, {})
        self.seq = 0

    def subscribe(self, at, *topics, conn=0):
        found = self.monitor.event(MonitorEvent(EventKind.SUBSCRIBE, at * S, conn, {"topics": topics}))
        return [self._topic(one) for one in found if one.kind is Signal.BEGUN]

    def end(self, conn, at):
        self.monitor.event(MonitorEvent(EventKind.DISCONNECT, at * S, conn, {"message": "it broke"}))

    def come(self, *messages, conn=0):
        """Pass messages ``(at, channel, symbol)``; returns the streams that resume with them."""
        payloads = [json.dumps({"c": channel, "s": symbol}).encode() for _, channel, symbol in messages]
        found = self.monitor.rows(self._batch(payloads, [at for at, *_ in messages], conn))
        self.seq += len(payloads)
        self.reported = self._silent(found)
        resumed = [one for one in found if one.kind is EventKind.STREAM_RESUMED]
        return [(self._topic(one), one.time / S, one.detail["monotonic_since"] / S) for one in resumed]

    def _batch(self, payloads, times, conn):
        count = len(payloads)
        yes, when = np.ones(count, np.bool_), np.array([int(at * S) for at in times], np.int64)
        payload, none = pa.array(payloads, pa.large_binary()), np.zeros(count, np.uint32)
        columns = RowColumns(
            first=self.seq,
            conns=np.full(count, conn, np.uint16),
            stage=when,
            arrival=when,
            payload=payload,
            received=yes,
            carries=yes,
            readable=yes,
            binary=~yes,
            requests=none,
        )
        return self.monitor.read(columns)

    def silent(self, at):
        """The streams that are newly reported as stale by this time."""
        return self._silent(self.monitor.advance(at * S))

    def _silent(self, found):
        reported = [one for one in found if one.kind is EventKind.STALE]
        return [(self._topic(one), one.detail["monotonic_since"] / S, one.detail["ever"]) for one in reported]

    def _topic(self, finding):
        return self.monitor.setup.streams.streams[finding.stream].topic.topic


class TestSilence:
    def test_counts_from_the_confirmation_and_is_reported_once(self):
        feed = WatchedFeed("a@trade", "b@trade")
        assert feed.silent(100) == []
        feed.subscribe(100, "a@trade", "b@trade")
        feed.come((104, "trade", "B"))
        assert feed.silent(104) == []
        assert feed.silent(105) == [("a@trade", 100, False)]
        assert feed.silent(110) == [("b@trade", 104, True)]
        assert feed.silent(120) == []

    def test_ends_with_the_first_message_that_comes_again(self):
        feed = WatchedFeed("a@trade")
        feed.subscribe(100, "a@trade")
        feed.silent(106)
        assert feed.come((107, "trade", "A"), (108, "trade", "A")) == [("a@trade", 107, 100)]
        assert feed.silent(112) == []
        assert feed.silent(114) == [("a@trade", 108, True)]

    def test_shows_between_two_messages_of_one_batch_too(self):
        feed = WatchedFeed("a@trade", "b@trade")
        feed.subscribe(100, "a@trade", "b@trade")
        batch = [
            (101, "trade", "A"),
            (103, "trade", "B"),
            (105.9, "trade", "A"),
            (109, "trade", "B"),
            (111, "trade", "A"),
        ]
        assert feed.come(*batch) == [("b@trade", 109, 103), ("a@trade", 111, 105.9)]
        assert feed.reported == [("b@trade", 103, True), ("a@trade", 105.9, True)]
        assert feed.silent(113) == []
        assert feed.silent(114) == [("b@trade", 109, True)]

    def test_is_not_reported_between_messages_that_may_be_of_any_symbol(self):
        feed = WatchedFeed("a@trade")
        feed.subscribe(100, "a@trade")
        assert feed.come(*((100 + at, "trade", None) for at in range(12)), (117, "trade", None)) == [
            ("a@trade", 117, 111)
        ]
        assert feed.reported == [("a@trade", 111, True)]

    def test_of_a_channel_without_quiet_only_what_never_came_is_reported(self):
        feed = WatchedFeed("a@rare", "b@rare")
        feed.subscribe(100, "a@rare", "b@rare")
        feed.come((101, "rare", "B"))
        assert feed.silent(159) == []
        assert feed.silent(160) == [("a@rare", 100, False)]
        assert feed.silent(10_000) == []

    def test_a_topic_of_all_symbols_has_messages_of_any(self):
        feed = WatchedFeed("all", "a@trade")
        feed.subscribe(100, "all", "a@trade")
        feed.come((103, "all", "Q"), (104, "all", None))
        assert feed.silent(108) == [("a@trade", 100, False)]

    def test_a_message_without_a_symbol_may_be_of_any(self):
        feed = WatchedFeed("a@trade", "b@trade", "a@rare")
        feed.subscribe(100, "a@trade", "b@trade", "a@rare")
        feed.come((104, "trade", None))
        assert feed.silent(106) == []
        assert feed.silent(109) == [("a@trade", 104, True), ("b@trade", 104, True)]

    def test_messages_under_another_name_of_the_channel_and_in_other_letters(self):
        feed = WatchedFeed("a@trade")
        feed.subscribe(100, "a@trade")
        feed.come((104, "t", "a"))
        assert feed.silent(106) == []

    def test_each_connection_has_its_own_streams_and_an_ended_one_is_not_watched(self):
        feed = WatchedFeed("a@trade", conns=(0, 1))
        for conn in (0, 1):
            assert feed.subscribe(100, "a@trade", conn=conn) == ["a@trade"]
        feed.come((104, "trade", "A"), conn=1)
        feed.end(0, 105)
        assert feed.silent(106) == []
        assert feed.subscribe(107, "a@trade", conn=0) == ["a@trade"]
        assert feed.silent(109) == [("a@trade", 104, True)]

    def test_what_brings_messages_unasked_is_watched_from_then_on(self):
        feed = WatchedFeed("a@trade")
        feed.come((100, "trade", "A"))
        assert feed.subscribe(101, "a@trade") == []
        assert feed.silent(105) == [("a@trade", 100, True)]

    @pytest.mark.parametrize("messages", [[(1, "unheard", "A")], [(1, "trade", "Z")], [(1, None, None)]])
    def test_messages_of_nothing_that_was_asked_for(self, messages):
        feed = WatchedFeed("a@trade", "b@rare")
        assert feed.come(*messages) == []
        assert feed.silent(1000) == []


class TestFollowed:
    """A monitor that continues after rows and events that another one has checked."""

    def follow(self, feed, messages, *events):
        times, channels, symbols = zip(*messages, strict=True)
        count = len(times)
        rows = {
            "seq": pa.array(range(count), pa.uint64()),
            "conn": pa.array([0] * count, pa.uint16()),
            "handoff_monotonic": pa.array([at * S for at in times], pa.int64()),
            "channel": pa.array(channels).dictionary_encode(),
            "symbol": pa.array(symbols).dictionary_encode(),
            "exchange_seq": pa.nulls(count, pa.uint64()),
        }
        feed.monitor.follow(pa.record_batch(rows))
        for kind, at, detail in events:
            feed.monitor.follow_event(MonitorEvent(kind, at * S, 0, detail))

    def test_a_silence_that_began_among_them_is_found(self):
        feed = WatchedFeed("a@trade", "b@trade")
        self.follow(feed, [(1, "trade", "A"), (2, "trade", "B")])
        assert feed.come((4, "trade", "B")) == []
        assert feed.silent(6) == [("a@trade", 1.0, True)]
        assert feed.come((7, "trade", "A")) == [("a@trade", 7, 1)]

    def test_what_was_reported_is_not_reported_again_and_ends_with_the_next_message(self):
        feed = WatchedFeed("a@trade")
        stream = {"channel": "trade", "symbol": "A"}
        self.follow(feed, [(1, "trade", "A"), (8, "trade", "B")], (EventKind.STALE, 6, stream))
        assert feed.silent(20) == []
        assert feed.come((21, "trade", "A")) == [("a@trade", 21, 1)]

    def test_what_was_reported_before_a_later_message_is_over(self):
        feed = WatchedFeed("a@trade")
        stream = {"channel": "trade", "symbol": "A"}
        self.follow(feed, [(1, "trade", "A"), (8, "trade", "A")], (EventKind.STALE, 6, stream))
        assert feed.silent(20) == [("a@trade", 8.0, True)]

    def test_what_was_confirmed_and_never_came(self):
        feed = WatchedFeed("a@trade", "b@trade")
        self.follow(feed, [(1, "trade", "B")], (EventKind.ACK, 2, {"topics": ["a@trade"]}))
        assert feed.come((6, "trade", "B")) == [("b@trade", 6, 1)]
        assert feed.silent(7) == [("a@trade", 2.0, False)]


def test_speed(usdm_recording):
    """Shows the cost of watching (`-k speed -s`); fails only on a gross change."""
    feed = find_feed("binance-usdm")
    topics = {0: [requested(feed, name, "BTCUSDT") for name in ("trade", "depth@0ms", "bookTicker")]}
    reader = FieldReader(feed)
    batches = [read(reader, usdm_recording[start : start + 4000]) for start in range(0, len(usdm_recording), 4000)]
    conns, when = np.zeros(4000, np.uint16), np.arange(1, 4001)
    best = float("inf")
    for _ in range(7):
        table = StreamTable(feed, topics)
        start = time.process_time_ns()
        for columns in batches:
            table.take(conns[: len(columns.channel)], columns, when[: len(columns.channel)])
        best = min(best, (time.process_time_ns() - start) / len(usdm_recording))
    print(f"StreamTable: {best:.0f} ns a message")
    assert best < 5_000
