"""Arrivals of messages by captured segments (`wsrec.connect(segments=True)`), with one capture for each loop.

What the recorder shares between its receiver and its writer lies in private memory here, and a follower on the loop
takes the writer's place. It reads the rings a few times a second, so that they never fill, looks up only what is asked
for, and forgets what is older than `KEEP_NS`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
import weakref
from collections import deque
from typing import Any, Final, NamedTuple, TypeVar

import numpy as np

from wsrec.host.clock import now
from wsrec.receive.segments import Attempt
from wsrec.ring.counter import Counter
from wsrec.segments.capture import Capture, CaptureRefused
from wsrec.segments.evidence import Reads, first_known, judge, orders, sources
from wsrec.segments.map_store import MapStore
from wsrec.segments.segment_ring import SegmentRing
from wsrec.segments.segment_store import SegmentStore
from wsrec.segments.stream_map import StreamMap, StreamMapWriter
from wsrec.stages import SegmentOrder, StampSource

KEEP_NS: Final = 2_000_000_000
"""How long after its callback a message's arrival can be asked for, ns."""
# a large message takes a while, and the follower may be late
_KEEP_SEGMENTS_NS = 4_000_000_000
# longest wait for one, ns: a capture that runs is never as far behind
_WAIT_NS = 1_000_000_000
# seconds between two readings, and while an arrival is waited for
_IDLE, _POLL = 0.1, 0.004
_ALL: Final = (1 << 48) - 1
_ALL_TIME: Final = 1 << 63
_CONNECTIONS: Final = 1 << 16


class Arrival(NamedTuple):
    """When the bytes of a message arrived, by the TCP segments that brought them.

    Attributes:
        last: arrival of the segment with which the message was complete (ns since the epoch): it has the last byte of
            its frame, under TLS of that byte's record. None without one: `source.reason` says why.
        first: arrival of the segment with the first byte of its first frame; None if that is not known.
        order: how the segment of `last` came: `in_order`, `filled` (a hole), `repeated` or `ahead` of a hole.
        source: whose clock it is: `SEGMENT` the kernel's, `SEGMENT_NIC` the NIC's.

    """

    last: int | None
    first: int | None
    order: str | None
    source: StampSource


class Sought(NamedTuple):
    """What is asked of a message.

    Attributes:
        first, last: counts of its first and last byte in the byte ring.
        handoff: when it was handed off, ns on the stage clock.
        read: when the read of its last byte ended, ns on the stage clock.
        stamp: that came with this read, ns since the epoch; 0 without one.
        source: of this stamp.

    """

    first: int
    last: int
    handoff: int
    read: int
    stamp: int
    source: StampSource


class _Waiting(NamedTuple):
    conn: int
    sought: Sought
    until: int
    future: asyncio.Future[Arrival]


class Captured:
    """A connection whose segments are captured; of a loop that cannot capture, one that says so.

    Args:
        follower: has the capture; None where it was refused.

    """

    def __init__(self, follower: Follower | None) -> None:
        self._follower = follower
        self._conn = -1 if follower is None else follower.enter()

    def attempt(self, *, records: bool, tunnel: bool) -> Attempt | None:
        """Capture an attempt to connect; arguments as in `wsrec.receive.segments.Segments.attempt`."""
        if self._follower is None:
            return None
        return self._follower.attempt(self._conn, records=records, tunnel=tunnel)

    def begin(self, head: Counter) -> None:
        """The connection reads into a ring with this head."""
        if self._follower is not None:
            self._follower.heads[self._conn] = head

    def leave(self) -> None:
        """The connection has ended: with the last one of the loop the capture ends."""
        if self._follower is None:
            return
        self._follower.leave(self._conn)
        loop = asyncio.get_running_loop()
        if not self._follower.is_used and _OF_LOOP.get(loop) is self._follower:
            del _OF_LOOP[loop]

    async def arrival(self, sought: Sought) -> Arrival:
        """The arrival of a message of this connection."""
        if self._follower is None:
            return _without(StampSource.NONE_REFUSED)
        return await self._follower.arrival(self._conn, sought)


