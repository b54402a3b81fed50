"""Latencies between the six stages, and the sources of stage 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from wsrec.arrays import Flags, known, values
from wsrec.format.columns import words
from wsrec.format.stage_histograms import Durations, StageHistograms
from wsrec.histogram import FLOOR, Histogram
from wsrec.report.model import Latency, Stage1, StageTable
from wsrec.stages import STEPS, TOTAL, TOTAL_WITHOUT_NIC
from wsrec.units import duration

COLUMNS = ("recv_source", *(step.key for step in STEPS), "frame_in_read")
"""What `StageLatencies.add` needs of a batch."""

STAMPED = ("nic", "kernel")
"""The sources of stage 1."""

_SECOND = 1_000_000_000


class StageLatencies:
    """The steps of the received rows of one feed on one host."""

    def __init__(self) -> None:
        self._sources: Counter[str] = Counter()
        self._histograms = StageHistograms()

    def add(self, batch: Any, received: Flags | None) -> None:
        """Count the received rows of a batch; None: all of them."""
        steps = [_step(batch, step.key) for step in STEPS]
        self._histograms.add(values(batch.column("frame_in_read")), steps, received)
        self._count_sources(batch, received, steps[0][1])

    def add_stored(self, histograms: StageHistograms, sources: Mapping[str, int]) -> None:
        """Count the received rows of a file by its metadata."""
        self._histograms.merge(histograms)
        by_name = {name: sources.get(name, 0) for name in STAMPED}
        self._sources.update(by_name, none=sum(sources.values()) - sum(by_name.values()))

    def _count_sources(self, batch: Any, received: Flags | None, stamped: Flags | None) -> None:
        source, sources = words(batch, "recv_source")
        counted = received if stamped is None else stamped if received is None else stamped & received
        every = len(source) if counted is None else int(np.count_nonzero(counted))
        rows = len(source) if received is None else int(np.count_nonzero(received))
        hardware = 0
        for code, word in enumerate(sources):
            if word == "nic":
                by_nic = source == code
                hardware += int(np.count_nonzero(by_nic if counted is None else by_nic & counted))
        self._sources.update(nic=hardware, kernel=every - hardware, none=rows - every)

    def merge(self, other: StageLatencies) -> None:
        """Add the rows of another."""
        self._sources.update(other._sources)
        self._histograms.merge(other._histograms)

    def stage1(self, reasons: Mapping[str, int]) -> Stage1:
        """The sources of stage 1; `reasons` are those for null."""
        return Stage1(
            nic=self._sources["nic"],
            kernel=self._sources["kernel"],
            none=self._sources["none"],
            reasons=dict(reasons),
            after_event=self._histograms.after_event,
            after_read=self._histograms.after_read,
            latest=self._histograms.latest,
        )

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
        Latency(
            key=step.key,
            name=step.name,
            count=count,
            negative=histogram.negative,
            sum=histogram.sum,
            min=histogram.min,
            mean=round(histogram.sum / count),
            p50=histogram.quantile(0.5),
            p90=histogram.quantile(0.9),
            p99=histogram.quantile(0.99),
            p999=histogram.quantile(0.999),
            max=histogram.max,
            share=histogram.sum / total if total > 0 else None,
            buckets=[(int(FLOOR[i]), int(histogram.counts[i])) for i in np.flatnonzero(histogram.counts)],
        )
        for step in (*STEPS, TOTAL, TOTAL_WITHOUT_NIC)
        if (count := (histogram := histograms[step.key]).count)
    ]
