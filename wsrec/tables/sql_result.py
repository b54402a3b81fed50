"""Rows of any types as text for people, CSV, JSON or Parquet: nothing cut, and untrusted text made safe to print."""

from __future__ import annotations

import io
import itertools
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from wsrec.tables.whole_file import whole_file
from wsrec.terminal_tables import print_table
from wsrec.units import clean, printable

_JSON = msgspec.json.Encoder(decimal_format="number")
_LONGEST_CELL = 1 << 20


class SameNameError(Exception):
    """Two columns have the same name, and the format would keep one of them."""


def print_rows(rows: pa.RecordBatchReader, console: Console, most: int) -> bool:
    """Print rows as a table.

    Args:
        rows: the rows.
        console: where they are printed.
        most: rows printed at most.

    Returns:
        Whether there are more.

    """
    grid = Grid(box=None, header_style="bold", pad_edge=False)
    for field in rows.schema:
        is_number = (
            pa.types.is_integer(field.type) or pa.types.is_floating(field.type) or pa.types.is_decimal(field.type)
        )
        is_long = pa.types.is_nested(field.type) or pa.types.is_string(field.type) or pa.types.is_binary(field.type)
        justify = "right" if is_number else "left"
        grid.add_column(Text(clean(field.name)), justify=justify, no_wrap=not is_long)  # type: ignore[arg-type]
    cells = text_rows(rows)
    for row in itertools.islice(cells, most):
        grid.add_row(*(Text("" if cell is None else clean(cell, _LONGEST_CELL)) for cell in row))
    print_table(grid, console)
    return next(cells, None) is not None


def text_rows(rows: pa.RecordBatchReader) -> Iterator[tuple[str | None, ...]]:
    """Each row as texts, None for null; they are not made safe to print."""
    for batch in rows:
        yield from zip(*map(_texts, batch.columns), strict=True)


def csv_texts(rows: pa.RecordBatchReader, *, for_terminal: bool = False) -> Iterator[str]:
    """CSV in parts, the first of them the line of names; lists and objects are JSON, bytes are hexadecimal.

    Args:
        rows: the rows.
        for_terminal: whether text is made safe to print.

    """
    plain = [_is_text(field.type) for field in rows.schema]
    schema = pa.schema(
        [(each.name, pa.string() if text else each.type) for each, text in zip(rows.schema, plain, strict=True)]
    )
    for first, batch in zip(itertools.chain((True,), itertools.repeat(False)), _or_empty(rows), strict=False):
        columns = [
            pa.array(_printed(_texts(column), for_terminal), pa.string()) if text else column
            for column, text in zip(batch.columns, plain, strict=True)
        ]
        sink = io.BytesIO()
        table = pa.Table.from_arrays(columns, schema=schema)
        pyarrow.csv.write_csv(table, sink, pyarrow.csv.WriteOptions(include_header=first))
        yield sink.getvalue().decode()


def _or_empty(rows: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """The batches; an empty one if there is none."""
    first = next(rows, None)
    yield (
        pa.RecordBatch.from_arrays([pa.array([], each.type) for each in rows.schema], schema=rows.schema)
        if (first is None)
        else first
    )
    yield from rows


def _printed(texts: list[str | None], for_terminal: bool) -> list[str | None]:
    return [None if text is None else clean(text, _LONGEST_CELL) for text in texts] if for_terminal else texts


def json_lines(rows: pa.RecordBatchReader) -> Iterator[str]:
    """A JSON object a row: times as text with their nanoseconds, bytes as hexadecimal.

    Raises:
        SameNameError: two columns have the same name.

    """
    _check_names(rows.schema)
    for batch in rows:
        for values in zip(*map(_values, batch.columns), strict=True):
            yield printable(_JSON.encode(dict(zip(batch.schema.names, values, strict=True))).decode())


def write_parquet(rows: pa.RecordBatchReader, path: Path) -> None:
    """Write rows to a Parquet file, which appears when it is complete.

    Raises:
        SameNameError: two columns have the same name.
        OSError: it cannot be written.

    """
    _check_names(rows.schema)
    with (
        whole_file(path) as unfinished,
        pa.OSFile(os.fsencode(unfinished), "wb") as file,
        pq.ParquetWriter(file, rows.schema, compression="zstd") as writer,
    ):
        for batch in rows:
            writer.write_batch(batch)


def _check_names(schema: pa.Schema) -> None:
    name, count = Counter(schema.names).most_common(1)[0]
    if count > 1:
        raise SameNameError(f"{count} columns are named {clean(name, 60)}: name them apart with AS")


def _is_text(kind: pa.DataType) -> bool:
    """Whether CSV has no form of its own for it."""
    return not (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_null(kind)
    )


def _texts(column: pa.Array) -> list[str | None]:
    """Values as text; None for null."""
    if pa.types.is_boolean(column.type) or pa.types.is_string(column.type) or not _is_text(column.type):
        texts: list[str | None] = column.cast(pa.string()).to_pylist()
        return texts
    return [
        None if value is None else value if isinstance(value, str) else _JSON.encode(value).decode()
        for value in _values(column)
    ]


def _values(column: pa.Array) -> list[Any]:
    """Values that JSON has."""
    kind = column.type
    if pa.types.is_temporal(kind) and not pa.types.is_interval(kind):
        # with all digits: Python's times end at the microsecond
        return list(column.cast(pa.string()).to_pylist())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return [None if value is None else value.hex() for value in column.to_pylist()]
    if pa.types.is_interval(kind):
        return [
            None if each is None else f"{each[0]} months {each[1]} days {each[2]} ns" for each in column.to_pylist()
        ]
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = iter(_values(column.flatten()))
        lengths = column.value_lengths().to_pylist()
        return [None if length is None else list(itertools.islice(inner, length)) for length in lengths]
    if pa.types.is_struct(kind):
        names = [field.name for field in kind]
        members = [_values(each) for each in column.flatten()]
        return [
            dict(zip(names, values, strict=True)) if valid else None
            for valid, *values in zip(column.is_valid().to_pylist(), *members, strict=True)
        ]
    if pa.types.is_map(kind):
        return [None if value is None else [list(pair) for pair in value] for value in column.to_pylist()]
    return list(column.to_pylist())
