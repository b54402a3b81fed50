"""Handover check: compares the first numbers on a connection with the last ones on the connection that it replaces.

Compared are numbers that run over a symbol and that all arrive (`next`, `touching`, `previous`). The first one on the
new connection must not be above the one that follows the last on the old connection. It may be below it, since both
were open at once. Nothing is compared where the numbers run over a connection, or where the first message restarts them
or lacks the number that its rule compares.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from wsrec.arrays import Int64s, Uint64s
from wsrec.decode.columns import FieldColumns
from wsrec.feed.sequence_rules import SequenceRule
from wsrec.monitor.gap_rules import GapRules
from wsrec.monitor.rule_outcome import Outcome
from wsrec.monitor.sequence_gap import Break, SequenceGap
from wsrec.monitor.stream_keys import channel_of, symbol_of, without_connection


class First(NamedTuple):
    """The first message of a stream on a connection.

    Attributes:
        follows: the number that must have come before it; None where it cannot be compared.
        row: `seq` of its row.

    """

    follows: int | None
    row: int


class _Last(NamedTuple):
    conn: int
    number: int


class Unjoined(NamedTuple):
    """A stream whose numbers on the new connection begin too high.

    Attributes:
        stream: its key without the connection.
        old, new: the connections.
        last: the last number on the old one.
        follows: the number that the first message on the new one follows.
        row: `seq` of that message's row.

    """

    stream: int
    old: int
    new: int
    last: int
    follows: int
    row: int


class Joints:
    """First and last numbers of the connections that take turns.

    Args:
        turns: the connections that do.

    """

    def __init__(self, turns: Collection[int]) -> None:
        self.turns = frozenset(turns)
        self._first: dict[int, dict[int, First]] = {}
        # the last number of each stream, with the connection that brought it: of connections that ended, and of those
        # whose successor has no message of the stream yet
        self._ended: dict[int, dict[int, _Last]] = {}
        self._awaited: dict[int, dict[int, _Last]] = {}

    def begins(self, conn: int, stream: int, first: First) -> Unjoined | None:
        """Take a stream's first message on a connection; returned if it is known by now not to join."""
        self._first.setdefault(conn, {})[stream] = first
        last = self._awaited.get(conn, {}).pop(stream, None)
        return None if last is None else _unjoined(stream, last, conn, first)

    def ends(self, conn: int, last: Mapping[int, int]) -> None:
        """A connection has ended, with these last numbers."""
        self._first.pop(conn, None)
        # streams without a message here continue from the connection before
        left = self._awaited.pop(conn, {})
        if conn in self.turns:
            self._ended[conn] = {**left, **{stream: _Last(conn, number) for stream, number in last.items()}}

    def replaced(self, old: int, new: int) -> Iterator[Unjoined]:
        """One connection has replaced another, which has ended."""
        first, awaited = self._first.get(new, {}), dict[int, _Last]()
        for stream, last in self._ended.pop(old, {}).items():
            if (came := first.get(stream)) is None:
                awaited[stream] = last
            elif (found := _unjoined(stream, last, new, came)) is not None:
                yield found
        self._awaited[new] = awaited

    def forget(self) -> None:
        """Forget all numbers."""
        self._first.clear()
        self._ended.clear()
        self._awaited.clear()


def _unjoined(stream: int, last: _Last, new: int, first: First) -> Unjoined | None:
    if first.follows is None or first.follows <= last.number:
        return None
    return Unjoined(stream, last.conn, new, last.number, first.follows, first.row)


class HandoverChecker:
    """Reports streams of a feed whose numbers do not join at a handover.

    Args:
        rules: the rules of the feed.
        turns: the connections that take turns.
        symbol_name: returns the name of a symbol by its number in a stream's key.

    """

    def __init__(self, rules: GapRules, turns: Collection[int], symbol_name: Callable[[int], str | None]) -> None:
        self._rules, self._symbol_name = rules, symbol_name
        self._joints = Joints(turns)

    def first_messages(
        self, outcome: Outcome, columns: FieldColumns, conns: npt.NDArray[np.uint16], first: int
    ) -> list[SequenceGap]:
        """Compare the first messages of streams in a batch, whose first row is `first`."""
        if not self._joints.turns:
            return []
        gaps, numbered = [], outcome.numbered
        for place in outcome.firsts[self._rules.joins[numbered.channels[outcome.firsts]]].tolist():
            row = int(numbered.rows[place])
            conn = int(conns[row])
            if conn in self._joints.turns:
                came = First(self._follows(outcome, place, columns.seq_reset[row].as_py()), first + row)
                stream = int(without_connection(numbered.keys[place]))
                broken = self._joints.begins(conn, stream, came)
                if broken is not None:
                    gaps.append(self._gap(broken, row))
        return gaps

    def ended(self, conn: int, keys: Int64s, last: Uint64s) -> None:
        """A connection has ended, with these last numbers of its streams."""
        if conn in self._joints.turns:
            streams = without_connection(keys)
            joins = self._rules.joins[channel_of(streams)]
            self._joints.ends(conn, dict(zip(streams[joins].tolist(), last[joins].tolist(), strict=True)))

    def replaced(self, old: int, new: int) -> list[SequenceGap]:
        """As `SequenceChecker.replaced`."""
        return [self._gap(broken, broken.row) for broken in self._joints.replaced(old, new)]

    def forget(self) -> None:
        """Forget all numbers: rows are missing, or the streams have new keys."""
        self._joints.forget()

    def _follows(self, outcome: Outcome, place: int, restarts: bool) -> int | None:
        """The number that must have come before a first message; None where it cannot be compared."""
        channel = int(outcome.numbered.channels[place])
        found = outcome.found_at(place)
        if restarts or not outcome.is_comparable(place) or found in self._rules.rules[channel].beginnings:
            return None
        return found - self._offset(channel)

    def _offset(self, channel: int) -> int:
        """How far the number that a rule compares is above the one before it: `previous` names that one."""
        return 0 if self._rules.rules[channel].rule is SequenceRule.PREVIOUS else 1

    def _gap(self, broken: Unjoined, index: int) -> SequenceGap:
        channel, symbol = channel_of(broken.stream), symbol_of(broken.stream)
        offset = self._offset(channel)
        return SequenceGap(
            index=index,
            conn=broken.new,
            channel=self._rules.names[channel],
            symbol=self._symbol_name(symbol),
            rule=self._rules.rules[channel].rule,
            expected=broken.last + offset,
            found=broken.follows + offset,
            missing=broken.follows - broken.last if offset else None,
            what=Break.MISSING,
            from_conn=broken.old,
        )
