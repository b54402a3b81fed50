"""An open connection of `wsrec.connect`, whose messages go to a callback in this process, with the six timestamps.

Messages take the same path as the recorder's (`wsrec.receive.hotpath`), with the rings in private memory and
`Consumer` instead of the writer. Everything runs on the current event loop, asyncio's or uvloop's.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from websockets.exceptions import ProtocolError as LibraryProtocolError
from websockets.frames import Close, CloseCode

from wsrec.client import loop_waiting
from wsrec.client.arrivals import Arrival, Captured, Sought
from wsrec.client.errors import ConnectionClosed
from wsrec.client.implementation import Consumer, Message
from wsrec.client.pings import Pings
from wsrec.client.stamps import Stamps
from wsrec.options.record import TlsMode
from wsrec.receive.implementation import HotPath as ChosenHotPath
from wsrec.receive.producer import Producer
from wsrec.receive.tls import TlsDetails
from wsrec.receive.transport import READ_MAX, Transport
from wsrec.receive.waiting import Waiting
from wsrec.ring.bytering import ByteRing
from wsrec.ring.mirror import PAGE
from wsrec.ring.slotring import SlotRing
from wsrec.stages import StampSource
from wsrec.wire import deflate, frames
from wsrec.wire.deflate import Inflater
from wsrec.wire.errors import ProtocolError
from wsrec.wire.frame_encoder import FrameEncoder, Sent
from wsrec.wire.frames import MessageRules
from wsrec.wire.handshake import Handshake

_NORMAL = (CloseCode.NORMAL_CLOSURE, CloseCode.GOING_AWAY, CloseCode.NO_STATUS_RCVD)


class Connection:
    """An open WebSocket connection; made by `connect`.

    Attributes:
        address: address and port of the server, or of the proxy.
        tls: TLS version and cipher, None for `ws://`.
        tls_mode: how it is decrypted, None for `ws://`.
        compression: the negotiated parameters in the form of a `Sec-WebSocket-Extensions` header; None without
            compression.
        delivered: whether messages were received; final once it is closed.

    """

    def __init__(
        self,
        transport: Transport,
        handshake: Handshake,
        on_message: Callable[[Message], object],
        waiting: Waiting,
        captured: Captured | None,
        *,
        address: tuple[str, int],
        tls: TlsDetails | None,
        tls_mode: TlsMode | None,
        max_message: int,
        max_unsent: int,
        ring_size: int,
        close_timeout: float,
    ) -> None:
        self.address = address
        self.tls = tls
        self.tls_mode = tls_mode
        self.compression: str | None = None
        self.delivered = False
        self._transport = transport
        self._handshake = handshake
        self._encoder = FrameEncoder(handshake.protocol)
        self._rules = MessageRules(max_message, validate_text=True)
        self._max_unsent = max_unsent
        self._close_timeout = close_timeout
        self._loop = asyncio.get_running_loop()
        self._opened = self._loop.create_future()
        self._closed = self._loop.create_future()
        self._deadline: asyncio.TimerHandle | None = None
        self._pings = Pings()
        self._controls = 0
        # whether we started the closing handshake; whether reading has ended, with which close, and the error that
        # `wait_closed` raises
        self._closing = False
        self._ended = False
        self._close: Close | None = None
        self._error: Exception | None = None
        self._ring = _private_ring(ring_size)
        producer = Producer(_private_slots(), _private_ring(PAGE))
        self._consumer = Consumer(
            producer.slots,
            self._ring,
            self,
            max_message,
            on_message=on_message,
            on_control=self._on_control,
            on_error=self._on_error,
        )
        # before the hot path is made, which looks at what this begins
        if captured is not None:
            captured.begin(self._ring.head)
            transport.begin_map(self._ring.head)
        self._hot = ChosenHotPath(
            0,
            self._ring,
            producer,
            transport,
            self._rules,
            on_opening=self._on_opening,
            on_control=lambda opcode, payload: None,
            on_end=self._on_end,
            on_full=self._on_full,
            on_batch=self._consumer.on_batch,
        )
        self._waiting = waiting
        self._captured = captured

    @property
    def closed(self) -> bool:
        """True if nothing can be sent any more: a close was sent or received, or the connection broke."""
        return self._ended or self._encoder.close_sent is not None

    @property
    def closed_here(self) -> bool:
        """True if `close` was called, on a connection that was open."""
        return self._closing

    def send(self, message: str | bytes | bytearray | memoryview) -> None:
        """Send a text message (`str`) or a binary one, also from the callback; what the socket cannot take is queued.

        Raises:
            ConnectionClosed: the connection is closed.
            BufferError: `max_unsent` bytes are queued already; `drain` waits for them.

        """
        self._check_open()
        if self._transport.unsent >= self._max_unsent:
            raise BufferError(f"{self._transport.unsent} bytes are queued already: the server does not read them")
        if isinstance(message, str):
            self._send(self._encoder.text(message))
        else:
            self._send(self._encoder.binary(bytes(message)))

    def ping(self, payload: bytes = b"") -> asyncio.Future[int]:
        """Send a ping; the future's result is the time (ns) until its pong.

        Args:
            payload: at most 125 bytes; unique random bytes by default.

        Raises:
            ConnectionClosed: the connection is closed; also the future's exception if it closes before the pong.
            ValueError: the payload is too long, or the same payload is already in flight.

        """
        self._check_open()
        payload, pong = self._pings.add(payload)
        self._send(self._encoder.ping(payload))
        return pong

    async def drain(self) -> None:
        """Wait until the kernel has taken all sent data.

        Raises:
            ConnectionClosed: the connection closed first.

        """
        await self._transport.drain()
        if self._closed.done():
            raise self._as_closed()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Perform the closing handshake; messages received meanwhile are still delivered.

        Args:
            code: RFC 6455 section 7.4: 1000, 1001, 3000 to 4999 and a few more.
            reason: at most 123 bytes as UTF-8.

        Raises:
            ValueError: code or reason is not allowed.

        """
        close = Close(code, reason)
        try:
            close.check()
        except LibraryProtocolError as error:
            raise ValueError(f"{code} is not a close code that may be sent") from error
        if len(close.serialize()) > frames.MAX_CONTROL:
            raise ValueError(f"a close reason has at most {frames.MAX_CONTROL - 2} bytes")
        if not self.closed:
            self._closing = True
            self._deadline = self._loop.call_later(self._close_timeout, self._give_up)
            with suppress(ConnectionClosed):
                self._send(self._encoder.close(code, reason))
        await asyncio.wait((self._closed,))

    async def wait_closed(self) -> None:
        """Wait until the connection is closed.

        Returns normally if we closed it, or the server did with 1000 or 1001.

        Raises:
            ConnectionClosed: it ended in any other way.
            Exception: raised by the callback.

        """
        await asyncio.wait((self._closed,))
        if self._error is not None:
            raise self._error

    def _arrival(self, first: int, last: int, stamps: Stamps, source: StampSource) -> Coroutine[Any, Any, Arrival]:
        """The arrival of a message whose bytes have these counts in the ring."""
        if self._captured is None:
            raise ValueError("when a message's segments arrived is known with wsrec.connect(..., segments=True)")
        return self._captured.arrival(Sought(first, last, stamps.handoff, stamps.recv_end, stamps.nic or 0, source))

    async def _open(self) -> None:
        """Perform the opening handshake."""
        self._waiting.watch(self._transport.fileno, self._hot.on_readable)
        self._transport.send(self._handshake.request())
        await self._opened

    def _on_opening(self, data: memoryview) -> int:
        try:
            consumed = self._handshake.feed(data)
        except Exception as error:  # noqa: BLE001 (reported to the waiting opener)
            self._on_end(error)
            return len(data)
        # no slot refers to these bytes, so they are freed here
        self._ring.tail.publish(self._ring.tail.read() + consumed)
        if self._handshake.complete:
            extension = self._handshake.compression
            if extension is not None:
                self.compression = deflate.describe(extension)
                self._rules.compression = True
                self._consumer.assembler.inflater = Inflater(context_takeover=not extension.remote_no_context_takeover)
            self._hot.open = True
            if not self._opened.done():
                self._opened.set_result(None)
        return consumed

    def _on_control(self, opcode: int, payload: bytes) -> None:
        self._controls += 1
        answer = self._encoder.on_control(opcode, payload)
        if self._encoder.close_received is not None:
            # the peer has closed: that it gets the echo is not essential
            if answer is not None:
                with suppress(OSError):
                    self._transport.send(answer.wire)
            self._end(self._encoder.close_received, None)
            return
        self._send(answer)
        if opcode == frames.PONG:
            self._pings.on_pong(payload)

    def _on_error(self, error: Exception) -> None:
        """Handle an exception from the callback, or a protocol violation by the server."""
        if isinstance(error, ProtocolError):
            self._on_end(error)
        elif isinstance(error, ConnectionClosed) and self.closed:
            # the callback sent on a connection that is closing: not an error
            return
        else:
            self._fail(CloseCode.INTERNAL_ERROR, "", error)

    def _on_full(self) -> None:
        # cannot happen: every batch is released before the next read
        self._on_end(BufferError("the ring is full"))

    def _on_end(self, error: Exception | None) -> None:
        """Reading has ended: the stream ended, or broke, or the server violated the protocol."""
        if self._ended:
            return
        if not self._opened.done():
            self._end(None, None, linger=False)
            if error is None:
                try:
                    self._handshake.eof()
                except Exception as refusal:  # noqa: BLE001 (reported to the waiting opener)
                    error = refusal
            self._opened.set_exception(error or ConnectionResetError("the connection ended during the handshake"))
            # the opener may have given up waiting
            self._opened.exception()
        elif isinstance(error, ProtocolError):
            closed = ConnectionClosed(error.code, str(error))
            closed.__cause__ = error
            self._fail(error.code, str(error), closed)
        else:
            closed = ConnectionClosed(CloseCode.ABNORMAL_CLOSURE, str(error or "no closing handshake"))
            closed.__cause__ = error
            self._end(Close(CloseCode.ABNORMAL_CLOSURE, closed.reason), closed, linger=False)

    def _fail(self, code: int, reason: str, error: Exception) -> None:
        """Fail the connection because of an error on this side (RFC 6455 section 7.1.7)."""
        with suppress(OSError):
            frame = self._encoder.close(code, reason.encode()[:100].decode("utf-8", "ignore"))
            if frame is not None:
                self._transport.send(frame.wire)
        self._end(Close(code, reason), error)

    def _end(self, close: Close | None, error: Exception | None, *, linger: bool = True) -> None:
        """Stop delivering. With `linger` the server closes TCP first (section 7.1.1); what it sends is dropped."""
        if self._ended:
            return
        self._ended = True
        self._close = close
        self._error = error
        if error is None and close is not None and close.code not in _NORMAL and not self._closing:
            self._error = ConnectionClosed(close.code, close.reason)
        self._consumer.stopped = self._hot.stopped = True
        if self._transport.fileno >= 0:
            self._waiting.unwatch(self._transport.fileno)
        if self._deadline is not None:
            self._deadline.cancel()
        if linger:
            self._waiting.watch(self._transport.fileno, self._drop)
            self._deadline = self._loop.call_later(self._close_timeout, self._tear_down)
        else:
            # deferred, since it may run within the hot path's read
            self._loop.call_soon(self._tear_down)

    def _give_up(self) -> None:
        """The close frame was not answered in time."""
        self._end(self._encoder.close_sent, None, linger=False)

    def _abandon(self) -> None:
        """The opening failed."""
        self._ended = True
        self._tear_down()

    def _drop(self) -> bool:
        into = self._ring.view[:READ_MAX]
        try:
            size = left = self._transport.read(into)
            while left:
                left = self._transport.more(into)
        except OSError:
            left = 0
        if left == 0:
            self._tear_down()
            return False
        return bool(size)

    def _send(self, frame: Sent | None) -> None:
        if frame is None:
            return
        try:
            self._transport.send(frame.wire)
        except OSError as error:
            self._on_end(error)
            raise self._as_closed() from error

    def _check_open(self) -> None:
        if self.closed:
            raise self._as_closed()

    def _as_closed(self) -> ConnectionClosed:
        close = self._close or self._encoder.close_sent or Close(CloseCode.ABNORMAL_CLOSURE, "")
        return ConnectionClosed(close.code, close.reason)

    def _tear_down(self) -> None:
        if self._closed.done():
            return
        if self._deadline is not None:
            self._deadline.cancel()
        if self._transport.fileno >= 0:
            self._waiting.unwatch(self._transport.fileno)
        loop_waiting.leave(self._waiting)
        self._transport.close()
        if self._captured is not None:
            self._captured.leave()
        self.delivered = self._hot.frames > self._controls
        # the rings' memory goes at once, also where the caller keeps the connection, and their cycle with it
        del self._hot, self._consumer, self._ring
        self._closed.set_result(None)
        self._pings.fail(self._as_closed())


def _private_ring(capacity: int) -> ByteRing:
    """A byte ring private to this process."""
    fd = ByteRing.create("wsrec", capacity)
    try:
        return ByteRing(fd)
    finally:
        os.close(fd)


def _private_slots() -> SlotRing:
    fd = SlotRing.create("wsrec")
    try:
        return SlotRing(fd)
    finally:
        os.close(fd)
