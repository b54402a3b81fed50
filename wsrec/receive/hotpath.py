"""The hot path: six stages from the NIC to the writer, once for each time that a socket becomes readable.

Theory of operation. Stage 1 is the NIC's or the kernel's stamp, on the realtime clock; stages 2 to 6 are read here, on
one monotonic clock, so within a frame they never decrease. The socket is read straight into the connection's byte ring
and the frames are parsed where they lie; what the writer gets is a 64-byte slot a frame. This process owns the byte
ring's head and the slot ring's `published`, the writer owns the byte ring's tail and `released`; nothing else is shared
and nobody waits for anybody.

One read is one batch. Its frames share stages 1 to 4, each has its own stage 5, and they are handed off together by
one write of `published`, so stage 6 of the first contains the parsing of those behind it; `frame_in_read` tells. The
compiled core hands off 16 at a time. The last slot of a read says so (`Flag.LAST`), and from that the consumer counts
the frames of the read: here nobody knows the count before the end.

Cost: four clock reads and one system call a read; one header parse, one clock read and one packed slot a frame. No
payload is copied, and none is looked at unless text is to be validated. Nothing blocks, nothing is logged: what goes
wrong is told to the connection, which deals with it after the batch is out.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from wsrec.host.clock import now
from wsrec.receive.producer import RESERVED_SLOTS, Producer
from wsrec.receive.transport import READ_MAX, Transport
from wsrec.ring.bytering import ByteRing
from wsrec.ring.slotring import COARSE_SHIFT, FLAGS_OFFSET, HANDOFF_OFFSET, SLOT, SLOT_SIZE, Flag
from wsrec.wire.errors import ProtocolError
from wsrec.wire.frames import CLOSE, FIN, OPCODE, RSV1, WHOLE_TEXT, MessageRules, parse_header

# A transport reads into at least this much; it holds a TLS record (16 KiB) and what may be left of another
MIN_ROOM = 32 << 10
# A smaller ring could not hold an unfinished part of a frame and MIN_ROOM
MIN_RING = 64 << 10

_SMALLEST_FRAME = 2

# plain integers: an operation on an enum member costs more than the rest of a frame
_FIN = int(Flag.FIN)
_RSV1 = int(Flag.RSV1)
_LAST = int(Flag.LAST)
_COARSE = int(Flag.COARSE)
# more than an hour in one step is counted as 73 minutes
_LARGEST = (1 << 32) - 1
pack_slot = SLOT.pack_into
pack_handoff = struct.Struct("<Q").pack_into


class HotPath:
    """One connection's way from readiness to hand-off.

    Args:
        conn: number of the connection.
        ring: its byte ring.
        producer: the receiver's slots.
        transport: the connected socket.
        rules: what frames may be, and how large a message.
        on_opening: takes what arrives before the WebSocket is open and returns how many bytes were its own; may set
            `open`.
        on_control: takes opcode and payload of a control frame, after its batch was published.
        on_end: told once why nothing more will be read: None for the end of the stream, else the error.
        on_full: told that a ring is full; reading must pause until `has_room`.
        on_batch: told the first slot of a batch and the first after it, once it was published: for a consumer in the
            same process.

    Attributes:
        open: whether the opening handshake is done and frames follow.
        reads, frames, received: reads that brought something, frames published, bytes read, of this connection.
        last_event: monotonic time (ns) of the last read that brought something.

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
        # counts of bytes in the ring: received up to `_head`, parsed up to `_position`
        self._head = ring.head.read()
        self._position = self._head
        # the end of the last frame handed off: no slot of this connection refers to what comes after
        self._handed_off = self._head
        # where the next read goes, None where there was no room; and the count of slots when that was found out
        self._into: memoryview | None = None
        self._prepared_at = -1
        # the frame being handed on in parts: bytes to come, and its first byte
        self._part_left = 0
        self._part_first = 0
        self._part_size = ring.capacity // 4
        # text is valid up to this count of bytes
        self._validated = self._head

    @property
    def unparsed(self) -> int:
        """Bytes received of a frame that is not complete."""
        return self._head - self._position

    def has_room(self) -> bool:
        """Whether both rings can take a read."""
        return self._room() >= MIN_ROOM

    def discard(self) -> None:
        """Give back what no slot refers to: the handshake's answer, or a frame that never ended. Nothing is read after.

        The writer frees the ring by slots, so without this a server that is down for days would fill it.
        """
        self._head = self._position = self._handed_off
        self._ring.head.publish(self._head)
        self._into = None

    def on_readable(self) -> None:
        """The readiness callback: read once, parse every frame that is complete, hand the batch off."""
        # Stage 2, EVENT
        event = now()
        if self._into is None or self._prepared_at != self._producer.count:
            self._prepare()
        into = self._into
        if into is None:
            self._on_full()
            return

        # Stage 3, RECV_START
        recv_start = now()
        try:
            size = self._transport.read(into)
        except OSError as error:
            self._on_end(error)
            return
        # Stage 4, RECV_END
        recv_end = now()
        if not size:
            if size is not None:
                self._on_end(None)
            return

        self._head += size
        self._ring.head.publish(self._head)
        self.reads += 1
        self.received += size
        self.last_event = event
        if not self.open:
            self._position += self._on_opening(self._ring.slice(self._position, self._head - self._position))
        if self.open:
            self._parse(event, recv_start, recv_end)
        self._prepare()

    def _prepare(self) -> None:
        """Find out where the next read may go, while nothing waits for it.

        The writer only makes more room. Slots may be taken meanwhile, by other connections and by the receiver's own
        words; `_prepared_at` tells, and then it is found out anew.
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
        first_slot = count = producer.count
        controls: list[tuple[int, int, int]] = []
        failure: ProtocolError | None = None

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
                    flags, size = _FIN, length
                else:
                    admitted = self._admit(first, length, header, available, position + header)
                    if admitted is None:
                        break
                    flags, size = admitted
            except ProtocolError as error:
                # its traceback would hold this frame, which holds it: a cycle, and nothing collects cycles here
                failure = error.with_traceback(None)
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
                # the process was stopped for seconds: the differences need their coarse unit
                pack_slot(
                    slot_view,
                    (count & slot_mask) * SLOT_SIZE,
                    position,
                    stamp,
                    event,
                    0,
                    min(waited >> COARSE_SHIFT, _LARGEST),
                    min(took >> COARSE_SHIFT, _LARGEST),
                    min((parsed - recv_end) >> COARSE_SHIFT, _LARGEST),
                    size,
                    read_bytes,
                    count - first_slot,
                    0,
                    conn,
                    first & OPCODE,
                    flags | _COARSE,
                    source,
                )
            if first & OPCODE >= CLOSE:
                controls.append((first & OPCODE, position, size))
            position += size
            count += 1

        self._position = position
        if count != first_slot:
            self._handed_off = position
            self._hand_off(first_slot, count)
            if self._on_batch is not None:
                self._on_batch(first_slot, count)
        for opcode, offset, size in controls:
            self._on_control(opcode, bytes(self._ring.slice(offset, size)))
        if failure is not None:
            self._on_end(failure)

    def _admit(self, first: int, length: int, header: int, available: int, start: int) -> tuple[int, int] | None:
        """Every frame but the usual one: fragments, control frames, frames not complete and frames handed on in parts.

        A frame larger than a quarter of the ring is handed on in parts as it arrives, so that it need not fit; `header`
        is 0 where the rest of such a frame goes on. Its payload begins at `start`.

        Returns:
            The slot's flags and the size of the payload to hand on; None where more must arrive first.

        Raises:
            ProtocolError: the frame breaks the rules.

        """
        if header:
            self._rules.check(first, length)
        flags = _RSV1 if header and first & RSV1 else 0
        if header + length <= available:
            size = length
            if first & FIN:
                flags |= _FIN
        elif header + length > self._part_size <= available:
            size = available - header
        else:
            # text that is broken already need not be waited for
            self._validate(first, start, available - header, final=False)
            return None
        self._validate(first, start, size, final=bool(flags & _FIN))
        if header:
            self._rules.advance(first, length)
        self._part_left = length - size
        # what goes on continues the message, whatever opcode it began with
        self._part_first = first & ~OPCODE
        return flags, size

    def _is_utf8(self, start: int, length: int) -> bool:
        """Whether a whole text message is valid; False also where it was validated in part, and has to go on so."""
        if self._validated > start:
            return False
        try:
            str(self._ring.slice(start, length), "utf-8")
        except UnicodeDecodeError:
            return False
        return True

    def _validate(self, first: int, start: int, size: int, *, final: bool) -> None:
        """Hold the payload of a text frame against UTF-8, as far as that was not done yet.

        Raises:
            ProtocolError: it is not valid (section 8.1).

        """
        if self._rules.validate_text and self._rules.is_text(first):
            begin, self._validated = max(start, self._validated), start + size
            self._rules.check_text(self._ring.slice(begin, self._validated - begin), final=final)

    def _hand_off(self, first_slot: int, count: int) -> None:
        producer = self._producer
        start = first_slot & producer.slots.mask
        producer.slots.view[((count - 1) & producer.slots.mask) * SLOT_SIZE + FLAGS_OFFSET] |= _LAST
        if count - first_slot == 1:
            # numpy's way for many costs more than this for one. Stage 6, HANDOFF
            pack_handoff(producer.slots.view, start * SLOT_SIZE + HANDOFF_OFFSET, now())
        else:
            # Stage 6, HANDOFF
            producer.slots.handoff[start : start + count - first_slot] = now()
        producer.slots.published.publish(count)
        producer.count = count
        self.frames += count - first_slot

    def _room(self) -> int:
        """Bytes that a read may bring: what the byte ring holds, and no more frames than there are slots."""
        slots = self._producer.slots.free(self._producer.count) - RESERVED_SLOTS
        return min(self._ring.room(self._head), slots * _SMALLEST_FRAME, READ_MAX)
