"""wsrec.terminal_tables: figures are whole on every terminal and in files."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wsrec.terminal_tables import print_heading, print_table, print_text

FIGURES = ("15.1 min", "1,234,567", "385 ms")
NAME = "a channel with a long name"


def printed(width: int, *, terminal: bool) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None)
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(overflow="fold")
    for _ in FIGURES:
        table.add_column(justify="right", no_wrap=True)
    table.add_row(NAME, *FIGURES)
    print_table(table, console)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


@given(st.integers(1, 120), st.booleans())
def test_no_figure_is_cut(width, terminal):
    assert all(figure in printed(width, terminal=terminal)[0] for figure in FIGURES)


@pytest.mark.parametrize("width", [40, 50])
def test_names_fold_on_a_terminal(width):
    lines = printed(width, terminal=True)
    assert len(lines) > 1
    assert all(cell_len(line) <= width for line in lines)


def test_in_a_file_there_is_one_line_for_each_row():
    (line,) = printed(20, terminal=False)
    assert line.startswith(NAME)


WORDS = "found 12 files in /data/captures/messages/feed=binance/date=2026-11-22/x.parquet and more"


class Page:
    def __init__(self, width: int, *, terminal: bool) -> None:
        self.file = io.StringIO()
        self.console = Console(file=self.file, width=width, force_terminal=terminal, color_system=None)

    @property
    def lines(self) -> list[str]:
        return self.file.getvalue().splitlines()


class TestInAFile:
    def test_a_text_is_one_line(self):
        page = Page(20, terminal=False)
        print_text(Text(WORDS, style="bold"), page.console)
        assert page.lines == [WORDS]

    def test_a_heading_is_whole(self):
        page = Page(20, terminal=False)
        print_heading(Text(WORDS), page.console)
        assert page.lines == [WORDS]

    def test_a_cell_of_several_lines_is_one(self):
        page = Page(20, terminal=False)
        table = Table.grid(padding=(0, 2))
        table.add_row("[bold]a[/]", Text(f"{WORDS}\nhint"), "")
        table.add_row(Text("stage"), Text("b", style="dim"), Text("c"))
        print_table(table, page.console)
        assert page.lines == [f"a      {WORDS}; hint", f"stage  {'b'.ljust(len(WORDS) + 6)}  c"]


class TestOnATerminal:
    @given(st.integers(1, 120))
    def test_nothing_of_a_heading_is_lost(self, width):
        page = Page(width, terminal=True)
        print_heading(Text(WORDS), page.console)
        assert "".join(WORDS.split()) in "".join("".join(page.lines).split())

    def test_a_text_folds(self):
        page = Page(20, terminal=True)
        print_text(Text(WORDS), page.console)
        assert len(page.lines) > 1
        assert all(cell_len(line) <= 20 for line in page.lines)
