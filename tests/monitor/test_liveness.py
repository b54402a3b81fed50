from __future__ import annotations

import json
import time

import numpy as np
import pytest

from tests.real_messages import read
from tests.subscriptions import requested
from wsrec.decode.implementation import FieldReader
from wsrec.feed.load import find_feed
from wsrec.feed.schema import Feed
from wsrec.monitor.cooldown import LEAST_NS, Remedies
from wsrec.monitor.liveness import PATIENCE_NS, SilenceTracker

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


class Watch:
    """A tracker, and what it says as short words."""

    def __init__(self, *topics: str, conns=(0,)) -> None:
        self.tracker = SilenceTracker(FEED, {conn: [TOPICS[name] for name in topics] for conn in conns})
        self.reader = FieldReader(FEED)

    def subscribe(self, at, *topics, conn=0):
        return [stream.topic.topic for stream in self.tracker.subscribed(conn, topics, at * S)]

    def come(self, *messages, conn=0):
        """Messages ``(at, channel, symbol)``."""
        payloads = [json.dumps({"c": channel, "s": symbol}).encode() for _, channel, symbol in messages]
        when = np.array([int(at * S) for at, *_ in messages], np.int64)
        found = self.tracker.seen(np.full(len(when), conn, np.uint16), read(self.reader, payloads), when)
        return [(one.stream.topic.topic, one.time / S, one.since / S) for one in found]

    def silent(self, at):
        return [(one.stream.topic.topic, one.since / S, one.ever) for one in self.tracker.expired(at * S)]


class TestSilence:
    def test_counts_from_the_confirmation_and_is_told_once(self):
        watch = Watch("a@trade", "b@trade")
        assert watch.silent(100) == []
        watch.subscribe(100, "a@trade", "b@trade")
        watch.come((104, "trade", "B"))
        assert watch.silent(104) == []
        assert watch.silent(105) == [("a@trade", 100, False)]
        assert watch.silent(110) == [("b@trade", 104, True)]
        assert watch.silent(120) == []

    def test_ends_with_the_first_message_that_comes_again(self):
        watch = Watch("a@trade")
        watch.subscribe(100, "a@trade")
        watch.silent(106)
        assert watch.come((107, "trade", "A"), (108, "trade", "A")) == [("a@trade", 107, 100)]
        assert watch.silent(112) == []
        assert watch.silent(114) == [("a@trade", 108, True)]

    def test_of_a_channel_without_quiet_only_what_never_came_is_reported(self):
        watch = Watch("a@rare", "b@rare")
        watch.subscribe(100, "a@rare", "b@rare")
        watch.come((101, "rare", "B"))
        (found,) = watch.tracker.expired(100 * S + PATIENCE_NS)
        assert (found.stream.topic.topic, found.ever, found.expected) == ("a@rare", False, False)
        assert watch.silent(10_000) == []
        assert watch.tracker.to_be_helped() == []

    def test_a_topic_of_all_symbols_has_messages_of_any(self):
        watch = Watch("all", "a@trade")
        watch.subscribe(100, "all", "a@trade")
        watch.come((103, "all", "Q"), (104, "all", None))
        assert watch.silent(108) == [("a@trade", 100, False)]

    def test_a_message_without_a_symbol_may_be_of_any(self):
        watch = Watch("a@trade", "b@trade", "a@rare")
        watch.subscribe(100, "a@trade", "b@trade", "a@rare")
        watch.come((104, "trade", None))
        assert watch.silent(106) == []
        assert watch.silent(109) == [("a@trade", 104, True), ("b@trade", 104, True)]

    def test_messages_under_another_name_of_the_channel_and_in_other_letters(self):
        watch = Watch("a@trade")
        watch.subscribe(100, "a@trade")
        watch.come((104, "t", "a"))
        assert watch.silent(106) == []

    def test_connections_are_told_apart_and_an_ended_one_is_not_watched(self):
        watch = Watch("a@trade", conns=(0, 1))
        for conn in (0, 1):
            assert watch.subscribe(100, "a@trade", conn=conn) == ["a@trade"]
        watch.come((104, "trade", "A"), conn=1)
        watch.tracker.disconnected(0)
        assert watch.silent(106) == []
        assert watch.subscribe(107, "a@trade", conn=0) == ["a@trade"]
        assert watch.silent(109) == [("a@trade", 104, True)]
        assert [stream.conn for stream in watch.tracker.to_be_helped()] == [1]

    def test_what_brings_messages_unasked_is_watched_from_then_on(self):
        watch = Watch("a@trade")
        watch.come((100, "trade", "A"))
        assert watch.subscribe(101, "a@trade") == []
        assert watch.silent(105) == [("a@trade", 100, True)]

    @pytest.mark.parametrize("messages", [[(1, "unheard", "A")], [(1, "trade", "Z")], [(1, None, None)]])
    def test_messages_of_nothing_that_was_asked_for(self, messages):
        watch = Watch("a@trade", "b@rare")
        assert watch.come(*messages) == []
        assert watch.silent(1000) == []


class TestRemedies:
    def test_at_once_and_then_ever_less_often_until_it_helped(self):
        remedies = Remedies()
        done = [second for second in range(600) if remedies.due("x", second * S)]
        assert done == [0, 30, 90, 210, 450]
        assert remedies.due("y", 600 * S)
        assert remedies.due("x", 10_000 * S)
        assert not remedies.due("x", 10_000 * S + LEAST_NS - 1)
        assert remedies.due("x", 10_000 * S + LEAST_NS)

    def test_not_more_often_than_it_takes_to_show(self):
        remedies = Remedies()
        assert [second for second in range(300) if remedies.due("x", second * S, 100 * S)] == [0, 100]


def test_speed(usdm_recording):
    """Shows the cost of watching (`-k speed -s`); fails only on a gross change."""
    feed = find_feed("binance-usdm")
    topics = {0: [requested(feed, name, "BTCUSDT") for name in ("trade", "depth@0ms", "bookTicker")]}
    reader = FieldReader(feed)
    batches = [read(reader, usdm_recording[start : start + 4000]) for start in range(0, len(usdm_recording), 4000)]
    conns, when = np.zeros(4000, np.uint16), np.arange(1, 4001)
    best = float("inf")
    for _ in range(7):
        tracker = SilenceTracker(feed, topics)
        start = time.process_time_ns()
        for columns in batches:
            tracker.seen(conns[: len(columns.channel)], columns, when[: len(columns.channel)])
        best = min(best, (time.process_time_ns() - start) / len(usdm_recording))
    print(f"SilenceTracker: {best:.0f} ns a message")
    assert best < 5_000
