"""wsrec.format.stage_times: the six times of a message come back from its file exactly."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from tests.stage_columns import STAMPS
from wsrec.format.schema import MESSAGE_SCHEMA
from wsrec.format.stage_times import DERIVED_SCHEMA, derived, message_field, stored_columns
from wsrec.ring.slot_flags import Flag
from wsrec.ring.slot_layout import SLOT_DTYPE
from wsrec.stages import STEPS
from wsrec.writer.rows import columns, stamps

DAY = 86_400_000_000_000
# wrong clocks included: stage 1 is the NIC's, UTC may be set, a busy machine may take hours
UTC = 1_795_000_000_000_000_000
RECEIVED = st.tuples(
    st.sampled_from([0, *range(UTC - 2 * DAY, UTC + 2 * DAY, DAY // 3 + 7), 1, 2**62]),
    *[st.integers(0, 2**32 - 1)] * 3,
    st.integers(0, 2**50),
    st.booleans(),
)


def slots(rows):
    """Slots, and the offset of each to UTC; `rows` has None for what was sent."""
    array = np.zeros(len(rows), SLOT_DTYPE)
    for slot, row in zip(array, rows, strict=True):
        slot["opcode"] = 1
        slot["handoff"] = 5_000_000_000_123
        if row is None:
            slot["flags"] = Flag.SENT
            continue
        nic, recv_start, recv_end, parsed, behind, coarse = row
        slot["flags"] = Flag.COARSE if coarse else 0
        slot["nic"], slot["recv_start"], slot["recv_end"], slot["parsed"] = nic, recv_start, recv_end, parsed
        slot["event"] = 5_000_000_000_123 - min(behind, 5_000_000_000_000)
    return array, UTC + np.arange(len(rows), dtype=np.int64)


@given(st.lists(st.none() | RECEIVED, min_size=1, max_size=20))
def test_every_time_comes_back_to_the_nanosecond(rows):
    array, offset = slots(rows)
    when = stamps(array, offset)
    batch = pa.RecordBatch.from_pydict(columns(array, when, pa.array([b"{}"] * len(array), pa.large_binary())))
    measured = (when.nic, when.event, when.recv_start, when.recv_end, when.parsed, when.handoff)
    exists = (when.stamped, *[when.received] * 4, np.ones(len(array), np.bool_))
    found = derived(batch, [*STAMPS, "handoff_monotonic", "total"])
    for name, times, there in zip(STAMPS, measured, exists, strict=True):
        expected = [int(time) if known else None for time, known in zip(times, there, strict=True)]
        assert found.column(name).cast(pa.int64()).to_pylist() == expected
    assert found.column("handoff_monotonic").to_pylist() == when.stage.tolist()
    total = when.handoff - when.nic
    assert found.column("total").to_pylist() == [
        int(ns) if known else None for ns, known in zip(total, when.stamped, strict=True)
    ]


def test_a_file_stores_the_steps_themselves_and_no_other_time_than_the_first_and_the_last():
    assert [field.name for field in MESSAGE_SCHEMA if pa.types.is_timestamp(field.type)] == [
        "recv_time",
        "handoff_time",
        "exchange_time",
    ]
    for step in STEPS:
        assert MESSAGE_SCHEMA.field(step.key).type == pa.int64()


def test_only_what_a_column_needs_is_read():
    assert stored_columns(["seq", "parsed_time", "handoff_time"]) == ["seq", "handoff_time", "parsed_to_handoff"]
    assert stored_columns(["handoff_monotonic"]) == ["handoff_time", "clock_offset"]
    assert len(stored_columns(DERIVED_SCHEMA.names)) == 8


def test_an_empty_batch_has_all_columns(tmp_path):
    names = [*MESSAGE_SCHEMA.names, *DERIVED_SCHEMA.names]
    pq.write_table(MESSAGE_SCHEMA.empty_table(), tmp_path / "a.parquet")
    empty = pa.RecordBatch.from_pylist([], schema=pq.read_schema(tmp_path / "a.parquet"))
    found = derived(empty, names)
    assert found.schema.names == names
    assert [field.type for field in found.schema] == [message_field(name).type for name in names]
