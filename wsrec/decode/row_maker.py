"""The making of rows by one declaration of a table: plain rows, books by levels and by sides, books as lists.

Almost all declarations are stateless; what venues force into memory (a price known only by the id of its level, the
first message of a connection as the snapshot) is kept per connection and forgotten when it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from wsrec.decode.row_values import (
    EXCHANGE_TIME,
    SYMBOL,
    NotReadableError,
    Read,
    Row,
    cells_reader,
    conditions,
    elements,
    is_zero,
    reader,
    row_steps,
    within,
)
from wsrec.feed.paths import Every, Step
from wsrec.feed.table_columns import COLUMNS, FLAGS, Kind, Table, TableColumn
from wsrec.feed.table_declarations import REQUIRED, SILENT, STATEMENTS, Cell, Cells, Flag, Levels, TableDeclaration
from wsrec.feed.values import TimeUnit

TableRow = dict[str, Any]
"""A row: values by column, numbers as digits (text), times in ns since the epoch; absent columns are null."""

_LEVEL = {
    "price": TableColumn("price", Kind.NUMBER, ""),
    "size": TableColumn("size", Kind.SIZE, ""),
    "count": TableColumn("count", Kind.COUNT, ""),
}
"""What a level of `book_snapshots` has: its columns are lists of these."""
_BEST = (("bid_price", "bid_size", "bid_count"), ("ask_price", "ask_size", "ask_count"))
_REMEMBERED_MAX = 1 << 20


class _Memory:
    """What a declaration has to remember between messages, by connection and symbol."""

    def __init__(self) -> None:
        self.begun: set[tuple[int, str | None]] = set()
        self._values: dict[tuple[int, str | None], dict[tuple[str, str], Any]] = {}

    def values(self, conn: int, symbol: str | None) -> dict[tuple[str, str], Any]:
        return self._values.setdefault((conn, symbol), {})

    def restart(self, conn: int, symbol: str | None) -> None:
        self.begun.add((conn, symbol))
        self._values.pop((conn, symbol), None)

    def disconnected(self, conn: int) -> None:
        self.begun = {key for key in self.begun if key[0] != conn}
        self._values = {key: values for key, values in self._values.items() if key[0] != conn}


class _Making(NamedTuple):
    """The making of one message's rows.

    Attributes:
        conn: its connection.
        reasons: why parts of it make no rows.
        cleared: symbols whose book it has replaced so far.

    """

    conn: int
    reasons: list[str]
    cleared: set[str | None]


class _EmptyArray:
    """In place of a row: its array is empty."""


class _NoArray:
    """In place of a row: there is something else than an array."""


class RowMaker:
    """Makes the rows of one declaration."""

    def __init__(self, declaration: TableDeclaration, unit: TimeUnit) -> None:
        assert declaration.table is not None
        self.memory = _Memory()
        self._declaration = declaration
        self._table = declaration.table
        self._columns = {column.name: column for column in COLUMNS[self._table]}
        self._rows = declaration.rows[0]
        self._way = way = row_steps(self._rows)
        self._no_rows = f"found neither an object nor an array at `{self._rows}`"
        self.fits = conditions(declaration.when)
        self._where = conditions(declaration.where, way) if declaration.where else None
        self._symbol = cells_reader(declaration.symbol, SYMBOL, way) if declaration.symbol else None
        self._time = cells_reader(declaration.exchange_time, EXCHANGE_TIME, way, unit)
        self._has_time = bool(declaration.exchange_time)
        self._cells = self._readers(declaration.columns, way, unit)
        self._missing = {name: f"found no {name}{_at_places(name, declaration)}" for name in ("price", "size", "side")}
        self._remembered = {
            name: reader(cell.remembered_by, way)
            for name, cells in declaration.columns.items()
            for cell in cells
            if cell.remembered_by is not None
        }
        self._flags = [_flag_reader(flag, way) for flag in declaration.flags]
        self._delete = conditions(declaration.delete, () if self._has_sides else way) if declaration.delete else None
        self._snapshot = _snapshot_test(declaration, way)
        self._unit = unit
        self._sides = [
            (name, _Side(levels, declaration, partial(self._readers, unit=unit)))
            for name, levels in (("bid", declaration.bids), ("ask", declaration.asks))
            if levels is not None
        ]
        self._make: Callable[[Row, _Making], Iterator[TableRow]] = {
            Table.BOOK_SNAPSHOTS: self._book_snapshot,
            Table.BOOK_CHANGES: self._book_sides if self._sides else self._book_level,
        }.get(self._table, self._plain)

    @property
    def _has_sides(self) -> bool:
        return self._declaration.bids is not None or self._declaration.asks is not None

    def _readers(self, columns: dict[str, Cells], way: tuple[Step, ...], unit: TimeUnit) -> dict[str, Read]:
        return {
            name: cells_reader(cells, self._columns.get(name) or _LEVEL[name], way, unit)
            for name, cells in columns.items()
        }

    def rows(self, whole: Row, conn: int, reasons: list[str]) -> list[TableRow]:
        """The rows of a message; adds to `reasons` why parts of it make none."""
        made: list[TableRow] = []
        making = _Making(conn, reasons, set())
        found = False
        for value, around, key in self._rows_and_arrays(whole.message):
            row = whole._replace(value=value, around=around, key=key)
            if isinstance(value, _EmptyArray):
                found = True
                made += self._empty(row._replace(value=None), making)
                continue
            found = True
            if value is None or isinstance(value, _NoArray):
                reasons.append(f"found null at `{self._rows}`" if value is None else self._no_rows)
                continue
            if self._declaration.split is not None:
                if not isinstance(value, str):
                    reasons.append(f"found no text at `{self._rows}`")
                    continue
                row = row._replace(value=value.split(self._declaration.split))
            elif not isinstance(value, dict | list):
                reasons.append(self._no_rows)
                continue
            noted = row.nulls if row.nulls is not None else []
            before = len(noted)
            try:
                if self._where is None or self._where(row):
                    made += self._make(row, making)
                # a snapshot reads what its rows share twice
                noted[before:] = dict.fromkeys(noted[before:])
            except NotReadableError as error:
                reasons.append(str(error))
                del noted[before:]
        if not found:
            reasons.append(f"found nothing at `{self._rows}`")
        if self._table is Table.BOOK_CHANGES:
            _mark_last(made)
        return made

    def _rows_and_arrays(self, message: Any) -> Iterator[tuple[Any, tuple[Any, ...], str | None]]:
        """The rows in order, with an `_EmptyArray` or `_NoArray` where an array of rows is empty or none."""
        if not self._way or self._way[-1] is not Every.ELEMENT:
            yield from elements(message, self._way)
            return
        for array, around, key in elements(message, self._way[:-1]):
            if isinstance(array, dict | list):
                if array:
                    yield from within(array, (Every.ELEMENT,), around, key)
                else:
                    yield _EmptyArray(), around, key
            elif array is not None:
                yield _NoArray(), around, key

    def _empty(self, row: Row, making: _Making) -> Iterator[TableRow]:
        """The `clear` of an empty snapshot."""
        try:
            if self._table is Table.BOOK_CHANGES and self._is_snapshot(row, making):
                yield self._clear(row, making)
        except NotReadableError as error:
            making.reasons.append(str(error))

    def _base(self, row: Row, cells: dict[str, Read]) -> TableRow:
        """The columns that hold for the row as a whole."""
        made: TableRow = {"symbol": self._symbol(row) if self._symbol else row.symbol}
        if made["symbol"] is None:
            raise NotReadableError("found no symbol")
        if self._has_time:
            made["exchange_time"] = self._time(row)
        for name, read in cells.items():
            value = read(row)
            if value is not None:
                made[name] = value
        return made

    def _plain(self, row: Row, making: _Making) -> Iterator[TableRow]:
        made = self._base(row, self._cells)
        self._recall(made, row, making)
        for price, size, count in _BEST:
            if price in self._cells and (made.get(price) is None or is_zero(made[price])):
                for name in (price, size, count):
                    made.pop(name, None)
        if self._flags:
            flags = [flag for read in self._flags if (flag := read(row)) is not None]
            if flags:
                made["flags"] = flags
        for name in REQUIRED.get(self._table, ()):
            if name not in made:
                raise NotReadableError(self._missing[name])
        if self._table in REQUIRED and self._is_none(made["price"], making.reasons):
            return
        if self._table not in STATEMENTS or made.keys() - SILENT:
            yield made

    def _is_snapshot(self, row: Row, making: _Making) -> bool:
        if self._declaration.snapshot == "first":
            symbol = self._symbol(row) if self._symbol else row.symbol
            return symbol in making.cleared or (making.conn, symbol) not in self.memory.begun
        return self._snapshot(row)

    def _clear(self, row: Row, making: _Making) -> TableRow:
        """The row that begins a snapshot."""
        of_levels = ("side", "price", "size", "count", "level_id")
        made = self._base(row, {name: read for name, read in self._cells.items() if name not in of_levels})
        self.memory.restart(making.conn, made["symbol"])
        making.cleared.add(made["symbol"])
        return {**made, "action": "clear", "is_snapshot": True}

    def _book_sides(self, row: Row, making: _Making) -> Iterator[TableRow]:
        """Levels in an array for each side: bids first."""
        is_snapshot = self._is_snapshot(row, making)
        base = self._base(row, self._cells)
        if is_snapshot:
            yield self._clear(row, making)
        elif self._begins_later(base["symbol"], making):
            return
        found = False
        for name, side in self._sides:
            levels = side.levels(row, making.reasons)
            if levels is None:
                continue
            found = True
            for level in levels:
                try:
                    made = {**base, "side": name, "is_snapshot": is_snapshot, **side.read(level)}
                    yield from self._level(made, side.deletes(level), making.reasons)
                except NotReadableError as error:
                    making.reasons.append(str(error))
        if not found and not is_snapshot:
            making.reasons.append("found neither bids nor asks")

    def _book_level(self, row: Row, making: _Making) -> Iterator[TableRow]:
        """A row that is a level, with its side in it."""
        is_snapshot = self._is_snapshot(row, making)
        made = {**self._base(row, self._cells), "is_snapshot": is_snapshot}
        symbol = made["symbol"]
        if is_snapshot and symbol not in making.cleared:
            yield self._clear(row, making)
        elif not is_snapshot and self._begins_later(symbol, making):
            return
        self._recall(made, row, making)
        deletes = self._delete is not None and self._delete(row)
        yield from self._level(made, deletes, making.reasons)

    def _begins_later(self, symbol: str | None, making: _Making) -> bool:
        """Whether the row is before the first snapshot, which it needs."""
        if self._declaration.begins is None or (making.conn, symbol) in self.memory.begun:
            return False
        making.reasons.append("before the first snapshot")
        return True

    def _recall(self, made: TableRow, row: Row, making: _Making) -> None:
        """Remember the values of a row that later ones may lack, and add those that it lacks."""
        if not self._remembered:
            return
        known = self.memory.values(making.conn, made["symbol"])
        for name, read in self._remembered.items():
            key = name, str(read(row))
            if made.get(name) is not None:
                if len(known) < _REMEMBERED_MAX or key in known:
                    known[key] = made[name]
            elif key in known:
                made[name] = known[key]
            else:
                raise NotReadableError(f"{name}: found none, and none before it with the same key")

    def _level(self, made: TableRow, deletes: bool, reasons: list[str]) -> Iterator[TableRow]:
        """A level as a row; none if it is no level."""
        price, size = made.get("price"), made.get("size")
        if price is None:
            raise NotReadableError(self._missing["price"])
        if self._is_none(price, reasons):
            return
        if deletes:
            yield {**made, "action": "delete", "size": "0"}
        elif size is None:
            raise NotReadableError(self._missing["size"])
        elif is_zero(size):
            # of a snapshot, too: it lists levels, and one of size 0 is none
            yield {**made, "action": "delete"}
        elif "side" not in made:
            raise NotReadableError(self._missing["side"])
        else:
            yield {**made, "action": "set"}

    def _is_none(self, price: str, reasons: list[str]) -> bool:
        """Whether a price of 0 makes a row none, as declared; adds why.

        Raises:
            NotReadableError: the declaration says nothing of it.

        """
        zero = self._declaration.zero_price
        if zero is True or not is_zero(price):
            return False
        if not zero:
            raise NotReadableError(f"found a price of 0{_at_places('price', self._declaration)}")
        reasons.append(str(zero))
        return True

    def _book_snapshot(self, row: Row, making: _Making) -> Iterator[TableRow]:
        made = self._base(row, self._cells)
        depth = 0
        found = False
        for name, side in self._sides:
            levels = side.levels(row, making.reasons)
            if levels is None:
                continue
            found = True
            read = []
            for level in levels:
                try:
                    each = side.read(level)
                    self._check_listed(each)
                    if self._is_none(each["price"], making.reasons):
                        continue
                except NotReadableError as error:
                    making.reasons.append(str(error))
                    continue
                read.append(each)
            depth = max(depth, len(read))
            for column, key in (("prices", "price"), ("sizes", "size")):
                made[f"{name}_{column}"] = [each.get(key) for each in read]
            if any("count" in each for each in read):
                made[f"{name}_counts"] = [each.get("count") for each in read]
        if not found:
            raise NotReadableError("found neither bids nor asks")
        for name, _ in self._sides:
            made.setdefault(f"{name}_prices", [])
            made.setdefault(f"{name}_sizes", [])
        yield {"origin": "message", **made, "depth": depth}

    def _check_listed(self, level: TableRow) -> None:
        """Check that a level has what its column needs."""
        for name in ("price", "size"):
            if name not in level:
                raise NotReadableError(self._missing[name])


class _Side:
    """The levels of one side in a row."""

    def __init__(
        self,
        declared: Levels,
        declaration: TableDeclaration,
        readers: Callable[[dict[str, Cells], tuple[Step, ...]], dict[str, Read]],
    ) -> None:
        self._path = declared.path
        self._levels = reader(declared.path, row_steps(declaration.rows[0]))
        self._cells = readers(declared.level or declaration.level, ())
        self._delete = conditions(declaration.delete) if declaration.delete else None

    def levels(self, row: Row, reasons: list[str]) -> list[Row] | None:
        """The side's levels in a row; None if it has no such array."""
        found = self._levels(row)
        if not isinstance(found, list):
            if found is not None:
                reasons.append(f"found no array at `{self._path}`")
            return None
        return [row._replace(value=level) for level in found]

    def read(self, level: Row) -> TableRow:
        return {name: value for name, read in self._cells.items() if (value := read(level)) is not None}

    def deletes(self, level: Row) -> bool:
        return self._delete is not None and self._delete(level)


