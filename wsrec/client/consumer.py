"""The in-process consumer: assembles messages from slots and calls back once per message, stamped just before the call.

The hot path publishes a batch of slots per read and calls `Consumer.on_batch`, which processes them in order. A whole
message is passed on where it lies in the ring, fragments and compressed messages are copied and assembled first, and
control frames go to the connection. When it returns, the hot path may overwrite the ring's space: that is why a
message's payload exists only during the callback.

`_consumer.pyx` is the compiled counterpart and shares `Assembler`. Compiling this file instead is not enough: with both
classes `cdef` by an augmenting .pxd it took 1,046 ns a message to a callback that does nothing, in Python 1,328, and
`_consumer.pyx` 99 (180 bytes, 4000 slots, best of 60, one run, busy machine). That one keeps a C copy of the slot, and
makes view and stamps only on request.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from websockets.frames import CloseCode

from wsrec.client.stamps import Stamps
from wsrec.host.clock import now
from wsrec.ring.bytering import ByteRing
from wsrec.ring.slot_flags import FLAG_COARSE, FLAG_FIN, FLAG_RSV1, OF_THE_READ
from wsrec.ring.slot_layout import COARSE_SHIFT, SLOT, SLOT_SIZE
from wsrec.ring.slotring import SlotRing
from wsrec.stages import StampSource
from wsrec.units import plural
from wsrec.wire.deflate import Inflater
from wsrec.wire.errors import ProtocolError
from wsrec.wire.frames import BINARY, CLOSE, TEXT

if TYPE_CHECKING:
    from wsrec.client.arrivals import Arrival

_DATA = (TEXT, BINARY)
GONE = "a message's data exists only during the callback: copy it there, with bytes(message)"
unpack_slot = SLOT.unpack_from


class Message:
    """A whole text or binary message.

    Attributes:
        connection: the connection that received it, for replies.
        opcode: 1 for text, 2 for binary (RFC 6455 section 5.2).

    """

    __slots__ = ("_data", "_first", "_frames_in_read", "_handoff", "_slot", "connection", "opcode")

    connection: Any
    opcode: int
    _data: memoryview | None
    _slot: tuple[int, ...]
    # the count in the ring of its first byte, if it was assembled
    _first: int | None
    _handoff: int
    _frames_in_read: int

    @property
    def data(self) -> memoryview:
        """The payload in the ring, read-only and not copied; released when the callback returns.

        Raises:
            RuntimeError: the callback has returned.

        """
        if self._data is None:
            raise RuntimeError(GONE)
        return self._data

    @property
    def text(self) -> str:
        """The payload decoded, which always works for a text message.

        Raises:
            UnicodeDecodeError: a binary message that is not UTF-8.
            RuntimeError: the callback has returned.

        """
        return str(self.data, "utf-8")

    @property
    def is_text(self) -> bool:
        """Whether it is a text message."""
        return self.opcode == TEXT

    @property
    def stamps(self) -> Stamps:
        """The six stamps of the frame that completed the message; they outlast the callback."""
        _, nic, event, _, waited, took, parsed = self._slot[:7]
        shift = COARSE_SHIFT if self._slot[13] & FLAG_COARSE else 0
        recv_start = event + (waited << shift)
        recv_end = recv_start + (took << shift)
        return Stamps(nic or None, event, recv_start, recv_end, recv_end + (parsed << shift), self._handoff)

    @property
    def source(self) -> StampSource:
        """The source of stage 1; without a timestamp, `source.reason` is why."""
        return StampSource(self._slot[14])

    @property
    def frame_in_read(self) -> int:
        """Position among the frames that the same read completed, from 0."""
        return self._slot[9]

    @property
    def frames_in_read(self) -> int:
        """Number of frames that the same read completed, up to those handed over together with this one."""
        return self._frames_in_read

    @property
    def read_bytes(self) -> int:
        """Bytes that the read took off the socket."""
        return self._slot[8]

    def arrival(self) -> Coroutine[Any, Any, Arrival]:
        """When its first and its last byte arrived; to be awaited, also after the callback, but within two seconds.

        Raises:
            ValueError: the connection was not made with `segments=True`.

        """
        slot = self._slot
        first = first_byte(slot) if self._first is None else self._first
        last = slot[0] + slot[7] - 1
        arrival: Coroutine[Any, Any, Arrival] = self.connection._arrival(first, last, self.stamps, self.source)
        return arrival

    def __bytes__(self) -> bytes:
        return bytes(self.data)

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        size = "gone" if self._data is None else plural(len(self._data), "byte")
        return f"<wsrec.Message {'text' if self.is_text else 'binary'}, {size}>"


def first_byte(slot: tuple[int, ...]) -> int:
    """The count in the byte ring of a frame's first byte, which is its header's (RFC 6455 section 5.2)."""
    length = slot[7]
    return max(slot[0] - (2 if length < 126 else 4 if length < 1 << 16 else 10), 0)


class Assembler:
    """Joins and inflates the messages that are not one whole frame in the ring.

    Args:
        max_message: bytes that a message may inflate to.

    Attributes:
        inflater: inflates compressed messages; None unless compression was negotiated.
        opcode: opcode of the message that began last.

    """

    def __init__(self, max_message: int) -> None:
        self.inflater: Inflater | None = None
        self.opcode = 0
        self._max_message = max_message
        self._compressed = False
        self._parts: list[bytes] = []

    def add(self, opcode: int, flags: int, part: memoryview) -> bytes | None:
        """Add a part; returns the whole message with the last one, None before.

        Raises:
            ProtocolError: a message that cannot be inflated, or inflated text that is not UTF-8 (1007).

        """
        if opcode:
            self.opcode, self._compressed = opcode, bool(flags & FLAG_RSV1)
        self._parts.append(bytes(part))
        if not flags & FLAG_FIN:
            return None
        message = b"".join(self._parts)
        self._parts.clear()
        if self._compressed:
            assert self.inflater is not None
            message = self.inflater.inflate(message, self._max_message)
            if self.opcode == TEXT:
                # the hot path validates uncompressed text only
                try:
                    str(message, "utf-8")
                except UnicodeDecodeError as error:
                    raise ProtocolError(CloseCode.INVALID_DATA, f"text that is not UTF-8: {error.reason}") from None
        return message


class Consumer:
    """Calls `on_message` for each message of one connection.

    Args:
        slots: the slot ring, which is this connection's alone.
        ring: its byte ring.
        connection: the connection that messages refer to.
        max_message: bytes that a message may inflate to.
        on_message: the caller's callback.
        on_control: called with opcode and payload of a control frame.
        on_error: called with an exception from `on_message`, or with the server's protocol violation.

    Attributes:
        assembler: joins messages that came in parts.
        stopped: whether further messages are dropped.

    """

    def __init__(
        self,
        slots: SlotRing,
        ring: ByteRing,
        connection: Any,
        max_message: int,
        *,
        on_message: Callable[[Message], object],
        on_control: Callable[[int, bytes], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self.assembler = Assembler(max_message)
        self.stopped = False
        self._slots = slots
        self._ring = ring
        self._view = ring.view.toreadonly()
        self._connection = connection
        # of the message being assembled
        self._first = 0
        self._on_message = on_message
        self._on_control = on_control
        self._on_error = on_error

    def on_batch(self, first: int, stop: int) -> None:
        """Pass on the messages of the slots from `first` up to `stop`, and release their space."""
        slots, ring, assembler = self._slots, self._ring, self.assembler
        view, mask = slots.view, slots.mask
        end = 0
        # a read may be handed over in several batches, one for each TLS record
        frames_in_read = unpack_slot(view, ((stop - 1) & mask) * SLOT_SIZE)[9] + 1
        for number in range(first, stop):
            slot = unpack_slot(view, (number & mask) * SLOT_SIZE)
            offset, length, opcode, flags = slot[0], slot[7], slot[12], slot[13]
            end = offset + length
            if self.stopped:
                continue
            start = offset & ring.mask
            data: memoryview | bytes = self._view[start : start + length]
            try:
                if opcode >= CLOSE:
                    self._on_control(opcode, bytes(data))
                    continue
                first_count = None
                if flags & ~OF_THE_READ != FLAG_FIN or opcode not in _DATA:
                    if opcode:
                        self._first = first_byte(slot)
                    first_count = self._first
                    whole = assembler.add(opcode, flags, data)  # type: ignore[arg-type]
                    if whole is None:
                        continue
                    opcode, data = assembler.opcode, memoryview(whole)
                message = Message.__new__(Message)
                message.connection = self._connection
                message.opcode = opcode
                message._slot = slot
                message._first = first_count
                message._frames_in_read = frames_in_read
                message._data = data  # type: ignore[assignment]
                # Stage 6, HANDOFF
                message._handoff = now()
                try:
                    self._on_message(message)
                finally:
                    message._data = None
                    _release(data)  # type: ignore[arg-type]
            except Exception as error:  # noqa: BLE001 (the caller's own: raised to the code that awaits the connection)
                self._on_error(error)
        ring.tail.publish(end)
        slots.released.publish(stop)


def _release(data: memoryview) -> None:
    """Invalidate the view, so that a caller who kept it gets an error instead of the data of the next read."""
    # not possible while the caller keeps an object made of it, such as an array
    with suppress(BufferError):
        data.release()
