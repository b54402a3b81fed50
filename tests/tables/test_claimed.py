"""wsrec.tables.claimed: what a killed export left goes at the next one; what a living one makes stays."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tables.table_batches import batch
from wsrec.feed.table_columns import Table
from wsrec.options.export import Format, Numbers, TimeUnit
from wsrec.other_tools.spool import Spool
from wsrec.tables.claimed import claim, remove_abandoned
from wsrec.tables.table_file import TableFile
from wsrec.tables.whole_file import whole_file

_KILLED = """
import os, signal, sys
from pathlib import Path
from wsrec.feed.table_columns import Table
from wsrec.options.export import Format, Numbers, TimeUnit
from wsrec.other_tools.spool import Spool
from wsrec.tables.table_file import TableFile
from wsrec.tables.whole_file import whole_file
out = Path(sys.argv[1])
table = TableFile(out / "x.parquet", Table.TRADES, Format.PARQUET, TimeUnit.NS, Numbers.FLOAT)
with Spool(out) as spool, whole_file(out / "y.parquet") as unfinished:
    unfinished.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def trades(out: Path) -> TableFile:
    return TableFile(out / "x.parquet", Table.TRADES, Format.PARQUET, TimeUnit.NS, Numbers.FLOAT)


def test_the_next_export_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 3
    with Spool[str](tmp_path), whole_file(tmp_path / "y.parquet") as unfinished:
        unfinished.write_text("whole")
    table = trades(tmp_path)
    table.write(batch(Table.TRADES, {"price": 1.0, "size": 1.0})[1])
    table.finish({})
    assert sorted(each.name for each in tmp_path.iterdir()) == ["x.parquet", "y.parquet"]


def test_what_another_is_making_stays(tmp_path: Path) -> None:
    with Spool[str](tmp_path), Spool[str](tmp_path):
        assert len(list(tmp_path.glob(".unfinished-*"))) == 2
    with (
        whole_file(tmp_path / "y"),
        pytest.raises(BlockingIOError, match="another process"),
        whole_file(tmp_path / "y"),
    ):
        pass
    assert [each.name for each in tmp_path.iterdir()] == ["y"]


def test_a_claim_that_was_removed_before_it_was_locked_is_made_again(tmp_path: Path) -> None:
    made: list[Path] = []

    def make() -> Path:
        made.append(tmp_path / f"{len(made)}")
        if len(made) > 1:
            made[-1].touch()
        return made[-1]

    path, fd = claim(make)
    assert path == tmp_path / "1"
    remove_abandoned(tmp_path, "*")
    assert path.exists()
    os.close(fd)
    remove_abandoned(tmp_path, "*")
    assert not path.exists()
