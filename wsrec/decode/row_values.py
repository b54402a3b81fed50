"""Values of a table row: a declared cell as a function from a row of a decoded message to the value of its column.

Numbers keep the digits that the exchange wrote: no float lies between the message and the column.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from wsrec.decode import json_text
from wsrec.decode.scalars import INT64_MAX, INT64_MIN, integer_of, time_of
from wsrec.feed.fields import TimePlace
from wsrec.feed.paths import Every, Step, scalar_text, steps, values
from wsrec.feed.table_columns import Kind, TableColumn
from wsrec.feed.table_declarations import Cell, Conditions, RowCondition
from wsrec.feed.values import TimeUnit

SYMBOL = TableColumn("symbol", Kind.TEXT, "")
EXCHANGE_TIME = TableColumn("exchange_time", Kind.TIME, "")
"""Columns that any declaration may read, whatever its table."""
_NUMERAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII)
_ZERO = re.compile(r"[+-]?0*\.?0*(?:[eE][+-]?\d+)?", re.ASCII)
_NUMERAL_MAX = 100
NO_TIME = 86_400 * 10**9
"""1970-01-02 (ns since the epoch): times before it are none, exchanges write 0, 1970-01-01 or the year 0001 there."""
_NO_YEAR = ("0001-01-01", "-62135596800")
"""How times of the year 0001 begin, the latter in s, ms and us: Go's zero time, which also stands for none."""
_COUNT_MAX = (1 << 32) - 1
_TEXT_MAX = 1000


class Digits(str):
    """A number that was not written as an integer: its digits, sign and exponent as they were written."""

    __slots__ = ()


class NotReadableError(Exception):
    """A value is there, but is none that its column can have; the text is the reason."""


class NoValueError(Exception):
    """The same of a value without which its row stays: its column is null, and the reason is counted."""


class Row(NamedTuple):
    """A row of a message, and what holds it.

    Attributes:
        value: the row; None where an empty snapshot has none.
        message: the whole message.
        around: of each `[]` in the path of the rows the element on the way to this one.
        key: its own key where the rows are the members of an object.
        channel, symbol: of the message.
        nulls: why columns of rows are null though something is there; shared by all rows of a message.

    """

    value: Any
    message: Any
    around: tuple[Any, ...] = ()
    key: str | None = None
    channel: str | None = None
    symbol: str | None = None
    nulls: list[str] | None = None


Read = Callable[[Row], Any]
"""A function from a row to a value or None."""

_decode = msgspec.json.Decoder(float_hook=Digits).decode


def decoded(payload: bytes | memoryview) -> Any:
    """Decode a message with its numbers as written; None if it is not JSON."""
    return json_text.decoded(payload, _decode)


def row_steps(path: str) -> tuple[Step, ...]:
    """The steps of a declaration's `rows`, from the top of the message."""
    return () if path == "$" else steps(path.removeprefix("$").removeprefix("."))


def elements(message: Any, way: tuple[Step, ...]) -> Iterator[tuple[Any, tuple[Any, ...], str | None]]:
    """Each row at a path, with `Row.around` and `Row.key`; of an array also those that are null."""
    return within(message, way, (), None)


def within(
    value: Any, way: tuple[Step, ...], around: tuple[Any, ...], key: str | None
) -> Iterator[tuple[Any, tuple[Any, ...], str | None]]:
    """The same of a value within a message, with what is around it and its key."""
    if not way:
        if value is not None:
            yield value, around, key
        return
    step, rest = way[0], way[1:]
    if step is Every.ELEMENT:
        if isinstance(value, dict):
            for name, element in value.items():
                yield from within(element, rest, (*around, element), name)
                if element is None and not rest:
                    yield None, around, name
        elif isinstance(value, list):
            for element in value:
                yield from within(element, rest, (*around, element), key)
                if element is None and not rest:
                    yield None, around, key
        return
    yield from within(next(values(value, (step,)), None), rest, around, key)


def reader(path: str, rows: tuple[Step, ...] = ()) -> Read:
    """A function from a row to the first value at a path of a declaration whose rows are at `rows`."""
    if path in ("$key", "$channel", "$symbol"):
        name = path[1:]
        return lambda row: getattr(row, name)
    if not path.startswith("$"):
        return _from_row(steps(path))
    way = row_steps(path)
    ends = [index + 1 for index, step in enumerate(rows) if step is Every.ELEMENT]
    shared = [(number, end) for number, end in enumerate(ends) if way[:end] == rows[:end]]
    if not shared:
        return lambda row: next(values(row.message, way), None)
    number, end = shared[-1]
    rest = way[end:]
    return lambda row: next(values(row.around[number], rest), None) if row.around else None


def _from_row(way: tuple[Step, ...]) -> Read:
    if len(way) == 1 and isinstance(way[0], str):
        key = way[0]

        def member(row: Row) -> Any:
            return row.value.get(key) if isinstance(row.value, dict) else None

        return member
    return lambda row: next(values(row.value, way), None)


