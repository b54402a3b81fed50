"""docs/how-to/books.md: its programs and what it shows, on a capture."""

from __future__ import annotations

import inspect
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import wsrec
from tests.order_books.book_capture import opened, record
from tests.order_books.small_books import START, message, small_feed, snapshot
from wsrec.cli.main import main
from wsrec.order_books.book import LEVELS_MAX

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "books.md").read_text()
PROGRAMS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
SESSIONS = re.findall(r"^```console\n\$ (.*?)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(autouse=True)
def captures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [*opened(START, ["book.A"]), snapshot(1, 10), message(2, 11, {10: 2}), message(3, 12, {8: 1})]
    record(tmp_path / "captures", small_feed(), entries, "book", "A")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("program", PROGRAMS, ids=range(len(PROGRAMS)))
def test_its_programs_run(program: str) -> None:
    if "duckdb" in program:
        pytest.importorskip("duckdb")
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(program, "example", "exec"), names)
    made = names.get("table", names.get("mids"))
    read = made.read_all() if hasattr(made, "read_all") else made
    assert read.num_rows == 21


def test_what_it_shows_is_what_is_printed() -> None:
    assert SESSIONS
    for command, shown in SESSIONS:
        result = CliRunner().invoke(main, shlex.split(command)[1:])
        assert [line.rstrip() for line in result.stdout.splitlines()] == shown.splitlines()


def test_its_options_are_the_commands() -> None:
    options = {name for option in main.get_command(None, "book").params for name in option.opts if name[:2] == "--"}  # type: ignore[arg-type, union-attr]
    assert options - {"--help"} == set(re.findall(r"`(--[a-z]+)", PAGE))
    assert set(inspect.signature(wsrec.books).parameters) - {"capture"} < {option[2:] for option in options}
    assert f"{LEVELS_MAX:,} levels" in PAGE
