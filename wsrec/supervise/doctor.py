"""Findings about this machine as a recorder, each with its meaning and possibly a hint.

Nothing is changed. The files of /proc and /sys are read below `root`; other facts are requested from the kernel.
"""

from __future__ import annotations

import os
import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from enum import StrEnum
from math import inf
from pathlib import Path

import msgspec

from wsrec.feed.errors import ConfigError
from wsrec.host import clock, nic, privilege, timestamping
from wsrec.host.processor import (
    DEEP_SLEEP_US,
    ROOT,
    Processor,
    clock_source,
    cpu_list,
    interfaces,
    interrupts_of,
    move,
    processor,
    text,
    throttled,
)
from wsrec.net.proxy import ProxyRules, parse_proxy
from wsrec.receive import direct, ktls
from wsrec.receive.implementation import CompiledHotPath
from wsrec.segments import capture
from wsrec.supervise import memory
from wsrec.units import size

# linux/capability.h
_CAP_NET_ADMIN, _CAP_IPC_LOCK, _CAP_SYS_NICE = 12, 14, 23
# connection counts of a small and a large recording
_FEW, _MANY = 10, 1000
_DESCRIPTORS = 1024
# Linux's default; the rest of a larger burst waits at the exchange
_RECEIVE_BUFFER = 6 << 20
_CLOCK_READS = 2_000
# the fastest counts: other processes delay the others
_CLOCK_ROUNDS = 5
# ns; reading a clock through the vDSO takes tens of ns, with a system call hundreds
_SLOW_CLOCK_NS = 250


class State(StrEnum):
    """State of a finding."""

    OK = "ok"
    """nothing to do"""
    HINT = "hint"
    """works, but could be better"""
    ABSENT = "absent"
    """not available on this machine"""


class Finding(msgspec.Struct, frozen=True):
    """One finding.

    Attributes:
        subject: the part of the machine.
        state: its state.
        found: what was found.
        meaning: the consequence for a recording.
        hint: a command or setting that improves it; None if nothing needs to or can.

    """

    subject: str
    state: State
    found: str
    meaning: str
    hint: str | None = None


def examine(cpus: Sequence[int] = (), names: Sequence[str] = (), root: Path = ROOT) -> list[Finding]:
    """Check the machine; with `cpus` these processors, with `names` only these network interfaces.

    Raises:
        ConfigError: there is no such interface.

    """
    present = interfaces(root)
    for name in names:
        if not (root / "sys/class/net" / name).exists():
            raise ConfigError(f"no network interface {name!r}; expected one of {', '.join(present) or 'none at all'}")
    chosen = list(names) or present
    return [
        _hot_path(),
        *_stage_1(chosen),
        _segments(),
        *_tls(),
        _stage_clock(),
        _clock(root),
        *_processors(cpus, chosen, root),
        _memory(root),
        *_limits(root),
        *_spinning(root),
        _receive_buffer(root),
        _proxies(),
    ]


def _proxies() -> Finding:
    """The proxies in the environment, without possible secrets."""
    rules = ProxyRules.of_environment(os.environ)
    if not rules.variables:
        return Finding("proxy", State.OK, "none in the environment", "connections to exchanges are direct")
    found, mistake = [], None
    for name, address in sorted(rules.variables.values()):
        try:
            found.append(f"{name}={parse_proxy(address).public}")
        except ValueError as error:
            found.append(f"{name}=***")
            mistake = f"{name}: {error}"
    if rules.exempt:
        found.append(f"except for {rules.exempt}")
    words = "connections to exchanges use it, those to this machine do not; stage 1 is the time of its segments"
    if mistake is None:
        return Finding("proxy", State.OK, ", ".join(found), words)
    return Finding("proxy", State.HINT, ", ".join(found), "feeds that need it cannot be recorded", mistake)


def _hot_path() -> Finding:
    if CompiledHotPath is None:
        return Finding(
            "hot path",
            State.HINT,
            "python",
            "receiving a message takes 3 to 6 times as long as with compiled code",
            "install a C compiler and the Python headers (`apt-get install gcc python3-dev`), then reinstall wsrec",
        )
    if os.environ.get("WSREC_PURE"):
        return Finding("hot path", State.HINT, "python", "WSREC_PURE is set", "`unset WSREC_PURE`")
    return Finding("hot path", State.OK, "compiled", "the faster of the two")


