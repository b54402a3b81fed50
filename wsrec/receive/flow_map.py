"""Where a connection's bytes in its ring lay in its TCP stream: what its transport writes to the stream map.

Only with `--segments`. A transport counts the bytes that it takes off the socket; where that is not possible, because
OpenSSL or the kernel reads, the position is the kernel's (`position`).
"""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
from typing import NamedTuple

from wsrec.ring.counter import Counter
from wsrec.segments.capture import Capture, Flow
from wsrec.segments.stream_map import UNKNOWN_TAIL, MapKind, StreamMapWriter

# struct tcp_info of linux/tcp.h: tcpi_state, and tcpi_bytes_received, since Linux 4.1
_BYTES_RECEIVED = struct.Struct("=Q")
_BYTES_RECEIVED_OFFSET = 128
# net/tcp_states.h: the peer has sent its FIN, which counts as a byte
_CLOSE_WAIT = 8
_TRIES = 100


class Framing(NamedTuple):
    """How much of a TLS record is not content.

    Attributes:
        overhead: bytes, with the header.
        tail: those of them that lie behind the content.

    """

    overhead: int
    tail: int


def framing(version: str, cipher: str) -> Framing | None:
    """The framing of records without padding, by the names that OpenSSL has for both; None if it is not constant.

    RFC 8446 5.2: header, content, its type, tag. RFC 5288 and 6655: header, 8 bytes of nonce, content, tag. RFC 7905:
    header, content, tag.
    """
    short = cipher.endswith("CCM8")
    if version == "TLSv1.3":
        return Framing(14, 9) if cipher.endswith("CCM_8_SHA256") else Framing(22, 17)
    if version == "TLSv1.2" and ("-GCM-" in cipher or "-CCM" in cipher):
        return Framing(21, 8) if short else Framing(29, 16)
    if version == "TLSv1.2" and "CHACHA20-POLY1305" in cipher:
        return Framing(21, 16)
    return None


def position(sock: socket.socket) -> int | None:
    """Bytes that were read from a TCP socket, by the kernel's count; None if it does not say.

    Data that arrives meanwhile is left out: it is counted again until nothing does.
    """
    for _ in range(_TRIES):
        try:
            before = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED_OFFSET + 8)
            waiting = struct.unpack("=i", fcntl.ioctl(sock, termios.FIONREAD, bytes(4)))[0]
            after = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _BYTES_RECEIVED_OFFSET + 8)
        except OSError:
            return None
        if len(before) < _BYTES_RECEIVED_OFFSET + _BYTES_RECEIVED.size:
            return None
        received = _BYTES_RECEIVED.unpack_from(before, _BYTES_RECEIVED_OFFSET)[0]
        if (before[0], received) == (after[0], _BYTES_RECEIVED.unpack_from(after, _BYTES_RECEIVED_OFFSET)[0]):
            return int(received - waiting - (before[0] == _CLOSE_WAIT))
    return None


class FlowMap:
    """What a transport writes of one TCP connection.

    Args:
        writer: the receiver's side of the stream map.
        conn: number of the connection.
        flow: the captured flow; None if it is not captured.
        offset: stream offset of the first byte that the transport reads.
        capture: captures the flow.

    Attributes:
        writer, conn, flow, offset: as given.

    """

    def __init__(self, writer: StreamMapWriter, conn: int, flow: Flow | None, offset: int, capture: Capture) -> None:
        self.writer = writer
        self.conn = conn
        self.flow = flow
        self.offset = offset
        self._capture = capture
        self._head: Counter | None = None
        self._framing: Framing | None = None
        # where the last record ended
        self._until = 0

    @property
    def number(self) -> int:
        """The flow's number; 0 if it is not captured."""
        return 0 if self.flow is None else self.flow.number

    @property
    def lead(self) -> int | None:
        """Bytes before the content of a TLS record; None if they are not constant, or the flow is not captured."""
        return None if self.flow is None or self._framing is None else self._framing.overhead - self._framing.tail

    def begin(self, kind: MapKind, head: Counter, offset: int | None, of: Framing | None = None) -> None:
        """Begin the flow in the map: what is written to the ring from now on is of the stream from `offset` on.

        Args:
            kind: `PLAIN`, `TLS` or `KERNEL`.
            head: the ring's head.
            offset: stream offset; None if it is not known.
            of: the framing of its TLS records.

        """
        unknown = kind is MapKind.KERNEL and (of is None or self.flow is None or not self.flow.records)
        if self.flow is None or offset is None or unknown:
            kind, offset = MapKind.UNMAPPED, 0
        if kind is not MapKind.KERNEL and self.flow is not None and self.flow.records:
            self._capture.without_records(self.flow)
        overhead, tail = of or (0, 0)
        self._head, self._framing, self._until = head, of, offset
        self.writer.append(kind, self.conn, self.number, head.read(), offset, tail=tail, overhead=overhead)

    def record(self, size: int, filled: int, offset: int) -> None:
        """A TLS record of `size` bytes of content was read.

        Args:
            size: bytes.
            filled: bytes that this read has written to the ring, with these; the head has not moved on yet.
            offset: stream offset of the record's end.

        """
        assert self._head is not None
        exact = self._framing is not None and offset - self._until == size + self._framing.overhead
        tail = self._framing.tail if exact and self._framing is not None else UNKNOWN_TAIL
        self._until = offset
        self.writer.append(MapKind.RECORD, self.conn, self.number, self._head.read() + filled, offset, tail=tail)

    def control(self, size: int) -> None:
        """A record with `size` bytes of content that are no data was read of a flow of kind `KERNEL`."""
        assert self._head is not None
        self.writer.append(MapKind.CONTROL, self.conn, self.number, self._head.read(), 0, size=size)

    def close(self) -> None:
        """The connection has ended: its capture ends as well."""
        if self.flow is not None:
            self._capture.end(self.flow)
