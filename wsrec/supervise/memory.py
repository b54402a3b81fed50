"""Memory of a recording before it starts: the size of its rings, the total, and whether the machine has it.

The rings of all connections share a budget. With a few connections each has a ring of 8 MiB, whose pages are faulted in
beforehand; with more connections the rings are smaller, and their pages are faulted in on first use.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from wsrec.host.processor import ROOT, text
from wsrec.plan.connections import ConnectionPlan
from wsrec.ring.bytering import DEFAULT_CAPACITY
from wsrec.units import size

# bytes of all connections' rings together if no size is given; no ring gets smaller than the minimum below
BUDGET = 256 << 20
_LEAST = 128 << 10
# measured (docs/explanation/performance.md): bytes of each process without the shared rings, and what a connection adds
_SUPERVISOR = 45 << 20
_RECEIVER, _RECEIVER_CONNECTION, _RECEIVER_TLS = 40 << 20, 32 << 10, 45 << 10
_WRITER, _WRITER_CONNECTION = 140 << 20, 24 << 10
# a receiver's code, stacks and slots, as counted by the limit of locked memory
_LOCKED_BESIDE = 256 << 20

HINT = "give the machine or the cgroup more memory, record fewer connections (--shard), or choose a smaller --ring-size"


def ring_size(requested: int | None, connections: int) -> int:
    """Bytes of each connection's ring: as requested, or an equal share of the budget."""
    if requested is not None:
        return requested
    share = BUDGET // max(connections, 1)
    return min(max(1 << (share.bit_length() - 1), _LEAST), DEFAULT_CAPACITY)


def is_populated(requested: int | None, connections: int) -> bool:
    """Whether the rings' pages are faulted in at once."""
    return requested is not None or ring_size(requested, connections) == DEFAULT_CAPACITY


class Need(NamedTuple):
    """Memory needed by a recording in bytes, without standby connections, which need none before they are used.

    Attributes:
        connections: number of connections.
        ring: size of each ring.
        rings: all rings, once each was full; idle ones may use less.
        receivers, writers, supervisor: the processes, without the rings.

    """

    connections: int
    ring: int
    rings: int
    receivers: int
    writers: int
    supervisor: int

    @property
    def total(self) -> int:
        """The sum."""
        return self.rings + self.receivers + self.writers + self.supervisor

    @property
    def locked(self) -> int:
        """Memory locked by a receiver of all connections, as RLIMIT_MEMLOCK counts it: its whole address space."""
        return 2 * self.rings + self.receivers + _LOCKED_BESIDE

    def __str__(self) -> str:
        """As text."""
        return (
            f"about {size(self.total)}: rings {size(self.rings)} ({self.connections:,} of {self.ring >> 10:,} KiB), "
            f"receiver {size(self.receivers)}, writer {size(self.writers)}, supervisor {size(self.supervisor)}"
        )


def need(connections: int, *, over_tls: int, receivers: int = 1, requested: int | None = None) -> Need:
    """Memory for a number of connections, some of which use TLS, with rings as requested."""
    ring = ring_size(requested, connections)
    return Need(
        connections,
        ring,
        connections * ring,
        receivers * _RECEIVER + connections * _RECEIVER_CONNECTION + over_tls * _RECEIVER_TLS,
        receivers * _WRITER + connections * _WRITER_CONNECTION,
        _SUPERVISOR,
    )


def need_of(plans: Sequence[ConnectionPlan], *, receivers: int = 1, requested: int | None = None) -> Need:
    """Memory for the planned connections."""
    over_tls = sum(one.url.startswith("wss:") for one in plans)
    return need(len(plans), over_tls=over_tls, receivers=receivers, requested=requested)


class Available(NamedTuple):
    """Available memory, and its limiting source."""

    bytes: int
    where: str


def available(root: Path = ROOT) -> Available | None:
    """Memory left on the machine and in this process's cgroups; None if unknown."""
    return min((*_of_machine(root), *_of_cgroups(root)), default=None)


def shortage(needed: Need, root: Path = ROOT) -> str | None:
    """An error message if a recording may need more memory than is available; else None."""
    found = available(root)
    if found is None or needed.total <= found.bytes:
        return None
    return f"this recording can take {needed}; {found.where} has {size(found.bytes)} left"


def _of_machine(root: Path) -> Iterator[Available]:
    for line in (text(root / "proc/meminfo") or "").splitlines():
        if line.startswith("MemAvailable:"):
            yield Available(int(line.split()[1]) << 10, "the machine")


def _of_cgroups(root: Path) -> Iterator[Available]:
    """Each cgroup with a limit, from this process's own up (cgroups(7)): version 2, and the memory controller of 1."""
    for line in (text(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            top = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        group = top / path.strip("/")
        while True:
            yield from _of_cgroup(group, *names)
            if group in (top, group.parent):
                break
            group = group.parent


def _of_cgroup(group: Path, limit: str, usage: str, reclaimable: str) -> Iterator[Available]:
    limited, used = text(group / limit) or "", text(group / usage) or ""
    if limited.isdigit() and used.isdigit():
        statistics = dict(line.split(" ", 1) for line in (text(group / "memory.stat") or "").splitlines())
        left = int(limited) - int(used) + int(statistics.get(reclaimable, 0))
        yield Available(max(left, 0), f"the cgroup ({group / limit})")
