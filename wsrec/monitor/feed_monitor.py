"""The one composition of the checks: rows and events of a feed in, findings out.

The writer runs it as it records and `wsrec verify` runs it over the files, so both find the same. A check is a file in
this folder and a line in `CHECKS`; the protocol is `wsrec.monitor.check`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from wsrec.decode.columns import FieldColumns
from wsrec.decode.implementation import FieldReader
from wsrec.decode.reader import Ids
from wsrec.feed.schema import Feed
from wsrec.monitor.acknowledgements import AckCheck
from wsrec.monitor.check import Check, Finding, MonitorEvent, RowBatch, RowColumns, Setup
from wsrec.monitor.checksum import ChecksumCheck
from wsrec.monitor.closing_notice import NoticeCheck
from wsrec.monitor.confirmations import ConfirmationCheck
from wsrec.monitor.exchange_time import ExchangeTimeCheck
from wsrec.monitor.gaps import GapCheck
from wsrec.monitor.liveness import LivenessCheck
from wsrec.monitor.snapshot_join import SnapshotCheck
from wsrec.monitor.unchecked import UncheckedCheck
from wsrec.plan.request_table import RequestTable
from wsrec.ring.events import EventKind

CHECKS: tuple[type[Check], ...] = (
    ExchangeTimeCheck,
    ConfirmationCheck,
    AckCheck,
    LivenessCheck,
    GapCheck,
    ChecksumCheck,
    SnapshotCheck,
    UncheckedCheck,
    NoticeCheck,
)
"""The checks, in the order in which they are passed rows and events."""

FOUND: frozenset[EventKind] = frozenset().union(*(check.kinds for check in CHECKS))
"""The kinds of events that report findings. A `stale` event of a connection, not of a stream, is a receiver's."""

_SHOWN = frozenset(
    {EventKind.CONNECT, EventKind.SUBSCRIBE, EventKind.DISCONNECT, EventKind.REPLACED, EventKind.SESSION_END}
)


def is_shown(kind: str, detail: Mapping[str, Any]) -> bool:
    """Whether the checks use an event; rows before and after it must be in different batches then."""
    return kind in _SHOWN or (kind == EventKind.LOST_INTERVAL and bool(detail.get("slots")))


