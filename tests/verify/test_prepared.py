"""wsrec.verify.prepared: threads that work ahead prepare the same, and meet the same errors after the same rows."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.capture_files import message_columns
from wsrec.feed.load import find_feed
from wsrec.verify import prepared
from wsrec.verify.ahead import Ahead
from wsrec.verify.prepared import Preparation


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch):
    monkeypatch.setattr(prepared, "_BATCH_ROWS", 100)


@pytest.fixture
def path(capture):
    """A message file of several row groups."""
    return capture.write(message_columns(2_000), row_group_size=300)


def read(path, threads):
    yield from Preparation(find_feed("binance-usdm")).file(path, {0}, Ahead(threads))


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_prepare_what_is_prepared_without(path, threads):
    found, expected = list(read(path, threads)), list(read(path, 0))
    assert [batch.rows.table for batch in found] == [batch.rows.table for batch in expected]
    assert [len(batch.rows.seq) for batch in found] == [100] * 20
    for one, other in zip(found, expected, strict=True):
        assert one.checks.problems == other.checks.problems
        assert one.checks.counts == other.checks.counts
        assert one.checks.steps.to_json() == other.checks.steps.to_json()
        assert [column.to_pylist() for column in one.fields] == [column.to_pylist() for column in other.fields]
        assert one.same == other.same


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_rows_before_a_damaged_page_are_yielded(path, threads):
    with pq.ParquetFile(path) as file:
        column = file.metadata.row_group(2).column(file.schema_arrow.names.index("text"))
        start, size = column.data_page_offset, column.total_compressed_size
    data = bytearray(path.read_bytes())
    data[start : start + size] = b"\xff" * size
    path.write_bytes(data)
    found = []
    with pytest.raises((OSError, pa.ArrowException)):
        found.extend(batch for batch in read(path, threads))
    assert sum(len(batch.rows.seq) for batch in found) == 600
