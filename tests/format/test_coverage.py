"""wsrec.format.coverage against a plain set."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from wsrec.format.coverage import SequenceCoverage

batches = st.lists(st.lists(st.integers(0, 40), max_size=20), max_size=8)


class TestContiguity:
    @given(batches, st.booleans())
    def test_same_as_a_set(self, numbers: list[list[int]], merged: bool) -> None:
        seen = SequenceCoverage()
        for batch in numbers:
            part = SequenceCoverage() if merged else seen
            part.add(np.array(batch, np.uint64))
            if merged:
                seen.merge(part)
        counts = Counter(number for batch in numbers for number in batch)
        assert seen.count == counts.total()
        assert seen.duplicates == counts.total() - len(counts)
        assert (seen.first, seen.last) == (min(counts, default=None), max(counts, default=None))
        absent = [n for n in range(min(counts, default=0), max(counts, default=0)) if n not in counts] if counts else []
        assert seen.missing == len(absent)
        assert [n for low, high in seen.holes(100) for n in range(low, high + 1)] == absent

    def test_a_complete_session_is_one_interval_in_any_order_of_files(self) -> None:
        seen = SequenceCoverage()
        for start in (200, 0, 300, 100):
            seen.add(np.arange(start, start + 100, dtype=np.uint64))
        assert (seen.first, seen.last, seen.missing, seen.duplicates, len(seen._starts)) == (0, 399, 0, 0, 1)

    def test_a_block_in_another_order_is_one_interval(self) -> None:
        seen = SequenceCoverage()
        numbers = np.random.default_rng(1).permutation(np.arange(2**64 - 1000, 2**64, dtype=np.uint64))
        seen.add(numbers)
        assert (seen.first, seen.last, seen.missing, len(seen._starts)) == (2**64 - 1000, 2**64 - 1, 0, 1)
        seen.add(numbers)
        assert (seen.count, seen.duplicates, len(seen._starts)) == (2000, 1000, 1)

    def test_the_largest_number(self) -> None:
        seen = SequenceCoverage()
        seen.add(np.array([0, 2**64 - 1], np.uint64))
        assert seen.holes(1) == [(1, 2**64 - 2)]
