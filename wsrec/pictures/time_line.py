"""Events for the time line: how many of each kind in each step of time, and the first ones in words."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from wsrec.arrays import distinct
from wsrec.format.columns import times, words
from wsrec.histogram import Int64s
from wsrec.pictures.model import Line, Moment
from wsrec.pictures.time_steps import SHORTEST, Placed, SparseCounts
from wsrec.report.incident_words import in_words
from wsrec.report.incidents import earliest, json_texts, order
from wsrec.report.model import INCIDENT_KINDS, Incident
from wsrec.ring.events import EventKind

_INCIDENTS, _OTHERS = 200, 20
_KINDS = 64
"""Kinds that are told apart: a file of another tool may have any."""


class TimeLine:
    """The events of a recording."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._over_time: dict[str, SparseCounts] = {}
        self._first: dict[str, list[Incident]] = {}

    def add(self, session: str, batch: Any, placed: Placed) -> None:
        """Count a batch of events; keep those that are among the first of their kind.

        Raises:
            msgspec.DecodeError: a detail is not JSON.

        """
        moments, _ = times(batch, "time")
        kind, kinds = words(batch, "kind")
        chosen = []
        for code in distinct(kind):
            word, rows = kinds[code] or "(null)", np.flatnonzero(kind == code)
            if word not in self._over_time and len(self._over_time) >= _KINDS:
                continue
            self._counts[word] += len(rows)
            of_kind = self._over_time.setdefault(word, SparseCounts(1))
            of_kind.add(placed, np.zeros(len(rows), np.int64), rows)
            chosen.append(earliest(rows, moments, _most(word)))
        if not chosen:
            return
        rows = np.sort(np.concatenate(chosen))
        columns = ["kind", "conn", "channel", "symbol", "detail"]
        few = batch.select(columns).take(pa.array(rows))
        details = json_texts(few.column("detail"))
        found: dict[str, list[Incident]] = {}
        for row, values, text in zip(rows.tolist(), few.select(columns[:-1]).to_pylist(), details, strict=True):
            detail = msgspec.json.decode(text)
            known = detail if isinstance(detail, dict) else {}
            incident = Incident(time=int(moments[row]), session=session, detail=known, **values)
            found.setdefault(incident.kind or "(null)", []).append(incident)
        for word, incidents in found.items():
            self._keep(word, incidents)

    def _keep(self, kind: str, incidents: list[Incident]) -> None:
        kept = self._first.setdefault(kind, [])
        kept += incidents
        kept.sort(key=order)
        del kept[_most(kind) :]

    def merge(self, other: TimeLine, level: int) -> None:
        """Add the events of another, in steps of a level that is not below that of either."""
        self._counts.update(other._counts)
        for kind, over_time in other._over_time.items():
            self._over_time.setdefault(kind, SparseCounts(1)).merge(over_time, level)
        for kind, incidents in other._first.items():
            self._keep(kind, incidents)

    def lines(self, level: int) -> list[Line]:
        """The events of each kind: incidents, gravest first, then the others by name."""
        grave = {str(kind): rank for rank, kind in enumerate(INCIDENT_KINDS)}
        kinds = sorted(self._counts, key=lambda kind: (grave.get(kind, len(grave)), kind))
        return [self._line(kind, level, is_incident=kind in grave) for kind in kinds]

    def _line(self, kind: str, level: int, *, is_incident: bool) -> Line:
        found = [(step, int(counts[0])) for step, _, counts in self._over_time[kind].by_step(level)]
        return Line(
            kind=kind,
            is_incident=is_incident,
            count=self._counts[kind],
            begins=[step * (SHORTEST << level) for step, _ in found],
            counts=[count for _, count in found],
            moments=[_moment(each) for each in self._first.get(kind, ())],
        )


def _most(kind: str) -> int:
    return _INCIDENTS if kind in INCIDENT_KINDS else _OTHERS


def _moment(incident: Incident) -> Moment:
    begin, end = _ends(incident)
    return Moment(
        time=incident.time,
        kind=incident.kind,
        session=incident.session,
        conn=incident.conn,
        channel=incident.channel,
        symbol=incident.symbol,
        begin=begin,
        end=end,
        text=", ".join(in_words(incident)),
    )


def _ends(incident: Incident) -> tuple[int | None, int | None]:
    """When what an event tells of began and ended (ns since the epoch); None if it has no ends."""

    def whole(key: str) -> int | None:
        value = incident.detail.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    match incident.kind:
        case EventKind.LOST_INTERVAL:
            begin, end = whole("from"), whole("to")
        case EventKind.STALL:
            duration, end = whole("duration_ns"), incident.time
            begin = None if duration is None else end - duration
        case EventKind.STALE | EventKind.STREAM_RESUMED:
            begin, end = whole("since"), incident.time
        case _:
            return None, None
    return (None, None) if begin is None or end is None or begin > end else (begin, end)


def event_times(batch: Any) -> Int64s:
    """The times of a batch of events (ns since the epoch)."""
    found, _ = times(batch, "time")
    return found
