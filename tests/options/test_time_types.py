"""wsrec.options.time_types: points in time as people write them, and the errors for invalid ones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.options.test_value_types import refused
from wsrec.options.time_types import Instant, Moment


class TestUntil:
    def test_a_time_of_day_is_the_next_one(self):
        now = datetime.now(UTC)
        for shift in (timedelta(hours=-2), timedelta(hours=2)):
            requested = now + shift
            found = Moment().parse(f"{requested:%H:%M}")
            assert (found.hour, found.minute) == (requested.hour, requested.minute)
            assert now - timedelta(minutes=1) < found <= now + timedelta(days=1)

    @pytest.mark.parametrize("text", ["9:05", "09:05", "9:05:30", "09:05:30Z"])
    def test_hours_may_have_one_digit(self, text):
        found = Moment().parse(text)
        assert (found.hour, found.minute, found.second) == (9, 5, 30 if "30" in text else 0)

    @pytest.mark.parametrize("text", ["2099-01-01T00:00:00Z", "2099-01-01T00:00:00", "2099-01-01T02:00:00+02:00"])
    def test_a_moment_is_utc_unless_it_says_otherwise(self, text):
        assert Moment().parse(text) == datetime(2099, 1, 1, tzinfo=UTC)

    @pytest.mark.parametrize("text", ["noon", "25:00", "12:60", "2099-13-01", ""])
    def test_anything_else_names_the_forms(self, text):
        assert "expected 17:30" in refused(Moment(), text)

    def test_a_past_time_is_refused_with_the_current_time(self):
        assert "has passed (it is 20" in refused(Moment(), "2020-01-01")


def ns(moment: datetime) -> int:
    return int(moment.timestamp()) * 10**9


class TestInstant:
    @pytest.mark.parametrize("text", ["2026-11-22T13:00:00Z", "2026-11-22 13:00", "2026-11-22T15:00+02:00"])
    def test_a_date_and_time_is_utc_unless_it_says_otherwise(self, text):
        assert Instant().parse(text) == ns(datetime(2026, 11, 22, 13, tzinfo=UTC))

    def test_digits_alone_are_ns(self):
        assert Instant().parse("1795352400123456789") == 1795352400123456789

    @pytest.mark.parametrize("text", ["9:05", "09:05:30", "9:05Z"])
    def test_a_time_of_day_is_today_s(self, text):
        before = datetime.now(UTC)
        found = Instant().parse(text)
        times = (before, datetime.now(UTC))
        second = 30 if "30" in text else 0
        assert found in [ns(day.replace(hour=9, minute=5, second=second, microsecond=0)) for day in times]

    @pytest.mark.parametrize(("text", "seconds"), [("-10m", 600), ("-1h30m", 5400), ("-250ms", 0.25)])
    def test_a_duration_with_a_minus_is_that_long_ago(self, text, seconds):
        before = datetime.now(UTC) - timedelta(seconds=seconds)
        found = Instant().parse(text)
        after = datetime.now(UTC) - timedelta(seconds=seconds)
        assert before.timestamp() - 1e-3 <= found / 1e9 <= after.timestamp() + 1e-3

    @pytest.mark.parametrize("text", ["yesterday", "25:00", "12:60", "-10", "10m", "-10x", "1:2026-11-22", ""])
    def test_anything_else_names_the_forms(self, text):
        assert "17:30 (today, UTC), -10m (ago)" in refused(Instant(), text)
