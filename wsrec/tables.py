"""Tables on a terminal and in files: a figure is never cut.

On a terminal only the columns that may wrap get narrower. If the others alone are wider, so is the table: the
terminal breaks its lines, and nothing of them is lost. In a file or a pipe a table is as wide as its cells.
"""

from __future__ import annotations

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

_UNLIMITED = 100_000
# characters of a column that wraps, at least
_LEAST = 8


def print_table(table: Table, console: Console) -> None:
    """Print a table; columns that are not `no_wrap` wrap on a terminal."""
    console.print(fitted(table, console), crop=False)


def fitted(table: Table, console: Console) -> Table:
    """The same table with columns that keep their width; to be printed with `crop=False`."""
    options = console.options.update(width=_UNLIMITED)
    needed = 0
    for column in table.columns:
        cells = [*([column.header] if table.show_header else []), *column.cells]
        natural = max((Measurement.get(console, options, cell).maximum for cell in cells), default=0)
        column.no_wrap = column.no_wrap or not console.is_terminal
        column.min_width = natural if column.no_wrap else min(natural, max(column.min_width or 0, _LEAST))
        needed += column.min_width
    _, right, _, left = table.padding
    needed += (len(table.columns) - 1) * (max(left, right) if table.collapse_padding else left + right)
    needed += left + right if table.pad_edge else 0
    if needed > console.width:
        # rich would narrow all columns alike, whatever their `min_width`
        table.width = needed
    return table
