"""Plausibility of exchange times, compared with plain integers."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from wsrec.feed.load import find_feed
from wsrec.monitor.exchange_time import TimeChecker

USDM = find_feed("binance-usdm")
DAY = 86_400_000_000_000
arrivals = st.integers(946_684_800_000_000_000, 4_000_000_000_000_000_000)
times = st.one_of(
    st.none(),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([-(2**63), -1, 0, 2**63 - 1]),
    # around both ends of the tolerance
    st.tuples(st.sampled_from([-DAY, 0, DAY]), st.integers(-2, 2)),
)


@given(st.lists(st.tuples(times, arrivals), min_size=1, max_size=30), st.booleans())
def test_a_time_is_plausible_up_to_the_tolerance_and_no_further(drawn, sliced: bool) -> None:
    checker = TimeChecker(USDM)
    assert checker.tolerance == "86,400"
    stated = [arrival + sum(time) if isinstance(time, tuple) else time for time, arrival in drawn]
    arrival = np.array([at for _, at in drawn], np.int64)
    column = pa.array([DAY, *stated], pa.int64())[1:] if sliced else pa.array(stated, pa.int64())
    odd = checker.odd(column, arrival)
    expected = [time is not None and abs(time - at) > DAY for time, (_, at) in zip(stated, drawn, strict=True)]
    assert (odd is not None) == any(expected)
    assert odd is None or odd.tolist() == expected
