"""wsrec.tables.spool: rows come back by key and in their order, from memory or from the disk."""

from pathlib import Path

import pyarrow as pa
import pytest

from wsrec.tables.spool import Spool


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
