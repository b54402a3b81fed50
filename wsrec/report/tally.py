"""Collects rows and events of one feed on one host into the report's `Recording`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wsrec.counts import Counts
from wsrec.format.capture_file import CaptureFile
from wsrec.format.columns import times, words
from wsrec.format.coverage import SequenceCoverage
from wsrec.histogram import Int64s
from wsrec.report.exchange_delay import ExchangeDelays, delay_warnings
from wsrec.report.model import (
    INCIDENT_KINDS,
    Clock,
    Incident,
    Rate,
    Recording,
    Session,
    Unchecked,
)
from wsrec.report.rate import SECOND, Seconds
from wsrec.report.stage_latency import StageLatencies
from wsrec.ring.events import EventKind, refused_count

PAYLOAD = ("text", "data")

_INCIDENTS_A_KIND = 20
_RANGES = 100


class RecordingTally:
    """Running totals of one feed on one host.

    Args:
        feed, host: their names.

    Attributes:
        events_unread: unreadable events files, and folders that may contain some.

    """

    def __init__(self, feed: str, host: str) -> None:
        self.events_unread = 0
        self._feed, self._host = feed, host
        self._sessions: dict[str, _Session] = {}
        self._files = self._file_bytes = self._payload_bytes = 0
        self._events_files = 0
        self._rows: Counter[tuple[str, str]] = Counter()
        self._seconds = Seconds()
        self._stages = StageLatencies()
        self._delays = ExchangeDelays()
        self._reasons: Counter[str] = Counter()
        self._counts = Counts()
        self._gaps_checked = False
        self._compared: Counter[str | None] = Counter()
        self._skipped: dict[str | None, Counter[str]] = {}
        self._clocks: list[str] = []
        self._anchors: dict[str, int] = {}
        self._width: int | None = None
        self._clock_steps: list[int] = []
        self._events: Counter[str] = Counter()
        self._topics: Counter[str] = Counter()
        self._stalled = self._lost = 0
        self._incidents: list[Incident] = []

    def begin(self, file: CaptureFile) -> None:
        """Begin a message file; files come in order of their beginning.

        Raises:
            CaptureError: its metadata can no longer be read.

        """
        about = file.metadata
        self._files += 1
        self._file_bytes += file.size
        self._sessions.setdefault(file.session, _Session()).files += 1
        self._seconds.settle(file.first_time or 0)
        self._counts += about.counts
        self._gaps_checked |= about.gaps_checked
        for word, rows in about.stage1.items():
            if word.startswith("none: "):
                self._reasons[word.removeprefix("none: ")] += rows
        clock = about.clock
        name = clock.get("clock")
        if isinstance(name, str) and name not in self._clocks:
            self._clocks.append(name)
        # counts since the session began
        self._anchors[file.session] = max(self._anchors.get(file.session, 0), integer(clock.get("anchors")))
        if isinstance(clock.get("widest_bracket_ns"), int):
            self._width = max(self._width or 0, clock["widest_bracket_ns"])

    def begin_events(self, file: CaptureFile) -> None:
        """Begin an events file; its feed may have no messages."""
        self._sessions.setdefault(file.session, _Session())
        self._events_files += 1

    def add(self, session: str, batch: Any) -> None:
        """Count a batch of rows."""
        if not batch.num_rows:
            return
        recv_time, _ = times(batch, "recv_time")
        seq = batch.column("seq").cast(pa.uint64()).to_numpy(zero_copy_only=False)
        self._sessions[session].add(seq, recv_time)
        for name in PAYLOAD:
            self._payload_bytes += pc.sum(pc.binary_length(batch.column(name))).as_py() or 0
        direction, directions = words(batch, "direction")
        opcode, opcodes = words(batch, "opcode")
        pairs = np.bincount(direction.astype(np.int64) * len(opcodes) + opcode)
        for pair in np.flatnonzero(pairs).tolist():
            kind = (directions[pair // len(opcodes)] or "(null)", opcodes[pair % len(opcodes)] or "(null)")
            self._rows[kind] += int(pairs[pair])
        received = np.array([word == "recv" for word in directions])[direction]
        if not received.any():
            return
        if not received.all():
            batch, recv_time = batch.filter(pa.array(received)), recv_time[received]
        self._seconds.add(recv_time)
        self._stages.add(batch)
        self._delays.add(batch, recv_time)

    def add_event(self, incident: Incident) -> None:
        """Count an event; keep it if it is one of the first of its kind."""
        kind, detail = incident.kind, incident.detail
        self._events[kind] += 1
        if kind == EventKind.STALL:
            self._stalled += integer(detail.get("duration_ns"))
        elif kind == EventKind.LOST_INTERVAL:
            self._lost += max(integer(detail.get("to")) - integer(detail.get("from")), 0)
        elif kind in (EventKind.REFUSED, EventKind.UNANSWERED, EventKind.LATE):
            self._topics[kind] += refused_count(detail)
        elif kind == EventKind.NOT_INFLATED:
            self._topics[kind] += integer(detail.get("count"))
        elif kind == EventKind.UNCHECKED:
            self._compared[incident.channel] += integer(detail.get("compared"))
            pairs = detail.get("skipped")
            stated = {str(reason): integer(count) for reason, count in pairs.items()} if isinstance(pairs, dict) else {}
            self._skipped.setdefault(incident.channel, Counter()).update(stated)
        elif kind == EventKind.CLOCK_STEP:
            self._clock_steps.append(integer(detail.get("step_ns")))
        if kind in INCIDENT_KINDS and self._events[kind] <= _INCIDENTS_A_KIND:
            self._incidents.append(incident)

    def result(self) -> Recording:
        """The totals as the report's struct."""
        sessions = [_session(name, session) for name, session in self._sessions.items()]
        first = [session.first for session in self._sessions.values() if session.first is not None]
        last = [session.last for session in self._sessions.values() if session.last is not None]
        rows: dict[str, dict[str, int]] = {}
        for (direction, opcode), count in self._rows.most_common():
            rows.setdefault(direction, {})[opcode] = count
        recorded = _union([(s.first, s.last) for s in self._sessions.values()])
        received = sum(rows.get("recv", {}).values())
        peak, peak_time = self._seconds.peak()
        stages = self._stages.tables()
        exchange_delay = self._delays.result()
        return Recording(
            feed=self._feed,
            host=self._host,
            sessions=sorted(sessions, key=lambda session: (session.first_recv_time or 0, session.session)),
            files=self._files,
            events_files=self._events_files,
            events_unread=self.events_unread,
            rows=rows,
            first_recv_time=min(first, default=None),
            last_recv_time=max(last, default=None),
            recorded=recorded,
            rate=Rate(mean=received * SECOND / recorded if recorded else None, peak=peak, peak_time=peak_time)
            if received
            else None,
            payload_bytes=self._payload_bytes,
            file_bytes=self._file_bytes,
            gaps=self._counts.gaps if self._gaps_checked else None,
            counts=self._counts,
            unchecked=[
                Unchecked(channel=channel, compared=self._compared[channel], skipped=dict(skipped))
                for channel, skipped in self._skipped.items()
            ],
            events=dict(sorted(self._events.items())),
            topics=dict(sorted(self._topics.items())),
            stalled=self._stalled,
            lost=self._lost,
            incidents=sorted(self._incidents, key=lambda incident: incident.time),
            stage1=self._stages.stage1(dict(self._reasons.most_common())),
            clock=Clock(
                clocks=self._clocks,
                anchors=sum(self._anchors.values()),
                width=self._width,
                steps=len(self._clock_steps),
                largest_step=max(self._clock_steps, key=abs, default=None),
            ),
            stages=stages,
            exchange_delay=exchange_delay,
            exchange_delay_by_channel=self._delays.by_channel(),
            warnings=[
                *self._stages.warnings(stages),
                *delay_warnings(exchange_delay),
                *_unread_warnings(self._topics[EventKind.NOT_INFLATED], received),
            ],
        )


