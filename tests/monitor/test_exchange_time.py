"""Plausibility of exchange times, compared with plain integers."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsrec.decode.implementation import FieldReader
from wsrec.feed.load import find_feed
from wsrec.feed.schema import Feed
from wsrec.monitor.exchange_time import TimeChecker

USDM = find_feed("binance-usdm")
DAY = 86_400_000_000_000
SECONDS, MILLI, MICRO, NANO = 10**9, 10**6, 10**3, 1
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


def checked(payloads, arrival, **fields):
    """Which of the times are implausible, what is reported, and the checker."""
    feed = Feed.model_validate(
        {
            "name": "times",
            "description": "",
            "sockets": {"main": {"url": "ws://x"}},
            "fields": {"channel": ["c"], "exchange_time": ["t"], **fields},
        }
    )
    checker, count = TimeChecker(feed), len(payloads)
    messages = pa.array([json.dumps(each).encode() for each in payloads], pa.large_binary())
    columns = FieldReader(feed).read(messages, np.ones(count, np.bool_))
    when = np.full(count, arrival, np.int64)
    odd = checker.odd(columns.exchange_time, when)
    reported = checker.count(odd, columns, when, 100, messages, np.zeros(count, np.bool_)) if odd is not None else []
    return odd, reported, checker


NOW = 1_795_780_000_000_000_000


class TestUnits:
    @pytest.mark.parametrize("stated", ["s", "ms", "us", "ns", "iso"])
    @pytest.mark.parametrize("read", ["s", "ms", "us", "ns", "iso"])
    def test_the_unit_that_would_fit_is_found(self, stated, read):
        written = {"s": SECONDS, "ms": MILLI, "us": MICRO, "ns": NANO}
        value = "2026-11-27T10:26:40Z" if stated == "iso" else NOW // written[stated]
        odd, reported, _ = checked([{"c": "x", "t": value}], NOW, time_unit=read)
        if stated == read or (odd is None and "iso" in (stated, read)):
            # a text that is not a date, or not a number, is not read as a time
            assert odd is None
            return
        assert odd is not None
        assert odd.tolist() == [True]
        assert [(each.channel, each.unit, each.row) for each in reported] == [("x", stated, 100)]

    @pytest.mark.parametrize(
        ("stated", "text", "value"),
        [
            (1, "1", MILLI),
            ("-5", "-5", -5 * MILLI),
            (NOW // MICRO, "1795780000000000", None),
            (-(10**25), "-1" + "0" * 25, None),
            (10**400, "1" + "0" * 98 + "…", None),
        ],
        ids=["read", "text", "microseconds", "beyond", "long"],
    )
    def test_the_first_is_shown_as_received_and_read_only_within_64_bits(self, stated, text, value):
        _, reported, _ = checked([{"c": "x", "t": stated}], NOW)
        assert [(each.stated, each.value) for each in reported] == [(text, value)]

    @pytest.mark.parametrize(
        ("off", "odd"), [(0, False), (86_399, False), (-86_399, False), (86_401, True), (-86_401, True)]
    )
    def test_a_day_is_allowed_by_default(self, off, odd):
        found, _, _ = checked([{"c": "x", "t": (NOW + off * SECONDS) // MILLI}], NOW)
        assert (found is not None) is odd

    def test_the_feed_says_how_far(self):
        payloads = [{"c": "x", "t": (NOW - off * SECONDS) // MILLI} for off in (1, 59, 61)]
        found, _, _ = checked(payloads, NOW, time_tolerance=60)
        assert found is not None
        assert found.tolist() == [False, False, True]

    def test_beyond_a_hundred_channels_all_others_are_reported_together(self):
        payloads = [{"c": f"x{n}", "t": 1} for n in range(500)]
        _, reported, checker = checked(payloads, NOW)
        assert len(reported) <= 101
        counts = checker.take()
        assert sum(each.messages for each in counts) == 500
        assert len(counts) <= 101
        assert checker.take() == []
