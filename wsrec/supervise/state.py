"""The state of a running recording, as everything shows it: live view, `wsrec status`, metrics, systemd.

Made by `wsrec.supervise.state_sampler`; as JSON it is the answer of a recorder to `wsrec status`. Durations are ns,
sizes bytes, times ns since the epoch. Nothing in it is secret; texts from exchanges are as they came: whoever prints
them cleans them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from wsrec.counts import Counts

Phase = Literal["starting", "recording", "finishing"]
ConnectionStatus = Literal["waiting", "connecting", "open", "silent", "down", "ended"]
"""`waiting`: its turn to connect has not come (the exchange limits attempts). `connecting`: not open yet. `open`: open.
`silent`: open, but without a message for longer than the feed's idle timeout. `down`: it was open, and is being
reconnected. `ended`: it ended for good."""

NOT_UP = ("connecting", "silent", "down", "ended")
"""The states of a connection that are a problem."""


class Latency(msgspec.Struct, frozen=True):
    """Median and 99th percentile of a latency (ns) over the last window; None without a message in it."""

    p50: int | None = None
    p99: int | None = None


class ConnectionState(msgspec.Struct, frozen=True, kw_only=True):
    """A planned connection, and the standby that takes turns with it.

    Attributes:
        feed: the feed's name.
        conn: its number.
        active: the number that its rows have now: its own, or its standby's.
        host: host and port that it connects to.
        state: see `ConnectionStatus`.
        opened_ns: time since it was last opened; None before the first time.
        age_ns: time since the hand-off of its last message; None before the first one.
        messages, payload_bytes: of messages received. While it is replaced, messages arrive twice.
        wire_bytes: bytes received, decrypted.
        rate: messages per second over the last window.
        latency: from the NIC, or without its stamp from the readiness of the socket, to the hand-off.
        reconnects, stalls: how often it was reconnected, and paused because its ring was full.

    """

    feed: str
    conn: int
    active: int
    host: str
    state: ConnectionStatus
    opened_ns: int | None
    age_ns: int | None
    messages: int
    payload_bytes: int
    wire_bytes: int
    rate: float
    latency: Latency
    reconnects: int
    stalls: int


class ProcessState(msgspec.Struct, frozen=True, kw_only=True):
    """A receiver or a writer.

    Attributes:
        name: its name in log lines.
        pid: its process id; 0 before it was started.
        heartbeat_ns: time since its last heartbeat; None before the first one.
        restarts: how often it was restarted.

    """

    name: str
    pid: int
    heartbeat_ns: int | None
    restarts: int


class StepState(msgspec.Struct, frozen=True):
    """The latency of a step between two stages (`wsrec.stages`), by its key; `total` is the sum."""

    key: str
    latency: Latency


class WarningState(msgspec.Struct, frozen=True, kw_only=True):
    """Warnings or errors that differ in their figures at most.

    Attributes:
        level: `warning` or `error`.
        count: how many there were.
        time: of the last one.
        message, hint, feed, conn: of the last one; the latter two are null if it is about none, or several.

    """

    level: str
    count: int
    time: int
    message: str
    hint: str | None = None
    feed: str | None = None
    conn: int | None = None


class DiskState(msgspec.Struct, frozen=True, kw_only=True):
    """The disk of the output folder.

    Attributes:
        free: bytes that this user may still write, without the `--reserve`.
        full_in_ns: time until it is full if its free space goes on falling as in the last hour; None if it does not
            fall, or this is not known yet.

    """

    free: int
    full_in_ns: int | None


class RecorderState(msgspec.Struct, frozen=True, kw_only=True):
    """A running recorder.

    Attributes:
        version: its version of wsrec.
        pid: process id of its supervisor.
        out: its output folder, absolute.
        holds_folder: whether it holds the folder; not yet while it takes it over.
        sessions: its sessions, one per receiver.
        targets, feeds: what it records.
        time: when this was sampled.
        began: when it was started.
        until: when it will end; None if unknown.
        phase: `starting` until the first connection is open, `finishing` once it is ending.
        reason: why it is ending; None before.
        connections: all planned ones.
        counts: the counters of the recording (`wsrec.counts`).
        window_ns: length of the last window.
        rate, payload_rate, wire_rate: messages, bytes of payload, and bytes received, per second over the last window.
        steps: latency of each step, and of the total.
        ring_fill: fill level of the fullest ring, 0 to 1.
        journal_lag_ns: age of the oldest data that is in no journal.
        waiting: frames and events in the rings that are in no journal.
        files, journalled_bytes: finished pairs of files, and bytes written to the journals.
        disk: the disk; None if it cannot be read.
        disk_trouble: whether a writer is waiting for the disk.
        next_rotation: when the next file begins, unless it gets too large before.
        reconnects, stalls, restarts: of all connections and processes.
        processes: receivers and writers.
        log_lines: lines logged so far, by level.
        warnings: the last warnings and errors, the newest first.

    """

    version: str
    pid: int
    out: str
    holds_folder: bool
    sessions: tuple[str, ...]
    targets: tuple[str, ...]
    feeds: tuple[str, ...]
    time: int
    began: int
    until: int | None
    phase: Phase
    reason: str | None
    connections: tuple[ConnectionState, ...]
    counts: Counts
    window_ns: int
    rate: float
    payload_rate: float
    wire_rate: float
    steps: tuple[StepState, ...]
    ring_fill: float
    journal_lag_ns: int
    waiting: int
    files: int
    journalled_bytes: int
    disk: DiskState | None
    disk_trouble: bool
    next_rotation: int
    reconnects: int
    stalls: int
    restarts: int
    processes: tuple[ProcessState, ...]
    log_lines: dict[str, int]
    warnings: tuple[WarningState, ...]

    @property
    def connected(self) -> int:
        """Number of open connections."""
        return sum(each.state in ("open", "silent") for each in self.connections)
