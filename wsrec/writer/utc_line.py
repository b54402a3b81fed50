"""UTC mapping of stages 2 to 6: rows are interpolated between the surrounding anchors, within a stated bound.

An anchor ties the stage clock to UTC at one moment (`wsrec.host.clock`). Between two anchors UTC moves against the
stage clock when the kernel slews its clocks, because the stage clock follows one anchor later. A constant offset
between anchors would be wrong by all of that; interpolation is wrong only by the change of the rate in between.

The next anchor shows how far UTC had moved until then. No row in between is off by more, as long as UTC moved in one
direction. The movement of the two previous intervals is added: the stage clock may be compensating the beginning of one
slew while another begins. Rows behind the last anchor cannot be interpolated: their bound grows with the fastest slew.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from wsrec.arrays import where_set
from wsrec.ring.events import Event, EventKind
from wsrec.ring.slot_flags import WHOLE_EVENT
from wsrec.writer.batch import Batch, payload_list
from wsrec.writer.rows import Int64s

# adjtimex(2): the tick may deviate by a tenth, and the frequency by 500 ppm
_FASTEST_SLEW = 0.1005
# UTC that moved by more than this share of the time between two anchors was set, even without an event about it
_STEP_SHARE = 4


class StoredAnchor(NamedTuple):
    """An anchor from its event (ns): the stage clock, UTC, the bracket's width, and a step just before it."""

    stage: int
    realtime: int
    width: int
    clock: str
    step: int

    @property
    def offset(self) -> int:
        """Offset from the stage clock to ns since the epoch."""
        return self.realtime - self.stage

    @classmethod
    def of(cls, event: Event) -> StoredAnchor:
        """Parse the detail of an `anchor` event.

        Raises:
            LookupError: a field is missing.

        """
        about = event.detail
        return cls(about["monotonic"], about["realtime"], about["width_ns"], about["clock"], about.get("step_ns", 0))


def first_anchor(batch: Batch) -> StoredAnchor | None:
    """The first anchor among a batch's events.

    Raises:
        msgspec.DecodeError: an event is damaged.

    """
    rows = where_set(batch.slots["flags"] & WHOLE_EVENT == WHOLE_EVENT)
    events = map(Event.decode, payload_list(batch.payload, rows) if len(rows) else ())
    return next((StoredAnchor.of(event) for event in events if event.kind is EventKind.ANCHOR), None)


def _moved(before: StoredAnchor, after: StoredAnchor) -> int | None:
    """How far UTC was slewed between two anchors (ns); None if interpolation between them is invalid."""
    apart, moved = after.stage - before.stage, after.offset - after.step - before.offset
    # another stage clock, or a step that the anchor does not record
    torn = apart <= 0 or after.clock != before.clock or abs(moved) > apart // _STEP_SHARE + before.width + after.width
    return None if torn else moved


def along(anchors: Sequence[StoredAnchor | None], stage: Int64s) -> Int64s | None:
    """Offsets to UTC for ordered stamps of the stage clock (ns), interpolated over all anchors; None if invalid."""
    first, xs, ys = anchors[0], [0], [0]
    if first is None:
        return None
    for before, after in itertools.pairwise(anchors):
        if before is None or after is None or after.step or _moved(before, after) is None:
            return None
        xs.append(after.stage - first.stage)
        ys.append(after.offset - first.offset)
    lines = np.interp(stage - first.stage, xs, ys)
    found: Int64s = np.rint(lines, out=lines).astype(np.int64)
    found += first.offset
    return found


def offsets(before: StoredAnchor | None, after: StoredAnchor | None, stage: Int64s) -> Int64s:
    """Offsets to UTC for stamps of the stage clock (ns) between two anchors, either of which may be None."""
    if before is None or after is None:
        known = before or after
        return np.full(len(stage), known.offset if known is not None else 0, np.int64)
    apart, moved = after.stage - before.stage, _moved(before, after)
    if not moved:
        return np.full(len(stage), before.offset, np.int64)
    since = stage - before.stage
    np.maximum(since, 0, out=since)
    np.minimum(since, apart, out=since)
    share = since * (moved / apart)
    line: Int64s = np.rint(share, out=share).astype(np.int64)
    line += before.offset
    return line


class UtcBound:
    """Bounds of the UTC error of rows: for each interval between two anchors, and outside of them."""

    def __init__(self) -> None:
        self._before: StoredAnchor | None = None
        # movement in the interval before the last anchor, and in the one before that
        self._moved = (0, 0)

    def add(self, anchor: StoredAnchor) -> tuple[int, int]:
        """Process the next anchor.

        Returns:
            How far UTC moved against the stage clock since the previous anchor, and the bound of the UTC error of the
            rows since then (ns).

        """
        moved, bound = self._until(anchor)
        self._before, self._moved = anchor, (moved, self._moved[0])
        return moved, bound

    def before(self, anchor: StoredAnchor) -> int:
        """Bound (ns) of the UTC error of rows since the last anchor, if this one is the next."""
        return self._until(anchor)[1]

    def beyond(self, stage: int) -> int:
        """Bound (ns) of the UTC error of rows up to this stamp, if no anchor follows."""
        if self._before is None:
            return 0
        since = max(stage - self._before.stage, 0)
        return sum(self._moved) + self._before.width + round(since * _FASTEST_SLEW)

    def _until(self, anchor: StoredAnchor) -> tuple[int, int]:
        if self._before is None:
            # rows before the first anchor are mapped by it
            return 0, anchor.width
        moved = abs(anchor.offset - self._before.offset)
        return moved, moved + sum(self._moved) + anchor.width + self._before.width
