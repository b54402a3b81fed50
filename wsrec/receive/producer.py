"""The receiver's end of the slot ring, shared by all its connections, and of the control ring.

The receiver's own records, events and the frames that it sent, take slots among those of received frames, which keeps
their order; their payload lies in the control ring. While that is full, records wait here in order and are written as
soon as there is room: none is dropped. A record's slot has two times: `event` is when it happened, `handoff` when the
slot was published. So slots are always in the order of their hand-off.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

from wsrec.host.clock import now
from wsrec.ring import recovery_point
from wsrec.ring.bytering import ByteRing
from wsrec.ring.events import Event, EventKind
from wsrec.ring.slot_flags import FLAG_EVENT, FLAG_FIN, FLAG_SENT
from wsrec.ring.slot_layout import SLOT, SLOT_SIZE
from wsrec.ring.slotring import SlotRing
from wsrec.stages import StampSource
from wsrec.wire.frames import TEXT

# Slots that received frames leave free, so that a stall can still be recorded
RESERVED_SLOTS = 16
# The first events of a receiver that takes over. Their slots have an opcode, which begins a message: the writer then
# drops the beginning of one that the receiver before it did not complete
_FIRST_EVENTS = (EventKind.RESTART, EventKind.DISCONNECT)


class _ControlRecord(NamedTuple):
    payload: bytes
    conn: int
    opcode: int
    flags: int
    time: int
    request: int = 0


class Producer:
    """Publishes slots.

    Args:
        slots: the slot ring.
        control_ring: the byte ring of the control records. Both continue where a dead receiver left them.

    Attributes:
        slots: the slot ring.
        count: slots published so far.

    """

    def __init__(self, slots: SlotRing, control_ring: ByteRing) -> None:
        self.slots = slots
        self.count = slots.published.read()
        self._control_ring = control_ring
        recovery_point.end_read(slots)
        self._head = recovery_point.of_control_ring(slots, control_ring).end
        control_ring.head.publish(self._head)
        self._waiting: deque[_ControlRecord] = deque()

    def event(self, kind: EventKind, *, conn: int | None = None, **detail: Any) -> None:
        """Record that something happened, now."""
        payload = Event(kind, conn, detail=detail).encode()
        opcode = TEXT if kind in _FIRST_EVENTS else 0
        self._append(_ControlRecord(payload, conn or 0, opcode, FLAG_EVENT | FLAG_FIN, now()))

    def sent(self, conn: int, opcode: int, payload: bytes, request: int = 0) -> None:
        """Record a frame that was just handed to the socket, of the subscription request of this number; 0: of none."""
        self._append(_ControlRecord(payload, conn, opcode, FLAG_SENT | FLAG_FIN, now(), request))

    def flush(self) -> bool:
        """Write the records that had to wait; returns True if none is left."""
        while self._waiting:
            if not self._write(self._waiting[0]):
                return False
            self._waiting.popleft()
        return True

    def _append(self, record: _ControlRecord) -> None:
        # a message larger than the ring is split into parts, which the writer reassembles like fragments
        part = self._control_ring.capacity // 4
        for start in range(0, max(len(record.payload), 1), part):
            last = start + part >= len(record.payload)
            self._waiting.append(
                record._replace(
                    payload=record.payload[start : start + part],
                    opcode=record.opcode if start == 0 else 0,
                    flags=record.flags if last else record.flags & ~FLAG_FIN,
                )
            )
        self.flush()

    def _write(self, record: _ControlRecord) -> bool:
        length = len(record.payload)
        if self._control_ring.room(self._head) < length or self.slots.free(self.count) < 1:
            return False
        self._control_ring.slice(self._head, length)[:] = record.payload
        SLOT.pack_into(
            self.slots.view,
            (self.count & self.slots.mask) * SLOT_SIZE,
            self._head,
            0,
            record.time,
            now(),
            0,
            0,
            0,
            length,
            record.request,
            0,
            0,
            record.conn,
            record.opcode,
            record.flags,
            StampSource.NONE_SENT,
        )
        self._head += length
        self._control_ring.head.publish(self._head)
        self.count += 1
        self.slots.published.publish(self.count)
        return True
