"""The compiled table reader: a channel's declarations as a program for `_table_rows.RowScanner`, and its columns.

The scanner makes the columns of messages that are entirely as declared. Others are read by `PythonTableReader`, the
reference, which also gives the reasons of what is left out. A channel whose declarations the scanner does not support
(a memory between messages, regular expressions on values, split texts, books as lists) is read by that reader alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wsrec.arrays import known
from wsrec.decode.program_maker import program_of
from wsrec.decode.row_values import EXCHANGE_TIME, SYMBOL, Row, cells_reader, row_steps
from wsrec.decode.table_blocks import LeftOut, Messages, PythonTableReader, TableBlock
from wsrec.decode.table_program import BySymbol, NotCompilableError, Program
from wsrec.feed.schema import Feed
from wsrec.feed.table_columns import COLUMNS, Kind, Table, TableColumn

if TYPE_CHECKING:
    RowScanner: Any
else:
    try:
        from wsrec.decode._table_rows import RowScanner
    except ImportError:
        RowScanner = None

Bytes = npt.NDArray[np.uint8]


class CompiledTableReader:
    """Reads what `PythonTableReader` reads, by compiled code.

    Args:
        feed: the feed with the declarations.
        schemas: the schema of each table that is wanted.

    """

    def __init__(self, feed: Feed, schemas: Mapping[Table, pa.Schema]) -> None:
        self._feed, self._schemas = feed, dict(schemas)
        self._python = PythonTableReader(feed, schemas)
        self._channels: dict[tuple[str | None, bool], _CompiledChannel | None] = {}
        # decimals are made from the digits, which only Python keeps
        self._is_exact = any(pa.types.is_decimal(field.type) for schema in schemas.values() for field in schema)

    def read(self, messages: Messages) -> tuple[list[TableBlock], list[LeftOut]]:
        """See `PythonTableReader.read`."""
        key = messages.channel, messages.is_rest
        if key not in self._channels:
            self._channels[key] = self._compiled(*key)
        channel = self._channels[key]
        if channel is None:
            return self._python.read(messages)
        blocks, rest = channel.read(messages)
        if not len(rest):
            return blocks, []
        others, left_out = self._python.read(messages._replace(chosen=rest))
        return [*blocks, *others], left_out

    def disconnected(self, conn: int) -> None:
        """See `PythonTableReader.disconnected`."""
        self._python.disconnected(conn)

    def _compiled(self, channel: str | None, is_rest: bool) -> _CompiledChannel | None:
        if self._is_exact or not self._feed.tables_of(channel):
            return None
        try:
            program = program_of(self._feed, channel, is_rest, self._schemas)
        except NotCompilableError:
            return None
        return _CompiledChannel(program, self._schemas, channel)


class _CompiledChannel:
    """The messages of one channel."""

    def __init__(self, program: Program, schemas: Mapping[Table, pa.Schema], channel: str | None) -> None:
        self._program, self._schemas, self._channel = program, schemas, channel
        self._scanner = RowScanner(program.places, program.scopes, program)
        self._by_symbol = {(output.table, output.name): _BySymbol(output, channel) for output in program.by_symbol}

    def read(self, messages: Messages) -> tuple[list[TableBlock], npt.NDArray[np.int64]]:
        """The rows of messages that are as declared, and the messages that Python has to read."""
        _, offsets, data = messages.payload.buffers()
        if data is None:
            return [], messages.chosen
        chosen = np.ascontiguousarray(messages.chosen, np.int64)
        has_symbol = np.ascontiguousarray(known(messages.symbols), np.bool_)
        rest = self._scanner.read(
            data.address,
            data.address + data.size,
            offsets.address + messages.payload.offset * 8,
            chosen.ctypes.data,
            len(chosen),
            has_symbol.ctypes.data,
        )
        blocks = []
        for (table, names), (message, outputs) in zip(
            self._program.tables_and_names, self._scanner.take(), strict=True
        ):
            if message:
                of_message = np.frombuffer(message, np.int64)
                columns = self._columns(table, names, outputs, of_message, messages.symbols)
                # messages with a number that a double does not hold are Python's
                blocks.append(TableBlock(table, of_message, columns, rounded=0))
        return blocks, np.array(rest, np.int64)

    def _columns(
        self,
        table: Table,
        names: Sequence[str],
        outputs: Sequence[tuple[bytes, bytes, bytes]],
        message: npt.NDArray[np.int64],
        symbols: pa.Array,
    ) -> dict[str, pa.Array]:
        kinds = {column.name: column for column in (*COLUMNS[table], EXCHANGE_TIME, SYMBOL)}
        found: dict[str, pa.Array] = {}
        for name, (data, valid, text) in zip(names, outputs, strict=True):
            there = np.frombuffer(valid, np.uint8)
            if not there.any():
                continue
            if name == "flags":
                found[name] = _flags(np.frombuffer(data, np.int64), there, self._program.flag_names[table])
            else:
                found[name] = _array(kinds[name], self._schemas[table].field(name).type, data, there, text)
        for (of_table, name), by_symbol in self._by_symbol.items():
            if of_table is table:
                of_rows = found["symbol"] if by_symbol.of_row else symbols.take(pa.array(message))
                found[name] = by_symbol.column(of_rows, self._schemas[table].field(name).type)
        if table is Table.BOOK_CHANGES:
            found["last"] = pa.array(_last(message, found.get("symbol")))
        return found


class _BySymbol:
    """A column of constants that depend on the symbol alone."""

    def __init__(self, declared: BySymbol, channel: str | None) -> None:
        self.of_row = declared.of_row
        self._read = cells_reader(declared.cells, declared.column, row_steps("$"))
        self._channel = channel
        self._known: dict[str | None, Any] = {}

    def column(self, symbols: pa.Array, kind: pa.DataType) -> pa.Array:
        """The column of rows with these symbols."""
        coded = symbols.dictionary_encode()
        words = [self._value(name) for name in coded.dictionary.to_pylist()]
        inner = kind.value_type if pa.types.is_dictionary(kind) else kind
        return pa.array(words, inner).take(coded.indices)

    def _value(self, symbol: str | None) -> Any:
        if symbol not in self._known:
            self._known[symbol] = self._read(Row({}, {}, (), None, self._channel, symbol))
        return self._known[symbol]


def _array(column: TableColumn, kind: pa.DataType, data: bytes, valid: Bytes, text: bytes) -> pa.Array:
    """A column of the scanner's values."""
    count = len(valid)
    bitmap = None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little").tobytes())
    of_kind = column.kind
    if of_kind is Kind.TEXT:
        ends = np.frombuffer(data, np.uint64).astype(np.int32)
        offsets = np.concatenate([np.zeros(1, np.int32), ends])
        return pa.Array.from_buffers(pa.string(), count, [bitmap, pa.py_buffer(offsets), pa.py_buffer(text)])
    if of_kind in (Kind.NUMBER, Kind.SIZE, Kind.RATE):
        return pa.Array.from_buffers(pa.float64(), count, [bitmap, pa.py_buffer(data)])
    whole = np.frombuffer(data, np.int64)
    if of_kind is Kind.WORD:
        codes = pa.Array.from_buffers(pa.int32(), count, [bitmap, pa.py_buffer(whole.astype(np.int32))])
        return pa.DictionaryArray.from_arrays(codes, pa.array(column.words, pa.string()))
    if of_kind is Kind.TRUTH:
        return pa.array(whole.astype(np.bool_), mask=valid == 0)
    if of_kind is Kind.TIME:
        return pa.Array.from_buffers(kind, count, [bitmap, pa.py_buffer(data)])
    return pa.Array.from_buffers(pa.int64(), count, [bitmap, pa.py_buffer(data)]).cast(kind)


def _flags(masks: npt.NDArray[np.int64], valid: Bytes, names: Sequence[str]) -> pa.Array:
    """Lists of flags, from a bit for each."""
    distinct, codes = np.unique(np.where(valid, masks, 0), return_inverse=True)
    lists = [[name for bit, name in enumerate(names) if mask >> bit & 1] or None for mask in distinct.tolist()]
    return pa.array(lists, pa.list_(pa.string())).take(pa.array(codes))


def _last(message: npt.NDArray[np.int64], symbol: pa.Array | None) -> npt.NDArray[np.bool_]:
    """Whether each row is the last one of its message and symbol."""
    if symbol is None:
        return np.append(message[1:] != message[:-1], [True])
    codes = symbol.dictionary_encode().indices.to_numpy() if pa.types.is_string(symbol.type) else None
    assert codes is not None
    keys = message * (int(codes.max(initial=0)) + 1) + codes
    _, from_end = np.unique(keys[::-1], return_index=True)
    last = np.zeros(len(message), np.bool_)
    last[len(message) - 1 - from_end] = True
    return last
