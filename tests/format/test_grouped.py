"""wsrec.format.grouped: durations by group, compiled and in Python alike, against plain lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsrec.format.grouped import (
    NO_GROUP,
    compiled_add,
    compiled_add_between,
    compiled_add_messages,
    python_add,
    python_add_between,
    python_add_messages,
)
from wsrec.histogram import BUCKETS, COARSE_BUCKETS, COARSE_FLOOR, Histogram, bucket_index, coarse_quantiles

NOT_COMPILED = pytest.mark.skipif(compiled_add is None, reason="not compiled here")
adds = pytest.mark.parametrize(
    "add", [pytest.param(python_add, id="python"), pytest.param(compiled_add, id="compiled", marks=NOT_COMPILED)]
)
adds_between = pytest.mark.parametrize(
    "add_between",
    [
        pytest.param(python_add_between, id="python"),
        pytest.param(compiled_add_between, id="compiled", marks=NOT_COMPILED),
    ],
)

adds_messages = pytest.mark.parametrize(
    "add_messages",
    [
        pytest.param(python_add_messages, id="python"),
        pytest.param(compiled_add_messages, id="compiled", marks=NOT_COMPILED),
    ],
)

# all bit lengths, and both ends
durations = st.one_of(
    st.integers(0, 62).flatmap(lambda bits: st.integers(-(1 << bits), (1 << bits))),
    st.sampled_from([0, 127, 128, 255, 256, (1 << 43) - 1, 1 << 43, (1 << 63) - 1, -(1 << 63)]),
)
groups = st.sampled_from([0, 1, 2, 3, NO_GROUP])
rows = st.lists(st.tuples(durations, groups), max_size=60)


def figures(histogram: Histogram) -> tuple[Any, ...]:
    used = histogram.counts.nonzero()[0]
    counts = dict(zip(used.tolist(), histogram.counts[used].tolist(), strict=True))
    return histogram.sum, histogram.min, histogram.max, histogram.negative, counts


def expected(numbers: list[int]) -> tuple[Any, ...]:
    counts: dict[int, int] = {}
    for bucket in bucket_index(np.array(numbers, np.int64)).tolist():
        counts[bucket] = counts.get(bucket, 0) + 1
    extremes = (min(numbers), max(numbers)) if numbers else (None, None)
    return sum(numbers), *extremes, sum(number < 0 for number in numbers), dict(sorted(counts.items()))


@adds
class TestAdd:
    @given(batches=st.lists(rows, max_size=3))
    def test_each_counts_in_its_group(self, add: Any, batches: list[list[tuple[int, int]]]) -> None:
        histograms = [Histogram(), Histogram(), Histogram()]
        every = np.zeros(BUCKETS, np.int64)
        for batch in batches:
            ns, group = (np.array([row[i] for row in batch], kind) for i, kind in ((0, np.int64), (1, np.uint16)))
            total = np.arange(len(batch))
            add(histograms, ns, group, total, every)
            assert total.tolist() == (np.arange(len(batch)) + ns).tolist()
        for number, histogram in enumerate(histograms):
            assert figures(histogram) == expected([ns for batch in batches for ns, group in batch if group == number])
        assert (every == sum(histogram.counts for histogram in histograms)).all()

    def test_many(self, add: Any) -> None:
        random = np.random.default_rng(1)
        ns = random.lognormal(9, 3, 100_000).astype(np.int64)
        group = random.integers(0, 3, 100_000).astype(np.uint16)
        histograms = [Histogram(), Histogram()]
        add(histograms, ns, group)
        for number, histogram in enumerate(histograms):
            assert figures(histogram) == expected(ns[group == number].tolist())


TIMES = st.one_of(
    st.integers(-(10**18), 4 * 10**18),
    st.integers(0, 4 * 10**15).map(lambda us: us * 1000),
    st.integers(-(10**12), 4 * 10**12).map(lambda ms: ms * 1_000_000),
    st.integers(0, 4 * 10**9).map(lambda seconds: seconds * 1_000_000_000),
)
spans = st.lists(st.tuples(TIMES, TIMES, st.integers(0, 3), st.booleans()), max_size=40)


@adds_between
class TestAddBetween:
    @given(spans=spans, chosen=st.booleans())
    def test_signed_and_with_the_resolution_of_its_group(self, add_between: Any, spans: Any, chosen: bool) -> None:
        later, earlier = [Histogram(), Histogram()], [Histogram(), Histogram()]
        resolution = np.array([10**9, 10**6])
        start, stop, code, counted = ([row[i] for row in spans] for i in range(4))
        # codes 0 and 3 are of one group, 2 of none
        group_of = [0, 1, NO_GROUP, 0]
        add_between(
            later,
            earlier,
            np.array(start, np.int64),
            np.array(stop, np.int64),
            np.array(code, np.int32),
            np.array(group_of, np.uint16),
            np.array(counted, np.bool_) if chosen else None,
            resolution,
        )
        for group, least in ((0, 10**9), (1, 10**6)):
            of_group = [row for row in spans if group_of[row[2]] == group and (row[3] or not chosen)]
            ns = [stop - start for start, stop, *_ in of_group]
            assert figures(later[group]) == expected([each for each in ns if each >= 0])
            assert figures(earlier[group]) == expected([-each for each in ns if each < 0])
            possible = [unit for unit in (10**9, 10**6, 1000, 1) if unit <= least]
            assert resolution[group] == next(u for u in possible if not any(row[0] % u for row in of_group))


@NOT_COMPILED
def test_compiled_refuses_what_does_not_fit() -> None:
    assert compiled_add is not None
    assert compiled_add_between is not None
    short, ns, group = np.zeros(1, np.uint16), np.zeros(2, np.int64), np.zeros(2, np.uint16)
    with pytest.raises(ValueError, match="lengths"):
        compiled_add([Histogram()], ns, short)
    with pytest.raises(ValueError, match="lengths"):
        compiled_add([Histogram()], ns, group, np.zeros(1, np.int64))
    with pytest.raises(ValueError, match="size"):
        compiled_add([Histogram()], ns, group, None, np.zeros(BUCKETS - 1, np.int64))
    code = np.array([0, 7], np.int32)
    with pytest.raises(ValueError, match="without a group"):
        compiled_add_between([Histogram()], [Histogram()], ns, ns, code, group, None, np.array([1]))
    with pytest.raises(ValueError, match="numbers"):
        compiled_add_between([Histogram()], [], ns, ns, code, group, None, np.array([1]))


@adds_messages
class TestAddMessages:
    @given(
        batches=st.lists(
            st.lists(st.tuples(groups, st.booleans(), st.integers(0, 1 << 30), durations), max_size=40), max_size=3
        )
    )
    def test_each_counts_in_its_row(self, add_messages: Any, batches: list[list[tuple[int, bool, int, int]]]) -> None:
        # as on the status page: parts of wider rows
        page = np.zeros((3, 8 + COARSE_BUCKETS), np.int64)
        figures, histograms = page[:, 2:5], page[:, 8:]
        counted: list[list[tuple[int, int, int]]] = [[], [], []]
        time = 1000
        for batch in batches:
            times = np.arange(time, time + len(batch))
            time += len(batch)
            stop = np.array([each[3] for each in batch], np.int64)
            start = np.minimum(np.full(len(batch), 17), np.iinfo(np.int64).max - np.abs(stop // 2)) * (stop > 17)
            row, yes, size = (np.array([each[i] for each in batch]) for i in range(3))
            add_messages(
                figures,
                histograms,
                row.astype(np.uint16),
                yes.astype(np.uint8),
                size.astype(np.int64),
                times,
                start,
                stop,
            )
            for at, (number, does, length, _) in enumerate(batch):
                if does and number < 3:
                    counted[number].append((length, int(times[at]), int(stop[at] - start[at])))
        for number, messages in enumerate(counted):
            last = max((moment for _, moment, _ in messages), default=0)
            assert figures[number].tolist() == [len(messages), sum(length for length, _, _ in messages), last]
            buckets = np.searchsorted(COARSE_FLOOR[:-1], np.maximum([ns for _, _, ns in messages], 0), side="right") - 1
            assert histograms[number].tolist() == np.bincount(buckets, minlength=COARSE_BUCKETS).tolist()
        assert not page[:, :2].any()
        assert not page[:, 5:8].any()


@NOT_COMPILED
def test_messages_of_different_lengths() -> None:
    assert compiled_add_messages is not None
    one, table = np.zeros(1, np.int64), np.zeros((1, COARSE_BUCKETS), np.int64)
    row, counted = np.zeros(1, np.uint16), np.ones(1, np.uint8)
    with pytest.raises(ValueError, match="different lengths"):
        compiled_add_messages(table[:, :3], table, row, counted, one, one, one, np.zeros(3, np.int64))


@given(st.lists(st.lists(st.integers(0, 1 << 44), max_size=50), min_size=1, max_size=4), st.sampled_from([0.5, 0.99]))
def test_coarse_quantiles_are_near(numbers: list[list[int]], q: float) -> None:
    table = np.zeros((len(numbers), COARSE_BUCKETS), np.int64)
    for row, each in zip(table, numbers, strict=True):
        ns = np.array(each, np.int64)
        python_add_messages(
            np.zeros((1, 3), np.int64),
            row[None],
            ns.astype(np.uint16) * 0,
            np.ones(len(ns), np.uint8),
            ns,
            ns,
            ns * 0,
            ns,
        )
    for each, found in zip(numbers, coarse_quantiles(table, q), strict=True):
        if not each:
            assert found is None
        else:
            exact = sorted(each)[max(int(np.ceil(q * len(each))), 1) - 1]
            assert found is not None
            assert abs(found - min(exact, (1 << 43) - 1)) <= exact / 16 + 1