class Follower:
    """A capture, and what follows it on the loop.

    Args:
        processors: where the capture's thread may run; None for where the process may.

    Attributes:
        heads: by number of the connection: the head of its byte ring.

    Raises:
        CaptureRefused: it is not possible here.

    """

    def __init__(self, processors: set[int] | None) -> None:
        ring = _private(SegmentRing)
        self._capture = Capture(ring, processors)
        # where the loop is closed before the follower has ended
        self._finalize = weakref.finalize(self, self._capture.close)
        stream_map = _private(StreamMap)
        self._writer = StreamMapWriter(stream_map)
        self._store, self._map = SegmentStore(ring, keep_ns=_KEEP_SEGMENTS_NS), MapStore(stream_map)
        self.heads: dict[int, Counter] = {}
        self._numbers = iter(range(_CONNECTIONS))
        self._open: set[int] = set()
        # when connections ended, and their numbers
        self._ended: deque[tuple[int, int]] = deque()
        self._free: list[int] = []
        # the heads at earlier times; by connection: up to where nothing is asked for any more
        self._marks: deque[tuple[int, dict[int, int]]] = deque()
        self._joined: dict[int, int] = {}
        self._waiting: list[_Waiting] = []
        self._idling = self._polling = False

    @property
    def is_used(self) -> bool:
        """Whether there are connections."""
        return bool(self._open)

    def enter(self) -> int:
        """The number of a new connection.

        Raises:
            OSError: there are too many.

        """
        conn = self._free.pop() if self._free else next(self._numbers, None)
        if conn is None:
            raise OSError("more than 65,536 connections are captured")
        self._open.add(conn)
        self._joined.pop(conn, None)
        if not self._idling:
            self._idling = True
            asyncio.get_running_loop().call_later(_IDLE, self._idle)
        return conn

    def leave(self, conn: int) -> None:
        """A connection has ended: after the last one the capture takes what has arrived, and ends."""
        if conn not in self._open:
            return
        self._open.remove(conn)
        self.heads.pop(conn, None)
        self._ended.append((now(), conn))
        if not self._open:
            self._capture.stop()

    def attempt(self, conn: int, *, records: bool, tunnel: bool) -> Attempt:
        """Capture an attempt of a connection to connect."""
        return Attempt(self._capture, self._writer, conn, records=records, tunnel=tunnel)

    async def arrival(self, conn: int, sought: Sought) -> Arrival:
        """The arrival of a message, as soon as the capture has what came until its handoff."""
        at = now()
        if at - sought.handoff > KEEP_NS:
            return _without(StampSource.NONE_FORGOTTEN)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Arrival] = loop.create_future()
        self._waiting.append(_Waiting(conn, sought, at + _WAIT_NS, future))
        if not self._polling:
            self._polling = True
            loop.call_later(_POLL, self._poll)
        return await future

    def close(self) -> None:
        """End the capture, of a loop that was closed while connections were open."""
        self._finalize()

    def _idle(self) -> None:
        """Keep the rings empty and the memory small."""
        at = now()
        self._read()
        self._forget(at)
        if not self._capture.stopped:
            self._capture.sweep()
        elif self._finalize.alive:
            self.close()
        self._idling = bool(self._open or self._waiting or self._ended or len(self._store))
        if self._idling:
            asyncio.get_running_loop().call_later(_IDLE, self._idle)

    def _forget(self, at: int) -> None:
        """Forget what nobody can ask for any more."""
        self._marks.append((at, {conn: head.read() for conn, head in self.heads.items()}))
        while self._marks and self._marks[0][0] < at - _KEEP_SEGMENTS_NS:
            _, heads = self._marks.popleft()
            # their numbers are still theirs: those are freed after it
            self._joined.update(heads)
        while self._ended and self._ended[0][0] < at - _KEEP_SEGMENTS_NS:
            conn = self._ended.popleft()[1]
            self._joined[conn] = _ALL
            self._free.append(conn)
        self._map.follow_kernel(self._store, self._joined)
        self._map.forget(self._joined)
        unneeded = dict.fromkeys(self._map.unmapped(), _ALL)
        self._store.forget(unneeded, time.monotonic_ns(), self._map.earliest())

    def _read(self) -> None:
        self._map.read(self._joined)
        self._store.read(time.monotonic_ns())

    def _poll(self) -> None:
        """Answer what can be answered by now."""
        at = now()
        # what ended or was covered before is in the ring
        is_over, covered = self._capture.stopped, self._store.ring.covered_until.read()
        due: list[_Waiting] = []
        left: list[_Waiting] = []
        for one in self._waiting:
            if one.future.done():
                continue
            (due if is_over or one.sought.handoff < covered or at >= one.until else left).append(one)
        self._waiting = left
        if due:
            try:
                self._answer(due)
            except Exception as error:  # noqa: BLE001 (raised to those who wait)
                for one in due:
                    if not one.future.done():
                        one.future.set_exception(error)
        self._polling = bool(left)
        if left:
            asyncio.get_running_loop().call_later(_POLL, self._poll)

    def _answer(self, due: list[_Waiting]) -> None:
        is_whole = self._capture.stopped and not self._capture.failed
        covered = _ALL_TIME if is_whole else self._store.ring.covered_until.read()
        self._read()
        conn = np.array([one.conn for one in due], np.uint16)
        first = np.array([one.sought.first for one in due], np.uint64)
        last = np.array([one.sought.last for one in due], np.uint64)
        needed: dict[int, int] = {}
        for one in due:
            needed[one.conn] = max(needed.get(one.conn, 0), one.sought.last + 1)
        self._map.follow_kernel(self._store, needed)
        of_first, of_last = self._map.places(conn, first), self._map.places(conn, last)
        begun, found = self._store.find(of_first.flow, of_first.own), self._store.find(of_last.flow, of_last.needed)
        reads = _reads([one.sought for one in due], covered)
        judged = judge(found, reads)
        known = of_last.known & judged.accepted
        with_first = known & first_known(begun, found, reads)
        with_first &= of_first.own_known & (of_first.flow == of_last.flow)
        order, source = orders(found), sources(found)
        has_flow = of_last.known & self._store.has_flow(of_last.flow)
        for number, one in enumerate(due):
            if known[number]:
                arrival = Arrival(
                    int(found.stamp[number]),
                    int(begun.stamp[number]) if with_first[number] else None,
                    SegmentOrder(order[number]).word,
                    StampSource(source[number]),
                )
            elif of_last.known[number] and judged.contradicted[number]:
                arrival = _without(StampSource.NONE_CONTRADICTED)
            else:
                mapped = bool(has_flow[number] | of_last.may_come[number])
                arrival = _without(self._reason(one.sought.handoff, mapped=mapped))
            one.future.set_result(arrival)

    def _reason(self, handoff: int, *, mapped: bool) -> StampSource:
        """Why there is no arrival."""
        if not mapped:
            return StampSource.NONE_UNMAPPED
        utc = handoff + time.time_ns() - time.monotonic_ns()
        # a segment is lost before its message is handed off
        if any(began <= utc for began, _ in self._store.losses):
            return StampSource.NONE_DROPPED
        return StampSource.NONE_BEHIND


