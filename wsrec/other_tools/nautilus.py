"""Tables to a catalogue of nautilus_trader: trades, quotes and book deltas as its `ParquetDataCatalog` reads them.

    OUT/data/trade_tick/BTCUSDT.BINANCE/FIRST_LAST.parquet

The files are those that its own writer makes (nautilus_trader 1.221, in 128 bits, as all its wheels for Linux are):
prices and sizes as integers of 16 bytes, little-endian, scaled by 10^16, the instrument and its decimals in the
metadata. Arrow's decimal128(38, 16) is the same bytes, so it takes no package of theirs to write them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from wsrec.feed.table_columns import Table
from wsrec.other_tools.market_rows import NO_PRICE, MarketRows, by_market, keep, whole_levels
from wsrec.other_tools.outcome import ExportError, Outcome, TableRows
from wsrec.other_tools.spool import Spool
from wsrec.tables.claimed import remove_abandoned
from wsrec.tables.whole_file import UNFINISHED, whole_file
from wsrec.units import clean, duration, plural

TABLES = (Table.TRADES, Table.QUOTES, Table.BOOK_CHANGES)
"""The tables that it has types for."""
DEFAULT_TABLES = TABLES
"""What is exported if the user names none."""

DECIMALS = 16
"""Most decimals of a price or size (`FIXED_PRECISION`)."""
_FIXED = pa.decimal128(38, DECIMALS)
_RAW = pa.binary(16)
# its PRICE_MAX and QUANTITY_MAX
_LARGEST = {"price": 17_014_118_346_046, "size": 34_028_236_692_093}
_LONGEST_TRADE_ID = 36
_LONGEST_NAME = 255
_ROW_GROUP = 65_536
_SNAPSHOT, _LAST = 32, 128
_ADD, _UPDATE, _DELETE, _CLEAR = 1, 2, 3, 4
_SIDES = {"bid": 1, "ask": 2}
_AGGRESSORS = {"buy": 1, "sell": 2}

_NO_TIME = "no time of the exchange, which it needs as `ts_event` (--exchange-offset TIME assumes one)"
_UNFIT = f"more than {DECIMALS} decimals, or out of its range"


class _Kind(NamedTuple):
    """A type of its data.

    Attributes:
        folder: its folder in the catalogue.
        numbers: its columns with prices and sizes, and which they are.
        columns: all its columns.

    """

    folder: str
    numbers: dict[str, str]
    columns: dict[str, pa.DataType]


_TIMES = {"ts_event": pa.uint64(), "ts_init": pa.uint64()}
_KINDS = {
    Table.TRADES: _Kind(
        "trade_tick",
        {"price": "price", "size": "size"},
        {"price": _RAW, "size": _RAW, "aggressor_side": pa.uint8(), "trade_id": pa.string(), **_TIMES},
    ),
    Table.QUOTES: _Kind(
        "quote_tick",
        {"bid_price": "price", "ask_price": "price", "bid_size": "size", "ask_size": "size"},
        {"bid_price": _RAW, "ask_price": _RAW, "bid_size": _RAW, "ask_size": _RAW, **_TIMES},
    ),
    Table.BOOK_CHANGES: _Kind(
        "order_book_delta",
        {"price": "price", "size": "size"},
        {
            "action": pa.uint8(),
            "side": pa.uint8(),
            "price": _RAW,
            "size": _RAW,
            "order_id": pa.uint64(),
            "flags": pa.uint8(),
            "sequence": pa.uint64(),
            **_TIMES,
        },
    ),
}


class _Key(NamedTuple):
    table: Table
    instrument: str


def to_nautilus(
    rows: TableRows,
    out: Path,
    *,
    exchange_offset: int | None = None,
    venues: Mapping[str, str] | None = None,
    decimals: Mapping[tuple[str, str], tuple[int, int]] | None = None,
) -> Outcome:
    """Write a catalogue, or add to one: a file of the same instrument, first and last time is replaced.

    An instrument is `SYMBOL.FEED` in the exchange's and the feed's words (`BTCUSDT.BINANCE`). Prices and sizes have as
    many decimals as `decimals` says, or as the instrument's most detailed ones in these rows. `ts_event` is the match's
    time, else the message's; `ts_init` is the arrival. A trade without an id gets `SEQ-ITEM`.

    In memory at once are the rows of one instrument and type; the others are on the disk in `out`.

    Args:
        rows: trades, quotes and book changes.
        out: the folder that `ParquetDataCatalog` is opened with.
        exchange_offset: for rows without any time of the exchange: how long before their arrival they are taken to have
            happened (ns). None: they are left out.
        venues: the venue of a feed, where it is not the feed's name in capitals.
        decimals: decimals of (prices, sizes) of an instrument by (feed, symbol), where they are known; read after the
            rows. The files have no fewer.

    Raises:
        ExportError: two symbols have the same folder; or the catalogue has rows of the same time already; or the same
            rows are there twice.

    """
    outcome = Outcome()
    with Spool[_Key](out) as spool:
        intake = _Intake(spool, outcome, exchange_offset, venues or {})
        for market in by_market(rows, TABLES, "nautilus", outcome):
            intake.add(market)
        for instrument, found in intake.decimals.items():
            for what, known in zip(found, (decimals or {}).get(intake.owners[instrument], (0, 0)), strict=True):
                found[what] = max(found[what], known)
        replaced = 0
        for key in sorted(spool.keys()):
            table = _ordered(spool.take(key), key.table)
            path, was_there = _write(table, out, key, intake.decimals[key.instrument])
            replaced += was_there
            outcome.files.append(path)
            outcome.written[f"nautilus {_KINDS[key.table].folder}"] += table.num_rows
    if replaced:
        outcome.note(
            f"{plural(replaced, 'file')} of the catalogue had the same instrument, first and last time: replaced, "
            "none is there twice"
        )
    return outcome


class _Intake:
    """Makes rows its data in the spool.

    Attributes:
        decimals: the decimals of the prices and sizes of each instrument.
        owners: feed and symbol of each instrument.

    """

    def __init__(
        self,
        spool: Spool[_Key],
        outcome: Outcome,
        exchange_offset: int | None,
        venues: Mapping[str, str],
    ) -> None:
        self.decimals: dict[str, dict[str, int]] = {}
        self.owners: dict[str, tuple[str, str]] = {}
        self._spool = spool
        self._outcome = outcome
        self._offset = exchange_offset
        self._venues = venues
        self._sessions: dict[str, int] = {}
        self._folders: dict[str, tuple[str, str]] = {}

    def add(self, market: MarketRows) -> None:
        instrument = self._instrument(market)
        usable = _usable(self._with_times(market), self._outcome)
        usable, numbers = self._with_numbers(usable)
        if not usable.rows.num_rows:
            return
        self.owners[instrument] = market.feed, market.symbol
        found = self.decimals.setdefault(instrument, {"price": 0, "size": 0})
        kind = _KINDS[market.table]
        for name, what in kind.numbers.items():
            found[what] = _decimals(numbers[name], found[what])
        columns = _MAKERS[market.table](usable.rows, numbers)
        session = self._sessions.setdefault(market.session, len(self._sessions))
        columns |= {
            "session": pa.array(np.full(usable.rows.num_rows, session)),
            "seq": usable.rows["seq"],
            "item": usable.rows["item"],
            "ts_event": usable.rows["ts_event"].cast(pa.uint64()),
            "ts_init": usable.rows["recv_time"].cast(pa.int64()).cast(pa.uint64()),
        }
        made = pa.RecordBatch.from_pydict(columns)
        if market.table is Table.BOOK_CHANGES:
            made = _both_sides(made)
        self._spool.add(_Key(market.table, instrument), made)

    def _instrument(self, market: MarketRows) -> str:
        instrument = f"{_OTHERS.sub('_', market.symbol)}.{self._venues.get(market.feed, market.feed.upper())}"
        folder = instrument.replace("/", "")
        if not market.symbol or len(folder.encode()) > _LONGEST_NAME:
            raise ExportError(
                f"symbol {clean(market.symbol, 60)!r} of {market.feed}: no instrument of nautilus can have this name; "
                "leave it out with --symbols"
            )
        owner = self._folders.setdefault(folder, (market.feed, market.symbol))
        if owner != (market.feed, market.symbol):
            raise ExportError(
                f"{clean(owner[1], 60)} of {owner[0]} and {clean(market.symbol, 60)} of {market.feed} have the same "
                f"folder in a catalogue, {folder}: export one of them with --symbols"
            )
        if _OTHERS.search(market.symbol):
            self._outcome.note(
                f"{clean(market.symbol, 60)} of {market.feed} is {instrument}: a catalogue cannot be queried for "
                "other characters than letters, digits and `-_./`"
            )
        return instrument

    def _with_times(self, market: MarketRows) -> MarketRows:
        """With a column `ts_event`, without the rows that have no time."""
        times = market.match_time()
        if self._offset is not None and times.null_count:
            times = pc.coalesce(times, pa.array(market.integers("recv_time") - self._offset))
            self._outcome.note(
                f"{market.table.value} of {market.feed}: rows without a time of the exchange are taken to have "
                f"happened {duration(self._offset)} before they arrived"
            )
        timed = market._replace(rows=market.rows.append_column("ts_event", times))
        if market.table is Table.BOOK_CHANGES:
            begins = pc.and_(pc.equal(market.rows["action"], "clear"), times.is_null())
            if pc.any(begins).as_py():
                raise ExportError(
                    f"book_changes of {market.feed}, channel {market.rows['channel'][0]}: snapshots have no time of "
                    "the exchange, which nautilus needs, and without them the changes make no book: --exchange-offset "
                    "TIME assumes one, or --tables trades,quotes leaves them out"
                )
        return keep(timed, pc.greater_equal(times, 0), _NO_TIME, self._outcome)

    def _with_numbers(self, market: MarketRows) -> tuple[MarketRows, dict[str, pa.Array]]:
        """Prices and sizes as `_FIXED`, without the rows of which one does not fit; 0 where there is none."""
        kind = _KINDS[market.table]
        numbers = {name: _fixed(market.rows[name], what) for name, what in kind.numbers.items()}
        fits = pa.array(np.ones(market.rows.num_rows, np.bool_))
        for name, column in numbers.items():
            fits = pc.and_(fits, pc.or_(column.is_valid(), market.rows[name].is_null()))
        kept = keep(market, fits, _UNFIT, self._outcome)
        zero = pa.scalar(0, pa.int64()).cast(_FIXED)
        return kept, {name: pc.fill_null(column.filter(fits), zero) for name, column in numbers.items()}


# its query names a table of the instrument (persistence/catalog/parquet.py)
_OTHERS = re.compile(r"[^\w\-./]")


def _usable(market: MarketRows, outcome: Outcome) -> MarketRows:
    rows = market.rows
    if market.table is Table.BOOK_CHANGES:
        return whole_levels(market, outcome)
    if market.table is Table.QUOTES:
        whole = pa.array(np.ones(rows.num_rows, np.bool_))
        for name in _KINDS[Table.QUOTES].numbers:
            whole = pc.and_(whole, rows[name].is_valid())
        return keep(market, whole, "a side without a quote, which it cannot say", outcome)
    market = keep(market, pc.and_(rows["price"].is_valid(), rows["size"].is_valid()), NO_PRICE, outcome)
    market = keep(market, pc.not_equal(market.rows["size"].cast(pa.float64(), safe=False), 0), "a size of 0", outcome)
    ids = pc.fill_null(market.rows["trade_id"], "-")
    fits = pc.match_substring_regex(ids, f"^[!-~]{{1,{_LONGEST_TRADE_ID}}}$")
    return keep(market, fits, f"a trade id that is not 1 to {_LONGEST_TRADE_ID} ASCII characters", outcome)


def _fixed(column: pa.Array, what: str) -> pa.Array:
    """Numbers as `_FIXED`, by the shortest digits of doubles; null where they do not fit."""
    if pa.types.is_decimal(column.type):
        text = column
    else:
        size = pc.abs(column)
        # Arrow reads 6e-232 as 0, without an error
        sane = pc.or_(pc.equal(size, 0), pc.and_(pc.greater_equal(size, 1e-16), pc.less(size, 1e16)))
        text = pc.if_else(sane, column, None).cast(pa.string())
    try:
        fixed = text.cast(_FIXED)
    except pa.ArrowInvalid:
        fixed = pa.array([_one_fixed(value) for value in text], _FIXED)
    largest = pa.scalar(_LARGEST[what]).cast(_FIXED)
    least = pc.negate(largest) if what == "price" else pa.scalar(0).cast(_FIXED)
    within = pc.and_(pc.less_equal(fixed, largest), pc.greater_equal(fixed, least))
    return pc.if_else(within, fixed, pa.scalar(None, _FIXED))


def _one_fixed(value: pa.Scalar) -> Any:
    try:
        return value.cast(_FIXED).as_py()
    except pa.ArrowInvalid:
        return None


def _decimals(column: pa.Array, least: int) -> int:
    """The most decimals of any number, at least `least`."""
    for decimals in range(least, DECIMALS):
        try:
            column.cast(pa.decimal128(38, decimals))
        except pa.ArrowInvalid:
            continue
        return decimals
    return DECIMALS


_Columns = dict[str, pa.Array]


def _of_trades(rows: pa.RecordBatch, numbers: _Columns) -> _Columns:
    made = pc.binary_join_element_wise(rows["seq"].cast(pa.string()), rows["item"].cast(pa.string()), "-")
    return {
        **numbers,
        "aggressor_side": _codes(rows["side"], _AGGRESSORS),
        "trade_id": pc.coalesce(rows["trade_id"], made),
    }


def _of_quotes(rows: pa.RecordBatch, numbers: _Columns) -> _Columns:
    return dict(numbers)


def _of_book(rows: pa.RecordBatch, numbers: _Columns) -> _Columns:
    snapshot = np.asarray(rows["is_snapshot"])
    clear, delete = (np.asarray(pc.equal(rows["action"], word)) for word in ("clear", "delete"))
    actions = np.select([clear, delete, snapshot], [_CLEAR, _DELETE, _ADD], _UPDATE).astype(np.uint8)
    update_id = pc.fill_null(rows["update_id"], 0)
    return {
        **numbers,
        "action": pa.array(actions),
        "side": _codes(rows["side"], _SIDES),
        "order_id": pa.array(np.zeros(rows.num_rows, np.uint64)),
        "flags": pa.array(np.where(snapshot | clear, np.uint8(_SNAPSHOT), np.uint8(0))),
        "sequence": pc.max_element_wise(update_id, 0).cast(pa.uint64()),
    }


_MAKERS = {Table.TRADES: _of_trades, Table.QUOTES: _of_quotes, Table.BOOK_CHANGES: _of_book}


def _codes(column: pa.Array, numbers: dict[str, int]) -> pa.Array:
    """The number of each word; 0 for null."""
    which = pc.fill_null(pc.index_in(column, pa.array(list(numbers))), len(numbers))
    return pa.array(np.array([*numbers.values(), 0], np.uint8)[np.asarray(which)])


def _both_sides(deltas: pa.RecordBatch) -> pa.RecordBatch:
    """Of a deletion whose side the exchange does not say one a side: the price is on one of them alone."""
    either = (np.asarray(deltas["action"]) == _DELETE) & (np.asarray(deltas["side"]) == 0)
    if not either.any():
        return deltas
    places = np.repeat(np.arange(len(either)), np.where(either, 2, 1))
    second = np.diff(places, prepend=-1) == 0
    twice = deltas.take(pa.array(places))
    sides = np.where(either[places], np.where(second, 2, 1), np.asarray(twice["side"])).astype(np.uint8)
    return twice.set_column(twice.schema.get_field_index("side"), "side", pa.array(sides))


def _ordered(rows: pa.Table, table: Table) -> pa.Table:
    """Its data in the order of arrival; of each message's deltas the last one is marked."""
    keys = [np.asarray(rows[name]) for name in ("item", "seq", "session", "ts_init")]
    order = np.lexsort(keys)
    rows = rows.take(pa.array(order)).combine_chunks()
    if table is not Table.BOOK_CHANGES:
        return rows
    seq, session = keys[1][order], keys[2][order]
    last = np.append((seq[1:] != seq[:-1]) | (session[1:] != session[:-1]), True)
    flags = np.asarray(rows["flags"]) | np.where(last, np.uint8(_LAST), np.uint8(0))
    return rows.set_column(rows.schema.get_field_index("flags"), "flags", pa.array(flags))


