"""Tables to CSV files as tardis.dev's datasets are, and its names for columns.

https://docs.tardis.dev/downloadable-csv-files describes them: a gzipped file an exchange, dataset, day and symbol,
times in microseconds. Two of its habits are kept here, in this format alone: where the exchange says no time,
`timestamp` is the local one, and `derivative_ticker` repeats the last known values. The outcome says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wsrec.feed.table_columns import Table
from wsrec.other_tools.csv_files import CsvFiles
from wsrec.other_tools.market_rows import MarketRows, by_market, keep, whole_levels
from wsrec.other_tools.outcome import ExportError, Outcome, TableRows, file_safe
from wsrec.units import plural

TABLES = (
    Table.TRADES,
    Table.QUOTES,
    Table.BOOK_CHANGES,
    Table.BOOK_SNAPSHOTS,
    Table.DERIVATIVE_TICKER,
    Table.LIQUIDATIONS,
)
"""The tables that there are datasets for."""
DEFAULT_TABLES = TABLES
"""What is exported if the user names none."""

DATASETS = {
    Table.TRADES: "trades",
    Table.QUOTES: "book_ticker",
    Table.BOOK_CHANGES: "incremental_book_L2",
    Table.BOOK_SNAPSHOTS: "book_snapshot_{levels}",
    Table.DERIVATIVE_TICKER: "derivative_ticker",
    Table.LIQUIDATIONS: "liquidations",
}
"""The dataset of each table."""

EXCHANGES = {
    "binance-usdm": "binance-futures",
    "binance-coinm": "binance-delivery",
    "bitget-v3": "bitget",
    "bitget-usdt-futures": "bitget-futures",
    "bybit-inverse": "bybit",
    "bybit-linear": "bybit",
    "bybit-option": "bybit-options",
    "coinbase-advanced": "coinbase",
    "dydx": "dydx-v4",
    "gateio": "gate-io",
    "gateio-futures": "gate-io-futures",
    "htx": "huobi",
    "htx-coin-futures": "huobi-dm",
    "htx-coin-swap": "huobi-dm-swap",
    "htx-linear-swap": "huobi-dm-linear-swap",
    "kraken-futures": "cryptofacilities",
}
"""Its names of the catalogue's feeds where they differ; OKX has one a kind of instrument (`exchange_name`)."""

_DAY_US = 86_400_000_000
_US = pa.timestamp("us", tz="UTC")


class _File(NamedTuple):
    """What a file is for."""

    exchange: str
    dataset: str
    day: str
    symbol: str

    def name(self) -> str:
        """Its name, as its clients name downloads."""
        return f"{file_safe(self.exchange)}_{self.dataset}_{self.day}_{file_safe(self.symbol)}.csv.gz"


def exchange_name(feed: str, symbol: str) -> str:
    """Its name of the exchange: of a feed that it has no name for, the feed's."""
    if feed == "okx":
        # BTC-USDT; BTC-USDT-SWAP; BTC-USD-261225; BTC-USD-261225-60000-C
        parts = symbol.count("-")
        return "okex-swap" if symbol.endswith("-SWAP") else {2: "okex-futures", 4: "okex-options"}.get(parts, "okex")
    return EXCHANGES.get(feed, feed)


def to_tardis(rows: TableRows, out: Path, *, levels: int = 25) -> Outcome:
    """Write `EXCHANGE_DATASET_YYYY-MM-DD_SYMBOL.csv.gz` a dataset, day (UTC, of the arrival) and symbol.

    Rows keep their order, that of the hand-off. Memory does not grow with them.

    Args:
        rows: trades, quotes, book changes and snapshots, derivative tickers, liquidations.
        out: the folder.
        levels: levels a side of book snapshots.

    Raises:
        ExportError: two feeds have the same exchange and symbol there; or the same rows are there twice.

    """
    outcome = Outcome()
    writer = _Writer(outcome, levels)
    with CsvFiles(out) as files:
        for market in by_market(rows, TABLES, "tardis", outcome):
            writer.write(market, files)
        outcome.files += files.finish()
    writer.add_notes()
    return outcome


