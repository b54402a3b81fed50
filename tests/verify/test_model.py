"""Random sessions, and a truth that is kept beside them: nothing that misses a message is called proved or unbroken.

`scripts/verify-model` plays thousands of them.
"""

from __future__ import annotations

import pytest

from tests.effort import thinned
from tests.verify.play import play


@pytest.mark.parametrize("seed", thinned(range(0, 40, 10)))
def test_no_interval_that_misses_a_message_is_called_proved_or_unbroken(seed, tmp_path):
    for each in range(seed, seed + 10):
        _, wrong = play(each, tmp_path / str(each))
        assert wrong == []


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(8110, id="a writer that has not recorded that it took over"),
        pytest.param(8605, id="what only the other feed had before its writer died"),
        pytest.param(4566, id="all that came was lost"),
        pytest.param(6054, id="nothing came, and what was sent holds"),
    ],
)
def test_what_recorder_and_verification_end_with_agrees(seed, tmp_path):
    _, wrong = play(seed, tmp_path / "out")
    assert wrong == []
