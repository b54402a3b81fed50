"""A capture and its backup under one folder: each file is read once, and what differs is named by every reader."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import wsrec
from tests.compact.captures import START, compact, rows_of, write
from tests.tables.recorded import record
from tests.tables.test_export import trade
from wsrec.cli.main import main
from wsrec.replay.source import Source


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A folder with a capture of two files and its backup."""
    live = write(tmp_path / "two" / "live")
    shutil.copytree(live, tmp_path / "two" / "backup")
    return tmp_path / "two"


def run(*arguments: object) -> Result:
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        return CliRunner().invoke(main, list(map(str, arguments)))


def output(*arguments: object) -> Any:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert "is a copy of" in result.stderr
    assert "each is read once" in result.stderr
    return json.loads(result.stdout)


def test_every_reader_takes_each_file_once(two: Path) -> None:
    with pytest.warns(wsrec.RepeatedFileWarning, match="and so is another file: each is read once"):
        found = rows_of(two)
    assert found == rows_of(two / "live")
    exported = output("export", two, "--tables", "trades", "--out", two.parent / "t", "--json")
    assert exported["files"] == len(list((two.parent / "t").rglob("*.parquet"))) == 2
    assert exported["rows"] == {"trades": sum(row["channel"] == "trade" for row in found)}
    (recording,) = output("report", two, "--json")["recordings"]
    assert recording["rows"]["recv"]["text"] == sum(row["direction"] == "recv" for row in found)
    assert output("sql", two, "select count(*) as n from messages", "--format", "json") == {"n": len(found)}
    with pytest.warns(wsrec.RepeatedFileWarning):
        assert len(list(Source([str(two)]))) == sum(row["direction"] == "recv" for row in found)


def test_a_copy_from_before_the_original_was_sorted_is_one(two: Path) -> None:
    found = rows_of(two / "live")
    compact(two / "live")
    with pytest.warns(wsrec.RepeatedFileWarning):
        assert rows_of(two) == found


def test_files_that_differ_are_named_and_neither_is_read(two: Path) -> None:
    shutil.rmtree(two / "backup")
    messages = [(START + number, trade(number)) for number in range(50)]
    (two / "backup").mkdir()
    record(two / "backup", "binance", messages, files=2, size=20)
    with pytest.raises(wsrec.CaptureError, match=r"differs from .*name the folder of one of them"):
        wsrec.open_capture(two)
    for command in (["export", two, "--out", two.parent / "t"], ["report", two], ["book", two]):
        result = run(*command)
        assert result.exit_code == 1, result.output
        assert "name the folder of one of them" in result.stderr
    assert not list((two.parent / "t").rglob("*.parquet"))


def test_files_of_several_feeds_with_one_name_are_no_copies(tmp_path: Path) -> None:
    for feed in ("binance", "binance-usdm"):
        record(tmp_path / feed, feed, [(START + number, trade(number)) for number in range(3)])
    assert len(rows_of(tmp_path)) == 6
