"""A batch: what the writer takes out of the rings at once, without a Python object a message.

The slots are copied as they stand; the bytes that they point to are copied as one region a ring, frame headers and all.
The payloads are then described, not moved: a `binary_view` array whose views point into the regions (Arrow columnar
format, "Variable-size Binary View Layout"). The same form goes into the journal and comes back from it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wsrec.ring.bytering import ByteRing
from wsrec.ring.slotring import SLOT_DTYPE, SLOT_SIZE, Flag, SlotRing, count_reads

JOURNAL_SCHEMA: pa.Schema = pa.schema(
    [
        pa.field("number", pa.uint64(), nullable=False),
        pa.field("slot", pa.binary(SLOT_SIZE), nullable=False),
        pa.field("payload", pa.binary_view(), nullable=False),
    ]
)

_INLINE = 12
_OWN_WORDS = int(Flag.SENT | Flag.EVENT)

Slots = npt.NDArray[Any]


class Batch(NamedTuple):
    """Consecutive slots and their payloads.

    Attributes:
        first: count of the first slot.
        slots: array of `SLOT_DTYPE`.
        payload: `binary_view` array as long as `slots`.

    """

    first: int
    slots: Slots
    payload: pa.Array

    def part(self, start: int, stop: int) -> Batch:
        """The slots from `start` to `stop` of this batch."""
        return Batch(self.first + start, self.slots[start:stop], self.payload[start:stop])

    def to_arrow(self) -> pa.RecordBatch:
        """The batch in `JOURNAL_SCHEMA`, nothing copied."""
        count = len(self.slots)
        number = pa.array(np.arange(self.first, self.first + count, dtype=np.uint64))
        slot = pa.Array.from_buffers(pa.binary(SLOT_SIZE), count, [None, pa.py_buffer(self.slots)])
        return pa.record_batch([number, slot, self.payload], schema=JOURNAL_SCHEMA)

    @classmethod
    def from_arrow(cls, batch: pa.RecordBatch) -> Batch:
        """Read what `to_arrow` made."""
        slot = batch.column("slot")
        slots = np.frombuffer(slot.buffers()[1], SLOT_DTYPE, len(slot), slot.offset * SLOT_SIZE)
        return cls(batch.column("number")[0].as_py(), slots, batch.column("payload"))


class Drain:
    """The writer's end of the rings.

    Args:
        slots: the slot ring.
        rings: the byte ring of each connection, by its number.
        notes: the byte ring of the receiver's own words.

    """

    def __init__(self, slots: SlotRing, rings: dict[int, ByteRing], notes: ByteRing) -> None:
        self._slots = slots
        self._rings = rings
        self._notes = notes
        self._taken = slots.released.read()

    def pending(self) -> int:
        """Slots that are published and not yet taken."""
        return self._slots.published.read() - self._taken

    def held(self) -> int:
        """Bytes in the connections' rings: received, and not yet released."""
        return sum(ring.head.read() - ring.tail.read() for ring in self._rings.values())

    def fullest(self) -> float:
        """How full the fullest ring is, from 0 to 1."""
        rings = (*self._rings.values(), self._notes)
        fill = max((ring.head.read() - ring.tail.read()) / ring.capacity for ring in rings)
        return max(fill, self.pending() / self._slots.capacity)

    def take(self, *, final: bool = False) -> Batch | None:
        """Copy all whole reads that are published; None where there are none. The rings keep them until `release`.

        Args:
            final: whether the receiver has ended, so that what is there of a read is all of it.

        """
        first = self._taken
        slots = self._slots.run(first, self._slots.published.read()).copy()
        slots = slots[: count_reads(slots, final=final)]
        if not len(slots):
            return None
        self._taken = first + len(slots)
        return Batch(first, slots, self._payloads(slots))

    def release(self, batch: Batch) -> None:
        """Give the rings' space of a batch back to the receiver: it is in the journal."""
        for ring, rows in self._by_ring(batch.slots):
            last = batch.slots[rows[-1]]
            ring.tail.publish(int(last["offset"]) + int(last["length"]))
        self._slots.released.publish(batch.first + len(batch.slots))

    def _payloads(self, slots: Slots) -> pa.Array:
        views = np.zeros((len(slots), 4), np.int32)
        regions: list[pa.Buffer] = []
        for ring, rows in self._by_ring(slots):
            offsets = slots["offset"][rows]
            start = int(offsets[0])
            length = int(offsets[-1]) + int(slots["length"][rows[-1]]) - start
            region = bytes(ring.slice(start, length))
            _fill_views(views, rows, offsets - np.uint64(start), slots["length"][rows], region, len(regions))
            regions.append(pa.py_buffer(region))
        return pa.Array.from_buffers(pa.binary_view(), len(slots), [None, pa.py_buffer(views), *regions])

    def _by_ring(self, slots: Slots) -> list[tuple[ByteRing, npt.NDArray[np.int64]]]:
        own = slots["flags"] & _OWN_WORDS != 0
        groups = [(self._notes, np.flatnonzero(own))]
        conns = slots["conn"]
        groups += [(self._rings[int(conn)], np.flatnonzero(~own & (conns == conn))) for conn in np.unique(conns[~own])]
        return [(ring, rows) for ring, rows in groups if len(rows)]


def _fill_views(
    views: npt.NDArray[np.int32],
    rows: npt.NDArray[np.int64],
    starts: npt.NDArray[np.uint64],
    lengths: npt.NDArray[np.uint32],
    region: bytes,
    buffer: int,
) -> None:
    """Write the 16-byte views of the payloads that lie in one region.

    A view is the length, then up to 12 bytes of the payload itself, or for a longer one its first 4 bytes, the number
    of its buffer and its offset there.
    """
    data = np.frombuffer(region, np.uint8)
    views[rows, 0] = lengths
    long = lengths > _INLINE
    at = starts[long].astype(np.int64)
    cells = views.view(np.uint8).reshape(len(views), 16)
    cells[rows[long], 4:8] = data[at[:, None] + np.arange(4)]
    views[rows[long], 2] = buffer
    views[rows[long], 3] = at
    short, at, size = rows[~long], starts[~long].astype(np.int64), lengths[~long]
    for byte in range(int(size.max(initial=0))):
        has = size > byte
        cells[short[has], 4 + byte] = data[at[has] + byte]


def payload_list(payload: pa.Array) -> Sequence[memoryview]:
    """Each payload as a view of one buffer (a `large_binary` array's own): no Python `bytes` a message."""
    flat = payload.cast(pa.large_binary())
    _, offset_buffer, data_buffer = flat.buffers()
    offsets = np.frombuffer(offset_buffer, np.int64, len(flat) + 1, flat.offset * 8).tolist()
    data = memoryview(data_buffer if data_buffer is not None else b"").cast("B").toreadonly()
    return [data[start:stop] for start, stop in itertools.pairwise(offsets)]
