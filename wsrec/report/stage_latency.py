"""Latencies between the six stages, and the sources of stage 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from wsrec.format.columns import times, words
from wsrec.histogram import FLOOR, Histogram
from wsrec.report.model import Latency, Stage1, StageTable
from wsrec.stages import EVENT, HANDOFF, NIC, RECV_END, STAGES, STEPS, TOTAL, Step
from wsrec.units import duration

TOTAL_WITHOUT_NIC = Step("event_to_handoff", EVENT, HANDOFF)

_SECOND = 1_000_000_000


class StageLatencies:
    """The steps of the received rows of one feed on one host."""

    def __init__(self) -> None:
        self._sources: Counter[str] = Counter()
        self._after_event = self._after_read = 0
        self._latest: int | None = None
        self._steps = {
            (behind, step.key): Histogram() for behind in (False, True) for step in (*STEPS, TOTAL, TOTAL_WITHOUT_NIC)
        }

    def add(self, batch: Any) -> None:
        """Count the rows of a batch, all of them received."""
        stamps = {stage: times(batch, stage.column) for stage in STAGES}
        stamped = stamps[NIC][1]
        source, sources = words(batch, "recv_source")
        hardware = stamped & np.array([word == "nic" for word in sources])[source]
        nic, all_stamped = int(np.count_nonzero(hardware)), int(np.count_nonzero(stamped))
        self._sources.update(nic=nic, kernel=all_stamped - nic, none=len(stamped) - all_stamped)
        after_read = stamped & stamps[RECV_END][1] & (stamps[NIC][0] > stamps[RECV_END][0])
        after_event = stamped & stamps[EVENT][1] & (stamps[NIC][0] > stamps[EVENT][0]) & ~after_read
        self._after_event += int(np.count_nonzero(after_event))
        if after_read.any():
            self._after_read += int(np.count_nonzero(after_read))
            latest = int(np.max((stamps[NIC][0] - stamps[RECV_END][0])[after_read]))
            self._latest = max(self._latest or 0, latest)
        behind = batch.column("frame_in_read").to_numpy(zero_copy_only=False) > 0
        any_behind = bool(behind.any())
        for step in (*STEPS, TOTAL, TOTAL_WITHOUT_NIC):
            (start, has_start), (end, has_end) = stamps[step.start], stamps[step.end]
            counts = has_start & has_end
            if step is TOTAL_WITHOUT_NIC:
                counts &= ~stamped
            ns = end - start
            if any_behind:
                self._steps[True, step.key].add(ns[counts & behind])
                counts &= ~behind
            self._steps[False, step.key].add(ns if counts.all() else ns[counts])

    def stage1(self, reasons: Mapping[str, int]) -> Stage1:
        """The sources of stage 1; `reasons` are those for null."""
        return Stage1(
            nic=self._sources["nic"],
            kernel=self._sources["kernel"],
            none=self._sources["none"],
            reasons=dict(reasons),
            after_event=self._after_event,
            after_read=self._after_read,
            latest=self._latest,
        )

    def tables(self) -> list[StageTable]:
        """The tables `all`, `first` and `behind`, without empty ones."""
        everything = {}
        for step in (*STEPS, TOTAL, TOTAL_WITHOUT_NIC):
            everything[step.key] = Histogram()
            for behind in (False, True):
                everything[step.key].merge(self._steps[behind, step.key])
        first = {key: self._steps[False, key] for key in everything}
        others = {key: self._steps[True, key] for key in everything}
        tables = [
            StageTable(frames="all", steps=_latencies(everything)),
            StageTable(frames="first", steps=_latencies(first)),
            StageTable(frames="behind", steps=_latencies(others)),
        ]
        return [table for table in tables if table.steps]

    def warnings(self, tables: list[StageTable]) -> Iterator[str]:
        """Warnings about implausible stamps."""
        if self._latest is not None:
            yield (
                f"stage 1 lies after RECV_END in {self._after_read:,} frames, by up to {duration(self._latest)}: the "
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
