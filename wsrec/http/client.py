"""The HTTP client: one request, TLS-verified, bounded in time and size, cancellable.

urllib3 speaks HTTP (`transfer`). It has no limit on the total time of a request: each of its timeouts is per read, and
a server that sends a byte now and then holds a client for ever. So each request runs in a daemon thread outside any
executor, which neither the interpreter nor the event loop waits for at exit. The caller waits until the deadline. Then,
or when the caller is cancelled, the request's socket is shut down: whatever the thread is doing fails, and it ends.
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
    """Send a request and return the body of the answer. Ctrl-C ends it at once.

    Args:
        url: `https://`, or `http://` if nothing in the request is secret.
        context: verifies certificates and host names. ALPN `http/1.1` is set on it.
        limit: largest body in bytes, after decompression.
        timeout: seconds for the whole request: look-up, connecting, TLS, and the answer to its last byte.
        method: `GET` or `POST`.
        body: JSON to send.
        redirects: how many to follow, all to the same scheme, host and port.
        connect: makes the socket.

    Raises:
        HttpError: there is no usable answer.

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
    """`fetch` without blocking the event loop. Cancelling it ends the request at once.

    Raises:
        HttpError: there is no usable answer.

    """
    request = _Request(url, context, limit, timeout, method, body, redirects, connect)
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def notify() -> None:
        # the loop may be closed by now
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(done.set)

    try:
        request.start(notify)
        with suppress(TimeoutError):
            async with asyncio.timeout(request.attempt.left()):
                await done.wait()
        return request.result()
    finally:
        request.attempt.end()


def prepare() -> None:
    """Import what requests need (a tenth of a second) before the time-critical work begins."""
    import wsrec.http.transfer  # noqa: F401


def host_of(url: str) -> str:
    """The host of a URL as errors name it: with the port, unless it is the scheme's default.

    Raises:
        HttpError: not the URL of an HTTP server.

    """
    try:
        parts = urlsplit(url)
        name, port = parts.hostname, parts.port
    except ValueError:
        name = port = None
    if not name or parts.scheme not in _SCHEMES:
        raise HttpError("", "not the URL of an HTTP server", "answer")
    name = f"[{name}]" if ":" in name else name
    return name if port in (None, DEFAULT_PORTS[parts.scheme]) else f"{name}:{port}"


class _Request:
    """One request, running in a thread of its own."""

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

    def start(self, notify: Callable[[], None]) -> None:
        """Start; `notify` is called in the request's thread once there is a result."""
        thread = threading.Thread(target=self._run, args=(notify,), name=f"request to {self.attempt.host}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            raise self.attempt.error(
                ": the request could not start: the system refuses another thread", "unreachable"
            ) from None

    def result(self) -> bytes:
        """The body; raises the error, or a timeout error if there is no result yet."""
        found = self.attempt.expired() if self._found is None else self._found
        if isinstance(found, bytes):
            self.attempt.learn(good=True)
            return found
        if found.cause != "limited":
            self.attempt.learn(good=False)
        raise found

    def _run(self, notify: Callable[[], None]) -> None:
        try:
            # imported late: most commands send no request, and urllib3 takes longer to load than they take to start
            from wsrec.http.transfer import Transfer

            self._found = Transfer(self.attempt, *self._arguments).run()
        except HttpError as error:
            self._found = error
        finally:
            self.attempt.end()
            notify()
