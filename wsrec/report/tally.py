"""The tally of one feed on one host, from its rows and events to the report's `Recording`."""

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
    """What is known so far of one feed on one host.

    Args:
        feed, host: their names.

    Attributes:
        events_unread: events files that cannot be read, and folders in which some may lie.

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
        """A message file follows; no later one begins before it.

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
        # counted since the session began
        self._anchors[file.session] = max(self._anchors.get(file.session, 0), integer(clock.get("anchors")))
        if isinstance(clock.get("widest_bracket_ns"), int):
            self._width = max(self._width or 0, clock["widest_bracket_ns"])

    def begin_events(self, file: CaptureFile) -> None:
        """An events file follows, which may be of a feed that brought nothing."""
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
        """Count an event; keep it where it is one of the first of its kind."""
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
        """All of it as the report's struct."""
        sessions = [_session(name, session) for name, session in self._sessions.items()]
        first = [session.first for session in self._sessions.values() if session.first is not None]
        last = [session.last for session in self._sessions.values() if session.last is not None]
        rows: dict[str, dict[str, int]] = {}
        for (direction, opcode), count in self._rows.most_common():
            rows.setdefault(direction, {})[opcode] = count
        recorded = _covered([(s.first, s.last) for s in self._sessions.values()])
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
        first, last = int(recv_time.min()), int(recv_time.max())
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


def _covered(spans: list[tuple[int | None, int | None]]) -> int:
    """The time (ns) that the spans cover, overlaps once."""
    covered, until = 0, None
    for first, last in sorted((first, last) for first, last in spans if first is not None and last is not None):
        if until is None or first > until:
            covered, until = covered + last - first, last
        elif last > until:
            covered, until = covered + last - until, last
    return covered


def _unread_warnings(count: int, received: int) -> Iterator[str]:
    if count:
        yield (
            f"{count:,} of {received:,} frames received are messages that do not inflate: they are as they came, "
            "compressed, and what channel, number and time they have is not known"
        )


def integer(value: Any) -> int:
    """A number of an event's detail, which may be anybody's; 0 where it is none."""
    return value if isinstance(value, int) else 0