def _stage_1(names: Sequence[str]) -> Iterator[Finding]:
    with socket.socket() as probe:
        stamped = timestamping.enable(probe)
    if not stamped:
        yield Finding(
            "stage 1: kernel", State.ABSENT, "no SO_TIMESTAMPING", "nic_time is null", "record on a kernel that has it"
        )
        return
    yield Finding("stage 1: kernel", State.OK, "SO_TIMESTAMPING", "segments have at least the kernel's timestamp")
    for name in names:
        yield stamping_of(name, nic.stamping(name))


def _segments() -> Finding:
    refusal = capture.unavailable()
    if refusal is not None:
        meaning = "it would be refused: stage 1 is that of each read"
        return Finding("--segments", State.HINT, refusal.reason, meaning, refusal.hint)
    meaning = "stage 1 can be the arrival of each message's own last byte, in every TLS mode"
    return Finding("--segments", State.OK, "CAP_NET_RAW", meaning)


def stamping_of(name: str, found: nic.Stamping | None) -> Finding:
    """The finding about an interface's timestamps."""
    subject = f"stage 1: {name}"
    if found is None or not found.hardware:
        words = "unknown" if found is None else "software timestamps only"
        return Finding(subject, State.ABSENT, words, "stage 1 is the kernel's timestamp, after the interrupt")
    clock = "no PTP clock" if found.clock is None else f"/dev/ptp{found.clock}"
    if not found.enabled:
        hint = f"`hwstamp_ctl -i {name} -r 1`, and `phc2sys -s CLOCK_REALTIME -c {name} -O 0`"
        return Finding(
            subject, State.HINT, f"hardware timestamps, off, {clock}", "stage 1 is the kernel's timestamp", hint
        )
    return Finding(
        subject,
        State.OK,
        f"hardware timestamps, on, {clock}",
        "stage 1 is the NIC's timestamp, if its clock is within 1 s of the system's",
    )


def _tls() -> Iterator[Finding]:
    best = "TLSv1.3" if ssl.HAS_TLSv1_3 else "TLSv1.2"
    found = f"{ssl.OPENSSL_VERSION}, {best}"
    refusal = direct.unable()
    if refusal is None:
        yield Finding("--tls direct", State.OK, found, "decrypted record by record into the ring, with stage 1")
    else:
        yield Finding("--tls direct", State.ABSENT, refusal.reason, "stamped is used instead", refusal.hint)
    yield Finding("--tls stamped", State.OK, found, "decrypted in user space, with stage 1")
    yield Finding("--tls openssl", State.OK, found, "decrypted in user space, without stage 1")
    refusal = ktls.unable()
    if refusal is None:
        yield Finding(
            "--tls ktls", State.OK, found, "decrypted by the kernel if the server supports it, without stage 1"
        )
    else:
        yield Finding("--tls ktls", State.ABSENT, refusal.reason, "stamped is used instead", refusal.hint)


def _stage_clock() -> Finding:
    refusal = clock.refusal()
    if refusal is None:
        return Finding("stages 2 to 6", State.OK, clock.TSC, "read from the time stamp counter, without a system call")
    return Finding("stages 2 to 6", State.HINT, f"{clock.MONOTONIC}: {refusal}", "a timestamp takes twice as long")


def _clock(root: Path) -> Finding:
    source = clock_source(root) or "unknown"
    cost = min(_cost_of_a_read() for _ in range(_CLOCK_ROUNDS))
    flags = (text(root / "proc/cpuinfo") or "").partition("flags")[2].partition("\n")[0].split()
    invariant = [flag for flag in ("constant_tsc", "nonstop_tsc") if flag in flags]
    found = ", ".join([source, *invariant, f"{cost} ns per read from Python"])
    if cost < _SLOW_CLOCK_NS:
        return Finding("clock", State.OK, found, "stages 2 to 6 are read without a system call")
    available = text(root / "sys/devices/system/clocksource/clocksource0/available_clocksource") or ""
    if source == "tsc":
        # the vDSO reads it without a system call, so something else takes the time
        hint = "run `wsrec doctor` again while nothing else runs; set the `performance` governor"
    elif "tsc" in available.split():
        hint = "`echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource`"
    else:
        hint = "`dmesg | grep -i tsc` says why the kernel does not use the time stamp counter; boot with `tsc=reliable`"
    return Finding("clock", State.HINT, found, "each of the six timestamps takes long", hint)


def _cost_of_a_read() -> int:
    began = time.perf_counter_ns()
    for _ in range(_CLOCK_READS):
        time.monotonic_ns()
    return (time.perf_counter_ns() - began) // _CLOCK_READS


