"""Rows of the tables from messages, by the declarations of a feed: the readable reference.

`TableRowReader` reads one message at a time and gives plain dicts, made by the declarations that fit it
(`wsrec.decode.row_maker`). `wsrec.tables.convert` makes record batches of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from wsrec.decode.row_maker import RowMaker, TableRow
from wsrec.decode.row_values import Row, conditions, decoded
from wsrec.feed.schema import Feed
from wsrec.feed.table_columns import Table
from wsrec.feed.table_declarations import TableDeclaration
from wsrec.feed.values import TimeUnit

NOT_JSON = "not JSON"
NO_DECLARATION = "no declaration of the channel's tables fits"


class Outcome(NamedTuple):
    """What a message makes.

    Attributes:
        rows: the rows of each table.
        left_out: why it, or parts of it, make none, each with the table (None: all).
        skipped: the reason of the declaration that skips it.
        nulls: why columns of its rows are null though something is there, each with the table.

    """

    rows: list[tuple[Table, list[TableRow]]]
    left_out: list[tuple[Table | None, str]]
    skipped: str | None = None
    nulls: tuple[tuple[Table, str], ...] = ()


class Message(NamedTuple):
    """A message and what the capture says of it.

    Attributes:
        payload: JSON.
        channel: the catalogue's name, or one of its aliases.
        symbol: as read by the feed's fields.
        conn: its connection.
        is_rest: whether it was fetched over HTTP.

    """

    payload: bytes | memoryview
    channel: str | None
    symbol: str | None = None
    conn: int = 0
    is_rest: bool = False


class TableRowReader:
    """Makes rows of messages. Never raises, whatever a message contains.

    Args:
        feed: the feed with the declarations.
        tables: only these; None: all that are declared.

    """

    def __init__(self, feed: Feed, tables: Iterable[Table] | None = None) -> None:
        self._feed = feed
        self._wanted = frozenset(tables) if tables is not None else None
        self._channels: dict[str | None, _ChannelTables] = {}

    def read(self, message: Message) -> Outcome:
        """The rows of a message."""
        channel = self._channels.get(message.channel)
        if channel is None:
            channel = self._channels[message.channel] = self._channel(message.channel)
        return channel.read(message)

    def disconnected(self, conn: int) -> None:
        """Forget what is remembered of a connection."""
        for channel in self._channels.values():
            channel.disconnected(conn)

    def _channel(self, name: str | None) -> _ChannelTables:
        declared = self._feed.tables_of(name)
        channel = self._feed.channel_by_any_name.get(name) if name else None
        fields = self._feed.fields
        unit = (channel.time_unit if channel else None) or (fields.time_unit if fields else TimeUnit.MS)
        wanted = [
            declaration
            for declaration in declared
            if declaration.table is None or self._wanted is None or declaration.table in self._wanted
        ]
        return _ChannelTables(wanted, unit)


class _ChannelTables:
    """The declarations of one channel."""

    def __init__(self, declared: list[TableDeclaration], unit: TimeUnit) -> None:
        self._skips = [
            (declaration, declaration.source == "rest", conditions(declaration.when))
            for declaration in declared
            if declaration.skip is not None
        ]
        self._tables: dict[tuple[Table, bool], list[RowMaker]] = {}
        for declaration in declared:
            if declaration.table is not None:
                key = declaration.table, declaration.source == "rest"
                makers = (RowMaker(alternative, unit) for alternative in declaration.alternatives())
                self._tables.setdefault(key, []).extend(makers)

    def read(self, message: Message) -> Outcome:
        tables = [(table, makers) for (table, is_rest), makers in self._tables.items() if is_rest is message.is_rest]
        if not tables and not self._skips:
            return Outcome([], [(None, "the channel has no tables")])
        content = decoded(message.payload)
        if content is None:
            return Outcome([], [(None, NOT_JSON)])
        noted: list[str] = []
        whole = Row(content, content, (), None, message.channel, message.symbol, noted)
        for skip, is_rest, holds in self._skips:
            if is_rest is message.is_rest and holds(whole):
                return Outcome([], [(None, str(skip.skip))]) if skip.missing else Outcome([], [], skip.skip)
        made: list[tuple[Table, list[TableRow]]] = []
        left_out: list[tuple[Table | None, str]] = []
        nulls: list[tuple[Table, str]] = []
        fits = False
        for table, makers in tables:
            maker = next((maker for maker in makers if maker.fits(whole)), None)
            if maker is None:
                continue
            fits = True
            reasons: list[str] = []
            if rows := maker.rows(whole, message.conn, reasons):
                made.append((table, rows))
            left_out += ((table, reason) for reason in reasons)
            nulls += ((table, reason) for reason in noted)
            noted.clear()
        if not fits:
            left_out.append((None, NO_DECLARATION))
        return Outcome(made, left_out, nulls=tuple(nulls))

    def disconnected(self, conn: int) -> None:
        for makers in self._tables.values():
            for maker in makers:
                maker.memory.disconnected(conn)
