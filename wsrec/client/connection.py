"""`wsrec.connect`: one connection whose messages go to a callback in this process, with the six timestamps.

Messages take the same path as the recorder's (`wsrec.receive.hotpath`), with the rings in private memory and
`Consumer` instead of the writer. Everything runs on the current event loop, asyncio's or uvloop's.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal

from websockets.exceptions import InvalidURI
from websockets.exceptions import ProtocolError as LibraryProtocolError
from websockets.frames import Close, CloseCode
from websockets.uri import parse_uri

from wsrec.client.dialing import Dialing
from wsrec.client.errors import ConnectionClosed
from wsrec.client.implementation import Consumer, Message
from wsrec.client.pings import Pings
from wsrec.net.proxy import ProxyRules
from wsrec.options.record import TlsMode
from wsrec.receive import opening
from wsrec.receive.implementation import HotPath as ChosenHotPath
from wsrec.receive.producer import Producer
from wsrec.receive.tls import TlsDetails
from wsrec.receive.transport import READ_MAX, Transport
from wsrec.receive.waiting import Epoll
from wsrec.ring.bytering import MIN_RING, ByteRing, check_capacity
from wsrec.ring.mirror import PAGE
from wsrec.ring.slotring import SlotRing
from wsrec.version import __version__
from wsrec.wire import deflate, frames
from wsrec.wire.deflate import Inflater
from wsrec.wire.errors import ProtocolError
from wsrec.wire.frame_encoder import FrameEncoder, Sent
from wsrec.wire.frames import MessageRules
from wsrec.wire.handshake import Handshake

# small enough for the processor's cache; messages larger than a quarter of it are copied once
RING_SIZE = 1 << 20
MAX_MESSAGE = 64 << 20
MAX_UNSENT = 64 << 20
_NORMAL = (CloseCode.NORMAL_CLOSURE, CloseCode.GOING_AWAY, CloseCode.NO_STATUS_RCVD)


def connect(
    url: str,
    *,
    on_message: Callable[[Message], object],
    headers: Mapping[str, str] | None = None,
    ca_file: str | os.PathLike[str] | None = None,
    tls: Literal["stamped", "openssl"] = "stamped",
    proxy: str | Literal[True] | None = True,
    compression: Literal["deflate"] | None = None,
    max_message: int = MAX_MESSAGE,
    max_unsent: int = MAX_UNSENT,
    ring_size: int = RING_SIZE,
    open_timeout: float = opening.CONNECT_TIMEOUT,
    close_timeout: float = 2.0,
) -> Connecting:
    """Connect to a WebSocket server: `async with wsrec.connect(...) as connection`, or `await wsrec.connect(...)`.

    Certificates and host names are always verified. There is no reconnection: docs/how-to/library.md shows a loop.

    Args:
        url: `ws://` or `wss://`.
        on_message: called with each text or binary `Message`, in order, from the loop; it must not block. An
            exception from it closes the connection with 1011 and is raised by `Connection.wait_closed`.
        headers: additional headers of the handshake request.
        ca_file: PEM file trusted in addition to the system's certificates.
        tls: how TLS is decrypted (docs/explanation/stages.md).
        proxy: `http://` or `socks5h://`, user name and password included; True: from HTTPS_PROXY, ALL_PROXY and
            NO_PROXY; None: no proxy.
        compression: `deflate` offers permessage-deflate (RFC 7692).
        max_message: bytes; a larger message, before or after inflating, closes the connection with 1009.
        max_unsent: bytes that may be queued before `Connection.send` refuses more.
        ring_size: bytes, a power of two of at least 64 KiB; messages above a quarter of it are copied once.
        open_timeout: seconds for connecting, TLS and the opening handshake together.
        close_timeout: seconds for the closing handshake.

    Raises:
        ValueError: the URL, the proxy or a size is invalid.
        OSError: when awaited: the connection failed (`socket.gaierror`, `ssl.SSLError` and `TimeoutError`
            included). wsrec.ProxyError: when awaited: no tunnel through the proxy; also an OSError.
            wsrec.HandshakeError: when awaited: the server refused; `wsrec.HandshakeRefused` has its status.

    """
    try:
        uri = parse_uri(url)
    except InvalidURI as error:
        # the error's own text contains the URL, which may have secrets
        raise ValueError(f"not a WebSocket URL: {error.msg}; use the form wss://host:port/path") from None
    if check_capacity(ring_size) < MIN_RING:
        raise ValueError(f"ring_size must be at least {MIN_RING} bytes, not {ring_size}")
    if compression not in (None, "deflate"):
        raise ValueError(f"compression must be None or 'deflate', not {compression!r}")
    rules = ProxyRules.of_environment(os.environ)
    if proxy is not True:
        rules = ProxyRules(none=proxy is None, given=proxy, source="proxy")
    way = rules.of(url)
    mode = TlsMode(tls)
    headers = {"User-Agent": f"wsrec/{__version__}", **(headers or {})}
    handshake = Handshake(url, headers, deflate.offer(context_takeover=True) if compression else None)

    async def open_it() -> Connection:
        dialing = Dialing(uri, mode, None if ca_file is None else os.fspath(ca_file), way)
        connection: Connection | None = None
        try:
            async with asyncio.timeout(open_timeout) as limit:
                transport = await dialing.connect()
                connection = Connection(
                    transport,
                    handshake,
                    on_message,
                    address=dialing.address,
                    tls=dialing.tls,
                    max_message=max_message,
                    max_unsent=max_unsent,
                    ring_size=ring_size,
                    close_timeout=close_timeout,
                )
                await connection._open()
        except BaseException as error:
            if connection is not None:
                connection._abandon()
            dialing.close()
            if isinstance(error, Exception) or limit.expired():
                dialing.blame()
            if limit.expired():
                raise dialing.timeout_error(open_timeout) from None
            raise
        return connection

    return Connecting(open_it)


class Connecting:
    """The result of `connect`: await it, or enter it with `async with`, once."""

    def __init__(self, open_it: Callable[[], Coroutine[Any, Any, Connection]]) -> None:
        self._open_it = open_it
        self._connection: Connection | None = None

    def __await__(self) -> Generator[Any, None, Connection]:
        return self._open_it().__await__()

    async def __aenter__(self) -> Connection:
        self._connection = await self._open_it()
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._connection is not None
        await self._connection.close()


class Connection:
    """An open WebSocket connection; made by `connect`.

    Attributes:
        address: address and port of the server, or of the proxy.
        tls: TLS version and cipher, None for `ws://`.
        compression: the negotiated parameters in the form of a `Sec-WebSocket-Extensions` header; None without
            compression.

    """

    def __init__(
        self,
        transport: Transport,
        handshake: Handshake,
        on_message: Callable[[Message], object],
        *,
        address: tuple[str, int],
        tls: TlsDetails | None,
        max_message: int,
        max_unsent: int,
        ring_size: int,
        close_timeout: float,
    ) -> None:
        self.address = address
        self.tls = tls
        self.compression: str | None = None
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
        self._waiting = Epoll()

    @property
    def closed(self) -> bool:
        """True if nothing can be sent any more: a close was sent or received, or the connection broke."""
        return self._ended or self._encoder.close_sent is not None

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
        self._consumer.stopped = True
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

    def _drop(self) -> None:
        try:
            size = self._transport.read(self._ring.view[:READ_MAX])
        except OSError:
            size = 0
        if size == 0:
            self._tear_down()

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
        self._waiting.close()
        self._transport.close()
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
