"""One request over HTTP, asked with care: verified, bounded in time and size, and ended by nobody but us.

urllib3 speaks HTTP (`transfer`). What it does not have is a limit of the time that all of a request may take: each of
its timeouts holds for one read, and a server that sends a byte now and then keeps a client for ever. So each request
has a thread of its own, one of no executor: neither the interpreter nor the event loop waits for it when it ends. The
caller waits until the deadline. Then, or where the caller is cancelled, the request's socket is shut down: whatever the
thread is doing fails, and it ends.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

from wsrec.http.attempt import Attempt, Connect, HttpError, direct
from wsrec.net.ports import DEFAULT_PORTS

_SCHEMES = frozenset({"http", "https"})


def fetch(
    url: str,
    *,
    context: ssl.SSLContext,
    limit: int,
    timeout: float,
    method: str = "GET",
    body: bytes | None = None,
    redirects: int = 0,
    connect: Connect = direct,
) -> bytes:
    """The body of the answer to a request. Ctrl-C ends it at once.

    Args:
        url: `https://`, or `http://` where nothing secret is asked for.
        context: verifies certificates and host names. `http/1.1` is offered with it from then on (ALPN).
        limit: bytes that the answer may have, once unpacked.
        timeout: seconds that all of it may take: look-up, connecting, TLS, and the answer to its last byte.
        method: `GET` or `POST`.
        body: JSON to send.
        redirects: how many may be followed, all on the same scheme, host and port.
        connect: where a socket comes from.

    Raises:
        HttpError: there is no such answer.

    """
    request = _Request(url, context, limit, timeout, method, body, redirects, connect)
    done = threading.Event()
    try:
        request.start(done.set)
        with suppress(TimeoutError):
            done.wait(request.attempt.left())
        return request.result()
    finally:
        request.attempt.end()


async def fetch_async(
    url: str,
    *,
    context: ssl.SSLContext,
    limit: int,
    timeout: float,
    method: str = "GET",
    body: bytes | None = None,
    redirects: int = 0,
    connect: Connect = direct,
) -> bytes:
    """`fetch`, while the event loop goes on. Cancelling it ends the request at once.

    Raises:
        HttpError: there is no such answer.

    """
    request = _Request(url, context, limit, timeout, method, body, redirects, connect)
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def tell() -> None:
        # nobody waits on a loop that is closed
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(done.set)

    try:
        request.start(tell)
        with suppress(TimeoutError):
            async with asyncio.timeout(request.attempt.left()):
                await done.wait()
        return request.result()
    finally:
        request.attempt.end()


def prepare() -> None:
    """Load what requests need, which takes a tenth of a second, before that disturbs anything else."""
    import wsrec.http.transfer  # noqa: F401


def host_of(url: str) -> str:
    """The host of a URL as errors name it: with its port, where that is not the scheme's own.

    Raises:
        HttpError: it is no address of an HTTP server.

    """
    try:
        parts = urlsplit(url)
        name, port = parts.hostname, parts.port
    except ValueError:
        name = port = None
    if not name or parts.scheme not in _SCHEMES:
        raise HttpError("", "no address of an HTTP server", "answer")
    name = f"[{name}]" if ":" in name else name
    return name if port in (None, DEFAULT_PORTS[parts.scheme]) else f"{name}:{port}"


class _Request:
    """One request, in a thread of its own."""

    def __init__(
        self,
        url: str,
        context: ssl.SSLContext,
        limit: int,
        timeout: float,
        method: str,
        body: bytes | None,
        redirects: int,
        connect: Connect,
    ) -> None:
        self.attempt = Attempt(host_of(url), timeout)
        self._arguments = url, context, limit, method, body, redirects, connect
        self._found: bytes | HttpError | None = None

    def start(self, tell: Callable[[], None]) -> None:
        """Begin; `tell` is called in the thread, once there is a result."""
        thread = threading.Thread(target=self._run, args=(tell,), name=f"request to {self.attempt.host}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            raise self.attempt.error(" was not asked: there can be no more threads", "unreachable") from None

    def result(self) -> bytes:
        """What has come of it by now."""
        found = self.attempt.expired() if self._found is None else self._found
        if isinstance(found, bytes):
            self.attempt.learn(good=True)
            return found
        if found.cause != "limited":
            self.attempt.learn(good=False)
        raise found

    def _run(self, tell: Callable[[], None]) -> None:
        try:
            # only now: most commands ask nobody, and urllib3 takes longer to load than they to begin
            from wsrec.http.transfer import Transfer

            self._found = Transfer(self.attempt, *self._arguments).run()
        except HttpError as error:
            self._found = error
        finally:
            self.attempt.end()
            tell()
