"""Whether messages are missing: each feed's sequence rules, held against what arrives."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from wsrec.feed.fields import FieldColumns
from wsrec.feed.schema import Feed, SequenceRule


class SequenceGap(msgspec.Struct, frozen=True):
    """A message that does not follow the one before it.

    Attributes:
        index: its place in the batch.
        conn: its connection.
        channel: its channel.
        symbol: its symbol.
        rule: the rule that it breaks.
        expected: the number that the rule asks for (`increasing`: the least one).
        found: the number in its place.
        missing: how many numbers were passed over; None where the rule cannot tell, or where numbers went back.

    """

    index: int
    conn: int
    channel: str
    symbol: str | None
    rule: SequenceRule
    expected: int
    found: int
    missing: int | None


class SequenceChecker:
    """Holds the last number of every connection, channel and symbol.

    After a gap the message that showed it is the one to follow, also where numbers went back: an exchange that starts
    its numbers again is reported once.

    Args:
        feed: the feed whose rules apply.

    """

    def __init__(self, feed: Feed) -> None:
        self._rules = {
            name: channel.sequence
            for name, channel in feed.channel_by_any_name.items()
            if channel.sequence is not SequenceRule.NONE
        }
        self._last: dict[int, dict[tuple[str, str | None], int]] = {}

    @property
    def checks(self) -> bool:
        """Whether the feed declares any rule."""
        return bool(self._rules)

    def check(self, conns: Sequence[int], columns: FieldColumns) -> list[SequenceGap]:
        """The messages of a batch that break their channel's rule, in order.

        Args:
            conns: the connection of each message.
            columns: what `FieldReader` read, of the same messages.

        """
        gaps = []
        rules = self._rules
        for index, channel in enumerate(columns.channel):
            if channel is None or (rule := rules.get(channel)) is None:
                continue
            seq = columns.exchange_seq[index]
            if seq is None:
                continue
            conn, symbol = conns[index], columns.symbol[index]
            state = self._last.setdefault(conn, {})
            last = state.get((channel, symbol))
            state[channel, symbol] = seq
            if last is None:
                continue
            found: int | None = seq
            expected = last + 1
            if rule is SequenceRule.INCREASING:
                if seq > last:
                    continue
            elif rule is SequenceRule.TOUCHING:
                found = columns.seq_first[index]
            elif rule is SequenceRule.PREVIOUS:
                found, expected = columns.seq_previous[index], last
            if found is None or found == expected:
                continue
            counted = rule in (SequenceRule.NEXT, SequenceRule.TOUCHING) and found > expected
            missing = found - expected if counted else None
            gaps.append(SequenceGap(index, conn, channel, symbol, rule, expected, found, missing))
        return gaps

    def reset(self, conn: int) -> None:
        """Forget a connection's numbers: it was made anew, and what was missed meanwhile is known as such."""
        self._last.pop(conn, None)
