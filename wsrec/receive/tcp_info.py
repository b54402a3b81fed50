"""Kernel statistics of a TCP connection: TCP_INFO (tcp(7)) and the size of the receive queue."""

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
    """One sample of a TCP connection's statistics.

    Attributes:
        rtt_us, rttvar_us: smoothed round trip of sent segments, and its mean deviation, us.
        rcv_rtt_us: round trip as estimated by the receiving side, us; 0 if unknown.
        rcv_queue: bytes received and not yet read.
        retransmits: segments retransmitted since the connection began.
        lost: sent segments currently considered lost.
        reordering: tolerated reordering distance, in segments.
        rcv_ooopack: segments received out of order since the connection began; None before Linux 5.4.

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
    """Sample a connected TCP socket; None if the kernel does not support it."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SIZE)
        waiting = struct.unpack("=i", fcntl.ioctl(sock.fileno(), _SIOCINQ, bytes(4)))[0]
    except OSError:
        return None
    return parse(info, waiting)


def parse(info: bytes, rcv_queue: int) -> TcpSample | None:
    """Parse a `struct tcp_info`, whose length depends on the kernel; None if it is too short."""
    if len(info) < _WORDS.size:
        return None
    words = _WORDS.unpack_from(info)
    reported = len(info) >= _RCV_OOOPACK_OFFSET + _RCV_OOOPACK.size
    return TcpSample(
        rtt_us=words[_RTT],
        rttvar_us=words[_RTTVAR],
        rcv_rtt_us=words[_RCV_RTT],
        rcv_queue=rcv_queue,
        retransmits=words[_TOTAL_RETRANS],
        lost=words[_LOST],
        reordering=words[_REORDERING],
        rcv_ooopack=_RCV_OOOPACK.unpack_from(info, _RCV_OOOPACK_OFFSET)[0] if reported else None,
    )
