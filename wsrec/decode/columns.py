"""Columns returned by a field reader, one value per message."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

NAME_TYPE = pa.dictionary(pa.int32(), pa.string())
_SIGNED = pa.decimal128(20)
NUMBER_TYPES = (pa.int64(), pa.uint64(), _SIGNED, _SIGNED)


Row = tuple[str | None, str | None, int | None, int | None, int | None, int | None, bool]
"""A message's fields, in the order of `FieldColumns`; None for absent ones.

A plain tuple: creating a named one takes as long as reading a field.
"""
NOTHING: Row = (None, None, None, None, None, None, False)


class FieldColumns(NamedTuple):
    """Fields of a batch of messages, one value per message; null for absent ones.

    Attributes:
        channel: dictionary (int32) of string, the exchange's name of the channel.
        symbol: dictionary (int32) of string, as the exchange writes it.
        exchange_time: int64, ns since the epoch. A time before `wsrec.decode.scalars.EARLIEST` or beyond int64 (then
            clamped) is returned only if no other place has a valid one: it is reported, but not trusted.
        exchange_seq: uint64, the sequence number; the last one if a message covers a range.
        seq_first: decimal of 20 digits (-2**63 to 2**64-1), the first number of such a range.
        seq_previous: the same, the number of the previous message, if messages name it (-1 means none).
        seq_reset: bool, never null: whether the message says that its numbers restart.

    A dictionary may contain names that no message of the batch has.

    """

    channel: pa.DictionaryArray
    symbol: pa.DictionaryArray
    exchange_time: pa.Array
    exchange_seq: pa.Array
    seq_first: pa.Array
    seq_previous: pa.Array
    seq_reset: pa.BooleanArray

    def rows(self, span: slice) -> FieldColumns:
        """Some of the messages, without a copy."""
        return FieldColumns._make(column[span] for column in self)


def columns_of(cells: list[Any]) -> FieldColumns:
    """Convert rows, concatenated in one list, to columns.

    One flat list, because 4000 live tuples are work for the garbage collector: a third of the reading time.

    """
    channel, symbol, *numbers, reset = (cells[column :: len(NOTHING)] for column in range(len(NOTHING)))
    names = [pa.array(column, NAME_TYPE) for column in (channel, symbol)]
    counted = [pa.array(column, kind) for column, kind in zip(numbers, NUMBER_TYPES, strict=True)]
    return FieldColumns._make([*names, *counted, pa.array(reset, pa.bool_())])


class NullColumns:
    """Columns of nulls, created once and sliced."""

    def __init__(self) -> None:
        self._make(0)

    def columns(self, count: int) -> FieldColumns:
        """The columns of `count` messages."""
        if count > len(self._names):
            self._make(2 * count)
        names = self._names[:count]
        return FieldColumns._make([names, names, *(number[:count] for number in self._numbers), self._flags[:count]])

    def _make(self, count: int) -> None:
        self._names, self._numbers = pa.nulls(count, NAME_TYPE), [pa.nulls(count, kind) for kind in NUMBER_TYPES]
        self._flags = pa.array(np.zeros(count, np.bool_))
