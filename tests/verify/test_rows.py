"""wsrec.verify.file_rows and utc: what UTC is held against, and what may make the stage clock go back."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from wsrec.verify.file_rows import Anchors
from wsrec.verify.utc import Utc

SECOND = 1_000_000_000
EPOCH = 1_795_000_000_000_000_000


def anchors(*offsets: int) -> Anchors:
    """Anchors a second apart on the stage clock, whose UTC is ahead of it by these offsets (ns)."""
    made = Anchors()
    for number, offset in enumerate(offsets):
        made.add(number * SECOND, number * SECOND + offset)
    return made


def off_utc(of: Anchors, *rows: tuple[int, int]) -> list[bool]:
    stages, offsets = (np.array(column) for column in zip(*rows, strict=True))
    return of.off_utc(stages, stages + offsets).tolist()


class TestAnchors:
    def test_utc_between_two_anchors_lies_between_theirs(self):
        stepped = anchors(EPOCH, EPOCH, EPOCH - 3600 * SECOND)
        half = SECOND // 2
        rows = [(half, EPOCH), (half, EPOCH - SECOND), (SECOND + half, EPOCH), (SECOND + half, EPOCH - 3600 * SECOND)]
        assert off_utc(stepped, *rows, (SECOND + half, EPOCH + SECOND)) == [False, True, False, False, True]

    def test_what_lies_outside_of_all_anchors_is_not_judged(self):
        assert off_utc(anchors(EPOCH, EPOCH), (-5, 0), (SECOND + 5, 0)) == [False, False]
        assert off_utc(Anchors(), (5, 7)) == [False]

    def test_a_stage_clock_that_goes_back_is_not_explained(self):
        assert not anchors(0, 10, 20).explain(SECOND + 1, SECOND)
        assert not Anchors().explain(1, 0)

    def test_a_counter_that_was_ahead_when_it_was_given_up_explains_by_how_much(self):
        made = Anchors()
        made.add(0, 0, "TSC", 0)
        made.add(SECOND, SECOND, "CLOCK_MONOTONIC", 2_000_000)
        made.add(2 * SECOND, 2 * SECOND, "CLOCK_MONOTONIC", 0)
        assert made.explain(SECOND + 1_900_000, SECOND)
        assert not made.explain(SECOND + 2_100_000, SECOND)
        assert not made.explain(2 * SECOND + 1, 2 * SECOND)

    def test_what_is_forgotten_is_not_missed(self):
        many = anchors(*range(EPOCH, EPOCH + 10_000, 10))
        many.forget_before(900 * SECOND)
        assert off_utc(many, (950 * SECOND + 5, EPOCH), (950 * SECOND + 5, 0)) == [False, True]


class TestUtc:
    @given(st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=20), st.integers(1, 5))
    def test_what_was_learned_comes_back_to_a_microsecond(self, offsets, size):
        stages = np.arange(1, len(offsets) + 1) * SECOND
        utc = stages + EPOCH + np.array(offsets)
        learned = Utc()
        for start in range(0, len(stages), size):
            learned.learn(stages[start : start + size], utc[start : start + size])
        for stage, expected in zip(stages.tolist(), utc.tolist(), strict=True):
            assert abs(learned.of(stage) - expected) <= 1_000
        assert learned.back(learned.of(int(stages[-1]) + 5)) == int(stages[-1]) + 5
