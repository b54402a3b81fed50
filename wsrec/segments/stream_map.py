"""Stream map: where a connection's bytes in its byte ring lay in its TCP stream, from the receiver to its writer.

A record of 32 bytes after each TLS record, or one a connection. Single producer (the receiver), single consumer (the
writer); counts and mapping as in `segment_ring`, which has the flows and stream offsets that these records name. The
receiver never waits for the writer: where there is no room it goes on without, and the next record that finds room has
`MapFlag.AFTER_LOSS`.

Records of a connection are in the order of its bytes. A flow begins with one of `PLAIN`, `TLS`, `KERNEL` or `UNMAPPED`,
before the first row of that flow is handed off. Its `count` is the ring's head then: bytes of earlier flows of the same
connection that lie at or behind it were discarded, so that no row has them, and counts of earlier records beyond it are
void.

Shared memory, one page of header and then the ring:

    line 0   magic, version, capacity (records)
    line 1   published: records written, by the producer
    line 2   released: records used, by the consumer
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from struct import Struct
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from wsrec.ring.counter import Counter
from wsrec.ring.mirror import PAGE, create_shared, map_mirrored, map_words

DEFAULT_RECORDS = 1 << 17
"""4 MiB: twice as many as the slot ring has slots. A page takes memory on its first use."""
MAP_SIZE: Final = 32
UNKNOWN_TAIL: Final = 0xFFFF

_MAGIC = int.from_bytes(b"wsrstmap", "little")
_VERSION = 1

MAP_DTYPE: Final = np.dtype(
    [
        # count in the byte ring, and offset in the TCP stream: see `MapKind`
        ("count", "<u8"),
        ("offset", "<u8"),
        # the flow, 0 for `UNMAPPED`
        ("flow", "<u4"),
        ("conn", "<u2"),
        ("kind", "u1"),
        ("flags", "u1"),
        # bytes
        ("tail", "<u2"),
        ("overhead", "<u2"),
        ("size", "<u4"),
    ]
)
assert MAP_DTYPE.itemsize == MAP_SIZE
MAP_RECORD: Final = Struct("<QQIHBBHHI")
"""The same for `pack_into`."""


class MapKind(IntEnum):
    """What a record tells."""

    PLAIN = 1
    """Begins a flow without TLS: the byte at `count` + n of the ring is the one at `offset` + n of the stream."""
    TLS = 2
    """Begins a flow of which `RECORD`s follow: the bytes from `count` on are of TLS records from `offset` on."""
    KERNEL = 3
    """Begins a flow that the kernel decrypts: the bytes from `count` on are the content of the TLS records whose first
    begins at `offset`. Those are in the segment ring (`SegmentKind.TLS_RECORD`); of each of type 23 `overhead` bytes
    are not content, of which `tail` lie behind it."""
    UNMAPPED = 4
    """Begins a connection whose bytes cannot be mapped."""
    RECORD = 5
    """The bytes up to `count` (exclusive) were brought by the stream up to `offset` (exclusive): before its last byte
    had arrived none of the record could be decrypted. The last of these bytes lies `tail` + 1 bytes before `offset`
    and the others right before it, as far as the record has (`UNKNOWN_TAIL`: they do not, or it is not known). Begins
    where the previous record of the flow ended."""
    CONTROL = 6
    """Of a flow of kind `KERNEL`, under TLS 1.3: a TLS record whose `size` bytes of content were no data, though its
    outer type is 23, came behind the byte at `count` - 1 and before the one at `count`."""


class MapFlag(IntFlag):
    """Bits of a record's `flags`."""

    AFTER_LOSS = 0x01
    """Records between this one and the one before it found no room: the bytes between them are not mapped."""


class StreamMap:
    """One side's view of a stream map in shared memory.

    Args:
        fd: shared memory made by `create`.

    Attributes:
        view: 2 * capacity * 32 writable bytes, the records twice.
        records: the same as a numpy array of `MAP_DTYPE`.
        capacity: number of records.
        mask: capacity - 1.
        published: the producer's counter.
        released: the consumer's counter.

    Raises:
        ValueError: the shared memory is not a stream map of this version.

    """

    def __init__(self, fd: int) -> None:
        words = map_words(fd, PAGE)
        if (words[0], words[1]) != (_MAGIC, _VERSION):
            raise ValueError("the shared memory is not a stream map of this version of wsrec")
        self.capacity = words[2]
        self.mask = self.capacity - 1
        self.view = map_mirrored(fd, PAGE, self.capacity * MAP_SIZE, populate=False)
        self.records: npt.NDArray[Any] = np.frombuffer(self.view, MAP_DTYPE)
        self.published = Counter(words, 1)
        self.released = Counter(words, 2)

    @staticmethod
    def create(name: str, capacity: int = DEFAULT_RECORDS) -> int:
        """Create the shared memory of an empty map of `capacity` records and return its descriptor.

        Raises:
            ValueError: the capacity is not a power of two, or less than a page of records.

        """
        if capacity * MAP_SIZE < PAGE or capacity & (capacity - 1):
            raise ValueError(
                f"a stream map takes a power of two of at least {PAGE // MAP_SIZE} records, not {capacity}"
            )
        fd = create_shared(name, PAGE + capacity * MAP_SIZE)
        words = map_words(fd, PAGE)
        words[0], words[1], words[2] = _MAGIC, _VERSION, capacity
        return fd

    def run(self, start: int, stop: int) -> npt.NDArray[Any]:
        """The records from count `start` to `stop` (at most `capacity`), as a view of the ring."""
        first = start & self.mask
        return self.records[first : first + (stop - start)]


class StreamMapWriter:
    """The producer's side: continues where the receiver before it stopped.

    Args:
        stream_map: the map.

    Attributes:
        map: as given.
        lost: records that found no room.

    """

    def __init__(self, stream_map: StreamMap) -> None:
        self.map = stream_map
        self.lost = 0
        # whether the next record of each connection is the first after a loss
        self._after_loss: set[int] = set()

    def append(
        self,
        kind: MapKind,
        conn: int,
        flow: int,
        count: int,
        offset: int,
        tail: int = 0,
        overhead: int = 0,
        size: int = 0,
    ) -> None:
        """Write and publish a record; without room it is left out.

        Args:
            kind: what it tells; see `MapKind`, also for the others.
            conn: number of the connection.
            flow: number of the flow.
            count: count in the connection's byte ring.
            offset: offset in the TCP stream.
            tail, overhead, size: bytes.

        """
        stream_map = self.map
        published = stream_map.published.read()
        if published - stream_map.released.read() >= stream_map.capacity:
            self.lost += 1
            self._after_loss.add(conn)
            return
        flags = 0
        if conn in self._after_loss:
            self._after_loss.remove(conn)
            flags = int(MapFlag.AFTER_LOSS)
        at = (published & stream_map.mask) * MAP_SIZE
        MAP_RECORD.pack_into(stream_map.view, at, count, offset, flow, conn, kind, flags, tail, overhead, size)
        stream_map.published.publish(published + 1)
