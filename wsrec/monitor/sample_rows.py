"""The rows of the tables that sample messages make by a feed's YAML, and why others make none (`wsrec feeds check`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from wsrec.decode.packed import json_of
from wsrec.decode.row_maker import TableRow
from wsrec.decode.row_values import Row, conditions, decoded, reader, text_of
from wsrec.decode.table_rows import NO_DECLARATION, Message, TableRowReader
from wsrec.feed.schema import Feed
from wsrec.feed.table_columns import COLUMNS, Table
from wsrec.feed.table_declarations import Cells, RowCondition, TableDeclaration
from wsrec.monitor.samples import Reading, Sample


class SampleRows(NamedTuple):
    """What a message makes.

    Attributes:
        rows: the rows of each table; numbers as text with the exchange's digits, times in ns since the epoch.
        left_out: why it, or parts of it, make none, each with the table (None: all).
        skipped: the reason of the declaration that skips it, or None.
        without: why columns have no value, each with the table: what is there and cannot be taken, and columns that
            are declared and have none in any row, with where it would be.

    """

    rows: dict[Table, list[TableRow]]
    left_out: list[tuple[Table | None, str]]
    skipped: str | None
    without: list[tuple[Table, str]]

    @property
    def is_refused(self) -> bool:
        """Whether it makes no row although it should: nothing is made, and no declaration says so."""
        return not self.rows and bool(self.left_out)


def sample_rows(feed: Feed, samples: Sequence[Sample], readings: Sequence[Reading]) -> list[SampleRows | None]:
    """The rows of each message, as if one connection had received them in this order.

    Args:
        feed: the feed with the declarations.
        samples: the messages.
        readings: their fields.

    Returns:
        For each message its rows; None for answers, pings, and messages of channels without tables.

    """
    table_rows = TableRowReader(feed)
    contents = _contents(feed, samples)
    made: list[SampleRows | None] = []
    for sample, reading, content in zip(samples, readings, contents, strict=True):
        if reading.role:
            made.append(None)
        elif reading.channel not in feed.channel_by_any_name:
            known = ", ".join(feed.channels)
            reason = f"found the channel {reading.channel!r}, expected `fields.channel` to give one of {known}"
            made.append(SampleRows({}, [(None, reason)], None, []) if _has_tables(feed) else None)
        elif not feed.tables_of(reading.channel):
            made.append(None)
        else:
            message = Message(content, reading.channel, reading.symbol, is_rest=sample.is_rest)
            made.append(_made(feed, table_rows, message, reading))
    return made


def _has_tables(feed: Feed) -> bool:
    return any(feed.tables_of(name) for name in feed.channels)


def _contents(feed: Feed, samples: Sequence[Sample]) -> list[bytes]:
    """The messages as JSON."""
    payload = pa.array([sample.payload for sample in samples], pa.large_binary())
    binary = np.array([sample.binary for sample in samples], np.bool_)
    if feed.fields is not None:
        payload, _ = json_of(feed.fields, payload, np.ones(len(samples), np.bool_), binary)
    contents: list[bytes] = payload.to_pylist()
    return contents


def _made(feed: Feed, table_rows: TableRowReader, message: Message, reading: Reading) -> SampleRows:
    outcome = table_rows.read(message)
    rows = {table: [{"exchange_time": reading.exchange_time, **row} for row in made] for table, made in outcome.rows}
    content = decoded(message.payload)
    whole = Row(content, content, (), None, message.channel, message.symbol)
    source = "rest" if message.is_rest else "stream"
    declared = [each for each in feed.tables_of(message.channel) if each.table is not None and each.source == source]
    left_out = list(dict.fromkeys(outcome.left_out))
    if (None, NO_DECLARATION) in left_out:
        left_out += [(each.table, _unmet(each, whole)) for each in declared]
    without = [*dict.fromkeys(outcome.nulls)]
    without += [text for table in rows for text in _without(declared, whole, table, rows[table])]
    return SampleRows(rows, left_out, outcome.skipped, without)


def _unmet(declaration: TableDeclaration, whole: Row) -> str:
    """The first condition that a message does not meet."""
    for condition in declaration.when:
        if not conditions((condition,))(whole):
            value = reader(condition.path)(whole)
            found = "nothing" if value is None else repr((text_of(value) or type(value).__name__)[:40])
            return f"`when` does not hold: found {found} at `{condition.path}`, expected {_expected(condition)}"
    return "its `when` holds"


def _expected(condition: RowCondition) -> str:
    if condition.absent:
        return "nothing"
    if condition.equals is not None:
        return " or ".join(condition.equals)
    if condition.differs is not None:
        return f"something else than {' or '.join(condition.differs)}"
    if condition.matches is not None:
        return f"a text with `{condition.matches}`"
    if condition.zero is not None:
        return "zero" if condition.zero else "a number that is not zero"
    return f"the shape {condition.shape}" if condition.shape is not None else "a value"


def _without(
    declared: Sequence[TableDeclaration], whole: Row, table: Table, rows: Sequence[TableRow]
) -> Iterator[tuple[Table, str]]:
    """Columns of the declaration that made the rows which are null in all of them."""
    alternatives = (each for one in declared if one.table is table for each in one.alternatives())
    declaration = next((each for each in alternatives if conditions(each.when)(whole)), None)
    words = {column.name: column.words for column in COLUMNS[table]}
    for name, cells in declaration.columns.items() if declaration is not None else ():
        if all(row.get(name) is None for row in rows):
            hint = f"; as a word: {', '.join(words[name])}" if _is_plain(cells) and words.get(name) else ""
            places = ", ".join(f"`{cell.path}`" for cell in cells if cell.path is not None)
            yield table, f"{name}: no value{f' at {places}' if places else ''}{hint}"


def _is_plain(cells: Cells) -> bool:
    return all(cell.words is None and not (cell.positive or cell.negative) for cell in cells)