def _at_places(name: str, declaration: TableDeclaration) -> str:
    """Where the value of a column would be, for an error message."""
    sides = [side.level or declaration.level for side in (declaration.bids, declaration.asks) if side is not None]
    cells = [cell for columns in (declaration.columns, *sides) for cell in columns.get(name, ())]
    places = ", ".join(dict.fromkeys(f"`{cell.path}`" for cell in cells if cell.path is not None))
    return f" at {places}" if places else ""


def _snapshot_test(declaration: TableDeclaration, way: tuple[Step, ...]) -> Callable[[Row], bool]:
    snapshot = declaration.snapshot
    if isinstance(snapshot, bool):
        return lambda _row: snapshot
    return conditions(snapshot, way) if isinstance(snapshot, tuple) else lambda _row: False


def _flag_reader(flag: Flag, way: tuple[Step, ...]) -> Read:
    """A function from a row to the flag that it has, or None; a word that is not declared is refused."""
    if flag.path is not None:
        cell = Cell(path=flag.path, words=flag.words)
        return cells_reader((cell,), TableColumn("flags", Kind.WORD, "", FLAGS), way)
    holds, name = conditions(flag.when, way), flag.flag
    return lambda row: name if holds(row) else None


def _mark_last(rows: list[TableRow]) -> None:
    """Mark the last row of each symbol."""
    last = {row["symbol"]: row for row in rows}
    for row in rows:
        row["last"] = last[row["symbol"]] is row
