"""Stage 1: the stamps that the NIC and the kernel put on what they received.

Source: Linux, Documentation/networking/timestamping.rst; struct scm_timestamping in linux/errqueue.h. The stamp of a
TCP read belongs to the last segment that the read touched.
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
    """Turns a read's ancillary data into one stamp, and tells where it came from.

    A NIC whose clock is not on UTC (no PTP, no phc2sys) gives hardware stamps that no other clock can be compared
    with. Where they are more than a second away from the kernel's stamp of the same segment, the kernel's is taken.

    Attributes:
        nic_offset_ns: how far the NIC's clock was from the kernel's when its stamps were turned down, else None.

    """

    __slots__ = ("nic_offset_ns",)

    def __init__(self) -> None:
        self.nic_offset_ns: int | None = None

    def read(self, ancillary: Iterable[tuple[int, int, bytes]]) -> tuple[int, StampSource]:
        """The stamp (ns since the epoch; 0 where there is none) of what `recvmsg` returned, and its source."""
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == SCM_TIMESTAMPING and len(data) >= _SCM.size:
                sec, nsec, _, _, nic_sec, nic_nsec = _SCM.unpack_from(data)
                return self.choose(sec * 1_000_000_000 + nsec, nic_sec * 1_000_000_000 + nic_nsec)
        return 0, StampSource.NONE_ABSENT

    def choose(self, kernel: int, nic: int) -> tuple[int, StampSource]:
        """The better of two stamps (ns since the epoch; 0 where there is none) of one segment, and its source."""
        if nic:
            if not kernel or abs(nic - kernel) <= _MAX_NIC_OFFSET_NS:
                return nic, StampSource.NIC
            self.nic_offset_ns = nic - kernel
        if kernel:
            return kernel, StampSource.KERNEL
        return 0, StampSource.NONE_ABSENT


def enable(sock: socket.socket) -> bool:
    """Ask for hardware and software receive stamps; False where the system has none to give."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, FLAGS)
    except OSError:
        return False
    return True
