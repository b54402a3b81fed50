"""HTTP request and answer by urllib3, with total size limits and every read bounded by the time left."""

from __future__ import annotations

import functools
import http.client
import io
import socket
import ssl
import zlib
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import SplitResult, quote, urljoin, urlsplit

import urllib3.exceptions
from urllib3.connection import HTTPConnection, HTTPSConnection

from wsrec.http.attempt import Attempt, Connect, HttpError
from wsrec.net.ports import DEFAULT_PORTS
from wsrec.net.retry import LIMITED, retry_after
from wsrec.version import __version__

_PIECE = 64 << 10
# for all lines of an answer together: heads, trailers, and chunk-size lines beyond `_CHUNK_LINE` bytes each
_LINES_MAX = 64 << 10
_CHUNK_LINE = 32
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# statuses whose body is the answer
_SUCCESS = frozenset({200, 201, 203})
# left unquoted in paths and queries
_URL_CHARACTERS = "%/:=&?~#+!$,;'@()*[]"


class Transfer:
    """One request and its answer, in the thread that runs it. Arguments as in `client.fetch`."""

    def __init__(
        self,
        attempt: Attempt,
        url: str,
        context: ssl.SSLContext,
        limit: int,
        method: str,
        body: bytes | None,
        redirects: int,
        connect: Connect,
    ) -> None:
        self._attempt = attempt
        self._url = urlsplit(url)
        self._context = context
        self._limit = limit
        self._method = method
        self._body = body
        self._redirects = redirects
        self._connect = connect

    def run(self) -> bytes:
        """The body of the answer.

        Raises:
            HttpError: there is no usable answer.

        """
        try:
            return self._follow()
        except HttpError:
            raise
        except Exception as error:  # noqa: BLE001 (a hostile answer can raise anything)
            raise self._translate(error) from None

    def _follow(self) -> bytes:
        url = self._url
        for _ in range(self._redirects + 1):
            found = self._request(url)
            if isinstance(found, bytes):
                return found
            url = urlsplit(urljoin(url.geturl(), found))
            if url[:2] != self._url[:2]:
                raise self._attempt.error(" redirects to another host, which is not followed", "http")
        raise self._attempt.error(" has too many redirects", "http")

    def _request(self, url: SplitResult) -> bytes | str:
        """The body, or the location of a redirect."""
        attempt = self._attempt
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
                if response.status in _REDIRECTS and not self._redirects:
                    text = f" answered HTTP {response.status}, a redirect, which is not followed"
                    raise attempt.error(text, "http", response.status)
                if response.status in _REDIRECTS:
                    return str(response.headers.get("Location", ""))
                if response.status not in _SUCCESS:
                    raise self._refused(response.status, response.headers.get("Retry-After"))
                return self._read(response)
        finally:
            connection.close()

    def _connection(self, url: SplitResult) -> HTTPConnection:
        host = url.hostname or ""
        secure = url.scheme == "https"
        port = url.port or DEFAULT_PORTS[url.scheme]
        new_socket = functools.partial(self._connect, host, port, self._attempt)
        connection = (
            _Https(host, port, self._attempt, new_socket, ssl_context=self._context)
            if secure
            else _Http(host, port, self._attempt, new_socket)
        )
        # undocumented, but there since Python 2: the factory that makes a response from a socket
        connection.response_class = cast(Any, functools.partial(_Answer, self._attempt))
        return connection

    def _read(self, response: urllib3.HTTPResponse) -> bytes:
        announced = response.headers.get("Content-Length", "")
        if announced.isdecimal() and int(announced[:20]) > self._limit:
            raise self._too_large()
        unpacker = self._unpacker(response.headers.get("Content-Encoding", ""))
        data, received = bytearray(), 0
        self._attempt.late = "sent nothing of its answer's body"
        while piece := response.read1(_PIECE, decode_content=False):
            received += len(piece)
            # also when nothing decompresses from it, or when it lies behind the end of the compressed stream
            if received > self._limit:
                raise self._too_large()
            self._attempt.late = f"sent {received} bytes of its answer's body, and not the rest,"
            # decompress no more than it takes to see that the limit is exceeded
            data += piece if unpacker is None else unpacker.decompress(piece, self._limit - len(data) + 1)
            if len(data) > self._limit:
                raise self._too_large()
        if unpacker is not None and not unpacker.eof:
            raise self._cut_short()
        return bytes(data)

    def _unpacker(self, coding: str) -> Any:
        """The decompressor of the body; None for an uncompressed one. Some servers compress without being asked."""
        coding = coding.strip().lower()
        if coding in ("", "identity"):
            return None
        if coding not in ("gzip", "x-gzip", "deflate"):
            raise self._attempt.error(" compressed its answer in an unsupported way", "answer")
        # detects gzip and zlib headers
        return zlib.decompressobj(zlib.MAX_WBITS | 32)

    def _refused(self, status: int, later: str | None) -> HttpError:
        cause = "limited" if status in LIMITED else "http"
        words = http.client.responses.get(status, "")
        return self._attempt.error(f" answered HTTP {status} {words}".rstrip(), cause, status, retry_after(later))

    def _too_large(self) -> HttpError:
        limit = f"{self._limit >> 20} MiB" if self._limit >= 1 << 20 else f"{self._limit} bytes"
        return self._attempt.error(f" answered more than {limit}", "answer")

    def _cut_short(self) -> HttpError:
        return self._attempt.error(" closed the connection in the middle of its answer", "lost")

    def _translate(self, error: BaseException) -> HttpError:
        """Translate any other error; its own text may contain the URL."""
        failure, way = self._attempt.error, ""
        if (proxy := self._attempt.through) is not None:
            way = f", through the proxy {proxy.public}, which may answer in the host's place: {proxy.source}"
        match error:
            case TimeoutError() | urllib3.exceptions.TimeoutError():
                return self._attempt.expired()
            case ssl.SSLCertVerificationError():
                return failure(f": certificate not verified: {error.verify_message}", "certificate")
            case ssl.SSLError():
                return failure(f": TLS failed: {error.reason or 'the server does not speak TLS'}{way}", "tls")
            case socket.gaierror():
                return failure(f" cannot be resolved: {error.strerror}", "dns")
            case ConnectionRefusedError():
                return failure(" refused the connection", "refused")
            case http.client.RemoteDisconnected():
                return failure(" closed the connection without an answer", "lost")
            case http.client.IncompleteRead():
                return self._cut_short()
            case ConnectionError():
                return failure(f" ended the connection: {error.strerror or 'closed'}", "lost")
            case OSError():
                return failure(f" cannot be reached: {error.strerror or type(error).__name__}", "unreachable")
            case urllib3.exceptions.HTTPError() if error.__context__ is not None:
                # urllib3's wrapping of one of the others
                return self._translate(error.__context__)
            case http.client.HTTPException() | urllib3.exceptions.HTTPError() | zlib.error():
                return failure(f" sent an answer that is not valid HTTP ({type(error).__name__}){way}", "answer")
            case _:
                return failure(f": the request failed ({type(error).__name__})", "answer")


