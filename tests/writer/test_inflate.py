"""wsrec.writer.inflate: compressed messages become what was compressed; the others stay as they are."""

from __future__ import annotations

import zlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rings import slot
from wsrec.ring.slot_flags import Flag
from wsrec.ring.slot_layout import SLOT_DTYPE
from wsrec.writer import inflate as module
from wsrec.writer.inflate import inflate

FIN = int(Flag.FIN)
COMPRESSED = int(Flag.FIN | Flag.RSV1)


def deflated(data: bytes, level: int = 6) -> bytes:
    """As a server compresses a message (RFC 7692 section 7.2.1)."""
    stream = zlib.compressobj(level, wbits=-15)
    return (stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


def inflated(*messages: tuple[bytes, int], limit: int = 1 << 20) -> tuple[list[bytes], list[int], list[int]]:
    """Payloads and flags after inflation, and the rows that were refused."""
    slots = np.array([slot(length=len(data), flags=flags) for data, flags in messages], SLOT_DTYPE)
    payload = pa.array([data for data, _ in messages], pa.large_binary())
    found, flags_found, refused = [], [], []
    for piece in inflate(slots, payload, limit):
        refused += [len(found) + row for row, _ in piece.refused]
        found += piece.payload.to_pylist()
        flags_found += piece.slots["flags"].tolist()
    return found, flags_found, refused


class TestInflate:
    @settings(deadline=None)
    @given(st.lists(st.tuples(st.binary(max_size=5000), st.booleans(), st.integers(0, 9)), max_size=8))
    def test_every_message_comes_back(self, messages: list[tuple[bytes, bool, int]]):
        wire = [(deflated(data, level), COMPRESSED) if small else (data, FIN) for data, small, level in messages]
        assert inflated(*wire) == ([data for data, _, _ in messages], [FIN] * len(messages), [])

    def test_nothing_is_touched_where_nothing_is_compressed(self):
        slots = np.array([slot(length=1, flags=FIN)], SLOT_DTYPE)
        payload = pa.array([b"a"], pa.large_binary())
        (piece,) = inflate(slots, payload, 100)
        assert piece.slots is slots
        assert piece.payload is payload
        assert not piece.refused

    def test_the_rfcs_own_messages(self):
        """RFC 7692 section 7.2.3: one block, no compression, BFINAL set, two blocks."""
        examples = [
            "f248cdc9c90700",
            "000500faff48656c6c6f00",
            "f348cdc9c9070000",
            "f248050000 00ffffcac9c90700".replace(" ", ""),
        ]
        assert inflated(*((bytes.fromhex(text), COMPRESSED) for text in examples))[0] == [b"Hello"] * 4

    @pytest.mark.parametrize("data", [b"\xff\xff\xff", b"no deflate", deflated(b"a" * 5000 + bytes(range(256)))[:-20]])
    def test_what_does_not_inflate_keeps_its_bytes_and_says_so(self, data: bytes):
        good = deflated(b"good")
        assert inflated((good, COMPRESSED), (data, COMPRESSED), (good, COMPRESSED)) == (
            [b"good", data, b"good"],
            [FIN, COMPRESSED, FIN],
            [1],
        )

    def test_a_bomb_is_not_inflated(self):
        bomb = deflated(bytes(1 << 24))
        assert len(bomb) < 1 << 15
        assert inflated((bomb, COMPRESSED), limit=1 << 20) == ([bomb], [COMPRESSED], [0])
        assert inflated((bomb, COMPRESSED), limit=1 << 24)[0] == [bytes(1 << 24)]

    @pytest.mark.parametrize("piece", [1, 500_000, 1 << 30])
    def test_many_that_grow_come_in_pieces(self, monkeypatch, piece: int):
        monkeypatch.setattr(module, "_PIECE_BYTES", piece)
        bomb, word = deflated(bytes(400_000)), deflated(b"word")
        messages = [(bomb, COMPRESSED), (b"plain", FIN), (b"none", COMPRESSED), (word, COMPRESSED), (bomb, COMPRESSED)]
        whole = bytes(400_000)
        assert inflated(*messages, limit=500_000) == (
            [whole, b"plain", b"none", b"word", whole],
            [FIN, FIN, COMPRESSED, FIN, FIN],
            [2],
        )
