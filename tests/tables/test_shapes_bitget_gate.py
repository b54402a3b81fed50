"""Shapes of Bitget and Gate that no golden row has: history, contracts without funding, empty books, old arrays."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tables.shapes import has, outcome, rows
from wsrec.feed.table_columns import Table

MS = 1_000_000
TIME = 1_730_332_858_796


def of_bitget(*data: Any, action: str = "update") -> dict[str, Any]:
    return {"action": action, "arg": {}, "data": list(data), "ts": TIME}


class TestBitget:
    @pytest.mark.parametrize("market", ["bitget", "bitget-usdt-futures"])
    def test_the_first_trades_are_history(self, market):
        trade = {"ts": str(TIME), "price": "1", "size": "2", "side": "sell", "tradeId": "9"}
        [row] = rows(market, "trade", Table.TRADES, of_bitget(trade, action="snapshot"))
        has(row, flags=["snapshot"], side="sell", trade_id="9")
        [row] = rows(market, "trade", Table.TRADES, of_bitget(trade))
        has(row, flags=None)

    @pytest.mark.parametrize(
        ("action", "word", "flags"),
        [("snapshot", "yes", ["snapshot", "rpi"]), ("update", "no", None), ("update", "yes", ["rpi"])],
    )
    def test_flags_of_v3(self, action, word, flags):
        trade = {"i": "1", "p": "2", "v": "3", "S": "buy", "T": str(TIME), "isRPI": word}
        [row] = rows("bitget-v3", "publicTrade", Table.TRADES, of_bitget(trade, action=action))
        has(row, flags=flags)
        assert outcome("bitget-v3", "publicTrade", of_bitget({**trade, "isRPI": "maybe"})).rows == []

    @pytest.mark.parametrize("next_time", ["0", "", None])
    def test_contracts_without_funding_have_no_rate(self, next_time):
        ticker = {"lastPr": "5", "markPrice": "6", "fundingRate": "0.0000", "nextFundingTime": next_time}
        [row] = rows("bitget-usdt-futures", "ticker", Table.DERIVATIVE_TICKER, of_bitget(ticker))
        has(row, funding_rate=None, next_funding_time=None, mark_price="6", last_price="5")

    def test_statistics_of_spot_say_nothing_of_a_mark(self):
        ticker = {"lastPrice": "5", "bid1Price": "4", "bid1Size": "3", "volume24h": "2"}
        made = outcome("bitget-v3", "ticker", of_bitget(ticker))
        assert [table for table, _ in made.rows] == [Table.TICKERS]
        [(_, _), (table, [row])] = outcome(
            "bitget-v3", "ticker", of_bitget({**ticker, "markPrice": "5", "indexPrice": "76671.4381686055379793"})
        ).rows
        assert table is Table.DERIVATIVE_TICKER
        has(row, index_price="76671.4381686055379793")

    @pytest.mark.parametrize(("market", "a", "b"), [("bitget", "asks", "bids"), ("bitget-v3", "a", "b")])
    def test_a_side_without_a_quote(self, market, a, b):
        book = {a: [], b: [["1", "2"]], "checksum": 0, "seq": 5, "pseq": 0, "ts": str(TIME)}
        [row] = rows(market, "books1", Table.QUOTES, of_bitget(book, action="snapshot"))
        has(row, bid_price="1", ask_price=None, ask_size=None, update_id=5)
        clear, bid = rows(market, "books", Table.BOOK_CHANGES, of_bitget(book, action="snapshot"))
        has(clear, action="clear", checksum=None, prev_update_id=0)
        has(bid, action="set", last=True)
        [change] = rows(market, "books", Table.BOOK_CHANGES, of_bitget({**book, b: [["1", "0"]], "checksum": -7}))
        has(change, action="delete", checksum=-7, is_snapshot=False)


def of_gate(result: Any, event: str = "update", **times: Any) -> dict[str, Any]:
    return {"time": TIME // 1000, "event": event, **times, "result": result}


BOOKS = [("gateio", "spot.order_book_update"), ("gateio", "spot.obu.400"), ("gateio-futures", "futures.obu.50")]


class TestGateBooks:
    @pytest.mark.parametrize(("market", "channel"), BOOKS)
    def test_a_full_message_replaces_the_book_and_a_side_may_be_absent(self, market, channel):
        result = {"t": TIME, "full": True, "s": "S", "u": 9, "a": [["3", "4"]]}
        clear, ask = rows(market, channel, Table.BOOK_CHANGES, of_gate(result, time_ms=TIME + 1))
        has(clear, action="clear", update_id=9, first_update_id=None, transact_time=TIME * MS)
        has(ask, is_snapshot=True, side="ask")
        [clear] = rows(market, channel, Table.BOOK_CHANGES, of_gate({"t": TIME, "full": True, "s": "S", "u": 9}))
        has(clear, action="clear", last=True)

    @pytest.mark.parametrize(("market", "channel"), [*BOOKS, ("gateio-futures", "futures.order_book_update")])
    def test_a_message_without_changes_is_normal(self, market, channel):
        made = outcome(market, channel, of_gate({"t": TIME, "s": "S", "U": 8, "u": 9}))
        assert (made.rows, made.left_out, made.skipped) == ([], [], "an update without changes")
        made = outcome(market, channel, of_gate({"t": TIME, "s": "S", "U": 8, "u": 9, "b": [], "a": []}))
        assert (made.rows, made.left_out) == ([], [])

    def test_nothing_yet_is_an_empty_book(self):
        result = {"t": 0, "id": 0, "contract": "C", "asks": [], "bids": []}
        [clear] = rows("gateio-futures", "futures.order_book", Table.BOOK_CHANGES, of_gate(result, "all"))
        has(clear, action="clear", symbol="C", transact_time=None)

    def test_over_http(self):
        spot = {"id": 7, "current": TIME + 1, "update": TIME, "asks": [["3", "4"]], "bids": []}
        clear, ask = rows("gateio", "spot.order_book_update", Table.BOOK_CHANGES, spot, is_rest=True)
        has(clear, update_id=7, exchange_time=(TIME + 1) * MS, transact_time=TIME * MS)
        has(ask, side="ask", size_unit="base")
        futures = {
            "id": 7,
            "current": 1730332858.797,
            "update": 1730332858.796,
            "asks": [],
            "bids": [{"p": "1", "s": 2}],
        }
        clear, bid = rows("gateio-futures", "futures.order_book_update", Table.BOOK_CHANGES, futures, is_rest=True)
        has(clear, update_id=7, exchange_time=(TIME + 1) * MS, transact_time=TIME * MS)
        has(bid, side="bid", size="2", size_unit="contracts")


class TestGate:
    @pytest.mark.parametrize(
        ("market", "channel"), [("gateio", "spot.book_ticker"), ("gateio-futures", "futures.book_ticker")]
    )
    def test_no_quotes_yet(self, market, channel):
        result = {"t": 0, "u": 0, "s": "S", "b": "", "B": "0", "a": "", "A": 0}
        [row] = rows(market, channel, Table.QUOTES, of_gate(result))
        has(row, bid_price=None, bid_size=None, ask_price=None, ask_size=None, transact_time=None)

    @pytest.mark.parametrize(
        ("size", "side", "wanted"), [(-3, "sell", "3"), ("-0.25", "sell", "0.25"), ("1053.5", "buy", "1053.5")]
    )
    def test_the_sign_of_a_trade_s_size_is_its_side(self, size, side, wanted):
        trade = {
            "size": size,
            "id": 1,
            "create_time": TIME // 1000,
            "create_time_ms": TIME,
            "price": "2",
            "contract": "C",
        }
        [row] = rows("gateio-futures", "futures.trades", Table.TRADES, of_gate([trade], time_ms=TIME + 1))
        has(row, side=side, size=wanted, symbol="C", trade_time=TIME * MS, exchange_time=(TIME + 1) * MS, flags=None)
        [row] = rows("gateio-futures", "futures.trades", Table.TRADES, of_gate([{**trade, "is_internal": True}]))
        has(row, flags=["internal"], exchange_time=TIME // 1000 * 1000 * MS)

    @pytest.mark.parametrize("nested", [lambda ticker: ticker, lambda ticker: [ticker], lambda ticker: [[ticker]]])
    def test_statistics_in_an_object_an_array_and_an_array_of_arrays(self, nested):
        ticker = {
            "contract": "C",
            "last": "1",
            "mark_price": "2",
            "total_size": "3",
            "funding_rate": "0.1",
            "volume_24h": 4,
        }
        message = of_gate(nested(ticker), time_ms=0)
        [row] = rows("gateio-futures", "futures.tickers", Table.TICKERS, message)
        has(row, symbol="C", last_price="1", volume_24h="4", volume_unit="contracts")
        [row] = rows("gateio-futures", "futures.tickers", Table.DERIVATIVE_TICKER, message)
        has(row, mark_price="2", open_interest="3", funding_rate="0.1", exchange_time=TIME // 1000 * 1000 * MS)

    def test_candles_of_today_have_both_volumes_and_say_whether_they_are_final(self):
        candle = {
            "t": "1730332800",
            "v": "99",
            "c": "2",
            "h": "3",
            "l": "1",
            "o": "1.5",
            "n": "1m_BTC_USDT",
            "a": "0.5",
            "w": True,
        }
        [row] = rows("gateio", "spot.candlesticks.1m", Table.CANDLES, of_gate(candle))
        has(row, interval="1m", volume="0.5", quote_volume="99", closed=True, open_time=1_730_332_800_000 * MS)
