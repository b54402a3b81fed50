"""A program for the compiled table reader: a channel's table declarations as flat lists that refer to each other.

`wsrec.decode.program_maker` makes it, `_table_rows.RowScanner` loads it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from wsrec.feed.table_columns import Kind, Table, TableColumn
from wsrec.feed.table_declarations import Cells

Span = tuple[int, int]
"""Some neighbours in a list: the first and how many."""
Where = tuple[int, int]
"""A value: scope and cell."""

NOTHING: Span = (0, 0)


class NotCompilableError(Exception):
    """A declaration says something that the scanner does not support."""


class ProgramCell(NamedTuple):
    """A cell, see `_table_rows.Cell`."""

    is_constant: bool = False
    at: Where = (0, 0)
    conditions: Span = NOTHING
    words: Span = NOTHING
    none: Span = NOTHING
    none_zero: bool = False
    is_signed: bool = False
    positive: int = -1
    negative: int = -1
    absolute: bool = False
    clip: bool = False
    exponent: int = 6
    constant: int = 0
    number: float = 0.0


class ProgramCondition(NamedTuple):
    """A condition, see `_table_rows.Condition`."""

    at: Where
    test: str
    texts: Span
    has_others: bool = False
    others: Span = NOTHING
    may_be_absent: bool = True


class ProgramColumn(NamedTuple):
    """A column, see `_table_rows.Column`."""

    kind: Kind
    cells: Span
    output: int
    required: bool
    says: bool


class ProgramSide(NamedTuple):
    """One side of a book, see `_table_rows.Side`."""

    array: Where
    scope: int
    columns: Span
    delete: Span


class ProgramDeclaration(NamedTuple):
    """A declaration, see `_table_rows.Declaration`."""

    form: str
    table: int
    when: Span
    rows: int
    row: Where | None
    array: Where | None
    where: Span
    columns: Span
    flags: Span
    flags_output: int
    is_statement: bool
    is_nested: bool
    best: tuple[int, ...]
    needs_symbol: bool
    always_snapshot: bool
    snapshot: Span
    delete: Span
    refuses_zero_price: bool
    sides: tuple[ProgramSide | None, ProgramSide | None]
    outputs: tuple[int, int, int, int, int]


class BySymbol(NamedTuple):
    """A column whose constants depend on the symbol of the row, or else of the message, alone."""

    table: Table
    name: str
    cells: Cells
    column: TableColumn
    of_row: bool


@dataclass
class Program:
    """A program: the lists that `_table_rows.RowScanner` loads, and what names its results.

    Attributes:
        places: wanted places: steps (None: each element), scope, cell.
        scopes: of each scope its parent and number of cells.
        words: texts and codes.
        flags: bit, conditions, column.
        tables: of each table the kinds of its outputs.
        tables_and_names: of each table the names of its outputs.
        flag_names: of each table the flag of each bit.
        by_symbol: columns that are made of the symbol.

    """

    places: list[tuple[tuple[str | int | None, ...], int, int]] = field(default_factory=list)
    scopes: list[tuple[int, int]] = field(default_factory=list)
    conditions: list[ProgramCondition] = field(default_factory=list)
    words: list[tuple[bytes, int]] = field(default_factory=list)
    cells: list[ProgramCell] = field(default_factory=list)
    columns: list[ProgramColumn] = field(default_factory=list)
    flags: list[tuple[int, Span, int]] = field(default_factory=list)
    skips: list[Span] = field(default_factory=list)
    declarations: list[ProgramDeclaration] = field(default_factory=list)
    tables: list[list[Kind]] = field(default_factory=list)
    tables_and_names: list[tuple[Table, list[str]]] = field(default_factory=list)
    flag_names: dict[Table, list[str]] = field(default_factory=dict)
    by_symbol: list[BySymbol] = field(default_factory=list)
