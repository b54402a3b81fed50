"""The clocks: one monotonic clock for stages 2 to 6, and anchors that tie it to UTC.

The stage clock is the processor's time stamp counter where the compiled core can read it, the processor says that it is
invariant and the kernel trusts it; it is mapped onto CLOCK_MONOTONIC, and held against it with every anchor. Else it is
CLOCK_MONOTONIC itself.

CLOCK_MONOTONIC and CLOCK_REALTIME are slewed together (clock_gettime(2), adjtime(3)), so between two steps of the
realtime clock their difference does not change, and a changed difference is a step. CLOCK_MONOTONIC_RAW is slewed by
nobody: a counter that goes with it is sound, however far the kernel's clocks are slewed (chrony: up to a twelfth).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    counter: Any
else:
    try:
        from wsrec.host import _clock as counter
    except ImportError:
        counter = None
    if os.environ.get("WSREC_PURE"):
        counter = None

now: Callable[[], int] = time.monotonic_ns if counter is None else counter.now
"""The stage clock, ns."""

MONOTONIC = "CLOCK_MONOTONIC"
TSC = "TSC"

_TRIES = 5
_STEP_MIN_NS = 1_000
_CLOCKSOURCES = Path("/sys/devices/system/clocksource/clocksource0/available_clocksource")
_RATE_SHIFT = 32
# A first rate from so long a time is right to a millionth; the first anchors make it better
_CALIBRATION_SECONDS = 0.03
# Two anchors so far apart give a better rate than the last one
_RATE_MIN_NS = 50_000_000
# A counter that is off CLOCK_MONOTONIC_RAW by more was stopped, moved to another machine or is no clock at all. The two
# may besides come from oscillators of their own, which differ by less than one part in 2,000
_DRIFT_MAX_NS = 1_000_000
_DIFFERENCE_MAX = 2_000


class Anchor(NamedTuple):
    """One moment on the clocks (ns): `stage` and `realtime` were read within `width`, all three within `span`."""

    stage: int
    monotonic: int
    realtime: int
    width: int
    span: int

    @property
    def offset(self) -> int:
        """What turns a stamp of the stage clock into ns since the epoch."""
        return self.realtime - self.stage


def anchor() -> Anchor:
    """Read the clocks, the realtime one between two reads of the stage clock; the narrowest of a few tries."""
    if counter is not None:
        return Anchor(*counter.anchor())
    best: Anchor | None = None
    for _ in range(_TRIES):
        before = now()
        realtime = time.time_ns()
        width = now() - before
        if best is None or width < best.width:
            # the stage clock of the Python core is CLOCK_MONOTONIC
            stage = before + width // 2
            best = Anchor(stage, stage, realtime, width, width)
    assert best is not None
    return best


def step(previous: Anchor, current: Anchor) -> int:
    """How far (ns) the realtime clock was set between two anchors; 0 where the reads' spans explain the difference."""
    change = (current.realtime - current.monotonic) - (previous.realtime - previous.monotonic)
    return change if abs(change) > previous.span + current.span + _STEP_MIN_NS else 0


class StageClock:
    """Keeps the stage clock: chooses it, calibrates it, and holds it against CLOCK_MONOTONIC.

    There is one in a process, because there is one mapping of the counter.

    Attributes:
        name: `TSC` or `CLOCK_MONOTONIC`.
        refusal: why it is not the counter; None where it is.

    """

    def __init__(self) -> None:
        self.name = MONOTONIC
        self.refusal = refusal()
        self._since = (0, 0)
        # counter and CLOCK_MONOTONIC_RAW at the last check, and how many ticks (times 2**32) the ns of the latter has
        self._raw_since = (0, 0)
        self._raw_rate = 0
        if self.refusal is None:
            self._calibrate()

    def check(self) -> int:
        """Hold the counter against CLOCK_MONOTONIC, correct it by what was found, and return that (ns, + is ahead).

        Nothing jumps: the rate is changed so that the time until the next check takes the difference back. A counter
        that is off CLOCK_MONOTONIC_RAW by more than a millisecond is given up, and the stage clock is CLOCK_MONOTONIC
        from there on; that the kernel's clocks are slewed is no fault of the counter.
        """
        if self.name != TSC:
            return 0
        ticks, monotonic, raw = counter.sample()
        mapped = counter.at(ticks)
        error: int = mapped - monotonic
        since_ticks, since_ns = self._since
        elapsed = monotonic - since_ns
        if (off := self._off_raw(ticks, raw)) is not None:
            counter.follow(0, 0, 0)
            self.name = MONOTONIC
            self.refusal = f"the counter was {off / 1e6:+.3f} ms off CLOCK_MONOTONIC_RAW"
            return error
        if elapsed >= _RATE_MIN_NS:
            # the same time again, less what the counter is ahead; where that is much, in more than one step
            back = max(-(elapsed // 2), min(error, elapsed // 2))
            rate = ((elapsed - back) << _RATE_SHIFT) // (ticks - since_ticks)
            counter.follow(ticks, mapped, rate)
            self._since = (ticks, monotonic)
        return error

    def _off_raw(self, ticks: int, raw: int) -> int | None:
        """By how much (ns) the counter was off the clock that nobody slews since the last check; None: it was sound."""
        since_ticks, since_raw = self._raw_since
        elapsed = raw - since_raw
        off = ((ticks - since_ticks) << _RATE_SHIFT) // self._raw_rate - elapsed
        if abs(off) > _DRIFT_MAX_NS + elapsed // _DIFFERENCE_MAX:
            return off
        if elapsed >= _RATE_MIN_NS:
            self._raw_rate = ((ticks - since_ticks) << _RATE_SHIFT) // elapsed
            self._raw_since = (ticks, raw)
        return None

    def _calibrate(self) -> None:
        first_ticks, first_ns, first_raw = counter.sample()
        time.sleep(_CALIBRATION_SECONDS)
        ticks, ns, raw = counter.sample()
        self._raw_since, self._raw_rate = (ticks, raw), ((ticks - first_ticks) << _RATE_SHIFT) // (raw - first_raw)
        counter.follow(ticks, ns, ((ns - first_ns) << _RATE_SHIFT) // (ticks - first_ticks))
        self._since = (ticks, ns)
        self.name = TSC


def refusal() -> str | None:
    """Why the time stamp counter cannot be the stage clock here; None where it can."""
    if counter is None:
        return "only the compiled core reads it"
    if not counter.invariant():
        return "the processor has no invariant time stamp counter"
    try:
        # the kernel takes it off this list when it finds it unstable, or not the same on every processor
        trusted = "tsc" in _CLOCKSOURCES.read_text().split()
    except OSError as error:
        return f"whether the kernel trusts it is not known: {error}"
    return None if trusted else "the kernel does not list it as a clock source"
