"""TCP packets as the kernel shows them to a packet socket of type SOCK_DGRAM: from the network layer on."""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

IP, IPV6, VLAN, QINQ = 0x0800, 0x86DD, 0x8100, 0x88A8
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32


class Ends(NamedTuple):
    """A connection as seen from here."""

    local: str
    port: int
    remote: str
    remote_port: int

    @property
    def remote_address(self) -> bytes:
        return socket.inet_pton(socket.AF_INET6 if ":" in self.remote else socket.AF_INET, self.remote)


V4 = Ends("10.0.0.1", 40_000, "10.0.0.2", 443)
V6 = Ends("2001:db8::1", 40_001, "2001:db8::2", 9443)


def packet(
    ends: Ends, sequence: int, payload: bytes, flags: int = ACK, *, options: bytes = b"", jumbo: bool = False
) -> tuple[bytes, int]:
    """A packet from the remote end, and its protocol."""
    tcp = struct.pack(
        "!HHIIBBHHH",
        ends.remote_port,
        ends.port,
        sequence & 0xFFFFFFFF,
        1,
        (20 + len(options)) // 4 << 4,
        flags,
        1000,
        0,
        7 if flags & URG else 0,
    )
    tcp += options + payload
    if ":" not in ends.remote:
        total = 0 if jumbo else 20 + len(tcp)
        header = struct.pack("!BBHHHBBH", 0x45, 0, total, 1, 0x4000, 64, 6, 0)
        return with_checksum(header + ends.remote_address + socket.inet_aton(ends.local) + tcp), IP
    there, here = ends.remote_address, socket.inet_pton(socket.AF_INET6, ends.local)
    if jumbo:
        hop = struct.pack("!BBBBI", 6, 0, 0xC2, 4, 8 + len(tcp))
        return struct.pack("!IHBB", 6 << 28, 0, 0, 64) + there + here + hop + tcp, IPV6
    return struct.pack("!IHBB", 6 << 28, len(tcp), 6, 64) + there + here + tcp, IPV6


def with_checksum(data: bytes) -> bytes:
    """A packet of IPv4 with the checksum of its header."""
    size = (data[0] & 15) * 4
    return data[:10] + struct.pack("!H", checksum(data[:10] + b"\0\0" + data[12:size])) + data[12:]


def checksum(data: bytes) -> int:
    """RFC 1071."""
    total = sum(struct.unpack(f"!{len(data) // 2 + len(data) % 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def tagged(data: bytes, protocol: int, *tags: int) -> tuple[bytes, int]:
    """The packet with VLAN tags left in it, outermost first."""
    for tag in reversed(tags):
        data, protocol = struct.pack("!HH", 100, protocol) + data, tag
    return data, protocol
