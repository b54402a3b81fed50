"""The rows that sample messages make, as lines of text: a block a message, for `wsrec feeds check`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from wsrec.decode.row_maker import TableRow
from wsrec.feed.table_columns import COLUMNS, IDENTITY, Kind, Table
from wsrec.monitor.sample_rows import SampleRows
from wsrec.monitor.samples import Reading
from wsrec.units import clean, plural, utc

# messages of the same channel that make the same tables
_ALIKE = 3
# rows of a message, and values of a list
_MOST_ROWS = 12
_MOST_VALUES = 5


def row_lines(readings: Sequence[Reading], made: Sequence[SampleRows | None]) -> Iterator[str]:
    """The lines: of messages that make the same, the first few."""
    alike: Counter[Any] = Counter()
    for reading, each in zip(readings, made, strict=True):
        if each is None:
            continue
        kind = reading.channel, tuple(each.rows), tuple(each.left_out), each.skipped
        alike[kind] += 1
        if alike[kind] <= _ALIKE:
            yield ""
            yield from map(clean_line, _block(reading, each))
    more = sum(count - _ALIKE for count in alike.values() if count > _ALIKE)
    if more:
        yield ""
        yield f"and {plural(more, 'more message')} that make the same tables; --json prints all of them"


def clean_line(text: str) -> str:
    """A line without control characters, of any length."""
    return clean(text, max(len(text), 1))


def _block(reading: Reading, made: SampleRows) -> Iterator[str]:
    for table, rows in made.rows.items():
        yield f"{reading.message}: {table}, {plural(len(rows), 'row')}"
        yield from _rows(table, rows)
    if not made.rows:
        if made.skipped is not None:
            reason = f": {made.skipped}"
        else:
            reason = "" if made.left_out else ": it says nothing of the channel's tables"
        yield f"{reading.message}: no rows{reason}"
    for table_or_all, reason in made.left_out:
        yield f"  left out: {f'{table_or_all}: ' if table_or_all else ''}{reason}"
    for table, what in made.without:
        yield f"  {f'{table}: ' if len(made.rows) > 1 else ''}{what}"


def _rows(table: Table, rows: Sequence[TableRow]) -> Iterator[str]:
    """What all rows have in common, a line a column; then the others, a line a row."""
    kinds = {column.name: column.kind for column in (*IDENTITY, *COLUMNS[table])}
    names = [name for name in kinds if any(row.get(name) is not None for row in rows)]
    common = [name for name in names if all(row.get(name) == rows[0].get(name) for row in rows)]
    width = max(map(len, common), default=0)
    for name in common:
        yield f"  {name.ljust(width)}  {_shown(rows[0][name], kinds[name])}"
    others = [name for name in names if name not in common]
    if not others:
        return
    lines = [others] + [[_shown(row.get(name), kinds[name]) for name in others] for row in rows[:_MOST_ROWS]]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        yield "  " + "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
    if len(rows) > _MOST_ROWS:
        yield f"  and {plural(len(rows) - _MOST_ROWS, 'more row')}; --json prints all of them"


def _shown(value: Any, kind: Kind) -> str:
    if value is None:
        return "-"
    if isinstance(value, list):
        shown = " ".join(str(each) if each is not None else "-" for each in value[:_MOST_VALUES])
        return shown if len(value) <= _MOST_VALUES else f"{shown} ... ({len(value)} values)"
    if isinstance(value, bool):
        return str(value).lower()
    return utc(value) if kind is Kind.TIME else str(value)
