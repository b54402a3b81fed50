"""Where the hot path's bytes come from: what all transports share, and the plain socket; TLS is in `tls` and `ktls`.

Each transport reads into memory that it is given (the ring) and remembers of that read the stamp of stage 1, its source
and how many bytes it took off the socket. Sockets are non-blocking throughout.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import ssl
import sys
import termios
from abc import ABC, abstractmethod

from wsrec.receive import tcp_info
from wsrec.receive.tcp_info import TcpSample
from wsrec.receive.timestamping import ANCILLARY_SIZE, Stamps
from wsrec.stages import StampSource

# Larger reads save calls at saturation; so many bytes hold at most 65,535 frames, which a slot can count
READ_MAX = (128 << 10) - 16
# What may wait for a server that does not read; what we say is small, so that no honest one lets so much wait
UNSENT_MAX = 1 << 20


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

    @property
    def unread(self) -> int:
        """Bytes that came and were not read: in the socket (SIOCINQ, tcp(7)), and of TLS in OpenSSL."""
        return int.from_bytes(fcntl.ioctl(self._sock, termios.FIONREAD, bytes(4)), sys.byteorder)

    def tcp_info(self) -> TcpSample | None:
        """What the kernel knows of the connection; None where it does not tell."""
        return tcp_info.sample(self._sock)

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
