"""`wsrec.connect`: from a URL and a callback to an open connection, or to one after another."""

from __future__ import annotations

import asyncio
import logging
import os
import weakref
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from types import TracebackType
from typing import Any, Literal, NamedTuple

from websockets.exceptions import InvalidURI
from websockets.uri import WebSocketURI, parse_uri

from wsrec.client import arrivals, loop_waiting
from wsrec.client.arrivals import Captured
from wsrec.client.connection import Connection
from wsrec.client.dialing import Dialing
from wsrec.client.implementation import Message
from wsrec.client.reconnection import Reconnection
from wsrec.feed.masking import mask_url
from wsrec.host import privilege
from wsrec.net.proxy import Proxy, ProxyRules
from wsrec.options.record import TlsMode, WaitStrategy
from wsrec.receive import opening
from wsrec.receive.tls_choice import TlsChoice, TlsPolicy
from wsrec.ring.bytering import MIN_RING, check_capacity
from wsrec.version import __version__
from wsrec.wire import deflate
from wsrec.wire.handshake import Handshake

# small enough for the processor's cache; messages larger than a quarter of it are copied once
RING_SIZE = 1 << 20
MAX_MESSAGE = 64 << 20
MAX_UNSENT = 64 << 20

Logger = logging.Logger | logging.LoggerAdapter[Any]


