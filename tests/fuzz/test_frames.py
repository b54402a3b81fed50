"""Frames of a hostile exchange: whatever comes, it lies in slots or ends the connection with a reason."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.receive.conftest import Rig, frame, hot_path, make_rig, rig  # noqa: F401 (fixtures)
from wsrec.receive.hotpath import MIN_RING
from wsrec.wire.errors import ProtocolError

LIMIT = 70_000
LENGTHS = [0, 1, 2, 124, 125, 126, 127, 128, 65534, 65535, 65536, LIMIT - 1, LIMIT, LIMIT + 1, 1 << 31, 1 << 62]


@st.composite
def hostile_frames(draw: st.DrawFn) -> bytes:
    """A header with any bits, in any form of length, that may promise more than follows."""
    first = draw(st.integers(0, 255))
    length = draw(st.sampled_from(LENGTHS) | st.integers(0, 300))
    form = draw(st.sampled_from([0, 126, 127]))
    masked = draw(st.sampled_from([0, 0, 0, 0x80]))
    if form == 127 or length > 65535:
        head = bytes([first, masked | 127]) + struct.pack(">Q", length | draw(st.sampled_from([0, 0, 0, 1 << 63])))
    elif form == 126 or length > 125:
        head = bytes([first, masked | 126]) + struct.pack(">H", length)
    else:
        head = bytes([first, masked | length])
    return head + bytes(min(length, draw(st.sampled_from([0, 1, 1000, LIMIT + 2]))))


def sane(used: Rig) -> None:
    """The slots are within the rings (reading them checks that), and an end has a reason."""
    assert len(used.ends) <= 1
    for end in used.ends:
        assert end is None or isinstance(end, ProtocolError)
    assert sum(len(payload) for opcode, payload in used.reader.received() if opcode >= 8) <= 125 * len(used.controls)


class TestHostile:
    @settings(deadline=None, max_examples=150)
    @given(frames=st.lists(hostile_frames(), max_size=8), ring=st.sampled_from([MIN_RING, 1 << 18]))
    def test_any_headers(self, make_rig, frames, ring):  # noqa: F811
        with make_rig(ring=ring, max_message=LIMIT) as rig:  # noqa: F811
            for data in frames:
                rig.feed(data)
            sane(rig)
            for opcode, payload in rig.reader.received() if not rig.ends else ():
                assert opcode >= 8 or len(payload) <= LIMIT

    @settings(deadline=None, max_examples=100)
    @given(bits=st.integers(1, 7), opcode=st.sampled_from([0, 1, 2, 8, 9, 10]))
    def test_reserved_bits_end_it(self, make_rig, bits, opcode):  # noqa: F811
        with make_rig() as rig:  # noqa: F811
            rig.feed(bytes([0x80 | bits << 4 | opcode, 0]))
            (end,) = rig.ends
            assert isinstance(end, ProtocolError)
            assert rig.reader.received() == []

    def test_empty_fragments_without_end_cost_no_memory(self, rig):  # noqa: F811
        rig.feed(frame(1, b"", fin=False))
        for _ in range(20):
            rig.feed(frame(0, b"", fin=False) * 5_000)
        assert rig.ends == []
        assert rig.hot.unparsed == 0
        assert rig.ring.head.read() == rig.ring.tail.read()

    def test_a_flood_of_pings_is_told_one_by_one_and_nothing_piles_up(self, rig):  # noqa: F811
        rig.feed(frame(9, b"x" * 125) * 20_000)
        assert len(rig.controls) == 20_000
        assert rig.hot.unparsed == 0

    @pytest.mark.parametrize("promised", [1 << 40, (1 << 63) - 1])
    def test_a_promise_of_more_than_allowed_ends_it_before_a_byte_of_it_comes(self, make_rig, promised):  # noqa: F811
        with make_rig(max_message=LIMIT) as rig:  # noqa: F811
            rig.feed(b"\x82\x7f" + struct.pack(">Q", promised))
            (end,) = rig.ends
            assert "more than 70000 bytes" in str(end)
