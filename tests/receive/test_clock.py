"""wsrec.receive.clock: monotonic stamps tied to UTC."""

from __future__ import annotations

import time

import pytest

from wsrec.receive import clock
from wsrec.receive.clock import Anchor, anchor, step


class TestAnchor:
    def test_lies_between_the_clock_before_and_after(self):
        before, utc = time.monotonic_ns(), time.time_ns()
        found = anchor()
        assert before <= found.monotonic - found.width // 2
        assert found.monotonic + found.width // 2 <= time.monotonic_ns()
        assert utc <= found.realtime <= time.time_ns()
        assert found.width >= 0

    def test_maps_a_stamp_onto_utc(self):
        offset = anchor().offset
        before, stamp, after = time.time_ns(), time.monotonic_ns(), time.time_ns()
        assert before - 1_000_000 <= stamp + offset <= after + 1_000_000

    def test_the_narrowest_of_some_tries_is_taken(self, monkeypatch):
        reads = iter([0, 900, 1000, 1050, 2000, 2700, 3000, 3600, 4000, 4500])
        monkeypatch.setattr(clock, "now", lambda: next(reads))
        found = anchor()
        assert (found.monotonic, found.width) == (1025, 50)


class TestStep:
    FIRST = Anchor(monotonic=1_000_000, realtime=5_000_000_000, width=100)

    @pytest.mark.parametrize("change", [-1_300, -1, 0, 1, 1_300])
    def test_a_difference_that_the_brackets_explain_is_none(self, change):
        later = Anchor(2_000_000, 5_001_000_000 + change, width=200)
        assert step(self.FIRST, later) == 0

    @pytest.mark.parametrize("change", [-10_000_000_000, -1_301, 1_301, 3_600_000_000_000])
    def test_a_larger_one_is_how_far_the_clock_was_set(self, change):
        later = Anchor(2_000_000, 5_001_000_000 + change, width=200)
        assert step(self.FIRST, later) == change

    def test_two_real_anchors_are_no_step(self):
        assert abs(step(anchor(), anchor())) < 100_000
