"""wsrec.other_tools.spool and wsrec.tables.whole_file: rows on their way to files, and files that are whole."""

import os
from pathlib import Path

import pyarrow as pa
import pytest

from wsrec.feed.table_columns import Table
from wsrec.options.export import Format, Numbers, TimeUnit
from wsrec.other_tools.spool import Spool
from wsrec.tables.table_file import TableFile, UnwritableError
from wsrec.tables.whole_file import whole_file


@pytest.mark.parametrize("in_memory", [0, 100, 1 << 20])
def test_rows_come_back_by_key_in_their_order(tmp_path: Path, in_memory: int) -> None:
    out = tmp_path / "out"
    with Spool[str](out, in_memory) as spool:
        for number in range(20):
            spool.add("ab"[number % 2], pa.RecordBatch.from_pydict({"n": [number, -number]}))
        spool.add("empty", pa.RecordBatch.from_pydict({"n": pa.array([], pa.int64())}))
        assert spool.keys() == ["a", "b"]
        assert spool.take("b")["n"].to_pylist() == [n for number in range(1, 20, 2) for n in (number, -number)]
        assert spool.keys() == ["a"]
        assert spool.take("a").num_rows == 20
    assert not list(out.iterdir())


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_text("earlier")
    with whole_file(path) as unfinished:
        assert unfinished.suffix == ".npz"
        unfinished.write_text("half")
        assert path.read_text() == "earlier"
        unfinished.write_text("whole")
    assert path.read_text() == "whole"
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError), whole_file(tmp_path / "folder") as unfinished:
        unfinished.write_text("whole")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["folder", "x.npz"]


def test_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"), whole_file(tmp_path / "pipe"):
        pass
    with pytest.raises(UnwritableError, match="not a regular file"):
        TableFile(tmp_path / "pipe", Table.TRADES, Format.PARQUET, TimeUnit.NS, Numbers.FLOAT)
    assert (tmp_path / "pipe").is_fifo()
