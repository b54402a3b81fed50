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
from wsrec.segments.map_store import MapStore, Places
from wsrec.segments.segment_ring import BrokenReason, CaptureState, SegmentFlag, SegmentRing
from wsrec.segments.segment_store import Found, SegmentStore
from wsrec.segments.stream_map import StreamMap
from wsrec.stages import SegmentOrder, StampSource
from wsrec.writer.batch import Batch
from wsrec.writer.gather import Slots
from wsrec.writer.segment_slots import SEGMENT_SLOT_DTYPE, with_segments

Bools = npt.NDArray[np.bool_]
Uint64s = npt.NDArray[np.uint64]

# longer than a running capture is behind (`SegmentRing.covered_until`)
_WAIT_NS = 200_000_000
_POLL_SECONDS = 0.001
# a capture that has not moved on for so long does not run
_STALE_NS = 1_000_000_000
# a read's end is on the monotonic clock: how far the system's may have moved since
_CLOCK_NS = 10_000_000
# and that of a NIC at most is from it (`host.timestamping`)
_NIC_NS = 1_000_000_000 + _CLOCK_NS
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

    @property
    def may_come(self) -> Bools:
        """Which may still be found."""
        first, last = self.first, self.last
        unseen: Bools = (last.known & ~self.found.known) | (first.own_known & ~self.found_first.known)
        return last.may_come | unseen


class _Limits(NamedTuple):
    """Of segments that are to have brought frames: whether the read's own stamp is of the same clock, and the latest
    possible stamp: that one, or else when the read ended."""

    same_clock: Bools
    latest: Uint64s


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
        # by connection: the count in its ring behind the last row, and its flow; by flow: the offset behind it
        self._joined: dict[int, int] = {}
        self._flow_of: dict[int, int] = {}
        self._done: dict[int, int] = {}

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
        self._store.forget(self._done, time.monotonic_ns())
        for flow in [flow for flow, offset in self._done.items() if offset == _ALL_DONE]:
            del self._done[flow]

    def _join(self, slots: Slots, rows: npt.NDArray[np.intp], is_pressed: Callable[[], bool]) -> None:
        received = slots if len(rows) == len(slots) else slots[rows]
        conn = np.ascontiguousarray(received["conn"])
        first, last = _ends(received)
        needed = _latest(conn, last + np.uint64(1))
        until = time.monotonic_ns() + _WAIT_NS
        sought: _Sought | None = None
        # what is still to be found
        left = np.arange(len(rows))
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
            left = np.flatnonzero(sought.may_come & (received["handoff"] >= covered))
            if has_ended or now - covered > _STALE_NS or now >= until or not len(left) or is_pressed():
                break
            time.sleep(_POLL_SECONDS)
        places, found = sought.last, sought.found
        latest_first = _limits(received, sought.found_first).latest
        self._fill(slots, rows, places, found, _limits(received, found))
        begun = sought.found_first
        known = begun.known & sought.first.own_known & places.known & (sought.first.flow == places.flow)
        # later than the last byte only where that came ahead of it
        known &= begun.stamp <= latest_first
        known &= (begun.stamp <= found.stamp) | (found.flags & SegmentFlag.AHEAD != 0)
        slots["first_segment"][rows] = np.where(known, begun.stamp, np.uint64(0))
        self._advance(conn, last, places)

    def _seek(self, conn: npt.NDArray[np.uint16], first: Uint64s, last: Uint64s) -> _Sought:
        """Where the first and last bytes of frames lay, and the segments that brought them."""
        of_first, of_last = self._map.places(conn, first), self._map.places(conn, last)
        found_first = self._store.find(of_first.flow, of_first.own)
        return _Sought(of_first, of_last, found_first, self._store.find(of_last.flow, of_last.needed))

    def _fill(self, slots: Slots, rows: npt.NDArray[np.intp], places: Places, found: Found, limits: _Limits) -> None:
        """Write stage 1 and its source."""
        impossible = places.known & found.known & (found.stamp > limits.latest)
        known = places.known & found.known & ~impossible
        # stamps of two clocks are not compared
        slots["read_stamp"][rows] = np.where(known & ~limits.same_clock, np.uint64(0), slots["nic"][rows])
        by_nic = found.flags & SegmentFlag.NIC != 0
        chosen = np.where(by_nic, np.uint8(StampSource.SEGMENT_NIC), np.uint8(StampSource.SEGMENT))
        order = np.full(len(rows), SegmentOrder.IN_ORDER, np.uint8)
        for flag, word in (
            (SegmentFlag.AHEAD, SegmentOrder.AHEAD),
            (SegmentFlag.FILLED, SegmentOrder.FILLED),
            (SegmentFlag.REPEATED, SegmentOrder.REPEATED),
        ):
            order[found.flags & flag != 0] = word
        if not known.all():
            reasons = self._reasons(slots["handoff"][rows], places)
            reasons[impossible] = StampSource.NONE_CONTRADICTED
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
        ends = zip(
            conns[known].tolist(), places.flow[at][known].tolist(), places.begin[at][known].tolist(), strict=True
        )
        for number, flow, offset in ends:
            before = self._flow_of.get(number)
            if before is not None and before != flow:
                self._done[before] = _ALL_DONE
            self._flow_of[number] = flow
            self._done[flow] = offset


def _ends(slots: Slots) -> tuple[Uint64s, Uint64s]:
    """The counts of each frame's first byte, which is its header's, and of its last one."""
    length, payload = slots["length"], slots["offset"].astype(np.uint64)
    header = np.where(length < _LENGTH_16, np.uint64(2), np.where(length < _LENGTH_64, np.uint64(4), np.uint64(10)))
    return payload - np.minimum(header, payload), payload + length - np.uint64(1)


def _limits(slots: Slots, found: Found) -> _Limits:
    by_nic = found.flags & SegmentFlag.NIC != 0
    same_clock = slots["source"] == np.where(by_nic, np.uint8(StampSource.NIC), np.uint8(StampSource.KERNEL))
    shift = np.where(slots["flags"] & Flag.COARSE != 0, np.uint64(COARSE_SHIFT), np.uint64(0))
    ends = slots["event"] + ((slots["recv_start"].astype(np.uint64) + slots["recv_end"]) << shift)
    ends += np.where(by_nic, np.uint64(_NIC_NS), np.uint64(_CLOCK_NS)) + np.uint64(time.time_ns() - time.monotonic_ns())
    return _Limits(same_clock, np.where(same_clock, slots["nic"], ends))


def _latest(conn: npt.NDArray[np.uint16], count: Uint64s) -> dict[int, int]:
    """The highest count of each connection."""
    latest: dict[int, Any] = {}
    conns, of = np.unique(conn, return_inverse=True)
    highest = np.zeros(len(conns), np.uint64)
    np.maximum.at(highest, of, count)
    latest.update(zip(conns.tolist(), highest.tolist(), strict=True))
    return latest
