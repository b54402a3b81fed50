"""tests.endurance.accounting: the measure itself, so that a matrix without findings means something."""

from __future__ import annotations

from types import SimpleNamespace
from typing import ClassVar

from tests.endurance.accounting import Account, Run, merged, without

MS = 1_000_000
# one message each ms, number n at n ms
EXCHANGE = SimpleNamespace(number_at=lambda when: when // MS)


def silent(missing: Run, named: list[tuple[int, int]], cut: int, recorded_in: list[tuple[int, int]]) -> int:
    found = Account(0, 10_000, 1, 0, [missing], 0, [], named, recorded_in, {})
    return found.silent(EXCHANGE, cut * MS)


def test_union_and_difference():
    assert merged([(5, 6), (1, 2), (100 * MS, 200 * MS), (150 * MS, 170 * MS)]) == [(1, 6), (100 * MS, 200 * MS)]
    assert without([(0, 10)], [(2, 3), (5, 20)]) == [(0, 2), (3, 5)]
    assert without([(0, 10)], []) == [(0, 10)]


class TestSilent:
    HOLE = Run(100, 199, 99 * MS, 200 * MS, 199 * MS)
    ALL: ClassVar = [(0, 10_000 * MS)]

    def test_what_is_named(self):
        assert silent(self.HOLE, [(98 * MS, 201 * MS)], 150, self.ALL) == 0

    def test_without_a_word(self):
        assert silent(self.HOLE, [], 150, self.ALL) == 100

    def test_before_the_kill_only(self):
        assert silent(self.HOLE, [(98 * MS, 160 * MS)], 150, self.ALL) == 50

    def test_a_few_at_the_kill_when_the_session_ends_with_its_last_row(self):
        few = Run(100, 105, 99 * MS, 2000 * MS, 105 * MS)
        assert silent(few, [], 106, [(0, 99 * MS), (2000 * MS, 3000 * MS)]) == 6
        assert silent(few, [(99 * MS, 1000 * MS)], 106, [(0, 99 * MS), (2000 * MS, 3000 * MS)]) == 0

    def test_between_two_sessions_nothing_was_promised(self):
        assert silent(self.HOLE, [], 50, [(0, 100 * MS), (190 * MS, 10_000 * MS)]) == 0
        assert silent(self.HOLE, [], 50, [(0, 150 * MS), (190 * MS, 10_000 * MS)]) == 100
