"""From the stage clock, on which all is ordered and measured here, to the UTC that people read, and back."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

from wsrec.histogram import Int64s

# What one difference between the clocks may be off before another is kept
_TOLERANCE_NS = 1_000


class Utc:
    """How far UTC was ahead of the stage clock, learned from rows and anchors in their order."""

    def __init__(self) -> None:
        self._stages: list[int] = []
        self._offsets: list[int] = []

    def learn(self, stage: Int64s, utc: Int64s) -> None:
        """Rows (ns on both clocks), in the order of the stage clock."""
        offsets = utc - stage
        at = 0
        while at < len(offsets):
            last = self._offsets[-1] if self._offsets else None
            if last is None or abs(int(offsets[at]) - last) > _TOLERANCE_NS:
                self._stages.append(int(stage[at]))
                self._offsets.append(last := int(offsets[at]))
            other = np.abs(offsets[at:] - last) > _TOLERANCE_NS
            at += int(other.argmax()) if other.any() else len(offsets)

    def of(self, stage: int) -> int:
        """The ns since the epoch of a moment of the stage clock; before all that was learned, by the first of it."""
        if not self._stages:
            return stage
        return stage + self._offsets[max(bisect_right(self._stages, stage) - 1, 0)]

    def back(self, utc: int) -> int:
        """The moment of the stage clock, by the last that was learned."""
        return utc - self._offsets[-1] if self._offsets else utc
