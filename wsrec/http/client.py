"""One request over HTTP, asked with care: verified, bounded in time and size, and ended by nobody but us.

urllib3 speaks HTTP. What it does not have is a limit of the time that all of a request may take: each of its timeouts
holds for one read, and a server that sends a byte now and then keeps a client for ever. So each request has a thread of
its own, one of no executor: neither the interpreter nor the event loop waits for it when it ends. The caller waits
until the deadline. Then, or where the caller is cancelled, the request's socket is shut down: whatever the thread is
doing fails, and it ends.

A socket comes from one place, `Connect`. It is watched from before it connects, as a second descriptor of the same
socket: shutting that down ends the connection whatever has become of the first (TLS takes it over).

Errors name the host that was asked, and nothing of path, query, headers or body: these may be secret.
"""

from __future__ import annotations

import asyncio
import functools
import http.client
import io
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import SplitResult, quote, urljoin, urlsplit

import urllib3.exceptions
from urllib3.connection import HTTPConnection, HTTPSConnection

from wsrec import __version__
from wsrec.http.retry import LIMITED, retry_after

_PIECE = 64 << 10
_LINE_MAX = 64 << 10
_HEADS_MAX = 100
_PORTS = {"https": 443, "http": 80}
_MOVED = frozenset({301, 302, 303, 307, 308})
# those whose body is what was asked for
_GIVEN = frozenset({200, 201, 203})
# what stays as it is in a path and a query
_URL_CHARACTERS = "%/:=&?~#+!$,;'@()*[]"


class HttpError(Exception):
    """No answer that can be used. The text names the host, and holds nothing of what was sent or answered.

    Attributes:
        host: who was asked, with the port where it is not the scheme's own.
        cause: `dns`, `refused`, `unreachable`, `timeout`, `certificate`, `tls`, `lost`, `limited` (HTTP 418 and 429),
            `http` (any other status) or `answer` (one that cannot be taken).
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

    """

    def __init__(self, host: str, timeout: float) -> None:
        self.host = host
        self.late = "did not answer"
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

    def end(self) -> None:
        """Shut down its sockets; whatever is under way on them fails."""
        with self._lock:
            self._ended = True
            watched, self._watched = self._watched, []
        for sock in watched:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def expired(self) -> HttpError:
        """The error that says how far it came until the deadline."""
        return HttpError(self.host, f" {self.late} within {self._timeout:g} s", "timeout")


Connect = Callable[[str, int, Attempt], socket.socket]
"""Makes a connected socket to a host and a port: says in `Attempt.late` what it is at, has each of its sockets watched
(`Attempt.watch`) before it connects, and takes no longer than `Attempt.left`.

Raises:
    HttpError: with the words that shall be read.
    OSError: what prevented it.
"""


