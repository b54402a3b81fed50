"""`wsrec.connect`: one connection whose messages go to a callback in this process, stamped at the same six stages.

What is received goes the way that the recorder's messages go (`wsrec.receive.hotpath`), with the rings in memory of
this process alone and `Consumer` in the writer's place. Everything happens on the running loop, asyncio's or uvloop's.
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

from wsrec import __version__
from wsrec.client.errors import ConnectionClosed
from wsrec.client.implementation import Consumer, Message
from wsrec.host.clock import now
from wsrec.net.addresses import AddressHistory
from wsrec.net.proxy import Proxy, ProxyRules
from wsrec.net.resolver import RESOLVER, Address, NoAnswerError
from wsrec.net.trust import tls_context
from wsrec.net.tunnel import ProxyError, blaming, through
from wsrec.receive import opening
from wsrec.receive.hotpath import MIN_RING, HotPath
from wsrec.receive.implementation import HotPath as ChosenHotPath
from wsrec.receive.job import TlsMode
from wsrec.receive.opening import Reached
from wsrec.receive.producer import Producer
from wsrec.receive.tls import TlsDetails
from wsrec.receive.transport import READ_MAX, PlainTransport, Transport
from wsrec.receive.waiting import Epoll
from wsrec.ring.bytering import ByteRing, check_capacity
from wsrec.ring.mirror import PAGE
from wsrec.ring.slotring import SlotRing
from wsrec.wire import deflate, frames
from wsrec.wire.deflate import Inflater
from wsrec.wire.errors import ProtocolError
from wsrec.wire.frame_encoder import FrameEncoder, Sent
from wsrec.wire.frames import MessageRules
from wsrec.wire.handshake import Handshake

# small enough to stay in the processor's cache; what is larger than a quarter of it is copied once
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

    Certificates and host names are always verified. There is no reconnection: see docs/library.md for the loop.

    Args:
        url: `ws://` or `wss://`.
        on_message: called with each text or binary `Message`, in order, from the loop; it must not block. What it
            raises closes the connection with 1011 and is raised by `Connection.wait_closed`.
        headers: added to the handshake request.
        ca_file: PEM file trusted besides the system's certificates.
        tls: how TLS is taken off the wire (docs/stages.md).
        proxy: `http://` or `socks5h://`, user name and password within; True: what HTTPS_PROXY, ALL_PROXY and NO_PROXY
            say; None: none.
        compression: `deflate` offers permessage-deflate (RFC 7692).
        max_message: bytes; a larger message, also one that would be larger when inflated, closes with 1009.
        max_unsent: bytes that may wait for the socket before `Connection.send` refuses more.
        ring_size: bytes, a power of two of at least 64 KiB; messages above a quarter of it are copied once.
        open_timeout: seconds for all of connecting, TLS and the opening handshake.
        close_timeout: seconds for the closing handshake.

    Raises:
        ValueError: the URL, the proxy or a size cannot be used.
        OSError: on awaiting: not connected (`socket.gaierror`, `ssl.SSLError` and `TimeoutError` included).
        wsrec.ProxyError: on awaiting: there is no way through the proxy; an OSError too.
        wsrec.HandshakeError: on awaiting: the server refused; `wsrec.HandshakeRefused` has its status.

    """
    try:
        uri = parse_uri(url)
    except InvalidURI as error:
        # the error's own text has the URL, and the URL may have secrets
        raise ValueError(f"no WebSocket URL: {error.msg}; write it as wss://host:port/path") from None
    if check_capacity(ring_size) < MIN_RING:
        raise ValueError(f"ring_size is at least {MIN_RING} bytes, not {ring_size}")
    if compression not in (None, "deflate"):
        raise ValueError(f"compression is None or 'deflate', not {compression!r}")
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
    """What `connect` returns: to be awaited, or entered with `async with`, once."""

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
        address: the server's address and port, or the proxy's.
        tls: TLS version and cipher, None for `ws://`.
        compression: what was agreed, as the `Sec-WebSocket-Extensions` header says it; None: messages are sent as
            they are.

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
        # whether we began the closing handshake; whether reading has ended, how, and what `wait_closed` raises of it
        self._closing = False
        self._ended = False
        self._close: Close | None = None
        self._error: Exception | None = None

    @property
    def closed(self) -> bool:
        """Whether nothing can be sent any more: a close was sent or received, or the connection broke."""
        return self._ended or self._encoder.close_sent is not None

    def send(self, message: str | bytes | bytearray | memoryview) -> None:
        """Send a text message (`str`) or a binary one, also from the callback; what the socket does not take waits.

        Raises:
            ConnectionClosed: the connection is closed.
            BufferError: `max_unsent` bytes wait already; `drain` waits for them.

        """
        self._check_open()
        if self._transport is not None and self._transport.unsent >= self._max_unsent:
            raise BufferError(f"{self._transport.unsent} bytes wait already: the server does not read them")
        if isinstance(message, str):
            self._send(self._encoder.text(message))
        else:
            self._send(self._encoder.binary(bytes(message)))

    def ping(self, payload: bytes = b"") -> asyncio.Future[int]:
        """Send a ping; the future's result is the time (ns) until its pong.

        Args:
            payload: at most 125 bytes; by default bytes that no other ping has.

        Raises:
            ConnectionClosed: the connection is closed; the future has it too, where it closes before the pong.
            ValueError: the payload is too long, or a ping with it waits already.

        """
        self._check_open()
        payload = payload or os.urandom(8)
        if len(payload) > frames.MAX_CONTROL:
            raise ValueError(f"a ping takes at most {frames.MAX_CONTROL} bytes, not {len(payload)}")
        if payload in self._pings:
            raise ValueError("a ping with the same payload waits for its pong")
        pong: asyncio.Future[int] = self._loop.create_future()
        self._pings[payload] = now(), pong
        self._send(self._encoder.ping(payload))
        return pong

    async def drain(self) -> None:
        """Wait until the kernel has taken all that was sent.

        Raises:
            ConnectionClosed: the connection closed before that.

        """
        if self._transport is not None:
            await self._transport.drain()
        if self._closed.done():
            raise self._as_closed()

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close with a closing handshake, and return when that is done; messages that come before still do.

        Args:
            code: RFC 6455 section 7.4: 1000, 1001, 3000 to 4999 and a few more.
            reason: at most 123 bytes as UTF-8.

        Raises:
            ValueError: code or reason cannot be sent.

        """
        close = Close(code, reason)
        try:
            close.check()
        except LibraryProtocolError as error:
            raise ValueError(f"{code} is no close code that can be sent") from error
        if len(close.serialize()) > frames.MAX_CONTROL:
            raise ValueError(f"a close reason takes at most {frames.MAX_CONTROL - 2} bytes")
        if not self.closed:
            self._closing = True
            self._deadline = self._loop.call_later(self._close_timeout, self._give_up)
            with suppress(ConnectionClosed):
                self._send(self._encoder.close(code, reason))
        await asyncio.wait((self._closed,))

    async def wait_closed(self) -> None:
        """Wait until the connection is closed.

        Returns where we closed it, or the server did with 1000 or 1001.

        Raises:
            ConnectionClosed: it ended in any other way.
            Exception: what the callback raised.

        """
        await asyncio.wait((self._closed,))
        if self._error is not None:
            raise self._error

    def _blame(self) -> None:
        """The address that was reached did not do what a server does: the next connection begins with another."""
        if self._history is not None and self._reached is not None:
            self._history.failed(self._reached, "")

    def _too_late(self, uri: WebSocketURI, seconds: float) -> OSError:
        """The error of an opening that took longer than `seconds`."""
        if self._proxy is not None:
            return ProxyError(
                f"the proxy {self._proxy.public} did not answer within {seconds} s", "check that the proxy runs"
            )
        if self._resolving:
            return NoAnswerError(socket.EAI_AGAIN, f"the name server did not answer for {uri.host} within {seconds} s")
        return TimeoutError(f"{uri.host}:{uri.port} did not answer within {seconds} s")

    async def _reach(self, host: str, port: int) -> Reached:
        """A socket that is connected to a host."""
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
            with blaming(proxy):
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
        except Exception as error:  # noqa: BLE001 (told to whoever waits for the handshake)
            self._on_end(error)
            return len(data)
        # no slot refers to these bytes, so no slot gives them back
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
            # who closes need not wait for the echo
            if answer is not None and self._transport is not None:
                with suppress(OSError):
                    self._transport.send(answer.wire)
            self._end(self._encoder.close_received, None)
            return
        self._send(answer)
        if opcode == frames.PONG and payload in self._pings:
            # a pong answers the pings before it too (RFC 6455 section 5.5.3)
            for waiting in list(self._pings):
                began, pong = self._pings.pop(waiting)
                if not pong.done():
                    pong.set_result(now() - began)
                if waiting == payload:
                    break

    def _on_error(self, error: Exception) -> None:
        """What the callback raised, or the server did wrong."""
        if isinstance(error, ProtocolError):
            self._on_end(error)
        elif isinstance(error, ConnectionClosed) and self.closed:
            # it answered on a connection that is about to close: nobody's fault
            return
        else:
            self._fail(CloseCode.INTERNAL_ERROR, "", error)

    def _on_full(self) -> None:
        # all of a batch is released before the next read: it takes a ring that holds one frame's part only
        self._on_end(BufferError("the ring is full"))

    def _on_end(self, error: Exception | None) -> None:
        """The hot path reads no more: the stream ended, or broke, or the server broke the rules."""
        if self._ended:
            return
        if not self._opened.done():
            self._end(None, None, linger=False)
            if error is None:
                try:
                    self._handshake.eof()
                except Exception as refusal:  # noqa: BLE001 (told to whoever waits for the handshake)
                    error = refusal
            self._opened.set_exception(error or ConnectionResetError("the connection ended during the handshake"))
            # whoever waited may have given up
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
        """Close for what went wrong here (RFC 6455 section 7.1.7)."""
        with suppress(OSError):
            frame = self._encoder.close(code, reason.encode()[:100].decode("utf-8", "ignore"))
            if frame is not None and self._transport is not None:
                self._transport.send(frame.wire)
        self._end(Close(code, reason), error)

    def _end(self, close: Close | None, error: Exception | None, *, linger: bool = True) -> None:
        """Hand no more on. The server closes the TCP connection (section 7.1.1); what it still sends is dropped."""
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
            # not from within the hot path's own read
            self._loop.call_soon(self._tear_down)

    def _give_up(self) -> None:
        """No answer to our close."""
        self._end(self._encoder.close_sent, None, linger=False)

    def _abandon(self) -> None:
        """Never opened."""
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
                # nobody has to wait for it
                pong.exception()


def _history(host: str, port: int) -> AddressHistory:
    """Which addresses of a host have failed in this process, whoever connected."""
    history = _HISTORIES.pop((host, port), None) or AddressHistory()
    _HISTORIES[host, port] = history
    if len(_HISTORIES) > _HISTORIES_MOST:
        del _HISTORIES[next(iter(_HISTORIES))]
    return history


def _private_ring(capacity: int) -> ByteRing:
    """A byte ring that no other process sees."""
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
