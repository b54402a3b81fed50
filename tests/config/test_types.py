"""wsrec.config.types: what people write, and what they are told where it cannot be read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsrec.config.settings import parse_duration, parse_size
from wsrec.config.types import CpusType, DurationType, RotateType, SizeType, UntilType


def convert(kind, text):
    return kind.convert(text, None, None)


def refused(kind, text):
    with pytest.raises(click.BadParameter) as caught:
        convert(kind, text)
    return caught.value.message


class TestDuration:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [("10s", 10), ("1h30m", 5400), ("250ms", 0.25), ("1.5s", 1.5), ("90", 90), ("2d", 172800), ("1m1s", 61)],
    )
    def test_forms(self, text, seconds):
        assert convert(DurationType(), text) == seconds

    @pytest.mark.parametrize("text", ["abc", "10x", "s", "", "10s!", "1h 30m", "-5s", "1e3", "inf", "nan", "٣s"])
    def test_anything_else_names_the_forms(self, text):
        assert "write 30s, 10m, 1h30m or 250ms" in refused(DurationType(), text)

    @pytest.mark.parametrize("text", ["0", "0s", "0.0"])
    def test_zero_is_told_what_to_do(self, text):
        assert "leave the option out" in refused(DurationType(), text)

    @given(st.integers(0, 10**6), st.integers(0, 59), st.integers(0, 59))
    def test_parts_add_up(self, hours, minutes, seconds):
        assert parse_duration(f"{hours}h{minutes}m{seconds}s") == hours * 3600 + minutes * 60 + seconds


class TestSize:
    @pytest.mark.parametrize(
        ("text", "size"),
        [
            ("8MiB", 8 << 20),
            ("512MB", 512 * 10**6),
            ("64k", 64_000),
            ("100", 100),
            ("1.5 GiB", 3 << 29),
            ("1gi", 1 << 30),
        ],
    )
    def test_forms(self, text, size):
        assert convert(SizeType(), text) == size

    @pytest.mark.parametrize("text", ["", "big", "8TiB", "-1", "0", "8 M B"])
    def test_anything_else_names_the_forms(self, text):
        assert "write 8MiB" in refused(SizeType(), text)

    @given(st.text(max_size=12))
    def test_no_text_breaks_it(self, text):
        size = parse_size(text)
        assert size is None or size >= 0


class TestRotate:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("15m", (900, 1 << 30)),
            ("512MB", (3600, 512 * 10**6)),
            ("15m,512MB", (900, 512 * 10**6)),
            ("64MiB, 2s", (2, 64 << 20)),
        ],
    )
    def test_forms(self, text, expected):
        assert convert(RotateType(), text) == expected

    @pytest.mark.parametrize("text", ["", "0s", "100", "15m,", "never", "0MB"])
    def test_anything_else_names_the_forms(self, text):
        assert "a size (512MB) or both" in refused(RotateType(), text)


class TestCpus:
    def test_forms(self):
        assert convert(CpusType(), "2") == (2,)
        assert convert(CpusType(), "2, 3") == (2, 3)

    @pytest.mark.parametrize("text", ["", "x", "1,", "1,1", "-1", "1-3", "²"])
    def test_anything_else_names_the_form(self, text):
        assert "as in 2 or 2,3" in refused(CpusType(), text)


class TestUntil:
    def test_a_time_of_day_is_the_next_one(self):
        now = datetime.now(UTC)
        for shift in (timedelta(hours=-2), timedelta(hours=2)):
            asked = now + shift
            found = convert(UntilType(), f"{asked:%H:%M}")
            assert (found.hour, found.minute) == (asked.hour, asked.minute)
            assert now - timedelta(minutes=1) < found <= now + timedelta(days=1)

    @pytest.mark.parametrize("text", ["9:05", "09:05", "9:05:30", "09:05:30Z"])
    def test_hours_may_have_one_digit(self, text):
        found = convert(UntilType(), text)
        assert (found.hour, found.minute, found.second) == (9, 5, 30 if "30" in text else 0)

    @pytest.mark.parametrize("text", ["2099-01-01T00:00:00Z", "2099-01-01T00:00:00", "2099-01-01T02:00:00+02:00"])
    def test_a_moment_is_utc_unless_it_says_otherwise(self, text):
        assert convert(UntilType(), text) == datetime(2099, 1, 1, tzinfo=UTC)

    @pytest.mark.parametrize("text", ["noon", "25:00", "12:60", "2099-13-01", ""])
    def test_anything_else_names_the_forms(self, text):
        assert "write 17:30" in refused(UntilType(), text)

    def test_the_past_is_told_what_time_it_is(self):
        assert "has passed (it is 20" in refused(UntilType(), "2020-01-01")
