"""wsrec.writer.rows: the columns that a reader computes with."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rings import slot
from tests.stage_columns import STAMPS
from wsrec.format.schema import MESSAGE_SCHEMA
from wsrec.format.stage_times import derived
from wsrec.ring.slot_flags import Flag
from wsrec.ring.slot_layout import SLOT_DTYPE
from wsrec.stages import STAGES, STEPS, StampSource
from wsrec.wire.frames import BINARY, CLOSE, PING, PONG, TEXT
from wsrec.writer.rows import columns, split_payload, stamps

FIN = int(Flag.FIN)
OFFSET = 1_764_000_000_000_000_000
MONOTONIC = 5_000_000_000_123
NIC = OFFSET + MONOTONIC - 999


def rows_of(*slots, payloads=None):
    array = np.array(list(slots), SLOT_DTYPE)
    when = stamps(array, np.full(len(array), OFFSET, np.int64))
    return columns(array, when, pa.array(payloads or [b"x"] * len(array), pa.large_binary()))


def times_of(*slots):
    """The times of the stages, by the columns."""
    batch = pa.RecordBatch.from_pydict(rows_of(*slots))
    return dict(zip(STAMPS, derived(batch, STAMPS).columns, strict=True))


def received(**fields):
    stages = {"event": MONOTONIC, "recv_start": 10, "recv_end": 200, "parsed": 3000, "handoff": MONOTONIC + 99_999}
    return slot(**{"opcode": TEXT, "flags": FIN, "nic": NIC, "source": StampSource.KERNEL, **stages, **fields})


def ns(column):
    return column.cast(pa.int64()).to_pylist()


class TestStamps:
    def test_six_stages_onto_utc_to_the_nanosecond(self):
        rows = times_of(received())
        start = OFFSET + MONOTONIC
        expected = [NIC, start, start + 10, start + 210, start + 3210, start + 99_999]
        assert [ns(rows[stage.column])[0] for stage in STAGES] == expected

    def test_coarse_differences_are_in_units_of_1024_ns(self):
        rows = times_of(received(flags=FIN | Flag.COARSE))
        start = OFFSET + MONOTONIC
        expected = [start, start + 10 * 1024, start + 210 * 1024, start + 3210 * 1024]
        assert [ns(rows[stage.column])[0] for stage in STAGES[1:5]] == expected

    def test_the_largest_differences_do_not_overflow(self):
        most = 2**32 - 1
        rows = times_of(received(flags=FIN | Flag.COARSE, recv_start=most, recv_end=most, parsed=most))
        assert ns(rows["parsed_time"]) == [OFFSET + MONOTONIC + 3 * most * 1024]

    def test_a_row_without_stage_1_has_null_there_and_only_there(self):
        rows = times_of(received(nic=0, source=StampSource.NONE_OPENSSL))
        assert [rows[stage.column].null_count for stage in STAGES] == [1, 0, 0, 0, 0, 0]

    def test_a_sent_row_has_only_the_hand_off(self):
        sent = slot(opcode=TEXT, flags=FIN | Flag.SENT, source=StampSource.NONE_SENT, handoff=MONOTONIC)
        times = times_of(sent)
        assert [times[stage.column].null_count for stage in STAGES] == [1, 1, 1, 1, 1, 0]
        rows = rows_of(sent)
        assert [rows[step.key].null_count for step in STEPS] == [1] * len(STEPS)
        assert ns(rows["recv_time"]) == ns(rows["handoff_time"]) == [OFFSET + MONOTONIC]


class TestRecvTime:
    @pytest.mark.parametrize(
        ("source", "word"), [(StampSource.NIC, "nic"), (StampSource.KERNEL, "kernel")], ids=["nic", "kernel"]
    )
    def test_stage_1_where_there_is_one(self, source, word):
        rows = rows_of(received(source=source))
        assert (ns(rows["recv_time"]), rows["recv_source"].to_pylist()) == ([NIC], [word])

    @pytest.mark.parametrize("source", [source for source in StampSource if source.reason is not None])
    def test_else_recv_end_and_never_called_a_nic(self, source):
        rows = rows_of(received(nic=0, source=source))
        assert (ns(rows["recv_time"]), rows["recv_source"].to_pylist()) == ([OFFSET + MONOTONIC + 210], ["user"])


class TestWords:
    def test_opcodes(self):
        rows = rows_of(*(received(opcode=opcode) for opcode in (TEXT, BINARY, CLOSE, PING, PONG)))
        assert rows["opcode"].to_pylist() == ["text", "binary", "close", "ping", "pong"]

    def test_directions(self):
        rows = rows_of(received(), received(flags=FIN | Flag.SENT))
        assert rows["direction"].to_pylist() == ["recv", "sent"]

    def test_counters_of_the_read(self):
        rows = rows_of(received(conn=7, frame_in_read=1, frames_in_read=3, read_bytes=70_000))
        found = {key: rows[key].to_pylist() for key in ("conn", "frame_in_read", "frames_in_read", "read_bytes")}
        assert found == {"conn": [7], "frame_in_read": [1], "frames_in_read": [3], "read_bytes": [70_000]}

    def test_every_column_has_its_type(self):
        rows = rows_of(received())
        for name, column in rows.items():
            assert column.cast(MESSAGE_SCHEMA.field(name).type).type == MESSAGE_SCHEMA.field(name).type


def is_utf8(payload):
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


class TestSplitPayload:
    @given(
        st.lists(
            st.tuples(
                st.one_of(st.text(max_size=9).map(str.encode), st.binary(max_size=9)),
                st.sampled_from([TEXT, TEXT, TEXT, BINARY, PING, CLOSE]),
                st.sampled_from([FIN, FIN, FIN | Flag.RSV1]),
            ),
            min_size=1,
        )
    )
    def test_text_that_is_utf8_and_everything_else_byte_for_byte(self, rows):
        slots = np.array([slot(opcode=opcode, flags=int(flags)) for _, opcode, flags in rows], SLOT_DTYPE)
        text, data = split_payload(slots, pa.array([payload for payload, _, _ in rows], pa.large_binary()))
        for row, (payload, opcode, flags) in enumerate(rows):
            if opcode == TEXT and not flags & Flag.RSV1 and is_utf8(payload):
                assert (text[row].as_py(), data[row].as_py()) == (payload.decode(), None)
            else:
                assert (text[row].as_py(), data[row].as_py()) == (None, payload)

    @pytest.mark.parametrize("bad", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"])
    def test_one_bad_message_does_not_move_the_others(self, bad):
        slots = np.array([slot(opcode=TEXT, flags=FIN)] * 3, SLOT_DTYPE)
        text, data = split_payload(slots, pa.array(["é".encode(), bad, b""], pa.large_binary()))
        assert text.to_pylist() == ["é", None, ""]
        assert data.to_pylist() == [None, bad, None]
