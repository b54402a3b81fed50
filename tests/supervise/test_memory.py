"""wsrec.supervise.memory: how large rings are, what a recording takes, and whether there is enough."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.test_processor import Machine
from wsrec.supervise import memory
from wsrec.supervise.memory import available, is_populated, need, ring_size, shortage

MIB, GIB = 1 << 20, 1 << 30


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    machine.put("proc/meminfo", f"MemTotal: {8 << 20} kB\nMemAvailable: {4 << 20} kB\n")
    return machine


@pytest.fixture
def small_cgroup() -> Iterator[Path]:
    """A group of 240 MiB that one may put processes in."""
    one, two = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    top, limit = (one, "memory.limit_in_bytes") if one.is_dir() else (two, "memory.max")
    group = top / f"wsrec-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text(str(240 * MIB))
    except OSError as error:
        with contextlib.suppress(OSError):
            group.rmdir()
        pytest.skip(f"no group of ours: {error}")
    yield group
    group.rmdir()


def test_a_recording_that_does_not_fit_says_so_before_it_starts(wsrec, small_cgroup, tmp_path):
    enter = f"echo $$ > {small_cgroup}/cgroup.procs; exec "
    command = " ".join(wsrec.command("record", "ws://127.0.0.1:1/x", "--ring-size", "64MiB", "--duration", "1s"))
    result = subprocess.run(["sh", "-c", enter + command], cwd=tmp_path, capture_output=True, text=True, check=False)
    (reported,) = [line for line in result.stderr.splitlines() if "can take" in line]
    assert " warning [127.0.0.1] this recording can take about " in reported
    assert "rings 67.1 MB (1 of 65,536 KiB)" in reported
    assert "the cgroup (" in reported
    assert "--ring-size" in reported


class TestRingSize:
    @pytest.mark.parametrize(
        ("connections", "expected"),
        [
            (0, 8 * MIB),
            (1, 8 * MIB),
            (32, 8 * MIB),
            (33, 4 * MIB),
            (200, MIB),
            (1000, MIB // 4),
            (1025, MIB // 8),
            (65536, MIB // 8),
        ],
    )
    def test_follows_the_connections(self, connections, expected):
        assert ring_size(None, connections) == expected

    @pytest.mark.parametrize("connections", [1, 31, 32, 33, 100, 199, 1000, 2048])
    def test_all_together_stay_within_the_budget(self, connections):
        assert connections * ring_size(None, connections) <= memory.BUDGET

    def test_as_requested_whatever_there_are(self):
        assert ring_size(64 << 10, 1) == 64 << 10
        assert ring_size(8 * MIB, 1000) == 8 * MIB

    def test_few_are_there_before_they_are_used(self):
        assert is_populated(None, 32)
        assert not is_populated(None, 33)
        assert is_populated(64 << 10, 1000)


class TestNeed:
    def test_a_thousand(self):
        plain, secure = need(1000, over_tls=0), need(1000, over_tls=1000)
        assert plain.rings == 250 * MIB
        assert plain.total < secure.total < 600 * MIB
        assert need(1000, over_tls=0, requested=8 * MIB).total > 8000 * MIB
        assert "1,000 of 256 KiB" in str(plain)

    def test_each_receiver_is_two_processes(self):
        assert need(10, over_tls=0, receivers=2).total > need(10, over_tls=0).total + 100 * MIB


class TestAvailable:
    def test_of_the_machine(self, machine):
        assert available(machine.root) == (4 * GIB, "the machine")

    def test_no_shortage_is_claimed_where_the_memory_is_unknown(self, tmp_path):
        assert available(tmp_path) is None
        assert shortage(need(1000, over_tls=0, requested=GIB), tmp_path) is None

    def test_of_the_cgroup(self, machine):
        machine.put("proc/self/cgroup", "0::/a/b\n")
        machine.put("sys/fs/cgroup/a/memory.max", f"{GIB}\n")
        machine.put("sys/fs/cgroup/a/memory.current", f"{900 * MIB}\n")
        machine.put("sys/fs/cgroup/a/memory.stat", f"anon 5\ninactive_file {100 * MIB}\n")
        machine.put("sys/fs/cgroup/a/b/memory.max", "max\n")
        machine.put("sys/fs/cgroup/a/b/memory.current", "5\n")
        found = available(machine.root)
        assert found is not None
        assert found.bytes == 224 * MIB
        assert "cgroup/a/memory.max" in found.where

    def test_of_an_old_cgroup(self, machine):
        machine.put("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:memory:/\n1:name=systemd:/\n")
        machine.put("sys/fs/cgroup/memory/memory.limit_in_bytes", f"{GIB}\n")
        machine.put("sys/fs/cgroup/memory/memory.usage_in_bytes", f"{2 * GIB}\n")
        found = available(machine.root)
        assert found is not None
        assert found.bytes == 0

    def test_a_shortage_names_figures_and_place(self, machine):
        assert shortage(need(100, over_tls=100), machine.root) is None
        reported = shortage(need(1000, over_tls=0, requested=8 * MIB), machine.root)
        assert reported is not None
        assert "rings 8.39 GB (1,000 of 8,192 KiB)" in reported
        assert "the machine has 4.29 GB left" in reported