class _Writer:
    def __init__(self, outcome: Outcome, levels: int) -> None:
        self._outcome = outcome
        self._levels = levels
        self._owners: dict[tuple[str, str, str], str] = {}
        self._untimed: Counter[tuple[Table, str]] = Counter()
        self._filled = False
        # of (feed, session, symbol)
        self._tickers: dict[tuple[str, str, str], dict[str, pa.Scalar]] = {}

    def write(self, market: MarketRows, files: CsvFiles) -> None:
        """Add the rows of a symbol to its files."""
        market, columns = self._columns(market)
        count = market.rows.num_rows
        if not count:
            return
        dataset = DATASETS[market.table].format(levels=self._levels)
        exchange = exchange_name(market.feed, market.symbol)
        owner = self._owners.setdefault((dataset, exchange, market.symbol), market.feed)
        if owner != market.feed:
            raise ExportError(
                f"{dataset} of {market.symbol}: {owner} and {market.feed} are both {exchange} there: export one feed"
            )
        local = np.asarray(_microseconds(market.rows["recv_time"]))
        made = pa.RecordBatch.from_pydict(
            {
                "exchange": pa.array([exchange] * count),
                "symbol": pa.array([market.symbol] * count),
                "timestamp": self._timestamps(market),
                "local_timestamp": pa.array(local),
                **columns,
            }
        )
        days = local // _DAY_US
        for day in np.unique(days):
            text = str(np.datetime64(int(day), "D"))
            name = _File(exchange, dataset, text, market.symbol).name()
            files.add(name, made.filter(pa.array(days == day)))
        self._outcome.written[f"tardis {dataset}"] += count

    def add_notes(self) -> None:
        """Say what its format cannot."""
        if self._outcome.files:
            self._outcome.note("times are cut to microseconds")
        for (table, feed), rows in self._untimed.items():
            self._outcome.note(
                f"{table.value} of {feed}: {plural(rows, 'row has', 'rows have')} no time of the exchange: "
                "their `timestamp` is the local time"
            )
        if self._filled:
            self._outcome.note("derivative_ticker: a value that a message lacks is that of the last one that had it")

    def _timestamps(self, market: MarketRows) -> pa.Array:
        times = [market.rows["exchange_time"]]
        if market.table in (Table.TRADES, Table.LIQUIDATIONS):
            times.insert(0, market.rows["trade_time"])
        known = pc.coalesce(*times)
        if known.null_count:
            self._untimed[market.table, market.feed] += known.null_count
        return _microseconds(pc.coalesce(known, market.rows["recv_time"]))

    def _columns(self, market: MarketRows) -> tuple[MarketRows, dict[str, pa.Array]]:
        """Its columns after `local_timestamp`, and the rows that they are of."""
        if market.table is Table.BOOK_CHANGES:
            market = _levels(market, self._outcome)
        rows = market.rows
        if market.table is Table.BOOK_SNAPSHOTS:
            return market, _flat(rows, self._levels)
        if market.table is Table.DERIVATIVE_TICKER:
            return market, self._ticker(market)
        return market, _MAKERS[market.table](rows)

    def _ticker(self, market: MarketRows) -> dict[str, pa.Array]:
        columns = {"funding_timestamp": _microseconds(market.rows["next_funding_time"])}
        for name in (
            "funding_rate",
            "predicted_funding_rate",
            "open_interest",
            "last_price",
            "index_price",
            "mark_price",
        ):
            columns[name] = _text(market.rows[name])
        before = self._tickers.setdefault((market.feed, market.session, market.symbol), {})
        for name, column in columns.items():
            known = pa.concat_arrays([pa.array([before.get(name)], column.type), column])
            filled = pc.fill_null_forward(known)[1:]
            self._filled |= filled.null_count < column.null_count
            columns[name] = filled
            before[name] = filled[-1].as_py()
        return columns


