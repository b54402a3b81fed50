"""Latency histograms of the steps between the stages, of frames first in their read and of those behind others.

The writer counts the received rows of each file into them and stores them in the file's metadata, `wsrec verify` counts
the rows again and compares, and `wsrec report` adds up what is stored, which costs nothing for each row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt

from wsrec.arrays import Flags
from wsrec.format import grouped
from wsrec.format.grouped import NO_GROUP, Uint16s
from wsrec.histogram import Histogram, Int64s
from wsrec.stages import STEPS, TOTAL, TOTAL_WITHOUT_NIC

FRAMES = ("first", "behind")
"""The groups of frames, each with histograms of its own."""
LIVE = (*STEPS, TOTAL)
"""The steps that the status page shows."""

Durations = tuple[Int64s, Flags | None]
"""A step's durations (ns), undefined where there is none, and which rows have one; None: all of them."""

_INT64_MAX = (1 << 63) - 1

# up to RECV_END, after which stage 1 cannot lie
_READ = 3


class _Stored(msgspec.Struct, frozen=True):
    """Stage histograms as JSON."""

    first: dict[str, Any]
    behind: dict[str, Any]
    after_read: Annotated[int, msgspec.Meta(ge=0, le=_INT64_MAX)]
    latest: Annotated[int, msgspec.Meta(ge=1, le=_INT64_MAX)] | None


class StageHistograms:
    """The steps of received rows.

    Args:
        live: int64 array of a row of buckets for each of `LIVE`, to count in as well (shared memory).

    Attributes:
        steps: by key, the histogram of each group of `FRAMES`; of `STEPS` and the two totals.
        after_read: rows whose stage 1 lies after RECV_END.
        latest: the longest time that it does (ns); None without such rows.

    """

    def __init__(self, live: Int64s | None = None) -> None:
        self.steps = {step.key: (Histogram(), Histogram()) for step in (*STEPS, TOTAL, TOTAL_WITHOUT_NIC)}
        self.after_read = 0
        self.latest: int | None = None
        self._live = {} if live is None else {step.key: row for step, row in zip(LIVE, live, strict=True)}

    @property
    def rows(self) -> int:
        """Number of rows with stages 2 and 3: all that were received."""
        return sum(each.count for each in self.steps[STEPS[1].key])

    @property
    def after_event(self) -> int:
        """Rows whose stage 1 lies after EVENT, but not after RECV_END."""
        return sum(each.negative for each in self.steps[STEPS[0].key]) - self.after_read

    def add(
        self, frame_in_read: npt.NDArray[np.uint16], steps: Sequence[Durations], received: Flags | None = None
    ) -> None:
        """Count rows.

        Args:
            frame_in_read: of each row.
            steps: the durations of each of `STEPS`, contiguous.
            received: which rows count; None: all.

        """
        behind: Uint16s = (frame_in_read > 0).astype(np.uint16)
        if received is not None:
            behind[~received] = NO_GROUP
        total, timed = np.zeros(len(behind), np.int64), None
        for step, (ns, valid) in zip(reversed(STEPS[1:]), reversed(steps[1:]), strict=True):
            self._count(step.key, ns, _among(behind, valid), total)
            timed = valid if timed is None else timed if valid is None else timed & valid
        ns, stamped = steps[0]
        whole = _among(behind, timed)
        if stamped is not None:
            self._count(TOTAL_WITHOUT_NIC.key, total, _among(whole, ~stamped))
            if not stamped.any():
                return
        from_nic = _among(behind, stamped)
        self._count(STEPS[0].key, ns, from_nic, total)
        self._count(TOTAL.key, total, _among(whole, stamped))
        early = ns < 0
        if early.any():
            self._count_late_stamps(steps, np.flatnonzero(early & (from_nic != NO_GROUP)))

    def _count(self, key: str, ns: Int64s, group: Uint16s, total: Int64s | None = None) -> None:
        grouped.add(self.steps[key], ns, group, total, self._live.get(key))

    def _count_late_stamps(self, steps: Sequence[Durations], rows: npt.NDArray[np.intp]) -> None:
        """Count stamps after RECV_END, among these rows, whose stamps are after EVENT."""
        late = np.zeros(len(rows), np.int64)
        for ns, valid in steps[:_READ]:
            late += ns[rows]
            if valid is not None:
                # a row without the stages of a read proves nothing
                late[~valid[rows]] = np.iinfo(np.int64).max // 2
        after_read = late[late < 0]
        if len(after_read):
            self.after_read += len(after_read)
            self.latest = max(self.latest or 0, -int(np.min(after_read)))

    def merge(self, other: StageHistograms) -> None:
        """Add the rows of another."""
        for key, pair in other.steps.items():
            for mine, theirs in zip(self.steps[key], pair, strict=True):
                mine.merge(theirs)
        self.after_read += other.after_read
        if other.latest is not None:
            self.latest = max(self.latest or 0, other.latest)

    def to_json(self) -> dict[str, Any]:
        """The histograms as JSON, without empty ones: of each group by step, and the stamps after RECV_END."""
        groups = {
            frames: {key: pair[at].to_json() for key, pair in self.steps.items() if pair[at].min is not None}
            for at, frames in enumerate(FRAMES)
        }
        return {**groups, "after_read": self.after_read, "latest": self.latest}

    @classmethod
    def from_json(cls, value: Any) -> StageHistograms:
        """Inverse of `to_json`.

        Raises:
            ValueError: it is not of this form, of another resolution, or its figures are those of no rows.

        """
        found = cls()
        try:
            stored = msgspec.convert(value, _Stored)
            for pair_at, histograms in enumerate((stored.first, stored.behind)):
                for key, histogram in histograms.items():
                    found.steps[key][pair_at].merge(Histogram.from_json(histogram))
        except (KeyError, ValueError, msgspec.ValidationError) as error:
            raise ValueError(f"stages: {error}") from error
        found.after_read, found.latest = stored.after_read, stored.latest
        if (found.latest is None) != (not found.after_read) or found.after_event < 0 or not found._explains_latest():
            raise ValueError("stages: the stamps after RECV_END do not fit the steps")
        return found

    def _explains_latest(self) -> bool:
        """Whether the shortest steps allow a stage 1 that lies as far after RECV_END."""
        if self.latest is None:
            return True
        shortest = [[self.steps[step.key][at].min for step in STEPS[:_READ]] for at in range(len(FRAMES))]
        known = [[least for least in each if least is not None] for each in shortest]
        return any(len(each) == _READ and self.latest <= -sum(each) for each in known)

    def fits(self, received: int, stamped: int) -> bool:
        """Whether they may be those of so many received rows, as wsrec writes them: only stage 1 may be missing.

        Args:
            received: number of received rows.
            stamped: number of those with stage 1.

        """
        if (self.rows, sum(each.count for each in self.steps[STEPS[0].key])) != (received, stamped):
            return False
        return all(self._is_whole(at) for at in range(len(FRAMES)))

    def _is_whole(self, at: int) -> bool:
        """Whether the steps of one group have as many rows as each other, and the totals their sum."""
        nic, *others = (self.steps[step.key][at] for step in STEPS)
        total, without = self.steps[TOTAL.key][at], self.steps[TOTAL_WITHOUT_NIC.key][at]
        counts = {each.count for each in others} | {nic.count + without.count}
        is_summed = nic.sum + sum(each.sum for each in others) == total.sum + without.sum
        return len(counts) == 1 and nic.count == total.count and is_summed


def _among(group: Uint16s, rows: Flags | None) -> Uint16s:
    """The groups, of these rows alone."""
    return group if rows is None else np.where(rows, group, np.uint16(NO_GROUP))
