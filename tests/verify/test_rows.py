"""wsrec.verify.rows: what may make `handoff_time` go back, and what may not."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wsrec.verify.rows import Anchors

SECOND = 1_000_000_000


def anchors(*offsets: int) -> Anchors:
    """Anchors a second apart on the stage clock, whose UTC is ahead of it by these offsets (ns)."""
    made = Anchors()
    for number, offset in enumerate(offsets):
        made.add(number * SECOND + offset, number * SECOND, number * SECOND + offset)
    return made


class TestAnchors:
    def test_a_step_of_the_clock_explains_what_it_moved(self):
        stepped = anchors(100, 100, 40, 40)
        # 5 ns before the third anchor and 3 ns behind it, on the stage clock
        assert stepped.explain(2 * SECOND - 5 + 100, 2 * SECOND + 3 + 40)

    def test_no_more_than_it_moved(self):
        assert not anchors(100, 100, 40, 40).explain(2 * SECOND + 100, 2 * SECOND + 39)

    def test_not_elsewhere(self):
        assert not anchors(100, 100, 40, 40).explain(3 * SECOND + 60, 3 * SECOND + 40)
        assert not anchors(100, 100, 40, 40).explain(SECOND // 2 + 60, SECOND // 2)

    def test_a_clock_that_was_not_set_back_explains_nothing(self):
        assert not anchors(0, 10, 20).explain(SECOND + 1, SECOND)
        assert not Anchors().explain(1, 0)

    def test_a_counter_that_was_ahead_when_it_was_given_up_explains_by_how_much(self):
        made = Anchors()
        made.add(0, 0, 0, "TSC", 0)
        made.add(SECOND, SECOND, SECOND, "CLOCK_MONOTONIC", 2_000_000)
        made.add(2 * SECOND, 2 * SECOND, 2 * SECOND, "CLOCK_MONOTONIC", 0)
        assert made.explain(SECOND + 1_900_000, SECOND)
        assert not made.explain(SECOND + 2_100_000, SECOND)
        assert not made.explain(2 * SECOND + 1, 2 * SECOND)

    @given(st.lists(st.integers(-1000, 1000), min_size=2, max_size=10), st.data())
    def test_rows_in_order_on_the_stage_clock_are_always_explained(self, offsets, data):
        moments = st.integers(0, len(offsets) * SECOND - 1)
        first, second = sorted((data.draw(moments), data.draw(moments)))
        before, after = (moment + offsets[moment // SECOND] for moment in (first, second))
        assert after >= before or anchors(*offsets).explain(before, after)

    def test_what_is_forgotten_is_not_missed(self):
        many = anchors(*range(10_000, 0, -10))
        many.forget_before(900 * SECOND)
        assert many.explain(950 * SECOND - 1 + 510, 950 * SECOND + 500)
