"""The hot path: six stages from the NIC to the writer, once for each time that a socket becomes readable.

Theory of operation. Stage 1 is the NIC's or the kernel's timestamp, on the realtime clock; stages 2 to 6 are read here,
on one monotonic clock, so within a frame they never decrease. The socket is read straight into the connection's byte
ring and the frames are parsed in place; the writer gets a 64-byte slot per frame. This process owns the byte ring's
head and the slot ring's `published`, the writer owns the byte ring's tail and `released`; nothing else is shared and
neither side waits for the other.

One read is one batch. Its frames share stages 1 to 4, each has its own stage 5, and they are handed off together by one
write of `published`, so stage 6 of the first includes the parsing of those behind it; `frame_in_read` shows this. The
compiled core hands off 16 at a time. The last slot of a read is marked (`Flag.LAST`), and from that the consumer counts
the frames of the read: the count is not known here before the end.

A transport that decrypts by itself delivers a read record by record (`Transport.by_record`). Each record is then a
batch, whose frames have their own stage 4 and are handed off before the next record is decrypted. The read is still
what is counted: `frame_in_read` runs over all its records, and the last slot gets its mark at the end, when the
consumer may have seen it without. Control frames and the end of the connection wait for that mark too: what they cause
takes slots, and no slot may come between those of one read.

Cost: four clock reads and one system call per read; one header parse, one clock read and one packed slot per frame. No
payload is copied, and none is inspected unless text is to be validated. Nothing blocks, nothing is logged: errors are
passed to the connection, which handles them after the batch is out.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from wsrec.host.clock import now
from wsrec.receive.producer import RESERVED_SLOTS, Producer
from wsrec.receive.transport import READ_MAX, Transport
from wsrec.ring.bytering import ByteRing
from wsrec.ring.slot_flags import FLAG_COARSE, FLAG_FIN, FLAG_LAST, FLAG_RSV1
from wsrec.ring.slot_layout import COARSE_SHIFT, FLAGS_OFFSET, HANDOFF_OFFSET, SLOT, SLOT_SIZE
from wsrec.wire.errors import ProtocolError
from wsrec.wire.frames import CLOSE, FIN, OPCODE, RSV1, WHOLE_TEXT, MessageRules, parse_header

# Least room for a read: a TLS record (16 KiB) and the rest of another
MIN_ROOM = 32 << 10

_SMALLEST_FRAME = 2

# the largest difference in a slot: in the coarse unit it is 73 minutes, which stand for any longer time
_LARGEST = (1 << 32) - 1
pack_slot = SLOT.pack_into
pack_handoff = struct.Struct("<Q").pack_into


class HotPath:
    """The receive path of one connection, from readiness to hand-off.

    Args:
        conn: number of the connection.
        ring: its byte ring.
        producer: the receiver's slots.
        transport: the connected socket.
        rules: frame rules and message size limit.
        on_opening: receives the data before the WebSocket is open and returns how many bytes it consumed; may set
            `open`.
        on_control: receives opcode and payload of a control frame, after its batch is published.
        on_end: called once when reading ends: with None for the end of the stream, else with the error.
        on_full: called when a ring is full; reading must pause until `has_room`.
        on_batch: called after a batch is published, with its first slot and the one behind it: for a consumer in the
            same process.

    Attributes:
        open: whether the opening handshake is done and frames follow.
        stopped: set once the connection has ended: the rest of a read is not parsed, and counted as `unparsed`.
        reads, frames, received: non-empty reads, frames published, and bytes read on this connection.
        last_event: monotonic time (ns) of the last non-empty read.

    """

    def __init__(
        self,
        conn: int,
        ring: ByteRing,
        producer: Producer,
        transport: Transport,
        rules: MessageRules,
        *,
        on_opening: Callable[[memoryview], int],
        on_control: Callable[[int, bytes], None],
        on_end: Callable[[Exception | None], None],
        on_full: Callable[[], None],
        on_batch: Callable[[int, int], None] | None = None,
    ) -> None:
        self.open = False
        self.stopped = False
        self.reads = 0
        self.frames = 0
        self.received = 0
        self.last_event = 0
        self._conn = conn
        self._ring = ring
        self._producer = producer
        self._transport = transport
        self._rules = rules
        self._on_opening = on_opening
        self._on_control = on_control
        self._on_end = on_end
        self._on_full = on_full
        self._on_batch = on_batch
        # byte counts in the ring: received up to `_head`, parsed up to `_position`
        self._head = ring.head.read()
        self._position = self._head
        # end of the last frame handed off: no slot of this connection refers to anything behind it
        self._handed_off = self._head
        # target of the next read, None if there was no room; and the count of slots when it was determined
        self._into: memoryview | None = None
        self._prepared_at = -1
        # the frame being handed off in parts: bytes to come, and its first byte
        self._part_left = 0
        self._part_first = 0
        self._part_size = ring.capacity // 4
        # the read in progress: its first slot, the count behind its last one if that is not marked, and what waits for
        # its end
        self._first_slot = 0
        self._unmarked: int | None = None
        self._controls: list[tuple[int, int, int]] = []
        self._failure: ProtocolError | None = None
        # text is validated up to this byte count
        self._validated = self._head

    @property
    def unparsed(self) -> int:
        """Bytes received of an incomplete frame."""
        return self._head - self._position

    def has_room(self) -> bool:
        """True if both rings have room for a read."""
        return self._room() >= MIN_ROOM

    def discard(self) -> None:
        """Free what no slot refers to: the handshake's answer, or an incomplete frame. Reading must have ended.

        The writer frees the ring by slots, so otherwise a server that is down for days would fill it.
        """
        self._head = self._position = self._handed_off
        self._ring.head.publish(self._head)
        self._into = None

    def on_readable(self) -> bool:
        """Readiness callback: read once, parse every complete frame, hand the batch off; True if there was data."""
        # Stage 2, EVENT
        event = now()
        if self._into is None or self._prepared_at != self._producer.count:
            self._prepare()
        into = self._into
        if into is None:
            self._on_full()
            return False

        # Stage 3, RECV_START
        recv_start = now()
        try:
            size = self._transport.read(into)
        except OSError as error:
            self._on_end(error)
            return False
        # Stage 4, RECV_END
        recv_end = now()
        if not size:
            if size is not None:
                self._on_end(None)
            return False

        self.reads += 1
        self.last_event = event
        self._first_slot = self._producer.count
        left: int | None = size
        end: OSError | None = None
        while left:
            self._take(left, event, recv_start, recv_end)
            if not self._transport.by_record:
                break
            into = into[left:]
            try:
                left = self._transport.more(into)
            except OSError as error:
                # without its traceback, for the same reason as below
                left, end = 0, error.with_traceback(None)
            # Stage 4 of the next record
            recv_end = now()
        self._end_read()
        if self._failure is not None:
            self._on_end(self._failure)
        elif left == 0:
            self._on_end(end)
        self._prepare()
        return True

    def _take(self, size: int, event: int, recv_start: int, recv_end: int) -> None:
        """Parse and hand off what is new in the ring: the `size` bytes of a read, or of one record of it."""
        self._head += size
        self._ring.head.publish(self._head)
        self.received += size
        if self.stopped or self._failure is not None:
            return
        if not self.open:
            self._position += self._on_opening(self._ring.slice(self._position, self._head - self._position))
        if self.open:
            self._parse(event, recv_start, recv_end)

    def _end_read(self) -> None:
        """Mark the last frame of the read, then pass on its control frames."""
        if self._unmarked is not None:
            self._mark(self._unmarked)
            self._unmarked = None
        controls, self._controls = self._controls, []
        for opcode, offset, size in controls:
            self._on_control(opcode, bytes(self._ring.slice(offset, size)))

    def _prepare(self) -> None:
        """Determine the target of the next read ahead of time.

        The writer can only add room. Slots may be taken meanwhile by other connections and by the receiver's control
        records; `_prepared_at` shows that, and then it is determined again.
        """
        room = self._room()
        start = self._head & self._ring.mask
        self._into = self._ring.view[start : start + room] if room >= MIN_ROOM else None
        self._prepared_at = self._producer.count

    def _parse(self, event: int, recv_start: int, recv_end: int) -> None:
        transport, producer, rules = self._transport, self._producer, self._rules
        view, mask = self._ring.view, self._ring.mask
        slot_view, slot_mask = producer.slots.view, producer.slots.mask
        stamp, source, read_bytes = transport.stamp, transport.source, transport.read_bytes
        waited, took = recv_start - event, recv_end - recv_start
        conn, head, position = self._conn, self._head, self._position
        first_slot, count = self._first_slot, producer.count

        while True:
            available = head - position
            try:
                if self._part_left:
                    first, length, header = self._part_first, self._part_left, 0
                else:
                    found = parse_header(view, position & mask, available)
                    if found is None:
                        break
                    first, length, header = found
                if (
                    first == WHOLE_TEXT
                    and header + length <= available
                    and not rules.open
                    and length <= rules.max_message
                    and (not rules.validate_text or self._is_utf8(position + header, length))
                ):
                    flags, size = FLAG_FIN, length
                else:
                    admitted = self._admit(first, length, header, available, position + header)
                    if admitted is None:
                        break
                    flags, size = admitted
            except ProtocolError as error:
                # its traceback would hold this frame, which holds it: a cycle, and nothing collects cycles here
                self._failure = error.with_traceback(None)
                break
            # Stage 5, PARSED
            parsed = now()
            position += header
            try:
                pack_slot(
                    slot_view,
                    (count & slot_mask) * SLOT_SIZE,
                    position,
                    stamp,
                    event,
                    0,
                    waited,
                    took,
                    parsed - recv_end,
                    size,
                    read_bytes,
                    count - first_slot,
                    0,
                    conn,
                    first & OPCODE,
                    flags,
                    source,
                )
            except struct.error:
                # the process was stopped for seconds: store the differences in the coarse unit
                coarse = [min(ns >> COARSE_SHIFT, _LARGEST) for ns in (waited, took, parsed - recv_end)]
                start = position, stamp, event, 0, *coarse, size, read_bytes, count - first_slot, 0
                kind = conn, first & OPCODE, flags | FLAG_COARSE, source
                pack_slot(slot_view, (count & slot_mask) * SLOT_SIZE, *start, *kind)
            if first & OPCODE >= CLOSE:
                self._controls.append((first & OPCODE, position, size))
            position += size
            count += 1

        self._position = position
        if count != producer.count:
            self._hand_off(producer.count, count)

    def _admit(self, first: int, length: int, header: int, available: int, start: int) -> tuple[int, int] | None:
        """The less common frames: fragments, control frames, incomplete frames and frames handed off in parts.

        A frame larger than a quarter of the ring is handed off in parts as it arrives, so that it need not fit;
        `header` is 0 for the continuation of such a frame. Its payload begins at `start`.

        Returns:
            The slot's flags and the size of the payload to hand off; None if more data is needed first.

        Raises:
            ProtocolError: the frame violates the protocol.

        """
        if header:
            self._rules.check(first, length)
        flags = FLAG_RSV1 if header and first & RSV1 else 0
        if header + length <= available:
            size = length
            if first & FIN:
                flags |= FLAG_FIN
        elif header + length > self._part_size <= available:
            size = available - header
        else:
            # invalid text is detected before the frame is complete
            self._validate(first, start, available - header, final=False)
            return None
        self._validate(first, start, size, final=bool(flags & FLAG_FIN))
        if header:
            self._rules.advance(first, length)
        self._part_left = length - size
        # the rest continues the message, whatever opcode it began with
        self._part_first = first & ~OPCODE
        return flags, size

    def _is_utf8(self, start: int, length: int) -> bool:
        """True if a whole text message is valid; False also if part of it was validated before, to continue there."""
        if self._validated > start:
            return False
        try:
            str(self._ring.slice(start, length), "utf-8")
        except UnicodeDecodeError:
            return False
        return True

    def _validate(self, first: int, start: int, size: int, *, final: bool) -> None:
        """Validate the part of a text frame's payload that is not validated yet.

        Raises:
            ProtocolError: invalid UTF-8 (section 8.1).

        """
        if self._rules.validate_text and self._rules.is_text(first):
            begin, self._validated = max(start, self._validated), start + size
            self._rules.check_text(self._ring.slice(begin, self._validated - begin), final=final)

    def _hand_off(self, first_slot: int, count: int) -> None:
        """Publish the slots from `first_slot` up to `count`, frames of a read or of a record, up to `_position`."""
        self._handed_off = self._position
        producer = self._producer
        start = first_slot & producer.slots.mask
        if self._transport.by_record:
            self._unmarked = count
        else:
            self._mark(count)
        if count - first_slot == 1:
            # cheaper for a single slot than numpy. Stage 6, HANDOFF
            pack_handoff(producer.slots.view, start * SLOT_SIZE + HANDOFF_OFFSET, now())
        else:
            # Stage 6, HANDOFF
            producer.slots.handoff[start : start + count - first_slot] = now()
        producer.slots.published.publish(count)
        producer.count = count
        self.frames += count - first_slot
        if self._on_batch is not None:
            try:
                self._on_batch(first_slot, count)
            except BaseException as error:
                if self._transport.by_record:
                    # the records behind are lost with the read, so nothing after them can be decrypted
                    end = broken_off(error)
                    self._transport.break_off(end)
                    self._on_end(end)
                raise

    def _mark(self, count: int) -> None:
        """Mark the slot before `count` as the last one of its read."""
        slots = self._producer.slots
        slots.view[((count - 1) & slots.mask) * SLOT_SIZE + FLAGS_OFFSET] |= FLAG_LAST

    def _room(self) -> int:
        """Largest read in bytes: limited by the byte ring, and by the slots that its smallest frames would take."""
        slots = self._producer.slots.free(self._producer.count) - RESERVED_SLOTS
        return min(self._ring.room(self._head), slots * _SMALLEST_FRAME, READ_MAX)


def broken_off(error: BaseException) -> ConnectionAbortedError:
    """Why a connection ends whose consumer raised `error` in the middle of a read."""
    return ConnectionAbortedError(f"a read was broken off by {type(error).__name__}")
