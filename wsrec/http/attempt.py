"""One HTTP attempt: its deadline, its sockets, and how far it got when it fails.

Every socket comes from `Connect`. It is registered before it connects, as a second descriptor of the same socket:
shutting that down ends the connection whatever happened to the first one (TLS takes it over).

Errors name the host and nothing of path, query, headers or body, which may be secret.
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

# Share of the time limit that the look-up may take
_LOOK_UP = 0.9


class HttpError(Exception):
    """A request without a usable answer. The message names the host and repeats nothing that was sent or received.

    Attributes:
        host: the host, with the port unless it is the scheme's default.
        cause: `dns`, `refused`, `unreachable`, `timeout`, `certificate`, `tls`, `lost`, `limited` (HTTP 418 and
            429, from a proxy too), `http` (any other status), `answer` (unusable) or `proxy` (no tunnel). For `proxy`,
            `__cause__` is the `wsrec.net.tunnel.ProxyError`.
        status: HTTP status; None if there was no answer.
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
    """The state that connecting shares with its request.

    Args:
        host: the name used in errors.
        timeout: seconds from now.

    Attributes:
        host: as given.
        late: the predicate for a timeout error: `did not answer`.
        address: name and address of the host being connected to; None while unknown.
        proxy: the proxy being waited for; None if the host itself is.
        through: the proxy whose tunnel is open; None on a direct connection.

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
            TimeoutError: the deadline has passed.

        """
        left = self._deadline - time.monotonic()
        if left <= 0 or self._ended:
            raise TimeoutError
        return left

    def watch(self, sock: socket.socket) -> None:
        """Register a socket to be shut down with the request; it need not be connected yet.

        Raises:
            TimeoutError: the request has ended.

        """
        with self._lock:
            if self._ended:
                raise TimeoutError
            self._watched.append(sock.dup())

    def learn(self, *, good: bool) -> None:
        """Record for later requests whether the address delivered what was requested."""
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
        """Shut down the sockets; whatever is in progress on them fails."""
        with self._lock:
            self._ended = True
            watched, self._watched = self._watched, []
        for sock in watched:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def error(self, text: str, cause: str, status: int | None = None, retry_after: float | None = None) -> HttpError:
        """An error that names the host."""
        return HttpError(self.host, text, cause, status, retry_after)

    def expired(self) -> HttpError:
        """The timeout error, saying how far the request got."""
        if self.proxy is not None:
            error = self.error(f": the proxy {self.proxy.public} did not answer within {self._timeout:g} s", "proxy")
            error.__cause__ = unreachable(self.proxy, TimeoutError())
            return error
        return self.error(f" {self.late} within {self._timeout:g} s", "timeout")


Connect = Callable[[str, int, Attempt], socket.socket]
"""Returns a connected socket to a host and port. Keeps `Attempt.late` up to date, registers each socket
(`Attempt.watch`) before it connects, and takes no longer than `Attempt.left`.

Raises:
    HttpError: with a complete message.
    OSError: any other failure to connect.
"""


def direct(host: str, port: int, attempt: Attempt) -> socket.socket:
    """Connect to the host itself: its addresses one after the other, most recent failures last."""
    attempt.late = "was not found by the name look-up"
    # ends before the overall deadline, so that the look-up's own error is reported
    found = RESOLVER.resolve_blocking(host, port, timeout=attempt.left() * _LOOK_UP)
    # unknown here: whether a certificate will authenticate the server
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


# Address history of each host, over all requests of this process
_histories: dict[str, AddressHistory] = {}
_histories_lock = threading.Lock()
