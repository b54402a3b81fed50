"""What the supervisor asks of one writer process."""

from __future__ import annotations

from typing import Any

import msgspec

from wsrec.feed.plan import ConnectionPlan


class FeedJob(msgspec.Struct, frozen=True, kw_only=True):
    """A feed as the writer needs it: its name and its configuration, secrets removed (`wsrec.feed.schema.Feed`)."""

    name: str
    config: dict[str, Any]


class WriterJob(msgspec.Struct, frozen=True, kw_only=True):
    """Everything one writer needs.

    Attributes:
        session: the session's id, unique to this writer of this run; it begins every file name.
        out: the output folder.
        slots: descriptor of the slot ring's shared memory.
        rings: descriptor of each connection's byte ring, in order of `connections`.
        notes: descriptor of the byte ring of events and of what we sent.
        status: descriptor of the status page.
        connections: the connections of the receiver that feeds this writer.
        feeds: the feeds they belong to.
        cpu: processor to run on.
        rotate_seconds: longest time span of a file, on full multiples of it since the epoch; files also end with
            each hour (UTC), as the folders do.
        rotate_bytes: payload bytes after which a file ends.
        batch_seconds: longest time that a received message waits for its journal batch.
        batch_bytes: payload bytes that make a journal batch at once.
        fsync_seconds: time between two fdatasync of the journal.
        max_message: bytes that a compressed message may inflate to.
        ca_file: PEM file trusted besides the system's certificates, for snapshots.
        session_start: detail of the event that opens the session (targets, options, secrets removed).

    """

    session: str
    out: str
    slots: int
    rings: tuple[int, ...]
    notes: int
    status: int
    connections: tuple[ConnectionPlan, ...]
    feeds: tuple[FeedJob, ...]
    cpu: int | None = None
    rotate_seconds: float = 3600.0
    rotate_bytes: int = 1 << 30
    batch_seconds: float = 0.1
    batch_bytes: int = 8 << 20
    fsync_seconds: float = 1.0
    max_message: int = 64 << 20
    ca_file: str | None = None
    session_start: dict[str, Any] = {}
