"""Timestamping capabilities of a network interface, read from its driver; nothing is changed.

Source: ethtool_ts_info in linux/ethtool.h, hwtstamp_config in linux/net_tstamp.h, netdevice(7).
"""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct

import msgspec

from wsrec.host import timestamping

_SIOCETHTOOL = 0x8946
_SIOCGHWTSTAMP = 0x89B1
_ETHTOOL_GET_TS_INFO = 0x41
# cmd, so_timestamping, phc_index, tx_types, 3 reserved, rx_filters, 3 reserved
_TS_INFO = struct.Struct("@IIiI12xI12x")
# flags, tx_type, rx_filter
_CONFIG = struct.Struct("@iii")
# struct ifreq: the name, then the pointer of its union; the union has the size of a struct ifmap
_IFREQ = struct.Struct("@16sP16x")


class Stamping(msgspec.Struct, frozen=True):
    """Receive timestamping of an interface.

    Attributes:
        software: the driver supports the kernel's timestamps.
        hardware: the NIC can timestamp received packets.
        clock: number of the NIC's PTP clock (`/dev/ptpN`); None without one.
        enabled: hardware timestamping is switched on.

    """

    software: bool
    hardware: bool
    clock: int | None
    enabled: bool


def stamping(interface: str) -> Stamping | None:
    """Query the capabilities of `interface`; None if its driver does not answer (ioctl(2), SIOCETHTOOL)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        info = _query(sock, _SIOCETHTOOL, interface, _TS_INFO.pack(_ETHTOOL_GET_TS_INFO, 0, -1, 0, 0))
        config = _query(sock, _SIOCGHWTSTAMP, interface, _CONFIG.pack(0, 0, 0))
    if info is None:
        return None
    _, flags, clock, _, _ = _TS_INFO.unpack(info)
    return Stamping(
        software=bool(flags & timestamping.RX_SOFTWARE),
        hardware=bool(flags & timestamping.RX_HARDWARE) and bool(flags & timestamping.RAW_HARDWARE),
        clock=clock if clock >= 0 else None,
        enabled=config is not None and _CONFIG.unpack(config)[2] != 0,
    )


def _query(sock: socket.socket, request: int, interface: str, question: bytes) -> bytes | None:
    """The driver's answer, written over `question`; None if it refuses."""
    buffer = ctypes.create_string_buffer(question, len(question))
    try:
        fcntl.ioctl(sock, request, _IFREQ.pack(interface.encode(), ctypes.addressof(buffer)))
    except OSError:
        return None
    return buffer.raw
