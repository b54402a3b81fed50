"""wsrec.verify.row_checks: what captured segments say of rows, and which rows their histograms count."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from wsrec.format.columns import words
from wsrec.verify.row_checks import RowChecks, _check_segments


@pytest.mark.parametrize("late", [0, 1])
def test_a_segment_is_not_later_than_the_read_that_took_it(late):
    rows = segment_rows([5, -late, 0], ["in_order"] * 3)
    checks = RowChecks()
    _check_segments(checks, rows, words(rows.table, "recv_source"))
    expected = {"the segment of stage 1 came later than the read that took it": 1} if late else {}
    assert dict(checks.problems) == expected


@pytest.mark.parametrize(("orders", "count"), [(["in_order", "repeated", "filled"], 2), (["repeated"] * 3, 0)])
def test_rows_whose_bytes_came_again_are_counted_but_not_timed(orders, count):
    checks = RowChecks()
    rows = segment_rows([1, 10, 100], orders)
    _check_segments(checks, rows, words(rows.table, "recv_source"))
    assert sum(checks.segments.order.values()) == 3
    assert [each.count for each in checks.segments.durations.values()] == [count, count]
    some = RowChecks()
    some.segments.add_rows(rows.table, np.array([True, True, False]))
    assert some.segments.durations["nic_to_read_stamp"].count == 2 - orders[:2].count("repeated")


def segment_rows(read_stamps: list[int], orders: list[str]) -> SimpleNamespace:
    count = len(orders)
    columns = {
        "recv_source": pa.array(["segment"] * count).dictionary_encode(),
        "segment_order": pa.array(orders).dictionary_encode(),
        "nic_to_read_stamp": pa.array(read_stamps, pa.int64()),
        "first_segment_to_nic": pa.array([7] * count, pa.int64()),
    }
    return SimpleNamespace(table=pa.RecordBatch.from_pydict(columns))
