"""Instruments from a venue's listing, by the feed's `instruments`."""

from __future__ import annotations

from decimal import Decimal, DecimalException
from typing import Any, NamedTuple

from wsrec.decode.row_values import (
    NotReadableError,
    Row,
    cells_reader,
    conditions,
    decoded,
    elements,
    reader,
    row_steps,
    text_of,
)
from wsrec.feed.instruments import INSTRUMENT_COLUMNS, Instruments
from wsrec.feed.table_columns import Kind, TableColumn

_NUMBER = TableColumn("multiplier", Kind.NUMBER, "")
_SYMBOL_MAX = 128


class Instrument(NamedTuple):
    """What a listing says of an instrument; None where it says nothing.

    Attributes:
        symbol: as in messages.
        multiplier: size of one contract, in `multiplier_unit`.
        multiplier_unit: `base` or `quote`.
        price_step, size_step: least differences of two prices, and of two sizes.
        expiry: when it expires (ns since the epoch).
        kind, base, quote: in the exchange's words.

    """

    symbol: str
    multiplier: Decimal | None = None
    multiplier_unit: str | None = None
    price_step: Decimal | None = None
    size_step: Decimal | None = None
    expiry: int | None = None
    kind: str | None = None
    base: str | None = None
    quote: str | None = None


class InstrumentReader:
    """Reads the answers of a venue's listing. Never raises, whatever an answer contains.

    Args:
        declared: the feed's `instruments`.

    """

    def __init__(self, declared: Instruments) -> None:
        self._way = row_steps(declared.items)
        self._where = conditions(declared.where, self._way)
        self._names = [
            (reader(name.path, self._way), conditions(name.when, self._way), name.write) for name in declared.symbol
        ]
        self._numbers = {column.name for column in INSTRUMENT_COLUMNS if column.kind is Kind.NUMBER}
        columns = {column.name: column for column in INSTRUMENT_COLUMNS}
        self._cells = {name: cells_reader(cells, columns[name], self._way) for name, cells in declared.columns.items()}
        self._factor = cells_reader(declared.factor, _NUMBER, self._way)
        self._divisor = cells_reader(declared.divisor, _NUMBER, self._way)

    def read(self, payload: bytes | memoryview) -> list[Instrument]:
        """The instruments that an answer names, each under each of its names; none of those that cannot be read."""
        return self._counted(decoded(payload))[0]

    def problem(self, payload: bytes | memoryview) -> str | None:
        """Why an answer says nothing of any instrument, in words; None if it does."""
        if not len(payload):
            return "it is empty"
        content = decoded(payload)
        if content is None:
            return "it is not JSON"
        found, refused = self._counted(content)
        return None if found else "no instrument in it can be read" if refused else "it names no instrument"

    def refused(self, payload: bytes | memoryview) -> int:
        """How many instruments of an answer cannot be read."""
        return self._counted(decoded(payload))[1]

    def _counted(self, content: Any) -> tuple[list[Instrument], int]:
        """The instruments of an answer, and how many items cannot be read."""
        found: list[Instrument] = []
        refused = 0
        for item, around, key in elements(content, self._way):
            row = Row(item, content, around, key)
            try:
                if self._where(row):
                    found += self._of(row)
            except (NotReadableError, DecimalException):
                refused += 1
        return found, refused

    def _of(self, row: Row) -> list[Instrument]:
        names = [
            write.replace("{symbol}", text)
            for name, holds, write in self._names
            if (text := text_of(name(row))) and len(text) <= _SYMBOL_MAX and holds(row)
        ]
        if not any(name(row) is not None for name, _, _ in self._names):
            raise NotReadableError("found no symbol")
        said = {name: value for name, read in self._cells.items() if (value := read(row)) is not None}
        for name in self._numbers & said.keys():
            said[name] = Decimal(said[name])
        if "multiplier" in said:
            factor, divisor = self._factor(row), self._divisor(row)
            said["multiplier"] *= Decimal(factor) if factor is not None else 1
            said["multiplier"] /= Decimal(divisor) if divisor is not None else 1
        return [Instrument(name, **said) for name in names]
