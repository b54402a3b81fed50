"""The fuzzing by mutation, for as long as a test may take; scripts/sanitize runs it for longer."""

from __future__ import annotations

import pytest

from tests.fuzz.mutations import Mutations


@pytest.mark.parametrize("way", [Mutations.frames, Mutations.fields, Mutations.edges, Mutations.rows])
def test_all_implementations_take_it_alike(way):
    mutations = Mutations(seed=1)
    for _ in range({Mutations.edges: 20, Mutations.rows: 100}.get(way, 200)):
        way(mutations)


def test_a_seed_says_which_inputs_come():
    first, again, other = Mutations(1), Mutations(1), Mutations(2)
    assert first.wire() == again.wire() != other.wire()
