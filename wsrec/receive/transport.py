"""Transports: the base class of all, and the plain socket; TLS is in `tls` and `ktls`.

Each transport reads into the given memory (the ring) and keeps the stage 1 timestamp of that read, its source and the
number of bytes taken off the socket. Sockets are non-blocking throughout.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import ssl
import sys
import termios
from abc import ABC, abstractmethod

from wsrec.host.timestamping import ANCILLARY_SIZE, Stamps
from wsrec.receive import tcp_info
from wsrec.receive.flow_map import FlowMap
from wsrec.receive.tcp_info import TcpSample
from wsrec.ring.counter import Counter
from wsrec.segments.stream_map import MapKind
from wsrec.stages import StampSource

# Larger reads save calls at saturation; this many bytes hold at most 65,535 frames, which a slot can count
READ_MAX = (128 << 10) - 16
# Limit of unsent data for a server that does not read; wsrec sends little, so a working one stays far below
UNSENT_MAX = 1 << 20


class Transport(ABC):
    """One connected socket.

    Attributes:
        stamp: stage 1 of the last read, ns since the epoch; 0 for none.
        source: the source of `stamp`, or why it is 0.
        read_bytes: bytes that the last read took off the socket.
        stamps: state of the timestamp clocks.
        unsent_max: bytes that may be queued before `send` refuses more.
        flow: where the bytes of its TCP stream are captured; None if they are not.
        by_record: whether a read is delivered record by record: `read` delivers the first, `more` the others.

    """

    by_record = False

    def __init__(self, sock: socket.socket, *, stamped: bool) -> None:
        self.stamp = 0
        self.source = StampSource.NONE_ABSENT if stamped else StampSource.NONE_UNSUPPORTED
        self.read_bytes = 0
        self.stamps = Stamps()
        self._sock = sock
        self._stamped = stamped
        self.flow: FlowMap | None = None
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
        """Bytes queued for sending."""
        return len(self._unsent)

    @property
    def unread(self) -> int:
        """Bytes received and not read: in the socket (SIOCINQ, tcp(7)), and with TLS in OpenSSL."""
        return int.from_bytes(fcntl.ioctl(self._sock, termios.FIONREAD, bytes(4)), sys.byteorder)

    def tcp_info(self) -> TcpSample | None:
        """TCP statistics of the connection; None if the kernel does not support them."""
        return tcp_info.sample(self._sock)

    def begin_map(self, head: Counter) -> None:
        """Tell where the bytes read from now on lie in the TCP stream, if that is captured.

        Args:
            head: of the ring into which they are read.

        """
        if self.flow is not None:
            self.flow.begin(MapKind.UNMAPPED, head, None)

    async def drain(self) -> None:
        """Wait until nothing is queued, or the socket is closed."""
        while self._unsent:
            if self._emptied is None:
                self._emptied = asyncio.Event()
            await self._emptied.wait()

    @property
    def undecrypted(self) -> int:
        """Bytes taken off the socket that are no whole TLS record yet, and so are not delivered."""
        return 0

    @abstractmethod
    def read(self, into: memoryview) -> int | None:
        """Read once into `into` (at least 32 KiB).

        Returns:
                The number of bytes written to `into`; 0 at the end of the stream; None if nothing was available.

        Raises:
            OSError: the connection broke (`ssl.SSLError` included).

        """

    def more(self, into: memoryview) -> int | None:
        """Write the next part of what the last `read` took off the socket to `into`; not a system call.

        Args:
            into: what the read and the parts before left of its room.

        Returns:
            As `read`; None once there is no more.

        Raises:
            OSError: the connection broke.

        """
        return None

    def break_off(self, error: OSError) -> None:
        """End the stream with `error` in the middle of a read `by_record`: what `more` has not written is lost."""
        raise NotImplementedError

    def send(self, data: bytes) -> None:
        """Send `data`; what the socket does not take at once is queued.

        Raises:
            ConnectionAbortedError: `unsent_max` bytes are queued already.
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
        """Close the socket; queued data is dropped."""
        if self.fileno >= 0:
            self._loop.remove_writer(self.fileno)
        self._sock.close()
        if self.flow is not None:
            self.flow.close()
            self.flow = None
        self._forget_unsent()

    def _on_writable(self) -> None:
        try:
            del self._unsent[: self._sock.send(self._unsent)]
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return
        except OSError:
            # the read side sees the same error and reports it
            self._unsent.clear()
        if not self._unsent:
            self._loop.remove_writer(self.fileno)
            self._forget_unsent()

    def _forget_unsent(self) -> None:
        """The queue is empty: wake those waiting for that."""
        self._unsent.clear()
        if self._emptied is not None:
            self._emptied.set()
            self._emptied = None

    def _receive(self, into: memoryview) -> int | None:
        """One recvmsg; keeps its timestamp."""
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

    def begin_map(self, head: Counter) -> None:
        """See `Transport.begin_map`: once, because the bytes follow one another here as there."""
        if self.flow is not None:
            self.flow.begin(MapKind.PLAIN, head, self.flow.offset)

    def read(self, into: memoryview) -> int | None:
        """See `Transport.read`."""
        return self._receive(into[:READ_MAX])
