"""Tables to hftbacktest's events: an `.npz` a symbol and day that its backtester runs.

Its data page (https://hftbacktest.readthedocs.io, "Data") asks for events in the order of both clocks: an event whose
turn differs is there twice, once for the exchange's processor and once for the local one (`in_both_orders`). No event
may arrive before it happened; where the recorder's clock was behind the exchange's, all local times of the feed are
shifted by as much, as its `correct_local_timestamp` does, and the outcome says by how much. How much that is depends
on the rows: several exports have one clock only if the user gives the same shift to all.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from wsrec.feed.table_columns import Table
from wsrec.other_tools.market_rows import NO_PRICE, MarketRows, by_market, keep, whole_levels
from wsrec.other_tools.outcome import ExportError, Outcome, TableRows, file_safe
from wsrec.other_tools.spool import Spool
from wsrec.tables.whole_file import whole_file
from wsrec.units import duration

TABLES = (Table.TRADES, Table.BOOK_CHANGES, Table.QUOTES)
"""The tables that have events."""
DEFAULT_TABLES = (Table.TRADES, Table.BOOK_CHANGES)
"""What its own conversions take: of a book with all its levels, the best ones are a repetition."""

DEPTH, TRADE, DEPTH_CLEAR, DEPTH_SNAPSHOT, DEPTH_BBO = 1, 2, 3, 4, 5
EXCH, LOCAL, BUY, SELL = 1 << 31, 1 << 30, 1 << 29, 1 << 28
EVENT_DTYPE = np.dtype(
    [
        ("ev", "u8"),
        ("exch_ts", "i8"),
        ("local_ts", "i8"),
        ("px", "f8"),
        ("qty", "f8"),
        ("order_id", "u8"),
        ("ival", "i8"),
        ("fval", "f8"),
    ]
)
"""Its `event_dtype` (hftbacktest/types.py, 2.4): times in ns."""

Events = npt.NDArray[Any]
"""Events of `EVENT_DTYPE`."""

_DAY_NS = 86_400_000_000_000
_KIND = 0xFF


class _Day(NamedTuple):
    """What a file is for."""

    feed: str
    symbol: str
    day: str


def to_hftbacktest(
    rows: TableRows,
    out: Path,
    *,
    exchange_offset: int | None = None,
    clock_shift: int | None = None,
    base_latency: int = 0,
) -> Outcome:
    """Write `FEED_SYMBOL_YYYYMMDD.npz` a symbol and day (UTC, of the arrival), with the events as `data`.

    In memory at once are one symbol's events of a day, several times; the others are on the disk in `out`.

    Args:
        rows: trades, book changes and quotes.
        out: the folder.
        exchange_offset: for rows without any time of the exchange: how long before their arrival they are taken to have
            happened (ns). None: they are refused.
        clock_shift: how much later all local times are than recorded (ns). None: what the rows of each feed need.
        base_latency: least latency (ns) after a shift of the local times that the rows need.

    Raises:
        ExportError: a row has no time of the exchange and there is no `exchange_offset`; or it arrives before it
            happened in spite of `clock_shift`; or the same rows are there twice.

    """
    outcome = Outcome()
    with Spool[_Day](out) as spool:
        intake = _Intake(spool, outcome, exchange_offset)
        for market in by_market(rows, TABLES, "hftbacktest", outcome):
            intake.add(market)
        if clock_shift is not None:
            _check_shift(clock_shift, intake.least)
            shift = dict.fromkeys(intake.least, clock_shift)
        else:
            shift = {feed: -latency + base_latency if latency < 0 else 0 for feed, latency in intake.least.items()}
        for key in sorted(spool.keys()):
            events = _events(spool.take(key))
            events["local_ts"] += shift[key.feed]
            path = out / f"{file_safe(key.feed)}_{file_safe(key.symbol)}_{key.day}.npz"
            ordered = in_both_orders(events)
            with whole_file(path) as unfinished:
                np.savez_compressed(unfinished, data=ordered)
            outcome.files.append(path)
            outcome.written["hftbacktest events"] += len(ordered)
    for feed, latency in intake.least.items():
        outcome.note(_latency_note(feed, latency, shift[feed], is_given=clock_shift is not None))
    return outcome


def in_both_orders(events: Events) -> Events:
    """Events in the order of both clocks, those whose turns differ twice: what its `correct_event_order` does.

    Both orders are walked at once. Where the next event of both is the same, it is there once, as `EXCH | LOCAL`. Else
    the earlier one, by exchange time and then by local time, is there for its own processor alone.

    Args:
        events: events without `EXCH` and `LOCAL`; those with equal times stay in their order.

    Returns:
        Between one and two times as many events.

    """
    events = events[np.argsort(events["local_ts"], kind="stable")]
    exchange = np.argsort(events["exch_ts"], kind="stable")
    rank = _ranks(events)
    newest = np.maximum.accumulate(rank)
    # an event has its turn in both orders, unless one that comes later by the exchange's clock was received before it
    both = rank == newest
    shared = np.bincount(rank[both], minlength=len(events) + 1)
    ranks = rank[exchange]
    nth = np.arange(len(ranks)) - np.searchsorted(ranks, ranks)
    alone = exchange[nth >= shared[ranks]]
    local = events.copy()
    local["ev"] |= np.where(both, np.uint64(EXCH | LOCAL), np.uint64(LOCAL))
    early = events[alone]
    early["ev"] |= np.uint64(EXCH)
    return np.insert(local, np.searchsorted(newest, rank[alone], side="right"), early)


def _ranks(events: Events) -> npt.NDArray[np.intp]:
    """The place of each event by exchange time and then by local time, from 0; of equal times the same."""
    order = np.lexsort((events["local_ts"], events["exch_ts"]))
    times = np.stack([events["exch_ts"][order], events["local_ts"][order]])
    ranks = np.empty(len(order), np.intp)
    ranks[order] = np.cumsum(np.any(np.diff(times, axis=1, prepend=times[:, :1]) != 0, axis=0))
    return ranks


def _check_shift(shift: int, least: dict[str, int]) -> None:
    for feed, latency in least.items():
        if latency + shift < 0:
            raise ExportError(
                f"--clock-shift: found {shift}, but {feed} needs at least {-latency} (ns), or messages would arrive "
                "before they happened: give the largest shift that your exports need"
            )


def _latency_note(feed: str, latency: int, shift: int, *, is_given: bool) -> str:
    least = f"{feed}: least latency {duration(latency)} ({latency:,} ns)"
    if not shift:
        return least
    shifted = f"all local times of {feed} are {shift:,} ns later than recorded"
    if is_given:
        return f"{least}: {shifted}, as --clock-shift says"
    return (
        f"{least}: the recorder's clock was behind the exchange's; {shifted}: other exports of the feed may "
        f"need another shift, and --clock-shift {shift} gives them this one"
    )


class _Intake:
    """Makes rows events in the spool, unsorted, by feed, symbol and day.

    Attributes:
        least: the least latency (ns) of each feed.

    """

    def __init__(self, spool: Spool[_Day], outcome: Outcome, exchange_offset: int | None) -> None:
        self.least: dict[str, int] = {}
        self._spool = spool
        self._outcome = outcome
        self._offset = exchange_offset
        self._sessions: dict[str, int] = {}

    def add(self, market: MarketRows) -> None:
        usable = _usable(market, self._outcome)
        if not usable.rows.num_rows:
            return
        local = usable.integers("recv_time")
        happened = self._happened(usable, local)
        latency = int((local - happened).min())
        self.least[market.feed] = min(self.least.get(market.feed, latency), latency)
        places, kinds, prices, sizes = _MAKERS[market.table](usable)
        session = self._sessions.setdefault(market.session, len(self._sessions))
        made = pa.RecordBatch.from_pydict(
            {
                "session": np.full(len(places), session),
                "seq": np.asarray(usable.rows["seq"])[places],
                "item": np.asarray(usable.rows["item"])[places],
                "ev": kinds,
                "exch_ts": happened[places],
                "local_ts": local[places],
                "px": prices,
                "qty": sizes,
            }
        )
        days = local[places] // _DAY_NS
        for day in np.unique(days):
            text = str(np.datetime64(int(day), "D")).replace("-", "")
            self._spool.add(_Day(market.feed, market.symbol, text), made.filter(pa.array(days == day)))

    def _happened(self, market: MarketRows, local: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The exchange's time of each row."""
        times = market.match_time()
        if times.null_count and self._offset is None:
            missing = pc.index(times.is_null(), True).as_py()
            raise ExportError(
                f"{market.table.value} of {market.feed}, channel {market.rows['channel'][missing]}: no time of the "
                f"exchange (seq {market.rows['seq'][missing]}), which hftbacktest cannot do without: "
                "--exchange-offset TIME takes such rows to have happened that long before they arrived, or leave the "
                "channel out with --channels"
            )
        if times.null_count:
            assert self._offset is not None
            self._outcome.note(
                f"{market.table.value} of {market.feed}: rows without a time of the exchange are taken to have "
                f"happened {duration(self._offset)} before they arrived"
            )
        assumed = pa.array(local - (self._offset or 0))
        return np.asarray(pc.coalesce(times, assumed))


