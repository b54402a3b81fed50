"""Sequence gaps: applies each feed's gap rules to the numbers of the rows, also across replaced connections."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from wsrec.monitor.check import Check, Finding, MonitorEvent, RowBatch, Setup
from wsrec.monitor.sequence import SequenceChecker
from wsrec.monitor.sequence_gap import Break, Rows, SequenceGap
from wsrec.ring.events import EventKind


class GapCheck(Check):
    """Reports messages that do not follow the one before them.

    Attributes:
        checks: whether the feed declares any gap rule.

    """

    kinds = frozenset({EventKind.GAP, EventKind.SEQUENCE_RESET})

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        turns = [conn for pair in setup.standby_of.items() for conn in pair]
        self.checker = SequenceChecker(setup.feed, runs=setup.with_runs, turns=turns)
        self.checks = self.checker.checks

    def rows(self, rows: RowBatch) -> Iterable[Finding]:
        """Compare rows with the rows before them."""
        if not self.checks:
            return ()
        checked = self.checker.check(rows.conns, rows.fields, Rows(rows.first, rows.stage, rows.payload))
        rows.links, rows.runs = checked.links, checked.runs
        return gap_findings(checked.gaps, rows) if checked.gaps else ()

    def event(self, event: MonitorEvent) -> Iterable[Finding]:
        """A connection ended: skipped numbers are missing, and the next connection's numbers start over."""
        if not self.checks:
            return ()
        gaps: Sequence[SequenceGap] = ()
        if event.kind is EventKind.SESSION_END:
            gaps = [gap for conn in self.setup.conns for gap in self.checker.reset(conn)]
        elif event.conn is None:
            return ()
        elif event.kind is EventKind.DISCONNECT:
            gaps = self.checker.reset(event.conn)
        elif event.kind is EventKind.REPLACED and isinstance(old := event.detail.get("from_conn"), int):
            gaps = self.checker.replaced(old, event.conn)
        # `index` is the `seq` of a row in an earlier batch
        return [gap_finding(gap, gap.index, event.time) for gap in gaps]

    def lost(self, time: int) -> Iterable[Finding]:
        """Forget all numbers: the missing rows may contain those that were skipped."""
        gaps = [gap for conn in self.setup.conns for gap in self.checker.reset(conn)]
        self.checker.forget_ends()
        return [gap_finding(gap, gap.index, time) for gap in gaps]


def gap_findings(gaps: Sequence[SequenceGap], rows: RowBatch) -> list[Finding]:
    """Gaps in a batch as findings."""
    return [gap_finding(gap, rows.first + gap.index, int(rows.stage[gap.at]), rows.first + gap.at) for gap in gaps]


def gap_finding(gap: SequenceGap, seq: int, time: int, row: int | None = None) -> Finding:
    """A gap as a finding: `seq` is the row after the gap; `time` and `row` are when and where it showed."""
    reset = gap.what is Break.RESET
    detail: dict[str, Any] = {} if reset else {"what": gap.what.value, "missing": gap.missing}
    detail |= {"scope": gap.scope.value, "rule": gap.rule.value}
    detail |= {"expected": gap.expected, "found": gap.found, "seq": seq}
    if gap.from_conn is not None:
        detail["from_conn"] = gap.from_conn
    kind = EventKind.SEQUENCE_RESET if reset else EventKind.GAP
    return Finding(
        kind=kind,
        time=time,
        conn=gap.conn,
        channel=gap.channel,
        symbol=gap.symbol,
        detail=detail,
        row=row,
        gap=gap,
    )
