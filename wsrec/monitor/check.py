"""The protocol of the checks: their inputs and their findings.

A check is shown rows and events in the order of the stage clock and answers with findings. It has no clock, reads no
file and does nothing about what it finds. Its findings are a function of the rows and events alone: neither how rows
are cut into batches nor how often `advance` is called changes them, only when they are seen. So the writer, which
checks as it records, and `wsrec verify`, which reads the files, find the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, ClassVar, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wsrec.arrays import Flags, Int64s
from wsrec.decode.columns import FieldColumns
from wsrec.feed.schema import Feed
from wsrec.monitor.acks import AckTracker
from wsrec.monitor.sequence_gap import SequenceGap
from wsrec.monitor.streams import StreamTable
from wsrec.plan.request_table import RequestTable
from wsrec.plan.requests import PlannedTopic, planned_topic
from wsrec.ring.events import EventKind


class Signal(StrEnum):
    """Findings that are not events, used only for actions and warnings."""

    BEGUN = "begun"
    """A stream has given its first sign: its confirmation or a message."""
    CLOSING = "closing"
    """The exchange announces that it will close the connection; `word`: how."""
    SETTLED = "settled"
    """A connection brings all that it was asked for; `since`: when it was opened (stage clock)."""
    ASK_APART = "ask_apart"
    """`topics` of a refused request are to be asked for as `parts`, because of `reason`; no parts: not any more."""
    ODD_TIME = "odd_time"
    """A channel has its first time that is too far from its arrival; `unit` in which it would fit."""
    SKIPPING = "skipping"
    """The rule of a channel cannot be applied to all of its messages; `words`."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What a check found.

    Attributes:
        kind: the kind of the event that tells of it; a `Signal` where none does.
        time: when (ns on the stage clock): of the row that shows it, or of the deadline that passed.
        conn, channel, symbol: what it is about.
        detail: what belongs to the kind, as in the event. Moments are on the stage clock, their keys begin with
            `monotonic_`.
        row: `seq` of the row that shows it; None where an event or a deadline does.
        utc: when (ns since the epoch), where that is not what `time` is on UTC.
        stream: number of the stream that it is about (`StreamTable.streams`).
        gap: of a `gap` or `sequence_reset`.

    """

    kind: EventKind | Signal
    time: int
    conn: int | None = None
    channel: str | None = None
    symbol: str | None = None
    detail: dict[str, Any] = {}
    row: int | None = None
    utc: int | None = None
    stream: int | None = None
    gap: SequenceGap | None = None


class MonitorEvent(msgspec.Struct, frozen=True):
    """An event that came through the rings, or that ends the session.

    Attributes:
        kind: what happened.
        time: when (ns on the stage clock).
        conn: the connection.
        detail: what belongs to it.

    """

    kind: EventKind
    time: int
    conn: int | None
    detail: Mapping[str, Any]

    @property
    def topics(self) -> list[str]:
        """The topics that it names."""
        topics = self.detail.get("topics")
        return [topic for topic in topics if isinstance(topic, str)] if isinstance(topics, list | tuple) else []

    @property
    def in_order(self) -> bool:
        """Of a `disconnect`: whether the connection was closed as it should be: no lost interval tells of it."""
        return not self.detail.get("message") and self.detail.get("received_bytes") is not None


class SnapshotRow(NamedTuple):
    """What a row that was fetched over HTTP is of.

    Attributes:
        channel, symbol: of the stream that it was fetched for.
        number: its own sequence number; None where it has none.

    """

    channel: str | None
    symbol: str | None
    number: int | None


@dataclass(slots=True)
class RowBatch:
    """Rows in order, a column an attribute.

    Attributes:
        first: `seq` of the first one.
        conns: the connection of each.
        stage: hand-off of each (ns on the stage clock).
        arrival: `recv_time` of each (ns since the epoch).
        payload: `large_binary` array.
        received: whether it came from the exchange on the connection.
        carries: whether it is text or binary, no control frame.
        readable: which of the received ones may have fields.
        binary: whether it is a binary message.
        requests: the number of the subscription request that each is; 0 where it is none.
        snapshots: those that were fetched over HTTP, by their places.
        fields: what the messages say, with believable times only.
        links: how each row was compared with its predecessor (`wsrec.monitor.comparison.Link`), by the checks.
        runs: the run of compared successions that each belongs to, 0 where to none; empty where nobody wants it.

    """

    first: int
    conns: npt.NDArray[np.uint16]
    stage: Int64s
    arrival: Int64s
    payload: pa.Array
    received: Flags
    carries: Flags
    readable: Flags
    binary: Flags
    requests: npt.NDArray[np.uint32]
    snapshots: Mapping[int, SnapshotRow]
    fields: FieldColumns
    links: npt.NDArray[np.uint8]
    runs: Int64s

    def part(self, start: int, stop: int) -> RowBatch:
        """Some of the rows, without copying them."""
        span = slice(start, stop)
        columns = ("conns", "stage", "arrival", "payload", "received", "carries", "readable", "binary", "requests")
        return replace(
            self,
            first=self.first + start,
            snapshots={row - start: each for row, each in self.snapshots.items() if start <= row < stop},
            fields=FieldColumns._make(column[span] for column in self.fields),
            links=self.links[span],
            runs=self.runs[span],
            **{name: getattr(self, name)[span] for name in columns},
        )


class Setup:
    """What the checks of one feed share.

    Args:
        feed: the feed.
        requests: what its connections ask for; it learns of later requests by their `subscribe` events.
        standby_of: of each connection that stands by, the one that it takes turns with.
        tells_runs: whether the runs of compared messages are wanted, which only a reader does.

    Attributes:
        conns: the connections.
        acks: the requests that wait for an answer.
        streams: the streams that were asked for, and when each had its messages.

    """

    def __init__(
        self, feed: Feed, requests: RequestTable, standby_of: Mapping[int, int], *, with_runs: bool = False
    ) -> None:
        self.feed, self.requests, self.standby_of, self.with_runs = feed, requests, standby_of, with_runs
        self.conns = requests.conns
        self.acks = AckTracker(feed)
        self.streams = StreamTable(feed, {conn: requests.topics(conn) for conn in self.conns})

    def planned(self, conn: int, topic: str) -> PlannedTopic | None:
        """How a message asks for a topic; None where none does."""
        requested = self.requests.topic(conn, topic)
        by_url = self.requests.by_url(conn)
        if requested is None or topic in by_url or requested.channel not in self.feed.channel_table:
            return None
        return planned_topic(self.feed, requested.channel, requested.symbol or "")


class Check:
    """One check. Each answers where it has something to say, and inherits silence elsewhere.

    Args:
        setup: what the checks of the feed share.

    Attributes:
        kinds: the kinds of events that tell of its findings.

    """

    kinds: ClassVar[frozenset[EventKind]] = frozenset()

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    def rows(self, _rows: RowBatch) -> Iterable[Finding]:
        """Rows came; the streams' table knows of them already."""
        return ()

    def event(self, _event: MonitorEvent) -> Iterable[Finding]:
        """Something happened; `advance` was called with its time before."""
        return ()

    def advance(self, _time: int) -> Iterable[Finding]:
        """All up to this moment of the stage clock is known: tell whose deadlines have passed."""
        return ()

    def found(self, _finding: Finding) -> Iterable[Finding]:
        """Another check, or this one, has found something."""
        return ()

    def lost(self, _time: int) -> Iterable[Finding]:
        """Rows or events are missing: what follows does not continue what came before."""
        return ()

    def end_file(self, _time: int) -> Iterable[Finding]:
        """A file ends with a row or event of this time: tell what is counted by file."""
        return ()
