"""wsrec.report: what captured segments say of a recording, by its rows and by its files' metadata."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.capture_files import Capture, message_columns
from tests.report.test_collect import stated
from tests.report.test_terminal import rendered
from wsrec.format.segment_histograms import SegmentHistograms
from wsrec.report.collect import collect
from wsrec.report.model import Recording, SegmentTable

ROWS = 1000


def only(paths: list[Any]) -> Recording:
    (recording,) = collect(paths).recordings
    return recording


def segments_of(columns: dict[str, Any]) -> SegmentHistograms:
    """What the writer counts of these rows."""
    found = SegmentHistograms()
    known = np.array([word is not None for word in columns["segment_order"]])
    durations = [
        (np.array([ns or 0 for ns in columns[name]], np.int64), np.array([ns is not None for ns in columns[name]]))
        for name in ("nic_to_read_stamp", "first_segment_to_nic")
    ]
    words = np.array(columns["segment_order"])[known].tolist()
    found.add(*durations, {word: words.count(word) for word in words})
    return found


def some_columns(*, read_stamps: bool = True) -> dict[str, Any]:
    columns = message_columns(ROWS)
    columns["nic_time"] = [None if i % 10 == 3 else int(time) for i, time in enumerate(columns["nic_time"])]
    source = ["segment-nic" if i % 2 else "segment" for i in range(ROWS)]
    columns["recv_source"] = ["user" if i % 10 == 3 else source[i] for i in range(ROWS)]
    order = ["filled" if i % 100 == 7 else "in_order" for i in range(ROWS)]
    columns["segment_order"] = [None if i % 10 == 3 else order[i] for i in range(ROWS)]
    columns["nic_to_read_stamp"] = [None if i % 10 == 3 or not read_stamps else 1000 * i for i in range(ROWS)]
    columns["first_segment_to_nic"] = [None if i % 10 == 3 else 7 for i in range(ROWS)]
    return columns


def with_metadata(columns: dict[str, Any]) -> dict[str, Any]:
    return {**stated(columns), "segments": segments_of(columns).to_json()}


@pytest.mark.parametrize("way", ["rows", "metadata"])
def test_how_far_the_reads_stamp_was_off(capture: Capture, way: str) -> None:
    columns = some_columns()
    about = with_metadata(columns) if way == "metadata" else {}
    recording = only([capture.write(columns, **about)])
    stage1 = recording.stage1
    assert (stage1.segment, stage1.segment_nic, stage1.nic, stage1.kernel, stage1.none) == (500, 400, 0, 0, 100)
    table = recording.segments
    assert table is not None
    assert (table.rows, table.order) == (900, {"in_order": 890, "filled": 10})
    off = sorted(ns for ns in columns["nic_to_read_stamp"] if ns is not None)
    assert table.read_stamp is not None
    assert (table.read_stamp.count, table.read_stamp.max, table.read_stamp.sum) == (900, off[-1], sum(off))
    assert table.read_stamp.p50 == pytest.approx(off[450], rel=0.01)
    assert table.read_stamp.p99 == pytest.approx(off[891], rel=0.01)
    assert table.first_segment is not None
    assert (table.first_segment.p50, table.first_segment.p99) == (7, 7)
    text = rendered(collect([capture.out]), 200)
    assert "400 segments stamped by the NIC (40.0%) · 500 segments stamped by the kernel (50.0%)" in text
    (line,) = (line for line in text.splitlines() if line.startswith("segments"))
    assert "the read's stamp is later by" in line
    assert " at p50, " in line
    assert "from a message's first segment to its last 7 ns at p50" in text
    assert "10 filled" in text
    assert "in order" not in text
    assert "890 in order" in rendered(collect([capture.out]), 200, details=True)


def test_reads_without_stamps_of_their_own(capture: Capture) -> None:
    table = only([capture.write(some_columns(read_stamps=False))]).segments
    assert isinstance(table, SegmentTable)
    assert table.read_stamp is None
    assert "the reads had no stamps of their own" in rendered(collect([capture.out]), 200)


def test_without_segments_there_is_no_such_line(capture: Capture) -> None:
    assert only([capture.write(message_columns(10))]).segments is None
    assert "segments" not in rendered(collect([capture.out]), 200, details=True)


def test_metadata_that_are_not_those_of_the_rows_are_not_believed(capture: Capture) -> None:
    columns = some_columns()
    about = with_metadata(columns)
    about["segments"]["segment_order"]["in_order"] -= 1
    table = only([capture.write(columns, **about)]).segments
    assert table is not None
    assert table.order == {"in_order": 890, "filled": 10}


def test_several_files_are_added_up(capture: Capture) -> None:
    columns = some_columns()
    capture.write(columns)
    capture.write({**columns, "seq": columns["seq"] + ROWS}, **with_metadata(columns))
    table = only([capture.out]).segments
    assert table is not None
    assert (table.rows, table.order["filled"]) == (1800, 20)
