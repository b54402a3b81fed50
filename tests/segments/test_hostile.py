"""The parser of captured packets with what nobody should send: bounds, and no more than the ring can hold.

What goes wrong here mostly shows under the sanitizers (scripts/sanitize), which is why these tests are among its own.
"""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import examples
from tests.segments.packets import ACK, SYN, V4, V6, packet, tagged, with_checksum
from tests.segments.test_flow import Table
from wsrec.segments.segment_ring import SegmentKind

# struct tpacket_block_desc up to the first packet; tpacket3_hdr and sockaddr_ll (linux/if_packet.h)
CHECKED = 1 << 7
_BLOCK_HEADER, _PACKET_HEADER, _ADDRESS = 48, 48, 20


def block(packets: list[tuple[bytes, int]], *, room: int = 0) -> bytearray:
    """A block of the kernel's ring with these packets and their protocols."""
    data = bytearray(_BLOCK_HEADER)
    struct.pack_into("=7I", data, 0, 1, _BLOCK_HEADER, 1, len(packets), _BLOCK_HEADER if packets else 0, 0, 0)
    for number, (content, protocol) in enumerate(packets):
        net = _PACKET_HEADER + _ADDRESS + 4
        size = -(-(net + len(content)) // 16) * 16
        follows = size if number < len(packets) - 1 else 0
        header = struct.pack("=6IHH", follows, 7, 5 + number, len(content), len(content), CHECKED, net, net)
        address = struct.pack("=H", 17) + struct.pack("!H", protocol)
        data += header.ljust(_PACKET_HEADER, b"\0") + address.ljust(_ADDRESS + 4, b"\0") + content
        data += bytes(size - net - len(content))
    return data + bytes(room)


def conversation() -> list[tuple[bytes, int]]:
    """What a server sends, over both protocols, with tags, holes and repetitions."""
    found = []
    for ends in (V4, V6):
        found.append(packet(ends, 2**32 - 40, b"", SYN | ACK))
        stream = b"".join(bytes([23, 3, 3, 0, size]) + bytes(size) for size in range(40))
        for start in (0, 100, 300, 200, 150, 400, 0):
            found.append(packet(ends, 2**32 - 39 + start, stream[start : start + 100], options=b"\1" * 8))
        found.append(tagged(*packet(ends, 461, b"x" * 30), 0x8100))
        found.append(packet(ends, 500, b"x" * 30, jumbo=True))
    return found


def watching() -> Table:
    table = Table(256)
    table.watch(V4, records=True)
    table.watch(V6, place=1, flow=2, records=True)
    return table


def consistent(table: Table) -> None:
    """What is in the ring is of the flows, and no byte is told twice without being told to be repeated."""
    covered: dict[int, set[int]] = {1: set(), 2: set()}
    for row in table.rows():
        assert row["kind"] in set(SegmentKind)
        if row["kind"] == SegmentKind.SEGMENT and not row["flags"] & 2 and row["length"] < 10_000:
            told = set(range(int(row["offset"]), int(row["offset"]) + int(row["length"])))
            assert told
            assert not told & covered[int(row["flow"])]
            covered[int(row["flow"])] |= told


def test_a_block_as_the_kernel_writes_it():
    table = watching()
    table.table.block(block(conversation()))
    consistent(table)
    assert table.table.packets == len(conversation())
    assert table.table.segments == 18


class TestMutations:
    @given(seed=st.integers(0, 2**32 - 1))
    @settings(max_examples=examples(400))
    def test_spoiled_packets_cut_anywhere(self, seed):
        choose, table = random.Random(seed), watching()
        for data, protocol in conversation():
            spoiled = bytearray(data)
            for _ in range(choose.choice([0, 0, 1, 3])):
                # mostly in the headers
                at = min(int(choose.expovariate(1 / 30)), len(spoiled) - 1)
                spoiled[at] = choose.choice([0, 255, choose.randrange(256), spoiled[at] ^ 1 << choose.randrange(8)])
            if protocol == 0x0800 and choose.random() < 0.7 and spoiled[0] & 15 >= 5:
                # else most would be dropped for it
                spoiled = bytearray(with_checksum(bytes(spoiled)))
            kept = spoiled[: choose.choice([len(spoiled), choose.randrange(len(spoiled) + 1)])]
            length = choose.choice([len(data), len(data), len(kept), choose.randrange(1 << 18), (1 << 32) - 1])
            kind, checked = choose.choice([protocol, protocol, 0x8100, choose.randrange(65536)]), choose.random() < 0.8
            table.table.packet(kept, length, kind, 5, checked=checked)
        consistent(table)

    @given(seed=st.integers(0, 2**32 - 1))
    @settings(max_examples=examples(400))
    def test_spoiled_blocks(self, seed):
        choose, table = random.Random(seed), watching()
        spoiled = block(conversation(), room=choose.randrange(100))
        for _ in range(choose.randrange(1, 8)):
            at = choose.choice([choose.randrange(len(spoiled)), choose.randrange(_BLOCK_HEADER + 100) & ~3])
            struct.pack_into("=B" if at > len(spoiled) - 4 else "=I", spoiled, at, choose.choice([0, 1, 47, 255]))
            if choose.random() < 0.3 and at <= len(spoiled) - 4:
                struct.pack_into("=I", spoiled, at, choose.choice([2**32 - 1, 2**31, 2**16, len(spoiled)]))
        table.table.block(spoiled[: choose.choice([len(spoiled), choose.randrange(64, len(spoiled) + 1)])])
        consistent(table)


class TestBounds:
    def test_a_block_that_is_no_block(self):
        with pytest.raises(ValueError, match="larger"):
            watching().table.block(bytes(63))

    @pytest.mark.parametrize("use", ["put", "remove", "records_from"])
    def test_a_place_that_is_none(self, use):
        table = watching().table
        arguments = {"put": (16, 1, 1, 1, bytes(4), 1), "remove": (16,), "records_from": (16, 0)}[use]
        with pytest.raises(ValueError, match="no such place"):
            getattr(table, use)(*arguments)
        with pytest.raises(ValueError, match="no such address"):
            table.put(1, 1, 1, 1, bytes(5), 1)