class _Http(HTTPConnection):
    """A connection on a socket made by `Connect`."""

    def __init__(
        self, host: str, port: int, attempt: Attempt, new_socket: Callable[[], socket.socket], **options: Any
    ) -> None:
        super().__init__(host, port, **options)
        self._attempt = attempt
        self._new_socket = new_socket

    def _new_conn(self) -> socket.socket:
        sock = self._new_socket()
        self._attempt.late = "did not finish the TLS handshake"
        try:
            # Python counts a handshake as one read
            sock.settimeout(self._attempt.left())
        except BaseException:
            sock.close()
            raise
        return sock


class _Https(_Http, HTTPSConnection):
    """The same with TLS."""


class _Answer(http.client.HTTPResponse):
    """A response read within the deadline, skipping informational ones (RFC 9110 section 15.2)."""

    def __init__(self, attempt: Attempt, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self._timed = _Timed(cast(socket.SocketIO, self.fp.detach()), sock, attempt)
        self.fp = _Lines(self._timed, attempt)

    def begin(self) -> None:
        super().begin()
        self._timed.in_head = False

    def _read_status(self) -> tuple[str, int, str]:
        # called by `begin`, which skips 100 but would take 103 for the final answer
        while True:
            found: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
            if not HTTPStatus.CONTINUE <= found[1] < HTTPStatus.OK:
                return found
            while self.fp.readline() not in (b"\r\n", b"\n", b""):
                pass


class _Lines(io.BufferedReader):
    """Reads lines within a total limit; the first line after a piece of the body is a chunk-size line."""

    def __init__(self, raw: _Timed, attempt: Attempt) -> None:
        super().__init__(raw)
        self._attempt = attempt
        self._left = _LINES_MAX
        self._free = 0

    def read1(self, size: int = -1) -> bytes:
        self._free = _CHUNK_LINE
        return super().read1(size)

    def readline(self, size: int | None = -1) -> bytes:
        most = self._left + self._free + 1
        line = super().readline(most if size is None or size < 0 else min(size, most))
        self._left -= max(len(line) - self._free, 0)
        self._free = 0
        if self._left < 0:
            text = f" answered with more than {_LINES_MAX >> 10} KiB of headers, trailers and chunk sizes"
            raise self._attempt.error(text, "answer")
        return line


class _Timed(io.RawIOBase):
    """The bytes of a socket; each read is limited to the time left, and the bytes of the head are counted."""

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
