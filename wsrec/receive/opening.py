"""From a host's addresses to a socket that stamps, is watched and is secured: what every connection begins with."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from wsrec.net.addresses import AddressHistory, Candidate
from wsrec.net.resolver import Address
from wsrec.receive import timestamping
from wsrec.receive.job import TlsMode
from wsrec.receive.ktls import KtlsTransport
from wsrec.receive.tls import OpensslTransport, StampedTlsTransport, TlsDetails, TlsTransport

CONNECT_TIMEOUT = 10.0
# The part of it that is TCP's while another address has not failed yet: the next attempt is that one's. It is also what
# TLS and the handshake have in any case, once an address has accepted the connection
SHARE = 0.5
# as in `Failure.cause`
_CAUSES = {errno.ECONNREFUSED: "refused", errno.ETIMEDOUT: "timeout", errno.ECONNRESET: "lost"}
# what says nothing of the host: this machine has no way to it
_NO_WAY = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EINVAL})


class Reached(NamedTuple):
    """A socket that is connected.

    Attributes:
        sock: the socket, non-blocking.
        stamped: whether it stamps what it receives.
        address: where it is connected to.

    """

    sock: socket.socket
    stamped: bool
    address: Address


def time_limit(history: AddressHistory) -> float:
    """Seconds that an attempt may take from its first connect(2) to the end of the WebSocket handshake."""
    return CONNECT_TIMEOUT * (SHARE if history.untried > 1 else 1.0)


def grant(limit: asyncio.Timeout) -> None:
    """Give TLS and the handshake time of their own, now that an address has accepted the connection."""
    until = limit.when()
    assert until is not None
    limit.reschedule(max(until, asyncio.get_running_loop().time() + CONNECT_TIMEOUT * SHARE))


async def connect(
    addresses: Sequence[Address],
    prepare: Callable[[socket.socket], object] | None = None,
    history: AddressHistory | None = None,
) -> Reached:
    """Connect to the first address that answers: each is begun a moment after the one before (RFC 8305 section 5).

    Nothing but connect(2) and the loop's notice that a socket is writable: no thread, no executor.

    Args:
        addresses: of one host.
        prepare: called with each socket before it connects.
        history: which of them failed before; it is told which do now.

    Raises:
        OSError: none could be connected to.

    """
    history = AddressHistory() if history is None else history
    race = _Race(prepare, history)
    try:
        return await race.run(history.order(addresses))
    finally:
        race.close()


class _Race:
    """Connects to several addresses, of which one wins."""

    def __init__(self, prepare: Callable[[socket.socket], object] | None, history: AddressHistory) -> None:
        self._prepare = prepare
        self._history = history
        self._loop = asyncio.get_running_loop()
        self._running: dict[int, Reached] = {}
        # when each of them was begun, on the loop's clock
        self._begun: dict[int, float] = {}
        self._writable: list[int] = []
        self._woken = asyncio.Event()
        self._codes: list[int] = []

    async def run(self, candidates: Sequence[Candidate]) -> Reached:
        """The one that wins.

        Raises:
            OSError: there is none.

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
        code = next((code for code in self._codes if code not in _NO_WAY), self._codes[-1])
        raise OSError(code, os.strerror(code))

    def close(self) -> None:
        """Let go of all that have not won: those that have not answered by now did not in time."""
        for fileno, running in self._running.items():
            self._loop.remove_writer(fileno)
            running.sock.close()
        self._running.clear()

    def _lapse(self) -> None:
        """The time is up: none of those under way has answered. Those that had hardly any of it have not failed."""
        if not self._running:
            return
        middle = (min(self._begun[fileno] for fileno in self._running) + self._loop.time()) / 2
        for fileno, running in self._running.items():
            if self._begun[fileno] <= middle:
                self._history.failed(running.address, "timeout")

    def _begin(self, address: Address) -> Reached | None:
        """Begin to connect; what that is at once, if it is."""
        sock: socket.socket | None = None
        try:
            sock = socket.socket(address.family, socket.SOCK_STREAM)
            sock.setblocking(False)
            _notice_silence(sock)
            if self._prepare is not None:
                self._prepare(sock)
            reached = Reached(sock, timestamping.enable(sock), address)
            code = sock.connect_ex(address.sockaddr)
        except OSError as error:
            if sock is not None:
                sock.close()
            self._lose(address, error.errno or errno.EINVAL)
            return None
        if code in (errno.EINPROGRESS, errno.EINTR):
            fileno = sock.fileno()
            self._running[fileno] = reached
            self._begun[fileno] = self._loop.time()
            self._loop.add_writer(fileno, self._on_writable, fileno)
            return None
        return self._judge(reached, code)

    def _judge(self, reached: Reached, code: int) -> Reached | None:
        """What `connect` has come to."""
        if code == 0:
            return reached
        reached.sock.close()
        self._lose(reached.address, code)
        return None

    def _lose(self, address: Address, code: int) -> None:
        self._codes.append(code)
        self._history.failed(address, _CAUSES.get(code, "unreachable"))

    def _on_writable(self, fileno: int) -> None:
        self._loop.remove_writer(fileno)
        self._writable.append(fileno)
        self._woken.set()

    async def _wait(self, until: float | None) -> None:
        """Wait for a socket, or `until` (on the loop's clock)."""
        alarm = None if until is None else self._loop.call_at(until, self._woken.set)
        try:
            await self._woken.wait()
        except asyncio.CancelledError:
            self._lapse()
            raise
        finally:
            if alarm is not None:
                alarm.cancel()
        self._woken.clear()

    def _look(self) -> Reached | None:
        """Which of those that are writable is connected, if any is."""
        while self._writable:
            reached = self._running.pop(self._writable.pop(0))
            code = reached.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if (won := self._judge(reached, code)) is not None:
                return won
        return None


async def start_tls(
    sock: socket.socket, *, stamped: bool, context: ssl.SSLContext, host: str, mode: TlsMode
) -> tuple[TlsTransport, TlsDetails]:
    """TLS on a connected socket, which is closed where that fails.

    Args:
        mode: any but `auto`; for `ktls` the context is one that `ktls.enable` made.

    Raises:
        KtlsRefused: `ktls` was tried in vain.
        ssl.SSLError: it failed; `ssl.SSLCertVerificationError` where the certificate is not to be trusted.
        OSError: the connection broke.

    """
    transport: TlsTransport
    try:
        if mode is TlsMode.KTLS:
            transport = KtlsTransport(sock, context=context, host=host)
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


def _notice_silence(sock: socket.socket) -> None:
    """Have the kernel probe a silent peer, and give up one that has acknowledged nothing for 30 s (tcp(7))."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000)
