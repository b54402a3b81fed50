"""Latencies between the six stages, and the sources of stage 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from wsrec.arrays import Flags, known, values
from wsrec.format.columns import words
from wsrec.histogram import FLOOR, Histogram, Int64s
from wsrec.report import grouped
from wsrec.report.grouped import NO_GROUP, Uint16s
from wsrec.report.model import Latency, Stage1, StageTable
from wsrec.stages import EVENT, HANDOFF, STEPS, TOTAL, Step
from wsrec.units import duration

TOTAL_WITHOUT_NIC = Step("event_to_handoff", EVENT, HANDOFF)
COLUMNS = ("recv_source", *(step.key for step in STEPS), "frame_in_read")
"""What `StageLatencies.add` needs of a batch."""

_SECOND = 1_000_000_000
# with stage 1; the steps from EVENT to RECV_END, after which it cannot lie
_FROM_NIC, *_READ = (step.key for step in STEPS[:3])


class StageLatencies:
    """The steps of the received rows of one feed on one host."""

    def __init__(self) -> None:
        self._sources: Counter[str] = Counter()
        self._after_event = self._after_read = 0
        self._latest: int | None = None
        # of the first in a read, and of those behind others
        self._steps = {step.key: (Histogram(), Histogram()) for step in (*STEPS, TOTAL, TOTAL_WITHOUT_NIC)}

    def add(self, batch: Any, received: Flags | None) -> None:
        """Count the received rows of a batch; None: all of them."""
        behind: Uint16s = (values(batch.column("frame_in_read")) > 0).astype(np.uint16)
        if received is not None:
            behind[~received] = NO_GROUP
        total, timed = np.zeros(batch.num_rows, np.int64), None
        for step in reversed(STEPS[1:]):
            ns, valid = _step(batch, step.key)
            grouped.add(self._steps[step.key], ns, _among(behind, valid), total)
            timed = valid if timed is None else timed if valid is None else timed & valid
        ns, stamped = _step(batch, _FROM_NIC)
        self._count_sources(batch, received, stamped)
        whole = _among(behind, timed)
        if stamped is not None:
            grouped.add(self._steps[TOTAL_WITHOUT_NIC.key], total, _among(whole, ~stamped))
        grouped.add(self._steps[_FROM_NIC], ns, _among(behind, stamped), total)
        grouped.add(self._steps[TOTAL.key], total, _among(whole, stamped))
        early = ns < 0
        if early.any():
            self._count_late_stamps(batch, ns, early & (_among(behind, stamped) != NO_GROUP))

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

    def _count_late_stamps(self, batch: Any, ns: Int64s, early: Flags) -> None:
        """Count stamps after EVENT, a few of the rows, by whether they are after RECV_END, too."""
        rows = np.flatnonzero(early)
        late = ns[rows]
        timed = np.ones(len(rows), np.bool_)
        for key in _READ:
            step, valid = _step(batch, key)
            late = late + step[rows]
            timed &= True if valid is None else valid[rows]
        after_read = timed & (late < 0)
        self._after_event += int(np.count_nonzero(~after_read))
        if after_read.any():
            self._after_read += int(np.count_nonzero(after_read))
            self._latest = max(self._latest or 0, -int(np.min(late[after_read])))

    def merge(self, other: StageLatencies) -> None:
        """Add the rows of another."""
        self._sources.update(other._sources)
        self._after_event += other._after_event
        self._after_read += other._after_read
        if other._latest is not None:
            self._latest = max(self._latest or 0, other._latest)
        for key, pair in other._steps.items():
            for mine, theirs in zip(self._steps[key], pair, strict=True):
                mine.merge(theirs)

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
        for key, pair in self._steps.items():
            everything[key] = Histogram()
            for each in pair:
                everything[key].merge(each)
        first, others = ({key: pair[behind] for key, pair in self._steps.items()} for behind in (0, 1))
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


def _step(batch: Any, key: str) -> tuple[Int64s, Flags | None]:
    """A step's durations (ns), undefined where null, and which are not null; None if none is."""
    column = batch.column(key)
    return values(column), known(column) if column.null_count else None


def _among(group: Uint16s, rows: Flags | None) -> Uint16s:
    """The groups, of these rows alone."""
    return group if rows is None else np.where(rows, group, np.uint16(NO_GROUP))


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