def _usable(market: MarketRows, outcome: Outcome) -> MarketRows:
    rows = market.rows
    if market.table is Table.TRADES:
        return keep(market, pc.and_(rows["price"].is_valid(), rows["size"].is_valid()), NO_PRICE, outcome)
    if market.table is Table.QUOTES:
        some = pc.or_(*(pc.and_(rows[f"{side}_price"].is_valid(), rows[f"{side}_size"].is_valid()) for side in _BEST))
        return keep(market, some, NO_PRICE, outcome)
    return whole_levels(market, outcome)


_BEST = ("bid", "ask")
_Made = tuple[npt.NDArray[np.intp], npt.NDArray[np.uint64], npt.NDArray[np.float64], npt.NDArray[np.float64]]


def _of_trades(market: MarketRows) -> _Made:
    rows = market.rows
    kinds = np.uint64(TRADE) | _sides(rows["side"], ("buy", "sell"))
    return np.arange(len(kinds)), kinds, _numbers(rows["price"]), _numbers(rows["size"])


def _of_quotes(market: MarketRows) -> _Made:
    """Two events a row, of the best bid and the best ask; none of a side without a quote."""
    rows = market.rows
    prices, sizes = (
        np.stack([_numbers(rows[f"{side}_{what}"]) for side in _BEST], axis=1).ravel() for what in ("price", "size")
    )
    there = ~np.isnan(prices) & ~np.isnan(sizes)
    kinds = np.tile(np.array([DEPTH_BBO | BUY, DEPTH_BBO | SELL], np.uint64), rows.num_rows)
    places = np.repeat(np.arange(rows.num_rows), 2)
    return places[there], kinds[there], prices[there], sizes[there]


