"""Gap rules: the rule of each channel of a feed, and which numbers break it.

The `breaks_*` functions take a value per message and return whether the message breaks the rule:

- `last`: the number of the message before it,
- `seq`: its own number,
- `first`, `previous`: the other number that its rule compares,
- `below`: whether that one is below 0 (the array then has its lower 64 bits); None if none is.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from wsrec.arrays import Flags, Int64s, Uint64s
from wsrec.decode.scalars import UINT64_MAX
from wsrec.feed.channel import Channel
from wsrec.feed.schema import Feed
from wsrec.feed.sequence_rules import Resets, SequenceRule, SequenceScope
from wsrec.monitor.stream_keys import NameNumbers

_ONE = np.uint64(1)
# rules by which numbers without a gap prove that no message is missing
_PROVING = (SequenceRule.NEXT, SequenceRule.TOUCHING, SequenceRule.PREVIOUS)


class ChannelRule(NamedTuple):
    """The rule for the numbers of a channel or connection.

    Attributes:
        rule: the rule.
        scope: what the numbers run over.
        overlap: whether ranges may overlap (`touching`).
        repeats: whether a number may be repeated.
        beginnings: numbers that legally restart the sequence.

    """

    rule: SequenceRule
    scope: SequenceScope
    overlap: bool = False
    repeats: bool = False
    beginnings: frozenset[int] = frozenset()


class GapRules:
    """The rules of a feed, by the number of a channel; 0 is the number of all channels without a rule.

    Args:
        feed: the feed. Where it numbers all messages of a connection, the one rule is that of number 1.

    Attributes:
        by_connection: whether the numbers run over all messages of a connection.
        rules: the rule of each channel.
        names: the name of each channel.
        members: for each rule in use, which channels have it.
        by_symbol: which channels have numbers for each symbol.
        overlap: which channels have ranges that may overlap.
        repeats: which channels may repeat a number.
        joins: which channels have numbers that must join at a handover.

    """

    def __init__(self, feed: Feed) -> None:
        by_name = {
            name: _rule_of(channel)
            for name, channel in feed.channel_by_any_name.items()
            if channel.sequence not in (SequenceRule.NONE, SequenceRule.CHECKSUM)
        }
        numbers = {name: number for number, name in enumerate(by_name, 1)}
        self._by_name = numbers
        self._numbers = NameNumbers(self._number)
        self.names = ("", *by_name)
        rules = tuple(by_name.values())
        self.by_connection = feed.sequence is not None
        if feed.sequence is not None:
            beginnings = _beginnings(feed.sequence.resets)
            rules = (ChannelRule(SequenceRule.NEXT, SequenceScope.CONNECTION, beginnings=beginnings),)
        self.rules = (ChannelRule(SequenceRule.NONE, SequenceScope.SYMBOL), *rules)
        self.members = {
            kind: np.array([each.rule is kind for each in self.rules]) for kind in {each.rule for each in rules}
        }
        self.by_symbol = np.array([each.scope is SequenceScope.SYMBOL for each in self.rules])
        self.overlap = np.array([each.overlap for each in self.rules])
        self.repeats = np.array([each.repeats for each in self.rules])
        self.joins = np.array([each.rule in _PROVING for each in self.rules]) & self.by_symbol
        self.all_by_symbol, self.any_repeats = bool(self.by_symbol.all()), bool(self.repeats.any())

    def __len__(self) -> int:
        return len(self.rules)

    def _number(self, name: str) -> int:
        return self._by_name.get(name, 0)

    def numbers(self, channel: pa.DictionaryArray) -> Int64s:
        """The number of each message's channel."""
        return np.ones(len(channel), np.int64) if self.by_connection else self._numbers.of(channel)


def _rule_of(channel: Channel) -> ChannelRule:
    scope = SequenceScope(channel.sequence_scope)
    return ChannelRule(channel.sequence, scope, channel.overlap, channel.repeats, _beginnings(channel.resets))


def _beginnings(resets: Resets | None) -> frozenset[int]:
    return frozenset(resets.numbers if resets else ())


def breaks_increasing(last: Uint64s, seq: Uint64s) -> Flags:
    """`increasing`: the number is above the last one."""
    return seq <= last


def breaks_next(last: Uint64s, seq: Uint64s) -> Flags:
    """`next`: the number is the last one plus one; nothing follows the largest number."""
    broken: Flags = (seq != last + _ONE) | (last == UINT64_MAX)
    return broken


OWN_NUMBER = {
    SequenceRule.INCREASING: breaks_increasing,
    SequenceRule.NEXT: breaks_next,
}
"""The rules that compare a message's own number; the others compare its `seq_first` or `seq_previous`."""


def breaks_touching(last: Uint64s, seq: Uint64s, first: Uint64s, below: Flags | None, overlap: Flags) -> Flags:
    """`touching`: the range begins at the last number plus one, or before it where ranges may `overlap`."""
    # wraps around after the largest number, which nothing follows
    after, largest = last + _ONE, last == UINT64_MAX
    fits = first == after
    if below is not None:
        fits &= ~below
    if overlap.any():
        begins_before = first <= after if below is None else (first <= after) | below
        fits |= overlap & begins_before & (seq >= after)
    broken: Flags = ~fits | largest
    return broken


def breaks_previous(last: Uint64s, previous: Uint64s, below: Flags | None) -> Flags:
    """`previous`: the number that the message names is the last one."""
    broken: Flags = previous != last
    return broken if below is None else broken | below
