"""A TCP server in Python behind a TUN device: its segments come in any order, and the kernel stamps them as a NIC's."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Iterable

from tests.segments.packets import ACK, SYN, Ends, checksum, packet

_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 1, 0x1000
NEAR, FAR, PORT = "10.97.3.1", "10.97.3.2", 443


class TunServer:
    """Accepts one connection at `FAR`:`PORT`, and sends what it is told to.

    Args:
        name: of the device.
        first: the sequence number of its first byte.

    Raises:
        OSError: there can be no such device here.

    """

    def __init__(self, name: str, first: int) -> None:
        self.name = name
        self._first = first
        self._fd = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(self._fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI))
        subprocess.run(["ip", "addr", "add", f"{NEAR}/24", "dev", name], check=True)
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
        self._ends: Ends | None = None
        self._acknowledges = 0
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def send(self, stream: bytes, parts: Iterable[tuple[int, int]]) -> None:
        """Send these parts of a stream, each by its start and end, as segments of their own."""
        self._accepting.join(20)
        for start, end in parts:
            self._segment(self._first + start, stream[start:end], ACK)

    def close(self) -> None:
        """Remove the device."""
        os.close(self._fd)

    def _accept(self) -> None:
        while True:
            data = os.read(self._fd, 65536)
            if data[0] >> 4 != 4 or data[9] != socket.IPPROTO_TCP:
                continue
            port, at, sequence, _, _, flags = struct.unpack_from("!HHIIBB", data, 20)
            if at == PORT and flags & SYN:
                self._ends = Ends(NEAR, port, FAR, PORT)
                self._acknowledges = sequence + 1 & 0xFFFFFFFF
                self._segment(self._first - 1, b"", SYN | ACK)
                return

    def _segment(self, sequence: int, payload: bytes, flags: int) -> None:
        assert self._ends is not None
        data, _ = packet(self._ends, sequence, payload, flags)
        found = bytearray(data)
        struct.pack_into("!I", found, 28, self._acknowledges)
        struct.pack_into("!H", found, 34, 65535)
        pseudo = bytes(found[12:20]) + struct.pack("!HH", socket.IPPROTO_TCP, len(found) - 20)
        struct.pack_into("!H", found, 36, checksum(pseudo + bytes(found[20:])))
        os.write(self._fd, found)
