"""Rows of `book_changes`, for tests of what is made from them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from wsrec.feed.table_columns import Table
from wsrec.tables.schema import table_schema

SCHEMA = table_schema(Table.BOOK_CHANGES)
START = 1_795_352_400_000_000_000

Level = tuple[str, float, float]
"""A side, price and size; size 0 deletes."""


def change_rows(
    seq: int, levels: Iterable[Level], *, snapshot: bool = False, time: int | None = None, **more: Any
) -> Iterator[dict[str, Any]]:
    """The rows of one message; `time` in ns since `START`."""
    shared = {
        "feed": "f",
        "session": "s1",
        "seq": seq,
        "conn": 0,
        "recv_time": START + (seq if time is None else time),
        "symbol": "A",
        "channel": "book",
        "state": "ok",
        "is_snapshot": snapshot,
    } | more
    rows: list[dict[str, Any]] = [{"action": "clear"}] if snapshot else []
    rows += [
        {"action": "set" if size else "delete", "side": side, "price": price, "size": size}
        for side, price, size in levels
    ]
    for item, row in enumerate(rows):
        yield shared | row | {"item": item, "last": item == len(rows) - 1}


def change_batch(rows: Iterable[dict[str, Any]]) -> pa.RecordBatch:
    """Rows as the converter makes them."""
    listed = list(rows)
    columns = []
    for field in SCHEMA:
        values = [row.get(field.name) for row in listed]
        kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
        array = pa.array(values, kind)
        columns.append(array.dictionary_encode().cast(field.type) if kind is not field.type else array)
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