def _processors(cpus: Sequence[int], names: Sequence[str], root: Path) -> Iterator[Finding]:
    system = root / "sys/devices/system/cpu"
    if not system.exists():
        yield Finding("processors", State.ABSENT, "no /sys", "no receiver can be pinned", "mount /sys")
        return
    if not cpus:
        isolated = text(system / "isolated")
        online = text(system / "online") or "unknown"
        if len(cpu_list(online)) == 1:
            yield Finding("processors", State.HINT, online, "receiver and writer share it; do not let it spin here")
        elif isolated:
            words = f"online {online}, isolated {isolated}"
            yield Finding("processors", State.OK, words, f"record with --cpu {cpu_list(isolated)[0]}")
        else:
            yield Finding(
                "processors",
                State.HINT,
                f"online {online}, none isolated",
                "other processes delay a receiver, even a pinned one",
                "boot with `isolcpus=N nohz_full=N`, record with `--cpu N`",
            )
    for cpu in cpus or cpu_list(text(system / "online")):
        yield from _processor(processor(cpu, root), names, root, requested=bool(cpus))


def _processor(found: Processor, names: Sequence[str], root: Path, *, requested: bool) -> Iterator[Finding]:
    """Findings about one processor; unless requested, only what every processor should have."""
    cpu = f"processor {found.cpu}"
    if requested:
        yield _isolation(found)
        if found.smt_siblings:
            others = ", ".join(map(str, found.smt_siblings))
            meaning = "processes there slow this one down"
            hint = f"leave {others} idle, or `echo 0 > /sys/devices/system/cpu/cpu{found.smt_siblings[0]}/online`"
            yield Finding(f"{cpu}: SMT", State.HINT, f"shares its core with {others}", meaning, hint)
        else:
            yield Finding(f"{cpu}: SMT", State.OK, "no sibling", "it has a core of its own, as far as Linux knows")
        yield from (_interrupts(found, name, root) for name in names)
    if found.governor is None:
        if requested:
            meaning = "the hypervisor or the firmware controls its frequency"
            yield Finding(f"{cpu}: frequency", State.ABSENT, "no governor", meaning)
    elif found.governor == "performance":
        yield Finding(f"{cpu}: frequency", State.OK, f"performance ({found.driver})", "its frequency stays up")
    else:
        meaning = "it stays slow" if found.slow else "it is slow when a message arrives after a pause"
        hint = f"`cpupower -c {found.cpu} frequency-set -g performance`"
        yield Finding(f"{cpu}: frequency", State.HINT, f"{found.governor} ({found.driver})", meaning, hint)
    if requested and found.wake_up_us is not None:
        found_words = f"wakes up within {found.wake_up_us} us"
        if found.wake_up_us > DEEP_SLEEP_US:
            hint = f"`cpupower -c {found.cpu} idle-set -D {DEEP_SLEEP_US}`, or `--wait spin`"
            yield Finding(
                f"{cpu}: idle", State.HINT, found_words, "a message after a pause waits for the wake-up", hint
            )
        else:
            yield Finding(f"{cpu}: idle", State.OK, found_words, "no deep sleep, as far as Linux knows")


def _isolation(found: Processor) -> Finding:
    subject = f"processor {found.cpu}: isolation"
    if found.isolated and found.nohz_full:
        return Finding(subject, State.OK, "isolated, nohz_full", "only pinned processes run here, without a timer tick")
    if found.isolated:
        hint = f"boot with `nohz_full={found.cpu}`"
        return Finding(subject, State.HINT, "isolated", "the timer tick interrupts it up to 1,000 times a second", hint)
    hint = f"boot with `isolcpus={found.cpu} nohz_full={found.cpu}`"
    return Finding(subject, State.HINT, "not isolated", "other processes run here, too, and delay the receiver", hint)


def _interrupts(found: Processor, name: str, root: Path) -> Finding:
    subject = f"processor {found.cpu}: {name}"
    landing = [interrupt for interrupt in interrupts_of(name, root) if found.cpu in interrupt.cpus]
    if not landing:
        return Finding(subject, State.OK, "no interrupts here", "the NIC does not interrupt the receiver")
    names = ", ".join(f"{interrupt.number} ({interrupt.name})" for interrupt in landing)
    return Finding(
        subject, State.HINT, f"interrupts {names}", "they interrupt the receiver", move(landing[0], found.cpu)
    )


def _memory(root: Path) -> Finding:
    few, many = (memory.need(count, over_tls=count).total for count in (_FEW, _MANY))
    takes = f"a recording takes about {size(few)} with {_FEW} connections, {size(many)} with {_MANY:,}"
    found = memory.available(root)
    if found is None:
        return Finding(
            "memory", State.ABSENT, "unknown", f"{takes}; there is no warning before it runs out", "mount /proc"
        )
    words = f"{size(found.bytes)} left to {found.where}"
    if found.bytes >= many:
        return Finding("memory", State.OK, words, takes)
    return Finding("memory", State.HINT, words, takes, memory.HINT)


