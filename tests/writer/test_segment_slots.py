"""wsrec.writer.segment_slots: what captured segments say of a frame, from its slot to the file and through journals."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.rings import payloads, slot
from tests.writer.test_pipeline import OFFSET, session
from wsrec.format.reading import open_capture
from wsrec.format.schema import SEGMENT_COLUMNS
from wsrec.format.segment_histograms import SegmentHistograms
from wsrec.ring.slot_flags import Flag
from wsrec.ring.slot_layout import OFFSETS, SLOT_DTYPE, SLOT_SIZE
from wsrec.stages import SegmentOrder, StampSource
from wsrec.wire.frames import CONTINUATION, TEXT
from wsrec.writer.batch import Batch
from wsrec.writer.journal import Journal
from wsrec.writer.journal_reader import JournalReader
from wsrec.writer.reassembly import Reassembler
from wsrec.writer.segment_slots import SEGMENT_SLOT_DTYPE, SEGMENT_SLOT_SIZE, has_segments, with_segments

__all__ = ["session"]

UTC = 1_795_355_999_000_000_000


def filled(slots):
    """Slots with segments: each a ns earlier than the read's stamp than the one before it."""
    wide = with_segments(slots)
    wide["read_stamp"] = wide["nic"]
    wide["nic"] -= np.arange(1, len(wide) + 1, dtype=np.uint64)
    wide["first_segment"] = wide["nic"] - np.uint64(50)
    wide["segment_order"] = SegmentOrder.IN_ORDER
    wide["source"] = StampSource.SEGMENT
    return wide


def test_a_slot_keeps_its_64_bytes_and_its_spare_ones_are_used():
    row = slot(offset=2**63, length=7, conn=9, opcode=TEXT, flags=1, source=2, read_bytes=2**32 - 1)
    wide = with_segments(np.array([row, row], SLOT_DTYPE))
    assert has_segments(wide)
    assert (wide.dtype.itemsize, SEGMENT_SLOT_SIZE) == (80, 80)
    for name in OFFSETS:
        assert wide[name][1] == row[name]
    assert wide.view(np.uint8).reshape(2, -1)[1, :SLOT_SIZE].tobytes() == row.tobytes()
    assert [wide[name].tolist() for name in ("segment_order", "read_stamp", "first_segment")] == [[0, 0]] * 3
    assert with_segments(wide) is wide


def test_memory_that_was_used_before_is_cleared():
    memory = np.full(3, 255, np.uint8).repeat(SEGMENT_SLOT_SIZE).view(SEGMENT_SLOT_DTYPE)
    wide = with_segments(np.array([slot(conn=5)] * 3, SLOT_DTYPE), memory)
    assert wide["conn"].tolist() == [5, 5, 5]
    assert not wide["first_segment"].any()
    assert not wide["segment_order"].any()
    assert not wide["read_stamp"].any()


def test_a_message_of_fragments_has_the_first_segment_of_its_beginning():
    def part(opcode, flags, nic):
        row = np.array([slot(length=1, opcode=opcode, flags=flags, nic=nic)], SLOT_DTYPE)
        wide = with_segments(row)
        wide["first_segment"] = nic - 10
        return Batch(wide, pa.array([b"x"], pa.large_binary()), 0)

    reassembler = Reassembler()
    assert not len(reassembler.join(part(TEXT, 0, 100))[0])
    assert not len(reassembler.join(part(CONTINUATION, 0, 200))[0])
    slots, payload = reassembler.join(part(CONTINUATION, Flag.FIN, 300))
    assert payload.to_pylist() == [b"xxx"]
    assert (slots["nic"][0], slots["first_segment"][0]) == (300, 90)


def test_a_journal_keeps_them_and_takes_batches_without(tmp_path):
    wide = filled(np.array([slot(length=1, nic=UTC + 5)] * 3, SLOT_DTYPE))
    data = pa.array([b"a", b"b", b"c"], pa.large_binary())
    fetched = Batch(np.array([slot(length=3, flags=Flag.REST)], SLOT_DTYPE), pa.array([b"{ }"], pa.large_binary()), 3)
    journal = Journal(tmp_path / "j", 1, b"{}", segments=True)
    spans = [journal.append(Batch(wide, data, 0)), journal.append(fetched)]
    assert journal.reading.read(spans[0]).slots.tobytes() == wide.tobytes()
    journal.close()
    first, second = JournalReader(tmp_path / "j")
    assert (first.slots.dtype, first.slots.tobytes(), payloads(first)) == (
        wide.dtype,
        wide.tobytes(),
        [b"a", b"b", b"c"],
    )
    assert (second.fetched, second.slots["first_segment"].tolist(), payloads(second)) == (True, [0], [b"{ }"])


