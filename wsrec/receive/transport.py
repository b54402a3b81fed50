"""Where the hot path's bytes come from: a plain socket, or TLS taken off the wire in one of its modes.

Each transport reads into memory that it is given (the ring) and remembers of that read the stamp of stage 1, its source
and how many bytes it took off the socket. Sockets are non-blocking throughout.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, cast

from wsrec.receive.timestamping import ANCILLARY_SIZE, Stamps
from wsrec.stages import StampSource

# Larger reads save calls at saturation; so many bytes hold at most 65,535 frames, which a slot can count
READ_MAX = (128 << 10) - 16
_CIPHERTEXT_MAX = 64 << 10
# What may wait for a server that does not read; what we say is small, so that no honest one lets so much wait
UNSENT_MAX = 1 << 20
# the largest TLS record: 16 KiB of payload, header and what ciphers add (RFC 5246 6.2.3, RFC 8446 5.2)
_RECORD_MAX = (16 << 10) + 5 + 2048


class TlsDetails(NamedTuple):
    """What was negotiated."""

    version: str
    cipher: str
    bits: int


class Transport(ABC):
    """One connected socket.

    Attributes:
        stamp: stage 1 of the last read, ns since the epoch; 0 where there is none.
        source: where `stamp` comes from, or why it is 0.
        read_bytes: bytes that the last read took off the socket.
        stamps: what is known of the stamps' clock.
        unsent_max: bytes that may wait for the socket before `send` refuses more.

    """

    def __init__(self, sock: socket.socket, *, stamped: bool) -> None:
        self.stamp = 0
        self.source = StampSource.NONE_ABSENT if stamped else StampSource.NONE_UNSUPPORTED
        self.read_bytes = 0
        self.stamps = Stamps()
        self._sock = sock
        self._stamped = stamped
        self.unsent_max = UNSENT_MAX
        self._unsent = bytearray()
        self._emptied: asyncio.Event | None = None
        self._loop = asyncio.get_running_loop()

    @property
    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._sock.fileno()

    @property
    def unsent(self) -> int:
        """Bytes that wait for the socket."""
        return len(self._unsent)

    async def drain(self) -> None:
        """Wait until nothing waits for the socket, or it is closed."""
        while self._unsent:
            if self._emptied is None:
                self._emptied = asyncio.Event()
            await self._emptied.wait()

    @abstractmethod
    def read(self, into: memoryview) -> int | None:
        """Read once into `into` (at least 32 KiB).

        Returns:
            The bytes that `into` got; 0 at the end of the stream; None where the read brought nothing yet.

        Raises:
            OSError: the connection broke (`ssl.SSLError` included).

        """

    def send(self, data: bytes) -> None:
        """Send `data`, or as much of it as the socket takes now and the rest when it can.

        Raises:
            ConnectionAbortedError: `unsent_max` bytes wait already.
            OSError: the connection broke.

        """
        if len(self._unsent) >= self.unsent_max:
            raise ConnectionAbortedError("the server does not read what is sent to it")
        if not self._unsent:
            try:
                sent = self._sock.send(data)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
            self._loop.add_writer(self.fileno, self._on_writable)
        self._unsent += data

    def close(self) -> None:
        """Close the socket; what was not sent is dropped."""
        if self.fileno >= 0:
            self._loop.remove_writer(self.fileno)
        self._sock.close()
        self._forget_unsent()

    def _on_writable(self) -> None:
        try:
            del self._unsent[: self._sock.send(self._unsent)]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError:
            # the read side will see the same end and tell
            self._unsent.clear()
        if not self._unsent:
            self._loop.remove_writer(self.fileno)
            self._forget_unsent()

    def _forget_unsent(self) -> None:
        """Nothing waits any more: tell those who wait for that."""
        self._unsent.clear()
        if self._emptied is not None:
            self._emptied.set()
            self._emptied = None

    def _receive(self, into: memoryview) -> int | None:
        """One recvmsg, its stamp remembered."""
        try:
            size, ancillary, _, _ = self._sock.recvmsg_into((into,), ANCILLARY_SIZE)
        except BlockingIOError:
            return None
        self.read_bytes = size
        if self._stamped:
            self.stamp, self.source = self.stamps.read(ancillary)
        return size


class PlainTransport(Transport):
    """`ws://`: the socket's bytes, straight into the ring."""

    def read(self, into: memoryview) -> int | None:
        """See `Transport.read`."""
        return self._receive(into[:READ_MAX])


