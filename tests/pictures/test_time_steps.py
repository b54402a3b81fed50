"""Steps of time and counts in them, against plain Python."""

from __future__ import annotations

import pickle
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsrec.pictures.time_steps import SHORTEST, SparseCounts, TimeSteps

MOST = 7
COLUMNS = 5

near = st.integers(-50, 50).map(lambda step: step * SHORTEST + 3)
far = st.integers(-(2**62), 2**62)
rows = st.lists(st.tuples(st.one_of(near, near, far), st.integers(0, COLUMNS - 1)), min_size=1, max_size=40)


def expected(every: list[tuple[int, int]]) -> tuple[int, Counter[tuple[int, int]]]:
    """The level, and the counts by step and column."""
    level = 0
    while len({time // (SHORTEST << level) for time, _ in every}) > MOST:
        level += 1
    return level, Counter((time // (SHORTEST << level), column) for time, column in every)


class _Part:
    def __init__(self) -> None:
        self.steps, self.counts = TimeSteps(MOST), SparseCounts(COLUMNS)

    def add(self, some: list[tuple[int, int]]) -> None:
        placed = self.steps.place(np.array([time for time, _ in some], np.int64))
        self.counts.add(placed, np.array([column for _, column in some]))

    def merge(self, other: _Part) -> None:
        self.steps.merge(other.steps)
        self.counts.merge(other.counts, self.steps.level)

    def found(self) -> tuple[int, Counter[tuple[int, int]]]:
        level = self.steps.level
        by_step = self.counts.by_step(level)
        cells = (
            (s, c, n) for s, columns, counts in by_step for c, n in zip(columns.tolist(), counts.tolist(), strict=True)
        )
        return level, Counter({(step, column): count for step, column, count in cells})


class TestParts:
    @given(st.lists(st.lists(rows, min_size=1, max_size=4), min_size=1, max_size=4), st.randoms())
    def test_merged_in_any_order_they_are_what_one_reading_is(self, parts, random) -> None:
        found = []
        for batches in parts:
            part = _Part()
            for batch in batches:
                part.add(batch)
            found.append(pickle.loads(pickle.dumps(part)) if random.random() < 0.5 else part)
        while len(found) > 1:
            random.shuffle(found)
            found[0].merge(found.pop())
        every = [row for batches in parts for batch in batches for row in batch]
        assert found[0].found() == expected(every)
        assert found[0].steps.used.tolist() == sorted({step for step, _ in expected(every)[1]})


def test_some_rows_of_a_batch_count() -> None:
    steps, counts = TimeSteps(MOST), SparseCounts(COLUMNS)
    placed = steps.place(np.array([0, SHORTEST, SHORTEST], np.int64))
    cells = counts.add(placed, np.array([4, 2]), np.array([1, 2]))
    assert cells.tolist() == [[0, 0, 0, 0, 0], [0, 0, 1, 0, 1]]
    ((step, columns, found),) = counts.by_step(0)
    assert (step, columns.tolist(), found.tolist()) == (1, [2, 4], [1, 1])


@pytest.mark.parametrize("width", [1, 2, 4])
def test_a_second_has_a_whole_number_of_steps(width: int) -> None:
    assert 1_000_000_000 % (SHORTEST * width) == 0