def direct(host: str, port: int, attempt: Attempt) -> socket.socket:
    """A connection to the host itself: its addresses one after the other, each with its share of the time."""
    attempt.late = "was not found by the name look-up"
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    attempt.late = "did not accept the connection"
    for left, (family, kind, protocol, _, address) in zip(reversed(range(len(addresses))), addresses, strict=True):
        sock = socket.socket(family, kind, protocol)
        try:
            attempt.watch(sock)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(attempt.left() / (left + 1))
            sock.connect(address)
        except OSError:
            sock.close()
            if not left:
                raise
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise OSError("the host has no address")


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
        context: verifies certificates and host names. urllib3 offers `http/1.1` with it (ALPN).
        limit: bytes that the answer may have, once unpacked.
        timeout: seconds that all of it may take: look-up, connecting, TLS, and the answer to its last byte.
        method: `GET` or `POST`.
        body: JSON to send.
        redirects: how many may be followed, all on the same scheme, host and port.
        connect: where a socket comes from.

    Raises:
        HttpError: there is no such answer.

    """
    request = _Request(url, context, method, body, limit, timeout, redirects, connect)
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
    request = _Request(url, context, method, body, limit, timeout, redirects, connect)
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


class _Request:
    """One request, in a thread of its own."""

    def __init__(
        self,
        url: str,
        context: ssl.SSLContext,
        method: str,
        body: bytes | None,
        limit: int,
        timeout: float,
        redirects: int,
        connect: Connect,
    ) -> None:
        self._url = urlsplit(url)
        if self._url.scheme not in _PORTS or not self._url.hostname:
            raise HttpError("", "no address of an HTTP server", "answer")
        self.attempt = Attempt(_host_of(self._url), timeout)
        self._context = context
        self._method = method
        self._body = body
        self._limit = limit
        self._redirects = redirects
        self._connect = connect
        self._found: bytes | HttpError | None = None

    def start(self, tell: Callable[[], None]) -> None:
        """Begin; `tell` is called in the thread, once there is a result."""
        thread = threading.Thread(target=self._run, args=(tell,), name=f"request to {self.attempt.host}", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            raise self._error(" was not asked: there can be no more threads", "unreachable") from None

    def result(self) -> bytes:
        """What has come of it by now."""
        if isinstance(self._found, HttpError):
            raise self._found
        if self._found is None:
            raise self.attempt.expired()
        return self._found

    def _run(self, tell: Callable[[], None]) -> None:
        try:
            self._found = self._follow()
        except HttpError as error:
            self._found = error
        except Exception as error:  # noqa: BLE001 (a thread has nobody to raise to)
            self._found = self._explain(error)
        finally:
            self.attempt.end()
            tell()

    def _follow(self) -> bytes:
        url = self._url
        for _ in range(self._redirects + 1):
            found = self._ask(url)
            if isinstance(found, bytes):
                return found
            if not self._redirects:
                break
            url = urlsplit(urljoin(url.geturl(), found))
            if url[:2] != self._url[:2]:
                raise self._error(" moved it to another host, which is not followed", "http")
        else:
            raise self._error(" has too many redirects", "http")
        raise self._error(" answered with a redirect, which is not followed", "http")

    def _ask(self, url: SplitResult) -> bytes | str:
        """The body, or where it has moved to."""
        attempt = self.attempt
        connection = self._connection(url)
        try:
            connection.connect()
            attempt.late = "did not take the request"
            connection.timeout = attempt.left()
            path = quote(f"{url.path or '/'}{'?' if url.query else ''}{url.query}", safe=_URL_CHARACTERS)
            headers = {"User-Agent": f"wsrec/{__version__}", "Accept": "application/json"}
            if self._body is not None:
                headers["Content-Type"] = "application/json"
            connection.request(self._method, path, self._body, headers, preload_content=False, decode_content=False)
            attempt.late = "did not answer"
            connection.timeout = attempt.left()
            with connection.getresponse() as response:
                if response.status in _MOVED:
                    return str(response.headers.get("Location", ""))
                if response.status not in _GIVEN:
                    raise self._refused(response.status, response.headers.get("Retry-After"))
                return self._read(response)
        finally:
            connection.close()

    def _connection(self, url: SplitResult) -> HTTPConnection:
        attempt, connect = self.attempt, self._connect
        host, port = url.hostname or "", url.port or _PORTS[url.scheme]
        connection: HTTPConnection = (
            _Https(host, port, ssl_context=self._context) if url.scheme == "https" else _Http(host, port)
        )
        connection.new_socket = functools.partial(connect, host, port, attempt)  # type: ignore[attr-defined]
        connection.attempt = attempt  # type: ignore[attr-defined]
        # undocumented, and there since Python 2: what makes an answer of a socket
        connection.response_class = cast(Any, functools.partial(_Answer, attempt))
        return connection

    def _read(self, response: urllib3.BaseHTTPResponse) -> bytes:
        attempt = self.attempt
        announced = response.headers.get("Content-Length", "")
        if announced.isdecimal() and int(announced[:20]) > self._limit:
            raise self._too_large()
        unpacker = self._unpacker(response.headers.get("Content-Encoding", ""))
        data, received = bytearray(), 0
        attempt.late = "sent nothing of its answer's body"
        while piece := cast(urllib3.HTTPResponse, response).read1(_PIECE, decode_content=False):
            received += len(piece)
            attempt.late = f"sent {received} bytes of its answer's body, and not the rest,"
            # no more is unpacked than shows that it is too much
            data += piece if unpacker is None else unpacker.decompress(piece, self._limit - len(data) + 1)
            if len(data) > self._limit:
                raise self._too_large()
        if unpacker is not None and not unpacker.eof:
            raise self._error(" closed the connection in the middle of its answer", "lost")
        return bytes(data)

    def _unpacker(self, coding: str) -> Any:
        """What unpacks the body: None where nothing is to be done, as we ask for. Some servers pack all the same."""
        coding = coding.strip().lower()
        if coding in ("", "identity"):
            return None
        if coding not in ("gzip", "x-gzip", "deflate"):
            raise self._error(" packed its answer in a way that it was not asked for", "answer")
        # finds out whether it is in gzip's form or zlib's
        return zlib.decompressobj(zlib.MAX_WBITS | 32)

    def _refused(self, status: int, later: str | None) -> HttpError:
        cause = "limited" if status in LIMITED else "http"
        words = http.client.responses.get(status, "")
        return self._error(f" answered HTTP {status} {words}".rstrip(), cause, status, retry_after(later))

    def _too_large(self) -> HttpError:
        limit = f"{self._limit >> 20} MiB" if self._limit >= 1 << 20 else f"{self._limit >> 10} KiB"
        return self._error(f" answered more than {limit}", "answer")

    def _error(self, text: str, cause: str, status: int | None = None, later: float | None = None) -> HttpError:
        return HttpError(self.attempt.host, text, cause, status, later)

    def _explain(self, error: BaseException) -> HttpError:
        """What other errors mean; their own words may have the address in them."""
        match error:
            case TimeoutError() | urllib3.exceptions.TimeoutError():
                return self.attempt.expired()
            case ssl.SSLCertVerificationError():
                return self._error(f": certificate not verified: {error.verify_message}", "certificate")
            case ssl.SSLError():
                return self._error(f": TLS failed: {error.reason or 'no TLS is spoken there'}", "tls")
            case socket.gaierror():
                return self._error(f" cannot be resolved: {error.strerror}", "dns")
            case ConnectionRefusedError():
                return self._error(" refused the connection", "refused")
            case http.client.RemoteDisconnected():
                return self._error(" closed the connection without an answer", "lost")
            case http.client.IncompleteRead() | urllib3.exceptions.IncompleteRead():
                return self._error(" closed the connection in the middle of its answer", "lost")
            case ConnectionError():
                return self._error(f" ended the connection: {error.strerror or 'closed'}", "lost")
            case OSError():
                return self._error(f" cannot be reached: {error.strerror or type(error).__name__}", "unreachable")
            case urllib3.exceptions.ProtocolError() | urllib3.exceptions.SSLError() if error.__context__ is not None:
                return self._explain(error.__context__)
            case http.client.HTTPException() | urllib3.exceptions.HTTPError() | zlib.error():
                return self._error(f" answered what is no HTTP ({type(error).__name__})", "answer")
            case _:
                return self._error(f": the request failed ({type(error).__name__})", "answer")


class _Made:
    """The part of a connection that both kinds share: its socket is made by `Connect`."""

    new_socket: Callable[[], socket.socket]
    attempt: Attempt

    def _new_conn(self) -> socket.socket:
        sock = self.new_socket()
        self.attempt.late = "did not finish the TLS handshake"
        try:
            # what TLS takes in all, as Python counts it
            sock.settimeout(self.attempt.left())
        except BaseException:
            sock.close()
            raise
        return sock


class _Http(_Made, HTTPConnection):
    pass


class _Https(_Made, HTTPSConnection):
    pass


class _Answer(http.client.HTTPResponse):
    """An answer that comes within the time, behind any number of those that only announce it (RFC 9110 15.2)."""

    def __init__(self, attempt: Attempt, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self._timed = _Timed(cast(socket.SocketIO, self.fp.detach()), sock, attempt)
        self.fp = _Lines(self._timed)

    def begin(self) -> None:
        super().begin()
        self._timed.in_head = False

    def _read_status(self) -> tuple[str, int, str]:
        # what `begin` reads a status line with: it takes 103 for the answer itself
        for _ in range(_HEADS_MAX):
            found: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
            if not HTTPStatus.CONTINUE <= found[1] < HTTPStatus.OK:
                return found
            while self.fp.readline() not in (b"\r\n", b"\n", b""):
                pass
        raise http.client.HTTPException("nothing but answers that announce one")


class _Lines(io.BufferedReader):
    """Reads no line further than shows that it is too long."""

    def readline(self, size: int | None = -1) -> bytes:
        return super().readline(_LINE_MAX + 1 if size is None or size < 0 else size)


class _Timed(io.RawIOBase):
    """The bytes of a socket, each read no longer than the request may take; those of the head are counted."""

    def __init__(self, raw: socket.SocketIO, sock: socket.socket, attempt: Attempt) -> None:
        self._raw = raw
        self._sock = sock
        self._attempt = attempt
        self._received = 0
        self.in_head = True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._attempt.left())
        count = self._raw.readinto(buffer)
        self._received += count or 0
        if self.in_head:
            self._attempt.late = f"sent {self._received} bytes of its answer's head, and not the rest,"
        return count

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


def _host_of(url: SplitResult) -> str:
    """The host as errors name it."""
    name = url.hostname or ""
    name = f"[{name}]" if ":" in name else name
    try:
        port = url.port
    except ValueError:
        port = None
    return name if port in (None, _PORTS.get(url.scheme)) else f"{name}:{port}"
