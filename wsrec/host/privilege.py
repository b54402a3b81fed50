"""Scheduling privileges: CPU affinity, SCHED_FIFO, locked memory, polling of the NIC; refusals carry a hint."""

from __future__ import annotations

import ctypes
import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

# sys/mman.h, Linux
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
# asm-generic/socket.h; Python's socket module does not name them
_SO_BUSY_POLL, _SO_PREFER_BUSY_POLL = 46, 69
# of 1000: this process's memory weighs as if it were larger by half of the machine's
_OOM_SCORE_ADJ = 500
# us. A non-blocking read polls the NIC once, whatever the value
_BUSY_POLL_US = 50


class Refusal(NamedTuple):
    """A request that the system refused."""

    what: str
    reason: str
    hint: str


def pin(cpu: int) -> Refusal | None:
    """Pin this process to one processor (sched_setaffinity(2)); returns the refusal, None on success."""
    what = f"running on processor {cpu} only"
    try:
        os.sched_setaffinity(0, {cpu})
    except (OSError, ValueError, OverflowError) as error:
        allowed = ",".join(map(str, sorted(os.sched_getaffinity(0))))
        reason = getattr(error, "strerror", None) or str(error)
        return Refusal(what, reason, f"this process may use: {allowed} (taskset, cgroup cpuset)")
    return None


def realtime(priority: int) -> Refusal | None:
    """Switch to SCHED_FIFO at `priority`, 1 to 99 (sched(7)); returns the refusal, None on success."""
    what = f"SCHED_FIFO priority {priority}"
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except OSError as error:
        return Refusal(
            what,
            error.strerror or str(error),
            "give CAP_SYS_NICE or raise the limit: `ulimit -r 99`, LimitRTPRIO=99 in a systemd unit",
        )
    return None


def lock_memory() -> Refusal | None:
    """Lock the pages of this process in memory as they are touched (mlockall(2), MCL_ONFAULT)."""
    what = "locking memory"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT):
        reason = os.strerror(ctypes.get_errno())
        return Refusal(
            what,
            reason,
            "give CAP_IPC_LOCK or raise the limit: `ulimit -l unlimited`, LimitMEMLOCK=infinity in a systemd unit",
        )
    return None


def prefer_oom_kill() -> None:
    """Make this process the first to be killed when memory runs out (proc_pid_oom_score_adj(5)), if permitted.

    For a writer: its state is in the shared memory and the journal, so its death loses no message; a receiver's does.
    """
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE_ADJ))


def busy_poll(sock: socket.socket, *, prefer: bool) -> Refusal | None:
    """Make reads of an empty socket poll the NIC's receive queue (SO_BUSY_POLL, socket(7)); returns the refusal.

    With `prefer` (SO_PREFER_BUSY_POLL, Linux 5.11, Documentation/networking/napi.rst) the NIC's interrupts are
    suppressed meanwhile, if the interface's napi_defer_hard_irqs and gro_flush_timeout allow it: for sockets that are
    always read, since an interrupt that is put off delays whoever sleeps.
    """
    what = "SO_BUSY_POLL"
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_BUSY_POLL, _BUSY_POLL_US)
    except OSError as error:
        hint = f"give CAP_NET_ADMIN, or set it for every socket: `sysctl net.core.busy_read={_BUSY_POLL_US}`"
        return Refusal(what, error.strerror or str(error), hint)
    if prefer:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, _SO_PREFER_BUSY_POLL, 1)
    return None


def in_force() -> dict[str, Any]:
    """The settings in force for this process: processors, scheduling policy and priority, locked memory (bytes)."""
    policies = {
        os.SCHED_OTHER: "other",
        os.SCHED_FIFO: "fifo",
        os.SCHED_RR: "rr",
        os.SCHED_BATCH: "batch",
        os.SCHED_IDLE: "idle",
    }
    policy = os.sched_getscheduler(0)
    return {
        "cpus": sorted(os.sched_getaffinity(0)),
        "policy": policies.get(policy, str(policy)),
        "priority": os.sched_getparam(0).sched_priority,
        "locked_bytes": _locked_bytes(),
    }


def _locked_bytes() -> int | None:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmLck:"):
            return int(line.split()[1]) << 10
    return None
