"""Stage 1 from captured segments (`--segments`): joins the slots of a batch with the segments that brought them.

Of each frame that was received: where its first and its last byte lay in the TCP stream (`segments.map_store`), and
which segment brought these first (`segments.segment_store`). Stage 1 is then the arrival of the segment with the byte
that the frame had to wait for: its last one, under TLS the last one of that byte's record.

A frame is handed off some ms before its segments are in the segment ring, so a batch waits for them, a little longer
than the capture needs to show that they were lost. What is not there then has no stage 1, and the reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from wsrec.ring.slot_flags import NOT_RECEIVED, Flag
from wsrec.ring.slot_layout import COARSE_SHIFT
from wsrec.segments.evidence import Judged, Reads, first_known, judge, orders, sources, unproved
from wsrec.segments.map_store import MapStore, Places
from wsrec.segments.segment_ring import BrokenReason, CaptureState, SegmentRing
from wsrec.segments.segment_store import Found, SegmentStore
from wsrec.segments.stream_map import StreamMap
from wsrec.stages import StampSource
from wsrec.writer.batch import Batch
from wsrec.writer.gather import Slots
from wsrec.writer.segment_slots import SEGMENT_SLOT_DTYPE, with_segments

Bools = npt.NDArray[np.bool_]
Uint64s = npt.NDArray[np.uint64]

# longer than a running capture is behind (`SegmentRing.covered_until`)
_WAIT_NS = 200_000_000
_POLL_SECONDS = 0.001
# the same once all segments are there, but it is to be seen whether they came again
_SETTLE_SECONDS = 0.005
# a capture that has not moved on for so long does not run
_STALE_NS = 1_000_000_000
_ALL_DONE: Final = (1 << 48) - 1
# lengths of payloads (bytes) from which a frame's header is longer (RFC 6455 section 5.2)
_LENGTH_16, _LENGTH_64 = 126, 1 << 16


class _Sought(NamedTuple):
    """Of frames: where their first and last bytes lay, and the segments that brought these."""

    first: Places
    last: Places
    found_first: Found
    found: Found

    def put(self, rows: npt.NDArray[np.intp], other: _Sought) -> None:
        """Replace some rows."""
        for mine, theirs in zip(self, other, strict=True):
            for column, values in zip(mine, theirs, strict=True):
                column[rows] = values

    def unproved(self, reads: Reads) -> Bools:
        """Which were found, but may turn out to have come again before they were read."""
        first, last = unproved(self.found_first, reads), unproved(self.found, reads)
        return (last & self.last.known) | (first & self.first.own_known)

    @property
    def may_come(self) -> Bools:
        """Which may still be found."""
        first, last = self.first, self.last
        unseen: Bools = (last.known & ~self.found.known) | (first.own_known & ~self.found_first.known)
        return last.may_come | unseen


class SegmentJoin:
    """Joins batches with segments, in order.

    Args:
        ring: the segment ring.
        stream_map: the stream map.
        capacity: most slots in a batch.

    """

    def __init__(self, ring: SegmentRing, stream_map: StreamMap, capacity: int) -> None:
        self._store, self._map = SegmentStore(ring), MapStore(stream_map)
        self._slot_memory = np.empty(capacity, SEGMENT_SLOT_DTYPE)
        # by connection: the count in its ring behind the last row; its flow, and the stream offset behind it
        self._joined: dict[int, int] = {}
        self._done: dict[int, tuple[int, int]] = {}

    def join(self, batch: Batch, is_pressed: Callable[[], bool]) -> Batch:
        """The batch with what the segments say of its slots; the next call overwrites it.

        Args:
            batch: taken from the rings.
            is_pressed: whether the rings are so full that nothing can be waited for.

        """
        slots = with_segments(batch.slots, self._slot_memory[: len(batch.slots)])
        made = batch._replace(slots=slots)
        state = self._store.ring.state.read()
        rows = np.flatnonzero(slots["flags"] & NOT_RECEIVED == 0)
        if state in (CaptureState.NONE, CaptureState.REFUSED) or not len(rows):
            # rows keep the stamps of their reads
            self._store.read(time.monotonic_ns())
            self._map.read(self._joined)
            return made
        self._join(slots, rows, is_pressed)
        return made

    def release(self) -> None:
        """Release what was read in the rings, and forget what is not needed any more: the batch is in the journal."""
        self._map.forget(self._joined)
        done = dict(self._done.values()) | dict.fromkeys(self._map.unmapped(), _ALL_DONE)
        self._store.forget(done, time.monotonic_ns(), self._map.earliest())

    def _join(self, slots: Slots, rows: npt.NDArray[np.intp], is_pressed: Callable[[], bool]) -> None:
        received = slots if len(rows) == len(slots) else slots[rows]
        conn = np.ascontiguousarray(received["conn"])
        first, last = _ends(received)
        needed = _latest(conn, last + np.uint64(1))
        until = time.monotonic_ns() + _WAIT_NS
        sought: _Sought | None = None
        # what is still to be found, and what a repetition may still be found of
        left = np.arange(len(rows))
        reads, unsure = _reads(received), np.empty(0, np.intp)
        while True:
            covered, now = self._store.ring.covered_until.read(), time.monotonic_ns()
            has_ended = self._store.ring.state.read() == CaptureState.ENDED
            news = [self._map.read(self._joined), self._store.read(now)]
            if sought is None or any(news):
                self._map.follow_kernel(self._store, needed)
                part = self._seek(conn[left], first[left], last[left])
                if sought is None:
                    sought = part
                else:
                    sought.put(left, part)
                unsure = np.flatnonzero(sought.unproved(reads))
            late = np.bool_(not has_ended) & (received["handoff"] >= covered)
            left, open_ = np.flatnonzero(sought.may_come & late), unsure[late[unsure]]
            is_over = has_ended or now - covered > _STALE_NS or now >= until or not (len(left) or len(open_))
            if is_over or is_pressed():
                break
            time.sleep(_POLL_SECONDS if len(left) else _SETTLE_SECONDS)
        if len(unsure):
            # what came again meanwhile
            sought.put(unsure, self._seek(conn[unsure], first[unsure], last[unsure]))
        places, found, begun = sought.last, sought.found, sought.found_first
        # what a capture before this one had not looked at is gone
        reads = reads._replace(covered=~late & (places.flow > self._store.ring.former.read()))
        self._fill(slots, rows, places, found, judge(found, reads))
        known = first_known(begun, found, reads)
        known &= sought.first.own_known & places.known & (sought.first.flow == places.flow)
        slots["first_segment"][rows] = np.where(known, begun.stamp, np.uint64(0))
        self._advance(conn, last, places)

    def _seek(self, conn: npt.NDArray[np.uint16], first: Uint64s, last: Uint64s) -> _Sought:
        """Where the first and last bytes of frames lay, and the segments that brought them."""
        of_first, of_last = self._map.places(conn, first), self._map.places(conn, last)
        found_first = self._store.find(of_first.flow, of_first.own)
        return _Sought(of_first, of_last, found_first, self._store.find(of_last.flow, of_last.needed))

    def _fill(self, slots: Slots, rows: npt.NDArray[np.intp], places: Places, found: Found, judged: Judged) -> None:
        """Write stage 1 and its source."""
        known = places.known & judged.accepted
        # stamps of two clocks are not compared
        slots["read_stamp"][rows] = np.where(known & ~judged.same_clock, np.uint64(0), slots["nic"][rows])
        chosen, order = sources(found), orders(found)
        if not known.all():
            reasons = self._reasons(slots["handoff"][rows], places)
            reasons[places.known & judged.contradicted] = StampSource.NONE_CONTRADICTED
            chosen = np.where(known, chosen, reasons)
            order[~known] = 0
        slots["nic"][rows] = np.where(known, found.stamp, np.uint64(0))
        slots["source"][rows] = chosen
        slots["segment_order"][rows] = order

    def _reasons(self, handoff: Uint64s, places: Places) -> npt.NDArray[np.uint8]:
        """Why there is no stage 1."""
        store = self._store
        reasons = np.full(len(handoff), StampSource.NONE_BEHIND, np.uint8)
        if store.losses:
            utc = handoff + np.uint64(time.time_ns() - time.monotonic_ns())
            # a segment is lost before its frame is handed off
            began = min(start for start, _ in store.losses)
            reasons[utc >= np.uint64(began)] = StampSource.NONE_DROPPED
        mapped = (places.known & store.has_flow(places.flow)) | places.may_come
        reasons[~mapped] = StampSource.NONE_UNMAPPED
        forged = [flow for flow, reason in store.broken if reason is BrokenReason.CONTRADICTED]
        if forged:
            reasons[places.known & np.isin(places.flow, forged)] = StampSource.NONE_CONTRADICTED
        return reasons

    def _advance(self, conn: npt.NDArray[np.uint16], last: Uint64s, places: Places) -> None:
        """Note up to where rows have been joined."""
        # of each connection the last row
        conns, at = np.unique(conn[::-1], return_index=True)
        at = len(conn) - 1 - at
        for number, count in zip(conns.tolist(), last[at].tolist(), strict=True):
            self._joined[number] = count + 1
        known = places.known[at]
        ends = zip(places.flow[at][known].tolist(), places.begin[at][known].tolist(), strict=True)
        self._done.update(zip(conns[known].tolist(), ends, strict=True))


def _ends(slots: Slots) -> tuple[Uint64s, Uint64s]:
    """The counts of each frame's first byte, which is its header's, and of its last one."""
    length, payload = slots["length"], slots["offset"].astype(np.uint64)
    header = np.where(length < _LENGTH_16, np.uint64(2), np.where(length < _LENGTH_64, np.uint64(4), np.uint64(10)))
    return payload - np.minimum(header, payload), payload + length - np.uint64(1)


def _reads(slots: Slots) -> Reads:
    """The reads that brought frames; none is covered yet."""
    shift = np.where(slots["flags"] & Flag.COARSE != 0, np.uint64(COARSE_SHIFT), np.uint64(0))
    ends = slots["event"] + ((slots["recv_start"].astype(np.uint64) + slots["recv_end"]) << shift)
    ends += np.uint64(time.time_ns() - time.monotonic_ns())
    return Reads(slots["nic"].copy(), slots["source"].copy(), ends, np.zeros(len(slots), np.bool_))


def _latest(conn: npt.NDArray[np.uint16], count: Uint64s) -> dict[int, int]:
    """The highest count of each connection."""
    latest: dict[int, Any] = {}
    conns, of = np.unique(conn, return_inverse=True)
    highest = np.zeros(len(conns), np.uint64)
    np.maximum.at(highest, of, count)
    latest.update(zip(conns.tolist(), highest.tolist(), strict=True))
    return latest
