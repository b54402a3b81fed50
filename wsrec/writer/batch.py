"""A batch: what the writer takes out of the rings at once, without a Python object a message.

The slots are copied as they stand, the payloads one behind the other, which is the one copy of them (`gather`). The
same form goes into the journal and comes back from it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from wsrec.ring.bytering import ByteRing
from wsrec.ring.slotring import SLOT_DTYPE, SLOT_SIZE, Flag, SlotRing, count_reads
from wsrec.writer.gather import Slots
from wsrec.writer.implementation import gather

JOURNAL_SCHEMA: pa.Schema = pa.schema(
    [
        pa.field("slot", pa.binary(SLOT_SIZE), nullable=False),
        pa.field("payload", pa.large_binary(), nullable=False),
    ]
)

_REST = int(Flag.REST)
# as such a slot is copied whole, and not field by field
SLOT_BYTES = np.dtype((np.void, SLOT_SIZE))
# A batch ends with the payload that reaches this: it bounds what is copied at once
BATCH_BYTES = 16 << 20


class Batch(NamedTuple):
    """Consecutive slots and their payloads.

    Attributes:
        slots: array of `SLOT_DTYPE`.
        payload: `large_binary` array as long as `slots`.
        first: the slot ring's count of the first slot: slots published since the ring was made. Slots that were in no
            ring (`Flag.REST`) are batches of their own, and have the count of the slot that follows them.

    """

    slots: Slots
    payload: pa.Array
    first: int

    @property
    def next(self) -> int:
        """The slot ring's count of the slot that follows the last one."""
        return self.first if self.fetched else self.first + len(self.slots)

    @property
    def fetched(self) -> bool:
        """Whether the slots were in no ring, but are of what the writer fetched itself."""
        return len(self.slots) > 0 and bool(self.slots["flags"][0] & _REST)

    def part(self, start: int, stop: int) -> Batch:
        """The slots from `start` to `stop` of this batch."""
        return Batch(self.slots[start:stop], self.payload[start:stop], self.first + start)

    def to_arrow(self) -> pa.RecordBatch:
        """The batch in `JOURNAL_SCHEMA`, nothing copied."""
        slot = pa.Array.from_buffers(pa.binary(SLOT_SIZE), len(self.slots), [None, pa.py_buffer(self.slots)])
        return pa.record_batch([slot, self.payload], schema=JOURNAL_SCHEMA)

    def checksum(self) -> int:
        """XXH3 (64 bits) of slots and payload bytes, seeded with `first`. The payloads' lengths are in the slots."""
        digest = xxhash.xxh3_64(seed=self.first)
        digest.update(memoryview(self.slots.view(np.uint8)))  # type: ignore[arg-type]  # as in `gather`
        offsets, buffer = payload_offsets(self.payload), self.payload.buffers()[2]
        if buffer is not None:
            digest.update(memoryview(buffer)[offsets[0] : offsets[-1]])
        return digest.intdigest()

    @classmethod
    def from_arrow(cls, batch: pa.RecordBatch, first: int) -> Batch:
        """Read what `to_arrow` made of the batch that began with this count."""
        slot = batch.column("slot")
        slots = np.frombuffer(slot.buffers()[1], SLOT_DTYPE, len(slot), slot.offset * SLOT_SIZE)
        return cls(slots, batch.column("payload"), first)


