"""The figures, as they are written to JSON and read back: every round of every contestant, nothing averaged.

Times and durations are in ns.
"""

from __future__ import annotations

from typing import Any

import msgspec

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}

Quantiles = dict[str, float]
"""Durations by the names of `QUANTILES`."""


class SaturatedRound(msgspec.Struct, frozen=True):
    """CPU and wall time of the receiving process a message; how often full rings stopped reading, for wsrec."""

    cpu_ns: float
    wall_ns: float
    stalls: int | None = None


class PacedRound(msgspec.Struct, frozen=True):
    """One-way latency, and wsrec's own steps by their keys (`wsrec.stages`); `own` is their sum for each frame."""

    one_way: Quantiles
    steps: dict[str, Quantiles] = {}
    alone: float | None = None
    """Share of the frames that were alone in their read."""


class RecordingRound(msgspec.Struct, frozen=True):
    """One recording.

    Attributes:
        messages, rows: how many were sent, and rows found in the finished files.
        identical: whether each row's payload is the one that was sent, byte for byte and in order.
        handoff_ns: from the first message's hand-off to the last's.
        finished_ns: from the first message's hand-off to the end of the process, all files finished.
        bytes_on_disk: size of the finished Parquet files.
        stalls: how often full rings stopped reading.
        steps: PARSED->HANDOFF, of all frames and of the first in their read.

    """

    messages: int
    rows: int
    identical: bool
    handoff_ns: int
    finished_ns: int
    bytes_on_disk: int
    stalls: int | None = None
    steps: dict[str, Quantiles] = {}


class Saturated(msgspec.Struct, frozen=True):
    """A contestant's rounds over one transport."""

    name: str
    transport: str
    rounds: list[SaturatedRound]


class Paced(msgspec.Struct, frozen=True):
    """A contestant's rounds over one transport."""

    name: str
    transport: str
    rounds: list[PacedRound]


class Recording(msgspec.Struct, frozen=True):
    """A contestant's rounds."""

    name: str
    rounds: list[RecordingRound]


class Results(msgspec.Struct, kw_only=True):
    """Everything that one run of the bench found.

    Attributes:
        when: time of the run (ISO 8601, UTC).
        machine, versions: what it ran on, and what took part.
        options: what was asked for.
        mean_bytes: payload bytes of a message on average.
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
