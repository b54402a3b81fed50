"""The segments that a consumer of the segment ring has read and may still need: which one brought a byte, and when.

All work is on arrays; nothing is done per segment in Python but for the few records that are none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from wsrec.segments.segment_ring import SEGMENT_DTYPE, BrokenReason, SegmentFlag, SegmentKind, SegmentRing
from wsrec.segments.stream_map import StreamMap

Uint64s = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]
Records = npt.NDArray[Any]

_OFFSET_BITS: Final = 48
# seconds: no message takes as long, and of a flow that never began nothing is needed
_KEEP_NS = 60_000_000_000
_NO_RECORDS = np.empty(0, SEGMENT_DTYPE)


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

    """

    known: Bools
    stamp: Uint64s
    flags: npt.NDArray[np.uint8]


class _Indexed(NamedTuple):
    """Records sorted by flow and offset."""

    key: Uint64s
    records: Records


class SegmentStore:
    """The consumer's memory of the segment ring.

    Args:
        ring: the ring.
        keep_ns: segments are dropped after this time (ns), even if they may still be needed.

    Attributes:
        ring: as given.
        losses: the intervals (ns since the epoch) in which packets were dropped, the newest last.
        tls: by flow: its TLS records that were not taken yet, as arrays of `SEGMENT_DTYPE`, in order.
        broken: by flow: from which offset on it is not captured, or has no more TLS records, by `BrokenReason`.

    """

    def __init__(self, ring: SegmentRing, keep_ns: int = _KEEP_NS) -> None:
        self.ring = ring
        self.losses: list[tuple[int, int]] = []
        self.tls: dict[int, list[Records]] = {}
        self.broken: dict[tuple[int, BrokenReason], int] = {}
        self._keep_ns = keep_ns
        self._flows: set[int] = set()
        self._read = start_of(ring)
        self._records, self._repeated = _NO_RECORDS, _NO_RECORDS
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
            self._take_others(found[~segments])
            found = found[segments]
        if not len(found):
            return True
        self._flows.update(np.unique(found["flow"]).tolist())
        again = found["flags"] & SegmentFlag.REPEATED != 0
        if again.any():
            self._repeated = np.concatenate([self._repeated, found[again]])
            found = found[~again]
        self._records = np.concatenate([self._records, found])
        self._seen = np.concatenate([self._seen, np.full(len(found), now, np.int64)])
        self._index = None
        return True

    def _take_others(self, others: Records) -> None:
        records = others[others["kind"] == SegmentKind.TLS_RECORD]
        for flow in np.unique(records["flow"]).tolist():
            self.tls.setdefault(flow, []).append(records[records["flow"] == flow])
        for record in others[others["kind"] != SegmentKind.TLS_RECORD]:
            flow = int(record["flow"])
            if record["kind"] == SegmentKind.OPEN:
                self._flows.add(flow)
            elif record["kind"] == SegmentKind.LOSS:
                self.losses = [*self.losses[-63:], (int(record["offset"]), int(record["stamp"]))]
            elif record["kind"] == SegmentKind.BROKEN:
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
            return Found(np.zeros(count, np.bool_), np.zeros(count, np.uint64), np.zeros(count, np.uint8))
        if self._index is None:
            key = _key(self._records["flow"], self._records["offset"])
            order = np.argsort(key, kind="stable")
            self._index = _Indexed(key[order], self._records[order])
        key, records = self._index
        wanted = _key(flow, byte)
        at = np.maximum(np.searchsorted(key, wanted, side="right") - 1, 0)
        start = key[at]
        known = (start <= wanted) & (wanted - start < records["length"][at])
        flags = records["flags"][at]
        if len(self._repeated):
            flags = np.where(_inside(self._repeated, wanted), flags | np.uint8(SegmentFlag.REPEATED), flags)
        return Found(known, records["stamp"][at], flags)

    def forget(self, done: Mapping[int, int], now: int) -> None:
        """Drop what is not needed any more.

        Args:
            done: by flow: the stream offset up to which all rows have been found.
            now: the time (ns, monotonic).

        """
        self.ring.released.publish(self._read)
        kept = self._seen >= now - self._keep_ns
        if done:
            kept &= _behind(self._records, done)
        if not kept.all():
            self._records, self._seen, self._index = self._records[kept], self._seen[kept], None
        if len(self._repeated):
            self._repeated = self._repeated[_behind(self._repeated, done)][-(1 << 16) :]


def _key(flow: npt.NDArray[np.uint32], offset: Uint64s) -> Uint64s:
    """Flow and offset as one number, in order of both: 65,536 flows at a time, of 256 TB each."""
    key: Uint64s = (flow.astype(np.uint64) << np.uint64(_OFFSET_BITS)) | offset
    return key


def _inside(records: Records, wanted: Uint64s) -> Bools:
    """Whether bytes are in any of some records, which may overlap."""
    starts = _key(records["flow"], records["offset"])
    began = np.searchsorted(np.sort(starts), wanted, side="right")
    ended = np.searchsorted(np.sort(starts + records["length"]), wanted, side="right")
    inside: Bools = began > ended
    return inside


def _behind(records: Records, done: Mapping[int, int]) -> Bools:
    """Which records end behind the offset that their flow is done up to."""
    flows, of = np.unique(records["flow"], return_inverse=True)
    until = np.array([done.get(flow, 0) for flow in flows.tolist()], np.uint64)
    behind: Bools = records["offset"] + records["length"] > until[of]
    return behind
