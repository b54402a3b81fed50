"""A file of a table: Parquet, CSV or Arrow, in row groups of a size that does not depend on how its rows came."""

from __future__ import annotations

import contextlib
import glob
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet as pq

from wsrec.feed.table_columns import Table
from wsrec.format.folders import replaceable
from wsrec.options.export import ColumnNames, Format, Numbers, TimeUnit
from wsrec.tables.claimed import claim, remove_abandoned
from wsrec.tables.column_names import TARDIS_NAMES
from wsrec.tables.schema import table_schema
from wsrec.units import clean, system_error

ROW_GROUP_ROWS = 1 << 17
_UNWRITTEN = ".unwritten"


class UnwritableError(Exception):
    """A file cannot be written; the message has its path and the system's reason."""


class TableFile:
    """A file of a table that is being written; it has its name only once it is complete.

    Args:
        path: its path; a file of that name is replaced.
        table: the table.
        kind: its format.
        time: unit of its times.
        numbers: type of its numbers.
        names: the names of its columns; those of tardis.dev bring its microseconds.

    Attributes:
        rows: rows so far.

    Raises:
        UnwritableError: it cannot be created; of all methods: it cannot be written.

    """

    def __init__(
        self,
        path: Path,
        table: Table,
        kind: Format,
        time: TimeUnit,
        numbers: Numbers,
        names: ColumnNames = ColumnNames.WSREC,
    ) -> None:
        self.rows = 0
        self._path, self._kind = path, kind
        self._time = time if names is ColumnNames.WSREC else TimeUnit.US
        self._partial = path.with_name(f".{path.name}.{os.getpid()}{_UNWRITTEN}")
        self._schema = written_schema(table_schema(table, numbers), kind, self._time)
        if names is ColumnNames.TARDIS:
            self._schema = pa.schema([each.with_name(TARDIS_NAMES.get(each.name, each.name)) for each in self._schema])
        self._held: list[pa.Table] = []
        self._held_rows = 0
        self._claim: int | None = None
        self._sink: pa.NativeFile | None = None
        self._writer: Any = None
        try:
            with self._writing():
                replaceable(path).parent.mkdir(parents=True, exist_ok=True)
                # of processes that were killed
                remove_abandoned(path.parent, f".{glob.escape(path.name)}.*{_UNWRITTEN}")
                _, self._claim = claim(self._make)
                self._sink = pa.OSFile(os.fsencode(self._partial), "wb")
                self._writer = _writer(self._sink, self._schema, kind)
        except UnwritableError:
            self.discard()
            raise

    def _make(self) -> Path:
        self._partial.touch()
        return self._partial

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # Arrow's message has its own calls, and no path
            is_ours = error.filename in (None, str(self._partial)) and error.errno is not None
            names_it = error.filename == str(self._path) and error.strerror is not None
            reason = os.strerror(error.errno or 0) if is_ours else error.strerror if names_it else system_error(error)
            raise UnwritableError(f"{clean(str(self._path), 1000)}: {reason}") from error

    def write(self, rows: pa.RecordBatch) -> int:
        """Add rows; returns how many times lost digits."""
        cut = _cut_times(rows) if self._time is TimeUnit.US else 0
        self.rows += rows.num_rows
        self._held_rows += rows.num_rows
        self._held.append(_written(rows, self._schema, self._kind))
        with self._writing():
            self._write_groups()
        return cut

    def _write_groups(self) -> None:
        while self._held_rows >= ROW_GROUP_ROWS:
            whole = pa.concat_tables(self._held)
            self._group(whole.slice(0, ROW_GROUP_ROWS))
            rest = whole.slice(ROW_GROUP_ROWS)
            self._held, self._held_rows = [rest], rest.num_rows

    def _group(self, rows: pa.Table) -> None:
        whole = _with_own_words(rows.unify_dictionaries().combine_chunks())
        if isinstance(self._writer, pq.ParquetWriter):
            self._writer.write_table(whole, row_group_size=ROW_GROUP_ROWS)
        else:
            self._writer.write_table(whole)

    def finish(self, about: Mapping[str, Any]) -> int:
        """Give the file its name; returns its size in bytes."""
        with self._writing():
            if self._held_rows:
                self._group(pa.concat_tables(self._held))
                self._held, self._held_rows = [], 0
            if isinstance(self._writer, pq.ParquetWriter):
                self._writer.add_key_value_metadata({f"wsrec.{key}": json.dumps(value) for key, value in about.items()})
            self._writer.close()
            assert self._sink is not None
            assert self._claim is not None
            self._sink.close()
            self._partial.replace(self._path)
            os.close(self._claim)
            self._claim = None
            return self._path.stat().st_size

    def discard(self) -> None:
        """Remove the file if it was not finished; never raises."""
        if self._claim is None:
            return
        # a writer that failed fails again where it ends its file
        for each in (self._writer, self._sink):
            with contextlib.suppress(OSError, pa.ArrowException):
                if each is not None:
                    each.close()
        with contextlib.suppress(OSError):
            self._partial.unlink(missing_ok=True)
        os.close(self._claim)
        self._claim = None


