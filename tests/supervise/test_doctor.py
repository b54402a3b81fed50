"""wsrec.supervise.doctor: every state of every finding, on made-up machines; and this machine's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.host.test_processor import Machine
from wsrec.feed.errors import ConfigError
from wsrec.host.nic import Stamping
from wsrec.segments.capture import Unavailable
from wsrec.supervise import doctor
from wsrec.supervise.doctor import Finding, State, examine, stamping_of

LIMITS = """\
Limit                     Soft Limit           Hard Limit           Units
Max open files            {files}                 1048576              files
Max locked memory         {locked}              8388608              bytes
Max realtime priority     {priority}                    0
"""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    allow(machine)
    machine.put("proc/self/status", "Name:\tx\nCapEff:\t0000000000000000\n")
    machine.put("proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456\n")
    machine.put("proc/sys/net/core/rmem_max", "212992\n")
    machine.put("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu tsc constant_tsc nonstop_tsc\n")
    return machine


def allow(machine: Machine, files: object = 1024, locked: object = 8388608, priority: object = 0) -> None:
    machine.put("proc/self/limits", LIMITS.format(files=files, locked=locked, priority=priority))


def found(machine: Machine, subject: str, cpus: tuple[int, ...] = (), names: tuple[str, ...] = ()) -> Finding:
    (finding,) = [finding for finding in examine(cpus, names, machine.root) if finding.subject == subject]
    assert finding.state is State.HINT or finding.hint in (None, "mount /proc", "mount /sys", "use a newer kernel")
    return finding


class TestProcessors:
    def test_isolated(self, machine):
        assert found(machine, "processors").meaning == "record with --cpu 2"
        assert found(machine, "processor 2: isolation", (2,)).state is State.OK
        tick = found(machine, "processor 3: isolation", (3,))
        assert (tick.state, tick.hint) == (State.HINT, "boot with `nohz_full=3`")

    def test_not_isolated(self, machine):
        machine.put("sys/devices/system/cpu/isolated", "\n")
        assert "isolcpus=N" in found(machine, "processors").hint
        assert "isolcpus=1 nohz_full=1" in found(machine, "processor 1: isolation", (1,)).hint

    def test_the_only_one(self, machine):
        machine.put("sys/devices/system/cpu/online", "0\n")
        assert "do not let it spin" in found(machine, "processors").meaning

    def test_siblings(self, machine):
        finding = found(machine, "processor 2: SMT", (2,))
        assert (finding.state, finding.found) == (State.HINT, "shares its core with 0")
        machine.put("sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "2\n")
        assert found(machine, "processor 2: SMT", (2,)).state is State.OK

    def test_interrupts(self, machine):
        finding = found(machine, "processor 2: eth0", (2,))
        assert finding.found == "interrupts 121 (eth0-TxRx-0)"
        assert finding.hint == "`echo 0 > /proc/irq/121/smp_affinity_list`"
        assert found(machine, "processor 2: eth9", (2,)).state is State.OK
        assert found(machine, "processor 0: eth9", (0,)).hint == "`echo 1 > /proc/irq/130/smp_affinity_list`"

    @pytest.mark.parametrize(
        ("governor", "driver", "state", "meaning"),
        [
            ("performance", "acpi-cpufreq", State.OK, "stays up"),
            ("powersave", "acpi-cpufreq", State.HINT, "stays slow"),
            ("powersave", "intel_pstate", State.HINT, "after a pause"),
            ("schedutil", "acpi-cpufreq", State.HINT, "after a pause"),
        ],
    )
    @pytest.mark.parametrize("cpus", [(), (1,)])
    def test_frequency(self, machine, governor, driver, state, meaning, cpus):
        machine.put("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", governor)
        machine.put("sys/devices/system/cpu/cpu1/cpufreq/scaling_driver", driver)
        finding = found(machine, "processor 1: frequency", cpus)
        assert finding.state is state
        assert meaning in finding.meaning
        assert state is State.OK or "cpupower -c 1" in finding.hint

    def test_no_governor(self, machine):
        (machine.root / "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor").unlink()
        assert found(machine, "processor 1: frequency", (1,)).state is State.ABSENT

    def test_sleep(self, machine):
        finding = found(machine, "processor 1: idle", (1,))
        assert finding.found == "wakes up within 133 us"
        assert "cpupower -c 1 idle-set" in finding.hint
        machine.put("sys/devices/system/cpu/cpu1/cpuidle/state2/disable", "1\n")
        assert found(machine, "processor 1: idle", (1,)).state is State.OK


class TestMemory:
    def test_enough_memory_is_ok_and_the_need_is_named(self, machine):
        machine.put("proc/meminfo", "MemAvailable: 8000000 kB\n")
        finding = found(machine, "memory")
        assert (finding.state, finding.found) == (State.OK, "8.19 GB left to the machine")
        assert "with 10 connections" in finding.meaning

    def test_a_cgroup_that_is_small(self, machine):
        machine.put("proc/meminfo", "MemAvailable: 8000000 kB\n")
        machine.put("proc/self/cgroup", "0::/\n")
        machine.put("sys/fs/cgroup/memory.max", "300000000\n")
        machine.put("sys/fs/cgroup/memory.current", "100000000\n")
        finding = found(machine, "memory")
        assert (finding.state, finding.found.split(" left")[0]) == (State.HINT, "200 MB")
        assert "--ring-size" in finding.hint

    def test_memory_that_is_not_stated_is_absent(self, machine):
        assert found(machine, "memory").state is State.ABSENT


class TestLimits:
    def test_small_ones(self, machine):
        allow(machine, files=256)
        assert found(machine, "locked memory").found == "limit 8388608 bytes"
        assert "with 1,000" in found(machine, "locked memory").meaning
        for subject, word in {
            "locked memory": "LimitMEMLOCK",
            "--rt-priority": "LimitRTPRIO",
            "descriptors": "LimitNOFILE",
        }.items():
            assert word in found(machine, subject).hint

    def test_large_ones(self, machine):
        allow(machine, files="unlimited", locked="unlimited", priority=99)
        for subject in ("locked memory", "--rt-priority", "descriptors"):
            assert found(machine, subject).state is State.OK

    def test_capabilities_lift_them(self, machine):
        machine.put("proc/self/status", "CapEff:\t0000000000804000\n")
        assert found(machine, "locked memory").found == "CAP_IPC_LOCK"
        assert found(machine, "--rt-priority").found == "CAP_SYS_NICE"


class TestNetwork:
    def test_receive_buffer(self, machine):
        assert found(machine, "receive buffer").state is State.OK
        machine.put("proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t212992\n")
        assert found(machine, "receive buffer").hint == '`sysctl net.ipv4.tcp_rmem="4096 131072 6291456"`'

    @pytest.mark.parametrize(
        ("stamping", "state", "words"),
        [
            (None, State.ABSENT, "unknown"),
            (Stamping(True, False, None, False), State.ABSENT, "software timestamps only"),
            (Stamping(True, True, 3, False), State.HINT, "hardware timestamps, off, /dev/ptp3"),
            (Stamping(True, True, 0, True), State.OK, "hardware timestamps, on, /dev/ptp0"),
            (Stamping(True, True, None, True), State.OK, "no PTP clock"),
        ],
    )
    def test_stamps(self, stamping, state, words):
        finding = stamping_of("eth7", stamping)
        assert (finding.subject, finding.state) == ("stage 1: eth7", state)
        assert words in finding.found
        assert (finding.hint is not None) is (state is State.HINT)
        assert finding.hint is None or "hwstamp_ctl -i eth7" in finding.hint

    def test_only_the_interface_that_was_named(self, machine):
        subjects = [finding.subject for finding in examine((2,), ("eth0",), machine.root)]
        assert [subject for subject in subjects if subject.startswith("stage 1: ")] == [
            "stage 1: kernel",
            "stage 1: eth0",
        ]
        assert "processor 2: eth9" not in subjects

    def test_one_that_is_not_there(self, machine):
        with pytest.raises(ConfigError, match=r"no network interface 'eth1'; expected one of ens2, eth0, eth9"):
            examine((), ("eth1",), machine.root)

    def test_spinning_without_privileges(self, tmp_path):
        drop = "os.setgroups([]); os.setgid(65534); os.setuid(65534)" if doctor.os.getuid() == 0 else ""
        code = f"import os; from wsrec.supervise import doctor; {drop}\nprint(next(doctor._spinning(doctor.ROOT)))"
        command = [sys.executable, "-P", "-c", code]
        result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        assert "CAP_NET_ADMIN" in result.stdout or "SO_BUSY_POLL" in result.stdout

    def test_realtime_and_spinning_together(self, machine, monkeypatch):
        monkeypatch.setattr("platform.release", lambda: "5.15.0")
        assert "sched_rt_runtime_us=-1" in found(machine, "--wait spin, --rt-priority").hint


class TestCore:
    def test_python_where_it_was_not_built_or_is_requested(self, machine, monkeypatch):
        monkeypatch.setenv("WSREC_PURE", "1")
        assert found(machine, "hot path").found == "python"
        monkeypatch.setattr(doctor, "CompiledHotPath", None)
        assert "install a C compiler" in found(machine, "hot path").hint

    def test_clock(self, machine, monkeypatch):
        assert "tsc, constant_tsc, nonstop_tsc" in found(machine, "clock").found
        monkeypatch.setattr(doctor, "_SLOW_CLOCK_NS", -1)
        folder = "sys/devices/system/clocksource/clocksource0"
        machine.put(f"{folder}/current_clocksource", "hpet\n")
        machine.put(f"{folder}/available_clocksource", "tsc hpet acpi_pm\n")
        assert "echo tsc >" in found(machine, "clock").hint
        machine.put(f"{folder}/available_clocksource", "hpet acpi_pm\n")
        assert "tsc=reliable" in found(machine, "clock").hint
        machine.put(f"{folder}/current_clocksource", "tsc\n")
        assert "while nothing else runs" in found(machine, "clock").hint

    def test_a_system_without_this_information(self, tmp_path):
        findings = {finding.subject: finding for finding in examine(root=tmp_path)}
        assert findings["processors"].state is State.ABSENT
        assert findings["limits"].state is State.ABSENT
        assert findings["receive buffer"].state is State.ABSENT

    def test_this_machine(self):
        findings = examine()
        subjects = [finding.subject for finding in findings]
        assert len(set(subjects)) == len(subjects)
        assert all(finding.found and finding.meaning for finding in findings)


class TestSegments:
    def test_permitted(self, machine, monkeypatch):
        monkeypatch.setattr("wsrec.segments.capture.unavailable", lambda: None)
        finding = found(machine, "--segments")
        assert (finding.state, finding.found) == (State.OK, "CAP_NET_RAW")

    def test_refused(self, machine, monkeypatch):
        monkeypatch.setattr("wsrec.segments.capture.unavailable", lambda: Unavailable("not permitted", "give it"))
        finding = found(machine, "--segments")
        assert (finding.state, finding.found, finding.hint) == (State.HINT, "not permitted", "give it")
