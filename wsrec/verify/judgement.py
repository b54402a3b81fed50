"""Judgement of one session: runs the writer's monitor over its rows and events, in order of the stage clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wsrec.feed.schema import Feed
from wsrec.monitor.check import Finding, MonitorEvent, RowBatch
from wsrec.monitor.feed_monitor import FeedMonitor, is_shown
from wsrec.monitor.sequence_gap import SequenceGap
from wsrec.plan.request_table import RequestTable
from wsrec.ring.events import EventKind
from wsrec.verify.agreement import Agreement, is_finding
from wsrec.verify.events import AFTERWARDS, EventRow
from wsrec.verify.file_rows import FileRows
from wsrec.verify.prepared import READ, Prepared, same_words, stored_as_read
from wsrec.verify.rows import Rows
from wsrec.verify.session_clock import SessionClock
from wsrec.verify.stream_rows import Held
from wsrec.verify.streams import Streams


class Judgement:
    """Findings and facts from one session's rows and events.

    Args:
        feed: the feed according to the files' metadata; None if no metadata can be read.
        requests: the subscriptions of its connections.
        standby_of: maps each standby connection to the connection that it alternates with.
        whole: whether all of the session's files are read.
        clock: the session's clocks.

    Attributes:
        streams: the complete intervals of each stream.
        agreement: comparison of findings with recorded events.
        gaps: number of sequence gaps found.

    """

    def __init__(
        self,
        feed: Feed | None,
        requests: RequestTable,
        standby_of: Mapping[int, int],
        clock: SessionClock,
        *,
        whole: bool,
    ) -> None:
        self.streams = Streams(feed, requests, standby_of, whole=whole)
        self.agreement = Agreement()
        self.gaps = 0
        self._clock = clock
        self._monitor = FeedMonitor(feed, requests, standby_of, with_runs=True) if feed is not None else None
        # the meaning of ids is learned from messages, some of which may be missing
        self._learns = feed is not None and feed.fields is not None and feed.fields.ids is not None

    @property
    def checks_gaps(self) -> bool:
        """Whether the feed declares any sequence rule."""
        return self._monitor is not None and self._monitor.checks_numbers

    def rows(
        self, batch: Prepared, events: Iterable[EventRow], about: FileRows, *, complete: bool
    ) -> Iterable[EventRow]:
        """Process rows and the events among them; yields each event once it is judged.

        Args:
            batch: the rows.
            events: the events before the last row.
            about: records columns that differ from the payload.
            complete: whether nothing before the rows is missing.

        """
        start, rows = 0, batch.rows
        for event in events:
            # an event about a loss has the time of the first row after the loss
            loses = event.loses_slots
            if loses or is_shown(event.kind, event.detail):
                stop = int(np.searchsorted(rows.stage, event.order, side="left" if loses else "right"))
                self._piece(batch, start, stop, about, complete=complete)
                start = max(start, stop)
            self._event(event)
            yield event
        self._piece(batch, start, len(rows.stage), about, complete=complete)

    def _piece(self, prepared: Prepared, start: int, stop: int, about: FileRows, *, complete: bool) -> None:
        if stop <= start:
            return
        rows, span = prepared.rows, slice(start, stop)
        links, runs = np.zeros(stop - start, np.uint8), np.zeros(stop - start, np.int64)
        gaps: list[SequenceGap] = []
        if self._monitor is not None:
            read = None if prepared.fields is None else prepared.fields.rows(span)
            batch = self._monitor.read(rows.columns(start, stop), read)
            same = prepared.same
            if read is not None and batch.fields.exchange_time is not read.exchange_time:
                # a time that is implausible has to be null
                same = same - {"exchange_time"}
            self._compare(rows, start, batch, about, same, complete=complete)
            found = self._monitor.rows(batch)
            self.agreement.found(found)
            gaps = [each.gap for each in found if each.kind is EventKind.GAP and each.gap is not None]
            self.gaps += len(gaps)
            links, runs = (batch.links if len(batch.links) else links), (batch.runs if len(batch.runs) else runs)
        names = (rows.channels[0][span], rows.channels[1]), (rows.symbols[0][span], rows.symbols[1])
        held = Held(gaps, links, runs)
        self.streams.rows.add(rows.stage[span], rows.conns[span], *names, rows.carried[span], held)

    def event(self, event: EventRow) -> None:
        """Judge an event after all rows of its file, or of a file without rows."""
        if self._monitor is not None and event.order != AFTERWARDS and is_finding(event.kind, event.channel):
            # everything before it was there when the writer recorded it
            self.agreement.found(self._monitor.advance(event.order))
        self._event(event)

    def _event(self, event: EventRow) -> None:
        moment = self._clock.stage_of(event)
        self.streams.event(moment, event.kind, event.conn, self._clock.detail_of(event))
        if self._monitor is None or event.order == AFTERWARDS:
            return
        if is_finding(event.kind, event.channel):
            names = event.channel, event.symbol
            self.agreement.reported(event.kind, event.conn, names, event.order, event.detail)
        elif is_shown(event.kind, event.detail):
            shown = MonitorEvent(EventKind(event.kind), event.order, event.conn, event.detail)
            found = self._monitor.event(shown)
            self.agreement.found(found)
            self._take_gaps(found, moment)

    def _take_gaps(self, found: Iterable[Finding], moment: int) -> None:
        """Take gaps that no row shows: a connection ended, or another one took its place."""
        for gap in (each.gap for each in found if each.kind is EventKind.GAP):
            assert gap is not None
            self.gaps += 1
            if gap.from_conn is not None:
                self.streams.rows.take_unjoined(gap)
            else:
                self.streams.rows.passed_over(gap, moment)

    def end_file(self, last: int | None) -> None:
        """End a file; `last` is the hand-off of its last row (stage clock)."""
        if self._monitor is not None:
            self.agreement.found(self._monitor.end_file(last or 0))

    def lost(self, moment: int) -> None:
        """Note missing rows or events: the rows after `moment` do not continue the ones before."""
        for finding in self._monitor.lost() if self._monitor is not None else ():
            if finding.gap is not None:
                # the confirmation may be in the missing rows
                self.streams.rows.passed_over(finding.gap, moment)

    def _compare(
        self, rows: Rows, start: int, batch: RowBatch, about: FileRows, same: AbstractSet[str], *, complete: bool
    ) -> None:
        """Compare the columns that were read from the payload with it, but those that are known to be the `same`."""
        span = slice(start, start + len(batch.stage))
        fetched = rows.fetched[span]
        # the payload of a snapshot does not name its stream
        own = pa.array(~fetched) if fetched.any() else None
        lenient = self._learns and not complete
        of = {"channel": rows.channels, "symbol": rows.symbols}
        for name, kind in READ:
            if name in same:
                continue
            stored, read = stored_as_read(rows, name)[span], getattr(batch.fields, name)
            if name in of and same_words((of[name][0][span], of[name][1]), read):
                continue
            if own is not None:
                stored, read = stored.filter(own), read.filter(own)
            _same(name, stored.cast(kind), read.cast(kind), about, lenient=lenient)


def _same(name: str, stored: pa.Array, read: pa.Array, about: FileRows, *, lenient: bool) -> None:
    if stored.equals(read):
        return
    if lenient:
        # ids may be declared in missing rows
        stored = pc.if_else(read.is_valid(), stored, read)
        if stored.equals(read):
            return
    differing = pc.or_(pc.xor(stored.is_null(), read.is_null()), pc.fill_null(pc.not_equal(stored, read), False))
    about.problems[f"{name} differs from the payload"] += pc.sum(differing).as_py()
