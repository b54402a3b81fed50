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
    """Indices of nonzero elements of a 1-D array; cheaper than `numpy.flatnonzero` for a thousand messages."""
    return flags.nonzero()[0]


def distinct(numbers: npt.NDArray[np.integer]) -> list[int]:
    """The different numbers of an array of small ones (up to 16 bits, or codes), none below 0, in order."""
    found: list[int] = np.bincount(numbers).nonzero()[0].tolist()
    return found


def lengths(payload: pa.Array) -> Int64s:
    """The length of each payload (bytes) of a `large_binary` array; 0 for null."""
    offsets = np.frombuffer(payload.buffers()[1], np.int64, len(payload) + 1, payload.offset * 8)
    return np.diff(offsets)


def values(column: pa.Array) -> npt.NDArray[Any]:
    """The integers of a column without a copy; undefined for nulls."""
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
    """The index of each value in the column's dictionary; `null` for nulls."""
    indices = column.indices
    found = values(indices)
    return np.where(known(indices), found, found.dtype.type(null)) if indices.null_count else found


def low_bits(column: pa.Array) -> Uint64s:
    """The lower 64 bits of unsigned integers or decimals (two's complement); undefined for nulls."""
    if pa.types.is_decimal(column.type):
        return _halves(column)[:, 0]
    return values(column)


def are_negative(column: pa.Array, places: Places) -> Flags:
    """Mask of negative values among the decimals at some indices; undefined for nulls."""
    negative: Flags = _halves(column)[places, 1].view(np.int64) < 0
    return negative


def _halves(column: pa.Array) -> Uint64s:
    """The lower and upper halves of 128-bit decimals."""
    flat = np.frombuffer(column.buffers()[1], np.uint64, 2 * (column.offset + len(column)))
    return flat.reshape(-1, 2)[column.offset :]


def large_binary(payloads: Sequence[bytes | memoryview]) -> pa.Array:
    """A `large_binary` array of payloads, copied once; a single payload is not copied.

    `pa.array` would leak memoryviews (pyarrow 26 never releases their buffers): every batch with a fragmented or
    inflated message would stay in memory.

    """
    offsets = np.zeros(len(payloads) + 1, np.int64)
    np.cumsum([len(payload) for payload in payloads], out=offsets[1:])
    data = payloads[0] if len(payloads) == 1 else b"".join(payloads)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.large_binary(), len(payloads), buffers)


def views(payload: pa.Array) -> list[memoryview]:
    """A view of each message of a `large_binary` array."""
    _, offset_buffer, data_buffer = payload.buffers()
    offsets = np.frombuffer(offset_buffer, np.int64, len(payload) + 1, payload.offset * 8).tolist()
    data = memoryview(data_buffer if data_buffer is not None else b"").cast("B").toreadonly()
    return [data[start:stop] for start, stop in itertools.pairwise(offsets)]
