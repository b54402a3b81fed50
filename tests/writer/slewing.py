"""A machine whose clocks are slewed and set, its UTC compared with what a recording says. Run it for a table."""

from __future__ import annotations

import random
import sys
from typing import NamedTuple

import numpy as np

from wsrec.host import clock
from wsrec.host.clock import StageClock
from wsrec.receive.process import ANCHOR_INTERVAL
from wsrec.writer.utc_line import StoredAnchor, UtcBound, offsets

SECOND = 1_000_000_000
EPOCH = 1_795_000_000_000_000_000
_TICK = 1_000_000
_WIDTH = 50


class Result(NamedTuple):
    """Largest error and largest bound of a run (ns), and how many of its moments were off by more than was stated."""

    error: int
    bound: int
    broken: int


class Machine:
    """Its processor's counter runs at 2 ticks a ns; `rate` is by how many millionths the kernel's clocks are slewed."""

    def __init__(self) -> None:
        self.raw, self.monotonic, self.ahead, self.rate = 10**15, 2 * 10**15, EPOCH, 0.0
        self.base = (0, 0, 0)
        self._rest = 0.0

    def pass_time(self, ns: int) -> None:
        self.raw += ns
        moved = ns * (1 + self.rate / 1e6) + self._rest
        self.monotonic += int(moved)
        self._rest = moved - int(moved)

    # what the compiled clock offers

    def invariant(self) -> bool:
        return True

    def sample(self) -> tuple[int, int, int]:
        return 2 * self.raw, self.monotonic, self.raw

    def at(self, ticks: int) -> int:
        base_ticks, base_ns, rate = self.base
        return base_ns + ((ticks - base_ticks) * rate >> 32)

    def follow(self, *base: int) -> None:
        self.base = base

    @property
    def stage(self) -> int:
        return self.at(2 * self.raw) if self.base[2] else self.monotonic


def run(ppm: float, *, tsc: bool, steps: tuple[int, ...] = (), seed: int = 1, seconds: int = 12) -> Result:
    """Slew there and back at random, and set the clock by each of `steps` (ns) at some moment."""
    chance = random.Random(seed)
    machine = Machine()
    kept = None
    if tsc:
        clock.counter, clock.time.sleep = machine, lambda seconds: machine.pass_time(int(seconds * SECOND))
        clock.refusal = lambda: None
        kept = StageClock()
    bounds = UtcBound()
    # anywhere between two anchors, but not there and back between the same two: that would not be seen
    changes = set()
    tick = 2 * SECOND // _TICK
    while (tick := tick + chance.randrange(150, 600)) < seconds * SECOND // _TICK:
        changes.add(tick)
    when = {chance.randrange(SECOND, seconds * SECOND) // _TICK: step for step in steps}
    rows: list[tuple[int, int]] = []
    worst = stated = broken = 0
    before = None
    stepped = 0
    interval = int(ANCHOR_INTERVAL * SECOND) // _TICK
    for tick in range(seconds * SECOND // _TICK):
        if tick % interval == 0:
            if kept is not None:
                kept.check()
                assert kept.name == clock.TSC, kept.refusal
            # a reading lies anywhere within its bracket
            stage, realtime = machine.stage, machine.monotonic + machine.ahead + chance.randint(-_WIDTH, _WIDTH) // 2
            after = StoredAnchor(stage, realtime, _WIDTH, clock.TSC if tsc else clock.MONOTONIC, stepped)
            if before is not None:
                _, bound = bounds.add(after)
                mapped, true = np.array(rows).T
                error = np.abs(mapped + offsets(before, after, mapped) - true)
                worst, broken = max(worst, int(error.max())), broken + int(np.count_nonzero(error > bound))
                stated = max(stated, bound)
            else:
                bounds.add(after)
            rows, before, stepped = [], after, 0
        machine.pass_time(chance.randrange(_TICK))
        rows.append((machine.stage, machine.monotonic + machine.ahead))
        machine.pass_time(_TICK // 2)
        if tick in changes:
            machine.rate = 0.0 if machine.rate else chance.choice((-1, 1)) * ppm
        machine.ahead += when.get(tick, 0)
        stepped += when.get(tick, 0)
    return Result(worst, stated, broken)


def main() -> None:
    print(f"{'slew':>12} {'clock':>16} {'largest error':>14} {'largest bound':>14} {'beyond it':>9}")
    for ppm in (0.1, 1, 10, 100, 500, 2_000, 10_000, 83_333, 100_000):
        for tsc in (True, False):
            runs = [run(ppm, tsc=tsc, seed=seed) for seed in range(4)]
            error, bound, broken = max(r.error for r in runs), max(r.bound for r in runs), sum(r.broken for r in runs)
            name = "TSC" if tsc else "CLOCK_MONOTONIC"
            print(f"{ppm:>8,.1f} ppm {name:>16} {error / 1e3:>11,.2f} us {bound / 1e3:>11,.2f} us {broken:>9}")
    for step in (-3600 * SECOND, 1_000_000):
        result = run(10, tsc=True, steps=(step,))
        print(f"step {step / SECOND:+g} s: error {result.error / 1e9:.6f} s, bound {result.bound / 1e9:.6f} s")


if __name__ == "__main__":
    sys.exit(main())
