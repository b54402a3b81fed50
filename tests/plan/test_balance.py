"""Everything of an exchange on as few connections as its limits allow, and no limit passed: held against the limits
by counting what comes out, not by the planner's own arithmetic."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import examples
from tests.feeds import parse_feed
from wsrec.feed.errors import ConfigError
from wsrec.feed.load import find_feed
from wsrec.plan.connections import plan
from wsrec.plan.target import Target, resolve

SMALL = b"""
name: x
description: d
sockets: {m: {url: "wss://h/ws"}}
symbols: {pattern: '.+', words: w, example: A, case: keep}
subscribe: {message: '{"args":{topics}}', batch: 5}
limits: {connects: 10, connects_interval: 1}
channels:
  trades: {topic: "t:{symbol}"}
  book: {topic: "b:{symbol}", weight: 10}
  ticker: {topic: "k:{symbol}", weight: 0.1}
"""


def limited(symbols, channels=("trades", "book", "ticker"), **limits):
    feed = parse_feed(SMALL, "f.yaml")
    feed = feed.model_copy(update={"limits": feed.limits.model_copy(update=limits)})
    return plan([Target(feed=feed, symbols=tuple(symbols), channels=channels)])


def most_within(times, seconds):
    """Most of the times that lie within a half-open interval of so many seconds."""
    return max(sum(1 for other in times if time <= other < time + seconds) for time in set(times))


class TestAllOfBinanceSpot:
    symbols = tuple(f"SYM{n}USDT" for n in range(2000))
    channels = ("trades", "book", "bbo")
    plans = plan([resolve("binance", symbols, channels)])

    def test_connections(self):
        assert len(self.plans) == 6

    def test_every_stream_exactly_once(self):
        suffixes = ("trade", "depth@100ms", "bookTicker")
        wanted = Counter(f"{symbol.lower()}@{suffix}" for symbol in self.symbols for suffix in suffixes)
        requested = Counter(t for p in self.plans for s in p.requests for t in json.loads(s.text)["params"])
        assert requested == wanted
        assert requested == Counter(topic.topic for plan in self.plans for topic in plan.topics)

    def test_streams_a_connection(self):
        assert {len(plan.topics) for plan in self.plans} == {1000}
        assert max(len(plan.topics) for plan in self.plans) <= 1024

    def test_messages_a_second_on_every_connection(self):
        for plan_ in self.plans:
            times = [nth * plan_.send_interval for nth in range(len(plan_.requests))]
            assert most_within(times, 1) <= 5

    def test_connection_attempts_within_five_minutes(self):
        feed = find_feed("binance")
        few = feed.model_copy(update={"limits": feed.limits.model_copy(update={"streams_per_connection": 7})})
        plans = plan([Target(feed=few, symbols=self.symbols, channels=("trade", "depth@100ms", "bookTicker"))])
        assert len(plans) == 858
        assert most_within([plan.start_after for plan in plans], 300) <= 300

    def test_time_to_full_coverage(self):
        assert max(plan.subscribed_after for plan in self.plans) == 4.5

    def test_is_the_same_again(self):
        assert plan([resolve("binance", self.symbols, self.channels)]) == self.plans


class TestLimits:
    @settings(deadline=None, max_examples=examples(60))
    @given(
        st.integers(1, 60),
        st.integers(1, 40),
        st.none() | st.integers(1, 20),
        st.none() | st.integers(1, 5),
        st.none() | st.integers(100, 300),
    )
    def test_are_kept_and_everything_is_requested_once(self, count, streams, a_channel, messages, size):
        symbols = [f"S{n}" for n in range(count)]
        plans = limited(
            symbols,
            streams_per_connection=streams,
            streams_per_channel=a_channel,
            messages_per_connection=messages,
            bytes_per_connection=size,
        )
        requested = Counter(topic.topic for plan in plans for topic in plan.topics)
        assert requested == Counter(f"{kind}:{symbol}" for symbol in symbols for kind in "tbk")
        for plan_ in plans:
            assert len(plan_.topics) <= streams
            assert a_channel is None or max(Counter(topic.topic[0] for topic in plan_.topics).values()) <= a_channel
            assert messages is None or len(plan_.requests) <= messages
            assert size is None or sum(len(s.text) for s in plan_.requests) <= size

    def test_heavy_channels_are_spread(self):
        plans = limited([f"S{n}" for n in range(40)], streams_per_connection=30)
        books = [sum(topic.topic.startswith("b:") for topic in plan.topics) for plan in plans]
        assert books == [10, 10, 10, 10]

    @given(st.integers(1, 30), st.sampled_from([0.5, 3, 8]))
    @settings(deadline=None)
    def test_messages_of_all_connections_together(self, count, rate):
        plans = limited([f"S{n}" for n in range(count)], streams_per_connection=10, messages_per_second_in_all=rate)
        times = [p.start_after + nth * p.send_interval for p in plans for nth in range(len(p.requests))]
        for seconds in (1, 10):
            assert most_within(times, seconds) <= rate * seconds + 1

    @pytest.mark.parametrize(
        ("limits", "expected"),
        [
            ({"streams": 299}, "300 subscriptions are needed, and x allows 299 from one address"),
            ({"streams_per_connection": 10, "connections": 29}, "30 connections are needed, and x allows 29"),
            (
                {"streams_per_connection": 10, "connections": 30, "lifetime": 60},
                "one of which is kept for replacements",
            ),
        ],
    )
    def test_totals_are_refused_with_a_hint(self, limits, expected):
        with pytest.raises(ConfigError, match=expected) as caught:
            limited([f"S{n}" for n in range(100)], **limits)
        assert "--shard" in str(caught.value)

    def test_a_topic_that_no_message_can_hold(self):
        text = SMALL.replace(b"batch: 5", b"max_bytes: 100")
        feed = parse_feed(text, "f.yaml")
        with pytest.raises(ConfigError, match="alone takes more than 100 bytes"):
            plan([Target(feed=feed, symbols=("A" * 100,), channels=("trades",))])
