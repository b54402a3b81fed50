"""Steps of time that are as short as their number allows, and counts in them.

A step is 1 s times a power of two, and begins at a multiple of its length. A capture of any length has a bounded number
of steps in use: when there are more, each two neighbours become one. So which length it ends with depends on the times
alone, and parts that are merged in any order end with the same counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from wsrec.histogram import Int64s

SHORTEST = 1_000_000_000 >> 9
"""The shortest step (ns): 1/512 s, of which each second has a whole number."""

# a table over all steps from the first to the last, of a batch whose times are no further apart
_NEAR = 1 << 20
# sparse counts that are waiting, at least, before they are added up
_WAITING = 1 << 16


class Placed(NamedTuple):
    """Where times are.

    Attributes:
        level: of the steps: they are `SHORTEST` times 2**level long.
        steps: those in use, ascending: `SHORTEST` times 2**level times each is its beginning (ns since the epoch).
        place: of each time, an index of `steps`.

    """

    level: int
    steps: Int64s
    place: npt.NDArray[np.intp]


class TimeSteps:
    """The steps in use.

    Args:
        most: how many there may be.

    Attributes:
        level: steps are `SHORTEST` times 2**level long.
        used: ascending.

    """

    def __init__(self, most: int) -> None:
        self.level = 0
        self.used: Int64s = np.zeros(0, np.int64)
        self._most = most

    @property
    def width(self) -> int:
        """The length of a step (ns)."""
        return SHORTEST << self.level

    def place(self, times: Int64s) -> Placed:
        """Take times (ns since the epoch, at least one) into use, in longer steps if they are too many."""
        step = times // self.width
        low = int(step.min())
        near = int(step.max()) - low < _NEAR
        distinct = _distinct_near(step, low) if near else np.unique(step)
        level = self.level
        self._use(distinct, level)
        if self.level > level:
            by = self.level - level
            step, low, distinct = step >> by, low >> by, np.unique(distinct >> by)
        if len(distinct) == 1:
            return Placed(self.level, distinct, np.zeros(len(step), np.intp))
        if near:
            table = np.zeros(int(distinct[-1]) - low + 1, np.intp)
            table[distinct - low] = np.arange(len(distinct))
            return Placed(self.level, distinct, table[step - low])
        return Placed(self.level, distinct, np.searchsorted(distinct, step))

    def merge(self, other: TimeSteps) -> None:
        """Take the steps of another into use."""
        self._use(other.used, other.level)

    def _use(self, steps: Int64s, level: int) -> None:
        if level > self.level:
            self.used = np.unique(self.used >> (level - self.level))
            self.level = level
        self.used = np.union1d(self.used, steps >> (self.level - level))
        by = excess(self.used, self._most)
        if by:
            self.level += by
            self.used = np.unique(self.used >> by)

    def begins(self) -> list[int]:
        """The beginning of each step in use (ns since the epoch)."""
        return [each * self.width for each in self.used.tolist()]


def excess(steps: Int64s, most: int) -> int:
    """How often the length of steps has to be doubled until at most `most` are in use."""
    by = 0
    while len(steps) > most:
        steps, by = np.unique(steps >> 1), by + 1
    return by


def _distinct_near(step: Int64s, low: int) -> Int64s:
    used = np.zeros(int(step.max()) - low + 1, np.bool_)
    used[step - low] = True
    found: Int64s = np.flatnonzero(used).astype(np.int64) + low
    return found


class SparseCounts:
    """Counts by step of time and column, of those that are not 0.

    Args:
        columns: how many there are.

    """

    def __init__(self, columns: int) -> None:
        self._columns = columns
        self._level = 0
        # step * columns + column, ascending
        self._keys: Int64s = np.zeros(0, np.int64)
        self._counts: Int64s = np.zeros(0, np.int64)
        self._waiting: list[tuple[Int64s, Int64s]] = []
        self._waiting_size = 0

    def add(self, placed: Placed, column: npt.NDArray[np.integer], rows: npt.NDArray[np.intp] | None = None) -> Int64s:
        """Count rows.

        Args:
            placed: where the rows are.
            column: of each row, or of each of `rows`.
            rows: those that count; None: all.

        Returns:
            Their counts, by an index of `placed.steps` and by column.

        """
        place = placed.place if rows is None else placed.place[rows]
        size = len(placed.steps) * self._columns
        cells = np.bincount(column if len(placed.steps) == 1 else place * self._columns + column, minlength=size)
        self.add_cells(placed, cells.reshape(-1, self._columns))
        return cells.reshape(-1, self._columns)

    def add_cells(self, placed: Placed, cells: Int64s) -> None:
        """Add counts by an index of `placed.steps` and by column."""
        self._coarsen(placed.level)
        row, column = cells.nonzero()
        self._wait(placed.steps[row] * self._columns + column, cells[row, column].astype(np.int64, copy=False))

    def merge(self, other: SparseCounts, level: int) -> None:
        """Add the counts of another, in steps of a level that is not below that of either."""
        other._settle()
        other._coarsen(level)
        self._coarsen(level)
        self._wait(other._keys, other._counts)

    def _wait(self, keys: Int64s, counts: Int64s) -> None:
        self._waiting.append((keys, counts))
        self._waiting_size += len(keys)
        if self._waiting_size > max(_WAITING, len(self._keys)):
            self._settle()

    def _settle(self) -> None:
        if self._waiting:
            found = [(self._keys, self._counts), *self._waiting]
            self._keys, self._counts = summed(
                np.concatenate([keys for keys, _ in found]), np.concatenate([counts for _, counts in found])
            )
            self._waiting, self._waiting_size = [], 0

    def _coarsen(self, level: int) -> None:
        if level > self._level:
            self._settle()
            step, column = np.divmod(self._keys, self._columns)
            keys = (step >> (level - self._level)) * self._columns + column
            self._keys, self._counts = summed(keys, self._counts)
            self._level = level

    def __getstate__(self) -> dict[str, object]:
        self._settle()
        return self.__dict__

    def by_step(self, level: int) -> Iterator[tuple[int, Int64s, Int64s]]:
        """Each step with counts, at a level not below that of what was added: its columns, ascending, and counts."""
        self._settle()
        self._coarsen(level)
        step, column = np.divmod(self._keys, self._columns)
        begins = np.flatnonzero(np.diff(step, prepend=step[:1] - 1))
        ends = [*begins[1:].tolist(), len(step)] if len(step) else []
        for begin, end in zip(begins.tolist(), ends, strict=True):
            yield int(step[begin]), column[begin:end], self._counts[begin:end]


def summed(keys: Int64s, counts: Int64s) -> tuple[Int64s, Int64s]:
    """The different keys, ascending, and the sum of the counts of each."""
    if not len(keys):
        return keys, counts
    order = np.argsort(keys, kind="stable")
    keys, counts = keys[order], counts[order]
    begins = np.flatnonzero(np.diff(keys, prepend=keys[0] - 1))
    found: Int64s = np.add.reduceat(counts, begins)
    return keys[begins], found
