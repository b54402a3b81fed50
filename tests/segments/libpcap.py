"""libpcap as the reference: tcpdump records beside the capture, and its file is read here."""

from __future__ import annotations

import shutil
import struct
import subprocess
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.segments.packets import SYN

# s without a packet in the file
QUIET = 0.3
_NANOSECONDS = 0xA1B23C4D
_ETHERNET, _RAW = 1, 101


class Packet(NamedTuple):
    """A TCP segment that libpcap saw."""

    stamp: int
    source: int
    target: int
    sequence: int
    flags: int
    length: int


@contextmanager
def recording(file: Path, interface: str, expression: str) -> Iterator[None]:
    """Have tcpdump record into `file`; all that arrived is in it at the end."""
    if shutil.which("tcpdump") is None:
        pytest.skip("tcpdump is not installed")
    command = ["tcpdump", "-i", interface, "-w", file, "-U", "-s", "128", "-B", "65536", "-n", "-Z", "root"]
    command += ["--immediate-mode", "--time-stamp-precision=nano", expression]
    dump = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert dump.stderr is not None
        for line in dump.stderr:
            if "listening on" in line:
                break
        yield
        # what it has not read when it is ended is not in its file
        size = -1
        while size != (size := file.stat().st_size):
            time.sleep(QUIET)
    finally:
        dump.terminate()
        _, text = dump.communicate(timeout=20)
    assert "0 packets dropped by kernel" in text, text


def read(file: Path) -> Iterator[Packet]:
    """The TCP segments of a recording, in order of their arrival."""
    data = file.read_bytes()
    magic, *_, link = struct.unpack_from("<IHHiIII", data)
    assert magic == _NANOSECONDS
    at = 24
    while at < len(data):
        seconds, nanoseconds, captured, size = struct.unpack_from("<4I", data, at)
        at += 16
        yield from _segment(seconds * 1_000_000_000 + nanoseconds, data[at : at + captured], size, link)
        at += captured


def _segment(stamp: int, frame: bytes, size: int, link: int) -> Iterator[Packet]:
    at = {_ETHERNET: 14, _RAW: 0}[link]
    protocol = frame[12:14] if link == _ETHERNET else b"\x86\xdd" if frame[0] >> 4 == 6 else b"\x08\x00"
    if protocol == b"\x81\x00":
        protocol, at = frame[16:18], at + 4
    if protocol == b"\x08\x00" and frame[at + 9] == 6:
        end = at + (int.from_bytes(frame[at + 2 : at + 4]) or size - at)
        at += (frame[at] & 15) * 4
    elif protocol == b"\x86\xdd" and frame[at + 6] in (0, 6):
        end = at + 40 + int.from_bytes(frame[at + 4 : at + 6]) if frame[at + 6] else size
        at += 40 if frame[at + 6] else 48
    else:
        return
    source, target, sequence, _, offset, flags = struct.unpack_from("!HHIIBB", frame, at)
    yield Packet(stamp, source, target, sequence, flags, end - at - (offset >> 4) * 4)


class Reference:
    """What libpcap saw of a connection's bytes to local `port`; streams of up to 2 GiB.

    Attributes:
        arrivals: of each byte, by its stream offset: the packets that brought it, in order, as places among `stamps`.
        stamps: of each packet.

    """

    def __init__(self, packets: Iterable[Packet], port: int) -> None:
        self.arrivals: dict[int, list[int]] = {}
        self.stamps: list[int] = []
        start: int | None = None
        for packet in packets:
            if packet.target != port:
                continue
            if packet.flags & SYN:
                start = packet.sequence + 1
            elif start is not None and packet.length:
                offset = (packet.sequence - start) & 0xFFFFFFFF
                for byte in range(offset, offset + packet.length):
                    self.arrivals.setdefault(byte, []).append(len(self.stamps))
                self.stamps.append(packet.stamp)

    def differences(self, stamps: Mapping[int, int], *, exactly: bool = False) -> list[str]:
        """Where `stamps` (of each byte) are not those of the first arrival.

        A packet from a NIC has a stamp, which all get; one that this machine sent to itself has none, and whoever looks
        takes the time: a capture of all interfaces just before libpcap's of a single one, and no packet in between
        (net/core/dev.c, __netif_receive_skb_core). Then a stamp is the first arrival's if that is the next one of
        libpcap's. With `exactly` they have to be equal.
        """
        wrong = []
        for byte, stamp in stamps.items():
            first = self.arrivals[byte][0]
            if stamp != self.stamps[first] and (exactly or bisect_left(self.stamps, stamp) != first):
                wrong.append(f"byte {byte}: {stamp}, libpcap {[self.stamps[place] for place in self.arrivals[byte]]}")
        return wrong
