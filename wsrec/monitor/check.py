"""The protocol of the checks: their inputs and their findings.

A check is passed rows and events in the order of the stage clock and returns findings. It has no clock, reads no file
and does not act on what it finds. Its findings depend on the rows and events alone. How rows are cut into batches, and
how often `advance` is called, changes only when they are reported. So the writer, which checks as it records, and
`wsrec verify`, which reads the files, find the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
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
    """A stream has begun: it was confirmed, or had a message."""
    CLOSING = "closing"
    """The exchange announced that it will close the connection; `word`: its word for it."""
    SETTLED = "settled"
    """Every topic of a connection has brought a message or failed; `since`: when it was opened (stage clock)."""
    RESUBSCRIBE = "resubscribe"
    """`topics` of a refused request are to be requested as `parts`, for this `reason`; no parts: not again."""
    ODD_TIME = "odd_time"
    """A channel has its first implausible exchange time; `unit`: the one in which it would be plausible."""
    SKIPPING = "skipping"
    """The rule of a channel cannot be applied to all of its messages; `words`: which, as text."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What a check found.

    Attributes:
        kind: the kind of the event that reports it; a `Signal` where none does.
        time: time of the row that shows it, or of the deadline that passed (ns on the stage clock).
        conn, channel, symbol: what it is about.
        detail: the details of the kind, as in the event. Times are on the stage clock, their keys begin with
            `monotonic_`.
        row: `seq` of the row that shows it; None where an event or a deadline does.
        utc: time of the event (ns since the epoch) where it is not `time` converted to UTC.
        stream: number of the stream that it is about (`StreamTable.streams`).
        gap: the gap, of a `gap` or `sequence_reset`.

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
        kind: its kind.
        time: its time (ns on the stage clock).
        conn: its connection.
        detail: the details of its kind.

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
        """Of a `disconnect`: whether the connection was closed properly, so that there is no `lost_interval` for it."""
        return not self.detail.get("message") and self.detail.get("received_bytes") is not None


class SnapshotRow(NamedTuple):
    """Origin of a row that was fetched over HTTP.

    Attributes:
        channel, symbol: of the stream that it was fetched for.
        number: its own sequence number; None if it has none.

    """

    channel: str | None
    symbol: str | None
    number: int | None


@dataclass(slots=True, kw_only=True)
class RowColumns:
    """Rows in order, as columns, before their fields are read.

    Attributes:
        first: `seq` of the first row.
        conns: the connection of each.
        stage: hand-off of each (ns on the stage clock).
        arrival: `recv_time` of each (ns since the epoch).
        payload: `large_binary` array.
        received: which of them the exchange sent on the connection.
        carries: which are text or binary messages, not control frames.
        readable: which of the received ones may have fields.
        binary: which are binary messages.
        requests: the number of the subscription request that each one is; 0 for other rows.
        snapshots: the rows that were fetched over HTTP, by their places.

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
    snapshots: Mapping[int, SnapshotRow] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class RowBatch(RowColumns):
    """Rows with their fields, which the checks are passed.

    Attributes:
        fields: the fields of the messages, without implausible times.
        links: how each row was compared with its predecessor (`wsrec.monitor.comparison.Link`); set by the checks.
        runs: the run of each row (`wsrec.monitor.sequence_gap.Checked`), 0 for none; set by the checks, empty where
            runs are not reported.

    """

    fields: FieldColumns
    links: npt.NDArray[np.uint8]
    runs: Int64s

    @classmethod
    def of(cls, columns: RowColumns, read: FieldColumns) -> RowBatch:
        """Rows with the fields that were read of them."""
        same = {each.name: getattr(columns, each.name) for each in fields(RowColumns)}
        return cls(**same, fields=read, links=np.zeros(0, np.uint8), runs=np.zeros(0, np.int64))

    def part(self, start: int, stop: int) -> RowBatch:
        """Some of the rows, without copying them."""
        span = slice(start, stop)
        arrays = [each.name for each in fields(self) if each.name not in ("first", "snapshots", "fields")]
        return replace(
            self,
            first=self.first + start,
            snapshots={row - start: each for row, each in self.snapshots.items() if start <= row < stop},
            fields=self.fields.rows(span),
            **{name: getattr(self, name)[span] for name in arrays},
        )


class Setup:
    """State that the checks of one feed share.

    Args:
        feed: the feed.
        requests: the requests of its connections; later ones are added at their `subscribe` events.
        standby_of: for each standby connection, the one that it takes turns with.
        with_runs: whether `RowBatch.runs` is set, which only readers of captures use.

    Attributes:
        conns: the connections.
        acks: the requests that wait for an answer.
        streams: the streams that were requested, and the times of their messages.

    """

    def __init__(
        self, feed: Feed, requests: RequestTable, standby_of: Mapping[int, int], *, with_runs: bool = False
    ) -> None:
        self.feed, self.requests, self.standby_of, self.with_runs = feed, requests, standby_of, with_runs
        self.conns = requests.conns
        self.acks = AckTracker(feed)
        self.streams = StreamTable(feed, {conn: requests.topics(conn) for conn in self.conns})

    def planned(self, conn: int, topic: str) -> PlannedTopic | None:
        """A topic as a message requests it; None if no message does."""
        requested = self.requests.topic(conn, topic)
        by_url = self.requests.by_url(conn)
        if requested is None or topic in by_url or requested.channel not in self.feed.channel_table:
            return None
        return planned_topic(self.feed, requested.channel, requested.symbol or "")


class Check:
    """Base class of a check: a subclass overrides the methods that it needs.

    Args:
        setup: state that the checks of the feed share.

    Attributes:
        kinds: the kinds of events that report its findings.

    """

    kinds: ClassVar[frozenset[EventKind]] = frozenset()

    def __init__(self, setup: Setup) -> None:
        self.setup = setup

    def rows(self, _rows: RowBatch) -> Iterable[Finding]:
        """Take rows; `Setup.streams` has them already."""
        return ()

    def event(self, _event: MonitorEvent) -> Iterable[Finding]:
        """Take an event; `advance` was called with its time before."""
        return ()

    def advance(self, _time: int) -> Iterable[Finding]:
        """Report deadlines that are over by `time` (stage clock): all rows and events up to it were passed."""
        return ()

    def found(self, _finding: Finding) -> Iterable[Finding]:
        """Take a finding of another check, or of this one."""
        return ()

    def lost(self, _time: int) -> Iterable[Finding]:
        """Rows or events are missing: the next ones do not continue those before."""
        return ()

    def end_file(self, _time: int) -> Iterable[Finding]:
        """A file ends with a row or event of this time: report what is counted per file."""
        return ()
