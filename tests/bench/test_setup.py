"""Where the bench's processes run."""

from __future__ import annotations

import os

import pytest

from wsrec.bench import setup
from wsrec.bench.setup import Placement, off_receiver_cpu, place


@pytest.fixture
def processors(monkeypatch: pytest.MonkeyPatch):
    def have(*allowed: int, cores: int = 1) -> None:
        """These processors, `cores` after each other on a core."""
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(allowed), raising=False)
        siblings = {cpu: frozenset(c for c in allowed if c // cores == cpu // cores) for cpu in allowed}
        monkeypatch.setattr(setup, "_siblings", siblings.__getitem__)

    return have


class TestPlace:
    def test_one_processor_is_not_pinned_to(self, processors):
        processors(3)
        assert place(None, None) == Placement(None, None, frozenset({3}))

    def test_on_two_processors_the_sender_has_the_other_one(self, processors):
        processors(0, 1)
        assert place(None, None) == Placement(1, 0, frozenset({0}))
        assert place(0, None) == Placement(0, 1, frozenset({1}))
        assert place(None, 1) == Placement(0, 1, frozenset({1}))

    def test_the_receiver_has_a_core_for_itself(self, processors):
        processors(*range(8), cores=2)
        assert place(None, None) == Placement(7, 0, frozenset({1, 2, 3, 4, 5}))
        assert place(0, None) == Placement(0, 2, frozenset({3, 4, 5, 6, 7}))


class TestAside:
    def test_it_is_taken_back(self):
        before = os.sched_getaffinity(0)
        with off_receiver_cpu(place(None, None)):
            pass
        assert os.sched_getaffinity(0) == before
