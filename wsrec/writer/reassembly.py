"""Reassembly: joins fragments and parts of large frames into messages, in order of hand-off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from wsrec.arrays import large_binary
from wsrec.ring.events import Event, EventKind
from wsrec.ring.slot_flags import FLAG_EVENT, FLAG_FIN, FLAG_RSV1, NOT_RECEIVED
from wsrec.writer.batch import Batch, payload_list
from wsrec.writer.gather import Slots
from wsrec.writer.segment_slots import has_segments

_FIRST_CONTROL = 8

# connection, and the flags of control records (`Flag.SENT`, `Flag.EVENT`; 0 for received frames)
Key = tuple[int, int]


class Fragments(NamedTuple):
    """Number of slots that are fragments of messages, and their payload bytes."""

    slots: int
    bytes: int


@dataclass
class _Open:
    opcode: int
    flags: int
    slots: int
    first_segment: int
    # of the slot's stage 1, and so the clock of both
    source: int
    # growing: joining a list of parts at the end would need twice the memory
    data: bytearray

    def counted(self) -> Fragments:
        return Fragments(self.slots, len(self.data))


class Reassembler:
    """Joins fragments of messages across batches.

    A reassembled message has the stamps of the slot that completed it, and opcode, RSV1 and first segment of the one
    that began it; no first segment if that is by another clock.

    Attributes:
        joined: for the last batch: the slots that went into the row of a later one, by key.
        discarded: for the last batch: the fragments of messages that were never completed, by key.

    """

    def __init__(self) -> None:
        self._open: dict[Key, _Open] = {}
        self.joined: dict[Key, Fragments] = {}
        self.discarded: dict[Key, Fragments] = {}

    @property
    def pending(self) -> bool:
        """True if a message is incomplete."""
        return bool(self._open)

    @property
    def unfinished(self) -> dict[Key, Fragments]:
        """The fragments of incomplete messages, by key."""
        return {key: begun.counted() for key, begun in self._open.items()}

    def join(self, batch: Batch) -> tuple[Slots, pa.Array]:
        """The slots that complete a message or event, with the complete payloads (`large_binary`)."""
        self.joined, self.discarded = {}, {}
        flags, opcodes = batch.slots["flags"], batch.slots["opcode"]
        whole = flags & FLAG_FIN != 0
        if not self._open and bool(np.all(whole & ((opcodes != 0) | (flags & FLAG_EVENT != 0)))):
            return batch.slots, batch.payload

        slots = batch.slots.copy()
        first = slots["first_segment"] if has_segments(slots) else np.zeros(len(slots), np.uint64)
        payloads: list[bytes | memoryview] = []
        kept: list[int] = []
        for row, payload in enumerate(payload_list(batch.payload)):
            flag, opcode = int(flags[row]), int(opcodes[row])
            key = (int(slots["conn"][row]), flag & NOT_RECEIVED)
            if 0 < opcode < _FIRST_CONTROL:
                # the beginning of a message: an incomplete one before it belongs to a lost connection
                self._discard(key)
            begun = None if opcode >= _FIRST_CONTROL else self._open.get(key)
            if not flag & FLAG_FIN:
                if begun is None:
                    began, clock = int(first[row]), int(slots["source"][row])
                    self._open[key] = begun = _Open(opcode, flag & FLAG_RSV1, 0, began, clock, bytearray())
                begun.slots += 1
                begun.data += payload
                continue
            if begun is not None:
                _add(self.joined, key, begun.counted())
                begun.data += payload
                payload = memoryview(begun.data).toreadonly()
                slots["opcode"][row] = begun.opcode
                slots["flags"][row] |= begun.flags
                first[row] = begun.first_segment if begun.source == slots["source"][row] else 0
                del self._open[key]
            if flag & FLAG_EVENT and (event := Event.decode(payload)).kind is EventKind.DISCONNECT:
                self._discard((event.conn or 0, 0))
            kept.append(row)
            payloads.append(payload)
        return slots[kept], large_binary(payloads)

    def _discard(self, key: Key) -> None:
        left = self._open.pop(key, None)
        if left is not None:
            _add(self.discarded, key, left.counted())


def _add(counts: dict[Key, Fragments], key: Key, parts: Fragments) -> None:
    before = counts.get(key, Fragments(0, 0))
    counts[key] = Fragments(before.slots + parts.slots, before.bytes + parts.bytes)
