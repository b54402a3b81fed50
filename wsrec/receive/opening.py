"""Connecting: from a host's addresses to a connected, timestamping and optionally TLS-secured socket."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from wsrec.host import timestamping
from wsrec.net.addresses import AddressHistory, Candidate
from wsrec.net.resolver import Address
from wsrec.options.record import TlsMode
from wsrec.receive.direct import DirectTransport
from wsrec.receive.ktls import KtlsTransport
from wsrec.receive.tls import OpensslTransport, StampedTlsTransport, TlsDetails, TlsTransport
from wsrec.tls.key_log import KeyLog

CONNECT_TIMEOUT = 10.0
# Share of it for TCP while there is another address that has not failed, which the next attempt is for; also the least
# time for TLS and the handshake once an address has accepted the connection
SHARE = 0.5
# values of `Failure.cause`
_CAUSES = {errno.ECONNREFUSED: "refused", errno.ETIMEDOUT: "timeout", errno.ECONNRESET: "lost"}
# errors of this machine's routing, which say nothing about the host
_NO_ROUTE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EINVAL})


class ConnectedSocket(NamedTuple):
    """A connected socket.

    Attributes:
        sock: the socket, non-blocking.
        stamped: whether it timestamps received data.
        address: its peer.

    """

    sock: socket.socket
    stamped: bool
    address: Address


def time_limit(history: AddressHistory) -> float:
    """Time limit (s) of an attempt, from the first connect(2) to the end of the WebSocket handshake."""
    return CONNECT_TIMEOUT * (SHARE if history.untried_count > 1 else 1.0)


def extend_limit(limit: asyncio.Timeout) -> None:
    """Extend the limit so that TLS and the handshake have time of their own once an address has accepted."""
    until = limit.when()
    assert until is not None
    limit.reschedule(max(until, asyncio.get_running_loop().time() + CONNECT_TIMEOUT * SHARE))


async def connect(
    addresses: Sequence[Address],
    prepare: Callable[[socket.socket, Address], object] | None = None,
    history: AddressHistory | None = None,
) -> ConnectedSocket:
    """Connect to the first address that answers; the attempts start one after another, staggered (RFC 8305 section 5).

    Uses only connect(2) and the loop's writability notifications: no thread, no executor.

    Args:
        addresses: of one host.
        prepare: called with each socket and its address before it connects.
        history: earlier failures of the addresses; failures are recorded in it.

    Raises:
        OSError: no address could be connected to.

    """
    history = AddressHistory() if history is None else history
    race = _Race(prepare, history)
    try:
        return await race.run(history.order(addresses))
    finally:
        race.close()


class _Race:
    """A race of connects to several addresses."""

    def __init__(self, prepare: Callable[[socket.socket, Address], object] | None, history: AddressHistory) -> None:
        self._prepare = prepare
        self._history = history
        self._loop = asyncio.get_running_loop()
        self._running: dict[int, ConnectedSocket] = {}
        # start of each, on the loop's clock
        self._begun: dict[int, float] = {}
        self._writable: list[int] = []
        self._woken = asyncio.Event()
        self._codes: list[int] = []

    async def run(self, candidates: Sequence[Candidate]) -> ConnectedSocket:
        """Run the race and return the winner.

        Raises:
            OSError: every address failed.

        """
        waiting = deque(candidates)
        due = self._loop.time()
        while waiting or self._running:
            if waiting and (not self._running or self._loop.time() >= due):
                won = self._begin(waiting.popleft().address)
                due = self._loop.time() + (waiting[0].delay if waiting else 0.0)
            else:
                await self._wait(due if waiting else None)
                won = self._look()
            if won is not None:
                return won
        if not self._codes:
            raise OSError("the host has no address")
        code = next((code for code in self._codes if code not in _NO_ROUTE), self._codes[-1])
        raise OSError(code, os.strerror(code))

    def close(self) -> None:
        """Close all sockets but the winner's."""
        for fileno, running in self._running.items():
            self._loop.remove_writer(fileno)
            running.sock.close()
        self._running.clear()

    def _record_timeouts(self) -> None:
        """Time is up: record a timeout for those in progress, except the ones started in the last half of the time."""
        if not self._running:
            return
        middle = (min(self._begun[fileno] for fileno in self._running) + self._loop.time()) / 2
        for fileno, running in self._running.items():
            if self._begun[fileno] <= middle:
                self._history.failed(running.address, "timeout")

    def _begin(self, address: Address) -> ConnectedSocket | None:
        """Start a connect; returns the socket if it completes at once."""
        sock: socket.socket | None = None
        try:
            sock = socket.socket(address.family, socket.SOCK_STREAM)
            sock.setblocking(False)
            _enable_keepalive(sock)
            if self._prepare is not None:
                self._prepare(sock, address)
            reached = ConnectedSocket(sock, timestamping.enable(sock), address)
            code = sock.connect_ex(address.sockaddr)
        except OSError as error:
            if sock is not None:
                sock.close()
            self._record_failure(address, error.errno or errno.EINVAL)
            return None
        if code in (errno.EINPROGRESS, errno.EINTR):
            fileno = sock.fileno()
            self._running[fileno] = reached
            self._begun[fileno] = self._loop.time()
            self._loop.add_writer(fileno, self._on_writable, fileno)
            return None
        return self._judge(reached, code)

    def _judge(self, reached: ConnectedSocket, code: int) -> ConnectedSocket | None:
        """The outcome of a connect."""
        if code == 0:
            return reached
        reached.sock.close()
        self._record_failure(reached.address, code)
        return None

    def _record_failure(self, address: Address, code: int) -> None:
        self._codes.append(code)
        self._history.failed(address, _CAUSES.get(code, "unreachable"))

    def _on_writable(self, fileno: int) -> None:
        self._loop.remove_writer(fileno)
        self._writable.append(fileno)
        self._woken.set()

    async def _wait(self, until: float | None) -> None:
        """Wait until a socket is writable, or until `until` (on the loop's clock)."""
        alarm = None if until is None else self._loop.call_at(until, self._woken.set)
        try:
            await self._woken.wait()
        except asyncio.CancelledError:
            self._record_timeouts()
            raise
        finally:
            if alarm is not None:
                alarm.cancel()
        self._woken.clear()

    def _look(self) -> ConnectedSocket | None:
        """The first connected one among the writable sockets, if any."""
        while self._writable:
            reached = self._running.pop(self._writable.pop(0))
            code = reached.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if (won := self._judge(reached, code)) is not None:
                return won
        return None


