"""Processor and clock settings that affect latency, read from /sys and /proc.

Sources: Linux, Documentation/admin-guide/kernel-parameters.txt (isolcpus, nohz_full), Documentation/admin-guide/pm
(cpufreq.rst, cpuidle.rst, intel_pstate.rst), Documentation/core-api/irq/irq-affinity.rst.
"""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import NamedTuple

import msgspec

ROOT = Path("/")
# Under these drivers `powersave` is not a fixed low frequency: the processor itself scales
_ADAPTIVE_DRIVERS = ("intel_pstate", "amd-pstate-epp")
# us; waking from a deeper idle state takes longer than receiving a message
DEEP_SLEEP_US = 10


class Interrupt(msgspec.Struct, frozen=True):
    """One line of /proc/interrupts.

    Attributes:
        number: interrupt number.
        name: the device's name for it.
        cpus: processors that it may be delivered to.

    """

    number: int
    name: str
    cpus: tuple[int, ...]


class Processor(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one processor; None where the system does not report a value.

    Attributes:
        cpu: processor number.
        isolated: excluded from the scheduler's load balancing (isolcpus).
        nohz_full: no scheduler tick while a single task runs.
        governor: frequency governor.
        driver: frequency driver.
        smt_siblings: other hardware threads of the same core.
        wake_up_us: worst wake-up latency (us) of the enabled idle states.
        interrupts: names of the device interrupts delivered here.

    """

    cpu: int
    isolated: bool
    nohz_full: bool
    governor: str | None
    driver: str | None
    smt_siblings: tuple[int, ...]
    wake_up_us: int | None
    interrupts: tuple[str, ...]

    @property
    def slow(self) -> bool:
        """True if the governor holds the processor at its lowest frequency."""
        return self.governor == "powersave" and self.driver not in _ADAPTIVE_DRIVERS


class Trouble(NamedTuple):
    """A harmful setting and how to change it."""

    what: str
    hint: str


def processor(cpu: int, root: Path = ROOT) -> Processor:
    """Read the settings of processor `cpu`."""
    system = root / "sys/devices/system/cpu"
    folder = system / f"cpu{cpu}"
    siblings = cpu_list(text(folder / "topology/thread_siblings_list"))
    states = [state for state in folder.glob("cpuidle/state*") if text(state / "disable") != "1"]
    latencies = [int(latency) for state in states if (latency := text(state / "latency")) and latency.isdigit()]
    return Processor(
        cpu=cpu,
        isolated=cpu in cpu_list(text(system / "isolated")),
        nohz_full=cpu in cpu_list(text(system / "nohz_full")),
        governor=text(folder / "cpufreq/scaling_governor"),
        driver=text(folder / "cpufreq/scaling_driver"),
        smt_siblings=tuple(sibling for sibling in siblings if sibling != cpu),
        wake_up_us=max(latencies, default=None),
        interrupts=tuple(interrupt.name for interrupt in interrupts(root) if cpu in interrupt.cpus),
    )


def troubles(found: Processor | None, *, spins: bool, realtime: bool, root: Path = ROOT) -> list[Trouble]:
    """Settings certain to harm a receiver pinned to `found` (None: not pinned); doubtful ones are left out."""
    reported = []
    if found is not None and found.slow:
        what = f"processor {found.cpu} is held at its lowest frequency (governor powersave)"
        reported.append(Trouble(what, f"`cpupower -c {found.cpu} frequency-set -g performance`"))
    if found is not None and found.isolated:
        for interface in interfaces(root):
            landing = [interrupt for interrupt in interrupts_of(interface, root) if found.cpu in interrupt.cpus]
            if landing:
                what = f"processor {found.cpu} is isolated, but takes interrupts of {interface}"
                reported.append(Trouble(what, f"{move(landing[0], found.cpu)}; irqbalance must leave it there"))
    if spins and len(cpu_list(text(root / "sys/devices/system/cpu/online"))) == 1:
        reported.append(
            Trouble("spinning takes the only processor of this machine", "use --wait epoll on this machine")
        )
    if spins and realtime and throttled(root):
        what = "the kernel stops a spinning SCHED_FIFO process for a part of every second"
        reported.append(Trouble(what, "`sysctl kernel.sched_rt_runtime_us=-1`, or leave --rt-priority out"))
    return reported


def throttled(root: Path = ROOT, release: str | None = None) -> bool:
    """True if a real-time process that never sleeps is throttled for a part of every second (sched(7)).

    Since Linux 6.12 that share is only given to ordinary tasks waiting for the same processor.
    """
    runtime = text(root / "proc/sys/kernel/sched_rt_runtime_us")
    version = re.match(r"(\d+)\.(\d+)", release or platform.release())
    return runtime not in (None, "-1") and version is not None and (int(version[1]), int(version[2])) < (6, 12)


def move(interrupt: Interrupt, cpu: int) -> str:
    """The shell command that moves an interrupt away from processor `cpu`."""
    return f"`echo {0 if cpu else 1} > /proc/irq/{interrupt.number}/smp_affinity_list`"


def interrupts(root: Path = ROOT) -> list[Interrupt]:
    """The device interrupts and the processors that they are delivered to."""
    found = []
    for line in (text(root / "proc/interrupts") or "").splitlines():
        number, colon, rest = line.strip().partition(":")
        if colon and number.isdigit() and rest.split():
            folder = root / "proc/irq" / number
            cpus = text(folder / "effective_affinity_list") or text(folder / "smp_affinity_list")
            found.append(Interrupt(int(number), rest.split()[-1], cpu_list(cpus)))
    return found


def interrupts_of(interface: str, root: Path = ROOT) -> list[Interrupt]:
    """The interrupts of a network interface's device."""
    link = root / "sys/class/net" / interface / "device"
    if not link.exists():
        return []
    device = link.resolve()
    # a virtio device's interrupts belong to its PCI parent, whose other interrupts have different names
    numbers = {int(path.name) for path in device.glob("msi_irqs/*") if path.name.isdigit()}
    return [
        interrupt
        for interrupt in interrupts(root)
        if interrupt.number in numbers or interrupt.name.split("-")[0] in (interface, device.name)
    ]


def interfaces(root: Path = ROOT) -> list[str]:
    """Network interfaces backed by a device: neither loopback nor virtual."""
    return sorted(path.parent.name for path in (root / "sys/class/net").glob("*/device"))


def clock_source(root: Path = ROOT) -> str | None:
    """The kernel's current clock source; None if it is not reported."""
    return text(root / "sys/devices/system/clocksource/clocksource0/current_clocksource")


def cpu_list(listed: str | None) -> tuple[int, ...]:
    """Parse a list such as ``0-2,5`` (cpuset(7)); empty for None."""
    numbers: list[int] = []
    for part in (listed or "").split(","):
        first, _, last = part.partition("-")
        if first.strip().isdigit():
            numbers += range(int(first), int(last or first) + 1)
    return tuple(numbers)


def text(path: Path) -> str | None:
    """The stripped content of a file of /sys or /proc; None if it cannot be read."""
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return None
