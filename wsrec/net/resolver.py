"""Name resolution that never blocks its caller on an unresponsive name server.

`getaddrinfo` cannot be cancelled and may take minutes. So each look-up runs in a daemon thread of its own: callers wait
as long as they choose, and process exit does not wait at all. Concurrent requests for the same host share one look-up,
so at most one thread hangs per host. Neither the loop's executor nor libuv's four threads are used: a look-up that
hangs there blocks all others, and `sock_connect` too.

The last good answer is kept. It is used when a look-up fails or takes longer than `KEPT_AFTER`, however old it is, and
also when the name is reported not to exist: an exchange's DNS fails in either way, its addresses seldom change within
days, and TLS authenticates the server. The age of such an answer is reported.

An answer can also be wrong. So the last address that worked is remembered separately and returned beside an answer
that lacks it, for callers to fall back on if none of the answer's addresses work.

A literal address is returned at once, without a thread.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import socket
import threading
import time
from typing import Any, NamedTuple

# How long a look-up may take before the kept answer is used instead (s): a healthy one takes milliseconds, glibc
# retries a lost datagram only after 5 s, and messages sent meanwhile are lost
KEPT_AFTER = 1.0
# How long to wait without a kept answer (s): glibc tries twice, 5 s each, or each of two name servers once
TIMEOUT = 10.0
# How long after it last worked an address may be used although the name server no longer returns it (s): with TLS,
# which authenticates the server, and without, where the address may by then belong to somebody else
_PROVED, _UNPROVED = 86_400.0, 300.0
# Hosts whose answers are kept; the oldest are dropped first
_KEPT_MOST = 1024


class Address(NamedTuple):
    """One address that can be connected to.

    Attributes:
        family: `socket.AF_INET` or `socket.AF_INET6`.
        sockaddr: as `socket.connect` takes it.

    """

    family: int
    sockaddr: tuple[Any, ...]

    @property
    def ip(self) -> str:
        """The address without the port."""
        return str(self.sockaddr[0])

    @property
    def port(self) -> int:
        """The port."""
        return int(self.sockaddr[1])


class LastWorkingAddress(NamedTuple):
    """An address that worked and that the name server no longer returns.

    Attributes:
        address: the address.
        ago: seconds since it worked.
        age: seconds since the name server last returned it.

    """

    address: Address
    ago: float
    age: float


class Found(NamedTuple):
    """The result of a look-up.

    Attributes:
        addresses: at least one, in the system's order.
        age: seconds since the name server gave this answer, if it is a kept one; else None.
        trouble: why a kept answer was used; None for a fresh one.
        news: True for the first kept answer since the last successful look-up.
        worked: the address that worked last, if it is not among `addresses`.

    """

    addresses: tuple[Address, ...]
    age: float | None = None
    trouble: str | None = None
    news: bool = False
    worked: LastWorkingAddress | None = None

    def fallback(self, *, proved: bool) -> LastWorkingAddress | None:
        """The address to fall back on if none of these works; `proved` if a certificate authenticates the server."""
        most = _PROVED if proved else _UNPROVED
        return self.worked if self.worked is not None and self.worked.ago < most else None


class NoAnswerError(socket.gaierror):
    """The name server did not answer in time."""


class _LookUpError(NamedTuple):
    """The error raised by `getaddrinfo`."""

    number: int
    words: str


# outcome of a look-up; the addresses carry no port
_Outcome = tuple[Address, ...] | _LookUpError


class _LookUp:
    """One call of `getaddrinfo` in progress."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.outcome: concurrent.futures.Future[_Outcome] = concurrent.futures.Future()
        # a caller that stops waiting must not cancel it for the others
        self.outcome.set_running_or_notify_cancel()


