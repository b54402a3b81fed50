"""The sender's side of a connection; over TLS it can encrypt ahead, so that all is ready before anything is sent.

Encrypting a record for each frame just before it is sent takes Python's `ssl` longer than a receiver takes to read it:
the sender would be measured.
"""

from __future__ import annotations

import socket
import ssl
from types import TracebackType
from typing import Self

_READ = 1 << 16


class Conversation:
    """A connection over tcp.

    Args:
        sock: the connected socket, blocking; closed with the context.

    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sock.close()

    def receive(self) -> bytes:
        """What the client sent; empty at the connection's end.

        Raises:
            OSError: the connection failed.

        """
        return self.sock.recv(_READ)

    def on_the_wire(self, data: bytes | memoryview) -> bytes | memoryview:
        """The bytes that are to be sent for `data`, in the order of calls."""
        return data

    def send(self, data: bytes | memoryview) -> None:
        """Send `data`.

        Raises:
            OSError: the connection failed.

        """
        self.sock.sendall(self.on_the_wire(data))


class TlsConversation(Conversation):
    """A connection over TLS, from its handshake.

    Args:
        sock: the connected socket, blocking; closed with the context.
        context: the server's.

    Raises:
        OSError: the handshake failed, or the client disconnected.

    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(sock)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._exchange()
        self.sock.sendall(self._outgoing.read())

    def receive(self) -> bytes:
        """As of `Conversation`."""
        while True:
            try:
                return self._tls.read(_READ)
            except ssl.SSLWantReadError:
                self._exchange()
            except ssl.SSLZeroReturnError:
                return b""

    def on_the_wire(self, data: bytes | memoryview) -> bytes:
        """The records of `data`: one, if it is not longer than 16 KiB."""
        self._tls.write(data)
        return self._outgoing.read()

    def _exchange(self) -> None:
        self.sock.sendall(self._outgoing.read())
        if data := self.sock.recv(_READ):
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
