"""CPU time of a process and those below it, from a moment that is only known afterwards."""

from __future__ import annotations

import os
import resource
import threading
import time
from pathlib import Path

import numpy as np

_LOOK_SECONDS = 0.02
_TICKS = os.sysconf("SC_CLK_TCK")
# fields of /proc/PID/stat behind the name (proc_pid_stat(5)): user and system time, in ticks
_UTIME, _STIME = 11, 12


def below(pid: int) -> list[int]:
    """The child processes of a process; none if it has ended, or the system does not report them."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


class TreeMeter:
    """Notes the CPU time of a process and its children again and again, until `stop`.

    The children that this process waited for before do not count, as long as it waits for no other ones meanwhile.

    Args:
        pid: the process, a child of this one.

    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._before = _waited_for()
        self._noted: list[tuple[int, int]] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="cpu-time", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop; the process has ended, and was waited for."""
        self._stopping.set()
        self._thread.join()
        self._total = _waited_for() - self._before

    def since(self, time_ns: int) -> int:
        """CPU time (ns) from this time (ns since the epoch) to the end, to one look (20 ms) and one tick."""
        times = [when for when, _ in self._noted]
        before = int(np.searchsorted(times, time_ns)) - 1
        return self._total - (self._noted[before][1] if before >= 0 else 0)

    def _run(self) -> None:
        while not self._stopping.is_set():
            now = time.time_ns()
            self._noted.append((now, sum(map(_cpu_time, [self._pid, *below(self._pid)]))))
            self._stopping.wait(_LOOK_SECONDS)


def _waited_for() -> int:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return int((used.ru_utime + used.ru_stime) * 1e9)


def _cpu_time(pid: int) -> int:
    """CPU time of a process so far (ns); 0 if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return (int(fields[_UTIME]) + int(fields[_STIME])) * 1_000_000_000 // _TICKS
