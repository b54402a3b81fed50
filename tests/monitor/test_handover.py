"""Handovers: the first numbers on a connection against the last ones on the connection that it replaces."""

from __future__ import annotations

import pytest

from tests.monitor.test_sequence import feed_of, gaps
from wsrec.monitor.sequence import SequenceChecker

NEXT = feed_of(sequence="next", resets={"numbers": [100], "messages": [{"path": "type", "match": "snapshot"}]})
PREVIOUS = feed_of(sequence="previous", seq_previous=["p"])


class Turns:
    """Connections 0, 1 and 2, which take turns."""

    def __init__(self, feed=NEXT) -> None:
        self.feed, self.checker = feed, SequenceChecker(feed, turns=(0, 1, 2))

    def come(self, conn, *messages):
        """Pass messages of a connection: numbers of symbol X, or whole messages."""
        whole = [{"c": "book", "s": "X", **(each if isinstance(each, dict) else {"n": each})} for each in messages]
        return self.short(gaps(self.feed, whole, self.checker, [conn] * len(whole)))

    def replace(self, old, new):
        self.checker.reset(old)
        return self.short(self.checker.replaced(old, new))

    @staticmethod
    def short(found):
        return [(gap.symbol, gap.from_conn, gap.conn, gap.expected, gap.found, gap.missing) for gap in found]


@pytest.mark.parametrize("first", [3, 6, 8])
def test_numbers_that_begin_below_the_next_one_or_at_it_join(first):
    turns = Turns()
    turns.come(0, 5, 6, 7)
    turns.come(1, first, first + 1)
    assert turns.replace(0, 1) == []


def test_numbers_that_begin_above_the_next_one_are_a_gap():
    turns = Turns()
    turns.come(0, 5, 6, 7)
    turns.come(1, 10, 11)
    assert turns.replace(0, 1) == [("X", 0, 1, 8, 10, 2)]


def test_a_rule_that_names_the_number_before_cannot_count():
    turns = Turns(PREVIOUS)
    turns.come(0, {"n": 7, "p": 5})
    turns.come(1, {"n": 12, "p": 9})
    assert turns.replace(0, 1) == [("X", 0, 1, 7, 9, None)]


def test_a_stream_without_a_message_yet_is_compared_at_its_first_one():
    turns = Turns()
    turns.come(0, 7)
    assert turns.replace(0, 1) == []
    assert turns.come(1, 10, 11) == [("X", 0, 1, 8, 10, 2)]


def test_a_stream_without_a_message_on_one_connection_is_compared_on_the_next():
    turns = Turns()
    turns.come(0, 7)
    assert turns.replace(0, 1) == turns.replace(1, 2) == []
    assert turns.come(2, 9) == [("X", 0, 2, 8, 9, 1)]


def test_each_symbol_is_compared_by_itself():
    turns = Turns()
    turns.come(0, 7, {"s": "Y", "n": 70})
    turns.come(1, 8, {"s": "Y", "n": 72}, {"s": "Z", "n": 500})
    assert turns.replace(0, 1) == [("Y", 0, 1, 71, 72, 1)]


@pytest.mark.parametrize("first", [100, {"n": 50, "type": "snapshot"}])
def test_a_first_message_that_restarts_the_numbers_is_not_compared(first):
    turns = Turns()
    turns.come(0, 7)
    turns.come(1, first)
    assert turns.replace(0, 1) == []


@pytest.mark.parametrize("channel", [{"sequence": "increasing"}, {"sequence": "next", "sequence_scope": "channel"}])
def test_numbers_that_leap_or_run_over_all_symbols_are_not_compared(channel):
    turns = Turns(feed_of(**channel))
    turns.come(0, 7)
    turns.come(1, 50)
    assert turns.replace(0, 1) == []


def test_lost_rows_end_the_comparison():
    turns = Turns()
    turns.come(0, 7)
    turns.come(1, 50)
    turns.checker.reset(0)
    turns.checker.forget_ends()
    assert turns.checker.replaced(0, 1) == []
