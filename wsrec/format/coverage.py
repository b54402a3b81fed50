"""Coverage of a session's `seq`: exact present and missing ranges, from batches in any order.

The numbers are kept as disjoint intervals, so a complete session needs one, whatever its length, and memory grows
with the holes only.
"""

from __future__ import annotations

from bisect import bisect_left

import numpy as np
import numpy.typing as npt


class SequenceCoverage:
    """The set of numbers seen, and how many were seen again.

    Attributes:
        count: numbers added, repeated ones as well.
        duplicates: numbers added that were there already.

    """

    def __init__(self) -> None:
        self.count = 0
        self.duplicates = 0
        # Sorted, disjoint, never adjacent; ends are inclusive
        self._starts: list[int] = []
        self._ends: list[int] = []

    def add(self, numbers: npt.NDArray[np.unsignedinteger]) -> None:
        """Add an array of numbers."""
        if not len(numbers):
            return
        self.count += len(numbers)
        first, last = int(numbers[0]), int(numbers[-1])
        if last - first == len(numbers) - 1 and (np.diff(numbers) == 1).all():
            self._insert(first, last)
            return
        least, most = int(numbers.min()), int(numbers.max())
        if most - least == len(numbers) - 1 and _are_distinct(numbers - numbers.dtype.type(least)):
            # of a block that is sorted by symbol: all numbers of a range
            self._insert(least, most)
            return
        if not (numbers[1:] > numbers[:-1]).all():
            numbers = np.sort(numbers)
            repeated = int(np.count_nonzero(numbers[1:] == numbers[:-1]))
            if repeated:
                self.duplicates += repeated
                numbers = np.unique(numbers)
        breaks = np.flatnonzero(np.diff(numbers) != 1)
        starts = numbers[np.concatenate(([0], breaks + 1))].tolist()
        ends = numbers[np.concatenate((breaks, [len(numbers) - 1]))].tolist()
        for start, end in zip(starts, ends, strict=True):
            self._insert(start, end)

    def merge(self, other: SequenceCoverage) -> None:
        """Add the numbers of another."""
        self.count += other.count
        self.duplicates += other.duplicates
        for start, end in zip(other._starts, other._ends, strict=True):
            self._insert(start, end)

    def _insert(self, start: int, end: int) -> None:
        # Intervals from `low` up to `high` overlap or touch the new one
        low = bisect_left(self._ends, start - 1)
        high = low
        first, last = start, end
        while high < len(self._starts) and self._starts[high] <= end + 1:
            overlap = min(end, self._ends[high]) - max(start, self._starts[high]) + 1
            self.duplicates += max(overlap, 0)
            first, last = min(first, self._starts[high]), max(last, self._ends[high])
            high += 1
        self._starts[low:high], self._ends[low:high] = [first], [last]

    @property
    def first(self) -> int | None:
        """The lowest number, None while empty."""
        return self._starts[0] if self._starts else None

    @property
    def last(self) -> int | None:
        """The highest number, None while empty."""
        return self._ends[-1] if self._ends else None

    @property
    def missing(self) -> int:
        """Number of numbers between the first and the last that were never added."""
        return sum(start - end - 1 for end, start in zip(self._ends, self._starts[1:], strict=False))

    def holes(self, limit: int) -> list[tuple[int, int]]:
        """The first `limit` intervals that are missing, ends inclusive."""
        pairs = zip(self._ends[:limit], self._starts[1 : limit + 1], strict=False)
        return [(end + 1, start - 1) for end, start in pairs]


def _are_distinct(numbers: npt.NDArray[np.unsignedinteger]) -> bool:
    """Whether numbers below their count are different."""
    seen = np.zeros(len(numbers), np.bool_)
    seen[numbers] = True
    return bool(seen.all())