def connect(
    url: str,
    *,
    on_message: Callable[[Message], object],
    headers: Mapping[str, str] | None = None,
    ca_file: str | os.PathLike[str] | None = None,
    tls: Literal["auto", "direct", "stamped", "ktls", "openssl"] = "direct",
    proxy: str | Literal[True] | None = True,
    compression: Literal["deflate"] | None = None,
    wait: Literal["epoll", "spin", "adaptive"] = "epoll",
    cpu: int | None = None,
    rt_priority: int | None = None,
    segments: bool = False,
    max_message: int = MAX_MESSAGE,
    max_unsent: int = MAX_UNSENT,
    ring_size: int = RING_SIZE,
    open_timeout: float = opening.CONNECT_TIMEOUT,
    close_timeout: float = 2.0,
    logger: Logger | None = None,
) -> Connecting:
    """Connect to a WebSocket server, once or for as long as it takes.

    `async with wsrec.connect(...) as connection` or `await wsrec.connect(...)` opens one connection;
    `async for connection in wsrec.connect(...)` opens it again whenever it ends (`Connecting.__aiter__`).
    Certificates and host names are always verified.

    Args:
        url: `ws://` or `wss://`.
        on_message: called with each text or binary `Message`, in order, from the loop; it must not block. An
            exception from it closes the connection with 1011 and is raised by `Connection.wait_closed`.
        headers: additional headers of the handshake request.
        ca_file: PEM file trusted in addition to the system's certificates.
        tls: how TLS is decrypted (docs/explanation/stages.md); what is not possible is replaced, which is logged.
        proxy: `http://` or `socks5h://`, user name and password included; True: from HTTPS_PROXY, ALL_PROXY and
            NO_PROXY; None: no proxy.
        compression: `deflate` offers permessage-deflate (RFC 7692).
        wait: `epoll` sleeps until data comes; `spin` reads without pause, which takes a whole processor; `adaptive`
            does so for a while after data (docs/how-to/tuning.md). Connections of a loop with the same one share it.
        cpu: processor for the thread that runs the loop, from now on; a refusal is logged.
        rt_priority: SCHED_FIFO priority of that thread, 1 to 99; a refusal is logged.
        segments: capture each TCP segment beside the sockets (CAP_NET_RAW), for `Message.arrival`; a refusal is logged.
        max_message: bytes; a larger message, before or after inflating, closes the connection with 1009.
        max_unsent: bytes that may be queued before `Connection.send` refuses more.
        ring_size: bytes, a power of two of at least 64 KiB; messages above a quarter of it are copied once.
        open_timeout: seconds for connecting, TLS and the opening handshake together.
        close_timeout: seconds for the closing handshake.
        logger: takes what happens to the connection, without secrets; `logging.getLogger("wsrec.client")` by default.

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
    return Connecting(
        Target(
            url,
            uri,
            {"User-Agent": f"wsrec/{__version__}", **(headers or {})},
            TlsMode(tls),
            None if ca_file is None else os.fspath(ca_file),
            rules.of(url),
            compression,
        ),
        on_message,
        Scheduling(WaitStrategy(wait), cpu, rt_priority, _others(cpu) if segments else None),
        logging.getLogger("wsrec.client") if logger is None else logger,
        open_timeout=open_timeout,
        max_message=max_message,
        max_unsent=max_unsent,
        ring_size=ring_size,
        close_timeout=close_timeout,
    )


class Target(NamedTuple):
    """Where and how to connect, as `connect` takes it."""

    url: str
    uri: WebSocketURI
    headers: Mapping[str, str]
    tls: TlsMode
    ca_file: str | None
    proxy: Proxy | None
    compression: Literal["deflate"] | None

    @property
    def public_url(self) -> str:
        """The URL without what may be secret in it."""
        return mask_url(self.url)


class Scheduling(NamedTuple):
    """How to wait, and the scheduling of the thread that runs the loop; None leaves that as it is.

    `capture_on` is where segments may be captured: None if they are not.
    """

    wait: WaitStrategy
    cpu: int | None
    rt_priority: int | None
    capture_on: set[int] | None

    def request(self, logger: Logger) -> None:
        """Request the scheduling for the calling thread; what the system refuses is logged."""
        refusals = [
            privilege.pin(self.cpu) if self.cpu is not None else None,
            privilege.realtime(self.rt_priority) if self.rt_priority is not None else None,
        ]
        for refusal in refusals:
            if refusal is not None:
                logger.warning("%s was refused: %s; %s", *refusal)


class Connecting:
    """The result of `connect`: await it, enter it with `async with`, or iterate over it with `async for`."""

    def __init__(
        self,
        target: Target,
        on_message: Callable[[Message], object],
        scheduling: Scheduling,
        logger: Logger,
        *,
        open_timeout: float,
        **options: Any,
    ) -> None:
        self._target = target
        self._on_message = on_message
        self._scheduling = scheduling
        self._logger = logger
        self._open_timeout = open_timeout
        self._options = options
        self._connection: Connection | None = None
        self._choice: TlsChoice | None = None

    def __await__(self) -> Generator[Any, None, Connection]:
        return self._open().__await__()

    async def __aenter__(self) -> Connection:
        self._connection = await self._open()
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._connection is not None
        await self._connection.close()

    async def __aiter__(self) -> AsyncIterator[Connection]:
        """Each connection as it is opened, one after another: when one has ended, the next is opened.

        The body of `async for` runs once for each connection, to subscribe; it need not wait for its end. What was
        missed in between is not known here. The delays are the recorder's: at once after a connection that had
        delivered messages, else doubling from 0.5 to 30 s with jitter, longer if the server asks for it or limits the
        rate.

        The iteration ends when the body closes the connection, or breaks. It raises what retrying cannot help
        (`ssl.SSLCertVerificationError`, a refusal such as HTTP 404), and exceptions of the callback.
        """
        again = Reconnection(self._target.uri, self._target.proxy, self._logger)
        while True:
            try:
                connection = await self._open()
            except Exception as error:  # noqa: BLE001 (raised again if it is not a failure to connect)
                await again.after_failure(error)
                continue
            try:
                yield connection
                ended = await again.after_end(connection, self._choice)
            finally:
                await connection.close()
            if ended:
                return

    async def _open(self) -> Connection:
        target = self._target
        self._scheduling.request(self._logger)
        offer = deflate.offer(context_takeover=True) if target.compression else None
        choice = self._tls_choice()
        waiting = loop_waiting.join(self._scheduling.wait)
        captured: Captured | None = None
        if self._scheduling.capture_on is not None:
            captured = arrivals.join(self._scheduling.capture_on, self._logger)
        attempt = None
        if captured is not None:
            uses_kernel = choice is not None and choice.may_use_kernel
            attempt = captured.attempt(records=uses_kernel, tunnel=target.proxy is not None)
        dialing = Dialing(target.uri, choice, target.proxy, waiting.prepare, attempt)
        connection: Connection | None = None
        try:
            async with asyncio.timeout(self._open_timeout) as limit:
                transport = await dialing.connect()
                connection = Connection(
                    transport,
                    Handshake(target.url, target.headers, offer),
                    self._on_message,
                    waiting,
                    captured,
                    address=dialing.address,
                    tls=dialing.tls,
                    tls_mode=dialing.tls_mode,
                    **self._options,
                )
                await connection._open()
        except BaseException as error:
            if connection is not None:
                connection._abandon()
            else:
                loop_waiting.leave(waiting)
                if captured is not None:
                    captured.leave()
            dialing.close()
            if isinstance(error, Exception) or limit.expired():
                dialing.blame()
            if limit.expired():
                raise dialing.timeout_error(self._open_timeout) from None
            raise
        if dialing.tls_refusal is not None:
            self._logger.info(
                "tls=%s is not possible, using %s: %s", target.tls, dialing.tls_mode, dialing.tls_refusal.reason
            )
        host, port = connection.address
        self._logger.info("connected to %s (%s port %d)", target.public_url, host, port)
        return connection

    def _tls_choice(self) -> TlsChoice | None:
        """The choice of the TLS mode, which learns from one connection to the next; None for `ws://`.

        Raises:
            OSError: the CA file cannot be read or holds no certificate.

        """
        if self._choice is None and self._target.uri.secure:
            policy = TlsPolicy(self._target.tls, self._target.ca_file)
            weakref.finalize(self, policy.close)
            self._choice = TlsChoice(policy)
        return self._choice


def _others(cpu: int | None) -> set[int]:
    """The processors that the caller may use, but not the one for the loop."""
    return os.sched_getaffinity(0) - {cpu}
