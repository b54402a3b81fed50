"""Collects rows and events of one feed on one host into the report's figures, beside what the report itself counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from wsrec.arrays import Flags, known, values
from wsrec.format.capture_file import CaptureFile
from wsrec.format.columns import times, words
from wsrec.format.metadata import FileMetadata
from wsrec.histogram import Int64s
from wsrec.pictures import buckets, slow_frames
from wsrec.pictures.facts import Facts
from wsrec.pictures.groups import curve, curves
from wsrec.pictures.model import Curves, DelayOverTime, Figures, OverTime, TotalKey
from wsrec.pictures.slow_frames import Rows
from wsrec.pictures.streams import COLUMNS as STREAM_COLUMNS
from wsrec.pictures.streams import STEPS as STREAM_STEPS
from wsrec.pictures.streams import Streams, counts_of_streams
from wsrec.pictures.time_line import TimeLine, event_times
from wsrec.pictures.time_steps import Placed, SparseCounts, TimeSteps, excess
from wsrec.pictures.totals import Totals
from wsrec.report.tally import COLUMNS, RecordingTally
from wsrec.ring.events import EventKind
from wsrec.stages import STEPS, TOTAL, TOTAL_WITHOUT_NIC

MOST_STEPS = 600
"""Steps of time at most."""

_MESSAGES, _BYTES = 0, 1


class FiguresTally(RecordingTally):
    """Running totals of one feed on one host, and its figures, of any of its files in any order."""

    columns = tuple(dict.fromkeys([*COLUMNS, *slow_frames.COLUMNS, *STREAM_COLUMNS]))

    def __init__(self, feed: str, host: str, *, is_part: bool = False) -> None:
        super().__init__(feed, host, is_part=is_part)
        self._path = ""
        self._steps = TimeSteps(MOST_STEPS)
        self._rates = SparseCounts(2)
        self._delay = SparseCounts(buckets.SIGNED_COLUMNS)
        self._totals: dict[TotalKey, Totals] = {}
        self._streams = Streams()
        self._time_line = TimeLine()
        self._facts = Facts()

    def begin(self, file: CaptureFile, about: FileMetadata, *, is_whole: bool = True) -> None:
        """Begin a message file; `is_whole`: all of its rows count."""
        super().begin(file, about, is_whole=is_whole)
        self._path = str(file.path)
        self._facts.add(about)

    def add(self, session: str, batch: Any, *, is_stated: bool) -> None:
        """Count a batch of rows; `is_stated`: without what its file's metadata say (`add_stated`)."""
        super().add(session, batch, is_stated=is_stated)
        direction, directions = words(batch, "direction")
        received = np.array([word == "recv" for word in directions])[direction]
        if not received.all():
            batch = batch.filter(pa.array(received))
        if not batch.num_rows:
            return
        recv_time, _ = times(batch, "recv_time")
        placed = self._steps.place(recv_time)
        is_first = values(batch.column("frame_in_read")) == 0
        self._add_rates(batch, placed, is_first)
        self._add_delay(batch, placed, recv_time)
        self._add_totals(session, batch, placed, ~is_first)
        self._streams.add(batch, placed, excess(self._steps.used, STREAM_STEPS), recv_time)

    def _add_rates(self, batch: Any, placed: Placed, is_first: Flags) -> None:
        size = len(placed.steps)
        read = np.where(is_first, values(batch.column("read_bytes")), 0)
        messages = np.bincount(placed.place, minlength=size)
        # exact: below 2**53
        taken = np.bincount(placed.place, read, minlength=size)
        self._rates.add_cells(placed, np.column_stack([messages, taken.astype(np.int64)]))

    def _add_delay(self, batch: Any, placed: Placed, recv_time: Int64s) -> None:
        column = batch.column("exchange_time")
        rows = known(column).nonzero()[0] if column.null_count else None
        delay = recv_time - times(batch, "exchange_time")[0]
        if rows is None or len(rows):
            self._delay.add(placed, buckets.signed_buckets(delay if rows is None else delay[rows]), rows)

    def _add_totals(self, session: str, batch: Any, placed: Placed, behind: Flags) -> None:
        columns = [batch.column(step.key) for step in STEPS]
        timed: Flags = np.ones(batch.num_rows, np.bool_)
        for column in columns[1:]:
            # of a file that another tool wrote
            timed &= known(column) if column.null_count else True
        stamped = known(columns[0]) if columns[0].null_count else np.ones(batch.num_rows, np.bool_)
        steps = [values(column) for column in columns]
        for key, chosen, of_key in (
            (TOTAL.key, timed & stamped, steps),
            (TOTAL_WITHOUT_NIC.key, timed & ~stamped, steps[1:]),
        ):
            if chosen.any():
                rows: Rows | None = None if chosen.all() else chosen.nonzero()[0]
                totals = self._totals.setdefault(key, Totals(key))  # type: ignore[arg-type]
                totals.add(batch, placed, rows, of_key, behind, session, self._path)

    def add_events(self, session: str, batch: Any) -> None:
        """Count a batch of events.

        Raises:
            msgspec.DecodeError: a detail is not JSON.

        """
        super().add_events(session, batch)
        self._time_line.add(session, batch, self._steps.place(event_times(batch)))
        kind, kinds = words(batch, "kind")
        if EventKind.GAP in kinds:
            gaps = pa.array(kind == kinds.index(EventKind.GAP))
            self._streams.add_gaps(counts_of_streams(batch.select(STREAM_COLUMNS).filter(gaps)))

    def merge(self, other: RecordingTally) -> RecordingTally:
        """Add the totals of other files, and return this."""
        super().merge(other)
        assert isinstance(other, FiguresTally)
        self._steps.merge(other._steps)
        level = self._steps.level
        self._rates.merge(other._rates, level)
        self._delay.merge(other._delay, level)
        for key, totals in other._totals.items():
            if key in self._totals:
                self._totals[key].merge(totals, level)
            else:
                self._totals[key] = totals
        self._streams.merge(other._streams, level + excess(self._steps.used, STREAM_STEPS))
        self._time_line.merge(other._time_line, level)
        self._facts.merge(other._facts)
        return self

    def figures(self) -> Figures:
        """The figures; paths of files are those that were read."""
        level = self._steps.level
        return Figures(
            feed=self._feed,
            host=self._host,
            over_time=self._over_time(),
            slowest={key: totals.slow.of_all() for key, totals in self._by_total()},
            compositions=[each for _, totals in self._by_total() for each in totals.compositions()],
            curves=list(self._curves()),
            lines=self._time_line.lines(level),
            coverage=self._streams.coverage(self._steps.used, level),
            facts=self._facts.result(),
        )

    def _by_total(self) -> list[tuple[TotalKey, Totals]]:
        keys: tuple[TotalKey, ...] = ("total", "event_to_handoff")
        return [(key, self._totals[key]) for key in keys if key in self._totals]

    def _over_time(self) -> OverTime | None:
        level, width = self._steps.level, self._steps.width
        rates = {
            step: dict(zip(column.tolist(), counts.tolist(), strict=True))
            for step, column, counts in self._rates.by_step(level)
        }
        if not rates:
            return None
        steps = [*rates]
        delay = {
            step: (int(counts.sum()), buckets.quantiles(column, counts, (0.5, 0.99), buckets.SIGNED_SCALE))
            for step, column, counts in self._delay.by_step(level)
        }
        return OverTime(
            width=width,
            begins=[step * width for step in steps],
            messages=[rates[step][_MESSAGES] for step in steps],
            read_bytes=[rates[step].get(_BYTES, 0) for step in steps],
            latency=[totals.over_time(level, steps) for _, totals in self._by_total()],
            delay=DelayOverTime(
                count=[delay[step][0] if step in delay else 0 for step in steps],
                p50=[delay[step][1][0] if step in delay else None for step in steps],
                p99=[delay[step][1][1] if step in delay else None for step in steps],
            )
            if delay
            else None,
        )

    def _curves(self) -> Any:
        of_steps = [(step.name, self._stages.of(step.key)) for step in (*STEPS, TOTAL, TOTAL_WITHOUT_NIC)]
        drawn = [curve(name, durations) for name, durations in of_steps if durations.count]
        if drawn:
            yield Curves(by="step", key=None, curves=drawn)
        for key, totals in self._by_total():
            yield Curves(by="channel", key=key, curves=totals.by_channel.curves(lambda name: name))
            yield Curves(by="connection", key=key, curves=totals.by_connection.curves(lambda conn: f"conn {conn}"))
        found, others = self._delays.histograms()
        of_channels = curves(found, others, is_full=others.count > 0)
        if of_channels:
            yield Curves(by="delay", key=None, curves=of_channels)