class StampedTlsTransport(Transport):
    """`wss://` in mode `stamped`: ciphertext by recvmsg with its stamps, decrypted by OpenSSL into the ring.

    Attributes:
        ciphertext: where a read puts what it takes off the socket.

    """

    def __init__(self, sock: socket.socket, *, stamped: bool, context: ssl.SSLContext, host: str) -> None:
        super().__init__(sock, stamped=stamped)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self.ciphertext = memoryview(bytearray(_CIPHERTEXT_MAX))
        self._closed = False
        self._broken: ssl.SSLError | None = None

    async def handshake(self) -> TlsDetails:
        """Do the TLS handshake.

        Raises:
            ssl.SSLError: it failed; `ssl.SSLCertVerificationError` where the certificate is not to be trusted.
            OSError: the connection broke.

        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                data = await self._loop.sock_recv(self._sock, _CIPHERTEXT_MAX)
                if not data:
                    raise ConnectionResetError("the server closed the connection during the TLS handshake") from None
                self._incoming.write(data)
            except ssl.SSLError:
                # the alert that says why
                await self._flush()
                raise
            else:
                await self._flush()
                return _details(self._tls)

    def peer_certificate(self) -> dict[str, object]:
        """The server's certificate, as `ssl.SSLSocket.getpeercert` gives it."""
        return dict(self._tls.getpeercert() or {})

    def read(self, into: memoryview) -> int | None:
        """See `Transport.read`."""
        if self._broken is not None:
            raise self._broken
        if self._closed:
            return 0
        size = self._receive(self.ciphertext[: self.ciphertext_room(into)])
        return None if size is None else self.decrypt(size, into)

    def ciphertext_room(self, into: memoryview) -> int:
        """How many bytes of ciphertext `into` can take decrypted, at most `ciphertext`; 0 after the stream's end."""
        if self._closed or self._broken is not None:
            return 0
        # OpenSSL may hold most of a record already, which neither `pending` counts
        room = len(into) - _RECORD_MAX - self._incoming.pending - self._tls.pending()
        return min(room, _CIPHERTEXT_MAX)

    def decrypt(self, size: int, into: memoryview) -> int | None:
        """Decrypt into `into` what a read of `size` bytes brought into `ciphertext`; see `Transport.read`."""
        incoming, tls = self._incoming, self._tls
        if size == 0:
            incoming.write_eof()
        else:
            incoming.write(self.ciphertext[:size])
        filled = 0
        try:
            while filled < len(into) and (incoming.pending or tls.pending()):
                got = _read_into(tls, into[filled:])
                if not got:
                    # close_notify, which SSLObject.read tells by an empty read
                    self._closed = True
                    break
                filled += got
        except ssl.SSLWantReadError:
            pass
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            self._closed = True
        except ssl.SSLError as error:
            if not filled:
                raise
            self._broken = error
        if self._closed or self._broken is not None:
            if filled:
                # what came before the end in the same read is handed on first; this makes the socket readable once more
                with suppress(OSError):
                    self._sock.shutdown(socket.SHUT_RD)
            return filled
        if self._outgoing.pending:
            super().send(self._outgoing.read())
        return filled or (0 if size == 0 else None)

    def send(self, data: bytes) -> None:
        """See `Transport.send`."""
        self._tls.write(data)
        super().send(self._outgoing.read())

    async def _flush(self) -> None:
        if self._outgoing.pending:
            await self._loop.sock_sendall(self._sock, self._outgoing.read())


class OpensslTransport(Transport):
    """`wss://` in mode `openssl`: `SSLSocket.recv_into`, which has no room for a stamp."""

    _sock: ssl.SSLSocket

    def __init__(self, sock: socket.socket, *, context: ssl.SSLContext, host: str) -> None:
        super().__init__(context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False), stamped=False)
        self.source = StampSource.NONE_OPENSSL

    async def handshake(self) -> TlsDetails:
        """Do the TLS handshake.

        Raises:
            ssl.SSLError: it failed; `ssl.SSLCertVerificationError` where the certificate is not to be trusted.
            OSError: the connection broke.

        """
        while True:
            try:
                self._sock.do_handshake()
            except ssl.SSLWantReadError:
                await self._readiness(self._loop.add_reader, self._loop.remove_reader)
            except ssl.SSLWantWriteError:
                await self._readiness(self._loop.add_writer, self._loop.remove_writer)
            else:
                return _details(self._sock)

    def peer_certificate(self) -> dict[str, object]:
        """The server's certificate, as `ssl.SSLSocket.getpeercert` gives it."""
        return dict(self._sock.getpeercert() or {})

    def read(self, into: memoryview) -> int | None:
        """See `Transport.read`. One TLS record a read; `read_bytes` counts what it decrypted to."""
        try:
            self.read_bytes = self._sock.recv_into(into[:READ_MAX])
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return 0
        return self.read_bytes

    async def _readiness(self, add: Callable[..., object], remove: Callable[[int], object]) -> None:
        ready = asyncio.Event()
        add(self.fileno, ready.set)
        try:
            await ready.wait()
        finally:
            remove(self.fileno)


# with a buffer, SSLObject.read returns the number of bytes that it put there; the type stubs know only the other form
_read_into = cast("Callable[[ssl.SSLObject, memoryview], int]", lambda tls, into: tls.read(len(into), into))


def _details(tls: ssl.SSLObject | ssl.SSLSocket) -> TlsDetails:
    cipher = tls.cipher() or ("", "", 0)
    return TlsDetails(tls.version() or "", cipher[0], cipher[2] or 0)
