"""TLS by OpenSSL in this process (modes `stamped` and `openssl`), and the base of all modes."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from wsrec.receive.flow_map import Framing, framing, position
from wsrec.receive.transport import READ_MAX, Transport
from wsrec.ring.counter import Counter
from wsrec.segments.stream_map import MapKind
from wsrec.stages import StampSource

# Most of it, and the beginning of a record, is decrypted at once (bytes)
CIPHERTEXT_MAX = 64 << 10
# A read during the handshake: what comes behind that is less than a record
_HANDSHAKE_MAX = 16 << 10
# A hello message up to its random has 43 bytes
_HELLO_MAX = 512
_of_thread = threading.local()
# the largest TLS record: 16 KiB of payload, the header and the cipher's overhead (RFC 5246 6.2.3, RFC 8446 5.2)
RECORD_MAX = (16 << 10) + 5 + 2048


class NoTlsError(ConnectionResetError):
    """The server ended the connection during the TLS handshake."""


class TlsDetails(NamedTuple):
    """The negotiated parameters, and with what the kernel says it decrypts (None if it does not)."""

    version: str
    cipher: str
    bits: int
    kernel_rx: str | None = None


class Refusal(NamedTuple):
    """Why a mode is not used.

    Attributes:
        reason: what is missing, or what happened.
        hint: what to do about it.
        lasting: whether the next connection would be refused too.

    """

    reason: str
    hint: str
    lasting: bool = True


class TlsTransport(Transport):
    """A connected socket, encrypted once `handshake` is done."""

    @abstractmethod
    async def handshake(self) -> TlsDetails:
        """Perform the TLS handshake.

        Raises:
            ssl.SSLError: it failed; `ssl.SSLCertVerificationError` if the certificate is not trusted.
            OSError: the connection broke.

        """

    @abstractmethod
    def peer_certificate(self) -> dict[str, object]:
        """The server's certificate, as `ssl.SSLSocket.getpeercert` gives it."""