async def start_tls(
    sock: socket.socket,
    *,
    stamped: bool,
    context: ssl.SSLContext,
    host: str,
    mode: TlsMode,
    key_log: KeyLog | None = None,
) -> tuple[TlsTransport, TlsDetails]:
    """Start TLS on a connected socket, which is closed on failure.

    Args:
        mode: any but `auto`; for `ktls` the context must come from `ktls.enable`.
        key_log: that of the context, for `direct` and `ktls`.

    Raises:
        KtlsRefused: `ktls` is not possible on this connection.
        ssl.SSLError: TLS failed; `ssl.SSLCertVerificationError` if the certificate is not trusted.
        OSError: the connection broke.

    """
    transport: TlsTransport
    try:
        if mode is TlsMode.KTLS:
            assert key_log is not None
            transport = KtlsTransport(sock, context=context, host=host, key_log=key_log)
        elif mode is TlsMode.DIRECT:
            assert key_log is not None
            transport = DirectTransport(sock, stamped=stamped, context=context, host=host, key_log=key_log)
        elif mode is TlsMode.STAMPED:
            transport = StampedTlsTransport(sock, stamped=stamped, context=context, host=host)
        else:
            transport = OpensslTransport(sock, context=context, host=host)
    except BaseException:
        sock.close()
        raise
    try:
        return transport, await transport.handshake()
    except BaseException:
        transport.close()
        raise


def _enable_keepalive(sock: socket.socket) -> None:
    """Make the kernel probe a silent peer, and give up after 30 s without an acknowledgement (tcp(7))."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000)