def _of_book(market: MarketRows) -> _Made:
    """An event a level; two of a deletion whose side the exchange does not say: the price is on one of them alone."""
    rows = market.rows
    action = rows["action"]
    sides = _sides(rows["side"], _BEST)
    clear, delete = (np.asarray(pc.equal(action, word)) for word in ("clear", "delete"))
    snapshot = np.asarray(rows["is_snapshot"]) & ~delete
    kinds = np.where(clear, DEPTH_CLEAR, np.where(snapshot, DEPTH_SNAPSHOT, DEPTH)).astype(np.uint64)
    prices = np.where(clear, 0.0, _numbers(rows["price"]))
    sizes = np.where(clear | delete, 0.0, _numbers(rows["size"]))
    either = delete & (sides == 0)
    places = np.repeat(np.arange(rows.num_rows), np.where(either, 2, 1))
    second = np.diff(places, prepend=-1) == 0
    either = either[places]
    sides = np.where(either, np.where(second, np.uint64(SELL), np.uint64(BUY)), sides[places])
    return places, kinds[places] | sides, prices[places], sizes[places]


_MAKERS = {Table.TRADES: _of_trades, Table.QUOTES: _of_quotes, Table.BOOK_CHANGES: _of_book}


def _sides(column: pa.Array, words: tuple[str, str]) -> npt.NDArray[np.uint64]:
    """BUY, SELL, or 0 where it is null."""
    which = pc.fill_null(pc.index_in(column, pa.array(words)), 2)
    sides: npt.NDArray[np.uint64] = np.array([BUY, SELL, 0], np.uint64)[np.asarray(which)]
    return sides


def _numbers(column: pa.Array) -> npt.NDArray[np.float64]:
    """Doubles; NaN for null."""
    return np.asarray(column.cast(pa.float64(), safe=False).fill_null(float("nan")))


def _events(rows: pa.Table) -> Events:
    """The events of a day in the order of the messages.

    A snapshot is a `DEPTH_CLEAR` of no side, which clears both wholly, and its levels: those of a side clear up to a
    price only (its `clear_depth`), and what lay beyond the snapshot's last level would stay in the book.
    """
    columns = {name: np.asarray(rows[name]) for name in rows.column_names}
    # of a message with trades and levels the trades come first: a level that they took is then not taken twice
    kind = columns["ev"] & np.uint64(_KIND)
    first = np.where(kind == TRADE, 0, np.where(kind == DEPTH_BBO, 2, 1))
    order = np.lexsort((columns["item"], first, columns["seq"], columns["session"]))
    events = np.zeros(len(order), EVENT_DTYPE)
    for name in ("ev", "exch_ts", "local_ts", "px", "qty"):
        events[name] = columns[name][order]
    return events
