"""wsrec.store.inflate: compressed messages become what was compressed; the others stay as they are."""

from __future__ import annotations

import zlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.store.rings import slot
from wsrec.ring.slotring import SLOT_DTYPE, Flag
from wsrec.store import inflate as module
from wsrec.store.inflate import inflate

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
    slots, payload, refused = inflate(slots, payload, limit)
    return payload.to_pylist(), slots["flags"].tolist(), [row for row, _ in refused]


class TestInflate:
    @given(st.lists(st.tuples(st.binary(max_size=5000), st.booleans(), st.integers(0, 9)), max_size=8))
    def test_every_message_comes_back(self, messages: list[tuple[bytes, bool, int]]):
        wire = [(deflated(data, level), COMPRESSED) if small else (data, FIN) for data, small, level in messages]
        assert inflated(*wire) == ([data for data, _, _ in messages], [FIN] * len(messages), [])

    def test_nothing_is_touched_where_nothing_is_compressed(self):
        slots = np.array([slot(length=1, flags=FIN)], SLOT_DTYPE)
        payload = pa.array([b"a"], pa.large_binary())
        same_slots, same_payload, refused = inflate(slots, payload, 100)
        assert same_slots is slots
        assert same_payload is payload
        assert not refused

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

    def test_many_bombs_share_what_a_batch_may_take(self, monkeypatch):
        monkeypatch.setattr(module, "_BATCH_LIMIT", 1 << 20)
        bomb = deflated(bytes(400_000))
        assert inflated(*[(bomb, COMPRESSED)] * 4, limit=500_000)[2] == [2, 3]
