"""The clocks of a session: rows, events and intervals are ordered on the stage clock and reported in UTC."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec
import numpy as np

from wsrec.histogram import Int64s
from wsrec.ring.events import EventKind
from wsrec.verify.events import AFTERWARDS, EventRow
from wsrec.verify.file_rows import Anchors
from wsrec.verify.model import Interval, Loss
from wsrec.verify.utc import Utc

_Span = TypeVar("_Span", Interval, Loss)
# their details have two moments
_INTERVALS = (EventKind.LOST_INTERVAL, EventKind.REPLACED)


class SessionClock:
    """Converts moments between the stage clock and UTC, by the rows and anchors read so far.

    Attributes:
        anchors: the anchors that rows are checked against.
        utc: the offset between the clocks over time.

    """

    def __init__(self) -> None:
        self.anchors = Anchors()
        self.utc = Utc()

    def note_anchor(self, event: EventRow) -> list[tuple[int, int]]:
        """Add an anchor for the check of rows; returns its moment on both clocks if the event is an anchor."""
        monotonic, realtime = event.detail.get("monotonic"), event.detail.get("realtime")
        if event.kind != EventKind.ANCHOR or not isinstance(monotonic, int) or not isinstance(realtime, int):
            return []
        clock, drift = event.detail.get("clock"), event.detail.get("drift_ns")
        self.anchors.add(monotonic, realtime, clock, drift if isinstance(drift, int) else 0)
        return [(monotonic, realtime)] if abs(realtime) < AFTERWARDS > abs(monotonic) else []

    def learn_event(self, event: EventRow) -> None:
        """Learn from an event after all rows of its file, or of a file without rows."""
        if event.kind == EventKind.SESSION_START and event.order != AFTERWARDS:
            # in a session without rows and anchors, no other moment is known on both clocks
            self.utc.begin(event.order, event.time)
        for monotonic, realtime in self.note_anchor(event):
            self.utc.learn(np.array([monotonic]), np.array([realtime]))

    def learn_rows(self, stage: Int64s, handoff: Int64s, anchors: list[tuple[int, int]]) -> None:
        """Learn from rows, and the anchors among them."""
        known = np.array(anchors, np.int64).reshape(-1, 2).T
        self.utc.learn(*np.concatenate(([stage, handoff], known), axis=1))

    def stage_of(self, event: EventRow) -> int:
        """An event's moment on the stage clock."""
        return event.order if event.order != AFTERWARDS else self.utc.back(event.time)

    def detail_of(self, event: EventRow) -> dict[str, Any]:
        """An event's detail; the ends of an interval are converted to the stage clock."""
        detail = event.detail
        if event.kind not in _INTERVALS:
            return detail
        start, end, length = (detail.get(key) for key in ("from", "to", "duration_ns"))
        if not isinstance(start, int) or not isinstance(end, int):
            return detail
        known = detail.get("monotonic_from"), detail.get("monotonic_to")
        start = known[0] if isinstance(known[0], int) else self.utc.back(start, latest=False)
        if isinstance(known[1], int):
            end = known[1]
        else:
            end = max(start + length if isinstance(length, int) else start, self.utc.back(end))
        return {**detail, "from": start, "to": end}

    def on_utc(self, span: _Span) -> _Span:
        """An interval of the stage clock with both clocks' moments."""
        utc = {"start": self.utc.of(span.start), "end": self.utc.of(span.end)}
        return msgspec.structs.replace(span, **utc, monotonic_start=span.start, monotonic_end=span.end)

    def cut_where_set(self, intervals: list[Interval]) -> Iterator[Interval]:
        """Convert intervals of the stage clock to UTC, split where the clock was set: each part has its true length."""
        for each in intervals:
            start = each.start
            for at, before in self.utc.steps(each.start, each.end):
                part = msgspec.structs.replace(each, start=start, end=at)
                yield msgspec.structs.replace(self.on_utc(part), end=at + before)
                start = at
            if start < each.end or start == each.start:
                yield self.on_utc(msgspec.structs.replace(each, start=start))