class Drain:
    """The writer's end of the rings.

    It copies into memory of its own, always the same: fresh pages cost more than what is copied into them.

    Args:
        slots: the slot ring.
        rings: the byte ring of each connection, by its number.
        control_ring: the byte ring of the receiver's own words.

    """

    def __init__(self, slots: SlotRing, rings: dict[int, ByteRing], control_ring: ByteRing) -> None:
        self._slots = slots
        self._rings = [control_ring, *rings.values()]
        self._views = [ring.view for ring in self._rings]
        self._ring_of = np.zeros(1 << 16, np.int32)
        for index, conn in enumerate(rings, 1):
            self._ring_of[conn] = index
        self._taken = slots.released.read()
        self._taken_ends = np.array([ring.tail.read() for ring in self._rings], np.int64)
        # of a thousand rings few have something in them: which ones, by the slots up to `_looked`
        self._looked = self._taken
        self._is_busy = np.zeros(len(self._rings), np.bool_)
        self._is_busy[0] = True
        self._busy = self._rings[:1]
        self._slot_memory = np.empty(slots.capacity, SLOT_DTYPE)
        self._offset_memory = np.zeros(slots.capacity + 1, np.int64)
        self._payload_memory = np.empty(BATCH_BYTES, np.uint8)

    @property
    def next(self) -> int:
        """The count of the first slot that is not yet taken."""
        return self._taken

    def pending(self) -> int:
        """Slots that are published and not yet taken."""
        return self._slots.published.read() - self._taken

    def held(self) -> int:
        """Bytes in the rings of connections that have slots: received, and not yet released."""
        return sum(ring.head.read() - ring.tail.read() for ring in self._busy_rings()[1:])

    def fullest(self) -> float:
        """How full the fullest ring is, from 0 to 1."""
        fill = max((ring.head.read() - ring.tail.read()) / ring.capacity for ring in self._busy_rings())
        return max(fill, self.pending() / self._slots.capacity)

    def take(self, *, final: bool = False) -> Batch | None:
        """Copy the whole reads that are published, up to `BATCH_BYTES` and the payload that reaches it.

        The rings keep it until `release`; the next `take` writes over the batch.

        Args:
            final: whether the receiver has ended, so that what is there of a read is all of it.

        Returns:
            None where there is no whole read.

        """
        published = self.pending()
        slots = self._slot_memory[:published]
        slots.view(SLOT_BYTES)[:] = self._slots.run(self._taken, self._taken + published).view(SLOT_BYTES)
        count = count_reads(slots, final=final)
        if not count:
            return None
        slots, offsets = slots[:count], self._offset_memory[: count + 1]
        np.cumsum(slots["length"], out=offsets[1:])
        if offsets[-1] > BATCH_BYTES:
            count = int(np.searchsorted(offsets[1:], BATCH_BYTES)) + 1
            slots, offsets = slots[:count], offsets[: count + 1]
        size = int(offsets[-1])
        if size > len(self._payload_memory):
            self._payload_memory = np.empty(size, np.uint8)
        payloads = self._payload_memory[:size]
        gather(slots, self._views, self._ring_of, payloads, self._taken_ends)
        first = self._taken
        self._taken += count
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(payloads)]
        return Batch(slots, pa.Array.from_buffers(pa.large_binary(), count, buffers), first)

    def release(self) -> None:
        """Give the rings' space of all that was taken back to the receiver: it is in the journal.

        The slots first: the payload of a slot that is still there is there too, if we are killed in the middle.
        """
        self._slots.released.publish(self._taken)
        for ring, end in zip(self._rings, self._taken_ends.tolist(), strict=True):
            ring.tail.publish(end)
        self._looked = self._taken
        self._is_busy[1:] = False
        self._busy = self._rings[:1]

    def _busy_rings(self) -> list[ByteRing]:
        """The rings that published slots are of, not yet released: first that of the receiver's own words."""
        published = self._slots.published.read()
        if published != self._looked:
            self._is_busy[self._ring_of[self._slots.run(self._looked, published)["conn"]]] = True
            self._busy = [self._rings[index] for index in np.flatnonzero(self._is_busy).tolist()]
            self._looked = published
        return self._busy


def payload_offsets(payload: pa.Array) -> npt.NDArray[np.int64]:
    """Where each payload of a `large_binary` array begins in its buffer, and where the last one ends (bytes)."""
    return np.frombuffer(payload.buffers()[1], np.int64, len(payload) + 1, payload.offset * 8)


def payload_list(payload: pa.Array, rows: npt.NDArray[np.intp] | None = None) -> Sequence[memoryview]:
    """Payloads of a `large_binary` array, all or those of some rows, as views of its buffer: for Python to look at."""
    buffer, offsets = payload.buffers()[2], payload_offsets(payload)
    data = memoryview(buffer if buffer is not None else b"").cast("B").toreadonly()
    if rows is None:
        return [data[start:stop] for start, stop in itertools.pairwise(offsets.tolist())]
    ends = zip(offsets[rows].tolist(), offsets[rows + 1].tolist(), strict=True)
    return [data[start:stop] for start, stop in ends]