def _limits(root: Path) -> Iterator[Finding]:
    if text(root / "proc/self/limits") is None:
        yield Finding("limits", State.ABSENT, "no /proc", "memory is not locked", "mount /proc")
        return
    locked, found = _allowance("Max locked memory", _CAP_IPC_LOCK, "CAP_IPC_LOCK", root)
    few, many = (memory.need(count, over_tls=count).locked for count in (_FEW, _MANY))
    if locked >= many:
        yield Finding("locked memory", State.OK, found, "no page of a receiver is swapped out")
    else:
        meaning = f"pages of a receiver may be swapped out: it uses {size(few)} with {_FEW} connections, "
        meaning += f"{size(many)} with {_MANY:,}"
        hint = "CAP_IPC_LOCK, `ulimit -l unlimited`, or LimitMEMLOCK=infinity in a systemd unit"
        yield Finding("locked memory", State.HINT, f"{found} bytes", meaning, hint)
    priority, found = _allowance("Max realtime priority", _CAP_SYS_NICE, "CAP_SYS_NICE", root)
    if priority >= 1:
        yield Finding("--rt-priority", State.OK, found, "a receiver can take precedence over all ordinary processes")
    else:
        hint = "CAP_SYS_NICE, `ulimit -r 99`, or LimitRTPRIO=99 in a systemd unit"
        yield Finding("--rt-priority", State.HINT, found, "it would be refused", hint)
    files, found = _allowance("Max open files", None, "", root)
    if files >= _DESCRIPTORS:
        yield Finding("descriptors", State.OK, found, "a connection takes two in its receiver")
    else:
        hint = f"`ulimit -n {_DESCRIPTORS}`, or LimitNOFILE={_DESCRIPTORS} in a systemd unit"
        yield Finding("descriptors", State.HINT, found, "a connection takes two in its receiver", hint)


def _spinning(root: Path) -> Iterator[Finding]:
    with socket.socket() as probe:
        refusal = privilege.busy_poll(probe, prefer=True)
    if refusal is None:
        yield Finding(
            "--wait spin", State.OK, "SO_BUSY_POLL", "a read also polls the NIC's queue, if the driver supports it"
        )
    else:
        meaning = "spinning works, but new segments wait for the NIC's interrupt"
        yield Finding("--wait spin", State.HINT, f"{refusal.what}: {refusal.reason}", meaning, refusal.hint)
    if throttled(root):
        yield Finding(
            "--wait spin, --rt-priority",
            State.HINT,
            f"kernel.sched_rt_runtime_us={text(root / 'proc/sys/kernel/sched_rt_runtime_us')}",
            "used together, the receiver is stopped for a part of every second",
            "`sysctl kernel.sched_rt_runtime_us=-1`",
        )


def _receive_buffer(root: Path) -> Finding:
    subject, listed = "receive buffer", (text(root / "proc/sys/net/ipv4/tcp_rmem") or "").split()
    most = text(root / "proc/sys/net/core/rmem_max") or "unknown"
    if len(listed) != 3:
        return Finding(
            subject, State.ABSENT, "no net.ipv4.tcp_rmem", "the system decides how much data may wait in TCP"
        )
    found = f"net.ipv4.tcp_rmem {' '.join(listed)}, net.core.rmem_max {most}"
    if int(listed[2]) >= _RECEIVE_BUFFER:
        return Finding(subject, State.OK, found, "TCP may buffer up to the third of these per connection (bytes)")
    hint = f'`sysctl net.ipv4.tcp_rmem="{listed[0]} {listed[1]} {_RECEIVE_BUFFER}"`'
    return Finding(
        subject,
        State.HINT,
        found,
        "of a burst larger than the third of these (bytes) the rest waits at the exchange",
        hint,
    )


def _allowance(name: str, capability: int | None, word: str, root: Path) -> tuple[float, str]:
    """A soft limit of this process (infinite if unlimited or lifted by a capability), and its description."""
    if capability is not None and _capable(capability, root):
        return inf, word
    for line in (text(root / "proc/self/limits") or "").splitlines():
        if line.startswith(name):
            soft = line.removeprefix(name).split()[0]
            return (float(soft), f"limit {soft}") if soft.isdigit() else (inf, soft)
    return inf, "no limit"


def _capable(capability: int, root: Path) -> bool:
    for line in (text(root / "proc/self/status") or "").splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> capability & 1)
    return False
