"""wsrec.histogram against numpy on the raw durations."""

from __future__ import annotations

import json
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsrec.histogram import BUCKETS, FLOOR, MAX_BITS, SUB_BUCKET_BITS, Histogram, bucket_index, quantile

LIMIT = 1 << MAX_BITS
# Small ones as often as large ones: a bucket's width depends on the bit length
in_range = st.integers(0, MAX_BITS).flatmap(lambda bits: st.integers(0, (1 << bits) - 1))
durations = st.lists(in_range, min_size=1, max_size=200)


def histogram(values: list[int]) -> Histogram:
    result = Histogram()
    result.add(np.array(values, np.int64))
    return result


class TestBuckets:
    def test_floor_is_strictly_ascending_from_zero_to_the_limit(self) -> None:
        assert FLOOR[0] == 0
        assert FLOOR[BUCKETS] == LIMIT
        assert (np.diff(FLOOR) > 0).all()

    def test_durations_below_256_ns_have_a_bucket_each(self) -> None:
        assert bucket_index(np.arange(256)).tolist() == list(range(256))
        assert FLOOR[:256].tolist() == list(range(256))

    def test_first_and_last_duration_of_each_bucket_fall_into_it(self) -> None:
        assert (bucket_index(FLOOR[:-1]) == np.arange(BUCKETS)).all()
        assert (bucket_index(FLOOR[1:] - 1) == np.arange(BUCKETS)).all()

    def test_a_bucket_is_at_most_a_128th_of_its_durations_wide(self) -> None:
        wide = np.diff(FLOOR)[256:]
        assert (wide * (1 << SUB_BUCKET_BITS) <= FLOOR[256:-1]).all()

    @given(in_range)
    def test_a_duration_lies_between_its_buckets_bounds(self, value: int) -> None:
        index = int(bucket_index(np.array([value]))[0])
        assert FLOOR[index] <= value < FLOOR[index + 1]

    @pytest.mark.parametrize(("value", "index"), [(-1, 0), (-(2**62), 0), (LIMIT, BUCKETS - 1), (2**62, BUCKETS - 1)])
    def test_beyond_the_range_counts_at_its_end(self, value: int, index: int) -> None:
        assert bucket_index(np.array([value])).tolist() == [index]


