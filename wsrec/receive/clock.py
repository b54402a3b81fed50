"""The clocks: one monotonic clock for stages 2 to 6, and anchors that tie it to UTC.

CLOCK_MONOTONIC and CLOCK_REALTIME are slewed together (clock_gettime(2), adjtime(3)), so between two steps of the
realtime clock their difference does not change: the last anchor maps any stamp, and a changed difference is a step.
"""

from __future__ import annotations

import time
from typing import NamedTuple

now = time.monotonic_ns

_TRIES = 5
_STEP_MIN_NS = 1_000


class Anchor(NamedTuple):
    """One moment on both clocks (ns); the true monotonic time of `realtime` lies within `width` around `monotonic`."""

    monotonic: int
    realtime: int
    width: int

    @property
    def offset(self) -> int:
        """What turns a monotonic stamp into ns since the epoch."""
        return self.realtime - self.monotonic


def anchor() -> Anchor:
    """Read both clocks, the realtime one between two reads of the other; the narrowest of a few tries."""
    best: Anchor | None = None
    for _ in range(_TRIES):
        before = now()
        realtime = time.time_ns()
        width = now() - before
        if best is None or width < best.width:
            best = Anchor(before + width // 2, realtime, width)
    assert best is not None
    return best


def step(previous: Anchor, current: Anchor) -> int:
    """How far (ns) the realtime clock was set between two anchors; 0 where the brackets explain the difference."""
    change = current.offset - previous.offset
    return change if abs(change) > previous.width + current.width + _STEP_MIN_NS else 0
