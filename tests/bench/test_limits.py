"""What the machine can do at best: what is timed is what it says, and the loop in C takes every step."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import numpy as np
import pytest
from websockets.frames import Frame, Opcode

from wsrec.bench import floor, limits
from wsrec.bench.limits import SUITE, sealed
from wsrec.bench.sender import certificates
from wsrec.bench.setup import Placement, place
from wsrec.bench.threads import together

compiled = limits.compiled
pytestmark = pytest.mark.skipif(
    limits.unavailable_reason() is not None, reason=f"not here: {limits.unavailable_reason()}"
)
KEY, IV = bytes(range(32)), bytes(range(12))
FREE = Placement(None, None, frozenset())


class TestOpener:
    def opener(self):
        return compiled.Opener(SUITE.cipher, KEY, IV)

    def test_opens_whole_records_and_leaves_the_rest(self):
        stream = b"".join(sealed(KEY, IV, i, content) for i, content in enumerate((b"one", b"", b"three")))
        into, opener = bytearray(1 << 16), self.opener()
        assert opener.open_all(stream, len(stream) - 1, into) == (len(stream) - 27, 2, 1)
        assert into[:1] == b"\x17"
        assert opener.open_all(stream[-27:], 27, into) == (27, 1, 6)
        assert into[:6] == b"three\x17"

    @pytest.mark.parametrize("at", [0, 4, 5, 8, -1])
    def test_refuses_what_was_not_sealed(self, at: int):
        record = bytearray(sealed(KEY, IV, 0, b"content"))
        record[at] ^= 1
        if at == 4:
            record += bytes(1)
        with pytest.raises(ValueError, match="not what was sealed"):
            self.opener().open_all(record, len(record), bytearray(1 << 16))


class TestOperations:
    def test_a_receive_takes_what_was_sent(self):
        with limits.connected() as (sender, receiver):
            assert compiled.sends(sender.fileno(), bytes(300), 3) == 900
            time.sleep(0.01)
            assert compiled.receives(receiver.fileno(), bytearray(300), 5) == 3

    def test_a_chase_reads_every_line_once(self):
        chase = limits._Chase(4096)
        seen = set()
        for _ in range(64):
            seen.add(chase._at)
            chase(1)
        assert len(seen) == 64
        assert chase._at == 0

    @pytest.mark.parametrize("by", ["futex", "pipe"])
    def test_a_thread_wakes_another(self, by: str):
        reading, writing = os.pipe() if by == "pipe" else (-1, -1)
        word, answer = np.zeros(16, np.uint32), np.zeros(16, np.uint32)
        sent, woke = np.zeros(50, np.int64), np.zeros(50, np.int64)
        together(
            (None, lambda: compiled.wake(writing, word, answer, sent, 1000)),
            (None, lambda: compiled.woken(reading, word, answer, woke)),
        )
        assert (woke > sent).all()
        assert (sent[1:] - woke[:-1] >= 1000).all()
        if by == "pipe":
            os.close(reading)
            os.close(writing)

    def test_a_thread_that_fails_is_an_error(self):
        def fail() -> None:
            raise OSError("it failed")

        with pytest.raises(OSError, match="it failed"):
            together((None, fail), (None, lambda: None))

    def test_all_are_timed(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(limits, "_TRIES", 2)
        monkeypatch.setattr(limits, "_TRY_NS", 20_000)
        monkeypatch.setattr(limits, "_CHASES", {"16 KiB": 16 << 10})
        took = {one.name: one.ns for one in limits.operations(FREE)}
        assert {limits.CLOCK, limits.COPY_SLOT, limits.SEND, limits.RECEIVE} <= set(took)
        assert all(ns > 0 for ns in took.values())
        # a system call is longer than what it is compared with, on any machine
        assert took[limits.RECEIVE] > took[limits.COPY_SLOT]


class TestRecords:
    def test_every_way_is_timed_by_size(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(limits, "_TRIES", 1)
        ca_file, certificate = certificates(tmp_path)
        costs = limits.records(FREE, certificate, ca_file)
        assert [one.size for one in costs] == list(limits.RECORD_SIZES)
        for one in costs:
            assert one.evp_ns > 0
            assert one.ssl_ns > 0
            assert one.reader_ns > 0


class TestFloor:
    @pytest.mark.parametrize("waiting", [True, False])
    def test_each_record_goes_through_every_step(self, *, waiting: bool):
        frame = Frame(Opcode.TEXT, b"x" * 200).serialize(mask=False)
        placement = place(None, None)
        measured = floor.measure(placement, frame, 200, 2000.0, waiting=waiting)
        assert 0 < measured.one_way["p50"] <= measured.one_way["p99.9"]
        assert set(measured.steps) == {*floor._STEPS, "sent_to_event", "recv_start_to_recv_end"}
        assert all(step["p50"] >= 0 for key, step in measured.steps.items() if key != "sent_to_event")
        assert measured.steps["read_to_recv_end"]["p50"] > 0

    def test_a_record_that_was_not_sealed_ends_it(self):
        opener = compiled.Opener(SUITE.cipher, KEY, IV)
        record = bytearray(sealed(KEY, IV, 1, b"another number"))
        with limits.connected() as (sender, receiver):
            sender.sendall(record)
            sender.shutdown(socket.SHUT_WR)
            arguments = (receiver.fileno(), -1, len(record), bytearray(4096), bytearray(4096))
            words = np.zeros(8, np.uint64), np.zeros(8, np.uint64), np.zeros((1, 6), np.int64)
            with pytest.raises(ValueError, match="not what was sealed"):
                opener.floor(*arguments, *words)
