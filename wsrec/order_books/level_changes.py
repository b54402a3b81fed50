"""Level changes: the rows of `book_changes` as plain arrays, in the form that books are made from."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wsrec.arrays import Flags, Int64s, codes, known
from wsrec.feed.table_columns import ACTIONS, BOOK_SIDES

SET, DELETE, CLEAR = range(len(ACTIONS))
"""Codes of the actions, in the order of `ACTIONS`."""
BID, ASK, NO_SIDE = 0, 1, -1
"""Codes of the sides, in the order of `BOOK_SIDES`; `NO_SIDE`: null."""

Doubles = npt.NDArray[np.float64]
Int8s = npt.NDArray[np.int8]


class LevelChanges(NamedTuple):
    """Rows of `book_changes`.

    Attributes:
        actions: `SET`, `DELETE` or `CLEAR`.
        sides: `BID`, `ASK` or `NO_SIDE`.
        prices, sizes: NaN for null.
        counts: orders; -1 for null.
        named: whether the level has an id of the exchange, which is on one side at a time.
        lasts: whether the row is the last one of its message and symbol.

    """

    actions: Int8s
    sides: Int8s
    prices: Doubles
    sizes: Doubles
    counts: Int64s
    named: Flags
    lasts: Flags

    @classmethod
    def of(cls, rows: pa.RecordBatch) -> LevelChanges:
        """The changes in rows of `table_schema(Table.BOOK_CHANGES)`, with numbers as float64."""
        return cls(
            actions=_codes(rows.column("action"), ACTIONS),
            sides=_codes(rows.column("side"), BOOK_SIDES),
            prices=_doubles(rows.column("price")),
            sizes=_doubles(rows.column("size")),
            counts=_counts(rows.column("count")),
            named=known(rows.column("level_id")),
            lasts=rows.column("last").to_numpy(zero_copy_only=False),
        )

    def take(self, rows: npt.NDArray[np.intp]) -> LevelChanges:
        """Some of the rows."""
        return LevelChanges._make(column[rows] for column in self)


def _codes(column: pa.DictionaryArray, words: tuple[str, ...]) -> Int8s:
    """The place of each value in `words`; -1 for null."""
    places = {word: place for place, word in enumerate(words)}
    names = column.dictionary.to_pylist()
    table = np.array([*(places[name] for name in names), -1], np.int8)
    found: Int8s = table[codes(column, len(names))]
    return found


def _doubles(column: pa.Array) -> Doubles:
    found: Doubles = column.to_numpy(zero_copy_only=False)
    return found


def _counts(column: pa.Array) -> Int64s:
    if column.null_count == len(column):
        return np.full(len(column), -1, np.int64)
    found: Any = column.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    return np.ascontiguousarray(found, np.int64)
