"""wsrec.other_tools.hftbacktest: the events that its backtester gets, against ones worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tables.table_batches import MS, START, batch, book
from wsrec.feed.table_columns import Table
from wsrec.other_tools.hftbacktest import (
    BUY,
    DEPTH,
    DEPTH_BBO,
    DEPTH_CLEAR,
    DEPTH_SNAPSHOT,
    EVENT_DTYPE,
    EXCH,
    LOCAL,
    SELL,
    TRADE,
    in_both_orders,
    to_hftbacktest,
)
from wsrec.other_tools.outcome import ExportError

BOTH = EXCH | LOCAL


def events_of(path: Path) -> list[tuple[int, int, int, float, float]]:
    """(ev, exch_ts, local_ts, px, qty) an event; the times since START, in ms."""
    data = np.load(path)["data"]
    assert data.dtype == EVENT_DTYPE
    return [
        (int(ev), (int(exch) - START) / MS, (int(local) - START) / MS, px, qty)
        for ev, exch, local, px, qty, *_ in data.tolist()
    ]


def test_trades(tmp_path: Path) -> None:
    sides = ("buy", "sell", None)
    rows = batch(Table.TRADES, *({"side": side, "price": 5.5, "size": 2.0} for side in sides))
    outcome = to_hftbacktest([rows], tmp_path)
    assert [path.name for path in outcome.files] == ["binance_BTCUSDT_20261122.npz"]
    assert events_of(outcome.files[0]) == [
        (BOTH | TRADE | BUY, -5, 0, 5.5, 2),
        (BOTH | TRADE | SELL, -4, 1, 5.5, 2),
        (BOTH | TRADE, -3, 2, 5.5, 2),
    ]
    assert list(tmp_path.iterdir()) == outcome.files, "nothing else is left there"
    assert list(outcome.lines()) == [
        "hftbacktest events: 3 written",
        "binance: least latency 5.00 ms (5,000,000 ns)",
    ]


def test_the_time_of_the_match_comes_before_that_of_the_message(tmp_path: Path) -> None:
    rows = batch(Table.TRADES, {"side": "buy", "price": 1.0, "size": 1.0, "trade_time": START - 7 * MS})
    assert events_of(to_hftbacktest([rows], tmp_path).files[0])[0][1] == -7


def test_a_snapshot_clears_the_whole_book_whatever_was_beyond_its_levels(tmp_path: Path) -> None:
    before = book(0, ("set", "bid", 80.0, 1.0), ("set", "ask", 130.0, 1.0))
    snapshot = book(
        1,
        ("clear", None, None, None),
        ("set", "bid", 100.0, 2.0),
        ("set", "bid", 99.0, 3.0),
        ("set", "ask", 101.0, 4.0),
        is_snapshot=True,
    )
    changes = book(2, ("set", "bid", 99.5, 1.0), ("delete", "ask", 101.0, 0.0))
    found = events_of(to_hftbacktest([batch(Table.BOOK_CHANGES, *before, *snapshot, *changes)], tmp_path).files[0])
    assert [(ev & ~BOTH, px, qty) for ev, _, _, px, qty in found] == [
        (DEPTH | BUY, 80.0, 1),
        (DEPTH | SELL, 130.0, 1),
        (DEPTH_CLEAR, 0.0, 0),
        (DEPTH_SNAPSHOT | BUY, 100.0, 2),
        (DEPTH_SNAPSHOT | BUY, 99.0, 3),
        (DEPTH_SNAPSHOT | SELL, 101.0, 4),
        (DEPTH | BUY, 99.5, 1),
        (DEPTH | SELL, 101.0, 0),
    ]
    assert kept_levels(found) == {(BUY, 100.0): 2, (BUY, 99.0): 3, (BUY, 99.5): 1}


def kept_levels(events: list[tuple[int, int, int, float, float]]) -> dict[tuple[int, float], float]:
    """The book after events that clear all of it, or set a level."""
    levels: dict[tuple[int, float], float] = {}
    for ev, _, _, px, qty in events:
        if ev & ~BOTH == DEPTH_CLEAR:
            levels.clear()
        else:
            levels[ev & (BUY | SELL), px] = qty
    return {level: qty for level, qty in levels.items() if qty}


def test_of_two_snapshots_and_changes_in_a_message_each_comes_in_its_turn(tmp_path: Path) -> None:
    first = book(0, ("clear", None, None, None), ("set", "bid", 1.0, 1.0), is_snapshot=True)
    second = book(0, ("clear", None, None, None), ("set", "ask", 3.0, 1.0), is_snapshot=True)
    change = book(0, ("set", "bid", 2.0, 1.0))
    rows = [{**row, "item": item} for item, row in enumerate([*first, *second, *change])]
    events = events_of(to_hftbacktest([batch(Table.BOOK_CHANGES, *rows)], tmp_path).files[0])
    assert [(ev & ~BOTH, px) for ev, _, _, px, _ in events] == [
        (DEPTH_CLEAR, 0.0),
        (DEPTH_SNAPSHOT | BUY, 1.0),
        (DEPTH_CLEAR, 0.0),
        (DEPTH_SNAPSHOT | SELL, 3.0),
        (DEPTH | BUY, 2.0),
    ]


def test_a_deletion_of_no_side_is_of_both(tmp_path: Path) -> None:
    rows = batch(Table.BOOK_CHANGES, *book(0, ("delete", None, 3.0, None), ("set", "ask", 4.0, 1.0)))
    events = events_of(to_hftbacktest([rows], tmp_path).files[0])
    assert [(ev & ~BOTH, px, qty) for ev, _, _, px, qty in events] == [
        (DEPTH | BUY, 3, 0),
        (DEPTH | SELL, 3, 0),
        (DEPTH | SELL, 4, 1),
    ]


def test_quotes_are_the_best_levels(tmp_path: Path) -> None:
    one = {"bid_price": 1.0, "bid_size": 2.0, "ask_price": 3.0, "ask_size": 4.0}
    rows = batch(Table.QUOTES, one, {"ask_price": 3.0, "ask_size": 5.0})
    events = events_of(to_hftbacktest([rows], tmp_path).files[0])
    assert [(ev & ~BOTH, px, qty) for ev, _, _, px, qty in events] == [
        (DEPTH_BBO | BUY, 1, 2),
        (DEPTH_BBO | SELL, 3, 4),
        (DEPTH_BBO | SELL, 3, 5),
    ]


def test_an_event_whose_turn_differs_is_there_for_each_clock(tmp_path: Path) -> None:
    late = {"seq": 0, "recv_time": START + 9 * MS, "exchange_time": START}
    soon = {"seq": 1, "recv_time": START + 8 * MS, "exchange_time": START + 1 * MS}
    rows = batch(Table.TRADES, *({"price": 1.0, "size": 1.0} | row for row in (late, soon)))
    assert [event[:3] for event in events_of(to_hftbacktest([rows], tmp_path).files[0])] == [
        (EXCH | TRADE, 0, 9),
        (BOTH | TRADE, 1, 8),
        (LOCAL | TRADE, 0, 9),
    ]


def walked(events: np.ndarray) -> list[tuple[int, int, int, int]]:
    """The rule of its data page, step by step: (flags, exch_ts, local_ts, order_id)."""
    by_local = sorted(events.tolist(), key=lambda event: event[2])
    by_exchange = sorted(by_local, key=lambda event: event[1])
    found = []
    while by_local or by_exchange:
        first = by_exchange[0][1:3] if by_exchange else None
        second = by_local[0][1:3] if by_local else None
        if first == second:
            flags, taken = BOTH, by_exchange.pop(0)
            assert by_local.pop(0) == taken
        elif second is None or (first is not None and first < second):
            flags, taken = EXCH, by_exchange.pop(0)
        else:
            flags, taken = LOCAL, by_local.pop(0)
        found.append((flags, taken[1], taken[2], taken[5]))
    return found


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=25))
def test_both_orders_are_walked_at_once(times: list[tuple[int, int]]) -> None:
    events = np.zeros(len(times), EVENT_DTYPE)
    events["exch_ts"], events["local_ts"] = np.array(times).T
    events["order_id"] = np.arange(len(times))
    found = in_both_orders(events)
    assert [(ev & BOTH, exch, local, place) for ev, exch, local, _, _, place, *_ in found.tolist()] == walked(events)
    assert np.all(np.diff(found["exch_ts"][found["ev"] & EXCH != 0]) >= 0)
    assert np.all(np.diff(found["local_ts"][found["ev"] & LOCAL != 0]) >= 0)


def test_a_clock_that_was_behind_is_shifted_for_the_whole_feed_and_it_is_said(tmp_path: Path) -> None:
    rows = [
        {"price": 1.0, "size": 1.0, "symbol": symbol, "exchange_time": START + ahead * MS}
        for symbol, ahead in (("A", 30), ("B", -10))
    ]
    outcome = to_hftbacktest([batch(Table.TRADES, *rows)], tmp_path, base_latency=2 * MS)
    assert [event[1:3] for path in outcome.files for event in events_of(path)] == [(30, 32), (-10, 33)]
    assert outcome.notes == [
        "binance: least latency -30.0 ms (-30,000,000 ns): the recorder's clock was behind the exchange's; all local "
        "times of binance are 32,000,000 ns later than recorded: other exports of the feed may need another shift, and "
        "--clock-shift 32000000 gives them this one"
    ]


def test_separate_exports_have_one_clock_with_a_given_shift(tmp_path: Path) -> None:
    def rows(symbol: str, ahead: int) -> tuple[Table, pa.RecordBatch]:
        time = START + ahead * MS
        return batch(Table.TRADES, {"price": 1.0, "size": 1.0, "symbol": symbol, "exchange_time": time})

    shifted = [
        to_hftbacktest([rows(symbol, ahead)], tmp_path, clock_shift=30 * MS) for symbol, ahead in (("A", 30), ("B", 7))
    ]
    assert [event[2] for outcome in shifted for event in events_of(outcome.files[0])] == [30, 30]
    assert "are 30,000,000 ns later than recorded, as --clock-shift says" in shifted[1].notes[0]
    with pytest.raises(ExportError, match="--clock-shift: found 29999999, but binance needs at least 30000000"):
        to_hftbacktest([rows("A", 30)], tmp_path / "no", clock_shift=30 * MS - 1)
    assert not list((tmp_path / "no").iterdir())


def test_no_time_of_the_exchange_is_made_up(tmp_path: Path) -> None:
    rows = batch(Table.TRADES, {"price": 1.0, "size": 1.0, "exchange_time": None, "seq": 7})
    with pytest.raises(ExportError, match=r"trades of binance, channel trade: no time .* \(seq 7\).*--exchange-offset"):
        to_hftbacktest([rows], tmp_path)
    assert not list(tmp_path.iterdir())
    outcome = to_hftbacktest([rows], tmp_path, exchange_offset=3 * MS)
    assert events_of(outcome.files[0]) == [(BOTH | TRADE, 4, 7, 1, 1)]
    assert "rows without a time of the exchange are taken to have happened 3.00 ms before they arrived" in str(outcome)


def test_what_is_left_out_is_counted_by_reason(tmp_path: Path) -> None:
    trades = batch(
        Table.TRADES,
        {"price": 1.0, "size": 1.0},
        {"price": 1.0, "size": 1.0, "state": "history"},
        {"price": None, "size": 1.0},
        {"price": 1.0, "size": 1.0, "state": "suspect"},
    )
    changes = batch(Table.BOOK_CHANGES, *book(9, ("set", None, 1.0, 1.0), ("set", "bid", None, 1.0)))
    outcome = to_hftbacktest([trades, changes, batch(Table.CANDLES, {"interval": "1m"})], tmp_path)
    assert outcome.written == {"hftbacktest events": 2}
    assert outcome.left_out == {
        ("trades", "sent again on subscribing, or a second copy from an overlapping connection (state `history`)"): 1,
        ("trades", "no price or size"): 1,
        ("book_changes", "no price or size"): 1,
        ("book_changes", "a level without a side"): 1,
        ("candles", "hftbacktest has nothing for it"): 1,
    }
    assert any("`suspect`" in note for note in outcome.notes)


def test_sizes_that_are_no_base_currency_are_named(tmp_path: Path) -> None:
    rows = [
        {"price": 1.0, "size": 1.0, "symbol": f"S{number}", "size_unit": "contracts" if number else "base"}
        for number in range(8)
    ]
    outcome = to_hftbacktest([batch(Table.TRADES, *rows)], tmp_path)
    assert "binance: sizes are in contracts of S1, S2, S3, S4, S5 and 2 more" in outcome.notes


def test_a_symbol_s_file_is_of_one_day_of_its_arrival(tmp_path: Path) -> None:
    midnight = START + 11 * 3_600_000_000_000
    times = [{"recv_time": midnight + shift, "price": 1.0, "size": 1.0} for shift in (-1, 0)]
    outcome = to_hftbacktest([batch(Table.TRADES, *times)], tmp_path)
    assert [path.name for path in outcome.files] == ["binance_BTCUSDT_20261122.npz", "binance_BTCUSDT_20261123.npz"]


def test_a_hostile_symbol_stays_in_the_folder(tmp_path: Path) -> None:
    rows = batch(Table.TRADES, {"price": 1.0, "size": 1.0, "symbol": "../../x\n"})
    outcome = to_hftbacktest([rows], tmp_path / "out")
    assert [path.name for path in outcome.files] == ["binance_%2E.%2F..%2Fx%0A_20261122.npz"]
    with pytest.raises(ExportError, match="too long for a file name"):
        to_hftbacktest([batch(Table.TRADES, {"price": 1.0, "size": 1.0, "symbol": "x" * 300})], tmp_path)


@pytest.mark.parametrize(
    ("second", "reason"),
    [
        ({"channel": "aggTrade"}, "two channels, trade and aggTrade"),
    ],
)
def test_trades_that_would_be_there_twice_are_refused(tmp_path: Path, second: dict[str, str], reason: str) -> None:
    rows = [{"price": 1.0, "size": 1.0, "seq": 3}, {"price": 1.0, "size": 1.0, "seq": 2} | second]
    with pytest.raises(ExportError, match=reason):
        to_hftbacktest([batch(Table.TRADES, *rows)], tmp_path)
