"""From a host's name to its addresses, without anybody who has to wait for a name server that does not answer.

`getaddrinfo` cannot be ended from outside and may take minutes. So each look-up has a daemon thread of its own: whoever
wants its answer waits as long as they like and leaves, and no end of a process waits for it. There is one look-up of a
host at a time, shared by all who ask meanwhile, so that at most as many threads hang as there are hosts. Neither the
loop's executor nor libuv's four threads are used: a look-up that hangs there stops all others, and `sock_connect` too.

The last good answer is kept. It is used where a look-up fails or does not answer within `PATIENCE`, however old it is
and also where the name is said not to exist: an exchange's DNS breaks in either way, its addresses seldom change within
days, and TLS proves who answers there. How old it is is told.

An answer can be wrong, too. So the address that worked last is remembered beside the answers, and given along with one
that has it not: whoever connects may come back to it where those of the answer do not work.

A literal address is no name: it is answered at once, without a thread.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import socket
import threading
import time
from typing import Any, NamedTuple

# How long a look-up may take before the kept answer is used in its place (s): a healthy one takes milliseconds, glibc
# asks again only after 5 s where a datagram was lost, and all that is sent meanwhile is missed
PATIENCE = 1.0
# How long to wait where no answer is kept (s): glibc asks twice, 5 s each, or each of two name servers once
TIMEOUT = 10.0
# How long an address that worked may be connected to although the name server does not give it any more (s): where TLS
# proves who answers there, and where the address may by then be somebody else's
_PROVED, _UNPROVED = 86_400.0, 300.0
# Hosts whose answers are kept; the oldest go first
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


class Worked(NamedTuple):
    """An address that has worked, and which the name server does not give any more.

    Attributes:
        address: it.
        ago: seconds since it worked.
        age: seconds since the name server gave it.

    """

    address: Address
    ago: float
    age: float


class Found(NamedTuple):
    """What a host's name stands for.

    Attributes:
        addresses: at least one, in the system's order.
        age: seconds since the name server gave this answer, where it is a kept one; else None.
        trouble: why a kept one had to do; None where it had not.
        news: whether it is the first kept one since the last look-up that was answered.
        worked: the address that worked last, where it is not one of them.

    """

    addresses: tuple[Address, ...]
    age: float | None = None
    trouble: str | None = None
    news: bool = False
    worked: Worked | None = None

    def fallback(self, *, proved: bool) -> Worked | None:
        """The address to come back to where none of these works; `proved` where a certificate says who is there."""
        most = _PROVED if proved else _UNPROVED
        return self.worked if self.worked is not None and self.worked.ago < most else None


class NoAnswerError(socket.gaierror):
    """The name server did not answer in time."""


class _Trouble(NamedTuple):
    """What `getaddrinfo` raised."""

    number: int
    words: str


# what a look-up comes to; the addresses are without a port
_Outcome = tuple[Address, ...] | _Trouble


class _LookUp:
    """One call of `getaddrinfo` that is under way."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.outcome: concurrent.futures.Future[_Outcome] = concurrent.futures.Future()
        # whoever leaves must not take it from the others
        self.outcome.set_running_or_notify_cancel()


