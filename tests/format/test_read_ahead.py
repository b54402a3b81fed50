"""wsrec.format.read_ahead: threads that decode ahead give the same batches, and the same errors after the same rows."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.capture_files import message_columns
from wsrec.format.columns import batches
from wsrec.format.read_ahead import batches_ahead

COLUMNS = ("seq", "handoff_monotonic", "text")


@pytest.fixture
def path(capture):
    """A message file of several row groups."""
    return capture.write(message_columns(2_000), row_group_size=300)


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_batches_are_those_that_are_read_without(path, threads):
    found = list(batches_ahead(path, COLUMNS, 100, threads))
    assert found == list(batches(path, COLUMNS, 100))
    assert max(map(len, found)) == 100
    assert pa.Table.from_batches(found).column("seq").to_pylist() == list(range(2_000))


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
        found.extend(batch for batch in batches_ahead(path, COLUMNS, 100, threads))
    assert sum(map(len, found)) == 600


def test_one_that_is_not_read_to_its_end_leaves_no_thread(path):
    reading = batches_ahead(path, COLUMNS, 100, 2)
    next(reading)
    reading.close()
