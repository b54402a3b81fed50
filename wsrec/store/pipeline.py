"""From batches to finished files: the same way for a writer at work and for a journal that was left behind."""

from __future__ import annotations

import os
import platform
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from wsrec.ring.events import Event, EventKind
from wsrec.ring.slotring import Flag
from wsrec.ring.status import StatusPage
from wsrec.store import manifest
from wsrec.store.batch import Batch, payload_list
from wsrec.store.disk import GIVES_UP, Disk
from wsrec.store.feedfile import Ask, FeedWriter
from wsrec.store.gather import Slots
from wsrec.store.inflate import inflate
from wsrec.store.job import WriterJob
from wsrec.store.joiner import Joiner
from wsrec.store.output import Encoder
from wsrec.store.rows import Int64s, stamps

_EVENT = int(Flag.EVENT)
# from the receiver on the monotonic clock, in the events file on UTC
_MONOTONIC = "monotonic_"


class Pipeline:
    """Turns batches into rows and rows into files.

    Args:
        job: the writer's job.
        folder: the session's folder, where unfinished files grow.
        status: where to count for the live view, if somebody looks.
        next_seq: `seq` of the next row of each feed, 0 where it is not given.
        disk: what to do when the disk refuses.
        ask: passes on what feeds want done about silence and gaps; None where nothing is to be done any more.

    Attributes:
        feeds: the writers of the feeds, by name.
        active: the names of those that write; recovery leaves out what has landed.
        last_time: hand-off of the last slot that was taken, ns since the epoch; None before the first.

    """

    def __init__(
        self,
        job: WriterJob,
        folder: Path,
        status: StatusPage | None = None,
        next_seq: dict[str, int] | None = None,
        disk: Disk = GIVES_UP,
        ask: Ask | None = None,
    ) -> None:
        seq = next_seq or {}
        encoder = Encoder()
        live_steps = None if status is None else status.steps
        self.feeds = {
            feed.name: FeedWriter(feed, job, folder, seq.get(feed.name, 0), disk, encoder, live_steps, ask)
            for feed in job.feeds
        }
        self.active = set(self.feeds)
        self._disk = disk
        self.last_time: int | None = None
        self._job = job
        self._status = status
        self._joiner = Joiner()
        self._conns_of = {
            feed.name: [plan.conn for plan in job.connections if plan.feed == feed.name] for feed in job.feeds
        }
        self._offset: int | None = None
        self._anchors = 0
        self._clock: str | None = None
        self._widest = 0
        self._drift = 0
        self._steps = 0
        self._scheduling: dict[str, Any] = {}
        self._connections: dict[int, dict[str, Any]] = {
            plan.conn: {"conn": plan.conn, "feed": plan.feed, "url": plan.public_url, "stands_for": plan.stands_for}
            for plan in job.connections
        }

    @property
    def pending(self) -> bool:
        """Whether a message is unfinished: the journal that holds its beginning is still needed."""
        return self._joiner.pending

    def take(self, batch: Batch, number: int) -> None:
        """Write a batch to the files of this number.

        Raises:
            OSError: the disk is full or gone.

        """
        slots, payload = self._joiner.join(batch)
        if not len(slots):
            return
        slots, payload, compressed = inflate(slots, payload, self._job.max_message)
        rows = np.flatnonzero(slots["flags"] & _EVENT)
        events = _events(payload, rows)
        offset = self._offsets(len(slots), rows, events)
        # from event to event, as slices: messages with the events taken out from among them would be a copy
        start = 0
        for row, event in zip(rows.tolist(), events, strict=True):
            self._add(slots[start:row], offset[start:row], payload[start:row], number)
            self._event(int(slots["handoff"][row]) + int(offset[row]), int(offset[row]), event)
            start = row + 1
        self._add(slots[start:], offset[start:], payload[start:], number)
        for row, message in compressed:
            conn, length = int(slots["conn"][row]), len(payload[row].as_buffer())
            event = Event(EventKind.NOT_INFLATED, conn, detail={"message": message, "bytes": length})
            self._event(int(slots["handoff"][row]) + int(offset[row]), int(offset[row]), event)
        self.last_time = int(slots["handoff"][-1]) + int(offset[-1])
        for feed in self.feeds.values():
            feed.expire_acks(self.last_time)
            feed.look_for_silence(self.last_time)
        self._publish()

    def remember(self, batch: Batch) -> None:
        """Take from a batch whose files have landed what the next ones need: beginnings of messages, and the clock."""
        slots, payload = self._joiner.join(batch)
        if len(slots):
            rows = np.flatnonzero(slots["flags"] & _EVENT)
            self._offsets(len(slots), rows, _events(payload, rows))

    def follow_clock(self, offset: int) -> None:
        """Map stages 2 to 6 onto UTC by this offset (ns) until the first anchor: where what came before has gone."""
        self._offset = offset

    def finish(self, number: int) -> list[manifest.ManifestLine]:
        """Finish the files of this number, and enter them into the manifest.

        Raises:
            OSError: the disk is full or gone.

        """
        shared = {
            "host": _host(),
            "scheduling": self._scheduling,
            "connections": list(self._connections.values()),
            "clock": {
                "clock": self._clock,
                "anchors": self._anchors,
                "widest_bracket_ns": self._widest,
                "largest_drift_ns": self._drift,
                "steps": self._steps,
            },
        }
        lines = []
        for feed in self._writing():
            line = feed.finish(number, shared)
            if line is not None:
                self._disk.retry(lambda line=line: manifest.append(Path(self._job.out), line))  # type: ignore[misc]
                lines.append(line)
        if self._status is not None:
            self._status.writer["files"] += len(lines)
        self._publish()
        return lines

    def event(self, time: int, kind: EventKind, **detail: Any) -> None:
        """Write an event of the writer's own to every feed (time: ns since the epoch)."""
        for feed in self._writing():
            feed.event(time, kind, **dict(detail))

    def _add(self, slots: Slots, offset: Int64s, payload: pa.Array, number: int) -> None:
        if not len(slots):
            return
        when = stamps(slots, offset)
        if len(self.feeds) == 1:
            for feed in self._writing():
                feed.add(slots, when, payload, number)
            return
        for feed in self._writing():
            rows = np.flatnonzero(np.isin(slots["conn"], self._conns_of[feed.name]))
            if len(rows):
                feed.add(slots[rows], when.select(rows), payload.take(pa.array(rows)), number)

    def _writing(self) -> list[FeedWriter]:
        return [feed for name, feed in self.feeds.items() if name in self.active]

    def _offsets(self, count: int, rows: Int64s, events: list[Event]) -> Int64s:
        """What turns each slot's monotonic stamps into UTC, by the last anchor (of the events, at `rows`) before it."""
        marks = [(-1, self._offset)] if self._offset is not None else []
        for row, event in zip(rows, events, strict=True):
            if event.kind is EventKind.ANCHOR:
                # a journal's rows before its first anchor have no better one
                marks.append((int(row) if marks else -1, event.detail["realtime"] - event.detail["monotonic"]))
        self._offset = marks[-1][1] if marks else None
        if len(marks) < 2:
            return np.full(count, self._offset or 0, np.int64)
        at = np.searchsorted([row for row, _ in marks], np.arange(count), side="right") - 1
        offset: Int64s = np.array([value for _, value in marks], np.int64)[np.maximum(at, 0)]
        return offset

    def _event(self, time: int, offset: int, event: Event) -> None:
        detail = dict(event.detail)
        if event.kind is EventKind.ANCHOR:
            self._anchors += 1
            self._clock = detail["clock"]
            self._widest = max(self._widest, detail["width_ns"])
            self._drift = max(self._drift, abs(detail["drift_ns"]))
        elif event.kind is EventKind.CLOCK_STEP:
            self._steps += 1
        elif event.kind is EventKind.SCHEDULING:
            self._scheduling[detail["process"]] = {key: value for key, value in detail.items() if key != "process"}
        elif event.kind is EventKind.TLS and event.conn is not None:
            about = ("mode", "fallback", "version", "cipher", "bits")
            self._connections[event.conn]["tls"] = {key: detail[key] for key in about}
        elif event.kind is EventKind.CONNECT and event.conn is not None:
            self._connections[event.conn]["compression"] = detail.get("compression")
        for key in [key for key in detail if key.startswith(_MONOTONIC)]:
            detail[key.removeprefix(_MONOTONIC)] = detail.pop(key) + offset
        if event.kind is EventKind.LOST_INTERVAL and "duration_ns" not in detail:
            detail["duration_ns"] = detail["to"] - detail["from"]
        for feed in self._writing():
            if event.conn is None or event.conn in self._conns_of[feed.name]:
                feed.event(time, event.kind, conn=event.conn, **dict(detail))

    def _publish(self) -> None:
        if self._status is None:
            return
        writer, feeds = self._status.writer, self.feeds.values()
        writer["messages"] = sum(feed.messages for feed in feeds)
        writer["payload_bytes"] = sum(feed.payload_bytes for feed in feeds)
        writer["gaps"] = sum(feed.gaps for feed in feeds)
        writer["lost_intervals"] = sum(feed.lost_intervals for feed in feeds)
        writer["refused"] = sum(feed.refused for feed in feeds)


def _events(payload: pa.Array, rows: Int64s) -> list[Event]:
    return [Event.decode(data) for data in payload_list(payload.take(pa.array(rows)))] if len(rows) else []


def _host() -> dict[str, Any]:
    return {
        "name": socket.gethostname(),
        "system": platform.system(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "processor": _processor(),
        "processors": os.cpu_count(),
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
