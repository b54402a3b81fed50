"""The Arrow schemas of the tables, made from `wsrec.feed.table_columns`."""

from __future__ import annotations

import pyarrow as pa

from wsrec.feed.table_columns import COLUMNS, IDENTITY, Kind, Table, TableColumn
from wsrec.options.export import Numbers

TABLES_VERSION = 1
"""Version of the tables' columns, in the metadata of exported files."""

UTC_NS = pa.timestamp("ns", tz="UTC")
_WORD = pa.dictionary(pa.int32(), pa.string())
_TYPES = {
    Kind.TIME: UTC_NS,
    Kind.INTEGER: pa.int64(),
    Kind.COUNT: pa.uint32(),
    Kind.TEXT: pa.string(),
    Kind.WORD: _WORD,
    Kind.TRUTH: pa.bool_(),
    Kind.WORDS: pa.list_(pa.string()),
    Kind.COUNTS: pa.list_(pa.uint32()),
}
_NEVER_NULL = {
    *("feed", "session", "seq", "item", "conn", "recv_time", "symbol", "channel", "state"),
    *("action", "is_snapshot", "last"),
}


def table_schema(table: Table, numbers: Numbers = Numbers.FLOAT) -> pa.Schema:
    """The schema of a table; each field has its meaning as metadata.

    Args:
        table: the table.
        numbers: the type of its numbers.

    """
    columns = COLUMNS[table] if table is Table.GAPS else (*IDENTITY, *COLUMNS[table])
    return pa.schema([_field(column, table, numbers) for column in columns])


def _field(column: TableColumn, table: Table, numbers: Numbers) -> pa.Field:
    never_null = column.name in _NEVER_NULL and (table is not Table.GAPS or column.name in ("feed", "session"))
    kind = _type(column, numbers)
    return pa.field(column.name, kind, nullable=not never_null, metadata={"meaning": column.meaning})


def _type(column: TableColumn, numbers: Numbers) -> pa.DataType:
    if column.name == "seq":
        return pa.uint64()
    if column.name == "conn":
        return pa.uint16()
    if column.kind in (Kind.NUMBER, Kind.SIZE, Kind.RATE, Kind.NUMBERS):
        exact = pa.decimal128(38, 24 if column.kind is Kind.RATE else 18)
        number = pa.float64() if numbers is Numbers.FLOAT else exact
        return pa.list_(number) if column.kind is Kind.NUMBERS else number
    return _TYPES[column.kind]
