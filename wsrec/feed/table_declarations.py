"""The feed YAML's `tables`: which rows of which table a channel's messages make (docs/reference/tables.md).

A channel has a list of declarations. Of each table the first one whose `when` holds makes the rows; a message that none
fits is counted and listed with its reason, never guessed.

Paths in a declaration begin at the row: `price`, `[0]`, `data.p`. `$.ts` begins at the message; with `rows:
events[].updates[]` the path `$.events[].type` is that of the event which holds the row. `$key` is the row's own key
where the rows are the members of an object, `$channel` and `$symbol` are those of the message.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from wsrec.feed.errors import ConflictError
from wsrec.feed.paths import ROW_PATH_PATTERN, scalar_text
from wsrec.feed.table_columns import COLUMNS, FLAGS, IDENTITY, Kind, Table, TableColumn
from wsrec.feed.values import Case, Model, Regex, Texts, TimeUnit, check_regex

RowPath = Annotated[str, Field(pattern=ROW_PATH_PATTERN, max_length=200)]

Shape = Literal["array", "object", "text", "number", "boolean", "empty"]


def _others(value: Any) -> Any:
    """One word or null, or a list of them, as the strings used for comparison."""
    several = value if isinstance(value, list | tuple) else (value,)
    return tuple(each if each is None else scalar_text(each) or each for each in several)


Others = Annotated[tuple[Annotated[str, Field(max_length=200)] | None, ...], BeforeValidator(_others)]


class RowCondition(Model):
    """A condition on a message or a row. Without another key than `path`: the value is present and not null."""

    path: RowPath = Field(description="Path of the value.")
    equals: Texts | None = Field(default=None, description="It is this text, number or boolean, or one of these.")
    differs: Texts | None = Field(default=None, description="It is present and none of these.")
    matches: Regex | None = Field(default=None, description="It is a text in which this regular expression is found.")
    absent: bool = Field(default=False, description="`true`: there is none, or it is null.")
    shape: Shape | None = Field(
        default=None,
        description="It is an `array`, `object`, `text`, `number` or `boolean`; `empty`: an array, object or text of "
        "length 0.",
    )
    zero: bool | None = Field(default=None, description="Whether it is a number, quoted or not, that is zero.")
    otherwise: Others | None = Field(
        default=None,
        description="With `equals`: its other words; null: it may be absent. A row with another word is refused, never "
        "guessed. Needed in `where`, `snapshot` and `delete`.",
    )

    @field_validator("matches")
    @classmethod
    def _regex(cls, text: str | None) -> str | None:
        return text if text is None else check_regex(text)

    @model_validator(mode="after")
    def _one_test(self) -> RowCondition:
        tests = ("equals", "differs", "matches", "shape", "zero")
        given = [key for key in tests if getattr(self, key) is not None] + ["absent"] * self.absent
        if len(given) > 1:
            raise ConflictError((given[1],), f"found it beside {given[0]}, expected one of them")
        if self.otherwise is not None and self.equals is None:
            raise ConflictError(("otherwise",), "found it without equals, expected equals beside it")
        return self


def _several(value: Any) -> Any:
    """One condition, or a list of them, as a list."""
    return value if isinstance(value, list | tuple) else (value,)


Conditions = Annotated[tuple[RowCondition, ...], BeforeValidator(_several)]


def _word_keys(words: Any) -> Any:
    """The exchange's words as text: YAML reads true and 1 as such."""
    return {scalar_text(key) or key: value for key, value in words.items()} if isinstance(words, dict) else words


