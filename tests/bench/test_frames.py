"""What the bench sends."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from wsrec.bench.frames import Frames, generated, recorded, share
from wsrec.replay.message import SourceError


def wire(payload: bytes) -> bytes:
    return Frame(Opcode.TEXT, payload).serialize(mask=False)


class TestFrames:
    @given(st.lists(st.binary(max_size=300), min_size=1, max_size=30), st.integers(1, 1000), st.data())
    def test_runs_and_pieces_are_whole_frames(self, payloads: list[bytes], size: int, data: st.DataObject):
        fd = share([(Opcode.TEXT, payload) for payload in payloads])
        try:
            frames = Frames(fd, len(payloads))
            start = data.draw(st.integers(0, len(payloads) - 1))
            stop = data.draw(st.integers(start + 1, len(payloads)))
            assert bytes(frames.run(start, stop)) == b"".join(map(wire, payloads[start:stop]))
            pieces = list(frames.pieces(size))
            assert [start for start, _ in pieces] == [0, *(stop for _, stop in pieces[:-1])]
            assert pieces[-1][1] == len(payloads)
            assert all(stop == start + 1 or len(frames.run(start, stop)) <= size for start, stop in pieces)
        finally:
            os.close(fd)


class TestMessages:
    def test_generated_ones_are_those_of_the_demo_market(self):
        messages = generated(500)
        assert len(messages) == 500
        streams = {json.loads(payload)["stream"] for _, payload in messages}
        assert streams == {"btcusdt@trade", "btcusdt@bookTicker", "btcusdt@depth@0ms"}

    def test_recorded_ones_are_those_of_the_recording(self, tmp_path: Path):
        path = tmp_path / "recording.txt"
        path.write_bytes(b'1723161255088176367 {"a":1}\n1723161255088176368 \xff\x00\n')
        assert recorded(path) == [(Opcode.TEXT, b'{"a":1}'), (Opcode.BINARY, b"\xff\x00")]

    def test_an_empty_recording_is_an_error(self, tmp_path: Path):
        (tmp_path / "recording.txt").touch()
        with pytest.raises(SourceError, match="has no messages"):
            recorded(tmp_path / "recording.txt")
