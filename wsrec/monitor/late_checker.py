"""Sequence check for connections whose messages may arrive late (the feed's `sequence.late`)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wsrec.arrays import Flags, Int64s, Places, Uint64s, known, low_bits, where_set
from wsrec.decode.columns import FieldColumns
from wsrec.decode.places import matches
from wsrec.feed.sequence_rules import Late, SequenceRule, SequenceScope
from wsrec.monitor.comparison import Link
from wsrec.monitor.late import LateSequence, Miss
from wsrec.monitor.sequence_gap import Break, Checked, Rows, SequenceGap


class LateChecker:
    """Holds the numbers of every connection in a `LateSequence`, and takes batches of messages.

    Args:
        rule: which messages may arrive late, and how late.
        beginnings: numbers that legally restart a sequence.

    Attributes:
        sequences: the numbers, by connection.

    """

    def __init__(self, rule: Late, beginnings: frozenset[int] = frozenset()) -> None:
        self._rule, self._beginnings = rule, beginnings
        self.sequences: dict[int, LateSequence] = {}
        self._runs = 0

    def check(self, conns: npt.NDArray[np.uint16], columns: FieldColumns, where: Rows) -> Checked:
        """As `SequenceChecker.check`."""
        checked = Checked([], np.zeros(len(conns), np.uint8), np.zeros(len(conns), np.int64))
        numbered = known(columns.exchange_seq)
        rows = np.flatnonzero(numbered | known(columns.channel.indices))
        rows = rows[np.argsort(conns[rows], kind="stable")]
        owners = conns[rows]
        for of_one in np.split(rows, np.flatnonzero(owners[1:] != owners[:-1]) + 1) if rows.size else ():
            self._check_connection(int(conns[of_one[0]]), of_one, numbered[of_one], columns, where, checked)
        checked.gaps.sort(key=lambda gap: gap.at)
        return checked

    def seed(self, rows: pa.RecordBatch) -> None:
        """As `SequenceChecker.seed`. Which messages came late is not known any more: each may have."""
        conns, seq = rows.column("conn").to_numpy(), rows.column("exchange_seq")
        places, times = rows.column("seq").to_numpy(), rows.column("handoff_monotonic").to_numpy()
        numbers = low_bits(seq)
        for row in where_set(known(seq)).tolist():
            sequence = self._sequence(int(conns[row]))
            sequence.add(int(numbers[row]), int(places[row]), int(times[row]), False, lambda: True)

    def reset(self, conn: int) -> list[SequenceGap]:
        """As `SequenceChecker.reset`."""
        ended = self.sequences.pop(conn, None)
        return [] if ended is None else [_gap(conn, miss, miss.row) for miss in ended.end()]

    def _check_connection(
        self, conn: int, rows: Places, numbered: Flags, columns: FieldColumns, where: Rows, checked: Checked
    ) -> None:
        """Check the messages of one connection, and add the result to `checked`."""
        sequence, part = self._sequence(conn), rows[numbered]
        directly = np.concatenate(([sequence.whole], numbered[:-1]))[numbered]
        sequence.whole = bool(numbered[-1])
        checked.links[rows[~numbered]] = Link.UNNUMBERED
        if not len(part):
            return
        checked.links[part] = np.where(directly, np.uint8(Link.COMPARED), np.uint8(Link.AFTER_UNNUMBERED))
        # where a new run begins: these do not follow the message before them, or were not compared with it
        opens = where_set(~directly).tolist()
        if sequence.run is None:
            checked.links[part[0]] = Link.FIRST
            opens.append(0)
        is_late = partial(_is_late, where.payload, self._rule.where)
        seq = low_bits(columns.exchange_seq)[part]
        if not sequence.take_consecutive(seq, where.times[part], (is_late(row) for row in part[::-1].tolist())):
            opens += self._one_by_one(conn, part, seq, columns.seq_reset, where, checked)
        checked.runs[part] = self._number_runs(sequence, len(part), opens)

    def _one_by_one(
        self, conn: int, rows: Places, seq: Uint64s, resets: pa.BooleanArray, where: Rows, checked: Checked
    ) -> list[int]:
        """Take a connection's numbers one after the other; the places of those that decide a gap."""
        sequence, deciding = self._sequence(conn), []
        for place, (row, number) in enumerate(zip(rows.tolist(), seq.tolist(), strict=True)):
            is_late = partial(_is_late, where.payload, self._rule.where, row)
            found = sequence.add(number, where.first + row, int(where.times[row]), resets[row].as_py(), is_late)
            checked.gaps.extend(_gap(conn, miss, miss.row - where.first, row) for miss in found)
            if found:
                deciding.append(place)
            if any(miss.what == Break.RESET for miss in found):
                checked.links[row] = Link.RESET
        sequence.in_turn()
        return deciding

    def _number_runs(self, sequence: LateSequence, count: int, opens: list[int]) -> Int64s:
        """The run of each of a connection's messages; `opens` has the places of those that begin one."""
        starts = np.zeros(count, np.int64)
        starts[opens] = 1
        numbers = np.cumsum(starts)
        runs: Int64s = np.where(numbers > 0, self._runs + numbers, sequence.run or 0)
        self._runs += int(numbers[-1])
        sequence.run = int(runs[-1])
        return runs

    def _sequence(self, conn: int) -> LateSequence:
        sequence = self.sequences.get(conn)
        if sequence is None:
            sequence = self.sequences[conn] = LateSequence(self._rule.within, self._beginnings)
        return sequence


def _is_late(payload: pa.Array, where: Mapping[str, tuple[str, ...]], row: int) -> bool:
    """Whether a message is one that may arrive late."""
    return matches(payload[row].as_py(), where)


def _gap(conn: int, miss: Miss, index: int, decided: int | None = None) -> SequenceGap:
    return SequenceGap(
        index=index,
        conn=conn,
        channel=None,
        symbol=None,
        rule=SequenceRule.NEXT,
        expected=miss.expected,
        found=miss.found,
        missing=miss.missing,
        what=miss.what,
        scope=SequenceScope.CONNECTION,
        decided=None if decided == index else decided,
        since=miss.since,
    )
