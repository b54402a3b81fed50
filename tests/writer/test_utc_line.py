"""wsrec.writer.utc_line: UTC is never off by more than is stated, however the clocks are slewed and set."""

from __future__ import annotations

import time

import pytest

from tests.writer import slewing
from wsrec.host import clock


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    monkeypatch.setattr(clock, "counter", clock.counter)
    monkeypatch.setattr(clock, "refusal", clock.refusal)
    monkeypatch.setattr(time, "sleep", time.sleep)


@pytest.mark.parametrize("tsc", [True, False], ids=["tsc", "monotonic"])
@pytest.mark.parametrize("ppm", [0.1, 10, 500, 10_000, 100_000])
def test_the_bound_holds_while_the_clock_is_slewed(ppm, tsc):
    result = slewing.run(ppm, tsc=tsc, seed=int(ppm), seconds=6)
    assert result.broken == 0
    # it is a bound, and no excuse: a tenth of the rate a second, the intervals beside it, and the brackets
    assert result.bound <= 300 + (6 * ppm * 100 if tsc else 0)
    # and the line between two anchors is off only where the rate changed in between: by a quarter of what it moved
    assert result.error <= 100 + (0.3 * ppm * 100 if tsc else 0)


@pytest.mark.parametrize("step", [-3_600 * slewing.SECOND, 1_000_000])
def test_it_covers_a_step(step):
    result = slewing.run(10, tsc=True, steps=(step,), seconds=6)
    assert result.broken == 0
    assert abs(step) <= result.bound + 10_000
