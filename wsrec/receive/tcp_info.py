"""What the kernel knows of a TCP connection: TCP_INFO (tcp(7)) and what waits to be read. Linux only."""

from __future__ import annotations

import fcntl
import socket
import struct
from typing import NamedTuple

# asm-generic/ioctls.h: FIONREAD, by tcp(7) SIOCINQ
_SIOCINQ = 0x541B
# struct tcp_info of linux/tcp.h: 8 bytes of small fields, then 24 words up to tcpi_total_retrans
_WORDS = struct.Struct("=8x24I")
_LOST, _RTT, _RTTVAR, _REORDERING, _RCV_RTT, _TOTAL_RETRANS = 6, 15, 16, 20, 21, 23
# tcpi_rcv_ooopack: packets that came out of order, since Linux 5.4
_RCV_OOOPACK = struct.Struct("=I")
_RCV_OOOPACK_OFFSET = 224
_SIZE = 256


class TcpSample(NamedTuple):
    """One look at a TCP connection.

    Attributes:
        rtt_us, rttvar_us: smoothed round trip of what we sent, and its mean deviation, us.
        rcv_rtt_us: round trip as the receiving side makes it out, us; 0 where it cannot.
        rcv_queue: bytes that were received and not read yet.
        retransmits: segments that we sent again, since the connection began.
        lost: segments of ours that count as lost now.
        reordering: how far segments may be out of order before that counts as loss.
        rcv_ooopack: segments that arrived out of order, since the connection began; None before Linux 5.4.

    """

    rtt_us: int
    rttvar_us: int
    rcv_rtt_us: int
    rcv_queue: int
    retransmits: int
    lost: int
    reordering: int
    rcv_ooopack: int | None


def sample(sock: socket.socket) -> TcpSample | None:
    """Look at a connected TCP socket; None where the system does not tell."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SIZE)
        waiting = struct.unpack("=i", fcntl.ioctl(sock.fileno(), _SIOCINQ, bytes(4)))[0]
    except OSError:
        return None
    return parse(info, waiting)


def parse(info: bytes, rcv_queue: int) -> TcpSample | None:
    """Read a `struct tcp_info`, which each kernel fills as far as it knows it; None where it is too short."""
    if len(info) < _WORDS.size:
        return None
    words = _WORDS.unpack_from(info)
    told = len(info) >= _RCV_OOOPACK_OFFSET + _RCV_OOOPACK.size
    return TcpSample(
        rtt_us=words[_RTT],
        rttvar_us=words[_RTTVAR],
        rcv_rtt_us=words[_RCV_RTT],
        rcv_queue=rcv_queue,
        retransmits=words[_TOTAL_RETRANS],
        lost=words[_LOST],
        reordering=words[_REORDERING],
        rcv_ooopack=_RCV_OOOPACK.unpack_from(info, _RCV_OOOPACK_OFFSET)[0] if told else None,
    )
