"""Clocks: one monotonic clock for stages 2 to 6, and anchors that relate it to UTC.

The stage clock is the processor's time stamp counter if the compiled core can read it, the processor reports it as
invariant and the kernel trusts it; it is mapped onto CLOCK_MONOTONIC and compared with it at every anchor. Otherwise it
is CLOCK_MONOTONIC itself.

CLOCK_MONOTONIC and CLOCK_REALTIME are slewed together (clock_gettime(2), adjtime(3)), so between two steps of the
realtime clock their difference is constant, and a changed difference is a step. CLOCK_MONOTONIC_RAW is never slewed: a
counter that agrees with it is sound, however far the kernel's clocks are slewed (chrony: up to a twelfth).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from wsrec.units import system_error

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
# A first rate measured over this time is accurate to a millionth; the first anchors refine it
_CALIBRATION_SECONDS = 0.03
# Minimum distance of two anchors for a better rate than the last one (ns)
_RATE_MIN_NS = 50_000_000
# A counter that deviates from CLOCK_MONOTONIC_RAW by more was stopped, moved to another machine or is broken. On top,
# the two may run on different oscillators, which differ by less than one part in 2,000
_DRIFT_MAX_NS = 1_000_000
_DIFFERENCE_MAX = 2_000


class Anchor(NamedTuple):
    """One moment on three clocks (ns): `stage` and `realtime` were read within `width`, all three within `span`."""

    stage: int
    monotonic: int
    realtime: int
    width: int
    span: int

    @property
    def offset(self) -> int:
        """Offset from the stage clock to ns since the epoch."""
        return self.realtime - self.stage


def anchor() -> Anchor:
    """Read the clocks, the realtime one between two reads of the stage clock; the narrowest of several tries."""
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
    """Step (ns) of the realtime clock between two anchors; 0 if the width of the reads explains the difference."""
    change = (current.realtime - current.monotonic) - (previous.realtime - previous.monotonic)
    return change if abs(change) > previous.span + current.span + _STEP_MIN_NS else 0


class StageClock:
    """The stage clock of this process: selects, calibrates and checks it against CLOCK_MONOTONIC.

    One per process, because there is one mapping of the counter, which every stamp of the process goes by. As a context
    manager it ends with the context: the clock of the process is CLOCK_MONOTONIC again.

    Attributes:
        name: `TSC` or `CLOCK_MONOTONIC`.
        refusal: why the counter is not used; None if it is.

    """

    def __init__(self) -> None:
        self.name = MONOTONIC
        self.refusal = refusal()
        self._since = (0, 0)
        # counter and CLOCK_MONOTONIC_RAW at the last check, and the counter's ticks (times 2**32) per ns of the latter
        self._raw_since = (0, 0)
        self._raw_rate = 0
        if self.refusal is None:
            self._calibrate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.name == TSC:
            self._give_up()

    def check(self) -> int:
        """Compare the counter with CLOCK_MONOTONIC and correct its rate; returns the error (ns, positive: ahead).

        The clock never jumps: the rate is adjusted so that the difference is gone by the next check. A counter that
        deviates from CLOCK_MONOTONIC_RAW by more than a millisecond is abandoned, and the stage clock is
        CLOCK_MONOTONIC from then on; slewing of the kernel's clocks does not count against the counter.
        """
        if self.name != TSC:
            return 0
        ticks, monotonic, raw = counter.sample()
        mapped = counter.at(ticks)
        error: int = mapped - monotonic
        since_ticks, since_ns = self._since
        elapsed = monotonic - since_ns
        if (off := self._off_raw(ticks, raw)) is not None:
            self._give_up()
            self.refusal = f"the counter was {off / 1e6:+.3f} ms off CLOCK_MONOTONIC_RAW"
            return error
        if elapsed >= _RATE_MIN_NS:
            # assume an equal interval until the next check; a large error is taken back in several steps
            back = max(-(elapsed // 2), min(error, elapsed // 2))
            rate = ((elapsed - back) << _RATE_SHIFT) // (ticks - since_ticks)
            counter.follow(ticks, mapped, rate)
            self._since = (ticks, monotonic)
        return error

    def _off_raw(self, ticks: int, raw: int) -> int | None:
        """Deviation (ns) of the counter from CLOCK_MONOTONIC_RAW since the last check; None if within bounds."""
        since_ticks, since_raw = self._raw_since
        elapsed = raw - since_raw
        off = ((ticks - since_ticks) << _RATE_SHIFT) // self._raw_rate - elapsed
        if abs(off) > _DRIFT_MAX_NS + elapsed // _DIFFERENCE_MAX:
            return off
        if elapsed >= _RATE_MIN_NS:
            self._raw_rate = ((ticks - since_ticks) << _RATE_SHIFT) // elapsed
            self._raw_since = (ticks, raw)
        return None

    def _give_up(self) -> None:
        counter.follow(0, 0, 0)
        self.name = MONOTONIC

    def _calibrate(self) -> None:
        first_ticks, first_ns, first_raw = counter.sample()
        time.sleep(_CALIBRATION_SECONDS)
        ticks, ns, raw = counter.sample()
        self._raw_since, self._raw_rate = (ticks, raw), ((ticks - first_ticks) << _RATE_SHIFT) // (raw - first_raw)
        counter.follow(ticks, ns, ((ns - first_ns) << _RATE_SHIFT) // (ticks - first_ticks))
        self._since = (ticks, ns)
        self.name = TSC


def refusal() -> str | None:
    """Why the time stamp counter cannot be the stage clock on this machine; None if it can."""
    if counter is None:
        return "only the compiled core can read it"
    if not counter.invariant():
        return "the processor has no invariant time stamp counter"
    try:
        # the kernel removes it from this list if it is unstable, or differs between processors
        trusted = "tsc" in _CLOCKSOURCES.read_text().split()
    except OSError as error:
        return f"unknown whether the kernel trusts it: {system_error(error)}"
    return None if trusted else "the kernel does not list it as a clock source"