class FeedMonitor:
    """Runs the checks over one feed's rows and events.

    Rows and events are passed in order of the stage clock. A deadline that is over is reported at the next row, event
    or call of `advance`; the findings do not depend on which of these comes first.

    Args:
        feed: the feed.
        requests: the requests of its connections.
        standby_of: for each standby connection, the one that it takes turns with.
        with_runs: whether to set `RowBatch.runs`.

    Attributes:
        checks_numbers: whether the feed declares any gap rule or checksum.
        setup: state that the checks share: streams and requests.

    """

    def __init__(
        self, feed: Feed, requests: RequestTable, standby_of: Mapping[int, int], *, with_runs: bool = False
    ) -> None:
        self.setup = setup = Setup(feed, requests, standby_of, with_runs=with_runs)
        self._table = setup.streams
        self._requests = requests
        self._fields = FieldReader(feed)
        self._checks = [check(setup) for check in CHECKS]
        self._times = next(check for check in self._checks if isinstance(check, ExchangeTimeCheck))
        self._liveness = next(check for check in self._checks if isinstance(check, LivenessCheck))
        self._gaps = next(check for check in self._checks if isinstance(check, GapCheck))
        self.checks_numbers = any(check.checks for check in self._checks if isinstance(check, GapCheck | ChecksumCheck))
        # the methods that each check overrides: most checks have only some of these
        self._on_rows, self._on_event, self._on_advance, self._on_found = (
            [getattr(check, name) for check in self._checks if getattr(type(check), name) is not getattr(Check, name)]
            for name in ("rows", "event", "advance", "found")
        )
        self._time = 0

    @property
    def ids(self) -> Ids:
        """The names that the feed's messages have given its ids so far (`fields.ids`)."""
        return self._fields.ids

    def restore(self, ids: Ids) -> None:
        """Restore known ids."""
        self._fields.restore(ids)

    def follow(self, rows: pa.RecordBatch) -> None:
        """Continue after these received rows, which were checked before: keep their last numbers and times."""
        if self._gaps.checks:
            self._gaps.checker.seed(rows)
        self._liveness.follow(rows)

    def follow_event(self, event: MonitorEvent) -> None:
        """Continue after an event among those rows: a confirmation, or a stream that became stale."""
        self._liveness.follow_event(event)

    def read(self, columns: RowColumns, fields: FieldColumns | None = None) -> RowBatch:
        """Read the fields of rows, which must be passed to `rows` next.

        Args:
            columns: the rows.
            fields: their fields, if another `FieldReader` has read them.

        """
        if fields is None:
            fields = self._fields.read(columns.payload, columns.readable, columns.conns, columns.binary)
        fields = self._times.without_odd(columns.first, fields, columns.arrival, columns.payload, columns.binary)
        return RowBatch.of(columns, fields)

    def rows(self, batch: RowBatch) -> list[Finding]:
        """Check rows; sets their `links` and `runs`."""
        if not batch.snapshots:
            return self._check(batch)
        # each snapshot alone, as in the writer, which fetches it
        cuts = sorted({0, len(batch.stage), *batch.snapshots, *(row + 1 for row in batch.snapshots)})
        found = []
        parts = [batch.part(*edges) for edges in pairwise(cuts)]
        for start, part in zip(cuts, parts, strict=False):
            found += [_moved(each, start) for each in self._check(part)]
        if all(len(part.links) for part in parts):
            batch.links = np.concatenate([part.links for part in parts])
        if all(len(part.runs) for part in parts):
            batch.runs = np.concatenate([part.runs for part in parts])
        return found

    def _check(self, batch: RowBatch) -> list[Finding]:
        found: list[Finding] = []
        self._table.take(batch.conns, batch.fields, batch.stage)
        for rows in self._on_rows:
            self._add(found, rows(batch))
        self._advance(found, int(batch.stage[-1]))
        found.sort(key=lambda each: each.time)
        return found

    def event(self, event: MonitorEvent) -> list[Finding]:
        """Check an event (`is_shown`)."""
        found: list[Finding] = []
        self._advance(found, event.time)
        request = event.detail.get("request") if event.kind is EventKind.SUBSCRIBE else None
        if isinstance(request, int) and event.conn is not None:
            self._requests.announced(event.conn, request, event.topics)
        for take in self._on_event:
            self._add(found, take(event))
        if event.kind is EventKind.DISCONNECT and event.conn is not None:
            self._fields.disconnected(event.conn)
        return found

    def advance(self, time: int) -> list[Finding]:
        """Report what is due by `time` (stage clock), once all rows and events up to it were passed.

        It may be earlier than before: the stage clock goes back where its counter is abandoned.
        """
        found: list[Finding] = []
        if time != self._time:
            self._advance(found, time)
        return found

    def _advance(self, found: list[Finding], time: int) -> None:
        # 0: found out after the session
        self._time = time or self._time
        for advance in self._on_advance:
            self._add(found, advance(self._time))

    def lost(self) -> list[Finding]:
        """Rows or events are missing: the next ones do not continue those before."""
        found: list[Finding] = []
        for check in self._checks:
            self._add(found, check.lost(self._time))
        return found

    def end_file(self, time: int) -> list[Finding]:
        """A file ends with a row or event of this time."""
        found: list[Finding] = []
        for check in self._checks:
            self._add(found, check.end_file(time))
        return found

    def _add(self, found: list[Finding], more: Iterable[Finding]) -> None:
        """Add findings, and pass them to the checks."""
        for each in more:
            found.append(each)
            for take in self._on_found:
                self._add(found, take(each))


def _moved(finding: Finding, by: int) -> Finding:
    """A finding of a part of a batch as one of the whole batch, with the places of its gap moved."""
    if finding.gap is None or finding.row is None or not by:
        return finding
    decided = finding.gap.decided
    moved = {"index": finding.gap.index + by, "decided": None if decided is None else decided + by}
    return msgspec.structs.replace(finding, gap=msgspec.structs.replace(finding.gap, **moved))
