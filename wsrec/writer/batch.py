"""A batch: the slots and payloads taken from the rings at once, without a Python object per message.

The slots are copied as they are, and the payloads one behind the other, which is their only copy (`gather`). The same
form is written to the journal and read back from it.
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
from wsrec.ring.slot_flags import FLAG_REST
from wsrec.ring.slot_layout import SLOT_DTYPE, SLOT_SIZE
from wsrec.ring.slotring import SlotRing, count_reads
from wsrec.writer.gather import Slots
from wsrec.writer.implementation import gather
from wsrec.writer.segment_slots import SEGMENT_SLOT_DTYPE, SEGMENT_SLOT_SIZE, has_segments, with_segments


def _journal_schema(size: int) -> pa.Schema:
    slot, payload = (
        pa.field("slot", pa.binary(size), nullable=False),
        pa.field("payload", pa.large_binary(), nullable=False),
    )
    return pa.schema([slot, payload])


JOURNAL_SCHEMA: pa.Schema = _journal_schema(SLOT_SIZE)
SEGMENT_JOURNAL_SCHEMA: pa.Schema = _journal_schema(SEGMENT_SLOT_SIZE)
"""With `--segments`: slots of `SEGMENT_SLOT_DTYPE`."""
JOURNAL_SCHEMAS = (JOURNAL_SCHEMA, SEGMENT_JOURNAL_SCHEMA)

# as this type a slot is copied whole, not field by field
SLOT_BYTES = np.dtype((np.void, SLOT_SIZE))
# A batch ends with the payload that reaches this limit, which bounds what is copied at once
BATCH_BYTES = 16 << 20


class Batch(NamedTuple):
    """Consecutive slots and their payloads.

    Attributes:
        slots: array of `SLOT_DTYPE`, or `SEGMENT_SLOT_DTYPE`.
        payload: `large_binary` array as long as `slots`.
        first: the slot ring's count of the first slot: slots published since the ring was created. Slots that were
            in no ring (`Flag.REST`) form batches of their own, with the count of the slot that follows them.

    """

    slots: Slots
    payload: pa.Array
    first: int

    @property
    def next(self) -> int:
        """The slot ring's count of the slot behind the last one."""
        return self.first if self.fetched else self.first + len(self.slots)

    @property
    def fetched(self) -> bool:
        """True if the slots were in no ring, but hold data that the writer fetched itself."""
        return len(self.slots) > 0 and bool(self.slots["flags"][0] & FLAG_REST)

    def part(self, start: int, stop: int) -> Batch:
        """The slots from `start` to `stop` of this batch."""
        return Batch(self.slots[start:stop], self.payload[start:stop], self.first + start)

    def to_arrow(self) -> pa.RecordBatch:
        """The batch in `JOURNAL_SCHEMA` or `SEGMENT_JOURNAL_SCHEMA`, as its slots are, without copying."""
        schema = SEGMENT_JOURNAL_SCHEMA if has_segments(self.slots) else JOURNAL_SCHEMA
        slot = pa.Array.from_buffers(schema.field("slot").type, len(self.slots), [None, pa.py_buffer(self.slots)])
        return pa.record_batch([slot, self.payload], schema=schema)

    def with_segments(self) -> Batch:
        """The batch with slots of `SEGMENT_SLOT_DTYPE`."""
        return self._replace(slots=with_segments(self.slots))

    def checksum(self) -> int:
        """XXH3 (64 bits) of slots and payload bytes, seeded with `first`. The payloads' lengths are in the slots."""
        digest = xxhash.xxh3_64(seed=self.first)
        digest.update(self.slots.view(np.uint8).data)
        offsets, buffer = payload_offsets(self.payload), self.payload.buffers()[2]
        if buffer is not None:
            digest.update(memoryview(buffer)[offsets[0] : offsets[-1]])
        return digest.intdigest()

    @classmethod
    def from_arrow(cls, batch: pa.RecordBatch, first: int) -> Batch:
        """Inverse of `to_arrow`, for the batch that began with this count."""
        slot = batch.column("slot")
        size = slot.type.byte_width
        dtype = SEGMENT_SLOT_DTYPE if size == SEGMENT_SLOT_SIZE else SLOT_DTYPE
        slots = np.frombuffer(slot.buffers()[1], dtype, len(slot), slot.offset * size)
        return cls(slots, batch.column("payload"), first)


