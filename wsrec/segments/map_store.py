"""The stream map as its consumer remembers it: where in its TCP stream a byte of a connection's byte ring lay.

The map's records become *spans*: runs of a ring's bytes that one rule maps. Of a flow without TLS all bytes are one
span that has no end, under TLS each record is one. Spans of a connection are in the order of its bytes.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from wsrec.segments.kernel_records import Control, KernelRecords
from wsrec.segments.segment_store import SegmentStore, start_of
from wsrec.segments.stream_map import UNKNOWN_TAIL, MapFlag, MapKind, StreamMap

Uint64s = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]
Records = npt.NDArray[Any]

_COUNT_BITS: Final = 48
# of a connection whose flows end before one has a row
_MOST_FLOWS: Final = 64
_BEGINS: Final = (MapKind.PLAIN, MapKind.TLS, MapKind.KERNEL, MapKind.UNMAPPED)

SPAN_DTYPE: Final = np.dtype(
    [
        # counts in the byte ring: where it begins (of what begins a flow, where that does), and its end as the record
        # has it. `until` is less where the rest was discarded by a new flow
        ("count", "<u8"),
        ("end", "<u8"),
        ("until", "<u8"),
        # offsets in the TCP stream: of the first byte, and behind the last one
        ("begin", "<u8"),
        ("offset", "<u8"),
        ("flow", "<u4"),
        ("conn", "<u2"),
        ("kind", "u1"),
        ("lost", "u1"),
        ("tail", "<u2"),
    ],
    align=True,
)


class Places(NamedTuple):
    """Where some bytes of byte rings lay in TCP streams.

    Attributes:
        known: whether that is known.
        may_come: where not: whether it may still become known.
        flow: the flow of each.
        own: the stream offset of the byte itself (under TLS: of its ciphertext).
        own_known: whether that is known.
        needed: the stream offset of the byte with which this one was there to be had: under TLS the record's last one.
        begin: the stream offset before which the byte needs nothing: under TLS where the record begins.

    """

    known: Bools
    may_come: Bools
    flow: npt.NDArray[np.uint32]
    own: Uint64s
    own_known: Bools
    needed: Uint64s
    begin: Uint64s


class _Last(NamedTuple):
    """Of a connection: what began its flow, and where its last record ended, in its ring and in the stream."""

    kind: int
    flow: int
    place: int
    offset: int


_NONE = _Last(0, 0, 0, 0)


class MapStore:
    """The consumer's memory of the stream map.

    Args:
        stream_map: the map.

    Attributes:
        map: as given.

    """

    def __init__(self, stream_map: StreamMap) -> None:
        self.map = stream_map
        self._read = start_of(stream_map)
        self._spans: Records = np.empty(0, SPAN_DTYPE)
        self._key: Uint64s | None = None
        self._last: dict[int, _Last] = {}
        # the last one of a connection is that of its flow; of those before it rows are still to come
        self._kernel: dict[int, list[KernelRecords]] = {}

    def __len__(self) -> int:
        return len(self._spans)

    def read(self, joined: Mapping[int, int]) -> bool:
        """Read what is new in the map; True if there was something.

        Args:
            joined: by connection: the count in its ring up to which rows have been mapped.

        """
        published = self.map.published.read()
        if published == self._read:
            return False
        # the receiver may have gone on without a record: then a flow may have begun that is not known of
        may_lack = published - self.map.released.read() >= self.map.capacity
        found = self.map.run(self._read, published).copy()
        self._read = published
        found = found[np.argsort(found["conn"], kind="stable")]
        others = np.unique(found["conn"][found["kind"] != MapKind.RECORD])
        if len(others):
            own = np.isin(found["conn"], others)
            found, left = found[~own], found[own]
            for conn in others.tolist():
                self._take(conn, left[left["conn"] == conn])
        self._follow(found)
        if may_lack:
            for conn, last in self._last.items():
                self._add(self._begin(conn, MapKind.UNMAPPED, 0, joined.get(conn, 0), 0))
                self._last[conn] = last._replace(kind=MapKind.UNMAPPED)
            self._kernel.clear()
        return True

    def _take(self, conn: int, records: Records) -> None:
        """Take new records of one connection."""
        bounds = [*np.flatnonzero(records["kind"] <= max(_BEGINS)).tolist(), len(records)]
        self._follow_one(conn, records[: bounds[0]])
        for start, stop in itertools.pairwise(bounds):
            record = records[start]
            kind, flow = MapKind(int(record["kind"])), int(record["flow"])
            count, offset = int(record["count"]), int(record["offset"])
            self._cut(conn, count, lost=bool(record["flags"] & MapFlag.AFTER_LOSS))
            self._add(self._begin(conn, kind, flow, count, offset))
            self._last[conn] = _Last(kind, flow, count, offset)
            if kind is MapKind.KERNEL:
                overhead, tail = int(record["overhead"]), int(record["tail"])
                self._kernel.setdefault(conn, []).append(KernelRecords(flow, count, offset, overhead, tail))
            self._follow_one(conn, records[start + 1 : stop])

    def _follow_one(self, conn: int, records: Records) -> None:
        """Take records of a flow that has begun."""
        if self._last.get(conn, _NONE).kind == MapKind.KERNEL:
            controls = records[records["kind"] == MapKind.CONTROL]
            places = zip(controls["count"].tolist(), controls["size"].tolist(), strict=True)
            self._kernel[conn][-1].controls += itertools.starmap(Control, places)
        else:
            self._follow(records[records["kind"] == MapKind.RECORD])

    def _follow(self, records: Records) -> None:
        """Take TLS records of flows that have begun, sorted by connection."""
        if not len(records):
            return
        conn, flow, count, offset = (records[name] for name in ("conn", "flow", "count", "offset"))
        ends = np.append(np.flatnonzero(np.diff(conn)), len(conn) - 1)
        firsts = np.append(0, ends[:-1] + 1)
        conns, flows = conn[ends].tolist(), flow[ends].tolist()
        before = [self._last.get(number, _NONE) for number in conns]
        spans = np.zeros(len(records), SPAN_DTYPE)
        for name in ("flow", "conn", "kind", "tail", "offset"):
            spans[name] = records[name]
        spans["end"] = spans["until"] = count
        spans["count"][1:], spans["begin"][1:] = count[:-1], offset[:-1]
        spans["count"][firsts] = [last.place for last in before]
        spans["begin"][firsts] = [last.offset for last in before]
        spans["lost"] = records["flags"] & MapFlag.AFTER_LOSS != 0
        # where the record before it ended is not known
        spans["lost"][firsts] |= [last.flow != own for last, own in zip(before, flows, strict=True)]
        last = zip(conns, flows, count[ends].tolist(), offset[ends].tolist(), strict=True)
        self._last.update({number: _Last(MapKind.TLS, *others) for number, *others in last})
        self._add(spans)

    @staticmethod
    def _begin(conn: int, kind: MapKind, flow: int, count: int, offset: int) -> Records:
        span = np.zeros(1, SPAN_DTYPE)
        span["conn"], span["kind"], span["flow"] = conn, kind, flow
        span["count"] = span["end"] = span["until"] = count
        span["begin"] = span["offset"] = offset
        return span

    def _cut(self, conn: int, count: int, *, lost: bool) -> None:
        """A flow begins at this count: what an earlier one has behind it was discarded."""
        for kernel in self._kernel.get(conn, ()):
            kernel.stop = min(kernel.stop, count)
            kernel.is_lost |= lost
        own = self._spans["conn"] == conn
        if not own.any():
            return
        np.minimum(self._spans["until"], np.uint64(count), out=self._spans["until"], where=own)
        last = int(np.flatnonzero(own)[-1])
        if lost and self._spans["kind"][last] == MapKind.PLAIN:
            # where the flows between it and this one began is not known
            self._spans["lost"][last] = 1
        self._spans = self._spans[~own | (self._spans["kind"] != MapKind.RECORD) | _has_bytes(self._spans)]
        self._key = None

    def _add(self, spans: Records) -> None:
        self._spans = np.concatenate([self._spans, spans])
        self._key = None

    def follow_kernel(self, store: SegmentStore, needed: Mapping[int, int]) -> None:
        """Map what the kernel decrypted by the TLS records that were captured.

        Args:
            store: has these records.
            needed: by connection: up to which count in its ring.

        """
        if store.tls:
            # asked for in case the kernel would decrypt, which it does not
            for last in self._last.values():
                if last.kind != MapKind.KERNEL:
                    store.tls.pop(last.flow, None)
        for conn, kernel in [(conn, kernel) for conn, kernels in self._kernel.items() for kernel in kernels]:
            count = kernel.count
            ends, offsets, begins = kernel.advance(store, needed.get(conn, 0))
            if not len(ends):
                continue
            spans = np.zeros(len(ends), SPAN_DTYPE)
            spans["conn"], spans["flow"], spans["kind"], spans["tail"] = conn, kernel.flow, MapKind.RECORD, kernel.tail
            spans["end"], spans["until"] = ends, np.minimum(ends, np.uint64(kernel.stop))
            spans["offset"], spans["begin"] = offsets, begins
            spans["count"] = np.concatenate([[count], ends[:-1]])
            self._add(spans[_has_bytes(spans)])

    def places(self, conn: npt.NDArray[np.uint16], byte: Uint64s) -> Places:
        """Where bytes of connections lay in their streams.

        Args:
            conn: the connection of each.
            byte: its count in the connection's byte ring.

        """
        if not len(self._spans):
            flags, offsets = np.zeros((3, len(conn)), np.bool_), np.zeros((3, len(conn)), np.uint64)
            flow = np.zeros(len(conn), np.uint32)
            return Places(flags[0], flags[1], flow, offsets[0], flags[2], offsets[1], offsets[2])
        if self._key is None:
            key = _key(self._spans["conn"], self._spans["until"])
            # what begins a flow comes behind what ends where it begins
            order = np.lexsort((self._spans["kind"] <= max(_BEGINS), key))
            self._spans, self._key = self._spans[order], key[order]
        spans = self._spans
        # the first span of the connection that ends behind the byte
        at = np.searchsorted(self._key, _key(conn, byte), side="right")
        inside = np.minimum(at, len(spans) - 1)
        is_record = (at < len(spans)) & (spans["conn"][inside] == conn) & (spans["kind"][inside] == MapKind.RECORD)
        before = np.maximum(at - 1, 0)
        # a flow without TLS goes on up to the next one
        is_plain = (at > 0) & (spans["conn"][before] == conn) & (spans["kind"][before] == MapKind.PLAIN)
        is_plain &= ~is_record
        span = spans[np.where(is_record, inside, before)]
        known = (is_record | is_plain) & (span["lost"] == 0) & (byte >= span["count"])
        ahead = byte - span["count"]
        behind = span["end"] - byte
        own = np.where(is_plain, span["begin"] + ahead, span["offset"] - span["tail"] - behind)
        own_known = known & (
            is_plain | ((span["tail"] != UNKNOWN_TAIL) & (own >= span["begin"]) & (own < span["offset"]))
        )
        needed = np.where(is_plain, own, span["offset"] - np.uint64(1))
        awaited = [conn for conn, kernels in self._kernel.items() if not all(kernel.is_lost for kernel in kernels)]
        may_come = ~known & np.isin(conn, np.array(awaited, np.uint16))
        begin = np.where(is_plain, own, span["begin"])
        return Places(known, may_come, span["flow"], own, own_known, needed, begin)

    def forget(self, joined: Mapping[int, int]) -> None:
        """Drop the spans that no later row needs.

        Args:
            joined: by connection: the count in its ring up to which rows have been mapped.

        """
        self.map.released.publish(self._read)
        for number, kernels in [*self._kernel.items()]:
            left = [kernel for kernel in kernels if kernel.stop > joined.get(number, 0)]
            if left:
                self._kernel[number] = left[-_MOST_FLOWS:]
            else:
                del self._kernel[number]
        if not len(self._spans):
            return
        conns, of = np.unique(self._spans["conn"], return_inverse=True)
        until = np.array([joined.get(conn, 0) for conn in conns.tolist()], np.uint64)[of]
        kept = self._spans["until"] > until
        # what begins a flow holds up to the next one
        begins = np.flatnonzero(self._spans["kind"] <= max(_BEGINS))
        conn, count = self._spans["conn"][begins], self._spans["count"][begins]
        order = np.argsort(_key(conn, count), kind="stable")
        begins, conn, count = begins[order], conn[order], count[order]
        following = np.searchsorted(conn, conn, side="right") - 1 - np.arange(len(conn))
        stop = np.where(following > 0, np.append(count[1:], np.uint64(0)), np.uint64(1 << _COUNT_BITS))
        kept[begins] |= stop > until[begins]
        kept[begins[following >= _MOST_FLOWS]] = False
        if not kept.all():
            self._spans, self._key = self._spans[kept], None

    def earliest(self) -> dict[int, int]:
        """By connection: its earliest flow of which rows may come."""
        mapped = self._spans[self._spans["flow"] > 0]
        conns, of = np.unique(mapped["conn"], return_inverse=True)
        flows = np.full(len(conns), np.iinfo(np.uint32).max, np.uint32)
        np.minimum.at(flows, of, mapped["flow"])
        found: dict[int, int] = dict(zip(conns.tolist(), flows.tolist(), strict=True))
        for conn, kernels in self._kernel.items():
            for kernel in kernels:
                found[conn] = min(found.get(conn, kernel.flow), kernel.flow)
        return found

    def unmapped(self) -> list[int]:
        """The flows whose bytes cannot be mapped, and no row needs."""
        flows = self._spans["flow"][(self._spans["kind"] == MapKind.UNMAPPED) & (self._spans["flow"] > 0)]
        unmapped: list[int] = np.unique(flows).tolist()
        return unmapped


def _has_bytes(spans: Records) -> Bools:
    """Which records have bytes that were not discarded."""
    left: Bools = spans["until"] > spans["count"]
    return left


def _key(conn: npt.NDArray[np.uint16], count: Uint64s) -> Uint64s:
    """Connection and count as one number, in order of both; a ring gets no 256 TB."""
    key: Uint64s = (conn.astype(np.uint64) << np.uint64(_COUNT_BITS)) | count
    return key
