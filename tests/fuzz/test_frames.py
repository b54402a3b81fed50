"""Frames of a hostile exchange: whatever comes, it lies in slots or ends the connection with a reason."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import examples
from tests.receive.conftest import Rig, frame, hot_path, make_rig, rig  # noqa: F401 (fixtures)
from wsrec.ring.bytering import MIN_RING
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
    @settings(deadline=None, max_examples=examples(150))
    @given(frames=st.lists(hostile_frames(), max_size=8), ring=st.sampled_from([MIN_RING, 1 << 18]))
    def test_any_headers(self, make_rig, frames, ring):  # noqa: F811
        with make_rig(ring=ring, max_message=LIMIT) as rig:  # noqa: F811
            for data in frames:
                rig.feed(data)
            sane(rig)
            for opcode, payload in rig.reader.received() if not rig.ends else ():
                assert opcode >= 8 or len(payload) <= LIMIT

    @settings(deadline=None, max_examples=examples(100))
    @given(bits=st.integers(1, 7), opcode=st.sampled_from([0, 1, 2, 8, 9, 10]))
    def test_reserved_bits_end_it(self, make_rig, bits, opcode):  # noqa: F811
        with make_rig() as rig:  # noqa: F811
            rig.feed(bytes([0x80 | bits << 4 | opcode, 0]))
            (end,) = rig.ends
            assert isinstance(end, ProtocolError)
            assert rig.reader.received() == []

    @pytest.mark.parametrize("size", [0, 1, 3])
    @pytest.mark.parametrize("limit", [LIMIT, 300_000])
    def test_fragments_without_end_are_refused_as_a_message_too_big(self, make_rig, size, limit):  # noqa: F811
        allowed = max(limit // 64, 4096)
        with make_rig(max_message=limit) as rig:  # noqa: F811
            rig.feed(frame(1, b"x" * size, fin=False))
            for pings in range(allowed - 1):
                rig.feed(frame(0, b"x" * size, fin=False) * 100 + frame(9) if pings % 10 == 0 else b"")
                if rig.ends:
                    break
            (end,) = rig.ends
            assert (end.code, str(end)) == (1009, f"a message of more than {allowed} frames (raise --max-message)")
            assert len([slot for slot in rig.reader.taken if slot.opcode < 8]) == allowed

    def test_as_many_fragments_as_are_allowed_are_one_message_and_the_next_counts_anew(self, make_rig):  # noqa: F811
        with make_rig(max_message=LIMIT) as rig:  # noqa: F811
            for _ in range(3):
                rig.feed(frame(1, b"x", fin=False) + frame(0, b"x", fin=False) * 4_094 + frame(0, b"x"))
            assert rig.ends == []
            assert rig.reader.received() == [(1, b"x" * 4_096)] * 3

    def test_a_flood_of_pings_is_answered_one_by_one_and_nothing_piles_up(self, rig):  # noqa: F811
        rig.feed(frame(9, b"x" * 125) * 20_000)
        assert len(rig.controls) == 20_000
        assert rig.hot.unparsed == 0

    @pytest.mark.parametrize("promised", [1 << 40, (1 << 63) - 1])
    def test_a_promise_of_more_than_allowed_ends_it_before_a_byte_of_it_comes(self, make_rig, promised):  # noqa: F811
        with make_rig(max_message=LIMIT) as rig:  # noqa: F811
            rig.feed(b"\x82\x7f" + struct.pack(">Q", promised))
            (end,) = rig.ends
            assert "more than 70000 bytes" in str(end)


# second byte and extended length, payload length, whether more bytes follow than the header
FORMS = {
    "7 bits, empty": (b"\x00", 0),
    "7 bits, 125": (b"\x7d", 125),
    "16 bits, 0, longer than needed": (b"\x7e\x00\x00", 0),
    "16 bits, 125, longer than needed": (b"\x7e\x00\x7d", 125),
    "16 bits, 126": (b"\x7e\x00\x7e", 126),
    "16 bits, 65535": (b"\x7e\xff\xff", 65535),
    "64 bits, 125, longer than needed": (b"\x7f" + struct.pack(">Q", 125), 125),
    "64 bits, 65536": (b"\x7f" + struct.pack(">Q", 65536), 65536),
    "64 bits, the largest message": (b"\x7f" + struct.pack(">Q", LIMIT), LIMIT),
    "64 bits, a byte more": (b"\x7f" + struct.pack(">Q", LIMIT + 1), LIMIT + 1),
    "64 bits, all there are": (b"\x7f" + struct.pack(">Q", (1 << 63) - 1), (1 << 63) - 1),
    "64 bits, the highest bit": (b"\x7f" + struct.pack(">Q", 1 << 63), None),
    "masked": (b"\x80\0\0\0\0", None),
}


def verdict(first: int, length: int | None, *, inside: bool, compression: bool) -> int | None:
    """The close code that RFC 6455 has for a frame, None for a good one; written down apart from the code."""
    fin, rsv, opcode = bool(first & 0x80), first >> 4 & 7, first & 15
    if length is None:
        return 1002
    if rsv and not (rsv == 4 and compression and opcode in (1, 2)):
        return 1002
    if opcode in (8, 9, 10):
        return None if fin and length <= 125 else 1002
    if opcode > 2 or (opcode == 0) != inside:
        return 1002
    return None if length + inside <= LIMIT else 1009


# every opcode that there is and the limits of those that are not, each reserved bit and all, FIN or not
FIRSTS = [
    fin << 7 | rsv << 4 | op for fin in (0, 1) for rsv in (0, 1, 2, 4, 7) for op in (0, 1, 2, 3, 7, 8, 9, 10, 11, 15)
]


class TestMatrix:
    """Opcodes, reserved bits and FIN, with every form of length at its limits, inside a message or not."""

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("compression", [False, True])
    @pytest.mark.parametrize("inside", [False, True])
    def test_every_header(self, make_rig, form, compression, inside):  # noqa: F811
        head, length = FORMS[form]
        for first in FIRSTS if not compression else [first for first in FIRSTS if first & 0x70 == 0x40]:
            with make_rig(max_message=LIMIT, ring=1 << 18) as rig:  # noqa: F811
                rig.rules.compression = compression
                before = [frame(1, b"x", fin=False)] if inside else []
                code = verdict(first, length, inside=inside, compression=compression)
                payload = bytes(length) if length is not None and code is None else b""
                rig.feed(b"".join(before) + bytes([first]) + head + payload)
                if code is None:
                    assert rig.ends == []
                    assert (rig.reader.taken[-1].opcode, len(rig.reader.taken[-1].payload)) == (first & 15, length)
                    assert rig.reader.taken[-1].fin == bool(first & 0x80)
                else:
                    (end,) = rig.ends
                    assert end.code == code, (hex(first), form)
                    assert len(rig.reader.taken) == len(before)
