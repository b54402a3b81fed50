"""Snapshot joins: whether a snapshot connects with the stream that it was fetched for.

A stream's run consists of its messages since it began or since its last gap. A snapshot joins the run if its number is
not below the one before the run's first message, and not above that of its last message: then one of the messages is
the first to apply to it, and none is missing between. A snapshot that the exchange had in a cache can be older than the
run, and useless.

Pure logic, without a clock: the caller gives the times (ns on the stage clock).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from wsrec.arrays import known, where_set
from wsrec.decode.columns import FieldColumns
from wsrec.feed.sequence_rules import SequenceRule
from wsrec.monitor.check import Check, Finding, MonitorEvent, RowBatch, Setup
from wsrec.monitor.sequence_gap import SequenceGap
from wsrec.ring.events import EventKind

ATTEMPTS = 5
"""How many snapshots are fetched for a run at most, if none of them joins it."""

# A snapshot is ahead of its stream if the stream still has lower numbers this long (ns) after it was fetched
_REACH_NS = 10_000_000_000


class Verdict(NamedTuple):
    """Outcome of a snapshot.

    Attributes:
        stream: the number of its stream.
        number: its own number; None if it has none.
        first: the number before the run's first message; None if the stream has had no message.
        last: the number of the run's last message; None if the stream has had no message.
        why: why it does not join; None if it does.
        wait: time (s) after which the next one is to be fetched; None if none is.

    """

    stream: int
    number: int | None
    first: int | None
    last: int | None
    why: str | None
    wait: float | None


class _Run:
    def __init__(self, first: int) -> None:
        self.first = self.last = first
        self.time = 0


class _Fetched(NamedTuple):
    number: int | None
    time: int


class JoinChecker:
    """Matches snapshots with the streams of one feed, which are given by their numbers."""

    def __init__(self) -> None:
        self._runs: dict[int, _Run] = {}
        self._waiting: dict[int, _Fetched] = {}
        self._missed: dict[int, int] = {}

    @property
    def waits(self) -> bool:
        """Whether a snapshot has arrived that is not judged yet."""
        return bool(self._waiting)

    def waits_for(self, stream: int) -> bool:
        """Whether a snapshot of this stream has arrived that is not judged yet."""
        return stream in self._waiting

    def messages(self, stream: int, first: int, last: int, time: int) -> None:
        """Take messages of a stream.

        Args:
            stream: the stream.
            first: the number before the first of them.
            last: the number of the last one.
            time: when that one arrived.

        """
        run = self._runs.setdefault(stream, _Run(first))
        run.last, run.time = last, time

    def broke(self, stream: int, first: int) -> None:
        """The stream has a gap; `first` is the number before the message that follows the gap."""
        run = self._runs.setdefault(stream, _Run(first))
        run.first = first

    def fetched(self, stream: int, number: int | None, time: int) -> None:
        """Take a snapshot of the stream."""
        self._waiting[stream] = _Fetched(number, time)

    def ended(self, stream: int) -> None:
        """Forget the stream: its connection ended."""
        for of in (self._runs, self._waiting, self._missed):
            of.pop(stream, None)

    def judge(self) -> list[Verdict]:
        """Judge the snapshots of which enough is known by now."""
        found = []
        for stream, snapshot in list(self._waiting.items()):
            run, number = self._runs.get(stream), snapshot.number
            first, last = (None, None) if run is None else (run.first, run.last)
            if number is None:
                why: str | None = "it has no number"
            elif run is None:
                continue
            elif number < run.first:
                why = "it is older than the stream"
            elif number <= run.last:
                why = None
            elif run.time - snapshot.time >= _REACH_NS:
                why = "it is ahead of the stream"
            else:
                continue
            del self._waiting[stream]
            found.append(Verdict(stream, number, first, last, why, self._wait(stream, missed=why is not None)))
        return found

    def _wait(self, stream: int, *, missed: bool) -> float | None:
        if not missed:
            self._missed.pop(stream, None)
            return None
        count = self._missed[stream] = self._missed.get(stream, 0) + 1
        return None if count >= ATTEMPTS else 2.0 ** (count - 1)


class SnapshotCheck(Check):
    """Reports which snapshots join their streams; registered after the gap rules."""

    kinds = frozenset({EventKind.SNAPSHOT_JOINED, EventKind.SNAPSHOT_MISSED})

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._table = setup.streams
        channels = setup.feed.channel_by_any_name
        declared = [channels[stream.topic.channel] for stream in self._table.streams]
        numbered = [each.fetches_snapshots and bool(each.snapshot and each.snapshot.exchange_seq) for each in declared]
        self._numbered = np.array(numbered, np.bool_)
        self._checks = bool(self._numbered.any())
        self._joins = JoinChecker()
        # gaps in the batch that is being checked
        self._gaps: list[SequenceGap] = []

    def found(self, finding: Finding) -> Iterable[Finding]:
        """Keep a finding of the gap rules."""
        gap = finding.gap
        if not self._checks or gap is None or finding.row is None or gap.from_conn is not None:
            return ()
        if gap.rule is not SequenceRule.CHECKSUM:
            self._gaps.append(gap)
        return ()

    def rows(self, rows: RowBatch) -> Iterator[Finding]:
        """Take messages, or a snapshot, which comes alone."""
        if not self._checks:
            return
        gaps, self._gaps = self._gaps, []
        if rows.snapshots:
            for row, snapshot in rows.snapshots.items():
                fetched = self._table.number(int(rows.conns[row]), snapshot.channel, snapshot.symbol)
                if fetched is not None and self._numbered[fetched]:
                    self._joins.fetched(fetched, snapshot.number, int(rows.stage[row]))
                    yield from self._judged(rows, row)
            return
        table = self._table
        exact: set[int] = set()
        for stream in np.unique(table.numbers).tolist() if len(table.numbers) else ():
            if not self._numbered[stream]:
                continue
            mine = table.rows[table.numbers == stream]
            mine = mine[known(rows.fields.exchange_seq)[mine]]
            if self._joins.waits_for(stream):
                exact.add(stream)
                yield from self._one_by_one(rows, stream, mine.tolist(), gaps)
            elif len(mine):
                self._messages(rows, stream, int(mine[0]), int(mine[-1]))
        for gap in gaps:
            for stream in self._broken(gap):
                if stream not in exact:
                    self._joins.broke(stream, _number_before(rows.fields, _after(gap)))
                    if self._joins.waits_for(stream):
                        yield from self._judged(rows, gap.at)

    def _one_by_one(
        self, rows: RowBatch, stream: int, messages: list[int], gaps: list[SequenceGap]
    ) -> Iterator[Finding]:
        """Judge after every message and gap, so that the result does not depend on where batches end."""
        steps = [(row, 1, row) for row in messages]
        steps += [(gap.at, 0, _after(gap)) for gap in gaps if stream in self._broken(gap)]
        for row, is_message, after in sorted(steps):
            if is_message:
                self._messages(rows, stream, row, row)
            else:
                self._joins.broke(stream, _number_before(rows.fields, after))
            yield from self._judged(rows, row)

    def _messages(self, rows: RowBatch, stream: int, first: int, last: int) -> None:
        before, number = _number_before(rows.fields, first), rows.fields.exchange_seq[last].as_py()
        self._joins.messages(stream, before, number, int(rows.stage[last]))

    def _broken(self, gap: SequenceGap) -> list[int]:
        return [each for each in self._table.of(gap.conn, gap.channel, gap.symbol) if self._numbered[each]]

    def _judged(self, rows: RowBatch, row: int) -> Iterator[Finding]:
        for verdict in self._joins.judge() if self._joins.waits else ():
            conn, topic = self._table.streams[verdict.stream]
            detail: dict[str, Any] = {"number": verdict.number, "first": verdict.first, "last": verdict.last}
            kind = EventKind.SNAPSHOT_JOINED
            if verdict.why is not None:
                kind = EventKind.SNAPSHOT_MISSED
                detail |= {"why": verdict.why, "retry_s": verdict.wait}
            yield Finding(
                kind=kind,
                time=int(rows.stage[row]),
                conn=conn,
                channel=topic.channel,
                symbol=topic.symbol,
                detail=detail,
                row=rows.first + row,
                stream=verdict.stream,
            )

    def event(self, event: MonitorEvent) -> Iterable[Finding]:
        """The streams of a connection end with it."""
        if self._checks and event.kind is EventKind.DISCONNECT and event.conn is not None:
            for stream in where_set(self._table.conns == event.conn).tolist():
                self._joins.ended(stream)
        return ()


def _after(gap: SequenceGap) -> int:
    """The place of the message that follows a gap."""
    return gap.index if gap.index >= 0 else gap.at


def _number_before(fields: FieldColumns, row: int) -> int:
    """The number that a message follows: the one that it names, else the one before its first."""
    previous, first = fields.seq_previous[row].as_py(), fields.seq_first[row].as_py()
    if previous is not None:
        return int(previous)
    return int(fields.exchange_seq[row].as_py() if first is None else first) - 1
