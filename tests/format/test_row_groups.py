"""Row groups without a wanted channel or symbol are not read, by the statistics that the writer makes."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from tests.capture_files import START, message_columns
from tests.format.test_reading import library
from tests.stage_columns import stored
from wsrec.format.capture_file import CaptureFile
from wsrec.format.metadata import FileMetadata
from wsrec.format.schema import MESSAGE_SCHEMA, SEGMENT_COLUMNS, UTC_NS
from wsrec.format.version import FORMAT_VERSION
from wsrec.writer.output import ParquetOutput

ROWS = 100
SECOND = 1_000_000_000


def write(path: Path, symbols: list[list[str]]) -> Path:
    """A message file as the writer makes it: a row group of rows with each of these lists of symbols."""
    made = ParquetOutput(path.with_suffix(".partial"), MESSAGE_SCHEMA)
    for number, names in enumerate(symbols):
        start = {"start": START + number * 10 * SECOND, "first_seq": number * ROWS}
        columns = stored(message_columns(ROWS, **start))
        columns |= {"symbol": [names[row % len(names)] for row in range(ROWS)]}
        columns |= {"channel": [f"channel{number}"] * ROWS}
        made.append(pa.table([pa.array(columns[f.name]).cast(f.type) for f in MESSAGE_SCHEMA], MESSAGE_SCHEMA), 0)
        made.settle()
    made.finish(path, FileMetadata(format_version=FORMAT_VERSION, session="s", feed="f").encode())
    return path


def spoil(path: Path, group: int, columns: list[str]) -> None:
    """Write over the pages of these columns in a row group."""
    about = pq.ParquetFile(path).metadata.row_group(group)
    data = bytearray(path.read_bytes())
    for number in range(about.num_columns):
        column = about.column(number)
        if column.path_in_schema in columns:
            start = column.dictionary_page_offset or column.data_page_offset
            data[start : start + column.total_compressed_size] = b"\xa5" * column.total_compressed_size
    path.write_bytes(data)


@pytest.fixture
def by_statistics(tmp_path: Path) -> Path:
    """A file whose first and last row group are unreadable, and by their statistics without BTC."""
    path = write(tmp_path / "s-000001.parquet", [["ADA", "AVAX"], ["ADA", "BTC", "XRP"], ["ETH", "XRP"]])
    for group in (0, 2):
        spoil(path, group, MESSAGE_SCHEMA.names)
    return path


def test_the_writer_keeps_the_extremes_of_what_people_choose_by(tmp_path):
    path = write(tmp_path / "a.parquet", [["ADA"], ["ETH", "BTC"]])
    group = pq.ParquetFile(path).metadata.row_group(1)
    found = {group.column(i).path_in_schema: group.column(i).statistics for i in range(group.num_columns)}
    assert (found["symbol"].min, found["symbol"].max) == ("BTC", "ETH")
    assert (found["channel"].min, found["channel"].max) == ("channel1", "channel1")
    assert (found["seq"].min, found["seq"].max) == (ROWS, 2 * ROWS - 1)
    for name in set(MESSAGE_SCHEMA.names) - {"text", "data", "request", *SEGMENT_COLUMNS}:
        assert found[name].has_min_max, name


def test_by_statistics(by_statistics):
    rows = pa.Table.from_batches(CaptureFile(by_statistics).batches(["seq", "text"], among={"symbol": ["BTC"]}))
    assert rows["seq"].to_pylist() == list(range(ROWS + 1, 2 * ROWS, 3))


def test_by_the_channel_and_the_time(by_statistics):
    file = CaptureFile(by_statistics)
    for wanted in ({"among": {"channel": ["channel1"]}}, {"since": START + 10 * SECOND, "until": START + 20 * SECOND}):
        assert sum(batch.num_rows for batch in file.batches(["seq", "text"], **wanted)) == ROWS


def test_the_rest_of_a_group_whose_symbols_do_not_match_is_not_read(tmp_path):
    path = write(tmp_path / "s-000001.parquet", [["ADA", "XRP"], ["BTC"]])
    spoil(path, 0, [name for name in MESSAGE_SCHEMA.names if name != "symbol"])
    rows = pa.Table.from_batches(CaptureFile(path).batches(["seq", "text"], among={"symbol": ["BTC"]}))
    assert rows.num_rows == ROWS


def test_pyarrow_skips_them_by_time_too(by_statistics):
    # not by words: of columns with a dictionary it does not use the statistics (pyarrow 26)
    within = pa.scalar(START + 10 * SECOND, UTC_NS), pa.scalar(START + 20 * SECOND, UTC_NS)
    wanted = (ds.field("recv_time") >= within[0]) & (ds.field("recv_time") < within[1])
    assert ds.dataset(by_statistics).to_table(columns=["seq", "text"], filter=wanted).num_rows == ROWS


def test_duckdb_skips_them_too(by_statistics):
    duckdb = library("duckdb")
    query = f"select count(*), max(length(text)) > 0 from '{by_statistics}' where symbol = 'BTC'"
    assert duckdb.sql(query).fetchall() == [(len(range(ROWS + 1, 2 * ROWS, 3)), True)]