class StampedTlsTransport(TlsTransport):
    """`wss://` in mode `stamped`: ciphertext by recvmsg with its timestamps, decrypted by OpenSSL into the ring.

    Attributes:
        ciphertext: buffer for the data of one read; decrypted at once, so it is shared by all connections of a thread.

    """

    def __init__(self, sock: socket.socket, *, stamped: bool, context: ssl.SSLContext, host: str) -> None:
        super().__init__(sock, stamped=stamped)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self.ciphertext = _ciphertext()
        # bytes taken off the socket
        self._taken = 0
        self._closed = False
        self._broken: OSError | None = None
        # the beginning of what each side sent: the hello messages
        self._first_sent = b""
        self._first_received = b""

    @property
    def unread(self) -> int:
        """See `Transport.unread`."""
        return super().unread + self._incoming.pending + self._tls.pending()

    async def handshake(self) -> TlsDetails:
        """See `TlsTransport.handshake`."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                data = await self._loop.sock_recv(self._sock, _HANDSHAKE_MAX)
                if not data:
                    raise NoTlsError("the server closed the connection during the TLS handshake") from None
                self._taken += len(data)
                self._first_received += data[: _HELLO_MAX - len(self._first_received)]
                self._incoming.write(data)
            except ssl.SSLError:
                # send the alert with the reason
                await self._flush()
                raise
            else:
                await self._flush()
                return details_of(self._tls)

    def peer_certificate(self) -> dict[str, object]:
        """See `TlsTransport.peer_certificate`."""
        return dict(self._tls.getpeercert() or {})

    def begin_map(self, head: Counter) -> None:
        """See `Transport.begin_map`."""
        if self.flow is not None:
            offset = self.flow.offset + self._taken - self._incoming.pending
            self.flow.begin(MapKind.TLS, head, offset, framing_of(self._tls))

    def read(self, into: memoryview) -> int | None:
        """See `Transport.read`."""
        if self._broken is not None:
            raise self._broken
        if self._closed:
            return 0
        size = self._receive(self.ciphertext[: self.ciphertext_room(into)])
        return None if size is None else self.decrypt(size, into)

    def ciphertext_room(self, into: memoryview) -> int:
        """Largest ciphertext read (bytes) whose plaintext fits `into`; 0 after the end of the stream."""
        if self._closed or self._broken is not None:
            return 0
        # OpenSSL may already hold most of a record, which neither `pending` counts
        room = len(into) - RECORD_MAX - self._incoming.pending - self._tls.pending()
        return min(room, CIPHERTEXT_MAX)

    def decrypt(self, size: int, into: memoryview) -> int | None:
        """Decrypt the `size` bytes of `ciphertext` into `into`; see `Transport.read`."""
        incoming, tls = self._incoming, self._tls
        if size == 0:
            incoming.write_eof()
        else:
            incoming.write(self.ciphertext[:size])
            self._taken += size
        filled = 0
        try:
            # each read returns one whole record, for which there is room
            while True:
                got = tls.read(len(into) - filled, into[filled:] if filled else into)
                if not got:
                    # close_notify, which SSLObject.read reports as an empty read
                    self._closed = True
                    break
                filled += got  # type: ignore[operator]  # with a buffer it is the number of bytes
                if self.flow is not None:
                    # OpenSSL takes no more than this record out of the BIO
                    self.flow.record(got, filled, self.flow.offset + self._taken - incoming.pending)  # type: ignore[arg-type]
                if not incoming.pending:
                    break
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
                # first hand off what arrived before the end in the same read; this makes the socket readable once more
                with suppress(OSError):
                    self._sock.shutdown(socket.SHUT_RD)
            return filled
        if self._outgoing.pending:
            # a broken socket is reported by the next read; the decrypted data is handed off first
            with suppress(OSError):
                super().send(self._outgoing.read())
        return filled or (0 if size == 0 else None)

    def send(self, data: bytes) -> None:
        """See `Transport.send`."""
        super().send(self._seal(data))

    def close(self) -> None:
        """See `Transport.close`; before that the server is told what it did wrong, if that ended the stream."""
        if self.fileno >= 0 and (alert := self._alert()) and not self.unsent:
            # it is broken already
            with suppress(OSError):
                self._sock.send(alert)
        super().close()

    def _alert(self) -> bytes:
        """What is left to be sent when the stream has ended in error: the alert with the reason (RFC 8446 6.2)."""
        # OpenSSL has one for an end without close_notify too, which is none of the server's mistakes here
        return b"" if self._closed else self._outgoing.read()

    def _seal(self, data: bytes) -> bytes:
        """Encrypt what is to be sent."""
        self._tls.write(data)
        return self._outgoing.read()

    async def _flush(self) -> None:
        if self._outgoing.pending:
            data = self._outgoing.read()
            self._first_sent += data[: _HELLO_MAX - len(self._first_sent)]
            await self._loop.sock_sendall(self._sock, data)


class OpensslTransport(TlsTransport):
    """`wss://` in mode `openssl`: `SSLSocket.recv_into`, which cannot return a timestamp."""

    _sock: ssl.SSLSocket

    def __init__(self, sock: socket.socket, *, context: ssl.SSLContext, host: str) -> None:
        super().__init__(context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False), stamped=False)
        self.source = StampSource.NONE_OPENSSL

    @property
    def unread(self) -> int:
        """See `Transport.unread`."""
        return super().unread + self._sock.pending()

    async def handshake(self) -> TlsDetails:
        """See `TlsTransport.handshake`."""
        while True:
            try:
                self._sock.do_handshake()
            except ssl.SSLWantReadError:
                await self._readiness(self._loop.add_reader, self._loop.remove_reader)
            except ssl.SSLWantWriteError:
                await self._readiness(self._loop.add_writer, self._loop.remove_writer)
            else:
                return details_of(self._sock)

    def peer_certificate(self) -> dict[str, object]:
        """See `TlsTransport.peer_certificate`."""
        return dict(self._sock.getpeercert() or {})

    def begin_map(self, head: Counter) -> None:
        """See `Transport.begin_map`."""
        if self.flow is not None:
            self.flow.begin(MapKind.TLS, head, position(self._sock), framing_of(self._sock))

    def read(self, into: memoryview) -> int | None:
        """See `Transport.read`. One TLS record per read; `read_bytes` counts the decrypted bytes."""
        try:
            self.read_bytes = self._sock.recv_into(into[:READ_MAX])
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return 0
        if self.flow is not None and self.read_bytes and (offset := position(self._sock)) is not None:
            # OpenSSL takes no more than this record off the socket
            self.flow.record(self.read_bytes, self.read_bytes, offset)
        return self.read_bytes

    async def _readiness(self, add: Callable[..., object], remove: Callable[[int], object]) -> None:
        ready = asyncio.Event()
        add(self.fileno, ready.set)
        try:
            await ready.wait()
        finally:
            remove(self.fileno)


def _ciphertext() -> memoryview:
    """The thread's buffer for the ciphertext of one read."""
    if not hasattr(_of_thread, "ciphertext"):
        _of_thread.ciphertext = memoryview(bytearray(CIPHERTEXT_MAX))
    found: memoryview = _of_thread.ciphertext
    return found


def framing_of(tls: ssl.SSLObject | ssl.SSLSocket) -> Framing | None:
    """The framing of the negotiated records."""
    cipher = tls.cipher()
    return None if cipher is None else framing(tls.version() or "", cipher[0])


def details_of(tls: ssl.SSLObject | ssl.SSLSocket) -> TlsDetails:
    """What a finished handshake negotiated."""
    cipher = tls.cipher() or ("", "", 0)
    return TlsDetails(tls.version() or "", cipher[0], cipher[2] or 0)