def conditions(wanted: Conditions, rows: tuple[Step, ...] = ()) -> Callable[[Row], bool]:
    """A function that checks whether all conditions hold for a row."""
    tests = [(reader(condition.path, rows), _test(condition)) for condition in wanted]
    return lambda row: all(test(read(row)) for read, test in tests)


def _test(condition: RowCondition) -> Callable[[Any], bool]:
    if condition.absent:
        return lambda value: value is None
    if condition.otherwise is not None:
        return _word_test(condition)
    if condition.equals is not None:
        equal = frozenset(condition.equals)
        return lambda value: text_of(value) in equal
    if condition.differs is not None:
        other = frozenset(condition.differs)
        return lambda value: value is not None and text_of(value) not in other
    if condition.matches is not None:
        found = re.compile(condition.matches).search
        return lambda value: isinstance(value, str) and found(value) is not None
    if condition.zero is not None:
        wanted = condition.zero
        return lambda value: (digits := text_of(value)) is not None and is_number(digits) and is_zero(digits) is wanted
    if condition.shape is not None:
        return _SHAPES[condition.shape]
    return lambda value: value is not None


def _word_test(condition: RowCondition) -> Callable[[Any], bool]:
    """A function that tells the words of a condition from its other ones, and refuses all else."""
    equal, others = frozenset(condition.equals or ()), frozenset(condition.otherwise or ())

    def test(value: Any) -> bool:
        text = text_of(value)
        if text is not None and text in equal:
            return True
        if (text is not None or value is None) and text in others:
            return False
        found = "nothing" if value is None else _named(value) if text is None else f"the word {text[:40]!r}"
        raise NotReadableError(f"found {found}, which is not declared at `{condition.path}`")

    return test


_SHAPES: dict[str, Callable[[Any], bool]] = {
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "text": lambda value: isinstance(value, str) and not isinstance(value, Digits),
    "number": lambda value: isinstance(value, Digits) or type(value) is int,
    "boolean": lambda value: isinstance(value, bool),
    "empty": lambda value: isinstance(value, list | dict | str) and not value,
}


def text_of(value: Any) -> str | None:
    """A text, number or boolean as text, numbers as they were written; None for anything else."""
    return str(value) if isinstance(value, Digits) else scalar_text(value)


def is_number(text: str) -> bool:
    """Whether a text is a number as exchanges write them."""
    return len(text) <= _NUMERAL_MAX and _NUMERAL.fullmatch(text) is not None


def is_zero(text: str) -> bool:
    """Whether a number is zero."""
    return _ZERO.fullmatch(text) is not None


def cells_reader(
    cells: Sequence[Cell], column: TableColumn, rows: tuple[Step, ...] = (), unit: TimeUnit = TimeUnit.MS
) -> Read:
    """A function from a row to a column's value.

    Args:
        cells: the places of the value; the first that has one gives it.
        column: the column.
        rows: path of the declaration's rows.
        unit: of times without their own.

    Returns:
        A function to a number's digits (text), a time (ns), an integer, a text or a truth value, or None. It raises
        `NotReadableError` where a value is there that the column cannot have.

    """
    reads = [_cell_reader(cell, column, rows, unit) for cell in cells]
    if len(reads) == 1:
        return reads[0]
    return lambda row: _first(reads, row)


def _first(reads: Sequence[Read], row: Row) -> Any:
    """The first value of several places; what is there at one before it and cannot be taken is not missed then."""
    before = len(row.nulls or ())
    for read in reads:
        value = read(row)
        if value is not None:
            if row.nulls is not None:
                del row.nulls[before:]
            return value
    return None


def _cell_reader(cell: Cell, column: TableColumn, rows: tuple[Step, ...], unit: TimeUnit) -> Read:
    convert = _converter(cell, column, unit)
    if cell.path is None:
        constant = convert(cell.value)
        read: Read = lambda _row: constant  # noqa: E731
    else:
        found, where = reader(cell.path, rows), cell.path

        def read(row: Row) -> Any:
            value = found(row)
            if value is None:
                return None
            try:
                return convert(value)
            except NotReadableError as error:
                raise NotReadableError(f"{column.name}: {error} at `{where}`") from None
            except NoValueError as error:
                if row.nulls is not None:
                    row.nulls.append(f"{column.name}: {error} at `{where}`")
                return None

    if not cell.when:
        return read
    holds = conditions(cell.when, rows)
    return lambda row: read(row) if holds(row) else None


