"""The making of a program (`wsrec.decode.table_program`) from a channel's table declarations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from wsrec.decode.row_values import EXCHANGE_TIME, SYMBOL, row_steps
from wsrec.decode.scalars import EXPONENTS
from wsrec.decode.table_program import (
    NOTHING,
    BySymbol,
    NotCompilableError,
    Program,
    ProgramCell,
    ProgramColumn,
    ProgramCondition,
    ProgramDeclaration,
    ProgramSide,
    Span,
    Where,
)
from wsrec.feed.paths import Every, Step, steps
from wsrec.feed.schema import Feed
from wsrec.feed.table_columns import COLUMNS, Kind, Table, TableColumn
from wsrec.feed.table_declarations import (
    REQUIRED,
    SILENT,
    STATEMENTS,
    Cell,
    Cells,
    Conditions,
    Flag,
    RowCondition,
    TableDeclaration,
)
from wsrec.feed.values import Case, TimeUnit

_WITH_PRICE = (Table.TRADES, Table.LIQUIDATIONS, Table.BOOK_CHANGES)
_OF_LEVELS = {"side", "price", "size", "count", "level_id"}
_TABLES_MAX, _FLAGS_MAX = 16, 62


def program_of(feed: Feed, channel: str | None, is_rest: bool, schemas: Mapping[Table, pa.Schema]) -> Program:
    """The program of a channel's messages, streamed or fetched.

    Raises:
        NotCompilableError: a declaration says something that the scanner does not support.

    """
    found = feed.channel_by_any_name.get(channel) if channel else None
    unit = (found.time_unit if found else None) or (feed.fields.time_unit if feed.fields else TimeUnit.MS)
    maker = _ProgramMaker(unit)
    for declared in feed.tables_of(channel):
        if (declared.source == "rest") is not is_rest:
            continue
        if declared.table is None:
            maker.skip(declared)
        elif declared.table in schemas:
            for alternative in declared.alternatives():
                maker.declare(alternative)
    return maker.finished()


class _ProgramMaker:
    def __init__(self, unit: TimeUnit) -> None:
        self._program = Program()
        self._unit = unit
        # the message is scope 0
        self._scopes: dict[tuple[Step, ...], int] = {(): 0}
        self._parents = [0]
        self._wished: list[dict[tuple[Step, ...], int]] = [{(): 0}]
        self._outputs: dict[Table, dict[str, int]] = {}

    def finished(self) -> Program:
        program = self._program
        if not program.declarations:
            raise NotCompilableError("no tables")
        for parent, wished in zip(self._parents, self._wished, strict=True):
            program.scopes.append((parent, len(wished)))
        prefixes = {number: way for way, number in self._scopes.items()}
        for number, wished in enumerate(self._wished):
            for way, cell in wished.items():
                if number or way:
                    program.places.append((_scanned(prefixes[number] + way), number, cell))
        self._check_arrays()
        return program

    def _check_arrays(self) -> None:
        """Refuse positions and each element of the same array: a value is noted at one place."""
        each = {way[:-1] for way, _, _ in self._program.places if way and way[-1] is None}
        each |= {way[:index] for way, _, _ in self._program.places for index, step in enumerate(way) if step is None}
        for way, _, _ in self._program.places:
            for index, step in enumerate(way):
                if isinstance(step, int) and way[:index] in each:
                    raise NotCompilableError("positions and each element of an array")

    def skip(self, declared: TableDeclaration) -> None:
        self._program.skips.append(self._conditions(declared.when, ()))

    def declare(self, declared: TableDeclaration) -> None:
        table = declared.table
        assert table is not None
        has_sides = declared.bids is not None or declared.asks is not None
        if table is Table.BOOK_SNAPSHOTS or declared.split or declared.begins or declared.snapshot == "first":
            raise NotCompilableError("books as lists, split texts and memory")
        if table not in self._outputs:
            if len(self._outputs) == _TABLES_MAX:
                raise NotCompilableError("too many tables")
            self._outputs[table] = {}
            self._program.tables.append([])
            self._program.tables_and_names.append((table, []))
        way = row_steps(declared.rows[0])
        rows = self._scope(way)
        inner = self._within(way, rows)
        is_array = bool(way) and way[-1] is Every.ELEMENT
        columns = self._columns(table, declared, way)
        flags, flags_output = self._flags(table, declared.flags, way)
        form = "plain" if table is not Table.BOOK_CHANGES else "sides" if has_sides else "level"
        sides = (
            tuple(self._side(table, declared, side, way) for side in ("bids", "asks")) if has_sides else (None, None)
        )
        snapshot = declared.snapshot if isinstance(declared.snapshot, tuple) else ()
        self._program.declarations.append(
            ProgramDeclaration(
                form=form,
                table=list(self._outputs).index(table),
                when=self._conditions(declared.when, ()),
                rows=rows,
                row=None if not way else (rows, self._wish(rows, inner)),
                array=self._place(way[:-1], way[:-1]) if is_array else None,
                where=self._conditions(declared.where, way),
                columns=columns,
                flags=flags,
                flags_output=flags_output,
                is_statement=table in STATEMENTS,
                is_nested=way.count(Every.ELEMENT) > 1,
                best=self._best(table, declared),
                needs_symbol=not declared.symbol,
                always_snapshot=declared.snapshot is True,
                snapshot=self._conditions(snapshot, way),
                delete=self._conditions(declared.delete, way) if form == "level" else NOTHING,
                refuses_zero_price=declared.zero_price is not True and table in _WITH_PRICE,
                sides=(sides[0], sides[1]),
                outputs=self._of_book(table) if table is Table.BOOK_CHANGES else self._of_trade(table),
            )
        )

    def _of_book(self, table: Table) -> tuple[int, int, int, int, int]:
        action, is_snapshot, side, price, size = (
            self._output(table, name) for name in ("action", "is_snapshot", "side", "price", "size")
        )
        return action, is_snapshot, side, price, size

    def _of_trade(self, table: Table) -> tuple[int, int, int, int, int]:
        """The outputs of a table that is no book's: only the price is looked at."""
        return 0, 0, 0, self._output(table, "price") if table in _WITH_PRICE else 0, 0

    def _best(self, table: Table, declared: TableDeclaration) -> tuple[int, ...]:
        found: list[int] = []
        for side in ("bid", "ask"):
            names = [f"{side}_{what}" for what in ("price", "size", "count")]
            outputs = [self._output(table, name) if name in declared.columns else -1 for name in names]
            found += outputs if table in (Table.QUOTES, Table.TICKERS) else [-1, -1, -1]
        return tuple(found)

    def _side(self, table: Table, declared: TableDeclaration, side: str, way: tuple[Step, ...]) -> ProgramSide | None:
        levels = getattr(declared, side)
        if levels is None:
            return None
        if levels.path.startswith("$"):
            raise NotCompilableError("levels outside of the row")
        array = way + steps(levels.path)
        if Every.ELEMENT in steps(levels.path):
            raise NotCompilableError("levels in several arrays")
        level_way = (*array, Every.ELEMENT)
        scope = self._scope(level_way)
        cells = levels.level or declared.level
        if set(cells) & set(declared.columns):
            raise NotCompilableError("a column of the row and of the level")
        first = len(self._program.columns)
        made = [self._column(table, name, cells_, level_way) for name, cells_ in cells.items()]
        self._program.columns += made
        return ProgramSide(
            array=self._place(array, way),
            scope=scope,
            columns=(first, len(made)),
            delete=self._conditions(declared.delete, level_way),
        )

    def _columns(self, table: Table, declared: TableDeclaration, way: tuple[Step, ...]) -> Span:
        wanted: dict[str, Cells] = {}
        if declared.symbol:
            wanted["symbol"] = declared.symbol
        if declared.exchange_time:
            wanted["exchange_time"] = declared.exchange_time
        wanted |= declared.columns
        made = []
        is_of_sides = declared.bids is not None or declared.asks is not None
        for name, cells in wanted.items():
            if is_of_sides and name in _OF_LEVELS:
                raise NotCompilableError("a level's column in the row")
            of_symbol = _by_symbol(cells, declared.symbol) if name not in ("symbol", "exchange_time") else None
            if of_symbol is not None:
                self._by_symbol(table, name, *of_symbol)
            else:
                made.append(self._column(table, name, cells, way))
        first = len(self._program.columns)
        self._program.columns += made
        return first, len(made)

    def _by_symbol(self, table: Table, name: str, cells: Cells, of_row: bool) -> None:
        column = next(column for column in COLUMNS[table] if column.name == name)
        found = BySymbol(table, name, cells, column, of_row)
        others = [each for each in self._program.by_symbol if (each.table, each.name) == (table, name)]
        if name in self._outputs[table] or any(each != found for each in others):
            raise NotCompilableError("a constant that depends on the declaration and the symbol")
        if not others:
            self._program.by_symbol.append(found)

    def _column(self, table: Table, name: str, cells: Cells, way: tuple[Step, ...]) -> ProgramColumn:
        if any((each.table, each.name) == (table, name) for each in self._program.by_symbol):
            raise NotCompilableError("a constant that depends on the declaration and the symbol")
        column = {"symbol": SYMBOL, "exchange_time": EXCHANGE_TIME}.get(name)
        column = column or next(column for column in COLUMNS[table] if column.name == name)
        required = name == "symbol" or name in REQUIRED.get(table, ())
        says = name not in SILENT
        return ProgramColumn(column.kind, self._cells(cells, column, way), self._output(table, name), required, says)

    def _output(self, table: Table, name: str) -> int:
        outputs = self._outputs[table]
        if name not in outputs:
            number = list(self._outputs).index(table)
            outputs[name] = len(outputs)
            kinds = {column.name: column.kind for column in COLUMNS[table]}
            kind = (
                Kind.INTEGER
                if name == "flags"
                else Kind.TIME
                if name == "exchange_time"
                else kinds.get(name, Kind.TEXT)
            )
            self._program.tables[number].append(kind)
            self._program.tables_and_names[number][1].append(name)
        return outputs[name]

    def _flags(self, table: Table, flags: Sequence[Flag], way: tuple[Step, ...]) -> tuple[Span, int]:
        if not flags:
            return NOTHING, 0
        names = self._program.flag_names.setdefault(table, [])
        made = []
        for flag in flags:
            if flag.flag is not None:
                names.append(flag.flag)
                made.append((len(names) - 1, self._conditions(flag.when, way), -1))
                continue
            codes = {
                word: len(names) + index for index, word in enumerate(dict.fromkeys(filter(None, flag.words.values())))
            }
            names += codes
            words = [(text, codes[word] if word is not None else -1) for text, word in flag.words.items()]
            assert flag.path is not None
            cell = ProgramCell(at=self._place_of(flag.path, way), words=self._words(words))
            self._program.cells.append(cell)
            column = ProgramColumn(Kind.WORD, (len(self._program.cells) - 1, 1), 0, False, False)
            self._program.columns.append(column)
            made.append((0, NOTHING, len(self._program.columns) - 1))
        if len(names) > _FLAGS_MAX:
            raise NotCompilableError("too many flags")
        first = len(self._program.flags)
        self._program.flags += made
        return (first, len(made)), self._output(table, "flags")

    def _cells(self, cells: Cells, column: TableColumn, way: tuple[Step, ...]) -> Span:
        made = [self._cell(cell, column, way) for cell in cells]
        first = len(self._program.cells)
        self._program.cells += made
        return first, len(made)

    def _cell(self, cell: Cell, column: TableColumn, way: tuple[Step, ...]) -> ProgramCell:
        if cell.capture or cell.case is not Case.KEEP or cell.by_size or cell.offset or cell.remembered_by:
            raise NotCompilableError("regular expressions, letter cases, times by their size, zones, memory")
        conditions = self._conditions(cell.when, way)
        if cell.value is not None:
            return self._constant(cell.value, column)._replace(conditions=conditions)
        assert cell.path is not None
        kind = column.kind
        words, none = NOTHING, self._words([(text, 0) for text in cell.none])
        if cell.words is not None or (kind is Kind.WORD and not (cell.positive or cell.negative)):
            if kind is not Kind.WORD or not column.words:
                raise NotCompilableError("words of a column without certain ones")
            replaced = cell.words if cell.words is not None else {word: word for word in column.words}
            known = [word for word in replaced.values() if word is not None]
            if any(word not in column.words for word in known):
                raise NotCompilableError("a word that the column does not have")
            words = self._words([(t, column.words.index(w) if w is not None else -1) for t, w in replaced.items()])
        signed = cell.positive is not None or cell.negative is not None
        if signed and kind is not Kind.WORD:
            raise NotCompilableError("a sign that is no word")
        if (cell.absolute or cell.clip) and kind not in (Kind.NUMBER, Kind.SIZE, Kind.RATE):
            raise NotCompilableError("a sign of no number")
        return ProgramCell(
            at=self._place_of(cell.path, way),
            conditions=conditions,
            words=words,
            none=none,
            none_zero="0" in cell.none and kind in (Kind.NUMBER, Kind.SIZE, Kind.RATE, Kind.INTEGER, Kind.COUNT),
            is_signed=signed,
            positive=column.words.index(cell.positive) if cell.positive in column.words else -1,
            negative=column.words.index(cell.negative) if cell.negative in column.words else -1,
            absolute=cell.absolute,
            clip=cell.clip,
            exponent=EXPONENTS[cell.unit or self._unit],
        )

    def _constant(self, value: str, column: TableColumn) -> ProgramCell:
        if column.kind is Kind.WORD and value in column.words:
            return ProgramCell(is_constant=True, constant=column.words.index(value))
        if column.kind in (Kind.NUMBER, Kind.SIZE, Kind.RATE):
            return ProgramCell(is_constant=True, number=float(value))
        if column.kind in (Kind.INTEGER, Kind.COUNT) and value.isdigit():
            return ProgramCell(is_constant=True, constant=int(value))
        if column.kind is Kind.TRUTH and value in ("true", "false"):
            return ProgramCell(is_constant=True, constant=int(value == "true"))
        raise NotCompilableError("a constant of this kind")

    def _words(self, words: Sequence[tuple[str, int]]) -> Span:
        first = len(self._program.words)
        self._program.words += ((text.encode(), code) for text, code in words)
        return first, len(words)

    def _conditions(self, wanted: Conditions, way: tuple[Step, ...]) -> Span:
        made = [self._condition(condition, way) for condition in wanted]
        first = len(self._program.conditions)
        self._program.conditions += made
        return first, len(made)

    def _condition(self, condition: RowCondition, way: tuple[Step, ...]) -> ProgramCondition:
        if condition.matches is not None:
            raise NotCompilableError("regular expressions")
        texts, test = NOTHING, "present"
        if condition.absent:
            test = "absent"
        elif condition.equals is not None or condition.differs is not None:
            test = "equals" if condition.equals is not None else "differs"
            texts = self._words([(text, 0) for text in condition.equals or condition.differs or ()])
        elif condition.zero is not None:
            test = "zero" if condition.zero else "not_zero"
        elif condition.shape is not None:
            test = condition.shape
        at = self._place_of(condition.path, way)
        if condition.otherwise is None:
            return ProgramCondition(at, test, texts)
        others = self._words([(text, 0) for text in condition.otherwise if text is not None])
        return ProgramCondition(at, test, texts, True, others, None in condition.otherwise)

    def _place_of(self, path: str, way: tuple[Step, ...]) -> Where:
        """Where the value at a path of a declaration is noted, whose rows (or levels) are at `way`."""
        if path in ("$key", "$channel", "$symbol"):
            raise NotCompilableError("keys and names")
        if path.startswith("$"):
            return self._place(row_steps(path), way)
        return self._place(way + steps(path), way)

    def _place(self, absolute: tuple[Step, ...], way: tuple[Step, ...]) -> Where:
        """Where the value at a way from the top is noted, as seen from rows at `way`."""
        ends = [index + 1 for index, step in enumerate(way) if step is Every.ELEMENT]
        shared = [end for end in ends if absolute[:end] == way[:end]]
        begin = shared[-1] if shared else 0
        scope = self._scope(absolute[:begin])
        return scope, self._wish(scope, absolute[begin:])

    def _within(self, way: tuple[Step, ...], scope: int) -> tuple[Step, ...]:
        """The part of a way within the scope of its last `[]`."""
        prefix = next(key for key, number in self._scopes.items() if number == scope)
        return way[len(prefix) :]

    def _scope(self, way: tuple[Step, ...]) -> int:
        """The scope of the last `[]` in a way."""
        ends = [index + 1 for index, step in enumerate(way) if step is Every.ELEMENT]
        prefix = way[: ends[-1]] if ends else ()
        if prefix not in self._scopes:
            parent = self._scope(prefix[:-1])
            self._scopes[prefix] = len(self._parents)
            self._parents.append(parent)
            # cell 0 is the element itself
            self._wished.append({(): 0})
        return self._scopes[prefix]

    def _wish(self, scope: int, way: tuple[Step, ...]) -> int:
        """The cell of a value within a scope."""
        if any(isinstance(step, Every) or (isinstance(step, int) and step < 0) for step in way):
            raise NotCompilableError("places from the end, and of several values")
        return self._wished[scope].setdefault(way, len(self._wished[scope]))


def _by_symbol(cells: Cells, symbol: Cells) -> tuple[Cells, bool] | None:
    """The cells of a column of constants that depend on the symbol alone, and whether on that of the row; else None."""
    places = {condition.path for cell in cells for condition in cell.when}
    if not places or any(cell.value is None for cell in cells):
        return None
    if places <= {"$symbol", "$channel"}:
        return cells, False
    of_row = symbol[0].path if len(symbol) == 1 and symbol[0] == Cell(path=symbol[0].path) else None
    if places != {of_row}:
        return None
    moved = [
        cell.model_copy(update={"when": tuple(each.model_copy(update={"path": "$symbol"}) for each in cell.when)})
        for cell in cells
    ]
    return tuple(moved), True


def _scanned(way: tuple[Any, ...]) -> tuple[str | int | None, ...]:
    """A way as the scanner takes it."""
    return tuple(None if step is Every.ELEMENT else step for step in way)
