"""Outcome of the gap rules for the numbered messages of a batch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from wsrec.arrays import Flags, Int64s, Places, Uint64s, are_negative, known, low_bits, where_set
from wsrec.decode.columns import FieldColumns
from wsrec.feed.sequence_rules import SequenceRule
from wsrec.monitor.comparison import Link
from wsrec.monitor.gap_rules import OWN_NUMBER, GapRules, breaks_previous, breaks_touching

_COMPARED = np.uint8(Link.COMPARED)


class Numbered(NamedTuple):
    """The numbered messages of a batch, grouped by stream.

    Attributes:
        rows: their places in the batch.
        channels: the number of each one's channel (`GapRules`).
        keys: the key of its stream (`wsrec.monitor.stream_keys`).
        seq: its number.
        last: the number before it in its stream; anything where there is none.
        follows: whether there is one.
        directly: whether the message directly before it had a number; None where all of them had.

    """

    rows: Places
    channels: Int64s
    keys: Int64s
    seq: Uint64s
    last: Uint64s
    follows: Flags
    directly: Flags | None = None


class Outcome:
    """What the rules find, for each of the numbered messages.

    Args:
        rules: the rules of the feed.
        numbered: the messages.
        columns: the fields of the batch.

    Attributes:
        numbered: the messages.
        found: the number that the rule compares with the one before; its lower 64 bits where it is negative.
        broken: whether the rule is broken, or the numbers restart.
        links: how it was compared with its predecessor.
        firsts: the places of those that are the first of their stream.

    """

    def __init__(self, rules: GapRules, numbered: Numbered, columns: FieldColumns) -> None:
        self._rules, self._columns = rules, columns
        self.numbered = numbered
        count = len(numbered.seq)
        self.found, self.broken = numbered.seq.copy(), np.zeros(count, np.bool_)
        # cleared for messages that cannot be compared
        self._follows = numbered.follows
        self.links = np.full(count, _COMPARED, np.uint8)
        self.firsts = where_set(~self._follows)
        if self.firsts.size:
            self.links[self.firsts] = Link.FIRST
        # None: of no message
        self._below: Flags | None = None
        self._restarts: Flags | None = None
        # whether each has the number that its rule compares; asked of the first ones only
        self._has_operand = np.ones(count, np.bool_) if self.firsts.size else None
        for rule, members in rules.members.items():
            chosen = where_set(members[numbered.channels])
            if chosen.size:
                self.broken[chosen] = self._breaks(rule, chosen)
        self._settle()

    def _breaks(self, rule: SequenceRule, chosen: Places) -> Flags:
        """Apply one rule to its messages."""
        last, seq = self.numbered.last[chosen], self.numbered.seq[chosen]
        if (breaks := OWN_NUMBER.get(rule)) is not None:
            return breaks(last, seq)
        if rule is SequenceRule.TOUCHING:
            first, below = self._operand(self._columns.seq_first, chosen, seq)
            return breaks_touching(last, seq, first, below, self._rules.overlap[self.numbered.channels[chosen]])
        previous, below = self._operand(self._columns.seq_previous, chosen, seq)
        return breaks_previous(last, previous, below)

    def _operand(self, column: pa.Array, chosen: Places, seq: Uint64s) -> tuple[Uint64s, Flags | None]:
        """The other number that a rule compares, and whether it is below 0; messages without it are not compared."""
        rows = self.numbered.rows[chosen]
        has, numbers = known(column)[rows], low_bits(column)[rows]
        negative = are_negative(column, rows) & has
        below = None
        if negative.any():
            below = negative
            self._below = np.zeros(len(self.found), np.bool_) if self._below is None else self._below
            self._below[chosen] = below
        resets = self._columns.seq_reset
        if resets.true_count:
            # one that restarts the numbers and has no operand cannot be compared with what was before
            restarts = ~has & resets.to_numpy(zero_copy_only=False)[rows]
            numbers = np.where(restarts, seq, numbers)
            has |= restarts
            self._restarts = np.zeros(len(self.found), np.bool_) if self._restarts is None else self._restarts
            self._restarts[chosen] = restarts
        self.found[chosen] = numbers
        if self._has_operand is not None:
            self._has_operand[chosen] = has
        if not has.all():
            self.links[chosen[self._follows[chosen] & ~has]] = Link.UNLINKED
            self._follows[chosen] &= has
        return numbers, below

    def _settle(self) -> None:
        """Exempt legal repeats and what was not compared; add restarts."""
        numbered = self.numbered
        if self._rules.any_repeats:
            self.broken &= ~(self._rules.repeats[numbered.channels] & (numbered.seq == numbered.last))
        if self._restarts is not None:
            self.broken |= self._restarts
        self.broken &= self._follows
        if numbered.directly is not None:
            self.links[(self.links == Link.COMPARED) & ~numbered.directly] = Link.AFTER_UNNUMBERED

    def in_order(self) -> Places:
        """Those that break their rule, or restart the numbers, in the order of the batch."""
        broken = np.flatnonzero(self.broken)
        return broken[np.argsort(self.numbered.rows[broken])]

    def found_at(self, place: int) -> int:
        """The number that the rule compares."""
        found = int(self.found[place])
        return found - (1 << 64) if self._below is not None and self._below[place] else found

    def is_comparable(self, place: int) -> bool:
        """Whether a message gives a number that can be compared with one before it."""
        if self._has_operand is not None and not self._has_operand[place]:
            return False
        return self._below is None or not self._below[place]
