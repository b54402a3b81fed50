"""Conversion between the stage clock, which defines the order, and UTC."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator

import numpy as np

from wsrec.histogram import Int64s

# an offset is kept if it differs from the last one by more than this
_TOLERANCE_NS = 1_000
# two offsets in a row that differ by more than this mean that the clock was set, not slewed
_STEP_NS = 1_000_000


class Utc:
    """The offset from the stage clock to UTC over time, learned from rows and anchors."""

    def __init__(self) -> None:
        # in 8 bytes each: where the stage clock is off by 50 ppm there are 4 million a day
        self._stages, self._offsets = array("q"), array("q")
        self._begun = 0

    def learn(self, stage: Int64s, utc: Int64s) -> None:
        """Add rows and anchors (ns on both clocks); those earlier than the last one are ignored."""
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
            at += int(np.argmax(other)) if other.any() else len(offsets)

    def begin(self, stage: int, utc: int) -> None:
        """Add a moment on both clocks (ns), used until a better one is learned."""
        if not self._stages:
            self._begun = utc - stage

    def of(self, stage: int) -> int:
        """Convert a moment of the stage clock to ns since the epoch; before the first offset, that one is used."""
        if not self._stages:
            return stage + self._begun
        return stage + self._offsets[max(bisect_right(self._stages, stage) - 1, 0)]

    def steps(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the moments after `start`, up to `end` (stage clock), at which UTC was set, with the offset before."""
        first, stop = bisect_right(self._stages, start), bisect_right(self._stages, end)
        for at in range(max(first, 1), stop):
            if abs(self._offsets[at] - self._offsets[at - 1]) > _STEP_NS:
                yield self._stages[at], self._offsets[at - 1]

    def back(self, utc: int, *, latest: bool = True) -> int:
        """The moment of the stage clock for a UTC time, which occurs more than once if UTC was set back.

        Args:
            utc: ns since the epoch.
            latest: whether to return the last of them, or the first. Without any, the last offset is used.

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
