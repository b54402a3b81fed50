"""The rows of one market at a time, as the exporters to other tools need them: one symbol, each row once.

A symbol's trades that came by two channels are the same trades twice. No row says so, and a tool would count them
twice: an export of both is refused. So is one of what two sessions recorded at the same time, before a row is read.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wsrec.feed.table_columns import Table
from wsrec.other_tools.outcome import HISTORY, ExportError, Outcome, TableRows
from wsrec.units import clean, named

MATCH_TIMES = {
    Table.TRADES: "trade_time",
    Table.LIQUIDATIONS: "trade_time",
    Table.QUOTES: "transact_time",
    Table.BOOK_CHANGES: "transact_time",
    Table.BOOK_SNAPSHOTS: "transact_time",
}
"""The column with the matching engine's time; where it is null, `exchange_time` takes its place."""

_AFTER_GAPS = "they come after a gap (--tables gaps lists those) or after what was left out"

SUSPECT_BOOKS = (
    f"{_AFTER_GAPS}, or before a snapshot of their book; where the exchange sends none, record with --snapshots start "
    "(docs/how-to/books.md)"
)
"""Why rows of `book_changes` are suspect, and the cure."""

NO_PRICE = "no price or size"
"""Reason for rows that say nothing to a tool."""

# several channels may each have a part of these
_IN_PARTS = (Table.DERIVATIVE_TICKER, Table.LIQUIDATIONS, Table.TICKERS, Table.GAPS)


class MarketRows(NamedTuple):
    """Rows of a table of one symbol of one session.

    Attributes:
        table: the table.
        feed, symbol, session: of all rows.
        rows: its columns, with words as plain text.

    """

    table: Table
    feed: str
    symbol: str
    session: str
    rows: pa.RecordBatch

    def integers(self, column: str) -> npt.NDArray[np.int64]:
        """Times (ns since the epoch) or integers of a column that has no null."""
        return np.asarray(self.rows[column].cast(pa.int64()))

    def match_time(self) -> pa.Array:
        """When the matching engine did it, else when the exchange sent it: int64 ns since the epoch; null: unknown."""
        name = MATCH_TIMES.get(self.table)
        times = [self.rows[each] for each in (name, "exchange_time") if each is not None]
        return pc.coalesce(*times).cast(pa.int64())


def by_market(rows: TableRows, tables: tuple[Table, ...], tool: str, outcome: Outcome) -> Iterator[MarketRows]:
    """Split rows by symbol, without those that came before (`history`).

    Args:
        rows: the rows.
        tables: the tables that the tool takes; rows of others are counted in `outcome`, as is what is left out.
        tool: its name.
        outcome: where it is counted.

    Raises:
        ExportError: the same rows of a symbol would be there twice.

    """
    once = _Once()
    units: defaultdict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for table, batch in rows:
        if table not in tables:
            outcome.leave_out(table.value, f"{tool} has nothing for it", batch.num_rows)
            continue
        plain = _plain(batch)
        for (feed, symbol, session), part in _grouped(plain, ("feed", "symbol", "session")):
            market = MarketRows(table, feed, symbol, session, part)
            again = pc.equal(part["state"], "history")
            outcome.leave_out(table.value, HISTORY, pc.sum(again).as_py() or 0)
            kept = market._replace(rows=part.filter(pc.invert(again)))
            if kept.rows.num_rows:
                once.check(kept)
                _note_doubts(kept, outcome)
                for unit in _units(kept):
                    units[kept.feed, unit][kept.symbol] = None
                yield kept
    for (feed, unit), symbols in units.items():
        outcome.note(f"{feed}: sizes are in {unit.replace('_', ' ')} of {named(list(symbols))}")


def keep(market: MarketRows, fits: pa.Array | npt.NDArray[np.bool_], reason: str, outcome: Outcome) -> MarketRows:
    """Only the rows that fit; null does not. The others are counted."""
    mask = pc.fill_null(pa.array(fits), False)
    kept = market.rows.filter(mask)
    outcome.leave_out(market.table.value, reason, market.rows.num_rows - kept.num_rows)
    return market._replace(rows=kept)


def whole_levels(market: MarketRows, outcome: Outcome) -> MarketRows:
    """Only the book changes that say what they need to: a price, a size unless they delete, a side if they set."""
    rows = market.rows
    clear, delete = pc.equal(rows["action"], "clear"), pc.equal(rows["action"], "delete")
    sized = pc.and_(rows["price"].is_valid(), pc.or_(delete, rows["size"].is_valid()))
    market = keep(market, pc.or_(clear, sized), NO_PRICE, outcome)
    sided = pc.or_(market.rows["side"].is_valid(), pc.not_equal(market.rows["action"], "set"))
    return keep(market, sided, "a level without a side", outcome)


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Dictionaries made plain columns."""
    columns = [
        column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _grouped(batch: pa.RecordBatch, names: tuple[str, ...]) -> Iterator[tuple[tuple[Any, ...], pa.RecordBatch]]:
    """The rows of each combination of values, in their order."""
    if not batch.num_rows:
        return
    combined = np.zeros(batch.num_rows, np.int64)
    for name in names:
        encoded = batch[name].dictionary_encode()
        combined = combined * len(encoded.dictionary) + np.asarray(encoded.indices)
    _, first, group = np.unique(combined, return_index=True, return_inverse=True)
    if len(first) == 1:
        yield tuple(batch[name][0].as_py() for name in names), batch
        return
    order = np.argsort(group, kind="stable")
    bounds = np.flatnonzero(np.diff(group[order], prepend=-1))
    for start, end in zip(bounds, [*bounds[1:], len(order)], strict=True):
        places = order[start:end]
        yield tuple(batch[name][int(places[0])].as_py() for name in names), batch.take(pa.array(places))


def _note_doubts(market: MarketRows, outcome: Outcome) -> None:
    if pc.any(pc.equal(market.rows["state"], "suspect")).as_py():
        why = SUSPECT_BOOKS if market.table is Table.BOOK_CHANGES else _AFTER_GAPS
        outcome.note(f"{market.table.value}: some rows are `suspect`, and treated as the others: {why}")


def _units(market: MarketRows) -> list[str]:
    """What sizes count, if not the base currency."""
    if "size_unit" not in market.rows.schema.names:
        return []
    return [unit for unit in pc.unique(market.rows["size_unit"]).to_pylist() if unit not in (None, "base")]


class _Once:
    """Refuses a symbol's rows from two channels."""

    def __init__(self) -> None:
        self._channels: dict[tuple[Table, str, str], str] = {}

    def check(self, market: MarketRows) -> None:
        if market.table in _IN_PARTS:
            return
        key = market.table, market.feed, market.symbol
        what = f"{market.table.value} of {clean(market.symbol, 60)} of {market.feed}"
        for channel in pc.unique(market.rows["channel"]).to_pylist():
            first = self._channels.setdefault(key, channel)
            if channel != first:
                raise ExportError(
                    f"{what} are in two channels, {first} and {channel}, and would be there twice: "
                    "name the channels that you want in --channels, with one of the two"
                )
