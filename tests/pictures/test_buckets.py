"""Coarse buckets of durations, against the durations themselves."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from wsrec.histogram import bucket_index
from wsrec.pictures import buckets
from wsrec.pictures.model import TIME_ERROR

SHARES = (0.0, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0)
durations = st.lists(
    st.one_of(st.integers(0, 300), st.integers(0, 2**43 - 1), st.integers(5, 42).map(lambda bits: 2**bits)),
    min_size=1,
    max_size=200,
)


def of_rank(values: list[int], share: float) -> int:
    return sorted(values)[min(max(int(np.ceil(share * len(values))), 1), len(values)) - 1]


@given(durations)
def test_quantiles_are_within_the_stated_error(values: list[int]) -> None:
    columns, counts = np.unique(buckets.OF_FINER[bucket_index(np.array(values))], return_counts=True)
    for share, found in zip(SHARES, buckets.quantiles(columns, counts, SHARES, buckets.SCALE), strict=True):
        true = of_rank(values, share)
        assert abs(found - true) <= TIME_ERROR * true


@given(durations, durations)
def test_signed_quantiles_too(later: list[int], earlier: list[int]) -> None:
    values = [*later, *(-value for value in earlier)]
    columns, counts = np.unique(buckets.signed_buckets(np.array(values)), return_counts=True)
    for share, found in zip(SHARES, buckets.quantiles(columns, counts, SHARES, buckets.SIGNED_SCALE), strict=True):
        true = of_rank(values, share)
        assert abs(found - true) <= TIME_ERROR * abs(true)


def test_what_is_beyond_the_last_bucket_is_in_it() -> None:
    ends = buckets.signed_buckets(np.array([-(2**63), -(2**43), 2**43, 2**63 - 1]))
    assert ends.tolist() == [0, 0, buckets.SIGNED_COLUMNS - 1, buckets.SIGNED_COLUMNS - 1]
