"""wsrec.report.signed against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsrec.format.grouped import add_between
from wsrec.report.signed import LONGEST, SignedHistogram

values = st.lists(st.one_of(st.integers(-300, 300), st.integers(-(2**42), 2**42)), min_size=1, max_size=100)


def histogram(numbers: list[int]) -> SignedHistogram:
    result = SignedHistogram()
    stops, zeros = np.array(numbers, np.int64), np.zeros(len(numbers), np.int64)
    one = np.zeros(1, np.uint16)
    add_between([result.above], [result.below], zeros, stops, zeros.astype(np.int32), one, None, np.array([1]))
    return result


class TestSignedHistogram:
    def test_empty(self) -> None:
        empty = histogram([])
        assert (empty.count, empty.negative, empty.min, empty.max, empty.quantile(0.5)) == (0, 0, None, None, None)

    @given(values)
    def test_counts_and_extremes_are_exact(self, numbers: list[int]) -> None:
        result = histogram(numbers)
        assert (result.count, result.negative) == (len(numbers), sum(number < 0 for number in numbers))
        assert (result.min, result.max) == (min(numbers), max(numbers))

    @given(values, st.floats(0, 1))
    def test_quantile_is_within_a_128th(self, numbers: list[int], q: float) -> None:
        exact = int(np.quantile(np.array(numbers), q, method="inverted_cdf"))
        found = histogram(numbers).quantile(q)
        assert found is not None
        assert abs(found - exact) * 128 <= abs(exact)

    @given(values, values)
    def test_merging_is_the_same_as_adding_all(self, one: list[int], other: list[int]) -> None:
        merged, together = histogram(one), histogram(one + other)
        merged.merge(histogram(other))
        for q in (0, 0.1, 0.5, 0.9, 1):
            assert merged.quantile(q) == together.quantile(q)
        assert (merged.min, merged.max, merged.negative) == (together.min, together.max, together.negative)

    @pytest.mark.parametrize("sign", [1, -1])
    def test_beyond_the_buckets_the_extreme_is_known(self, sign: int) -> None:
        assert histogram([sign * 200 * LONGEST] * 3).quantile(0.5) == sign * 200 * LONGEST
