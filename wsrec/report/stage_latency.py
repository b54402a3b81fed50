"""Latencies between the six stages, and the sources of stage 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from wsrec.arrays import Flags, known, values
from wsrec.format.columns import words
from wsrec.format.schema import FIRST_SEGMENT, READ_STAMP, SEGMENT_COLUMNS
from wsrec.format.segment_histograms import SegmentHistograms
from wsrec.format.stage_histograms import Durations, StageHistograms
from wsrec.histogram import FLOOR, Histogram
from wsrec.report.model import Latency, SegmentTable, Stage1, StageTable
from wsrec.stages import STAMPED_WORDS, STEPS, TOTAL, TOTAL_WITHOUT_NIC
from wsrec.units import duration

COLUMNS = ("recv_source", *(step.key for step in STEPS), "frame_in_read", *SEGMENT_COLUMNS)
"""What `StageLatencies.add` needs of a batch."""

_SECOND = 1_000_000_000


class StageLatencies:
    """The steps of the received rows of one feed on one host."""

    def __init__(self) -> None:
        self._sources: Counter[str] = Counter()
        self._histograms = StageHistograms()
        self._segments = SegmentHistograms()

    def add(self, batch: Any, received: Flags | None) -> None:
        """Count the received rows of a batch; None: all of them."""
        steps = [_step(batch, step.key) for step in STEPS]
        self._histograms.add(values(batch.column("frame_in_read")), steps, received)
        self._count_sources(batch, received, steps[0][1])
        self._segments.add_rows(batch, received)

    def add_stored(self, histograms: StageHistograms, segments: SegmentHistograms, sources: Mapping[str, int]) -> None:
        """Count the received rows of a file by its metadata."""
        self._histograms.merge(histograms)
        self._segments.merge(segments)
        by_name = {name: sources.get(name, 0) for name in STAMPED_WORDS}
        self._sources.update(by_name, none=sum(sources.values()) - sum(by_name.values()))

    def _count_sources(self, batch: Any, received: Flags | None, stamped: Flags | None) -> None:
        source, sources = words(batch, "recv_source")
        counted = received if stamped is None else stamped if received is None else stamped & received
        stated = source if counted is None else source[counted]
        rows = len(source) if received is None else int(np.count_nonzero(received))
        by_code = np.bincount(stated, minlength=len(sources)).tolist()
        by_name = {word: count for word, count in zip(sources, by_code, strict=True) if word in STAMPED_WORDS}
        self._sources.update(by_name, none=rows - sum(by_name.values()))

    def merge(self, other: StageLatencies) -> None:
        """Add the rows of another."""
        self._sources.update(other._sources)
        self._histograms.merge(other._histograms)
        self._segments.merge(other._segments)

    def stage1(self, reasons: Mapping[str, int]) -> Stage1:
        """The sources of stage 1; `reasons` are those for null."""
        return Stage1(
            nic=self._sources["nic"],
            kernel=self._sources["kernel"],
            segment=self._sources["segment"],
            segment_nic=self._sources["segment-nic"],
            none=self._sources["none"],
            reasons=dict(reasons),
            after_event=self._histograms.after_event,
            after_read=self._histograms.after_read,
            latest=self._histograms.latest,
        )

    def segments(self) -> SegmentTable | None:
        """What captured segments say of the rows; None without any."""
        found = self._segments
        if not found:
            return None
        read_stamp, first_segment = (_offset(key, found.durations[key]) for key in (READ_STAMP, FIRST_SEGMENT))
        rows = sum(found.order.values())
        return SegmentTable(rows=rows, read_stamp=read_stamp, first_segment=first_segment, order=dict(found.order))

    def of(self, key: str) -> Histogram:
        """The durations of a step, or total, of all frames."""
        merged = Histogram()
        for each in self._histograms.steps[key]:
            merged.merge(each)
        return merged

    def tables(self) -> list[StageTable]:
        """The tables `all`, `first` and `behind`, without empty ones."""
        everything = {key: self.of(key) for key in self._histograms.steps}
        first, others = ({key: pair[behind] for key, pair in self._histograms.steps.items()} for behind in (0, 1))
        tables = [
            StageTable(frames="all", steps=_latencies(everything)),
            StageTable(frames="first", steps=_latencies(first)),
            StageTable(frames="behind", steps=_latencies(others)),
        ]
        return [table for table in tables if table.steps]

    def warnings(self, tables: list[StageTable]) -> Iterator[str]:
        """Warnings about implausible stamps."""
        found = self._histograms
        if found.latest is not None:
            yield (
                f"stage 1 lies after RECV_END in {found.after_read:,} frames, by up to {duration(found.latest)}: the "
                "realtime clock was set, or the NIC's clock does not follow it (check chrony/PTP, phc2sys)"
            )
        for step in tables[0].steps if tables else ():
            if step.key == STEPS[0].key and step.p50 is not None and step.p50 >= _SECOND:
                yield (
                    f"{step.name} takes {duration(step.p50)} (p50): stage 1's clock is not the system's; "
                    "set the NIC's clock from it (phc2sys)"
                )
            elif step.negative and step.key not in (STEPS[0].key, TOTAL.key):
                yield (
                    f"{step.name} is negative in {step.negative:,} of {step.count:,} frames: "
                    "these files were changed after wsrec wrote them"
                )


def _step(batch: Any, key: str) -> Durations:
    """A step's durations (ns)."""
    column = batch.column(key)
    return values(column), known(column) if column.null_count else None


def _latencies(histograms: dict[str, Histogram]) -> list[Latency]:
    total = histograms[TOTAL.key].sum + histograms[TOTAL_WITHOUT_NIC.key].sum
    return [
        _latency(step.key, step.name, histogram, share=histogram.sum / total if total > 0 else None)
        for step in (*STEPS, TOTAL, TOTAL_WITHOUT_NIC)
        if (histogram := histograms[step.key]).count
    ]


def _offset(key: str, histogram: Histogram) -> Latency | None:
    """The differences that a column has; None without any."""
    return _latency(key, key, histogram, share=None) if histogram.count else None


def _latency(key: str, name: str, histogram: Histogram, share: float | None) -> Latency:
    return Latency(
        key=key,
        name=name,
        count=histogram.count,
        negative=histogram.negative,
        sum=histogram.sum,
        min=histogram.min,
        mean=round(histogram.sum / histogram.count),
        p50=histogram.quantile(0.5),
        p90=histogram.quantile(0.9),
        p99=histogram.quantile(0.99),
        p999=histogram.quantile(0.999),
        max=histogram.max,
        share=share,
        buckets=[(int(FLOOR[i]), int(histogram.counts[i])) for i in np.flatnonzero(histogram.counts)],
    )
