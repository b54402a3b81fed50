"""The segments that a consumer of the segment ring has read and may still need: which one brought a byte, and when.

All work is on arrays; nothing is done per segment in Python but for the few records that are none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from wsrec.segments.repeats import NEVER, Repeats
from wsrec.segments.segment_ring import SEGMENT_DTYPE, BrokenReason, SegmentFlag, SegmentKind, SegmentRing
from wsrec.segments.stream_map import StreamMap

Uint64s = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]
Records = npt.NDArray[Any]

_OFFSET_BITS: Final = 48
# no message takes as long, and of a flow that never began nothing is needed
_KEEP_NS = 60_000_000_000
# segments kept at most, 40 MiB: four times what the ring holds
_MOST: Final = 1 << 20
# how often flows are looked through that may have ended
_PRUNE_NS = 1_000_000_000
_ALL: Final = (1 << _OFFSET_BITS) - 1
_NO_RECORDS = np.empty(0, SEGMENT_DTYPE)


CLOCK_NS: Final = 10_000_000
"""How far the system's clock may have moved since a moment on the monotonic clock that is compared with it, ns."""
NIC_NS: Final = 1_000_000_000 + CLOCK_NS
"""How far a NIC's clock at most is from that (`host.timestamping`), ns."""


def start_of(ring: SegmentRing | StreamMap) -> int:
    """The count from which a consumer reads: a writer that replaces another finds some of what that one released."""
    # the producer overwrites nothing of it soon
    return min(ring.released.read(), max(ring.published.read() - ring.capacity // 2, 0))


class Found(NamedTuple):
    """The segment that brought each of some bytes.

    Attributes:
        known: whether there is one.
        stamp: when it arrived, ns since the epoch; undefined if not.
        flags: its `SegmentFlag`s; `REPEATED` if the byte came again later.
        again: since when at the earliest it may have come again, ns since the epoch by the system's clock; the largest
            number if it did not.

    """

    known: Bools
    stamp: Uint64s
    flags: npt.NDArray[np.uint8]
    again: Uint64s


class _Flow(NamedTuple):
    """A flow: its connection, and when (ns, monotonic) something of it came last."""

    conn: int
    seen: int


class _Indexed(NamedTuple):
    """Records sorted by flow and offset."""

    key: Uint64s
    records: Records


class SegmentStore:
    """The consumer's memory of the segment ring.

    Args:
        ring: the ring.
        keep_ns: segments are dropped after this time (ns), even if they may still be needed.
        most: so many are kept at most.

    Attributes:
        ring: as given.
        losses: the intervals (ns since the epoch) in which packets were dropped, the newest last.
        tls: by flow: its TLS records that were not taken yet, as arrays of `SEGMENT_DTYPE`, in order.
        broken: by flow: from which offset on it is not captured, or has no more TLS records, by `BrokenReason`.

    """

    def __init__(self, ring: SegmentRing, keep_ns: int = _KEEP_NS, most: int = _MOST) -> None:
        self.ring = ring
        self.losses: list[tuple[int, int]] = []
        self.tls: dict[int, list[Records]] = {}
        self.broken: dict[tuple[int, BrokenReason], int] = {}
        self._keep_ns = keep_ns
        self._most = most
        self._flows: dict[int, _Flow] = {}
        self._pruned = 0
        self._read = start_of(ring)
        self._records = _NO_RECORDS
        self._repeats = Repeats()
        self._seen: npt.NDArray[np.int64] = np.empty(0, np.int64)
        self._index: _Indexed | None = None

    def __len__(self) -> int:
        return len(self._records)

    def read(self, now: int) -> bool:
        """Read what is new in the ring, at this time (ns, monotonic); True if there was something."""
        published = self.ring.published.read()
        if published == self._read:
            return False
        found = self.ring.run(self._read, published).copy()
        self._read = published
        kinds = found["kind"]
        segments = kinds == SegmentKind.SEGMENT
        if not segments.all():
            self._take_others(found[~segments], now)
            found = found[segments]
        if not len(found):
            return True
        flows, firsts = np.unique(found["flow"], return_index=True)
        conns = found["conn"][firsts]
        self._flows.update((flow, _Flow(conn, now)) for flow, conn in zip(flows.tolist(), conns.tolist(), strict=True))
        again = found["flags"] & SegmentFlag.REPEATED != 0
        if again.any():
            self._take_repeated(found[again], now)
            found = found[~again]
        self._records = np.concatenate([self._records, found])[-self._most :]
        self._seen = np.concatenate([self._seen, np.full(len(found), now, np.int64)])[-self._most :]
        self._index = None
        return True

    def _take_repeated(self, records: Records, now: int) -> None:
        off = np.where(records["flags"] & SegmentFlag.NIC != 0, np.uint64(NIC_NS), np.uint64(CLOCK_NS))
        since = records["stamp"] - np.minimum(records["stamp"], off)
        flow = records["flow"]
        self._repeats.add(flow, _key(flow, records["offset"]), records["length"].astype(np.uint64), since, now)

    def _take_others(self, others: Records, now: int) -> None:
        records = others[others["kind"] == SegmentKind.TLS_RECORD]
        for flow in np.unique(records["flow"]).tolist():
            self.tls.setdefault(flow, []).append(records[records["flow"] == flow])
        for record in others[others["kind"] != SegmentKind.TLS_RECORD]:
            flow = int(record["flow"])
            if record["kind"] == SegmentKind.OPEN:
                self._flows[flow] = _Flow(int(record["conn"]), now)
            elif record["kind"] == SegmentKind.LOSS:
                self.losses = [*self.losses[-63:], (int(record["offset"]), int(record["stamp"]))]
            elif record["kind"] == SegmentKind.BROKEN:
                self._flows.setdefault(flow, _Flow(int(record["conn"]), now))
                self.broken[flow, BrokenReason(int(record["value"]))] = int(record["offset"])

    def has_flow(self, flows: npt.NDArray[np.uint32]) -> Bools:
        """Which flows are known: the capture saw their start."""
        known: Bools = np.isin(flows, np.fromiter(self._flows, np.uint32, len(self._flows)))
        return known

    def find(self, flow: npt.NDArray[np.uint32], byte: Uint64s) -> Found:
        """The segment that brought each byte first.

        Args:
            flow: of each byte.
            byte: its stream offset.

        """
        if not len(self._records) or not len(flow):
            count = len(flow)
            zeros = np.zeros(count, np.uint64)
            return Found(np.zeros(count, np.bool_), zeros, np.zeros(count, np.uint8), zeros + np.uint64(NEVER))
        if self._index is None:
            key = _key(self._records["flow"], self._records["offset"])
            order = np.argsort(key, kind="stable")
            self._index = _Indexed(key[order], self._records[order])
        key, records = self._index
        wanted = _key(flow, byte)
        at = np.maximum(np.searchsorted(key, wanted, side="right") - 1, 0)
        start = key[at]
        # numbers of flows come around in a key
        known = (start <= wanted) & (wanted - start < records["length"][at]) & (records["flow"][at] == flow)
        flags, again = records["flags"][at], self._repeats.since(wanted)
        flags = np.where(again < NEVER, flags | np.uint8(SegmentFlag.REPEATED), flags)
        return Found(known, records["stamp"][at], flags, again)

    def forget(self, done: Mapping[int, int], now: int, earliest: Mapping[int, int]) -> None:
        """Drop what is not needed any more.

        Args:
            done: by flow: the stream offset up to which all rows have been found.
            now: the time (ns, monotonic).
            earliest: by connection: its earliest flow of which rows may come; those before it have ended.

        """
        self.ring.released.publish(self._read)
        kept = self._seen >= now - self._keep_ns
        kept &= _behind(self._records, done) & ~_ended(self._records["conn"], self._records["flow"], earliest)
        if not kept.all():
            self._records, self._seen, self._index = self._records[kept], self._seen[kept], None
        if len(self._repeats):
            self._repeats.keep(self._needed(self._repeats.flows, done, earliest), now - self._keep_ns)
        if now - self._pruned >= _PRUNE_NS:
            self._pruned = now
            self._prune(now, earliest)

    def _needed(self, flows: npt.NDArray[np.uint32], done: Mapping[int, int], earliest: Mapping[int, int]) -> Uint64s:
        """Of flows: the key up to which nothing of theirs is needed."""
        until: dict[int, int] = {}
        for flow in np.unique(flows).tolist():
            known = self._flows.get(flow)
            has_ended = known is None or flow < earliest.get(known.conn, 0)
            until[flow] = _ALL if has_ended else done.get(flow, 0)
        offsets = np.array([until[flow] for flow in flows.tolist()], np.uint64)
        return _key(flows, offsets)

    def _prune(self, now: int, earliest: Mapping[int, int]) -> None:
        """Forget flows that have ended, and those that were not heard of for long and have no rows."""
        used, unheard = set(earliest.values()), now - self._keep_ns
        for flow, (conn, seen) in [*self._flows.items()]:
            if flow < earliest.get(conn, 0) or (seen < unheard and flow not in used and flow > earliest.get(conn, 0)):
                del self._flows[flow]
        for flow in [flow for flow in self.tls if flow not in self._flows]:
            del self.tls[flow]
        for of in [of for of in self.broken if of[0] not in self._flows]:
            del self.broken[of]


def _key(flow: npt.NDArray[np.uint32], offset: Uint64s) -> Uint64s:
    """Flow and offset as one number, in order of both: 65,536 flows at a time, of 256 TB each."""
    key: Uint64s = (flow.astype(np.uint64) << np.uint64(_OFFSET_BITS)) | offset
    return key


def _behind(records: Records, done: Mapping[int, int]) -> Bools:
    """Which records end behind the offset that their flow is done up to."""
    flows, of = np.unique(records["flow"], return_inverse=True)
    until = np.array([done.get(flow, 0) for flow in flows.tolist()], np.uint64)
    behind: Bools = records["offset"] + records["length"] > until[of]
    return behind


def _ended(conn: npt.NDArray[np.uint16], flow: npt.NDArray[np.uint32], earliest: Mapping[int, int]) -> Bools:
    """Which are of flows before the earliest one of their connection."""
    conns, of = np.unique(conn, return_inverse=True)
    first = np.array([earliest.get(number, 0) for number in conns.tolist()], np.uint32)
    ended: Bools = flow < first[of]
    return ended
