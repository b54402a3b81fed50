"""wsrec.writer.output: files that anything can read, whole or not at all."""

from __future__ import annotations

import hashlib
import os
import threading
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from wsrec.format.schema import EVENT_SCHEMA, MESSAGE_SCHEMA
from wsrec.stages import STEPS
from wsrec.writer import disk, output
from wsrec.writer.disk import RetryingDisk
from wsrec.writer.output import ParquetOutput, make_folder, place

STAMPS = [field.name for field in MESSAGE_SCHEMA if pa.types.is_timestamp(field.type)]


def rows(start: int, count: int, symbol: str = "BTC") -> pa.Table:
    """Rows with every column filled."""
    columns = {}
    for field in MESSAGE_SCHEMA:
        if pa.types.is_dictionary(field.type):
            values = pa.array([symbol] * count, field.type)
        elif pa.types.is_string(field.type) or pa.types.is_binary(field.type):
            values = pa.array([f"{i}" for i in range(start, start + count)], field.type)
        else:
            small = field.type == pa.uint16()
            values = pa.array([i % 1000 if small else i for i in range(start, start + count)]).cast(field.type)
        columns[field.name] = values
    return pa.table(columns, schema=MESSAGE_SCHEMA)


@pytest.fixture
def finished(tmp_path):
    """A finished file of three tables in two row groups, with size and digest."""
    made = ParquetOutput(tmp_path / "a.partial", MESSAGE_SCHEMA)
    made.append(rows(0, output.ROW_GROUP_ROWS), 0)
    made.append(rows(output.ROW_GROUP_ROWS, 2, "ETH"), 0)
    made.append(rows(output.ROW_GROUP_ROWS + 2, 1), 0)
    path = tmp_path / "x" / "y" / "a.parquet"
    return path, *made.finish(path, {"wsrec.supervise": '"s"'})


class TestParquetOutput:
    def test_plain_pyarrow_reads_all_rows_and_the_schema(self, finished):
        table = pq.read_table(finished[0], partitioning=None)
        assert table.schema.equals(MESSAGE_SCHEMA)
        assert table["seq"].to_pylist() == list(range(output.ROW_GROUP_ROWS + 3))
        assert table["symbol"].to_pylist()[-4:] == ["BTC", "ETH", "ETH", "BTC"]
        assert table["text"].to_pylist()[-1] == str(output.ROW_GROUP_ROWS + 2)

    def test_row_groups_end_at_their_size(self, finished):
        about = pq.ParquetFile(finished[0]).metadata
        assert [about.row_group(i).num_rows for i in range(about.num_row_groups)] == [output.ROW_GROUP_ROWS, 3]

    def test_row_groups_end_at_their_bytes_too(self, tmp_path, monkeypatch):
        monkeypatch.setattr(output, "ROW_GROUP_BYTES", 2000)
        made = ParquetOutput(tmp_path / "a.partial", MESSAGE_SCHEMA)
        for start in range(0, 60, 20):
            made.append(rows(start, 20), 2000)
        made.finish(tmp_path / "a.parquet", {})
        assert pq.ParquetFile(tmp_path / "a.parquet").num_row_groups == 3

    def test_size_and_digest_are_the_files(self, finished):
        path, size, digest = finished
        data = path.read_bytes()
        assert (size, digest) == (len(data), hashlib.sha256(data).hexdigest())

    def test_metadata_is_there(self, finished):
        assert pq.ParquetFile(finished[0]).metadata.metadata[b"wsrec.supervise"] == b'"s"'

    def test_zstd_everywhere_delta_for_stamps_and_the_rest_plain(self, finished):
        group = pq.ParquetFile(finished[0]).metadata.row_group(0)
        columns = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
        assert {column.compression for column in columns.values()} == {"ZSTD"}
        steady = ("recv_end_to_parsed", "parsed_to_handoff")
        for name in (*STAMPS, "seq", "clock_offset", *steady):
            assert "DELTA_BINARY_PACKED" in columns[name].encodings, name
        steps = [step.key for step in STEPS if step.key not in ("event_to_recv_start", *steady)]
        for name in ("text", "data", "frame_in_read", "read_bytes", "exchange_seq", *steps):
            assert set(columns[name].encodings) == {"PLAIN", "RLE"}, name
        for name in ("symbol", "channel", "opcode", "direction", "recv_source", "event_to_recv_start"):
            assert "RLE_DICTIONARY" in columns[name].encodings

    def test_events_have_their_schema(self, tmp_path):
        made = ParquetOutput(tmp_path / "e.partial", EVENT_SCHEMA)
        reported = {"kind": "gap", "conn": 2, "channel": "trade", "symbol": None, "detail": "{}"}
        row = {"time": 1, "monotonic": 5, **reported}
        made.append(pa.Table.from_pylist([row], EVENT_SCHEMA), 0)
        made.finish(tmp_path / "e.parquet", {})
        table = pq.read_table(tmp_path / "e.parquet")
        assert table.schema.equals(EVENT_SCHEMA)
        assert table.drop(["time"]).to_pylist() == [{key: value for key, value in row.items() if key != "time"}]

    def test_only_the_finished_name_is_left(self, finished, tmp_path):
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == [finished[0]]

    def test_an_unfinished_file_of_that_name_is_not_overwritten(self, tmp_path):
        (tmp_path / "a.partial").write_bytes(b"precious")
        with pytest.raises(FileExistsError):
            ParquetOutput(tmp_path / "a.partial", MESSAGE_SCHEMA)
        assert (tmp_path / "a.partial").read_bytes() == b"precious"


