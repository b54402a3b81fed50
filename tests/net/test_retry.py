"""When a host may be contacted again."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsrec.net.retry import LONGEST, capped, retry_after

NOW = datetime(2026, 11, 27, 7, 28, 0, tzinfo=UTC)


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            ("120", 120),
            (" 7 ", 7),
            ("0", None),
            ("0.0", None),
            ("0.2", None),
            ("1", 1),
            ("1.5", 1.5),
            ("Fri, 27 Nov 2026 07:29:00 GMT", 60),
            ("Friday, 27-Nov-26 07:29:00 GMT", 60),
            ("Fri Nov 27 07:29:00 2026", 60),
            ("Fri, 27 Nov 2026 08:29:00 +0100", 60),
            ("Fri, 27 Nov 2026 07:00:00 GMT", None),
            ("Fri, 27 Nov 2026 07:28:00 GMT", None),
            ("soon", None),
            ("-1", None),
            ("", None),
            ("\N{ARABIC-INDIC DIGIT ONE}", None),
            ("\N{SUPERSCRIPT TWO}", None),
            (None, None),
        ],
    )
    def test_seconds_or_a_date(self, value, seconds):
        assert retry_after(value, NOW) == seconds

    @given(st.integers(0, 10**8))
    def test_every_number_of_seconds(self, seconds):
        assert retry_after(str(seconds), NOW) == (seconds or None)

    @given(st.integers(-(10**7), 10**8))
    def test_every_date(self, seconds):
        date = NOW + timedelta(seconds=seconds)
        # of a clock that is fast every date has passed: that is no leave to come at once
        expected = seconds if seconds > 0 else None
        assert retry_after(date.strftime("%a, %d %b %Y %H:%M:%S GMT"), NOW) == expected

    @given(
        st.one_of(
            st.text(),
            st.text("0123456789.", max_size=400),
            st.text("0123456789:,+- JanFebGMT", max_size=40),
            st.tuples(st.integers(), st.integers()).map(lambda n: f"Fri, {n[0]} Nov {n[1]} 8:0:0 GMT"),
        )
    )
    def test_whatever_a_server_says_is_a_time_or_nothing(self, value):
        seconds = retry_after(value, NOW)
        assert seconds is None or (math.isfinite(seconds) and seconds >= 1)
        waited = capped(seconds)
        assert waited is None or 0 <= waited <= LONGEST
