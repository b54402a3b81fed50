"""One attempt to ask a host: how long it may take, where its socket comes from, and what is said of it when it fails.

A socket comes from one place, `Connect`. It is watched from before it connects, as a second descriptor of the same
socket: shutting that down ends the connection whatever has become of the first (TLS takes it over).

Errors name the host that was asked, and nothing of path, query, headers or body: these may be secret.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from wsrec.net.addresses import AddressHistory
from wsrec.net.proxy import Proxy
from wsrec.net.resolver import RESOLVER, Address
from wsrec.net.tunnel import unreachable

# The part of the time that a look-up may take
_LOOK_UP = 0.9


class HttpError(Exception):
    """No answer that can be used. The text names the host, and holds nothing of what was sent or answered.

    Attributes:
        host: who was asked, with the port where it is not the scheme's own.
        cause: `dns`, `refused`, `unreachable`, `timeout`, `certificate`, `tls`, `lost`, `limited` (HTTP 418 and
            429, of a proxy too), `http` (any other status), `answer` (one that cannot be taken) or `proxy` (there is no
            way through it). Where there is none, the error's cause is the `wsrec.net.tunnel.ProxyError`.
        status: of the answer; None where it does not come from one.
        retry_after: seconds that the server asked to wait.

    """

    def __init__(
        self,
        host: str,
        text: str,
        cause: str,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{host}{text}")
        self.host = host
        self.cause = cause
        self.status = status
        self.retry_after = retry_after


class Attempt:
    """What connecting may know of its request.

    Args:
        host: as errors name it.
        timeout: seconds from now.

    Attributes:
        host: as given.
        late: what is said of the host where time is up: `did not answer`.
        address: of the host that is looked up, the one that it is connected to; None where that is not known.
        proxy: the proxy that is waited for, and not the host; None where it is not.
        through: the proxy that has made a way to the host; None where there is none.

    """

    def __init__(self, host: str, timeout: float) -> None:
        self.host = host
        self.late = "did not answer"
        self.address: tuple[str, Address] | None = None
        self.proxy: Proxy | None = None
        self.through: Proxy | None = None
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._lock = threading.Lock()
        self._watched: list[socket.socket] = []
        self._ended = False

    def left(self) -> float:
        """Seconds until the deadline.

        Raises:
            TimeoutError: there are none.

        """
        left = self._deadline - time.monotonic()
        if left <= 0 or self._ended:
            raise TimeoutError
        return left

    def watch(self, sock: socket.socket) -> None:
        """Have a socket shut down with the request: one that may not be connected yet.

        Raises:
            TimeoutError: the request has ended.

        """
        with self._lock:
            if self._ended:
                raise TimeoutError
            self._watched.append(sock.dup())

    def learn(self, *, good: bool) -> None:
        """What came of its address, for the next request: it brought what was asked for, or another is to be tried."""
        if self.address is None:
            return
        host, address = self.address
        with _histories_lock:
            if good:
                _history_of(host).worked(address)
                RESOLVER.worked(host, address)
            else:
                _history_of(host).failed(address, "lost")

    def end(self) -> None:
        """Shut down its sockets; whatever is under way on them fails."""
        with self._lock:
            self._ended = True
            watched, self._watched = self._watched, []
        for sock in watched:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def error(self, text: str, cause: str, status: int | None = None, retry_after: float | None = None) -> HttpError:
        """An error of its host."""
        return HttpError(self.host, text, cause, status, retry_after)

    def expired(self) -> HttpError:
        """The error that says how far it came until the deadline."""
        if self.proxy is not None:
            error = self.error(f": the proxy {self.proxy.public} did not answer within {self._timeout:g} s", "proxy")
            error.__cause__ = unreachable(self.proxy, TimeoutError())
            return error
        return self.error(f" {self.late} within {self._timeout:g} s", "timeout")


Connect = Callable[[str, int, Attempt], socket.socket]
"""Makes a connected socket to a host and a port: says in `Attempt.late` what it is at, has each of its sockets watched
(`Attempt.watch`) before it connects, and takes no longer than `Attempt.left`.

Raises:
    HttpError: with the words that shall be read.
    OSError: what prevented it.
"""


def direct(host: str, port: int, attempt: Attempt) -> socket.socket:
    """A connection to the host itself: its addresses one after the other, those that failed last at the end."""
    attempt.late = "was not found by the name look-up"
    # the look-up's own words, before time is up for all
    found = RESOLVER.resolve_blocking(host, port, timeout=attempt.left() * _LOOK_UP)
    # whether a certificate will prove who answers is not known here
    kept = found.fallback(proved=False)
    with _histories_lock:
        history = _history_of(host)
        history.begin(found.addresses, None if kept is None else kept.address)
        candidates = [candidate.address for candidate in history.order(history.known)]
    attempt.late = "did not accept the connection"
    for left, address in zip(reversed(range(len(candidates))), candidates, strict=True):
        attempt.address = host, address
        sock = socket.socket(address.family, socket.SOCK_STREAM)
        try:
            attempt.watch(sock)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(attempt.left() / (left + 1))
            sock.connect(address.sockaddr)
        except OSError:
            sock.close()
            if not left:
                raise
            attempt.learn(good=False)
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise OSError("the host has no address")


def _history_of(host: str) -> AddressHistory:
    return _histories.setdefault(host, AddressHistory())


# What came of the addresses of each host, over all requests of this process
_histories: dict[str, AddressHistory] = {}
_histories_lock = threading.Lock()
