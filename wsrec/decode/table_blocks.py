"""Table rows of many messages of one channel, column by column: the interface of the two implementations.

`PythonTableReader` is the reference; `wsrec.decode.compiled_table_reader` reads the same with compiled code and leaves
to this one what it does not decide. `wsrec.decode.table_implementation` chooses one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from wsrec.arrays import Int64s, views
from wsrec.decode.row_columns import InexactError, column_of
from wsrec.decode.row_maker import TableRow
from wsrec.decode.table_rows import Message, TableRowReader
from wsrec.feed.schema import Feed
from wsrec.feed.table_columns import Table


class TableBlock(NamedTuple):
    """Rows of one table.

    Attributes:
        table: the table.
        message: of each row the index of its message; never decreases.
        columns: the columns that have values, with the types of the schema; without `symbol` and `exchange_time` those
            of the message hold.
        rounded: how many numbers a double does not hold exactly as written.

    """

    table: Table
    message: Int64s
    columns: dict[str, pa.Array]
    rounded: int


class LeftOut(NamedTuple):
    """A message, or a part of one, that makes no rows, or none with a value.

    Attributes:
        message: its index.
        table: the table; None: all.
        reason: why.
        is_skip: whether a declaration skips it by intent.
        is_null: whether its rows are made, with null in place of what is there.

    """

    message: int
    table: Table | None
    reason: str
    is_skip: bool = False
    is_null: bool = False


class Messages(NamedTuple):
    """Messages of one channel.

    Attributes:
        payload: `large_binary` array of all messages of a batch, as JSON.
        chosen: the indices of those of this channel, in order.
        channel: the channel, by any of its names.
        is_rest: whether they were fetched over HTTP.
        symbols: `string` array of the batch's symbols, null where a message has none.
        conns: of each message of the batch its connection.

    """

    payload: pa.Array
    chosen: Int64s
    channel: str | None
    is_rest: bool
    symbols: pa.Array
    conns: Int64s


class PythonTableReader:
    """Reads the rows of messages with `TableRowReader`.

    Args:
        feed: the feed with the declarations.
        schemas: the schema of each table that is wanted.

    """

    def __init__(self, feed: Feed, schemas: Mapping[Table, pa.Schema]) -> None:
        self._schemas = schemas
        self._rows = TableRowReader(feed, schemas)

    def read(self, messages: Messages) -> tuple[list[TableBlock], list[LeftOut]]:
        """The rows of the chosen messages, a block a table.

        Raises:
            NumberRefusedError: a number does not fit the decimal type of its column.

        """
        payloads = views(messages.payload)
        symbols = messages.symbols
        found: dict[Table, tuple[list[int], list[TableRow]]] = {}
        left_out: list[LeftOut] = []
        for index in messages.chosen.tolist():
            message = Message(
                payloads[index],
                messages.channel,
                symbols[index].as_py(),
                int(messages.conns[index]),
                messages.is_rest,
            )
            outcome = self._rows.read(message)
            for table, rows in outcome.rows:
                indices, kept = found.setdefault(table, ([], []))
                indices += [index] * len(rows)
                kept += rows
            left_out += (LeftOut(index, table, reason) for table, reason in outcome.left_out)
            left_out += (LeftOut(index, table, reason, is_null=True) for table, reason in outcome.nulls)
            if outcome.skipped is not None:
                left_out.append(LeftOut(index, None, outcome.skipped, is_skip=True))
        return [
            block_of(table, indices, rows, self._schemas[table]) for table, (indices, rows) in found.items()
        ], left_out

    def disconnected(self, conn: int) -> None:
        """Forget what is remembered of a connection."""
        self._rows.disconnected(conn)


class NumberRefusedError(Exception):
    """A number does not fit the decimal type of its column.

    Attributes:
        message: the index of its message.

    """

    def __init__(self, message: int, what: str) -> None:
        super().__init__(what)
        self.message = message


def block_of(table: Table, indices: Sequence[int], rows: Sequence[TableRow], schema: pa.Schema) -> TableBlock:
    """A block of rows.

    Args:
        table: the table.
        indices: the message of each row.
        rows: the rows.
        schema: the table's.

    Raises:
        NumberRefusedError: a number does not fit the decimal type of its column.

    """
    names = _present(rows)
    columns: dict[str, pa.Array] = {}
    rounded = 0
    for field in schema:
        if field.name not in names:
            continue
        try:
            column = column_of([row.get(field.name) for row in rows], field.type)
        except InexactError as error:
            raise NumberRefusedError(indices[error.index], f"{field.name}: {error}") from error
        columns[field.name] = column.array
        rounded += column.rounded
    return TableBlock(table, np.array(indices, np.int64), columns, rounded)


def _present(rows: Iterable[TableRow]) -> set[str]:
    return {name for row in rows for name in row}