class Cell(Model):
    """Where a column's value is, and how it is read. Without a value the column is null."""

    path: RowPath | None = Field(default=None, description="Its path.")
    value: str | None = Field(default=None, description="This text, number or boolean, in place of a path.")
    when: Conditions = Field(default=(), description="Conditions; otherwise the next of the list, or null.")
    words: dict[str, str | None] | None = Field(
        default=None,
        description="Replacements, by the exchange's word: `{Buy: buy}`; null: no value. A message with another word "
        "is refused.",
    )
    positive: str | None = Field(default=None, description="The word if the number at `path` is above zero.")
    negative: str | None = Field(default=None, description="The word if it is below zero; of zero there is none.")
    absolute: bool = Field(default=False, description="Without its sign.")
    clip: bool = Field(default=False, description="A number below zero counts as 0.")
    none: Texts = Field(default=(), description="Texts and numbers that stand for no value: `['', '0']`.")
    capture: Regex | None = Field(
        default=None, description="Regular expression: its groups, joined; null, and counted, if it is not found."
    )
    case: Case = Field(default=Case.KEEP, description="Change the letter case of a text.")
    unit: TimeUnit | None = Field(default=None, description="Of a time; by default that of the channel's times.")
    by_size: bool = Field(
        default=False, description="Of a time: its unit by the size of the number (above 10^17 ns, 10^14 us, 10^11 ms)."
    )
    offset: str | None = Field(
        default=None,
        description="With `iso`: the zone of times without one, such as `+09:00`; by default UTC.",
        pattern=r"^[+-][0-9]{2}:[0-5][0-9]$",
    )
    remembered_by: RowPath | None = Field(
        default=None,
        description="If it is absent: the column's value last seen in rows of the same symbol and of the same value at "
        "this path, on the same connection and since the last snapshot. Without one before it the row is left out.",
    )

    @field_validator("value", mode="before")
    @classmethod
    def _constant(cls, value: Any) -> Any:
        return scalar_text(value) or value

    @field_validator("words", mode="before")
    @classmethod
    def _keys(cls, words: Any) -> Any:
        return _word_keys(words)

    @field_validator("capture")
    @classmethod
    def _groups(cls, text: str | None) -> str | None:
        if text is not None and not re.compile(check_regex(text)).groups:
            raise ValueError("expected a regular expression with a group, as in `^kline_(.+)$`")
        return text

    @model_validator(mode="after")
    def _one_source(self) -> Cell:
        if (self.path is None) == (self.value is None):
            raise ConflictError(("path",), "found both or none of path and value, expected one of them")
        if self.words is not None and (self.positive or self.negative):
            raise ConflictError(("words",), "found it beside positive or negative, expected one of them")
        return self


def _cells(value: Any) -> Any:
    """Places in any notation, `p`, `{path: p}` or a list of them, as a list of cells; a number is a constant."""
    places = value if isinstance(value, list | tuple) else (value,)
    return tuple(_cell(place) for place in places)


def _cell(place: Any) -> Any:
    if isinstance(place, str):
        return {"path": place}
    return {"value": place} if isinstance(place, bool | int | float) else place


Cells = Annotated[tuple[Cell, ...], BeforeValidator(_cells)]
"""The first that has a value gives it."""


class Flag(Model):
    """A flag of a trade or liquidation, and when it has it: by conditions, or by the exchange's word."""

    flag: str | None = Field(default=None, description=f"Its name, with `when`: {', '.join(FLAGS)}.")
    when: Conditions = Field(default=(), description="Conditions.")
    path: RowPath | None = Field(default=None, description="In place of `flag` and `when`: the path of a word.")
    words: dict[str, str | None] = Field(
        default={},
        description="Flags by the exchange's word: `{MARKET: null, ADL: adl}`; null: none. A row with another word is "
        "refused.",
    )

    @field_validator("words", mode="before")
    @classmethod
    def _keys(cls, words: Any) -> Any:
        return _word_keys(words)

    @model_validator(mode="after")
    def _known(self) -> Flag:
        if (self.flag is None) == (self.path is None):
            raise ConflictError(("flag",), "found both or none of flag and path, expected one of them")
        if (self.flag is None) == bool(self.when):
            raise ConflictError(("when",), "found flag or when alone, expected both or neither")
        if (self.path is None) == bool(self.words):
            raise ConflictError(("words",), "found path or words alone, expected both or neither")
        for name in (self.flag, *self.words.values()):
            if name is not None and name not in FLAGS:
                where = ("flag",) if self.flag else ("words",)
                raise ConflictError(where, f"found {name!r}, expected one of {', '.join(FLAGS)}")
        return self


def _level(value: Any) -> Any:
    """`[price, size]`, names by position, as paths by name."""
    if isinstance(value, list | tuple):
        return {name: f"[{index}]" for index, name in enumerate(value) if name != "_"}
    return value


Level = Annotated[dict[str, Cells], BeforeValidator(_level)]


class Levels(Model):
    """One side's levels of a book in a message."""

    path: RowPath = Field(description="Path of the array of levels.")
    level: Level | None = Field(default=None, description="In place of the declaration's `level`.")


def _side(value: Any) -> Any:
    return {"path": value} if isinstance(value, str) else value


SideLevels = Annotated[Levels, BeforeValidator(_side)]