class TestHistogram:
    def test_empty(self) -> None:
        empty = histogram([])
        assert (empty.count, empty.sum, empty.min, empty.max, empty.mean, empty.quantile(0.5)) == (
            0,
            0,
            None,
            None,
            None,
            None,
        )
        assert quantile(empty.counts, 0.5) is None

    @given(durations)
    def test_count_sum_extremes_and_mean_are_exact(self, values: list[int]) -> None:
        result = histogram(values)
        assert (result.count, result.sum, result.min, result.max) == (
            len(values),
            sum(values),
            min(values),
            max(values),
        )
        assert result.mean == sum(values) / len(values)

    @given(durations, st.floats(0, 1))
    def test_quantile_is_within_a_128th(self, values: list[int], q: float) -> None:
        exact = int(np.quantile(np.array(values, np.int64), q, method="inverted_cdf"))
        found = histogram(values).quantile(q)
        assert found is not None
        assert abs(found - exact) * 128 <= exact
        assert min(values) <= found <= max(values)

    @given(st.lists(st.integers(-1000, 1000), min_size=1))
    def test_negative_durations_are_counted_and_kept_in_sum_and_minimum(self, values: list[int]) -> None:
        result = histogram(values)
        assert result.negative == sum(value < 0 for value in values)
        assert (result.sum, result.min) == (sum(values), min(values))

    @given(durations, durations)
    def test_merging_is_the_same_as_adding_all(self, one: list[int], other: list[int]) -> None:
        merged = histogram(one)
        merged.merge(histogram(other))
        assert merged.to_json() == histogram(one + other).to_json()

    def test_merging_with_an_empty_one_changes_nothing(self) -> None:
        merged = histogram([3, -5])
        merged.merge(Histogram())
        assert merged.to_json() == histogram([3, -5]).to_json()
        empty = Histogram()
        empty.merge(merged)
        assert empty.to_json() == merged.to_json()

    @given(st.lists(st.integers(-1000, LIMIT + 1000)))
    def test_json_round_trip(self, values: list[int]) -> None:
        before = histogram(values)
        after = Histogram.from_json(json.loads(json.dumps(before.to_json())))
        assert (after.counts == before.counts).all()
        assert after.to_json() == before.to_json()

    def test_pickled_it_is_as_small_as_what_it_holds(self) -> None:
        before = histogram([-3, 5, 5, 1 << 50])
        pickled = pickle.dumps(before)
        after = pickle.loads(pickled)
        assert len(pickled) < 1000
        assert after.to_json() == before.to_json()
        after.add(np.array([7]))
        assert after.count == 5

    def test_json_of_another_resolution_is_refused(self) -> None:
        other = {**histogram([1]).to_json(), "sub_bucket_bits": 5}
        with pytest.raises(ValueError, match="5 sub-bucket bits"):
            Histogram.from_json(other)

    @pytest.mark.parametrize(
        "change",
        [
            {"min": "a"},
            {"min": None},
            {"min": 2.0},
            {"min": True},
            {"min": -5},
            {"min": -(2**63)},
            {"max": []},
            {"max": 1e300},
            {"max": 2**64 - 1},
            {"max": 3},
            {"max": 400},
            {"sum": "9"},
            {"sum": 1509.0},
            {"sum": 1e308},
            {"sum": True},
            {"sum": 2**64 - 1},
            {"sum": -5},
            {"negative": "0"},
            {"negative": False},
            {"negative": -1},
            {"negative": 1},
            {"negative": 10**15},
            {"buckets": None},
            {"buckets": {}},
            {"buckets": []},
            {"buckets": [2]},
            {"buckets": [-1, 1]},
            {"buckets": [2, -3]},
            {"buckets": [2, 0]},
            {"buckets": [2, 1, 0, 1]},
            {"buckets": [2, 2**62, 1, 2**62, 1, 2**62]},
            {"buckets": [2, 2**64]},
            {"buckets": [BUCKETS, 1]},
            {"buckets": [2**62, 1, 2**62, 1]},
            {"buckets": [[2, 1], [5, 2]]},
            {"buckets": ["2", "1"]},
            {"buckets": [2.5, 1.5]},
            {"buckets": [0, 1] * 300_000},
        ],
    )
    def test_figures_of_no_durations_are_refused(self, change: dict[str, Any]) -> None:
        stored = histogram([2, 7, 1500]).to_json()
        with pytest.raises(ValueError):
            Histogram.from_json({**stored, **change})
        with pytest.raises(ValueError):
            Histogram.from_json(list(stored))

    @given(st.lists(st.integers(-1000, LIMIT + 1000)), st.data())
    def test_a_figure_that_is_accepted_may_be_true(self, values: list[int], data: st.DataObject) -> None:
        stored = histogram(values).to_json()
        figure = data.draw(st.sampled_from(["sum", "min", "max", "negative"]))
        other = data.draw(st.one_of(st.none(), st.integers(-(2**70), 2**70), st.integers(-2000, 2000)))
        try:
            found = Histogram.from_json({**stored, figure: other})
        except ValueError:
            return
        assert found.to_json() == {**stored, figure: other}
        assert found.negative <= found.count
        if found.min is not None and found.max is not None:
            assert found.min * found.count <= found.sum <= found.max * found.count
            assert found.min <= (found.quantile(0.5) or 0) <= found.max

    def test_counts_are_written_in_place(self) -> None:
        shared = np.zeros(BUCKETS, np.int64)
        Histogram(shared).add(np.array([7, 7, 9]))
        assert (shared[7], shared[9], shared.sum()) == (2, 1, 3)
