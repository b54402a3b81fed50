"""Where files stand, and which of them a row belongs to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsrec.format.layout import EVENTS, HOUR_NS, MESSAGES, Place, hour, other, period, place, read_place

# 2026-11-22T13:59:59 UTC
START = 1_795_355_999_000_000_000
OUT = Path("/data/out")
NAMES = st.text("abcXYZ019._-", min_size=1, max_size=12).filter(lambda name: name not in (".", ".."))


class TestPeriod:
    def test_a_file_ends_with_the_hour_and_with_its_time_in_it(self):
        times = np.array([0, 899, 900, 1800, 3599, 3600, 7199, 7200], np.int64) * 1_000_000_000
        files = period(times, 900.0)
        assert (np.diff(files) > 0).tolist() == [False, True, True, True, True, True, True]
        assert (np.diff(period(times, 3600.0)) > 0).tolist() == [False, False, False, False, True, False, True]

    @pytest.mark.parametrize("seconds", [3600.0, 86400.0, 1e12, float("inf")])
    def test_more_than_an_hour_is_an_hour(self, seconds):
        times = np.array([START, START + 2_000_000_000], np.int64)
        assert period(times, seconds).tolist() == period(times, 3600.0).tolist()

    def test_it_never_goes_back(self):
        times = np.arange(START - 10**10, START + 10**10, 10**7, dtype=np.int64)
        for seconds in (0.001, 0.7, 7.0, 3599.9):
            assert (np.diff(period(times, seconds)) >= 0).all()


class TestPlace:
    def test_it_is_a_path_of_hive_partitions(self):
        assert str(place("binance", START, "20261122T130000Z-a1", 7)) == (
            "feed=binance/date=2026-11-22/hour=13/20261122T130000Z-a1-000007.parquet"
        )

    @settings(deadline=None)
    @given(st.integers(0, 4 * 10**18), NAMES, NAMES, st.integers(0, 10**9), st.sampled_from([MESSAGES, EVENTS]))
    def test_what_is_written_is_read_back(self, began, feed, session, number, kind):
        path = OUT / kind / place(feed, began, session, number)
        assert read_place(OUT, path) == Place(kind, feed, hour(began), session, number)

    @settings(deadline=None)
    @given(st.integers(0, 4 * 10**18), st.floats(0.001, 1e6))
    def test_a_file_lies_in_the_hour_of_all_its_rows(self, handoff, seconds):
        """Rows of one period have one folder."""
        others = handoff + np.arange(-3, 4) * 1_000_000_000
        same = period(others, seconds) == period(handoff, seconds)
        assert {place("f", int(each), "s", 1) for each in others[same]} == {place("f", handoff, "s", 1)}
        assert (hour(others[same]) == handoff // HOUR_NS).all()

    @pytest.mark.parametrize(
        "path",
        [
            "messages/feed=a/date=2026-11-22/s-000001.parquet",
            "messages/feed=a/hour=13/date=2026-11-22/s-000001.parquet",
            "messages/feed=a/date=2026-11-22/hour=13/s.parquet",
            "other/feed=a/date=2026-11-22/hour=13/s-000001.parquet",
            "messages/../date=2026-11-22/hour=13/s-000001.parquet",
        ],
    )
    def test_no_place_of_ours(self, path):
        assert read_place(OUT, OUT / path) is None

    def test_a_folder_of_no_hour(self):
        found = read_place(OUT, OUT / "messages/feed=a/date=2026-11-31/hour=13/s-000001.parquet")
        assert found == Place(MESSAGES, "a", None, "s", 1)

    def test_the_other_file_of_a_pair(self):
        path = OUT / MESSAGES / place("a", START, "s", 1)
        assert other(path) == OUT / EVENTS / place("a", START, "s", 1)
        assert other(other(path) or OUT) == path
        assert other(Path("/tmp/a.parquet")) is None