class Resolver:
    """Resolves names for any number of threads and event loops."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[str, _LookUp] = {}
        self._kept: dict[str, tuple[tuple[Address, ...], float]] = {}
        # by host, the address that worked last, without a port; when it worked, and when the name server gave it
        self._worked: dict[str, tuple[Address, float, float]] = {}
        # hosts of which a kept answer was given since the last look-up that was answered
        self._troubled: set[str] = set()

    async def resolve(self, host: str, port: int, *, timeout: float | None = TIMEOUT) -> Found:
        """The addresses of `host`, whose waiting can be cancelled.

        Args:
            host: a name, or an address, also in brackets and with a scope.
            port: put into the addresses.
            timeout: seconds to wait for the name server; None for as long as it takes.

        Raises:
            NoAnswerError: it did not answer, and no earlier answer is kept.
            socket.gaierror: there is no such host, and there never was.

        """
        if (literal := _literal(host, port)) is not None:
            return literal
        look_up = self._begin(host)
        waiting = asyncio.wrap_future(look_up.outcome)
        wait = self._patience(host, look_up, timeout)
        try:
            await asyncio.wait((waiting,), timeout=wait)
        finally:
            waiting.cancel()
        return self._conclude(host, port, look_up)

    def resolve_blocking(self, host: str, port: int, *, timeout: float | None = TIMEOUT) -> Found:
        """As `resolve`, for threads without a loop."""
        if (literal := _literal(host, port)) is not None:
            return literal
        look_up = self._begin(host)
        concurrent.futures.wait((look_up.outcome,), self._patience(host, look_up, timeout))
        return self._conclude(host, port, look_up)

    def worked(self, host: str, address: Address) -> None:
        """An address of `host` has brought what was asked for; it is forgotten where `host` is no name."""
        bare = _at_port(address, 0)
        moment = time.monotonic()
        with self._lock:
            addresses, since = self._kept.get(host, ((), 0.0))
            before = self._worked.get(host)
            if bare in addresses:
                self._worked[host] = bare, moment, since
            elif before is not None and before[0] == bare:
                self._worked[host] = before[0], moment, before[2]

    def _begin(self, host: str) -> _LookUp:
        """The look-up of `host` that is under way, or a new one."""
        with self._lock:
            look_up = self._running.get(host)
            if look_up is not None:
                return look_up
            look_up = self._running[host] = _LookUp()
        thread = threading.Thread(target=self._run, args=(host, look_up), name=f"look-up of {host}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:
            # no thread is to be had now
            self._finish(host, look_up, _Trouble(socket.EAI_SYSTEM, str(error)))
        return look_up

    def _run(self, host: str, look_up: _LookUp) -> None:
        outcome: _Outcome
        try:
            found = _addresses(socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM))
            outcome = found or _Trouble(socket.EAI_NONAME, "the host has no address")
        except socket.gaierror as error:
            outcome = _Trouble(error.errno or socket.EAI_FAIL, error.strerror or str(error))
        except UnicodeError:
            outcome = _Trouble(socket.EAI_NONAME, "no host has such a name")
        except Exception as error:  # noqa: BLE001 (told to whoever waits)
            outcome = _Trouble(socket.EAI_SYSTEM, str(error) or type(error).__name__)
        self._finish(host, look_up, outcome)

    def _finish(self, host: str, look_up: _LookUp, outcome: _Outcome) -> None:
        with self._lock:
            del self._running[host]
            if not isinstance(outcome, _Trouble):
                self._kept.pop(host, None)
                self._kept[host] = outcome, time.monotonic()
                self._troubled.discard(host)
                if len(self._kept) > _KEPT_MOST:
                    oldest = next(iter(self._kept))
                    del self._kept[oldest]
                    self._worked.pop(oldest, None)
        look_up.outcome.set_result(outcome)

    def _patience(self, host: str, look_up: _LookUp, timeout: float | None) -> float | None:
        """Seconds to wait for this look-up."""
        if host not in self._kept:
            return timeout
        # all who ask while it hangs need not wait anew
        left = max(look_up.began + PATIENCE - time.monotonic(), 0.0)
        return left if timeout is None else min(left, timeout)

    def _conclude(self, host: str, port: int, look_up: _LookUp) -> Found:
        """What has come of a look-up by now."""
        # without a name: an exception in a local of the frame that raises it is a cycle
        kind: type[socket.gaierror] = socket.gaierror
        if look_up.outcome.done():
            outcome = look_up.outcome.result()
            if not isinstance(outcome, _Trouble):
                return Found(_with_port(outcome, port), worked=self._besides(host, port, outcome))
            number, words = outcome
        else:
            waited = time.monotonic() - look_up.began
            kind, number, words = (
                NoAnswerError,
                socket.EAI_AGAIN,
                f"the name server has not answered for {waited:.1f} s",
            )
        with self._lock:
            kept = self._kept.get(host)
            if kept is None:
                raise kind(number, words)
            news = host not in self._troubled
            self._troubled.add(host)
        addresses, since = kept
        besides = self._besides(host, port, addresses)
        return Found(_with_port(addresses, port), time.monotonic() - since, words, news, besides)

    def _besides(self, host: str, port: int, addresses: tuple[Address, ...]) -> Worked | None:
        """The address that worked last, where it is not one of these."""
        address, at, since = self._worked.get(host, (None, 0.0, 0.0))
        if address is None or address in addresses:
            return None
        moment = time.monotonic()
        return Worked(_at_port(address, port), moment - at, moment - since)


def _literal(host: str, port: int) -> Found | None:
    """The address that `host` is; None where it is a name."""
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
    """Those that TCP can connect to, each once."""
    families = socket.AF_INET, socket.AF_INET6
    return tuple(dict.fromkeys(Address(int(family), tuple(at)) for family, _, _, _, at in found if family in families))


def _with_port(addresses: tuple[Address, ...], port: int) -> tuple[Address, ...]:
    return tuple(_at_port(one, port) for one in addresses)


def _at_port(address: Address, port: int) -> Address:
    return Address(address.family, (address.sockaddr[0], port, *address.sockaddr[2:]))


RESOLVER = Resolver()
"""The one of this process: what it knows is shared by all that connects."""
