"""CPU time, and what of it is user space."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from wsrec.bench import cpu_time
from wsrec.bench.cpu_time import CpuTime

_FIGURES = "x = 0\nfor i in range(3_000_000): x += i"
_CALLS = "import os\nf = os.open('/dev/zero', 0)\nfor i in range(30): os.pread(f, 1 << 24, 0)"


def share(work: str) -> float:
    """The part of user space of a process that does `work` between two looks at it."""
    child = subprocess.Popen(
        [sys.executable, "-c", f"input()\n{work}\nprint(flush=True)\ninput()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with child:
        before = cpu_time.of(child.pid)
        child.stdin.write(b"\n")
        child.stdin.flush()
        child.stdout.readline()
        total, user = cpu_time.of(child.pid).since(before)
        child.stdin.write(b"\n")
        child.stdin.flush()
        if user is None:
            pytest.skip("this system does not tell user space from the kernel")
        return user / total


class TestCpuTime:
    def test_user_space_is_told_from_the_kernel(self):
        assert share(_CALLS) < 0.5 < share(_FIGURES)

    def test_this_process_is_read_the_same_way(self):
        ours, other = cpu_time.own(), cpu_time.of(os.getpid())
        # of all threads, and a moment later
        assert other.total_ns >= ours.total_ns * 0.5

    def test_without_a_tick_the_share_is_unknown(self):
        assert CpuTime(200, (8, 4)).since(CpuTime(100, (8, 4))) == (100, None)
        assert CpuTime(200, None).since(CpuTime(100, None)) == (100, None)
        assert CpuTime(200, (12, 5)).since(CpuTime(100, (8, 4))) == (100, 25.0)

    def test_a_process_that_is_gone_is_an_error(self):
        child = subprocess.Popen([sys.executable, "-c", ""])
        child.wait()
        assert not Path(f"/proc/{child.pid}").exists()
        with pytest.raises(OSError, match=str(child.pid)):
            cpu_time.of(child.pid)
