"""`wsrec.connect`: one connection whose messages go to a callback in this process, with the six timestamps.

Messages take the same path as the recorder's (`wsrec.receive.hotpath`), with the rings in private memory and
`Consumer` instead of the writer. Everything runs on the current event loop, asyncio's or uvloop's.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal

from websockets.exceptions import InvalidURI
from websockets.exceptions import ProtocolError as LibraryProtocolError
from websockets.frames import Close, CloseCode
from websockets.uri import WebSocketURI, parse_uri

from wsrec.client.errors import ConnectionClosed
from wsrec.client.implementation import Consumer, Message
from wsrec.host.clock import now
from wsrec.net.addresses import AddressHistory
from wsrec.net.proxy import Proxy, ProxyRules
from wsrec.net.resolver import RESOLVER, Address, NoAnswerError
from wsrec.net.trust import tls_context
from wsrec.net.tunnel import ProxyError, proxy_errors, through
from wsrec.options.record import TlsMode
from wsrec.receive import opening
from wsrec.receive.hotpath import HotPath
from wsrec.receive.implementation import HotPath as ChosenHotPath
from wsrec.receive.opening import ConnectedSocket
from wsrec.receive.producer import Producer
from wsrec.receive.tls import TlsDetails
from wsrec.receive.transport import READ_MAX, PlainTransport, Transport
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
_HISTORIES: dict[tuple[str, int], AddressHistory] = {}
_HISTORIES_MOST = 1024
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

    Certificates and host names are always verified. There is no reconnection: docs/library.md shows a loop.

    Args:
        url: `ws://` or `wss://`.
        on_message: called with each text or binary `Message`, in order, from the loop; it must not block. An
            exception from it closes the connection with 1011 and is raised by `Connection.wait_closed`.
        headers: additional headers of the handshake request.
        ca_file: PEM file trusted in addition to the system's certificates.
        tls: how TLS is decrypted (docs/stages.md).
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
        connection = Connection(
            handshake,
            on_message,
            max_message=max_message,
            max_unsent=max_unsent,
            ring_size=ring_size,
            close_timeout=close_timeout,
        )
        try:
            async with asyncio.timeout(open_timeout) as limit:
                await connection._open(uri, mode, None if ca_file is None else os.fspath(ca_file), way)
        except BaseException as error:
            connection._abandon()
            if isinstance(error, Exception) or limit.expired():
                connection._blame()
            if limit.expired():
                raise connection._too_late(uri, open_timeout) from None
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
        handshake: Handshake,
        on_message: Callable[[Message], object],
        *,
        max_message: int,
        max_unsent: int,
        ring_size: int,
        close_timeout: float,
    ) -> None:
        self.address: tuple[str, int] = ("", 0)
        self.tls: TlsDetails | None = None
        self.compression: str | None = None
        self._resolving = False
        self._proxy: Proxy | None = None
        self._history: AddressHistory | None = None
        self._reached: Address | None = None
        self._handshake = handshake
        self._encoder = FrameEncoder(handshake.protocol)
        self._rules = MessageRules(max_message, validate_text=True)
        self._max_unsent = max_unsent
        self._close_timeout = close_timeout
        self._ring_size = ring_size
        self._on_message = on_message
        self._max_message = max_message
        self._loop = asyncio.get_running_loop()
        self._waiting = Epoll()
        self._transport: Transport | None = None
        self._ring: ByteRing | None = None
        self._hot: HotPath | None = None
        self._consumer: Consumer | None = None
        self._opened = self._loop.create_future()
        self._closed = self._loop.create_future()
        self._deadline: asyncio.TimerHandle | None = None
        self._pings: dict[bytes, tuple[int, asyncio.Future[int]]] = {}
        # whether we started the closing handshake; whether reading has ended, the close, and the error for
        # `wait_closed`
        self._closing = False
        self._ended = False
        self._close: Close | None = None
        self._error: Exception | None = None

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
        if self._transport is not None and self._transport.unsent >= self._max_unsent:
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
        payload = payload or os.urandom(8)
        if len(payload) > frames.MAX_CONTROL:
            raise ValueError(f"a ping's payload has at most {frames.MAX_CONTROL} bytes, not {len(payload)}")
        if payload in self._pings:
            raise ValueError("a ping with the same payload is already in flight")
        pong: asyncio.Future[int] = self._loop.create_future()
        self._pings[payload] = now(), pong
        self._send(self._encoder.ping(payload))
        return pong

    async def drain(self) -> None:
        """Wait until the kernel has taken all sent data.

        Raises:
            ConnectionClosed: the connection closed first.

        """
        if self._transport is not None:
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

    def _blame(self) -> None:
        """Record a failure of the address in use: the next connection starts with another one."""
        if self._history is not None and self._reached is not None:
            self._history.failed(self._reached, "")

    def _too_late(self, uri: WebSocketURI, seconds: float) -> OSError:
        """The error for an opening that took longer than `seconds`."""
        if self._proxy is not None:
            return ProxyError(
                f"the proxy {self._proxy.public} did not answer within {seconds} s", "check that the proxy is running"
            )
        if self._resolving:
            return NoAnswerError(socket.EAI_AGAIN, f"the name server did not answer for {uri.host} within {seconds} s")
        return TimeoutError(f"{uri.host}:{uri.port} did not answer within {seconds} s")

    async def _reach(self, host: str, port: int) -> ConnectedSocket:
        """Connect a socket to a host."""
        self._resolving = True
        found = await RESOLVER.resolve(host, port, timeout=None)
        self._resolving = False
        self._history = _history(host, port)
        reached = await opening.connect(found.addresses, None, self._history)
        self._reached = reached.address
        self.address = reached.address.ip, reached.address.port
        return reached

    async def _open(self, uri: WebSocketURI, tls: TlsMode, ca_file: str | None, proxy: Proxy | None) -> None:
        context = tls_context(ca_file) if uri.secure else None
        if proxy is None:
            sock, stamped, _ = await self._reach(uri.host, uri.port)
        else:
            self._proxy = proxy
            with proxy_errors(proxy):
                sock, stamped, _ = await self._reach(proxy.host, proxy.port)
                await through(sock, proxy, uri.host, uri.port)
            self._proxy = None
        if context is not None:
            self._transport, self.tls = await opening.start_tls(
                sock, stamped=stamped, context=context, host=uri.host, mode=tls
            )
        else:
            self._transport = PlainTransport(sock, stamped=stamped)
        self._transport.unsent_max = sys.maxsize
        self._ring = _private_ring(self._ring_size)
        producer = Producer(_private_slots(), _private_ring(PAGE))
        self._consumer = Consumer(
            producer.slots,
            self._ring,
            self,
            self._max_message,
            on_message=self._on_message,
            on_control=self._on_control,
            on_error=self._on_error,
        )
        self._hot = ChosenHotPath(
            0,
            self._ring,
            producer,
            self._transport,
            self._rules,
            on_opening=self._on_opening,
            on_control=lambda opcode, payload: None,
            on_end=self._on_end,
            on_full=self._on_full,
            on_batch=self._consumer.on_batch,
        )
        self._waiting.watch(self._transport.fileno, self._hot.on_readable)
        self._transport.send(self._handshake.request())
        await self._opened

    def _on_opening(self, data: memoryview) -> int:
        assert self._ring is not None
        assert self._hot is not None
        assert self._consumer is not None
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
            # the peer closed: whether it gets the echo does not matter
            if answer is not None and self._transport is not None:
                with suppress(OSError):
                    self._transport.send(answer.wire)
            self._end(self._encoder.close_received, None)
            return
        self._send(answer)
        if opcode == frames.PONG and payload in self._pings:
            # a pong answers the earlier pings too (RFC 6455 section 5.5.3)
            for waiting in list(self._pings):
                began, pong = self._pings.pop(waiting)
                if not pong.done():
                    pong.set_result(now() - began)
                if waiting == payload:
                    break

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
            if frame is not None and self._transport is not None:
                self._transport.send(frame.wire)
        self._end(Close(code, reason), error)

    def _end(self, close: Close | None, error: Exception | None, *, linger: bool = True) -> None:
        """Stop delivering. The server closes the TCP connection (section 7.1.1); what it still sends is dropped."""
        if self._ended:
            return
        self._ended = True
        self._close = close
        self._error = error
        if error is None and close is not None and close.code not in _NORMAL and not self._closing:
            self._error = ConnectionClosed(close.code, close.reason)
        assert self._consumer is not None
        assert self._transport is not None
        self._consumer.stopped = True
        transport = self._transport
        if transport.fileno >= 0:
            self._waiting.unwatch(transport.fileno)
        if self._deadline is not None:
            self._deadline.cancel()
        if linger:
            self._waiting.watch(transport.fileno, self._drop)
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
        assert self._ring is not None
        assert self._transport is not None
        try:
            size = self._transport.read(self._ring.view[:READ_MAX])
        except OSError:
            size = 0
        if size == 0:
            self._tear_down()

    def _send(self, frame: Sent | None) -> None:
        if frame is None or self._transport is None:
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
        transport, self._transport = self._transport, None
        if self._deadline is not None:
            self._deadline.cancel()
        self._waiting.close()
        if transport is not None:
            transport.close()
        self._hot = self._consumer = self._ring = None
        if not self._closed.done():
            self._closed.set_result(None)
        pings, self._pings = self._pings, {}
        for _, pong in pings.values():
            if not pong.done():
                pong.set_exception(self._as_closed())
                # the pong need not be awaited
                pong.exception()


def _history(host: str, port: int) -> AddressHistory:
    """The address history of a host, shared by all connections of this process."""
    history = _HISTORIES.pop((host, port), None) or AddressHistory()
    _HISTORIES[host, port] = history
    if len(_HISTORIES) > _HISTORIES_MOST:
        del _HISTORIES[next(iter(_HISTORIES))]
    return history


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
