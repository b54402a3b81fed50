"""wsrec.host.processor: what /sys and /proc say, on trees like those of real machines and on this one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from wsrec.host.processor import (
    clock_source,
    cpu_list,
    interfaces,
    interrupts,
    interrupts_of,
    processor,
    throttled,
    troubles,
)

INTERRUPTS = """\
            CPU0       CPU1       CPU2       CPU3
   0:         44          0          0          0  IR-IO-APIC    2-edge      timer
 120:          0          5          0          0  IR-PCI-MSIX-0000:01:00.0    0-edge      eth0
 121:          0          0      99999          0  IR-PCI-MSIX-0000:01:00.0    1-edge      eth0-TxRx-0
 122:          0          0          0          7  IR-PCI-MSIX-0000:02:00.0    0-edge      mlx5_comp0@pci:0000:02:00.0
 130:         11          0          0          0  PCI-MSIX-0000:00:05.0    1-edge      virtio2-input.0
 131:         11          0          0          0  PCI-MSIX-0000:00:06.0    1-edge      virtio3-input.0
 NMI:          1          2          3          4   Non-maskable interrupts
"""
DELIVERED = {0: "0", 120: "1", 121: "2", 122: "2-3", 130: "0", 131: "0"}


class Machine:
    """A made-up machine's /sys and /proc."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.put("sys/devices/system/cpu/online", "0-3\n")
        self.put("sys/devices/system/cpu/isolated", "2-3\n")
        self.put("sys/devices/system/cpu/nohz_full", "2\n")
        self.put("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n")
        self.put("proc/sys/kernel/sched_rt_runtime_us", "950000\n")
        self.put("proc/interrupts", INTERRUPTS)
        for number, cpus in DELIVERED.items():
            self.put(f"proc/irq/{number}/smp_affinity_list", "0-3\n")
            self.put(f"proc/irq/{number}/effective_affinity_list", f"{cpus}\n")
        for cpu in range(4):
            folder = f"sys/devices/system/cpu/cpu{cpu}"
            self.put(f"{folder}/topology/thread_siblings_list", f"{cpu % 2},{cpu % 2 + 2}\n")
            self.put(f"{folder}/cpufreq/scaling_governor", "powersave\n")
            self.put(f"{folder}/cpufreq/scaling_driver", "acpi-cpufreq\n")
            for state, (latency, disable) in enumerate([(0, 0), (2, 0), (133, 0), (890, 1)]):
                self.put(f"{folder}/cpuidle/state{state}/latency", f"{latency}\n")
                self.put(f"{folder}/cpuidle/state{state}/disable", f"{disable}\n")
        self.device("lo", None)
        self.device("eth0", "pci0000:00/0000:01:00.0", 120, 121)
        self.device("ens2", "pci0000:00/0000:02:00.0", 122)
        self.device("eth9", "pci0000:00/0000:00:05.0/virtio2")

    def put(self, name: str, content: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    def device(self, interface: str, device: str | None, *msi: int) -> None:
        folder = self.root / "sys/class/net" / interface
        folder.mkdir(parents=True)
        if device is not None:
            target = self.root / "sys/devices" / device
            target.mkdir(parents=True)
            (folder / "device").symlink_to(target)
            for number in msi:
                self.put(f"sys/devices/{device}/msi_irqs/{number}", "msix\n")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


class TestProcessor:
    def test_one_that_was_set_aside(self, machine):
        found = processor(2, machine.root)
        assert (found.isolated, found.nohz_full) == (True, True)
        assert (found.governor, found.driver) == ("powersave", "acpi-cpufreq")
        assert found.smt_siblings == (0,)
        assert found.wake_up_us == 133
        assert found.interrupts == ("eth0-TxRx-0", "mlx5_comp0@pci:0000:02:00.0")

    def test_an_ordinary_one(self, machine):
        found = processor(1, machine.root)
        assert (found.isolated, found.nohz_full) == (False, False)
        assert found.interrupts == ("eth0",)

    def test_a_system_without_this_information(self, tmp_path):
        found = processor(5, tmp_path)
        assert (found.isolated, found.governor, found.wake_up_us, found.interrupts) == (False, None, None, ())
        assert clock_source(tmp_path) is None
        assert interfaces(tmp_path) == []
        assert interrupts_of("eth0", tmp_path) == []

    @pytest.mark.parametrize(
        ("driver", "slow"), [("acpi-cpufreq", True), ("intel_pstate", False), ("amd-pstate-epp", False)]
    )
    def test_powersave_is_slow_where_it_is_fixed(self, machine, driver, slow):
        machine.put("sys/devices/system/cpu/cpu0/cpufreq/scaling_driver", driver)
        assert processor(0, machine.root).slow is slow

    @pytest.mark.parametrize(
        ("listed", "expected"),
        [("", ()), (None, ()), ("3", (3,)), ("0-2,5", (0, 1, 2, 5)), ("(null)", ()), ("1,8-9\n", (1, 8, 9))],
    )
    def test_a_kernels_list_of_processors_is_read(self, listed, expected):
        assert cpu_list(listed) == expected

    def test_this_machine(self):
        for cpu in os.sched_getaffinity(0):
            assert processor(cpu).cpu == cpu
        assert clock_source()
        assert "lo" not in interfaces()


class TestInterrupts:
    def test_of_every_device(self, machine):
        assert [(found.number, found.cpus) for found in interrupts(machine.root)] == [
            (0, (0,)),
            (120, (1,)),
            (121, (2,)),
            (122, (2, 3)),
            (130, (0,)),
            (131, (0,)),
        ]

    def test_where_they_may_go_if_not_where_they_go(self, machine):
        machine.put("proc/irq/120/effective_affinity_list", "\n")
        assert interrupts(machine.root)[1].cpus == (0, 1, 2, 3)

    @pytest.mark.parametrize(("name", "numbers"), [("eth0", [120, 121]), ("ens2", [122]), ("eth9", [130]), ("lo", [])])
    def test_of_an_interface(self, machine, name, numbers):
        assert [found.number for found in interrupts_of(name, machine.root)] == numbers

    def test_interfaces_are_devices(self, machine):
        assert interfaces(machine.root) == ["ens2", "eth0", "eth9"]


class TestTroubles:
    def reported(self, machine, cpu=None, *, spins=False, realtime=False) -> list[str]:
        found = processor(cpu, machine.root) if cpu is not None else None
        return [" ".join(trouble) for trouble in troubles(found, spins=spins, realtime=realtime, root=machine.root)]

    def test_an_ordinary_machine_is_left_in_peace(self, machine):
        machine.put("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "schedutil")
        assert self.reported(machine) == self.reported(machine, 1) == self.reported(machine, 1, spins=True) == []

    def test_a_governor_that_holds_the_processor_down(self, machine):
        (reported,) = self.reported(machine, 0)
        assert "processor 0 is held at its lowest frequency" in reported
        assert "cpupower -c 0 frequency-set -g performance" in reported

    def test_interrupts_on_an_isolated_processor(self, machine):
        machine.put("sys/devices/system/cpu/cpu2/cpufreq/scaling_governor", "performance")
        ens2, eth0 = self.reported(machine, 2)
        assert "processor 2 is isolated, but takes interrupts of ens2" in ens2
        assert "echo 0 > /proc/irq/121/smp_affinity_list" in eth0

    def test_spinning_on_the_only_processor(self, machine):
        machine.put("sys/devices/system/cpu/online", "0\n")
        assert self.reported(machine) == []
        (reported,) = self.reported(machine, spins=True)
        assert "the only processor" in reported

    @pytest.mark.parametrize(
        ("release", "runtime", "expected"),
        [
            ("5.15.0-91-generic", "950000", True),
            ("6.11.4", "950000", True),
            ("6.12.0", "950000", False),
            ("5.15.0", "-1", False),
            ("strange", "950000", False),
        ],
    )
    def test_realtime_that_never_sleeps(self, machine, release, runtime, expected):
        machine.put("proc/sys/kernel/sched_rt_runtime_us", runtime)
        assert throttled(machine.root, release) is expected

    def test_it_is_reported_with_the_hint(self, machine, monkeypatch):
        monkeypatch.setattr("platform.release", lambda: "5.15.0")
        (reported,) = self.reported(machine, spins=True, realtime=True)
        assert "sysctl kernel.sched_rt_runtime_us=-1" in reported
        assert self.reported(machine, spins=True) == self.reported(machine, realtime=True) == []
