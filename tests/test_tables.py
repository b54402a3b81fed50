"""wsrec.tables: figures are whole on every terminal and in files."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from wsrec.tables import print_table

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