class TestEncoder:
    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch):
        monkeypatch.setattr(output, "ROW_GROUP_ROWS", 10)
        monkeypatch.setattr(output, "_WRITE_BYTES", 1)

    def test_one_row_group_is_encoded_while_the_next_is_collected(self, tmp_path):
        gate = RateLimiter()
        made = ParquetOutput(tmp_path / "a.partial", MESSAGE_SCHEMA, gate)
        gate.open.clear()
        made.append(rows(0, 10), 0)
        made.append(rows(10, 9), 0)
        assert made.rows == 19
        next_one = threading.Thread(target=lambda: made.append(rows(19, 1), 0))
        next_one.start()
        next_one.join(0.1)
        waits = next_one.is_alive()
        gate.open.set()
        next_one.join()
        assert waits, "a third row group would be held in memory"
        made.finish(tmp_path / "a.parquet", {})
        assert pq.read_table(tmp_path / "a.parquet", partitioning=None)["seq"].to_pylist() == list(range(20))

    def test_its_error_is_raised_by_what_comes_next(self, tmp_path):
        for act in (lambda made: made.append(rows(10, 10), 0), lambda made: made.finish(tmp_path / "b", {})):
            full = Full()
            made = ParquetOutput(tmp_path / f"{time.monotonic_ns()}.partial", MESSAGE_SCHEMA, full)
            full.full = True
            made.append(rows(0, 10), 0)
            with pytest.raises(OSError, match="No space left"):
                act(made)
            assert "encoder" not in [thread.name for thread in threading.enumerate()]
        assert not (tmp_path / "b").exists()

    def test_a_disk_that_is_full_for_a_while_loses_nothing(self, tmp_path, monkeypatch):
        monkeypatch.setattr(disk, "_RETRY_SECONDS", 0.01)
        write, refusals, stated = os.write, [None] * 3, []

        def full_for_a_while(fd, data):
            if refusals:
                refusals.pop()
                raise OSError(28, "No space left on device")
            return write(fd, data)

        made = ParquetOutput(tmp_path / "a.partial", MESSAGE_SCHEMA, RetryingDisk(stated.append))
        monkeypatch.setattr("os.write", full_for_a_while)
        for start in range(0, 40, 10):
            made.append(rows(start, 10), 0)
        made.finish(tmp_path / "a.parquet", {})
        assert stated == [True, True, True, False]
        assert pq.read_table(tmp_path / "a.parquet", partitioning=None).num_rows == 40


class Full(disk.Disk):
    """Full from one moment on."""

    full = False

    def retry(self, action, grows=0):
        if self.full:
            raise OSError(28, "No space left on device")
        return action()


class RateLimiter(disk.Disk):
    """Lets what is written wait."""

    def __init__(self):
        self.open = threading.Event()
        self.open.set()

    def retry(self, action, grows=0):
        self.open.wait()
        return action()


class TestPlace:
    @pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
    def test_it_moves_and_never_overwrites(self, tmp_path, monkeypatch, links):
        if not links:
            monkeypatch.setattr("os.link", _refuse)
        one, two, final = tmp_path / "one", tmp_path / "two", tmp_path / "final"
        one.write_bytes(b"1")
        two.write_bytes(b"2")
        place(one, final)
        one.unlink(missing_ok=True)
        with pytest.raises(FileExistsError):
            place(two, final)
        assert (final.read_bytes(), two.read_bytes()) == (b"1", b"2")


def _refuse(*_):
    raise PermissionError(1, "Operation not permitted")


class TestMakeFolder:
    def test_each_new_name_is_synced_in_its_parent(self, tmp_path, monkeypatch):
        synced = []
        monkeypatch.setattr(output, "sync_folder", synced.append)
        make_folder(tmp_path / "a" / "b")
        assert (tmp_path / "a" / "b").is_dir()
        assert synced == [tmp_path, tmp_path / "a"]
        make_folder(tmp_path / "a" / "b")
        assert len(synced) == 2