def _converter(cell: Cell, column: TableColumn, unit: TimeUnit) -> Callable[[Any], Any]:
    kind = column.kind
    if kind is Kind.TIME:
        return _time_converter(cell, unit)
    to_kind = _CONVERTERS.get(kind, _word(column.words))
    none = frozenset(cell.none)
    search = re.compile(cell.capture).search if cell.capture is not None else None

    def convert(value: Any) -> Any:
        text = text_of(value)
        if text is None:
            raise NotReadableError(f"found {_named(value)}")
        if text in none or (kind in _NUMBERS and "0" in none and is_number(text) and is_zero(text)):
            return None
        if search is not None:
            found = search(text)
            if found is None:
                raise NoValueError(f"found {text[:40]!r}, without what is looked for,")
            text = "".join(part for part in found.groups() if part)
            if not text:
                return None
        if cell.positive or cell.negative:
            return _signed(text, cell)
        if cell.words is not None:
            if text not in cell.words:
                raise NotReadableError(f"found the word {text[:40]!r}, which is not declared")
            if (replaced := cell.words[text]) is None:
                return None
            text = replaced
        if cell.absolute:
            text = text.removeprefix("-")
        elif cell.clip and text.startswith("-"):
            text = "0"
        return to_kind(cell.case.apply(text))

    return convert


def _signed(text: str, cell: Cell) -> str | None:
    if not is_number(text):
        raise NotReadableError(f"found {text[:40]!r}, which is no number,")
    if is_zero(text):
        return None
    return cell.negative if text.startswith("-") else cell.positive


def _number(text: str) -> str | None:
    if not text:
        return None
    if not is_number(text):
        raise NotReadableError(f"found {text[:40]!r}, which is no number,")
    if ("e" in text or "E" in text) and math.isinf(float(text)):
        raise NotReadableError(f"found {text[:40]!r}, which is beyond float64,")
    return text


def _size(text: str) -> str | None:
    digits = _number(text)
    if digits is None or not digits.startswith("-"):
        return digits
    if not is_zero(digits):
        raise NotReadableError(f"found {text[:40]!r}, which is below zero,")
    return digits[1:]


def _integer(text: str) -> int | None:
    if not text:
        return None
    number = integer_of(text)
    if number is None or not INT64_MIN <= number <= INT64_MAX:
        raise NotReadableError(f"found {text[:40]!r}, which is no integer of 64 bits,")
    return number


def _count(text: str) -> int | None:
    number = _integer(text)
    if number is not None and not 0 <= number <= _COUNT_MAX:
        raise NotReadableError(f"found {text[:40]!r}, which is no count of 32 bits,")
    return number


def _truth(text: str) -> bool | None:
    if text in ("true", "1"):
        return True
    if text in ("false", "0"):
        return False
    raise NotReadableError(f"found {text[:40]!r}, which is neither true nor false,")


def _text(text: str) -> str | None:
    if len(text) > _TEXT_MAX:
        raise NotReadableError(f"found a text of {len(text)} characters")
    return text or None


def _word(words: tuple[str, ...]) -> Callable[[str], str | None]:
    if not words:
        return _text
    known = frozenset(words)

    def word(text: str) -> str | None:
        if text not in known:
            raise NotReadableError(f"found the word {text[:40]!r}, which is not declared")
        return text

    return word


_NUMBERS = (Kind.NUMBER, Kind.SIZE, Kind.RATE, Kind.INTEGER, Kind.COUNT)
_CONVERTERS: dict[Kind, Callable[[str], Any]] = {
    Kind.NUMBER: _number,
    Kind.SIZE: _size,
    Kind.RATE: _number,
    Kind.INTEGER: _integer,
    Kind.COUNT: _count,
    Kind.TEXT: _text,
    Kind.TRUTH: _truth,
}


def _time_converter(cell: Cell, unit: TimeUnit) -> Callable[[Any], int | None]:
    place = TimePlace(path="t", unit=cell.unit or unit, offset=cell.offset)
    none = frozenset(cell.none)

    def convert(value: Any) -> int | None:
        text = text_of(value)
        if text == "" or text in none:
            return None
        chosen = _sized(place, text or "") if cell.by_size else place
        time = time_of(value, chosen)
        if time is None:
            raise NotReadableError(f"found {_named(value)}, which is no time ({chosen.unit}),")
        if NO_TIME <= time < INT64_MAX:
            return time
        if 0 <= time < NO_TIME or (text or "").startswith(_NO_YEAR):
            return None
        what = "before 1970" if time < 0 else "beyond 64 bits of nanoseconds"
        raise NoValueError(f"found {_named(value)}, a time {what},")

    return convert


def _sized(place: TimePlace, text: str) -> TimePlace:
    """The place with the unit that the size of the number tells."""
    digits = len(text.split(".")[0])
    unit = TimeUnit.NS if digits > 17 else TimeUnit.US if digits > 14 else TimeUnit.MS if digits > 11 else TimeUnit.S
    return place.model_copy(update={"unit": unit})


def _named(value: Any) -> str:
    text = text_of(value)
    return f"{text[:40]!r}" if text is not None else "an array" if isinstance(value, list) else "an object"
