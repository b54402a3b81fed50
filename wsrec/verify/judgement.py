"""Judgement of one session: runs the writer's monitor over its rows and events, in order of the stage clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wsrec.decode.columns import FieldColumns
from wsrec.feed.schema import Feed
from wsrec.format.columns import Bools, times, words
from wsrec.format.schema import UTC_NS
from wsrec.monitor.check import Finding, MonitorEvent, RowBatch, SnapshotRow
from wsrec.monitor.feed_monitor import Columns, FeedMonitor, is_shown
from wsrec.monitor.sequence_gap import SequenceGap
from wsrec.plan.request_table import RequestTable
from wsrec.ring.events import EventKind
from wsrec.verify.agreement import Agreement, is_finding
from wsrec.verify.events import AFTERWARDS, EventRow
from wsrec.verify.rows import FileRows
from wsrec.verify.session_clock import SessionClock
from wsrec.verify.stream_rows import Held
from wsrec.verify.streams import Streams

# the columns that come from the payload, but for the time
_READ = (("channel", pa.string()), ("symbol", pa.string()), ("exchange_seq", pa.uint64()))


class Rows:
    """Some rows of a message file as columns.

    Attributes:
        table: the rows as they stand in the file.
        stage: hand-off of each (ns on the stage clock).
        conns: the connection of each.
        payload: `large_binary` array.
        carried: those received that are text or binary.
        received: those that were received.
        binary: those that are binary.
        fetched: those that were fetched over HTTP.

    """

    def __init__(self, table: Any) -> None:
        self.table = table
        self.stage = table.column("handoff_monotonic").to_numpy()
        self.conns = table.column("conn").to_numpy(zero_copy_only=False)
        self.seq = table.column("seq").to_numpy(zero_copy_only=False)
        direction, opcode = (words(table, name) for name in ("direction", "opcode"))
        self.received, self.fetched = _among(direction, {"recv"}), _among(direction, {"rest"})
        self.binary, self.messages = _among(opcode, {"binary"}), _among(opcode, {"text", "binary"})
        self.carried = self.received & self.messages
        payload = pc.coalesce(table.column("text").cast(pa.binary()), table.column("data"))
        self.payload = payload.cast(pa.large_binary())
        self.channels, self.symbols = words(table, "channel"), words(table, "symbol")

    def columns(self, start: int, stop: int) -> Columns:
        """Some of them as the monitor reads them."""
        span = slice(start, stop)
        part = self.table.slice(start, stop - start)
        requests = part.column("request").fill_null(0).to_numpy(zero_copy_only=False)
        return Columns(
            int(self.seq[start]),
            self.conns[span],
            self.stage[span],
            times(part, "recv_time")[0],
            self.payload[span],
            self.received[span],
            self.messages[span],
            self.carried[span],
            self.binary[span],
            requests,
            {row: _snapshot(part, row) for row in np.flatnonzero(self.fetched[span]).tolist()},
        )


class Judgement:
    """What one session's rows and events show.

    Args:
        feed: the feed as its files' metadata have it; None where they have none that can be read.
        requests: what its connections ask for.
        standby_of: of each connection that stands by, the one that it takes turns with.
        whole: whether all of the session's files are looked at.
        clock: the session's.

    Attributes:
        streams: which intervals of each stream are complete.
        agreement: what was found, against what the events tell of.
        gaps: sequence gaps that were found.

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
        # what ids stand for is learned from messages, which may not be there
        self._learns = feed is not None and feed.fields is not None and feed.fields.ids is not None

    @property
    def checks_gaps(self) -> bool:
        """Whether the feed declares any rule."""
        return self._monitor is not None and self._monitor.checks_numbers

    def rows(self, rows: Rows, events: Iterable[EventRow], about: FileRows, *, complete: bool) -> Iterable[EventRow]:
        """Go through rows and the events among them; each event is given out when it was judged.

        Args:
            rows: the rows.
            events: those that lie before the last row.
            about: called with columns that differ from the payload.
            complete: whether all before them was there.

        """
        start = 0
        for event in events:
            # what is lost is told of with the moment of the first row that is there behind it
            loses = event.loses_slots
            if loses or is_shown(event.kind, event.detail):
                stop = int(np.searchsorted(rows.stage, event.order, side="left" if loses else "right"))
                self._piece(rows, start, stop, about, complete=complete)
                start = max(start, stop)
            self._event(event)
            yield event
        self._piece(rows, start, len(rows.stage), about, complete=complete)

    def _piece(self, rows: Rows, start: int, stop: int, about: FileRows, *, complete: bool) -> None:
        if stop <= start:
            return
        links, runs = np.zeros(stop - start, np.uint8), np.zeros(stop - start, np.int64)
        gaps: list[SequenceGap] = []
        if self._monitor is not None:
            batch = self._monitor.read(rows.columns(start, stop))
            self._compare(rows, start, batch, about, complete=complete)
            found = self._monitor.rows(batch)
            self.agreement.found(found)
            gaps = [each.gap for each in found if each.kind is EventKind.GAP and each.gap is not None]
            self.gaps += len(gaps)
            links, runs = (batch.links if len(batch.links) else links), (batch.runs if len(batch.runs) else runs)
        span = slice(start, stop)
        names = (rows.channels[0][span], rows.channels[1]), (rows.symbols[0][span], rows.symbols[1])
        held = Held(gaps, links, runs)
        self.streams.rows.add(rows.stage[span], rows.conns[span], *names, rows.carried[span], held)

    def event(self, event: EventRow) -> None:
        """Judge an event that lies behind all rows of its file, or has none beside it."""
        if self._monitor is not None and event.order != AFTERWARDS and is_finding(event.kind, event.channel):
            # all before it was there when the writer told of it
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
        """Gaps that no row shows: a connection ended, or another took its place."""
        for gap in (each.gap for each in found if each.kind is EventKind.GAP):
            assert gap is not None
            self.gaps += 1
            if gap.from_conn is not None:
                self.streams.rows.take_unjoined(gap)
            else:
                self.streams.rows.passed_over(gap, moment)

    def end_file(self, last: int | None) -> None:
        """A file ends, whose last row was handed off then (stage clock)."""
        if self._monitor is not None:
            self.agreement.found(self._monitor.end_file(last or 0))

    def lost(self, moment: int) -> None:
        """Rows or events are missing: what follows does not continue what came before that moment."""
        for finding in self._monitor.lost() if self._monitor is not None else ():
            if finding.gap is not None:
                # whether it came is in rows that are not there
                self.streams.rows.passed_over(finding.gap, moment)

    def _compare(self, rows: Rows, start: int, batch: RowBatch, about: FileRows, *, complete: bool) -> None:
        """Hold the columns that came from the payload against the payload."""
        own = pa.array(~rows.fetched[start : start + len(batch.stage)])
        # what a snapshot is of is not in its payload
        stored = rows.table.slice(start, len(batch.stage)).filter(own)
        read = FieldColumns._make(column.filter(own) for column in batch.fields)
        lenient = self._learns and not complete
        for name, kind in _READ:
            _same(name, stored.column(name).cast(kind), getattr(read, name).cast(kind), about, lenient=lenient)
        exchange_time = stored.column("exchange_time").cast(UTC_NS).cast(pa.int64())
        _same("exchange_time", exchange_time, read.exchange_time, about, lenient=lenient)


def _same(name: str, stored: pa.Array, read: pa.Array, about: FileRows, *, lenient: bool) -> None:
    if stored.equals(read):
        return
    if lenient:
        # what ids stand for may be declared in rows that are missing
        stored = pc.if_else(read.is_valid(), stored, read)
        if stored.equals(read):
            return
    differing = pc.or_(pc.xor(stored.is_null(), read.is_null()), pc.fill_null(pc.not_equal(stored, read), False))
    about.problems[f"{name} is not what the payload says"] += pc.sum(differing).as_py()


def _snapshot(part: Any, row: int) -> SnapshotRow:
    return SnapshotRow(*(part.column(name)[row].as_py() for name in ("channel", "symbol", "exchange_seq")))


def _among(codes: tuple[npt.NDArray[np.integer], list[str | None]], known: set[str]) -> Bools:
    """Where a column of words has one of `known`."""
    found: Bools = np.array([word in known for word in codes[1]])[codes[0]]
    return found
