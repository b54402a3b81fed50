"""The UTC of stages 2 to 6: each row lies on the line between the anchors before and after it, within a stated bound.

An anchor ties the stage clock to UTC at one moment (`wsrec.host.clock`). Between two of them UTC moves against the
stage clock where the kernel slews its clocks: the stage clock follows one anchor later. One offset held from anchor to
anchor is wrong by all of that; the line is wrong only by how much the rate changed in between.

The next anchor shows by how much UTC had moved until then. No row between the two is off by more, as long as UTC moved
one way. What moved in the two intervals before is added: the stage clock may be taking back the beginning of one slew
while another begins. Rows behind the last anchor have no line: for them the bound grows with the fastest slew there is.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from wsrec.decode.arrays import where_set
from wsrec.ring.events import Event, EventKind
from wsrec.ring.slotring import Flag
from wsrec.writer.batch import Batch, payload_list
from wsrec.writer.rows import Int64s

_WHOLE_EVENT = int(Flag.EVENT | Flag.FIN)
# adjtimex(2): the tick may be off by a tenth, and the frequency by 500 ppm
_FASTEST_SLEW = 0.1005
# UTC that moved by more of the time between two anchors was set, also where no event tells of it
_STEP_SHARE = 4


class StoredAnchor(NamedTuple):
    """An anchor as its event has it (ns): the stage clock, UTC, the bracket's width, and a step just before it."""

    stage: int
    realtime: int
    width: int
    clock: str
    step: int

    @property
    def offset(self) -> int:
        """What turns a stamp of the stage clock into ns since the epoch."""
        return self.realtime - self.stage

    @classmethod
    def of(cls, event: Event) -> StoredAnchor:
        """Read the detail of an `anchor` event.

        Raises:
            LookupError: it has not what an anchor has.

        """
        about = event.detail
        return cls(about["monotonic"], about["realtime"], about["width_ns"], about["clock"], about.get("step_ns", 0))


def first_anchor(batch: Batch) -> StoredAnchor | None:
    """The first anchor among a batch's events.

    Raises:
        msgspec.DecodeError: an event is damaged.

    """
    rows = where_set(batch.slots["flags"] & _WHOLE_EVENT == _WHOLE_EVENT)
    events = map(Event.decode, payload_list(batch.payload, rows) if len(rows) else ())
    return next((StoredAnchor.of(event) for event in events if event.kind is EventKind.ANCHOR), None)


def _moved(before: StoredAnchor, after: StoredAnchor) -> int | None:
    """How far UTC was slewed from one anchor to the next; None where there is no line from the one to the other."""
    apart, moved = after.stage - before.stage, after.offset - after.step - before.offset
    # another stage clock, or a step that the anchor does not know of
    torn = apart <= 0 or after.clock != before.clock or abs(moved) > apart // _STEP_SHARE + before.width + after.width
    return None if torn else moved


def along(anchors: Sequence[StoredAnchor | None], stage: Int64s) -> Int64s | None:
    """What turns stamps of the stage clock (ns), in order, into UTC, where lines join all these anchors; else None."""
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
    """What turns stamps of the stage clock (ns) between two anchors into UTC; None where there is no such anchor."""
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
    """By how much the UTC of rows may be off: of each interval between two anchors, and of what lies outside them."""

    def __init__(self) -> None:
        self._before: StoredAnchor | None = None
        # in the interval before the last anchor, and in the one before that
        self._moved = (0, 0)

    def add(self, anchor: StoredAnchor) -> tuple[int, int]:
        """An anchor, in order of happening.

        Returns:
            How far UTC was moved against the stage clock since the anchor before, and by how much the UTC of the rows
            since then may be off (ns).

        """
        moved, bound = self._until(anchor)
        self._before, self._moved = anchor, (moved, self._moved[0])
        return moved, bound

    def before(self, anchor: StoredAnchor) -> int:
        """By how much the UTC of the rows since the last anchor may be off, where this one comes next (ns)."""
        return self._until(anchor)[1]

    def beyond(self, stage: int) -> int:
        """By how much the UTC of rows up to this stamp may be off, where no anchor comes after them (ns)."""
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
