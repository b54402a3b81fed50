"""Collects rows and events of one feed on one host into the report's `Recording`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, ClassVar, cast

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wsrec.arrays import Flags, distinct
from wsrec.counts import Counts
from wsrec.format.capture_file import CaptureFile
from wsrec.format.columns import times, words
from wsrec.format.layout import other as other_of_pair
from wsrec.format.metadata import FileMetadata
from wsrec.format.segment_histograms import SegmentHistograms
from wsrec.format.stage_histograms import StageHistograms
from wsrec.histogram import Int64s
from wsrec.report.exchange_delay import ExchangeDelays, delay_warnings
from wsrec.report.incidents import INCIDENTS_A_KIND, earliest, json_texts, order
from wsrec.report.model import (
    INCIDENT_KINDS,
    Channel,
    Clock,
    Incident,
    Rate,
    Recording,
    Tls,
    Unchecked,
    Verdict,
)
from wsrec.report.rate import SECOND, Seconds
from wsrec.report.session_tally import SessionTally, union
from wsrec.report.stage_latency import COLUMNS as STAGE_COLUMNS
from wsrec.report.stage_latency import StageLatencies
from wsrec.report.verdict import PROVING, rules_of
from wsrec.ring.events import EventKind, refused_count

PAYLOAD = ("text", "data")
COLUMNS = (
    "seq",
    "recv_time",
    "direction",
    "opcode",
    "channel",
    "exchange_time",
)
"""What `RecordingTally.add` needs of a batch."""
STATED = (*STAGE_COLUMNS, *PAYLOAD)
"""What it needs besides of a file without metadata for `RecordingTally.add_stated`."""

_UNJUDGED = Verdict(state="unproved", sentence="", missing=[], unknown=[])
_COUNTED = (
    EventKind.STALL,
    EventKind.LOST_INTERVAL,
    EventKind.REFUSED,
    EventKind.UNANSWERED,
    EventKind.LATE,
    EventKind.NOT_INFLATED,
    EventKind.UNCHECKED,
    EventKind.CLOCK_STEP,
    EventKind.SESSION_END,
)
"""Kinds of whose events the detail is counted."""


class RecordingTally:
    """Running totals of one feed on one host, of any of its files in any order.

    Args:
        feed, host: their names.
        is_part: whether rows and events are only those that a selection wants: then nothing is concluded from
            what is missing, and what the files' metadata count is not taken.

    Attributes:
        columns: what `add` needs of a batch.
        events_unread: unreadable events files, and folders that may contain some.

    """

    columns: ClassVar[tuple[str, ...]] = COLUMNS

    def __init__(self, feed: str, host: str, *, is_part: bool = False) -> None:
        self.events_unread = 0
        self._feed, self._host, self._is_part = feed, host, is_part
        self._sessions: dict[str, SessionTally] = {}
        self._files = self._file_bytes = self._payload_bytes = 0
        self._events_files = self._events_absent = 0
        self._rows: Counter[tuple[str, str]] = Counter()
        self._seconds = Seconds()
        self._stages = StageLatencies()
        self._delays = ExchangeDelays()
        self._reasons: Counter[str] = Counter()
        self._channels: Counter[str] = Counter()
        self._configs: dict[str, dict[str, Any]] = {}
        self._tls: dict[tuple[str, str, str, str], set[tuple[str, int]]] = {}
        self._counts = Counts()
        self._gaps_checked = False
        self._compared: Counter[str | None] = Counter()
        self._skipped: dict[str | None, Counter[str]] = {}
        self._clocks: set[str] = set()
        self._anchors: dict[str, int] = {}
        self._width: int | None = None
        self._clock_steps = 0
        self._largest_step: int | None = None
        self._events: Counter[str] = Counter()
        self._topics: Counter[str] = Counter()
        self._stalled = self._lost = 0
        self._incidents: dict[str, list[Incident]] = {}

    def begin(self, file: CaptureFile, about: FileMetadata, *, is_whole: bool = True) -> None:
        """Begin a message file; `is_whole`: all of its rows count."""
        self._files += 1
        self._file_bytes += file.size
        self._session(file.session).files += 1
        beside = other_of_pair(file.path.absolute())
        self._events_absent += beside is None or not beside.exists()
        if not self._is_part:
            self._counts += about.counts
        self._gaps_checked |= about.gaps_checked
        for word, rows in about.stage1.items() if is_whole else ():
            if word.startswith("none: ") and rows > 0:
                self._reasons[word.removeprefix("none: ")] += rows
        self._configs.setdefault(about.feed_config_sha256, about.feed_config)
        for connection in about.connections:
            tls = connection.get("tls")
            if isinstance(tls, dict):
                key = (
                    str(tls.get("mode")),
                    str(tls.get("fallback") or ""),
                    str(tls.get("version")),
                    str(tls.get("cipher")),
                )
                self._tls.setdefault(key, set()).add((file.session, integer(connection.get("conn"))))
        clock = about.clock
        name = clock.get("clock")
        if isinstance(name, str):
            self._clocks.add(name)
        # counts since the session began
        self._anchors[file.session] = max(self._anchors.get(file.session, 0), integer(clock.get("anchors")))
        if isinstance(clock.get("widest_bracket_ns"), int):
            self._width = max(self._width or 0, clock["widest_bracket_ns"])

    def begin_events(self, file: CaptureFile) -> None:
        """Begin an events file; its feed may have no messages."""
        self._session(file.session)
        self._events_files += 1

    def _session(self, name: str) -> SessionTally:
        return self._sessions.setdefault(name, SessionTally(is_part=self._is_part))

    def add_stated(self, about: FileMetadata, stages: StageHistograms, segments: SegmentHistograms) -> None:
        """Count what a file's metadata say of its rows: payloads, steps, sources of stage 1, and segments."""
        self._payload_bytes += about.ledger.recv.row_bytes + about.ledger.own.row_bytes
        self._stages.add_stored(stages, segments, about.stage1)

    def add(self, session: str, batch: Any, *, is_stated: bool) -> None:
        """Count a batch of rows; `is_stated`: without what its file's metadata say (`add_stated`)."""
        if not batch.num_rows:
            return
        if not is_stated:
            self._payload_bytes += sum(pc.sum(pc.binary_length(batch.column(name))).as_py() or 0 for name in PAYLOAD)
        recv_time, _ = times(batch, "recv_time")
        seq = batch.column("seq").cast(pa.uint64()).to_numpy(zero_copy_only=False)
        direction, directions = words(batch, "direction")
        opcode, opcodes = words(batch, "opcode")
        by_direction = _pairs(direction, opcode, len(directions), len(opcodes))
        for one, other in np.argwhere(by_direction).tolist():
            kind = directions[one] or "(null)", opcodes[other] or "(null)"
            self._rows[kind] += int(by_direction[one, other])
        is_received = np.array([word == "recv" for word in directions])
        count = int(by_direction[is_received].sum())
        self._sessions[session].add(seq, recv_time, count)
        if not count:
            return
        received = None if count == batch.num_rows else is_received[direction]
        self._seconds.add(recv_time if received is None else recv_time[received])
        self._count_channels(batch, received)
        if not is_stated:
            self._stages.add(batch, received)
        self._delays.add(batch, recv_time, received)

    def _count_channels(self, batch: Any, received: Flags | None) -> None:
        code, channels = words(batch, "channel")
        counts = np.bincount(code if received is None else code[received], minlength=len(channels))
        for number in counts.nonzero()[0].tolist():
            name = channels[number]
            if name is not None:
                self._channels[name] += int(counts[number])

    def add_events(self, session: str, batch: Any) -> None:
        """Count a batch of events; keep those that are among the first of their kind.

        Raises:
            msgspec.DecodeError: a detail is not JSON.

        """
        moments, _ = times(batch, "time")
        details = json_texts(batch.column("detail"))
        kind, kinds = words(batch, "kind")
        needed = []
        for code in distinct(kind):
            word, rows = kinds[code] or "(null)", np.flatnonzero(kind == code)
            self._events[word] += len(rows)
            if word in _COUNTED:
                needed.append(rows)
            elif word in INCIDENT_KINDS:
                needed.append(earliest(rows, moments))
        chosen = np.sort(np.concatenate(needed)) if needed else np.zeros(0, np.intp)
        others = batch.select(["kind", "conn", "channel", "symbol"]).take(pa.array(chosen)).to_pylist()
        for row, values in zip(chosen.tolist(), others, strict=True):
            detail = msgspec.json.decode(details[row])
            known = detail if isinstance(detail, dict) else {}
            self._add_event(Incident(time=int(moments[row]), session=session, detail=known, **values))

    def _add_event(self, incident: Incident) -> None:
        kind, detail = incident.kind, incident.detail
        self._session(incident.session).event(kind, detail)
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
            self._clock_steps += 1
            self._largest_step = _larger(self._largest_step, integer(detail.get("step_ns")))
        if kind in INCIDENT_KINDS:
            self._keep(kind, [incident])

    def _keep(self, kind: str, incidents: list[Incident]) -> None:
        """Keep the first incidents of a kind."""
        kept = self._incidents.setdefault(kind, [])
        kept += incidents
        # sorted now and then: an events file is in order already
        if len(kept) > 2 * INCIDENTS_A_KIND:
            kept.sort(key=order)
            del kept[INCIDENTS_A_KIND:]

    def merge(self, other: RecordingTally) -> RecordingTally:
        """Add the totals of other files, and return this."""
        self.events_unread += other.events_unread
        for name, session in other._sessions.items():
            self._session(name).merge(session)
        self._files += other._files
        self._file_bytes += other._file_bytes
        self._payload_bytes += other._payload_bytes
        self._events_files += other._events_files
        self._events_absent += other._events_absent
        self._seconds.merge(other._seconds)
        self._stages.merge(other._stages)
        self._delays.merge(other._delays)
        self._counts += other._counts
        self._gaps_checked |= other._gaps_checked
        self._clocks |= other._clocks
        for digest, config in other._configs.items():
            self._configs.setdefault(digest, config)
        for key, connections in other._tls.items():
            self._tls.setdefault(key, set()).update(connections)
        for counts, others in (
            (self._rows, other._rows),
            (self._reasons, other._reasons),
            (self._channels, other._channels),
            (self._compared, other._compared),
            (self._events, other._events),
            (self._topics, other._topics),
        ):
            cast("Counter[Any]", counts).update(cast("Counter[Any]", others))
        for channel, skipped in other._skipped.items():
            self._skipped.setdefault(channel, Counter()).update(skipped)
        for name, anchors in other._anchors.items():
            self._anchors[name] = max(self._anchors.get(name, 0), anchors)
        if other._width is not None:
            self._width = max(self._width or 0, other._width)
        self._clock_steps += other._clock_steps
        if other._largest_step is not None:
            self._largest_step = _larger(self._largest_step, other._largest_step)
        self._stalled += other._stalled
        self._lost += other._lost
        for kind, incidents in other._incidents.items():
            self._keep(kind, incidents)
        return self

    def _gaps(self) -> int | None:
        if not self._gaps_checked:
            return None
        return self._events[EventKind.GAP] if self._is_part else self._counts.gaps

    def _with_rules(self) -> list[Channel]:
        """The channels; one that had no proving rule in some file has none."""
        rules: dict[str, str] = {}
        for config in self._configs.values():
            for name, rule in rules_of(config, self._channels).items():
                if rules.get(name) is None or rule not in PROVING:
                    rules[name] = rule
        return [
            Channel(channel=name, received=count, rule=rules.get(name, "none"))
            for name, count in _descending(self._channels)
        ]

    def result(self) -> Recording:
        """The totals as the report's struct; without the verdict, which depends on what else was read."""
        sessions = [session.result(name) for name, session in self._sessions.items()]
        first = [session.first for session in self._sessions.values() if session.first is not None]
        last = [session.last for session in self._sessions.values() if session.last is not None]
        rows: dict[str, dict[str, int]] = {}
        for (direction, opcode), count in _descending(self._rows):
            rows.setdefault(direction, {})[opcode] = count
        recorded = union([(s.first, s.last) for s in self._sessions.values()])
        received = sum(rows.get("recv", {}).values())
        peak, peak_time = self._seconds.peak()
        stages = self._stages.tables()
        exchange_delay = self._delays.result()
        return Recording(
            feed=self._feed,
            host=self._host,
            verdict=_UNJUDGED,
            sessions=sorted(sessions, key=lambda session: (session.first_recv_time or 0, session.session)),
            files=self._files,
            events_files=self._events_files,
            events_unread=self.events_unread,
            events_absent=self._events_absent,
            rows=rows,
            first_recv_time=min(first, default=None),
            last_recv_time=max(last, default=None),
            recorded=recorded,
            rate=Rate(mean=received * SECOND / recorded if recorded else None, peak=peak, peak_time=peak_time)
            if received
            else None,
            channels=self._with_rules(),
            payload_bytes=self._payload_bytes,
            file_bytes=self._file_bytes,
            gaps=self._gaps(),
            counts=None if self._is_part else self._counts,
            unchecked=[
                Unchecked(channel=channel, compared=self._compared[channel], skipped=dict(_descending(skipped)))
                for channel, skipped in sorted(self._skipped.items(), key=lambda item: (item[0] or "", item[0] is None))
            ],
            events=dict(sorted(self._events.items())),
            topics=dict(sorted(self._topics.items())),
            stalled=self._stalled,
            lost=self._lost,
            incidents=sorted(
                (each for kept in self._incidents.values() for each in sorted(kept, key=order)[:INCIDENTS_A_KIND]),
                key=order,
            ),
            stage1=self._stages.stage1(dict(_descending(self._reasons))),
            segments=self._stages.segments(),
            clock=Clock(
                clocks=sorted(self._clocks),
                anchors=sum(self._anchors.values()),
                width=self._width,
                steps=self._clock_steps,
                largest_step=self._largest_step,
            ),
            tls=[
                Tls(mode=mode, fallback=fallback, version=version, cipher=cipher, connections=len(connections))
                for (mode, fallback, version, cipher), connections in sorted(
                    self._tls.items(), key=lambda item: (-len(item[1]), item[0])
                )
            ],
            stages=stages,
            exchange_delay=exchange_delay,
            exchange_delay_by_channel=self._delays.by_channel(),
            warnings=[
                *self._stages.warnings(stages),
                *delay_warnings(exchange_delay),
                *_unread_warnings(self._topics[EventKind.NOT_INFLATED], received),
            ],
        )


def _unread_warnings(count: int, received: int) -> Iterator[str]:
    if count:
        yield (
            f"{count:,} of {received:,} received frames are messages that could not be inflated: they are stored "
            "compressed, and their channel, number and time are unknown"
        )


def integer(value: Any) -> int:
    """An integer of an event's detail, which may hold anything; 0 if it is not one."""
    return value if isinstance(value, int) else 0


def _pairs(
    direction: npt.NDArray[np.integer], opcode: npt.NDArray[np.integer], directions: int, opcodes: int
) -> Int64s:
    """The number of rows by direction and opcode: nearly all are as the first one."""
    counts = np.zeros((directions, opcodes), np.int64)
    others = ((direction != direction[0]) | (opcode != opcode[0])).nonzero()[0]
    counts[direction[0], opcode[0]] = len(direction) - len(others)
    np.add.at(counts, (direction[others], opcode[others]), 1)
    return counts


def _descending(counts: Counter[Any]) -> list[tuple[Any, int]]:
    """Words and their counts, the largest first."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _larger(one: int | None, other: int) -> int:
    """The step of the clock that is larger in either direction."""
    return other if one is None else max(one, other, key=lambda step: (abs(step), step))
