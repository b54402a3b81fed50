"""How recorded rows are held against what was sent, and the feed that is recorded."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Opcode

from wsrec.bench.recording import Check, feed_file
from wsrec.plan.connections import plan
from wsrec.plan.target import resolve

payloads_of = st.lists(st.binary(max_size=20), min_size=1, max_size=8)


def checked(payloads: list[bytes], sent: int, came: list[list[bytes]]) -> Check:
    check = Check([(Opcode.BINARY, payload) for payload in payloads], sent)
    for rows in came:
        check.add(pa.chunked_array([rows], pa.binary()))
    return check


class TestCheck:
    @given(payloads_of, st.integers(0, 40), st.integers(1, 10))
    def test_passes_what_was_sent(self, payloads: list[bytes], sent: int, group: int):
        rows = [payloads[i % len(payloads)] for i in range(sent)]
        check = checked(payloads, sent, [rows[i : i + group] for i in range(0, sent, group)])
        assert check.passed
        assert check.rows == sent

    @given(payloads_of, st.integers(1, 40), st.data())
    def test_finds_what_is_different(self, payloads: list[bytes], sent: int, data: st.DataObject):
        rows = [payloads[i % len(payloads)] for i in range(sent)]
        index = data.draw(st.integers(0, sent - 1))
        assert not checked(payloads, sent, [[*rows[:index], rows[index] + b"x", *rows[index + 1 :]]]).passed
        assert not checked(payloads, sent, [rows[:-1]]).passed
        assert not checked(payloads, sent, [[*rows, payloads[sent % len(payloads)]]]).passed


class TestFeedFile:
    def test_is_the_catalogue_feed_at_the_senders_address(self, tmp_path: Path):
        target = resolve(str(feed_file(tmp_path, "wss://localhost:1234")), ["BTCUSDT"], ["trade", "depth@0ms"])
        (connection,) = plan([target])
        assert connection.url == "wss://localhost:1234/stream"
        assert connection.feed == "binance-usdm"
