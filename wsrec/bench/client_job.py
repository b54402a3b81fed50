"""The job of a client's process, and what it measures."""

from __future__ import annotations

import mmap
import ssl
import time
from enum import StrEnum

import msgspec

from wsrec.bench import cpu_time
from wsrec.net.trust import tls_context


class Measure(StrEnum):
    """A client's work on each message."""

    SATURATED = "saturated"
    PACED = "paced"
    RECORDING = "recording"


class ClientJob(msgspec.Struct, frozen=True, kw_only=True):
    """The job of a client process.

    Attributes:
        name: the client.
        measure: discard the messages, note the time of each, or record them.
        url: where to connect.
        ca_file: PEM file of the CA to trust, for TLS.
        cpu, rt_priority: as in `wsrec.receive.job.ReceiverJob`.
        times: paced: descriptor of 64-bit words, for the CLOCK_MONOTONIC ns of each message.
        out: recording: the Parquet file to write.

    """

    name: str
    measure: Measure
    url: str
    ca_file: str | None = None
    cpu: int | None = None
    rt_priority: int | None = None
    times: int | None = None
    out: str | None = None


class Measured(msgspec.Struct, frozen=True, tag="measured", tag_field="type"):
    """A client's result (ns) from its first message to the end: CPU time, wall time, CPU in user space if known."""

    cpu_ns: int
    wall_ns: int
    user_ns: float | None = None


class Meter:
    """Measures CPU and wall time from its creation."""

    def __init__(self) -> None:
        self._began, self._cpu_began = time.monotonic_ns(), cpu_time.own()

    def read(self) -> Measured:
        """The time elapsed so far."""
        cpu, user = cpu_time.own().since(self._cpu_began)
        return Measured(cpu, time.monotonic_ns() - self._began, user)


def context_for(ca_file: str | None) -> ssl.SSLContext | None:
    """A context that verifies against `ca_file`; None without one, for tcp."""
    return tls_context(ca_file) if ca_file else None


def times_of(job: ClientJob) -> memoryview:
    """Where the time of each message goes."""
    assert job.times is not None
    return memoryview(mmap.mmap(job.times, 0)).cast("Q")
