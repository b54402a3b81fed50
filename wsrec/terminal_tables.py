"""Tables, headings and lines on a terminal and in files: nothing is cut.

On a terminal only the columns that may wrap get narrower. If the fixed ones alone do not fit, the table is wider than
the terminal, which wraps it without loss. In a file or a pipe each row, heading and text is one line of any length, for
grep and cron.
"""

from __future__ import annotations

from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

_UNLIMITED = 100_000
# characters of a column that wraps, at least
_LEAST = 8


def print_table(table: Table, console: Console) -> None:
    """Print a table without borders; columns that are not `no_wrap` wrap on a terminal."""
    if console.is_terminal:
        console.print(_fitted(table, console), crop=False)
        return
    for line in _lines(table, console):
        _print_line(line, console)


def print_text(text: Text, console: Console) -> None:
    """Print a text; it wraps on a terminal."""
    if console.is_terminal:
        console.print(text)
    else:
        _print_line(text, console)


def print_heading(title: Text, console: Console) -> None:
    """Print a title, with a line behind it on a terminal that has room."""
    if console.is_terminal and title.cell_len + 2 <= console.width:
        console.print(Rule(title, align="left", style="dim"))
    else:
        print_text(title, console)


def _print_line(line: Text, console: Console) -> None:
    console.print(line, soft_wrap=True)


def _fitted(table: Table, console: Console) -> Table:
    """The same table with columns that keep their width; to be printed with `crop=False`."""
    options = console.options.update(width=_UNLIMITED)
    needed = 0
    for column in table.columns:
        cells = [*([column.header] if table.show_header else []), *column.cells]
        natural = max((Measurement.get(console, options, cell).maximum for cell in cells), default=0)
        column.min_width = natural if column.no_wrap else min(natural, max(column.min_width or 0, _LEAST))
        needed += column.min_width
    needed += (len(table.columns) - 1) * _gap(table)
    _, right, _, left = table.padding
    needed += left + right if table.pad_edge else 0
    if needed > console.width:
        # rich would narrow all columns alike, whatever their `min_width`
        table.width = needed
    return table


def _lines(table: Table, console: Console) -> list[Text]:
    """Each row as one line, its cells aligned."""
    columns = []
    for column in table.columns:
        cells = [*([column.header] if table.show_header else []), *column.cells]
        texts = [_text(cell, console) for cell in cells]
        width = max((cell_len(text) for text in texts), default=0)
        right = column.justify == "right"
        columns.append(
            [
                " " * (width - cell_len(text)) + text if right else text + " " * (width - cell_len(text))
                for text in texts
            ]
        )
    space = " " * _gap(table)
    return [Text(space.join(row).rstrip()) for row in zip(*columns, strict=True)]


def _text(cell: RenderableType, console: Console) -> str:
    text = cell if isinstance(cell, Text) else console.render_str(str(cell), highlight=False)
    return "; ".join(text.plain.split("\n"))


def _gap(table: Table) -> int:
    _, right, _, left = table.padding
    return max(left, right) if table.collapse_padding else left + right
