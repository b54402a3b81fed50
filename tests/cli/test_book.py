"""wsrec book: what it prints and writes, and its exit statuses."""

from __future__ import annotations

import importlib
import json
import math
import os
from pathlib import Path

import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

import wsrec
from tests.order_books.book_capture import closed, opened, record
from tests.order_books.small_books import SECOND, START, message, small_feed, snapshot
from tests.tables.full_disk import full_disk
from wsrec.engine.work import EngineError, InProcess
from wsrec.feed.table_columns import Table
from wsrec.format.reading import open_capture
from wsrec.format.selection import Selection
from wsrec.order_books.book_parts import items_of, make_changes
from wsrec.tables.schema import table_schema
from wsrec.tables.session_files import groups


def run(*arguments: str | Path) -> Result:
    command = importlib.import_module("wsrec.cli.book").book
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A book that is known from 1 to 3 s after `START`, and again from 5 s on."""
    entries = [
        *opened(START, ["book.A"]),
        snapshot(1, 10),
        message(2, 11, {10: 2}),
        closed(START + 3 * SECOND, message="reset by peer"),
        *opened(START + 4 * SECOND, ["book.A"]),
        snapshot(5, 30),
        message(6, 31, {}, {11: 7}),
    ]
    record(tmp_path / "out", small_feed(), entries, "book", "A")
    return tmp_path / "out"


def test_a_book_at_a_moment_is_a_table_with_its_last_message(out: Path) -> None:
    result = run(out, "--symbol", "A", "--at", "2026-11-22T13:00:02.5Z")
    assert (result.exit_code, result.stderr) == (0, "")
    title, heads, first, second, last = result.stdout.splitlines()
    assert title == "A  small book  2026-11-22 13:00:02.500  ok"
    assert heads.split() == ["bid", "size", "bid", "ask", "ask", "size"]
    assert [line.split() for line in (first, second)] == [["2", "10", "12", "1"], ["1", "9"]]
    assert "which arrived 500 ms before" in last


def test_an_unknown_book_says_why_and_is_status_4(out: Path) -> None:
    result = run(out, "--at", str(START + 3 * SECOND + 1))
    assert result.exit_code == 4
    assert result.stdout.splitlines()[1:] == ["unknown: its connection was lost: reset by peer"]


def test_json_has_the_columns_of_the_table(out: Path) -> None:
    result = run(out, "--at", str(START + 2 * SECOND), "--levels", "1", "--json")
    book, about = map(json.loads, result.stdout.splitlines())
    assert list(book) == table_schema(Table.BOOK_SNAPSHOTS).names
    assert (book["bid_prices"], book["ask_prices"], book["as_of"]) == ([10], [12], START + 2 * SECOND)
    assert about["books"] == 1
    assert about["checks"] == {"compared": 0, "different": 0}


def test_several_moments_are_lines_and_the_doubts_are_told_beside(out: Path) -> None:
    result = run(out, "--every", "1s")
    assert result.exit_code == 0
    heads, *lines = result.stdout.splitlines()
    assert heads.split()[:3] == ["time", "symbol", "channel"]
    assert [line.split()[1] for line in lines] == [f"13:00:0{n}.000" for n in (1, 2, 3, 4, 5, 6)]
    assert ["-" in line.split() for line in lines] == [False, False, True, True, False, False]
    assert result.stderr.splitlines() == [
        "6 books",
        "A book: unknown from the beginning to 2026-11-22 13:00:01.000: no snapshot of it has arrived yet",
        "A book: unknown from 2026-11-22 13:00:03.000 to 2026-11-22 13:00:05.000: "
        "its connection was lost: reset by peer",
    ]


@pytest.mark.parametrize("name", ["books.parquet", "books.csv"])
def test_files_have_the_rows(out: Path, tmp_path: Path, name: str) -> None:
    result = run(out, "--every", "500ms", "--until", "2026-11-22T13:00:02.5Z", "--out", tmp_path / name)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("3 books\n")
    read = pq.read_table if name.endswith("parquet") else pyarrow.csv.read_csv
    table = read(tmp_path / name)
    assert table.column_names == table_schema(Table.BOOK_SNAPSHOTS).names
    assert table.column("state").to_pylist() == ["ok"] * 3
    best = {"books.parquet": [[9], [9], [10, 9]], "books.csv": ["[9.0]", "[9.0]", "[10.0, 9.0]"]}
    assert table.column("bid_prices").to_pylist() == best[name]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--symbol", "B"], 3, "symbol: found 'B', which the capture does not have, expected A"),
        (["--at", "2026-11-22T12:00Z"], 3, "out: holds no message of such a book in that time"),
        (["--at", "2026-11-22T13:00Z", "--every", "1s"], 2, "--every cannot be combined with --at"),
        (
            ["--since", "2026-11-22T14:00Z", "--until", "2026-11-22T13:00Z"],
            2,
            "--until: found a time that is not after",
        ),
        (["--format", "csv"], 2, "--format needs --out"),
        (["--at", "soon"], 2, "--at: found 'soon', expected 2026-11-22T17:30:00Z"),
        (["--channel", "nosuch"], 2, "'nosuch'"),
        (["--out", f"{__file__}/x.csv"], 66, f"--out: {__file__}/x.csv: File exists: {__file__!r}"),
    ],
)
def test_mistakes_and_nothing_found(out: Path, arguments: list[str], status: int, words: str) -> None:
    result = run(out, *arguments)
    assert (result.exit_code, result.stdout) == (status, "")
    assert words in result.stderr


def test_a_folder_without_a_capture_is_status_3(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty").exit_code == 3


def test_a_symbol_that_is_nowhere_is_an_error_in_python_too(out: Path) -> None:
    with pytest.raises(wsrec.CaptureError, match="found 'XXX', which the capture does not have, expected A"):
        wsrec.books(out, symbol=["A", "XXX"]).read_all()


def test_a_pipe_is_not_replaced(out: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "b.parquet")
    result = run(out, "--every", "1s", "--out", tmp_path / "b.parquet")
    assert result.exit_code == 66
    (line,) = result.stderr.splitlines()
    assert line.partition("--out: ")[2] == (
        f"{tmp_path}/b.parquet: it is not a regular file (but a pipe, a device or a folder), which is not replaced; "
        "give another name"
    )


def test_a_full_temporary_folder_is_named_with_the_cure(out: Path, tmp_path: Path) -> None:
    feed = small_feed()
    (group,) = groups(open_capture(out).files, open_capture(out).event_files)
    for spool, why in ((tmp_path, "File too large"), (tmp_path / "gone", "No such file or directory")):
        (item,) = items_of(group, feed, Selection(), math.inf, str(spool))
        with full_disk(100), InProcess() as engine, pytest.raises(EngineError) as raised:
            list(engine.map(make_changes, [item]))
        assert str(raised.value).startswith(f"{spool}: {why}; ")
        assert "TMPDIR" in str(raised.value)
