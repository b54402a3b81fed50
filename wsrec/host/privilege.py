"""What the receiver asks of the system so that nothing else gets in its way; each refusal is named with its cure."""

from __future__ import annotations

import ctypes
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

# sys/mman.h, Linux
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
# asm-generic/socket.h; Python's socket module does not name them
_SO_BUSY_POLL, _SO_PREFER_BUSY_POLL = 46, 69
# of 1000: any memory of this process counts as much as half of the machine's
_OOM_SCORE_ADJ = 500
# us. A read that must not block polls the NIC once, whatever the figure
_BUSY_POLL_US = 50


class Refusal(NamedTuple):
    """Something that the system refused."""

    what: str
    reason: str
    cure: str


def pin(cpu: int) -> Refusal | None:
    """Run this process on one processor only (sched_setaffinity(2))."""
    what = f"running on processor {cpu} only"
    if not hasattr(os, "sched_setaffinity"):
        return Refusal(what, f"{sys.platform} has no processor affinity", "leave --cpu out here")
    try:
        os.sched_setaffinity(0, {cpu})
    except (OSError, ValueError, OverflowError) as error:
        allowed = ",".join(map(str, sorted(os.sched_getaffinity(0))))
        reason = getattr(error, "strerror", None) or str(error)
        return Refusal(what, reason, f"this process may use: {allowed} (taskset, cgroup cpuset)")
    return None


def realtime(priority: int) -> Refusal | None:
    """Run under SCHED_FIFO at `priority`, 1 to 99 (sched(7))."""
    what = f"SCHED_FIFO priority {priority}"
    if not hasattr(os, "sched_setscheduler"):
        return Refusal(what, f"{sys.platform} has no SCHED_FIFO", "leave --rt-priority out here")
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
    """Keep every page of this process in memory once it is there (mlockall(2), MCL_ONFAULT)."""
    what = "locking memory"
    if sys.platform != "linux":
        return Refusal(what, f"not done on {sys.platform}", "record on Linux")
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT):
        reason = os.strerror(ctypes.get_errno())
        return Refusal(
            what,
            reason,
            "give CAP_IPC_LOCK or raise the limit: `ulimit -l unlimited`, LimitMEMLOCK=infinity in a systemd unit",
        )
    return None


def die_first() -> None:
    """Have this process killed before others where memory runs out (proc_pid_oom_score_adj(5)), if the system lets it.

    For a writer: what it holds is in the shared memory and the journal, so its death loses nothing; a receiver's does.
    """
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(_OOM_SCORE_ADJ))


def busy_poll(sock: socket.socket) -> Refusal | None:
    """Have a read of an empty socket poll the NIC's receive queue itself (SO_BUSY_POLL, socket(7)).

    SO_PREFER_BUSY_POLL (Linux 5.11, Documentation/networking/napi.rst) keeps the NIC's interrupts off meanwhile, where
    the interface's napi_defer_hard_irqs and gro_flush_timeout allow it.
    """
    what = "SO_BUSY_POLL"
    if sys.platform != "linux":
        return Refusal(what, f"{sys.platform} has none", "record on Linux")
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_BUSY_POLL, _BUSY_POLL_US)
    except OSError as error:
        cure = f"give CAP_NET_ADMIN, or set it for every socket: `sysctl net.core.busy_read={_BUSY_POLL_US}`"
        return Refusal(what, error.strerror or str(error), cure)
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, _SO_PREFER_BUSY_POLL, 1)
    return None


def in_force() -> dict[str, Any]:
    """What this process runs under: processors, scheduling policy and priority, locked memory (bytes)."""
    if sys.platform != "linux":
        return {"cpus": None, "policy": None, "priority": None, "locked_bytes": None}
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