def _levels(market: MarketRows, outcome: Outcome) -> MarketRows:
    """Whole levels, each of a side; without the rows that only say that a snapshot begins."""
    market = whole_levels(market, outcome)
    clear = pc.equal(market.rows["action"], "clear")
    empty = pc.and_(clear, market.rows["last"])
    market = keep(market, pc.invert(empty), "an empty snapshot, which it cannot say", outcome)
    begins = pc.equal(market.rows["action"], "clear")
    market = market._replace(rows=market.rows.filter(pc.invert(begins)))
    either = np.asarray(market.rows["side"].is_null())
    if not either.any():
        return market
    # a deletion whose side the exchange does not say: the price is on one of them alone
    places = np.repeat(np.arange(len(either)), np.where(either, 2, 1))
    second = np.diff(places, prepend=-1) == 0
    rows = market.rows.take(pa.array(places))
    sides = pc.if_else(pa.array(either[places]), pc.if_else(pa.array(second), "ask", "bid"), rows["side"])
    return market._replace(rows=rows.set_column(rows.schema.get_field_index("side"), "side", sides))


def _of_trades(rows: pa.RecordBatch) -> dict[str, pa.Array]:
    return {
        "id": rows["trade_id"],
        "side": pc.fill_null(rows["side"], "unknown"),
        "price": _text(rows["price"]),
        "amount": _text(rows["size"]),
    }


def _of_liquidations(rows: pa.RecordBatch) -> dict[str, pa.Array]:
    return {
        "id": rows["liquidation_id"],
        "side": pc.fill_null(rows["side"], "unknown"),
        "price": _text(pc.coalesce(rows["price"], rows["average_price"])),
        "amount": _text(rows["size"]),
    }


def _of_quotes(rows: pa.RecordBatch) -> dict[str, pa.Array]:
    names = {"ask_amount": "ask_size", "ask_price": "ask_price", "bid_price": "bid_price", "bid_amount": "bid_size"}
    return {name: _text(rows[column]) for name, column in names.items()}


def _of_book(rows: pa.RecordBatch) -> dict[str, pa.Array]:
    deletes = pc.equal(rows["action"], "delete")
    return {
        "is_snapshot": rows["is_snapshot"],
        "side": rows["side"],
        "price": _text(rows["price"]),
        "amount": pc.if_else(deletes, "0", _text(rows["size"])),
    }


_MAKERS: dict[Table, Callable[[pa.RecordBatch], dict[str, pa.Array]]] = {
    Table.TRADES: _of_trades,
    Table.LIQUIDATIONS: _of_liquidations,
    Table.QUOTES: _of_quotes,
    Table.BOOK_CHANGES: _of_book,
}


def _flat(rows: pa.RecordBatch, levels: int) -> dict[str, pa.Array]:
    """The levels as columns: `asks[0].price`, `asks[0].amount`, `bids[0].price`, ..; null where there is none."""
    columns = {}
    for level in range(levels):
        for side in ("ask", "bid"):
            for what, name in (("price", "price"), ("size", "amount")):
                columns[f"{side}s[{level}].{name}"] = _text(_nth(rows[f"{side}_{what}s"], level))
    return columns


def _nth(lists: pa.Array, number: int) -> pa.Array:
    """An element of each list; null where it has fewer."""
    lengths = np.asarray(pc.fill_null(pc.list_value_length(lists), 0))
    starts = np.cumsum(lengths) - lengths
    return lists.flatten().take(pa.array(starts + number, mask=lengths <= number))


def _cut(column: pa.Array) -> pa.Array:
    """Times in microseconds, the earlier one where they are between two."""
    return pc.floor_temporal(column, unit="microsecond").cast(_US)


def _microseconds(column: pa.Array) -> pa.Array:
    return _cut(column).cast(pa.int64())


def _text(column: pa.Array) -> pa.Array:
    """Numbers as their shortest digits."""
    if not pa.types.is_decimal(column.type):
        return column.cast(pa.string())
    return pa.array([None if value is None else _plain(value) for value in column.to_pylist()], pa.string())


def _plain(number: Decimal) -> str:
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