class _Session:
    def __init__(self) -> None:
        self.files = 0
        self.seq = SequenceCoverage()
        self.first: int | None = None
        self.last: int | None = None

    def add(self, seq: npt.NDArray[np.uint64], recv_time: Int64s) -> None:
        self.seq.add(seq)
        first, last = int(np.min(recv_time)), int(np.max(recv_time))
        self.first = first if self.first is None else min(self.first, first)
        self.last = last if self.last is None else max(self.last, last)


def _session(name: str, session: _Session) -> Session:
    return Session(
        session=name,
        files=session.files,
        rows=session.seq.count,
        first_recv_time=session.first,
        last_recv_time=session.last,
        first_seq=session.seq.first,
        last_seq=session.seq.last,
        missing=session.seq.missing,
        missing_ranges=session.seq.holes(_RANGES),
        duplicates=session.seq.duplicates,
    )


def _union(spans: list[tuple[int | None, int | None]]) -> int:
    """Total length (ns) of the spans, with overlaps counted once."""
    length, until = 0, None
    for first, last in sorted((first, last) for first, last in spans if first is not None and last is not None):
        if until is None or first > until:
            length, until = length + last - first, last
        elif last > until:
            length, until = length + last - until, last
    return length


def _unread_warnings(count: int, received: int) -> Iterator[str]:
    if count:
        yield (
            f"{count:,} of {received:,} received frames are messages that could not be inflated: they are stored "
            "compressed, and their channel, number and time are unknown"
        )


def integer(value: Any) -> int:
    """An integer of an event's detail, which may hold anything; 0 if it is not one."""
    return value if isinstance(value, int) else 0