def test_a_journal_that_is_written_again_keeps_them(tmp_path):
    wide = filled(np.array([slot(length=1, nic=UTC)], SLOT_DTYPE))
    journal = Journal(tmp_path / "journal-000001.arrows", 1, b"{}", segments=True)
    journal.append(Batch(wide, pa.array([b"a"], pa.large_binary()), 0))
    assert journal.rewrite() == 0
    journal.close()
    (batch,) = JournalReader(tmp_path / "journal-000001.arrows")
    assert batch.slots.tobytes() == wide.tobytes()


class TestFiles:
    @pytest.mark.parametrize("way", ["live", "from a journal"])
    def test_columns_metadata_and_the_reading_api(self, session, tmp_path, way):
        work = session()
        for at in (1_000, 2_000, 3_000):
            work.put(b"{}", at=at)
        # no segment was found for the last one
        work.put(b"{}", at=4_000)
        work.rings.producer.sent(0, TEXT, b"s")
        batch = work.batch()
        received = batch.slots["flags"] & (Flag.EVENT | Flag.SENT) == 0
        wide = with_segments(batch.slots)
        wide[received] = filled(batch.slots[received])
        lost = np.flatnonzero(received)[-1]
        wide["segment_order"][np.flatnonzero(received)[1]] = SegmentOrder.REPEATED
        wide["nic"][lost], wide["segment_order"][lost], wide["source"][lost] = 0, 0, StampSource.NONE_BEHIND
        batch = batch._replace(slots=wide)
        if way != "live":
            journal = Journal(tmp_path / "j", 1, b"{}", segments=True)
            journal.append(batch)
            journal.close()
            (batch,) = JournalReader(tmp_path / "j")
        work.pipeline.take(batch, 1)
        (line,) = work.finish()
        table = pq.read_table(work.out / line.path, partitioning=None)
        assert table["direction"].to_pylist() == ["recv"] * 4 + ["sent"]
        assert table["recv_source"].to_pylist() == ["segment"] * 3 + ["user", "user"]
        assert table["nic_to_read_stamp"].to_pylist() == [1, 2, 3, None, None]
        assert table["first_segment_to_nic"].to_pylist() == [50, 50, 50, None, None]
        assert table["segment_order"].to_pylist() == ["in_order", "repeated", "in_order", None, None]
        about = work.about(line)
        assert about["stage1"] == {"segment": 3, f"none: {StampSource.NONE_BEHIND.reason}": 1}
        found = SegmentHistograms.from_json(about["segments"])
        assert (found.durations["nic_to_read_stamp"].sum, found.durations["first_segment_to_nic"].max) == (4, 50)
        assert found.order == {"in_order": 2, "repeated": 1}
        rows = open_capture(work.out).messages(["nic_time", "first_segment_time"]).read_all()
        times = [rows[name].cast(pa.int64()).to_pylist() for name in rows.column_names]
        stamps = [1_000_000_000_000 + at + OFFSET - 249 - n for n, at in ((1, 1_000), (2, 2_000), (3, 3_000))]
        assert times == [[*stamps, None, None], [*(stamp - 50 for stamp in stamps), None, None]]

    def test_without_segments_all_is_null_and_the_metadata_are_empty(self, session):
        work = session()
        work.put(b"{}")
        work.take()
        (line,) = work.finish()
        table = pq.read_table(work.out / line.path, partitioning=None)
        assert [table[name].null_count for name in SEGMENT_COLUMNS] == [1, 1, 1]
        assert work.about(line)["segments"] == {}


class TestHistograms:
    @pytest.mark.parametrize(
        "wrong",
        [
            [],
            {"segment_order": {"sideways": 1}},
            {"segment_order": {"in_order": 0}},
            {"segment_order": 3},
            {"other": {}},
            {"nic_to_read_stamp": SegmentHistograms().durations["nic_to_read_stamp"].to_json() | {"sum": 4}},
        ],
    )
    def test_other_forms_are_refused(self, wrong):
        with pytest.raises(ValueError, match="segments:"):
            SegmentHistograms.from_json(wrong)

    def test_more_durations_than_rows_are_refused(self):
        found = SegmentHistograms()
        found.add((np.array([1, 2]), None), (np.array([1, 2]), None), {"in_order": 2})
        stored = found.to_json()
        assert SegmentHistograms.from_json(stored).to_json() == stored
        with pytest.raises(ValueError, match="more durations"):
            SegmentHistograms.from_json({**stored, "segment_order": {"in_order": 1}})
