"""Messages and segments joined as plainly as can be: what the segment ring and the stream map say of each byte."""

from __future__ import annotations

from typing import Any

import numpy as np

from wsrec.segments.segment_ring import SegmentFlag, SegmentKind, SegmentRing
from wsrec.segments.stream_map import UNKNOWN_TAIL, MapFlag, MapKind, StreamMap

_BEGINS = {MapKind.PLAIN, MapKind.TLS, MapKind.KERNEL, MapKind.UNMAPPED}


class Joined:
    """All that a receiver captured, from the start.

    Args:
        segments, stream_map: both rings, whose whole content is used.

    """

    def __init__(self, segments: SegmentRing, stream_map: StreamMap) -> None:
        records = segments.run(0, segments.published.read())
        self._map = stream_map.run(0, stream_map.published.read()).tolist()
        self._arrived: dict[tuple[int, int], int] = {}
        self._tls: dict[int, list[tuple[int, int]]] = {}
        for row in records:
            flow, offset, length = int(row["flow"]), int(row["offset"]), int(row["length"])
            if row["kind"] == SegmentKind.SEGMENT and not row["flags"] & SegmentFlag.REPEATED:
                for byte in range(offset, offset + length):
                    assert (flow, byte) not in self._arrived
                    self._arrived[flow, byte] = int(row["stamp"])
            elif row["kind"] == SegmentKind.TLS_RECORD and row["value"] == 23:
                self._tls.setdefault(flow, []).append((offset, length))

    def stamp(self, conn: int, end: int) -> int | None:
        """When the stream had brought what lies before `end` in the ring of connection `conn`, ns; None: unknown."""
        found = self.offset(conn, end)
        return None if found is None else self._arrived.get((found[0], found[1] - 1))

    def first(self, conn: int, count: int) -> int | None:
        """When the byte at `count` of the ring arrived."""
        found = self.place(conn, count)
        return None if found is None else self._arrived.get(found)

    def offset(self, conn: int, end: int) -> tuple[int, int] | None:
        """The flow, and the offset up to which its stream had to come for the bytes before `end`."""
        found = self._record(conn, end)
        return None if found is None else found[:2]

    def place(self, conn: int, count: int) -> tuple[int, int] | None:
        """The flow, and the offset of the byte at `count` itself."""
        found = self._record(conn, count + 1)
        if found is None or found[3] == UNKNOWN_TAIL:
            return None
        flow, offset, until, tail = found
        return flow, offset - tail - (until - count)

    def _record(self, conn: int, end: int) -> tuple[int, int, int, int] | None:
        """Flow, offset of the end, count of the end, and tail of what brought the bytes before `end`."""
        for number, (count, offset, flow, of, kind, *_, overhead, _size) in self._flows(conn):
            tail = self._map[number][6]
            until = next((one[0] for later, one in self._flows(conn) if later > number), None)
            if end <= count or (until is not None and end > until):
                continue
            if kind == MapKind.PLAIN:
                return flow, offset + end - count, end, 0
            if kind == MapKind.KERNEL:
                return self._of_kernel(flow, end, count, offset, tail, overhead, number)
            for record in self._map[number + 1 :]:
                if record[3] == of and record[4] == MapKind.RECORD and record[2] == flow and record[0] >= end:
                    return None if record[5] & MapFlag.AFTER_LOSS else (flow, record[1], record[0], record[6])
        return None

    def _of_kernel(
        self, flow: int, end: int, count: int, offset: int, tail: int, overhead: int, number: int
    ) -> tuple[int, int, int, int] | None:
        control = [(one[0], one[8]) for one in self._map[number:] if one[2] == flow and one[4] == MapKind.CONTROL]
        for until, length in self._tls.get(flow, []):
            if until <= offset:
                continue
            if control and control[0] == (count, length - overhead):
                control.pop(0)
                continue
            count += length - overhead
            if count >= end:
                return flow, until, count, tail
        return None

    def _flows(self, conn: int) -> list[tuple[int, Any]]:
        return [(number, one) for number, one in enumerate(self._map) if one[3] == conn and one[4] in _BEGINS]


def settled(segments: SegmentRing, since: int) -> bool:
    """Whether all that arrived until `since` (monotonic, ns) is in the ring."""
    return bool(np.uint64(segments.covered_until.read()) >= since)
