"""The current pair of files: message rows are written as they arrive, events at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from wsrec.arrays import where_set
from wsrec.format import layout
from wsrec.format.metadata import FileMetadata
from wsrec.format.moment import Moment
from wsrec.format.schema import EVENT_SCHEMA, MESSAGE_SCHEMA
from wsrec.format.segment_histograms import SegmentHistograms
from wsrec.format.stage_histograms import Durations, StageHistograms
from wsrec.ring.events import EventKind
from wsrec.stages import SegmentOrder, StampSource
from wsrec.writer.disk import Disk
from wsrec.writer.gather import Slots
from wsrec.writer.output import Encoder, ParquetOutput
from wsrec.writer.rows import Int64s, Stamps, segment_times
from wsrec.writer.segment_slots import has_segments


class Landed(NamedTuple):
    """Finished files.

    Attributes:
        bytes: size of the message file; 0 without one.
        sha256, events_sha256: of the files' bytes; None without a file.

    """

    bytes: int
    sha256: str | None
    events_sha256: str | None


class FilePair:
    """One message file and its events file.

    Args:
        folder: the folder for unfinished files.
        feed: the feed's name.
        disk: the policy for disk errors.
        encoder: encodes the row groups; None for a private one.
        live_steps: the status page's histograms of the steps, to count there too.

    Attributes:
        since: the first row or event; None before any.
        until: the last row.
        times: `recv_time` of the first and last row; None without rows.

    """

    def __init__(self, folder: Path, feed: str, disk: Disk, encoder: Encoder | None, live_steps: Int64s | None) -> None:
        self._folder, self._feed, self._disk, self._encoder = folder, feed, disk, encoder
        self._messages: ParquetOutput | None = None
        self._events: list[dict[str, Any]] = []
        self.since: Moment | None = None
        self.until = Moment(0, 0)
        self.times: tuple[int, int] | None = None
        self._stage1: dict[str, int] = {}
        self._steps = StageHistograms(live_steps)
        self._segments = SegmentHistograms()

    @property
    def rows(self) -> int:
        """Rows of the message file."""
        return self._messages.rows if self._messages else 0

    @property
    def events(self) -> int:
        """Rows of the events file."""
        return len(self._events)

    def begin(self, moment: Moment) -> None:
        """Note the moment of a row or event."""
        if self.since is None:
            self.since = moment

    def add(self, rows: pa.Table, size: int, number: int) -> None:
        """Add rows with `size` payload bytes to the message file of this number.

        Raises:
            OSError: the disk is full or gone.

        """
        if self._messages is None:
            self._messages = ParquetOutput(self._partial("messages", number), MESSAGE_SCHEMA, self._disk, self._encoder)
        self._messages.append(rows, size)

    def count(self, slots: Slots, when: Stamps) -> None:
        """Count rows for the metadata: their times, the sources of stage 1, the durations of the steps."""
        times, received = when.recv_time, when.received
        self.begin(when.moment(0))
        self.until = when.moment(-1)
        self.times = (self.times[0] if self.times else int(times[0]), int(times[-1]))
        if not received.any():
            return
        sources = np.bincount(slots["source"] if received.all() else slots["source"][received])
        for source in where_set(sources).tolist():
            word = _stage1_word(StampSource(source))
            self._stage1[word] = self._stage1.get(word, 0) + int(sources[source])
        if has_segments(slots):
            found = segment_times(slots)
            # as `SegmentHistograms.add_rows`
            timed = found.order != SegmentOrder.REPEATED
            read_stamp, first_segment = ((ns, has & timed) for ns, has in (found.read_stamp, found.first_segment))
            self._segments.add(read_stamp, first_segment, found.counted())
        self._steps.add(slots["frame_in_read"], step_durations(when), None if received.all() else received)

    def event(self, moment: Moment, kind: EventKind, conn: int | None, detail: dict[str, Any]) -> None:
        """Add an event; `channel` and `symbol` in the detail go into their columns."""
        self._events.append(
            {
                "time": moment.utc,
                "monotonic": moment.stage,
                "kind": kind.value,
                "conn": conn,
                "channel": detail.pop("channel", None),
                "symbol": detail.pop("symbol", None),
                "detail": msgspec.json.encode(detail).decode(),
            }
        )

    def settle(self) -> None:
        """Encode all rows added so far.

        Raises:
            OSError: the disk is full or gone.

        """
        if self._messages is not None:
            self._messages.settle()

    def about(self) -> dict[str, Any]:
        """The metadata about the rows' stamps."""
        return {"stages": self._steps.to_json(), "stage1": self._stage1, "segments": self._segments.to_json()}

    def finish(self, out: Path, name: Path, number: int, metadata: FileMetadata, *, first: bool) -> Landed:
        """Finish both files, under this name in the folders `messages` and `events` of the output folder.

        Args:
            out: the output folder.
            name: the files' name.
            number: their number.
            metadata: their metadata.
            first: whether they are their session's first.

        Raises:
            OSError: the disk is full or gone; files already written stay.

        """
        size, digest, events_digest = 0, None, None
        if self._events:
            events = ParquetOutput(self._partial("events", number), EVENT_SCHEMA, self._disk, self._encoder)
            # findings about a batch's rows were added after the batch's events
            self._events.sort(key=lambda row: Moment(row["time"], row["monotonic"]).order)
            table = pa.Table.from_pylist(self._events, EVENT_SCHEMA)
            events.append(table, table.nbytes)
            about = metadata.encode_events(brief=self._messages is not None and not first)
            _, events_digest = events.finish(out / layout.EVENTS / name, about)
        if self._messages is not None:
            size, digest = self._messages.finish(out / layout.MESSAGES / name, metadata.encode())
        return Landed(size, digest, events_digest)

    def _partial(self, kind: str, number: int) -> Path:
        return self._folder / f"{kind}-{self._feed}-{number:06d}.parquet.partial"


def step_durations(when: Stamps) -> list[Durations]:
    """The durations of each step between two stages, where rows have them."""
    received = None if when.received.all() else when.received
    stamped = when.stamped if received is None else when.received & when.stamped
    nic, *others = when.steps
    return [(nic, None if stamped.all() else stamped), *((ns, received) for ns in others)]


def _stage1_word(source: StampSource) -> str:
    return source.word if source.reason is None else f"none: {source.reason}"