class Resolver:
    """Resolves names for any number of threads and event loops; safe to share."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, _LookUp] = {}
        self._cached: dict[str, tuple[tuple[Address, ...], float]] = {}
        # by host: the address that worked last (without a port), when it worked, and when the name server returned it
        self._worked: dict[str, tuple[Address, float, float]] = {}
        # hosts served from a kept answer since their last successful look-up
        self._troubled: set[str] = set()

    async def resolve(self, host: str, port: int, *, timeout: float | None = TIMEOUT) -> Found:
        """The addresses of `host`. Cancelling stops the wait, not the look-up.

        Args:
            host: a name, or an address, also in brackets and with a scope.
            port: put into the addresses.
            timeout: seconds to wait for the name server; None for as long as it takes.

        Raises:
            NoAnswerError: the name server did not answer in time, and no earlier answer is kept.
            socket.gaierror: there is no such host, and no earlier answer is kept.

        """
        if (literal := _literal(host, port)) is not None:
            return literal
        look_up = self._begin(host)
        waiting = asyncio.wrap_future(look_up.outcome)
        wait = self._timeout(host, look_up, timeout)
        try:
            await asyncio.wait((waiting,), timeout=wait)
        finally:
            waiting.cancel()
        return self._conclude(host, port, look_up)

    def resolve_blocking(self, host: str, port: int, *, timeout: float | None = TIMEOUT) -> Found:
        """`resolve` for threads without an event loop."""
        if (literal := _literal(host, port)) is not None:
            return literal
        look_up = self._begin(host)
        concurrent.futures.wait((look_up.outcome,), self._timeout(host, look_up, timeout))
        return self._conclude(host, port, look_up)

    def worked(self, host: str, address: Address) -> None:
        """Record that an address of `host` delivered what was requested; ignored for literal addresses."""
        bare = _at_port(address, 0)
        moment = time.monotonic()
        with self._lock:
            addresses, since = self._cached.get(host, ((), 0.0))
            before = self._worked.get(host)
            if bare in addresses:
                self._worked[host] = bare, moment, since
            elif before is not None and before[0] == bare:
                self._worked[host] = before[0], moment, before[2]

    def _begin(self, host: str) -> _LookUp:
        """The look-up of `host` in progress, or a new one."""
        with self._lock:
            look_up = self._running.get(host)
            if look_up is not None:
                return look_up
            look_up = self._running[host] = _LookUp()
        thread = threading.Thread(target=self._run, args=(host, look_up), name=f"look-up of {host}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            # the system refuses another thread
            self._finish(host, look_up, _LookUpError(socket.EAI_SYSTEM, str(error)))
        return look_up

    def _run(self, host: str, look_up: _LookUp) -> None:
        outcome: _Outcome
        try:
            found = _addresses(socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM))
            outcome = found or _LookUpError(socket.EAI_NONAME, "the host has no address")
        except socket.gaierror as error:
            outcome = _LookUpError(error.errno or socket.EAI_FAIL, error.strerror or str(error))
        except UnicodeError:
            outcome = _LookUpError(socket.EAI_NONAME, "not a valid host name")
        except Exception as error:  # noqa: BLE001 (reported to the waiting callers)
            outcome = _LookUpError(socket.EAI_SYSTEM, str(error) or type(error).__name__)
        self._finish(host, look_up, outcome)

    def _finish(self, host: str, look_up: _LookUp, outcome: _Outcome) -> None:
        with self._lock:
            del self._running[host]
            if not isinstance(outcome, _LookUpError):
                self._cached.pop(host, None)
                self._cached[host] = outcome, time.monotonic()
                self._troubled.discard(host)
                if len(self._cached) > _KEPT_MOST:
                    oldest = next(iter(self._cached))
                    del self._cached[oldest]
                    self._worked.pop(oldest, None)
        look_up.outcome.set_result(outcome)

    def _timeout(self, host: str, look_up: _LookUp, timeout: float | None) -> float | None:
        """Seconds to wait for this look-up."""
        if host not in self._cached:
            return timeout
        # later callers do not wait anew for a look-up that already hangs
        left = max(look_up.began + KEPT_AFTER - time.monotonic(), 0.0)
        return left if timeout is None else min(left, timeout)

    def _conclude(self, host: str, port: int, look_up: _LookUp) -> Found:
        """The result of a look-up as of now: finished, or replaced by the kept answer."""
        # not bound to a name: an exception in a local of the frame that raises it makes a reference cycle
        kind: type[socket.gaierror] = socket.gaierror
        if look_up.outcome.done():
            outcome = look_up.outcome.result()
            if not isinstance(outcome, _LookUpError):
                return Found(_with_port(outcome, port), worked=self._last_working(host, port, outcome))
            number, words = outcome
        else:
            waited = time.monotonic() - look_up.began
            kind, number, words = (
                NoAnswerError,
                socket.EAI_AGAIN,
                f"the name server has not answered for {waited:.1f} s",
            )
        with self._lock:
            kept = self._cached.get(host)
            if kept is None:
                raise kind(number, words)
            news = host not in self._troubled
            self._troubled.add(host)
        addresses, since = kept
        besides = self._last_working(host, port, addresses)
        return Found(_with_port(addresses, port), time.monotonic() - since, words, news, besides)

    def _last_working(self, host: str, port: int, addresses: tuple[Address, ...]) -> LastWorkingAddress | None:
        """The address that worked last, if it is not among these."""
        address, at, since = self._worked.get(host, (None, 0.0, 0.0))
        if address is None or address in addresses:
            return None
        moment = time.monotonic()
        return LastWorkingAddress(_at_port(address, port), moment - at, moment - since)


def _literal(host: str, port: int) -> Found | None:
    """The address that `host` spells out; None if it is a name."""
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    # RFC 6874 writes a scope's % as %25 in URLs
    host = host.replace("%25", "%")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (socket.gaierror, UnicodeError):
        return None
    return Found(addresses) if (addresses := _addresses(found)) else None


def _addresses(found: list[Any]) -> tuple[Address, ...]:
    """The addresses usable for TCP, without duplicates."""
    families = socket.AF_INET, socket.AF_INET6
    return tuple(dict.fromkeys(Address(int(family), tuple(at)) for family, _, _, _, at in found if family in families))


def _with_port(addresses: tuple[Address, ...], port: int) -> tuple[Address, ...]:
    return tuple(_at_port(one, port) for one in addresses)


def _at_port(address: Address, port: int) -> Address:
    return Address(address.family, (address.sockaddr[0], port, *address.sockaddr[2:]))


RESOLVER = Resolver()
"""The process-wide resolver: all connections share its cache."""
