"""The figures as stored in JSON: every round of every contestant, nothing averaged.

Times and durations are in ns.
"""

from __future__ import annotations

from typing import Any

import msgspec

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}

Quantiles = dict[str, float]
"""Durations by the names of `QUANTILES`."""


RECORDS = ("lone", "bulk")
"""How frames are sent: each in a TLS record (over tcp: by a send) of its own, or as many in one as fit."""


class SaturatedRound(msgspec.Struct, frozen=True):
    """A round at full speed, per message.

    Attributes:
        cpu_ns, wall_ns: CPU and wall time (ns) in the receiving process.
        stalls: for wsrec, how often full rings stopped reading, in the whole round.
        user_ns: the part of `cpu_ns` in user space; None if the system does not tell.
        frames_a_read: for wsrec, how many frames a read brought.

    """

    cpu_ns: float
    wall_ns: float
    stalls: int | None = None
    user_ns: float | None = None
    frames_a_read: float | None = None


class PacedRound(msgspec.Struct, frozen=True):
    """A round at a fixed rate.

    Attributes:
        one_way: one-way latency (ns).
        steps: wsrec's steps (ns) by their keys (`wsrec.stages`); `own` is the sum of its own for each frame, and
            `sent_to_event` begins just before the send.
        cpu_ns, user_ns, frames_a_read: as in `SaturatedRound`.

    """

    one_way: Quantiles
    steps: dict[str, Quantiles] = {}
    cpu_ns: float | None = None
    user_ns: float | None = None
    frames_a_read: float | None = None


def per_message(total: float | None, count: int) -> float | None:
    """`total` of `count` messages, if it is known."""
    return None if total is None else total / count


class RecordingRound(msgspec.Struct, frozen=True):
    """One recording.

    Attributes:
        messages, rows: how many were sent, and rows found in the finished files.
        identical: whether every payload is identical to the one sent, in order.
        handoff_ns: from the hand-off of the first message to that of the last.
        finished_ns: from the hand-off of the first message to the end of the process, all files finished.
        bytes_on_disk: size of the finished Parquet files.
        cpu_ns: CPU time of all its processes from the first message to their end; None: not measured.
        stalls: how often full rings stopped reading.
        steps: PARSED->HANDOFF, for all frames and for the first ones of their read.

    """

    messages: int
    rows: int
    identical: bool
    handoff_ns: int
    finished_ns: int
    bytes_on_disk: int
    stalls: int | None = None
    steps: dict[str, Quantiles] = {}
    cpu_ns: int | None = None


class Saturated(msgspec.Struct, frozen=True):
    """A contestant's rounds on one transport.

    Attributes:
        name: the contestant.
        transport: `tcp` or `tls`.
        rounds: its rounds.
        records: one of `RECORDS`.
        messages_a_record: how many messages are in a record on average, over tcp in a send.

    """

    name: str
    transport: str
    rounds: list[SaturatedRound]
    # of files from before both were measured
    records: str = "bulk"
    messages_a_record: float | None = None


class Paced(msgspec.Struct, frozen=True):
    """A contestant's rounds on one transport.

    Attributes:
        name: the contestant.
        transport: `tcp` or `tls`.
        rounds: its rounds.
        records: one of `RECORDS`.
        messages_a_record: how many messages are in a record on average, over tcp in a send.

    """

    name: str
    transport: str
    rounds: list[PacedRound]
    # of files from before both were measured
    records: str = "lone"
    messages_a_record: float | None = None


class Recording(msgspec.Struct, frozen=True):
    """A contestant's rounds."""

    name: str
    rounds: list[RecordingRound]


class Operation(msgspec.Struct, frozen=True):
    """What a single operation takes on this machine.

    Attributes:
        name: one of `wsrec.bench.limits`.
        ns: the shortest of several tries; of what depends on another processor, the median.

    """

    name: str
    ns: float


class RecordCost(msgspec.Struct, frozen=True):
    """What opening a TLS 1.3 record of AES-256-GCM takes (ns), the shortest of several tries.

    Attributes:
        size: bytes of its content.
        evp_ns: by libcrypto's EVP alone, the floor.
        reader_ns: by wsrec's record layer.
        ssl_ns: by Python's `ssl`: written into a memory BIO, read into a buffer.

    """

    size: int
    evp_ns: float
    reader_ns: float
    ssl_ns: float


class Pace(msgspec.Struct, frozen=True):
    """wsrec's steps beside those of a loop in C that does nothing else, lone TLS records at the same pace.

    Attributes:
        waiting: whether the receiver waits for the kernel, or polls all the time.
        wsrec: rounds by TLS mode.
        in_c: as many rounds; `recv_start_to_recv_end` has its parts, `recv_start_to_read` and `read_to_recv_end`.

    """

    waiting: bool
    wsrec: dict[str, list[PacedRound]]
    in_c: list[PacedRound]


class Limits(msgspec.Struct, frozen=True):
    """What this machine can do at best, and how far wsrec is from it.

    Attributes:
        operations: single operations.
        records: opening TLS records, by size.
        paces: the steps, waiting and not.
        frame_bytes: bytes of a frame of `paces`.

    """

    operations: list[Operation]
    records: list[RecordCost]
    paces: list[Pace]
    frame_bytes: int


class Results(msgspec.Struct, kw_only=True):
    """The results of one bench run.

    Attributes:
        when: time of the run (ISO 8601, UTC).
        machine, versions: the machine, and the versions of the contestants.
        options: the options of the run.
        mean_bytes: mean payload size of a message in bytes.
        left_out: contestants that were not measured, and why.

    """

    when: str
    machine: dict[str, Any]
    versions: dict[str, str]
    options: dict[str, Any]
    mean_bytes: float
    left_out: dict[str, str] = {}
    saturated: list[Saturated] = []
    paced: list[Paced] = []
    recording: list[Recording] = []
    limits: Limits | None = None
