"""Columns of table rows: values as Arrow arrays, with exact numbers or an account of those that were rounded."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Context, Decimal
from typing import Any, NamedTuple

import pyarrow as pa

_SAFE_DIGITS = 15  # of a decimal: each has a double of its own, whose shortest form it is
_WIDE = Context(prec=200)


class Column(NamedTuple):
    """A column.

    Attributes:
        array: its values.
        rounded: how many of its numbers a double does not hold exactly as written.

    """

    array: pa.Array
    rounded: int = 0


class InexactError(Exception):
    """A number does not fit the decimal type.

    Attributes:
        index: the row.
        digits: the number.

    """

    def __init__(self, index: int, digits: str, kind: pa.DataType) -> None:
        super().__init__(f"found {digits[:60]}, which {kind} does not hold exactly")
        self.index, self.digits = index, digits


def column_of(values: Sequence[Any], kind: pa.DataType) -> Column:
    """A column of values as `wsrec.decode.table_rows` gives them.

    Args:
        values: digits (text) for numbers, ns since the epoch for times; None for null.
        kind: the type of the column (`wsrec.tables.schema`).

    Raises:
        InexactError: a number does not fit into a decimal.

    """
    if pa.types.is_list(kind) and not pa.types.is_string(kind.value_type):
        return _lists(values, kind)
    if pa.types.is_float64(kind):
        # float() rounds correctly, whatever the number of digits
        array = pa.array([None if digits is None else float(digits) for digits in values], kind)
        return Column(array, sum(digits is not None and is_rounded(digits) for digits in values))
    if pa.types.is_decimal(kind):
        return Column(pa.array([_exact(index, digits, kind) for index, digits in enumerate(values)], kind))
    if pa.types.is_timestamp(kind):
        return Column(pa.array(values, pa.int64()).view(kind))
    if pa.types.is_dictionary(kind):
        return Column(pa.array(values, kind.value_type).dictionary_encode().cast(kind))
    return Column(pa.array(values, kind))


def _lists(values: Sequence[Any], kind: pa.DataType) -> Column:
    inner = column_of([value for each in values for value in each or ()], kind.value_type)
    offsets: list[int | None] = [0]
    at = 0
    for each in values:
        at += len(each or ())
        offsets.append(at)
    for index, each in enumerate(values):
        if each is None:
            offsets[index] = None
    return Column(pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), inner.array, type=kind), inner.rounded)


def is_rounded(digits: str) -> bool:
    """Whether the shortest form of a number's double is another number."""
    if len(digits) <= _SAFE_DIGITS and "e" not in digits and "E" not in digits:
        return False
    return Decimal(repr(float(digits))) != Decimal(digits)


def _exact(index: int, digits: str | None, kind: pa.DataType) -> Decimal | None:
    if digits is None:
        return None
    number = Decimal(digits).normalize(_WIDE)
    decimals = -int(number.as_tuple().exponent)
    if decimals > kind.scale or (number and number.adjusted() >= kind.precision - kind.scale):
        raise InexactError(index, digits, kind)
    return number
