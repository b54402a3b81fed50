"""Setup shared by all measurements: frames, certificates, processors, and a description of the machine."""

from __future__ import annotations

import contextlib
import os
import platform
import ssl
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from wsrec.bench import frames
from wsrec.bench.sender import SenderJob, certificates
from wsrec.version import __version__

_PACKAGES = ("picows", "aiohttp", "websockets", "uvloop", "pyarrow", "numpy")
_CPUS = Path("/sys/devices/system/cpu")


class Placement(NamedTuple):
    """Processors of the receiving process, the sender, and all others. None: not pinned."""

    receiver: int | None
    sender: int | None
    rest: frozenset[int]


class Setup(msgspec.Struct, frozen=True, kw_only=True):
    """Shared by all measurements.

    Attributes:
        messages: the messages that are sent repeatedly: opcode and payload.
        frames: descriptor of their frames (`frames.share`).
        folder: a private temporary folder.
        ca_file: PEM file of the CA that clients trust.
        certificate: PEM files of the sender's chain and key.
        placement: processors of the processes.
        rt_priority: SCHED_FIFO priority of the receiving process.
        warn: called with messages for the operator.

    """

    messages: list[tuple[Any, bytes]]
    frames: int
    folder: Path
    ca_file: str
    certificate: tuple[str, str]
    placement: Placement
    rt_priority: int | None
    warn: Callable[[str], None]

    def sender(self, transport: str, **job: Any) -> SenderJob:
        """The job of a sender over `tcp` or `tls`."""
        certificate = self.certificate if transport == "tls" else None
        return SenderJob(frames=self.frames, count=len(self.messages), certificate=certificate, **job)

    def ca(self, transport: str) -> str | None:
        """The CA file for clients of `transport`."""
        return self.ca_file if transport == "tls" else None


@contextlib.contextmanager
def prepared(
    recording: str | None, placement: Placement, rt_priority: int | None, warn: Callable[[str], None]
) -> Iterator[Setup]:
    """Create the shared setup; everything is removed when the context ends.

    Raises:
        wsrec.replay.message.SourceError: the recording cannot be read.

    """
    messages = frames.recorded(Path(recording)) if recording is not None else frames.generated()
    fd = frames.share(messages)
    try:
        with tempfile.TemporaryDirectory(prefix="wsrec-bench-", ignore_cleanup_errors=True) as name:
            ca_file, certificate = certificates(Path(name))
            yield Setup(
                messages=messages,
                frames=fd,
                folder=Path(name),
                ca_file=ca_file,
                certificate=certificate,
                placement=placement,
                rt_priority=rt_priority,
                warn=warn,
            )
    finally:
        os.close(fd)


def place(receiver: int | None, sender: int | None) -> Placement:
    """Choose processors: the receiver alone on one, the sender on another core, everything else elsewhere.

    With two processors everything else shares the sender's; with one nothing is pinned.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        return Placement(receiver, sender, frozenset(allowed))
    if receiver is None:
        receiver = next(cpu for cpu in reversed(allowed) if cpu != sender)
    if sender is None:
        others = [cpu for cpu in allowed if cpu != receiver]
        sender = next((cpu for cpu in others if cpu not in _siblings(receiver)), others[0])
    free = frozenset(allowed) - _siblings(receiver) - {receiver}
    return Placement(receiver, sender, free - {sender} or frozenset({sender}))


@contextlib.contextmanager
def off_receiver_cpu(placement: Placement) -> Iterator[None]:
    """Keep this process and, by default, its children off the receiver's processor."""
    if placement.receiver is None or not placement.rest:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, placement.rest)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def machine() -> dict[str, Any]:
    """A description of the machine, which the figures depend on."""
    allowed = sorted(os.sched_getaffinity(0))
    return {
        "processor": _processor(),
        "architecture": platform.machine(),
        "processors": os.cpu_count(),
        "allowed": allowed,
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "openssl": ssl.OPENSSL_VERSION,
    }


def versions() -> dict[str, str]:
    """The versions of the packages involved, as far as they are installed."""
    found = {"wsrec": __version__}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _siblings(cpu: int) -> frozenset[int]:
    """The processors that share a core with `cpu`, including itself."""
    try:
        text = (_CPUS / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text()
    except OSError:
        return frozenset({cpu})
    ranges = [part.split("-") for part in text.strip().split(",")]
    return frozenset(cpu for ends in ranges for cpu in range(int(ends[0]), int(ends[-1]) + 1))


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