_OF_LOOP: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Follower] = weakref.WeakKeyDictionary()
_WARNED: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()


def join(processors: set[int] | None, logger: logging.Logger | logging.LoggerAdapter[Any]) -> Captured:
    """Capture one more connection of the running loop, which has to `leave`; a refusal is logged once a loop.

    Args:
        processors: where the capture's thread may run; None for where the process may.
        logger: takes the refusal.

    """
    loop = asyncio.get_running_loop()
    for closed in [other for other in _OF_LOOP if other.is_closed()]:
        _OF_LOOP.pop(closed).close()
    if loop not in _OF_LOOP:
        try:
            _OF_LOOP[loop] = Follower(processors)
        except CaptureRefused as error:
            if loop not in _WARNED:
                _WARNED.add(loop)
                logger.warning("capturing segments was refused: %s; %s", *error.refusal)
            return Captured(None)
    return Captured(_OF_LOOP[loop])


def _reads(sought: list[Sought], covered: int) -> Reads:
    """The reads that took messages; all that arrived before `covered` (stage clock) was looked at."""
    offset = time.time_ns() - time.monotonic_ns()
    return Reads(
        np.array([one.stamp for one in sought], np.uint64),
        np.array([one.source for one in sought], np.uint8),
        np.array([one.read + offset for one in sought], np.uint64),
        np.array([one.handoff < covered for one in sought], np.bool_),
    )


def _without(reason: StampSource) -> Arrival:
    return Arrival(None, None, None, reason)


_Ring = TypeVar("_Ring", SegmentRing, StreamMap)


def _private(kind: type[_Ring]) -> _Ring:
    """A ring private to this process."""
    fd = kind.create("wsrec")
    try:
        return kind(fd)
    finally:
        os.close(fd)
