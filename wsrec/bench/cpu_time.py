"""CPU time of a process, and how much of it was spent in user space.

Linux counts a process's CPU time exactly, but tells user space from the kernel only by its ticks, mostly 250 a second.
So the share is that of the ticks, and the shorter a measurement is, the rougher: 100 ticks give it to within some 5 %.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

# the kernel's clock of a process: its number inverted, shifted, with the kind in the last bits (posix-timers.h)
_ALL, _USER = 0, 1


class CpuTime(NamedTuple):
    """CPU time (ns): all of it; and by ticks, all and in user space, or None where the system does not tell."""

    total_ns: int
    ticks_ns: tuple[int, int] | None

    def since(self, before: CpuTime) -> tuple[int, float | None]:
        """What was spent since `before` (ns): all of it, and in user space; None if no tick fell into it."""
        total = self.total_ns - before.total_ns
        if self.ticks_ns is None or before.ticks_ns is None:
            return total, None
        ticks, user = (now - then for now, then in zip(self.ticks_ns, before.ticks_ns, strict=True))
        return total, total * user / ticks if ticks > 0 else None


def own() -> CpuTime:
    """This process's CPU time."""
    return CpuTime(time.process_time_ns(), _ticks(0))


def of(pid: int) -> CpuTime:
    """Another process's: exact while its threads sleep, else up to a tick old (schedstat, proc(5))."""
    tasks = Path(f"/proc/{pid}/task")
    total = sum(int(task.joinpath("schedstat").read_text().split()[0]) for task in tasks.iterdir())
    return CpuTime(total, _ticks(pid))


def _ticks(pid: int) -> tuple[int, int] | None:
    try:
        all_ns, user_ns = (time.clock_gettime_ns((~pid << 3) | kind) for kind in (_ALL, _USER))
    except OSError:
        return None
    return all_ns, user_ns