def _writer(sink: pa.NativeFile, schema: pa.Schema, kind: Format) -> Any:
    if kind is Format.CSV:
        return pyarrow.csv.CSVWriter(sink, schema)
    if kind is Format.ARROW:
        return pyarrow.ipc.new_file(sink, schema, options=pyarrow.ipc.IpcWriteOptions(compression="zstd"))
    # `feed` is the first column, whatever its name
    # prices and sizes repeat: 7 bytes a trade instead of 11.5, and a third of a query's time (docs/reference/tables.md)
    dictionaries = [
        field.name
        for number, field in enumerate(schema)
        if not number or pa.types.is_dictionary(field.type) or _is_number(field.type)
    ]
    return pq.ParquetWriter(
        sink,
        schema,
        compression="zstd",
        use_dictionary=dictionaries,
        column_encoding=dict(_encodings(schema, dictionaries)),
        write_statistics=True,
    )


def _encodings(schema: pa.Schema, dictionaries: Sequence[str]) -> Iterator[tuple[str, str]]:
    for field in schema:
        if field.name in dictionaries or pa.types.is_list(field.type) or pa.types.is_boolean(field.type):
            continue
        if pa.types.is_timestamp(field.type) or pa.types.is_integer(field.type):
            yield field.name, "DELTA_BINARY_PACKED"


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_float64(kind) or pa.types.is_decimal(kind))


def written_schema(schema: pa.Schema, kind: Format, time: TimeUnit) -> pa.Schema:
    """The schema of a table as files of a format have it."""
    fields = []
    for field in schema:
        if pa.types.is_timestamp(field.type) and time is TimeUnit.US:
            field = field.with_type(pa.timestamp("us", "UTC"))
        is_text = pa.types.is_list(field.type) and kind is Format.CSV
        # an Arrow file cannot replace a dictionary; `feed` has to be what readers make of the folder's name
        is_plain = kind is not Format.PARQUET or field.name == "feed"
        if is_text or (pa.types.is_dictionary(field.type) and is_plain):
            field = field.with_type(pa.string())
        fields.append(field)
    return pa.schema(fields)


def _with_own_words(rows: pa.Table) -> pa.Table:
    """The same with dictionaries of the words that occur, in order: whoever made the rows may list others, too."""
    for number, field in enumerate(rows.schema):
        if not pa.types.is_dictionary(field.type) or not rows.num_rows:
            continue
        column = rows.column(number).combine_chunks()
        used = column.indices.unique().drop_null().to_numpy()
        if np.array_equal(used, np.arange(len(column.dictionary))):
            continue
        codes = np.zeros(len(column.dictionary), np.int32)
        codes[used] = np.arange(len(used))
        indices = pa.array(codes).take(column.indices)
        own = pa.DictionaryArray.from_arrays(indices, column.dictionary.take(pa.array(used)))
        rows = rows.set_column(number, field, own.cast(field.type))
    return rows


def _written(rows: pa.RecordBatch, schema: pa.Schema, kind: Format) -> pa.Table:
    columns = []
    for column, field in zip(rows.columns, schema, strict=True):
        if pa.types.is_list(column.type) and kind is Format.CSV:
            column = pa.array([None if each is None else json.dumps(each, default=str) for each in column.to_pylist()])
        columns.append(column if column.type == field.type else column.cast(field.type, safe=False))
    return pa.Table.from_arrays(columns, schema=schema)


def _cut_times(rows: pa.RecordBatch) -> int:
    """How many times have digits below the microsecond."""
    cut = 0
    for column in rows.columns:
        if pa.types.is_timestamp(column.type):
            known = column.drop_null().view(pa.int64()).to_numpy()
            cut += int((known % 1000 != 0).sum())
    return cut
