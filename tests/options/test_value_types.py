"""wsrec.options.value_types: values as people write them, and the errors for invalid ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsrec.options.value_types import (
    Duration,
    Processors,
    RingSize,
    Rotation,
    RotationType,
    Size,
    parse_duration,
    parse_size,
)


def refused(kind, text):
    with pytest.raises(ValueError, match=r"^expected ") as caught:
        kind.parse(text)
    return str(caught.value)


class TestDuration:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [("10s", 10), ("1h30m", 5400), ("250ms", 0.25), ("1.5s", 1.5), ("90", 90), ("2d", 172800), ("1m1s", 61)],
    )
    def test_a_number_with_units_or_of_seconds_is_a_duration(self, text, seconds):
        assert Duration().parse(text) == seconds

    @pytest.mark.parametrize("text", ["abc", "10x", "s", "", "10s!", "1h 30m", "-5s", "1e3", "inf", "nan", "٣s"])
    def test_anything_else_names_the_forms(self, text):
        assert "expected 30s, 10m, 1h30m or 250ms" in refused(Duration(), text)

    @pytest.mark.parametrize("text", ["90", "1.5", "0"])
    def test_with_units_only_a_bare_number_is_refused(self, text):
        assert "a number with its unit" in refused(Duration(unit_needed=True), text)

    def test_with_units_only_units_are_the_same(self):
        assert Duration(unit_needed=True).parse("90d") == 90 * 86400

    @pytest.mark.parametrize("text", ["0", "0s", "0.0"])
    def test_zero_has_a_hint(self, text):
        assert "omit the option" in refused(Duration(), text)

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
    def test_decimal_and_binary_units_give_bytes(self, text, size):
        assert Size().parse(text) == size

    @pytest.mark.parametrize("text", ["", "big", "8TiB", "-1", "0", "8 M B"])
    def test_anything_else_names_the_forms(self, text):
        assert "expected 8MiB" in refused(Size(), text)

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
    def test_a_part_that_is_left_out_has_its_default(self, text, expected):
        assert RotationType().parse(text) == expected

    @pytest.mark.parametrize("text", ["", "0s", "100", "15m,", "never", "0MB"])
    def test_anything_else_names_the_forms(self, text):
        assert "a size (512MB) or both" in refused(RotationType(), text)


class TestCpus:
    def test_forms(self):
        assert Processors().parse("2") == (2,)
        assert Processors().parse("2, 3") == (2, 3)

    @pytest.mark.parametrize("text", ["", "x", "1,", "1,1", "-1", "1-3", "²"])
    def test_anything_else_names_the_form(self, text):
        assert "as in 2 or 2,3" in refused(Processors(), text)


class TestWriting:
    """What `--help` and the page say of a default is read back as the default."""

    @given(st.integers(1, 10**9))
    def test_of_durations(self, milliseconds):
        seconds = milliseconds / 1000
        assert Duration().parse(Duration().write(seconds)) == pytest.approx(seconds, abs=1e-8)

    @given(st.integers(1, 10**15 - 1))
    def test_of_sizes(self, size):
        assert Size().parse(Size().write(size)) == size

    @given(st.integers(1, 10**6), st.integers(1, 1 << 40))
    def test_of_rotations(self, seconds, size):
        assert RotationType().parse(RotationType().write(Rotation(seconds, size))) == (seconds, size)

    @pytest.mark.parametrize("size", [None, 64 << 10, 8 << 20])
    def test_of_rings(self, size):
        assert RingSize().parse(RingSize().write(size)) == size

    @pytest.mark.parametrize(
        ("seconds", "text"), [(3600, "1h"), (0.1, "100ms"), (1, "1s"), (5400, "90m"), (90, "90s"), (0.0001, "0.0001s")]
    )
    def test_in_the_largest_unit(self, seconds, text):
        assert Duration().write(seconds) == text