class Drain:
    """The consumer side of the rings.

    It copies into memory that is reused: fresh pages cost more than the copy itself.

    Args:
        slots: the slot ring.
        rings: the byte ring of each connection, by its number.
        control_ring: the byte ring of the receiver's control records.

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
        # few of a thousand rings have data: which ones, according to the slots up to `_looked`
        self._looked = self._taken
        self._is_busy = np.zeros(len(self._rings), np.bool_)
        self._is_busy[0] = True
        self._busy = self._rings[:1]
        self._slot_memory = np.empty(slots.capacity, SLOT_DTYPE)
        self._offset_memory = np.zeros(slots.capacity + 1, np.int64)
        self._payload_memory = np.empty(BATCH_BYTES, np.uint8)

    @property
    def next(self) -> int:
        """The count of the first slot not yet taken."""
        return self._taken

    def pending(self) -> int:
        """Number of slots published and not yet taken."""
        return self._slots.published.read() - self._taken

    def held(self) -> int:
        """Bytes in the rings of connections that have slots: received and not yet released."""
        return sum(ring.head.read() - ring.tail.read() for ring in self._busy_rings()[1:])

    def fullest(self) -> float:
        """Fill level of the fullest ring, from 0 to 1."""
        fill = max((ring.head.read() - ring.tail.read()) / ring.capacity for ring in self._busy_rings())
        return max(fill, self.pending() / self._slots.capacity)

    def take(self, *, final: bool = False) -> Batch | None:
        """Copy the complete reads that are published, up to `BATCH_BYTES` and the payload that reaches it.

        The rings keep the data until `release`; the next `take` overwrites the batch.

        Args:
            final: whether the receiver has ended, so that an incomplete read will not be completed.

        Returns:
            None if there is no complete read.

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
        """Free the space of everything taken in the rings: it is in the journal.

        Slots first: if this process is killed in between, every slot that remains still has its payload.
        """
        self._slots.released.publish(self._taken)
        for ring, end in zip(self._rings, self._taken_ends.tolist(), strict=True):
            ring.tail.publish(end)
        self._looked = self._taken
        self._is_busy[1:] = False
        self._busy = self._rings[:1]

    def _busy_rings(self) -> list[ByteRing]:
        """The rings with published slots not yet released; the first is the control ring."""
        published = self._slots.published.read()
        if published != self._looked:
            self._is_busy[self._ring_of[self._slots.run(self._looked, published)["conn"]]] = True
            self._busy = [self._rings[index] for index in np.flatnonzero(self._is_busy).tolist()]
            self._looked = published
        return self._busy


def payload_offsets(payload: pa.Array) -> npt.NDArray[np.int64]:
    """Start of each payload of a `large_binary` array in its buffer, and the end of the last one (bytes)."""
    return np.frombuffer(payload.buffers()[1], np.int64, len(payload) + 1, payload.offset * 8)


def payload_list(payload: pa.Array, rows: npt.NDArray[np.intp] | None = None) -> Sequence[memoryview]:
    """Payloads of a `large_binary` array, all or those of some rows, as views of its buffer for use in Python."""
    buffer, offsets = payload.buffers()[2], payload_offsets(payload)
    data = memoryview(buffer if buffer is not None else b"").cast("B").toreadonly()
    if rows is None:
        return [data[start:stop] for start, stop in itertools.pairwise(offsets.tolist())]
    ends = zip(offsets[rows].tolist(), offsets[rows + 1].tolist(), strict=True)
    return [data[start:stop] for start, stop in ends]
