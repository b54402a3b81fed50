"""Division of refused requests: in the end only the culprits are refused, without a storm of requests."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsrec.monitor.division import Division

S = 1_000_000_000


class Exchange:
    """Answers the requests of a division, one every 0.1 s, and refuses each one that has a culprit in it."""

    def __init__(self, topics, culprits, words="no") -> None:
        self.division = Division(lambda _, topic: (topic, topic.partition(".")[2]))
        self.culprits, self.words = set(culprits), words
        self.now = 0
        self.queue = deque([tuple(topics)])
        self.times: list[int] = []
        self.accepted: set[str] = set()
        self.refused: set[str] = set()

    def run(self, seconds: float = 10**7) -> None:
        end = self.now + round(seconds * S)
        while self.now < end and (self.queue or self.division.waits):
            self.queue.extend(part for order in self.division.due(self.now) for part in order.parts)
            if self.queue:
                self.ask(self.queue.popleft())
            self.now += S // 10 if self.queue or not self.division.waits else 10 * S

    def ask(self, topics) -> None:
        self.times.append(self.now)
        dead = [topic for topic in topics if topic in self.culprits]
        if not dead:
            assert not self.accepted & set(topics)
            self.division.accepted(0, topics)
            self.accepted.update(topics)
            return
        order = self.division.refused(0, topics, self.words.format(dead=dead[0]), self.now)
        if order is None:
            self.refused.update(topics)
        else:
            assert order.topics == topics
            self.queue.extend(order.parts)


TOPICS = st.integers(1, 60).map(lambda count: [f"trade.S{number}" for number in range(count)])


@given(st.data(), TOPICS, st.sampled_from(["no", "bad topic: {dead}", "no such symbol {dead}"]))
def test_only_the_culprits_are_refused_in_the_end(data, topics, words):
    culprits = data.draw(st.sets(st.sampled_from(topics)))
    exchange = Exchange(topics, culprits, words)
    exchange.run()
    assert exchange.refused == culprits
    assert exchange.accepted == set(topics) - culprits
    assert exchange.division.disputed(0) == {}


def test_one_of_a_hundred_is_found_within_a_few_requests():
    topics = [f"trade.S{number}" for number in range(100)]
    by_halves, named = Exchange(topics, {"trade.S37"}), Exchange(topics, {"trade.S37"}, "no topic {dead}")
    by_halves.run()
    named.run()
    assert len(by_halves.times) <= 15
    assert [len(named.times), named.refused] == [3, {"trade.S37"}]


@pytest.mark.parametrize("words", ["internal error", "Too many requests", "rate limit exceeded (code 10006)", "429"])
def test_a_refusal_for_another_reason_is_no_storm(words):
    topics = [f"trade.S{number}" for number in range(100)]
    exchange = Exchange(topics, topics, words)
    exchange.run(60)
    assert len(exchange.times) <= 40
    exchange.run(3600)
    assert len(exchange.times) <= 200


def test_a_rate_limited_request_is_repeated_whole_after_the_pause():
    topics = ("trade.A", "trade.B")
    division = Division(lambda _, topic: (topic,))
    order = division.refused(0, topics, "Too many requests", 0)
    assert order.parts == ()
    assert tuple(division.disputed(0)) == topics
    assert division.due(20 * S) == []
    (later,) = division.due(61 * S)
    assert (later.conn, later.topics, later.parts) == (0, topics, (topics,))
    division.accepted(0, topics)
    assert division.disputed(0) == {}


def test_a_connection_that_ended_is_forgotten():
    division = Division(lambda _, topic: (topic,))
    division.refused(0, ("a", "b"), "Too many requests", 0)
    division.disconnected(0)
    assert (division.disputed(0), division.due(10**15)) == ({}, [])


@pytest.mark.parametrize(
    ("words", "first"),
    [
        ("error: topic trade.AB-USD unknown", "trade.AB-USD"),
        ("trade.AB:", "trade.AB"),
        ("symbol AB is gone", "trade.AB"),
        ("symbol XAB is gone", None),
    ],
)
def test_names_are_whole_words(words, first):
    topics = ("trade.AB", "trade.AB-USD", "trade.C", "trade.D")
    division = Division(lambda _, topic: (topic, topic.partition(".")[2]))
    order = division.refused(0, topics, words, 0)
    rest = tuple(topic for topic in topics if topic != first)
    assert order.parts == ((topics[:2], topics[2:]) if first is None else (rest, (first,)))
