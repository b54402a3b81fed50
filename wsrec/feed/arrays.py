"""Arrow's arrays as numpy sees them, nothing copied: a call of Arrow's functions costs what 1000 messages do."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Flags = npt.NDArray[np.bool_]


def where_set(flags: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """Where an array of one dimension is not 0: `numpy.flatnonzero` costs more than looking at a thousand messages."""
    return flags.nonzero()[0]


def values(column: pa.Array) -> npt.NDArray[Any]:
    """The integers where the column keeps them; anything where it has null."""
    kind = column.type.to_pandas_dtype()
    return np.frombuffer(column.buffers()[1], kind, column.offset + len(column))[column.offset :]


def known(column: pa.Array) -> Flags:
    """Whether each value is not null."""
    bitmap = column.buffers()[0]
    if bitmap is None or not column.null_count:
        return np.ones(len(column), np.bool_)
    bits = np.unpackbits(np.frombuffer(bitmap, np.uint8), count=column.offset + len(column), bitorder="little")
    return bits[column.offset :].view(np.bool_)


def codes(column: pa.DictionaryArray, null: int) -> npt.NDArray[Any]:
    """The place of each value in the column's dictionary; `null` for null."""
    indices = column.indices
    found = values(indices)
    return np.where(known(indices), found, found.dtype.type(null)) if indices.null_count else found
