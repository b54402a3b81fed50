"""Rows of `book_snapshots` of books that were built: a row a look."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from wsrec.feed.table_columns import STATES, Table
from wsrec.order_books.book_builder import LastMessage
from wsrec.order_books.book_series import Look
from wsrec.tables.schema import table_schema

SCHEMA = table_schema(Table.BOOK_SNAPSHOTS)
"""The schema of the rows."""

# a batch ends at either
_BATCH = 1024
_BATCH_LEVELS = 1 << 16
# the columns of a row that are those of the last message in its book
_SHARED = [
    *("feed", "session", "seq", "conn", "recv_time", "exchange_time", "symbol", "channel"),
    *("size_unit", "multiplier", "transact_time", "update_id"),
]


class BuiltRows:
    """Collects looks as rows.

    Args:
        levels: the best levels of each side that they have; 0: all.

    """

    def __init__(self, levels: int) -> None:
        self._levels = levels
        self._rows: list[dict[str, Any]] = []
        self._held_levels = 0
        self._last: list[LastMessage] = []
        # the item of the row before of each book
        self._items: dict[int, tuple[int, int]] = {}

    def add(self, look: Look) -> Iterator[pa.RecordBatch]:
        """Add one; a batch if there are enough."""
        last = look.builder.last
        if last is None:
            return
        seq, item = self._items.get(id(look.builder), (-1, -1))
        self._items[id(look.builder)] = last.seq, item + 1 if seq == last.seq else 0
        self._last.append(last)
        self._rows.append(self._own(look) | {"item": self._items[id(look.builder)][1]})
        self._held_levels += self._rows[-1]["depth"]
        if len(self._rows) >= _BATCH or self._held_levels >= _BATCH_LEVELS:
            yield from self.rest()

    def rest(self) -> Iterator[pa.RecordBatch]:
        """What is left, as a batch."""
        if self._rows:
            rows, last = self._rows, self._last
            self._rows, self._last, self._held_levels = [], [], 0
            shared = _of_messages(last)
            columns = [shared.column(field.name) if field.name in _SHARED else _column(rows, field) for field in SCHEMA]
            yield pa.RecordBatch.from_arrays(columns, schema=SCHEMA)

    def _own(self, look: Look) -> dict[str, Any]:
        """The columns that are not those of its last message."""
        row: dict[str, Any] = {
            "state": "suspect" if look.doubt is not None else STATES[look.builder.state],
            "origin": "built",
            "as_of": look.time,
            "doubt": look.doubt,
        }
        found = look.builder.levels(self._levels)
        if found is None:
            return row | {"depth": 0}
        for side, levels in zip(("bid", "ask"), found, strict=True):
            row |= {f"{side}_prices": levels.prices, f"{side}_sizes": levels.sizes}
            if max(levels.counts, default=-1) >= 0:
                row[f"{side}_counts"] = [count if count >= 0 else None for count in levels.counts]
        return row | {"depth": max(len(levels.prices) for levels in found)}


def _of_messages(messages: Sequence[LastMessage]) -> pa.RecordBatch:
    """The columns that rows share with the last message of their books."""
    parts = []
    for _, run in itertools.groupby(messages, key=lambda each: id(each.batch)):
        of = list(run)
        parts.append(of[0].batch.select(_SHARED).take(pa.array([each.place for each in of])))
    (batch,) = pa.Table.from_batches(parts).unify_dictionaries().combine_chunks().to_batches()
    return batch


def _column(rows: Sequence[dict[str, Any]], field: pa.Field) -> pa.Array:
    values = [row.get(field.name) for row in rows]
    if pa.types.is_dictionary(field.type):
        return pa.array(values, field.type.value_type).dictionary_encode().cast(field.type)
    return pa.array(values, field.type)
