"""A server on loopback that answers up to a point, and from there on says nothing more, or a little now and then."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from contextlib import suppress

import trustme

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"

POINTS: dict[str, tuple[bytes, bytes, str]] = {
    "status line": (b"HTTP/1.1 2", b"0", "bytes of its answer's head"),
    "header": (HEAD + b"X-Long: ", b"x", "bytes of its answer's head"),
    "headers without end": (HEAD, b"X: y\r\n", "bytes of its answer's head"),
    "100 Continue": (b"", b"HTTP/1.1 100 Continue\r\n\r\n", "bytes of its answer's head"),
    "103 Early Hints": (b"HTTP/1.1 103 Early Hints\r\n", b"Link: </x>\r\n", "bytes of its answer's head"),
    "chunk size": (CHUNKED, b"0", "nothing of its answer's body"),
    "chunk": (CHUNKED + b"ffff\r\n", b"x", "bytes of its answer's body"),
    "trailers": (CHUNKED + b"3\r\n[1]\r\n0\r\n", b"X: y\r\n", "sent 3 bytes of its answer's body"),
    "body with a length": (HEAD + b"Content-Length: 5000\r\n\r\n", b"x", "bytes of its answer's body"),
    "body until it closes": (HEAD + b"\r\n", b"x", "bytes of its answer's body"),
}
"""By name: data sent at once, data sent from time to time, and the text of the error."""


class Drip:
    """Serves each connection alike.

    Args:
        at_once: sent once the request has arrived.
        drip: sent repeatedly after it; nothing if empty.
        authority: without it there is no TLS: the data is sent upon the connection.
        every: seconds between.
        at: address and port, 0 for a free one.
        good: the whole answer that requests get from number `after` on, the first being 0.

    Attributes:
        port: where it is.
        requested: the request lines.
        left: how many clients have gone.

    """

    def __init__(
        self,
        at_once: bytes,
        drip: bytes = b"",
        *,
        authority: trustme.CA | None = None,
        every: float = 0.03,
        good: bytes = b"",
        after: int = 1 << 30,
        at: tuple[str, int] = ("127.0.0.1", 0),
    ) -> None:
        self._script = at_once, drip
        self._good, self._after = good, after
        self._every = every
        self._context: ssl.SSLContext | None = None
        if authority is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert("localhost").configure_cert(self._context)
        self._listening = socket.create_server(at)
        self.port = self._listening.getsockname()[1]
        self.requested: list[str] = []
        self.left = 0
        self._stopping = False
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/secret-path?secret=query"

    def stop(self) -> None:
        self._stopping = True
        self._listening.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                self._threads.append(threading.Thread(target=self._serve, args=(client,), daemon=True))
                self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        at_once, drip = self._script
        client.settimeout(5)
        with suppress(OSError), client:
            if self._context is not None:
                client = self._context.wrap_socket(client, server_side=True)
                self.requested.append(client.recv(4096).partition(b"\r\n")[0].decode())
            with client:
                if len(self.requested) > self._after:
                    at_once, drip = self._good, b""
                client.sendall(at_once)
                client.settimeout(self._every)
                while not self._stopping:
                    if drip:
                        client.sendall(drip)
                    with suppress(TimeoutError):
                        # a client of TLS leaves with a word or with none
                        if not client.recv(4096):
                            break
                        time.sleep(self._every)
        self.left += 1
