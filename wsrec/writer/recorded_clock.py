"""The session's clock as its anchors show it: maps the stage clock onto UTC, and states how well."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

from wsrec.ring.events import Event, EventKind
from wsrec.writer.gather import Slots
from wsrec.writer.rows import Int64s
from wsrec.writer.utc_line import StoredAnchor, UtcBound, along, offsets

# The events file keeps an anchor a second, and each one before which UTC moved by more than this
_REPORTED_EVERY_NS = 950_000_000
_REPORTED_MOVED_NS = 100_000
# UTC that moved by more between anchors was set (ns); so many such steps are remembered
_SET_NS = 1_000_000
_SETS = 1_000


class RecordedClock:
    """Maps the stage clock onto UTC by the anchors taken so far.

    Attributes:
        steps: number of times that the system's clock was set.

    """

    def __init__(self) -> None:
        self.steps = 0
        self._anchor: StoredAnchor | None = None
        # when the clock was found set, and by how much (ns)
        self._sets: deque[tuple[int, int]] = deque(maxlen=_SETS)
        # the anchor before a hole: used if none follows
        self._stale: StoredAnchor | None = None
        self._anchors = 0
        self._name: str | None = None
        self._widest = 0
        self._bound = UtcBound()
        # largest error of UTC, in this file and since the last anchor that was kept
        self._file_bound = self._bound_since = 0
        self._reported_anchor: int | None = None
        self._drift = 0

    def describe(self, clock: dict[str, Any]) -> None:
        """Continue with the metadata of a finished file about its clock."""
        if clock.get("clock") is not None:
            self._name = clock["clock"]
            self._anchors = max(self._anchors, clock["anchors"])
            self._widest = max(self._widest, clock["widest_bracket_ns"])
            self._drift = max(self._drift, clock["largest_drift_ns"])
            self.steps = max(self.steps, clock["steps"])

    def interrupt(self) -> None:
        """Slots are missing from here on: use no anchor across the hole, unless none follows."""
        self._stale, self._anchor = self._anchor or self._stale, None

    def follow(self, anchor: StoredAnchor) -> None:
        """Map stages 2 to 6 onto UTC by this anchor until the next one."""
        self._anchor = anchor

    def utc(self, monotonic: int, offset: int, until: int) -> int:
        """A time (ns) in UTC as the clock showed it then: by `until`, whose offset this is, it may have been set."""
        since = sum(by for at, by in self._sets if monotonic < at <= until)
        return monotonic + offset - since

    def finish(self) -> dict[str, Any]:
        """The metadata of a file that ends here about its clock."""
        bound, self._file_bound = self._file_bound, 0
        return {
            "clock": self._name,
            "anchors": self._anchors,
            "widest_bracket_ns": self._widest,
            "largest_drift_ns": self._drift,
            "steps": self.steps,
            "utc_bound_ns": bound,
        }

    def offsets(self, slots: Slots, happened: list[tuple[int, Event]], ahead: StoredAnchor | None) -> Int64s:
        """Offsets that turn each slot's monotonic stamps into UTC, by the anchors before and after it."""
        anchors = [(row, StoredAnchor.of(event)) for row, event in happened if event.kind is EventKind.ANCHOR]
        if self._anchor is None:
            self._anchor = anchors[0][1] if anchors else ahead or self._stale
        stage = slots["handoff"].astype(np.int64)
        joined = along([self._anchor, *(anchor for _, anchor in anchors), ahead], stage)
        parts, start = [], 0
        for row, anchor in anchors:
            if joined is None:
                parts.append(offsets(self._anchor, anchor, stage[start:row]))
            if self._anchor is not None and abs(anchor.offset - self._anchor.offset) > _SET_NS:
                self._sets.append((anchor.stage, anchor.offset - self._anchor.offset))
            self._anchor, start = anchor, row
        if joined is not None:
            return joined
        parts.append(offsets(self._anchor, ahead, stage[start:]))
        return np.concatenate(parts)

    def extend_bound(self, stage: int, ahead: StoredAnchor | None) -> None:
        """Extend the bound to everything taken since the last anchor: its file may end before the next one."""
        bound = self._bound.beyond(stage) if ahead is None else self._bound.before(ahead)
        self._file_bound = max(self._file_bound, bound)
        self._bound_since = max(self._bound_since, bound)

    def take(self, anchor: StoredAnchor, detail: dict[str, Any]) -> bool:
        """Take an anchor; True if it goes into the events file.

        Adds to `detail` the bound of the error of UTC (ns) for the time since the previous one there.

        """
        self._anchors += 1
        self._name = detail["clock"]
        self._widest = max(self._widest, detail["width_ns"])
        self._drift = max(self._drift, abs(detail["drift_ns"]))
        moved, bound = self._bound.add(anchor)
        self._file_bound = max(self._file_bound, bound)
        self._bound_since = max(self._bound_since, bound)
        reported, stage = self._reported_anchor, anchor.stage
        if reported is not None and 0 <= stage - reported < _REPORTED_EVERY_NS and moved < _REPORTED_MOVED_NS:
            return False
        self._reported_anchor = stage
        detail["utc_bound_ns"], self._bound_since = self._bound_since, 0
        return True
