"""What a processor and the machine's clock are set to, as far as it bears on latency: read from /sys and /proc, once.

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
# Under these drivers `powersave` is no fixed low frequency: the processor itself chooses
_ADAPTIVE_DRIVERS = ("intel_pstate", "amd-pstate-epp")
# us; a processor that sleeps deeper takes longer to wake up than a message takes to be received
DEEP_SLEEP_US = 10


class Interrupt(msgspec.Struct, frozen=True):
    """One line of /proc/interrupts.

    Attributes:
        number: of the interrupt.
        name: its device's word for it.
        cpus: processors that it is delivered to.

    """

    number: int
    name: str
    cpus: tuple[int, ...]


class Processor(msgspec.Struct, frozen=True, kw_only=True):
    """What one processor is set to; None where the system does not tell.

    Attributes:
        cpu: its number.
        isolated: whether the scheduler leaves it to what is pinned there (isolcpus).
        nohz_full: whether the scheduler's tick stops while one task runs.
        governor: frequency governor, and `driver`, the driver that it steers.
        smt_siblings: other hardware threads of the same core.
        wake_up_us: worst wake-up (us) of the idle states that are enabled.
        interrupts: names of the devices' interrupts that are delivered here.

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
        """Whether the governor holds it at its lowest frequency."""
        return self.governor == "powersave" and self.driver not in _ADAPTIVE_DRIVERS


class Trouble(NamedTuple):
    """What harms, and its cure."""

    what: str
    cure: str


def processor(cpu: int, root: Path = ROOT) -> Processor:
    """Read what processor `cpu` is set to."""
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


def troubles(found: Processor | None, *, busy_poll: bool, realtime: bool, root: Path = ROOT) -> list[Trouble]:
    """What is sure to harm a receiver that is pinned to `found` (None: to none), and nothing else."""
    told = []
    if found is not None and found.slow:
        what = f"processor {found.cpu} is held at its lowest frequency (governor powersave)"
        told.append(Trouble(what, f"`cpupower -c {found.cpu} frequency-set -g performance`"))
    if found is not None and found.isolated:
        for interface in interfaces(root):
            landing = [interrupt for interrupt in interrupts_of(interface, root) if found.cpu in interrupt.cpus]
            if landing:
                what = f"processor {found.cpu} is isolated, but takes interrupts of {interface}"
                told.append(Trouble(what, f"{move(landing[0], found.cpu)}; irqbalance must leave it there"))
    if busy_poll and len(cpu_list(text(root / "sys/devices/system/cpu/online"))) == 1:
        told.append(Trouble("busy-poll takes the only processor of this machine", "leave --busy-poll out here"))
    if busy_poll and realtime and throttled(root):
        what = "the kernel stops a busy-polling SCHED_FIFO process for a part of every second"
        told.append(Trouble(what, "`sysctl kernel.sched_rt_runtime_us=-1`, or leave --rt-priority out"))
    return told


def throttled(root: Path = ROOT, release: str | None = None) -> bool:
    """Whether a real-time process that never sleeps is stopped for a part of every second (sched(7)).

    From 6.12 on Linux gives that part only to ordinary processes that wait for the same processor.
    """
    runtime = text(root / "proc/sys/kernel/sched_rt_runtime_us")
    version = re.match(r"(\d+)\.(\d+)", release or platform.release())
    return runtime not in (None, "-1") and version is not None and (int(version[1]), int(version[2])) < (6, 12)


def move(interrupt: Interrupt, cpu: int) -> str:
    """The command that has an interrupt delivered elsewhere than to processor `cpu`."""
    return f"`echo {0 if cpu else 1} > /proc/irq/{interrupt.number}/smp_affinity_list`"


def interrupts(root: Path = ROOT) -> list[Interrupt]:
    """The devices' interrupts and the processors that they are delivered to."""
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
    # a virtio device's are those of the PCI device that it sits in; the others of that one are named differently
    numbers = {int(path.name) for path in device.glob("msi_irqs/*") if path.name.isdigit()}
    return [
        interrupt
        for interrupt in interrupts(root)
        if interrupt.number in numbers or interrupt.name.split("-")[0] in (interface, device.name)
    ]


def interfaces(root: Path = ROOT) -> list[str]:
    """The network interfaces that are devices: neither loopback nor made by software."""
    return sorted(path.parent.name for path in (root / "sys/class/net").glob("*/device"))


def clock_source(root: Path = ROOT) -> str | None:
    """What the kernel's clocks are read from; None where it does not tell."""
    return text(root / "sys/devices/system/clocksource/clocksource0/current_clocksource")


def cpu_list(listed: str | None) -> tuple[int, ...]:
    """The numbers of a list such as ``0-2,5`` (cpuset(7)); empty for none."""
    numbers: list[int] = []
    for part in (listed or "").split(","):
        first, _, last = part.partition("-")
        if first.strip().isdigit():
            numbers += range(int(first), int(last or first) + 1)
    return tuple(numbers)


def text(path: Path) -> str | None:
    """The content of a file of /sys or /proc without white space around it; None where it cannot be read."""
    try:
        return path.read_text().strip()
    except (OSError, ValueError):
        return None