def _snapshot_tag(value: Any) -> str:
    return "bool" if isinstance(value, bool) else "first" if isinstance(value, str) else "conditions"


Snapshot = Annotated[
    Annotated[bool, Tag("bool")] | Annotated[Literal["first"], Tag("first")] | Annotated[Conditions, Tag("conditions")],
    Discriminator(_snapshot_tag),
]


def with_constants(declared: dict[str, Any], columns: Sequence[TableColumn]) -> dict[str, Any]:
    """The declared places of columns, where a word of a column that has only certain words is a constant."""
    words = {column.name: column.words for column in columns if column.kind is Kind.WORD}
    return {
        name: {"value": place} if isinstance(place, str) and place in words.get(name, ()) else place
        for name, place in declared.items()
    }


REQUIRED = {Table.TRADES: ("price", "size"), Table.LIQUIDATIONS: ("price", "size")}
"""Columns without which a row is none."""
STATEMENTS = (Table.TICKERS, Table.DERIVATIVE_TICKER)
"""Tables of which a message may say nothing: a row that has only columns of `SILENT` is none."""
SILENT = frozenset({"symbol", "exchange_time", "source", "volume_unit", "open_interest_unit", "open_interest_sides"})


class TableDeclaration(Model):
    """How a channel's messages become rows of one table."""

    table: Table | None = Field(
        default=None,
        description="The table: `trades`, `quotes`, `book_changes`, ...; not `gaps`, made from the events.",
    )
    skip: str | None = Field(
        default=None,
        description="In place of `table`: messages that meet `when` make no rows, and are counted under this reason.",
        min_length=1,
        max_length=200,
    )
    missing: bool = Field(
        default=False,
        description="With `skip`: what these messages say is missing from the tables: what follows them is in doubt.",
    )
    source: Literal["stream", "rest"] = Field(
        default="stream", description="`rest`: of snapshots fetched over HTTP, in place of streamed messages."
    )
    when: Conditions = Field(default=(), description="Conditions on the message; paths begin at the message.")
    rows: Annotated[tuple[RowPath, ...], BeforeValidator(_several)] = Field(
        default=("$",),
        description="Path of the rows; `$`: the message is one; `data[]`: each element of `data`. Of several paths the "
        "first that is there: `[data, $]`.",
        min_length=1,
    )
    split: str | None = Field(
        default=None,
        description="The row is a text: split it at this character, `[0]` is its first part.",
        min_length=1,
    )
    where: Conditions = Field(default=(), description="Only rows that meet these conditions.")
    symbol: Cells = Field(default=(), description="The row's symbol; by default the message's.")
    exchange_time: Cells = Field(default=(), description="The exchange's time; by default that of the message.")
    columns: dict[str, Cells] = Field(
        default={},
        description="By column: a path, a number as a constant, or more (see below). Where a column has only certain "
        "words (`size_unit`), one of them is itself.",
    )
    flags: tuple[Flag, ...] = Field(default=(), description="Flags of trades and liquidations.")
    snapshot: Snapshot = Field(
        default=False,
        description="Of book_changes: whether the message replaces the book: `true`, conditions on the row, or "
        "`first`: the first of its symbol on each connection does.",
    )
    begins: Literal["snapshot"] | None = Field(
        default=None, description="`snapshot`: rows before the symbol's first snapshot are none, and are counted."
    )
    bids: SideLevels | None = Field(default=None, description="Path of the bids in a row.")
    asks: SideLevels | None = Field(default=None, description="Path of the asks in a row.")
    level: Level = Field(
        default={}, description="A level's columns: `[price, size]` by position (`_`: none), or paths by name."
    )
    delete: Conditions = Field(
        default=(), description="When a level is deleted, whatever its size; by default when its size is zero."
    )
    zero_price: bool | Annotated[str, Field(max_length=200)] = Field(
        default=False,
        description="Trades, liquidations and levels of price 0 are none, and are counted under this reason; `true`: "
        "a price may be 0, as of spreads. By default they are refused.",
    )

    @model_validator(mode="before")
    @classmethod
    def _constants(cls, data: Any) -> Any:
        """A word of a column that has only certain words is a constant."""
        if not isinstance(data, dict) or not isinstance(columns := data.get("columns"), dict):
            return data
        table = next((table for table in Table if table == data.get("table")), None)
        declared = COLUMNS[table] if table is not None else ()
        return {**data, "columns": with_constants(columns, declared)}

    @model_validator(mode="after")
    def _consistent(self) -> TableDeclaration:
        if (self.table is None) == (self.skip is None):
            raise ConflictError(("table",), "found both or none of table and skip, expected one of them")
        if self.missing and self.skip is None:
            raise ConflictError(("missing",), "found it without skip, expected skip beside it")
        if any(condition.otherwise is not None for condition in self.when):
            problem = "found otherwise, expected none: a message that no declaration fits is refused anyway"
            raise ConflictError(("when",), problem)
        if self.table is None:
            return self
        if self.table is Table.GAPS:
            raise ConflictError(("table",), "found 'gaps', which is made from the events, expected another table")
        known = {column.name: column for column in COLUMNS[self.table]}
        sides = [side for side in (self.bids, self.asks) if side is not None]
        for where, names in (("columns", self.columns), ("level", self.level)):
            for name, cells in names.items():
                self._check_column(where, name, known)
                self._check_words((where, name), cells, known.get(name))
        if self.table not in (Table.BOOK_CHANGES, Table.BOOK_SNAPSHOTS) and (sides or self.level or self.snapshot):
            raise ConflictError(("table",), f"found levels or a snapshot with {self.table}, expected a book's table")
        if self.table == Table.BOOK_SNAPSHOTS and not sides:
            raise ConflictError(("table",), "found book_snapshots without bids and asks, expected them beside it")
        for side in sides:
            if not (side.level or self.level):
                raise ConflictError(("level",), "found bids or asks without a level, expected level beside them")
        self._check_conditions()
        for name in REQUIRED.get(self.table, ()):
            if name not in self.columns:
                raise ConflictError(("columns",), f"found {self.table} without {name}, expected its path")
        if self.table == Table.BOOK_CHANGES and not sides and "price" not in self.columns:
            problem = "found book_changes without levels, expected bids and asks, or columns side, price and size"
            raise ConflictError(("table",), problem)
        if self.flags and "flags" not in known:
            raise ConflictError(("flags",), f"found flags with {self.table}, expected trades or liquidations")
        return self

    def _check_conditions(self) -> None:
        """Check that no word but those that are named is taken for one of them."""
        for key in ("where", "snapshot", "delete"):
            conditions = getattr(self, key)
            for condition in conditions if isinstance(conditions, tuple) else ():
                if condition.differs is not None:
                    raise ConflictError((key,), "found differs, expected equals with otherwise, which names all words")
                if condition.equals is not None and condition.otherwise is None:
                    problem = f"found equals at {condition.path} without otherwise, expected its other words beside it"
                    raise ConflictError((key,), problem)
        for flag in self.flags:
            for condition in flag.when:
                if condition.equals is not None or condition.differs is not None:
                    problem = (
                        f"found a word at {condition.path} in when, expected path and words, which names all words"
                    )
                    raise ConflictError(("flags",), problem)

    def alternatives(self) -> tuple[TableDeclaration, ...]:
        """A declaration for each of `rows`; only the first that is there fits a message."""
        *first, last = self.rows
        conditioned = [
            self.model_copy(update={"rows": (rows,), "when": (*self.when, RowCondition(path=rows.split("[]")[0]))})
            for rows in first
        ]
        return (*conditioned, self.model_copy(update={"rows": (last,)}))

    def _check_words(self, where: tuple[str, str], cells: Cells, column: TableColumn | None) -> None:
        """Check that what a column of certain words is to have are such words."""
        words = column.words if column is not None else ()
        for cell in cells if words else ():
            for given in (cell.value, cell.positive, cell.negative, *(cell.words or {}).values()):
                if given is not None and given not in words:
                    raise ConflictError(where, f"found {given!r}, expected one of {', '.join(words)}")

    def _check_column(self, where: str, name: str, known: dict[str, TableColumn]) -> None:
        if self.table == Table.BOOK_SNAPSHOTS and where == "level" and name in ("price", "size", "count"):
            return
        if name not in known or name in {column.name for column in IDENTITY} or name == "flags":
            expected = ", ".join(name for name in known if name != "flags")
            raise ConflictError((where, name), f"found {name!r}, expected a column of {self.table}: {expected}")


ChannelTables = Annotated[
    Annotated[tuple[TableDeclaration, ...], Tag("list")] | Annotated[str, Tag("name")],
    Discriminator(lambda value: "name" if isinstance(value, str) else "list"),
]
"""A channel's declarations, or the name of the channel whose declarations it shares."""
