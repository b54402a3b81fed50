"""Conversion between the stage clock, which defines the order, and UTC."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

import numpy as np

from wsrec.histogram import Int64s

# What one difference between the clocks may be off before another is kept
_TOLERANCE_NS = 1_000
# By more than this from one that was kept to the next it was set, and not slewed
_STEP_NS = 1_000_000


class Utc:
    """How far UTC was ahead of the stage clock, learned from rows and anchors."""

    def __init__(self) -> None:
        self._stages: list[int] = []
        self._offsets: list[int] = []
        self._begun = 0

    def learn(self, stage: Int64s, utc: Int64s) -> None:
        """Rows and anchors (ns on both clocks); those before what was learned already are left out."""
        order = np.argsort(stage, kind="stable")
        stage, offsets = stage[order], (utc - stage)[order]
        if self._stages:
            first = int(np.searchsorted(stage, self._stages[-1]))
            stage, offsets = stage[first:], offsets[first:]
        at = 0
        while at < len(offsets):
            last = self._offsets[-1] if self._offsets else None
            if last is None or abs(int(offsets[at]) - last) > _TOLERANCE_NS:
                self._stages.append(int(stage[at]))
                self._offsets.append(last := int(offsets[at]))
            other = np.abs(offsets[at:] - last) > _TOLERANCE_NS
            at += int(other.argmax()) if other.any() else len(offsets)

    def begin(self, stage: int, utc: int) -> None:
        """A moment on both clocks (ns), for as long as nothing better is learned."""
        if not self._stages:
            self._begun = utc - stage

    def of(self, stage: int) -> int:
        """The ns since the epoch of a moment of the stage clock; before all that was learned, by the first of it."""
        if not self._stages:
            return stage + self._begun
        return stage + self._offsets[max(bisect_right(self._stages, stage) - 1, 0)]

    def steps(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Where after `start`, up to `end` (stage clock), UTC was set, and how far ahead it was before."""
        first, stop = bisect_right(self._stages, start), bisect_right(self._stages, end)
        for at in range(max(first, 1), stop):
            if abs(self._offsets[at] - self._offsets[at - 1]) > _STEP_NS:
                yield self._stages[at], self._offsets[at - 1]

    def back(self, utc: int, *, latest: bool = True) -> int:
        """The moment of the stage clock when UTC was that: UTC that was set back was it twice, or more often.

        Args:
            utc: ns since the epoch.
            latest: whether the last of them is asked for, or the first. What was never learned is by the last offset.

        """
        if not self._stages:
            return utc - self._begun
        ends = [*self._stages[1:], None]
        moments = [
            utc - ahead
            for begin, end, ahead in zip(self._stages, ends, self._offsets, strict=True)
            if begin <= utc - ahead and (end is None or utc - ahead < end)
        ]
        return moments[-1 if latest else 0] if moments else utc - self._offsets[-1]
