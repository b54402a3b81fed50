"""Conversions between Arrow and numpy with little copying: an Arrow call costs as much as 1000 messages."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Flags = npt.NDArray[np.bool_]
Int64s = npt.NDArray[np.int64]
Uint64s = npt.NDArray[np.uint64]
Places = npt.NDArray[np.intp]


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


def low_bits(column: pa.Array) -> Uint64s:
    """The lower 64 bits of unsigned integers or decimals (two's complement); anything where the column has null."""
    if pa.types.is_decimal(column.type):
        return _halves(column)[:, 0]
    return values(column)


def are_negative(column: pa.Array, places: Places) -> Flags:
    """Which of the decimals at some places are below 0; anything where the column has null."""
    negative: Flags = _halves(column)[places, 1].view(np.int64) < 0
    return negative


def _halves(column: pa.Array) -> Uint64s:
    """Decimals of 128 bits as their lower and upper half."""
    flat = np.frombuffer(column.buffers()[1], np.uint64, 2 * (column.offset + len(column)))
    return flat.reshape(-1, 2)[column.offset :]


def large_binary(payloads: Sequence[bytes | memoryview]) -> pa.Array:
    """A `large_binary` array of payloads, copied once; of one alone nothing is copied.

    `pa.array` never lets go of a memoryview (pyarrow 26 does not release the buffer that it asked for): every batch
    with a message in parts, or one that was inflated, would stay in memory for good.

    """
    offsets = np.zeros(len(payloads) + 1, np.int64)
    np.cumsum([len(payload) for payload in payloads], out=offsets[1:])
    data = payloads[0] if len(payloads) == 1 else b"".join(payloads)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.large_binary(), len(payloads), buffers)


def views(payload: pa.Array) -> list[memoryview]:
    """Each message of a `large_binary` array, where it lies."""
    _, offset_buffer, data_buffer = payload.buffers()
    offsets = np.frombuffer(offset_buffer, np.int64, len(payload) + 1, payload.offset * 8).tolist()
    data = memoryview(data_buffer if data_buffer is not None else b"").cast("B").toreadonly()
    return [data[start:stop] for start, stop in itertools.pairwise(offsets)]
