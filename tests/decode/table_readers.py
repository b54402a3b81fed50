"""What table readers make of messages as plain values, so that the implementations can be held against each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from wsrec.decode.compiled_table_reader import CompiledTableReader
from wsrec.decode.table_blocks import Messages, PythonTableReader, TableBlock
from wsrec.feed.schema import Feed
from wsrec.feed.table_columns import Table
from wsrec.tables.schema import table_schema

SCHEMAS = {table: table_schema(table) for table in Table if table is not Table.GAPS}


def plain(blocks: list[TableBlock], symbols: pa.Array) -> dict[Table, Any]:
    """The rows of blocks in the order of messages; a row without a symbol has its message's."""
    found: dict[Table, list[Any]] = {}
    for block in blocks:
        columns = {name: _values(column) for name, column in block.columns.items()}
        rows = [
            (
                int(message),
                {"symbol": symbols[int(message)].as_py()}
                | {name: values[row] for name, values in columns.items() if values[row] is not None},
            )
            for row, message in enumerate(block.message)
        ]
        found.setdefault(block.table, []).extend(rows)
    return {table: sorted(rows, key=lambda row: row[0]) for table, rows in found.items()}


def _values(column: pa.Array) -> list[Any]:
    return (column.view(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist()


def exact(payloads: list[bytes]) -> pa.Array:
    """Messages whose memory ends where the last one does: a sanitizer sees a byte more read."""
    offsets = np.cumsum([0, *map(len, payloads)], dtype=np.int64)
    data = np.frombuffer(b"".join(payloads), np.uint8).copy()
    return pa.Array.from_buffers(pa.large_binary(), len(payloads), [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def read(reader: Any, payloads: list[bytes], channel: str | None, *, is_rest: bool = False) -> Any:
    """The rows, what is left out, and how many numbers were rounded; some messages have no symbol."""
    symbols = pa.array([None if index % 7 == 6 else f"S{index % 3}" for index in range(len(payloads))], pa.string())
    messages = Messages(
        exact(payloads),
        np.arange(len(payloads)),
        channel,
        is_rest,
        symbols,
        np.zeros(len(payloads), np.int64),
    )
    blocks, left_out = reader.read(messages)
    return plain(blocks, symbols), sorted(left_out, key=str), sum(block.rounded for block in blocks)


def assert_alike(feed: Feed, payloads: list[bytes], channel: str | None, *, is_rest: bool = False) -> Any:
    """Assert that both implementations make the same of messages; returns it."""
    mine = read(CompiledTableReader(feed, SCHEMAS), payloads, channel, is_rest=is_rest)
    assert mine == read(PythonTableReader(feed, SCHEMAS), payloads, channel, is_rest=is_rest)
    return mine
