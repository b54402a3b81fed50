"""wsrec.units: figures and words as printed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from wsrec.units import clean, did_you_mean, duration, plural, short_count, size, system_error, utc


class TestDuration:
    @pytest.mark.parametrize(
        ("ns", "text"),
        [
            (None, "-"),
            (0, "0 ns"),
            (7, "7 ns"),
            (999, "999 ns"),
            (999.6, "1.00 µs"),
            (1000, "1.00 µs"),
            (9_994, "9.99 µs"),
            (9_996, "10.0 µs"),
            (99_960, "100 µs"),
            (999_499, "999 µs"),
            (999_950, "1.00 ms"),
            (-1_270_000_000, "-1.27 s"),
            (59_990_000_000, "60.0 s"),
            (903_000_000_000, "903 s"),
            (1_020_000_000_000, "17.0 min"),
            (3_599_000_000_000, "60.0 min"),
            (7_200_000_000_000, "2.00 h"),
            (56 * 365 * 86_400_000_000_000, "20,440 d"),
        ],
    )
    def test_three_digits_and_a_unit(self, ns: float | None, text: str) -> None:
        assert duration(ns) == text

    def test_without_space(self) -> None:
        assert duration(1_234, "") == "1.23µs"


class TestAmounts:
    @pytest.mark.parametrize(
        ("number", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (58_682_504, "58.7 MB")]
    )
    def test_size(self, number: int, text: str) -> None:
        assert size(number) == text

    @pytest.mark.parametrize(
        ("number", "text"), [(7_051, "7,051"), (9_999, "9,999"), (10_000, "10.0k"), (1_234_567, "1.23M")]
    )
    def test_short_count(self, number: int, text: str) -> None:
        assert short_count(number) == text


class TestUtc:
    def test_milliseconds_rounded_down(self) -> None:
        assert utc(1_795_352_400_123_999_999) == "2026-11-22 13:00:00.123"
        assert utc(1_795_352_400_123_999_999, date=False) == "13:00:00.123"

    def test_beyond_the_calendar(self) -> None:
        assert utc(2**80) == f"{2**80} ns"


class TestClean:
    @pytest.mark.parametrize(
        ("text", "safe"),
        [
            ("btcusdt@trade", "btcusdt@trade"),
            ("µ 取引 🚀", "µ 取引 🚀"),
            ("\x1b[2J", "\\x1b[2J"),
            ("a\nb\tc\x9b", "a\\nb\\tc\\x9b"),
            ("\u202egpj", "\\u202egpj"),
            ("\udc80", "\\udc80"),
            ("[bold]x[/]", "[bold]x[/]"),
        ],
    )
    def test_what_cannot_be_printed_is_spelled_out(self, text: str, safe: str) -> None:
        assert clean(text) == safe

    def test_long_text_is_cut(self) -> None:
        assert clean("x" * 50, 10) == "x" * 9 + "…"
        assert clean("\x00" * 50, 10).endswith("…")


@pytest.mark.parametrize(("number", "text"), [(0, "0 files"), (1, "1 file"), (2, "2 files"), (1234, "1,234 files")])
def test_a_count_has_its_word_in_singular_or_plural(number: int, text: str):
    assert plural(number, "file") == text


class TestDidYouMean:
    KNOWN = ("ping_interval", "ping_timeout", "Url", "symbols")

    @pytest.mark.parametrize(
        ("word", "question"),
        [
            ("ping_intervl", "did you mean `ping_interval`?"),
            ("URL", "did you mean `Url`?"),
            ("symbol", "did you mean `symbols`?"),
            ("proxy", ""),
            ("", ""),
        ],
    )
    def test_names_the_nearest_word_and_none_that_is_far(self, word, question):
        assert did_you_mean(word, self.KNOWN) == question

    def test_names_several_where_that_is_wanted(self):
        known = ["depth10", "depth20", "trade"]
        assert did_you_mean("depth5", known, most=2) == "did you mean `depth20` or `depth10`?"

    def test_takes_no_time_for_what_is_no_word(self):
        assert did_you_mean("symbols" * 100_000, self.KNOWN * 1000) == ""


class TestSystemError:
    def test_has_no_number(self):
        with pytest.raises(NotADirectoryError) as caught:
            Path("/dev/null/x").read_bytes()
        assert system_error(caught.value) == "Not a directory: '/dev/null/x'"

    def test_without_a_file(self):
        assert system_error(OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))) == "Cannot allocate memory"

    def test_of_a_library(self):
        assert system_error(OSError("no such device")) == "no such device"
