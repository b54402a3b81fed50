"""Stage 1: receive timestamps of the NIC and the kernel (SO_TIMESTAMPING).

Source: Linux, Documentation/networking/timestamping.rst; struct scm_timestamping in linux/errqueue.h. The timestamp of
a TCP read belongs to the last segment that the read touched.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from struct import Struct

from wsrec.stages import StampSource

# linux/net_tstamp.h and asm-generic/socket.h; Python's socket module does not name them
SO_TIMESTAMPING = 37
SCM_TIMESTAMPING = SO_TIMESTAMPING
RX_HARDWARE = 1 << 2
RX_SOFTWARE = 1 << 3
SOFTWARE = 1 << 4
RAW_HARDWARE = 1 << 6
FLAGS = RX_HARDWARE | RX_SOFTWARE | SOFTWARE | RAW_HARDWARE

# three struct timespec: software, (deprecated) hardware transformed to system time, raw hardware
_SCM = Struct("@llllll")
ANCILLARY_SIZE = socket.CMSG_SPACE(_SCM.size)

_MAX_NIC_OFFSET_NS = 1_000_000_000


class Stamps:
    """Extracts the timestamp and its source from the ancillary data of a read.

    A NIC whose clock is not on UTC (no PTP, no phc2sys) provides hardware timestamps that cannot be compared with any
    other clock. If they are more than a second off the kernel's timestamp of the same segment, the kernel's is used.

    Attributes:
        nic_offset_ns: offset of the NIC's clock when its timestamp was rejected, else None.

    """

    __slots__ = ("nic_offset_ns",)

    def __init__(self) -> None:
        self.nic_offset_ns: int | None = None

    def read(self, ancillary: Iterable[tuple[int, int, bytes]]) -> tuple[int, StampSource]:
        """The timestamp (ns since the epoch; 0 for none) in the ancillary data of `recvmsg`, and its source."""
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == SCM_TIMESTAMPING and len(data) >= _SCM.size:
                sec, nsec, _, _, nic_sec, nic_nsec = _SCM.unpack_from(data)
                return self.choose(sec * 1_000_000_000 + nsec, nic_sec * 1_000_000_000 + nic_nsec)
        return 0, StampSource.NONE_ABSENT

    def choose(self, kernel: int, nic: int) -> tuple[int, StampSource]:
        """The better of two timestamps (ns since the epoch; 0 for none) of one segment, and its source."""
        if nic:
            if not kernel or abs(nic - kernel) <= _MAX_NIC_OFFSET_NS:
                return nic, StampSource.NIC
            self.nic_offset_ns = nic - kernel
        if kernel:
            return kernel, StampSource.KERNEL
        return 0, StampSource.NONE_ABSENT


def enable(sock: socket.socket) -> bool:
    """Request hardware and software receive timestamps; False if the system has none."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, FLAGS)
    except OSError:
        return False
    return True