def _write(rows: pa.Table, out: Path, key: _Key, decimals: dict[str, int]) -> tuple[Path, bool]:
    """Write a file of the catalogue; returns its path, and whether it takes the place of one."""
    kind = _KINDS[key.table]
    folder = out / "data" / kind.folder / key.instrument.replace("/", "")
    folder.mkdir(parents=True, exist_ok=True)
    first, last = (_as_name(rows["ts_init"][place].as_py()) for place in (0, -1))
    path = folder / f"{first}_{last}.parquet"
    remove_abandoned(folder, f".*{UNFINISHED}.parquet")
    for other in folder.glob("[!.]*_*.parquet"):
        begin, end = other.stem.split("_", 1)
        if other != path and begin <= last and first <= end:
            raise ExportError(f"{other} is of the same time, and a catalogue has each time once: give another --out")
    metadata = {
        "instrument_id": key.instrument,
        "price_precision": str(decimals["price"]),
        "size_precision": str(decimals["size"]),
    }
    schema = pa.schema([pa.field(name, each, nullable=False) for name, each in kind.columns.items()], metadata)
    columns = [_raw(rows[name]) if name in kind.numbers else rows[name] for name in kind.columns]
    was_there = path.exists()
    with whole_file(path) as unfinished:
        pq.write_table(pa.table(columns, schema), unfinished, compression="zstd", row_group_size=_ROW_GROUP)
    return path, was_there


def _raw(column: pa.ChunkedArray) -> pa.Array:
    """The bytes of `_FIXED` numbers."""
    numbers = column.combine_chunks()
    return pa.FixedSizeBinaryArray.from_buffers(_RAW, len(numbers), [None, numbers.buffers()[1]], 0, numbers.offset)


def _as_name(time: int) -> str:
    """A time (ns since the epoch) as its file names have it: `2026-11-22T13-00-00-000000000Z`."""
    return str(np.datetime64(time, "ns")).replace(":", "-").replace(".", "-") + "Z"
