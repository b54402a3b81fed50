"""Shapes of real markets that no golden row shows: older ones, absent sides, empty snapshots, words of no kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from wsrec.decode.table_rows import Message, Outcome, TableRow, TableRowReader
from wsrec.feed.load import find_feed
from wsrec.feed.table_columns import Table

Read = Callable[..., Outcome]
_feed = cache(find_feed)


@pytest.fixture
def read(request: pytest.FixtureRequest) -> Read:
    """Reads a channel's messages of the test class's `feed`, one connection."""
    reader = TableRowReader(_feed(request.cls.feed))

    def one(channel: str, message: Any, symbol: str | None = "X") -> Outcome:
        return reader.read(Message(json.dumps(message).encode(), channel, symbol))

    return one


def only(made: Outcome, table: Table, *names: str) -> list[Any]:
    """The named values of each row of a table; a single name gives them bare. Nothing may be left out."""
    assert made.left_out == []
    rows: list[TableRow] = dict(made.rows).get(table, [])
    return [row.get(names[0]) if len(names) == 1 else tuple(row.get(name) for name in names) for row in rows]


LEVEL = {"symbol": "XBTUSD", "id": 8799193550, "side": "Buy"}
TRADE = {"trade_id": "1", "timestamp": 1584058044032, "price": 2, "amount": 10, "direction": "sell"}


class TestBitfinex:
    feed = "bitfinex"

    def test_a_trade_counts_once(self, read: Read) -> None:
        trade = [401597395, 1574694478808, -0.005, 7245.3]
        made = read("trades", [17470, "te", trade, 5, 1574694478809])
        assert only(made, Table.TRADES, "trade_id", "side", "size", "flags") == [("401597395", "sell", "0.005", None)]
        assert read("trades", [17470, "tu", trade, 6, 1574694478829]) == Outcome([], [], "tu: repeats te")

    @pytest.mark.parametrize("channel", ["trades", "ticker", "book-P0-25"])
    def test_loans_are_none(self, read: Read, channel: str) -> None:
        assert read(channel, [1, "fte", [1, 1574694478808, -300, 0.0002, 2], 5, 6], "fUSD").skipped is not None

    def test_an_empty_book_is_a_snapshot(self, read: Read) -> None:
        assert only(read("book-P0-25", [1, [], 5, 1574694478809]), Table.BOOK_CHANGES, "action") == ["clear"]

    def test_single_orders_are_no_levels(self, read: Read) -> None:
        assert read("book-R0-25", [1, [34006738527, 8744.9, 0.25], 5, 6]).skipped == "single orders, not levels"

    @pytest.mark.parametrize(("amount", "side"), [(0.05, "sell"), (-0.05, "buy")])
    def test_a_liquidated_position_is_traded_against_its_sign(self, read: Read, amount: float, side: str) -> None:
        row = ["pos", 145511476, 1609144352338, None, "tETHF0:USTF0", amount, 730.9, None, 1, 1, None, 736.6]
        made = read("liq", [91684, [row], 5, 1609144352400], None)
        names = ("symbol", "liquidation_id", "side", "price", "size", "flags")
        expected = ("tETHF0:USTF0", "145511476", side, "730.9", "0.05", ["match"])
        assert only(made, Table.LIQUIDATIONS, *names) == [expected]

    def test_a_status_as_long_as_it_was_in_2019(self, read: Read) -> None:
        status = [1596124822000, None, 0.896, 0.771995, None, 1396531.67, None, 1596153600000, 0.0001056, 6]
        longer = [*status, None, -0.01381344, None, None, 0.7664, None, None, 246502.09001551]
        names = ("index_price", "predicted_funding_rate", "mark_price", "funding_rate", "open_interest")
        (old,) = only(read("deriv", [1, status, 5, 6]), Table.DERIVATIVE_TICKER, *names)
        (new,) = only(read("deriv", [1, longer, 5, 6]), Table.DERIVATIVE_TICKER, *names)
        assert old == ("0.771995", "0.0001056", None, None, None)
        assert new == ("0.771995", "0.0001056", "0.7664", "-0.01381344", "246502.09001551")


class TestBitmex:
    feed = "bitmex"

    def test_a_deletion_has_the_price_of_its_level(self, read: Read) -> None:
        early = read("orderBookL2", {"table": "orderBookL2", "action": "delete", "data": [LEVEL]})
        assert early.left_out == [(Table.BOOK_CHANGES, "before the first snapshot")]
        read("orderBookL2", {"action": "partial", "data": [{**LEVEL, "size": 5, "price": 8064.5}]})
        made = read("orderBookL2", {"action": "delete", "data": [LEVEL]})
        assert only(made, Table.BOOK_CHANGES, "action", "side", "price", "size") == [("delete", "bid", "8064.5", "0")]
        unknown = read("orderBookL2", {"action": "delete", "data": [{**LEVEL, "id": 1}]})
        assert unknown.left_out == [(Table.BOOK_CHANGES, "price: found none, and none before it with the same key")]

    def test_an_empty_partial_is_a_snapshot(self, read: Read) -> None:
        message = {"table": "orderBookL2", "action": "partial", "filter": {"symbol": "XBTUSD"}, "data": []}
        made = read("orderBookL2_25", message, "XBTUSD")
        assert only(made, Table.BOOK_CHANGES, "symbol", "action") == [("XBTUSD", "clear")]

    def test_a_trade_without_a_side(self, read: Read) -> None:
        row = {"timestamp": "2021-07-22T22:36:10.014Z", "symbol": "XBTUSD", "size": 1, "price": 2, "side": ""}
        assert only(read("trade", {"action": "insert", "data": [row]}), Table.TRADES, "side", "size_unit") == [
            (None, "contracts")
        ]
        odd = read("trade", {"action": "insert", "data": [{**row, "trdType": "Odd"}]})
        assert odd.left_out == [(Table.TRADES, "flags: found the word 'Odd', which is not declared at `trdType`")]

    def test_what_follows_a_liquidation_is_none(self, read: Read) -> None:
        row = {"orderID": "1", "symbol": "XBTUSD"}
        for action in ("update", "delete"):
            assert read("liquidation", {"action": action, "data": [{**row, "leavesQty": 3}]}).skipped is not None


class TestBitstamp:
    feed = "bitstamp"

    def test_a_trade_before_its_digits_were_sent(self, read: Read) -> None:
        data = {"id": 1, "timestamp": "1551398400", "amount": 0.01513062, "price": 212.8, "type": 1}
        made = read("live_trades", {"event": "trade", "channel": "live_trades_btcusd", "data": data})
        names = ("price", "size", "side", "trade_time")
        assert only(made, Table.TRADES, *names) == [("212.8", "0.01513062", "sell", 1551398400 * 10**9)]


class TestCoinbase:
    feed = "coinbase"

    def test_a_malformed_level_is_left_out_alone(self, read: Read) -> None:
        message = {"type": "snapshot", "bids": [["1", "0.-10000"], ["0.9", "2"]], "asks": [["1.1", "3"]]}
        made = read("level2_batch", message)
        assert [row["price"] for row in dict(made.rows)[Table.BOOK_CHANGES][1:]] == ["0.9", "1.1"]
        assert made.left_out == [(Table.BOOK_CHANGES, "size: found '0.-10000', which is no number, at `[1]`")]

    def test_a_side_of_no_kind_is_left_out(self, read: Read) -> None:
        made = read("matches", {"type": "match", "side": "both", "price": "1", "size": "2"})
        assert made.left_out == [(Table.TRADES, "side: found the word 'both', which is not declared at `side`")]


class TestCoinbaseAdvanced:
    feed = "coinbase-advanced"

    def test_events_of_several_products(self, read: Read) -> None:
        level = {"side": "offer", "event_time": "1970-01-01T00:00:00Z", "price_level": "2", "new_quantity": "1"}
        events = [
            {"type": "snapshot", "product_id": "A-USD", "updates": [level]},
            {"type": "snapshot", "product_id": "B-USD", "updates": []},
            {"type": "update", "product_id": "C-USD", "updates": [{**level, "side": "bid", "new_quantity": "0"}]},
        ]
        made = read("level2", {"channel": "l2_data", "events": events})
        names = ("symbol", "action", "side", "transact_time")
        assert only(made, Table.BOOK_CHANGES, *names) == [
            *(("A-USD", "clear", None, None), ("A-USD", "set", "ask", None), ("C-USD", "delete", "bid", None)),
            ("B-USD", "clear", None, None),
        ]

    def test_the_backlog_of_trades_is_flagged(self, read: Read) -> None:
        trade = {"trade_id": "1", "product_id": "A-USD", "price": "1", "size": "2", "side": "BUY", "time": ""}
        made = read("market_trades", {"events": [{"type": "snapshot", "trades": [trade]}]})
        assert only(made, Table.TRADES, "side", "flags") == [("sell", ["snapshot"])]


class TestCryptoCom:
    feed = "crypto-com"

    def test_a_change_of_one_side(self, read: Read) -> None:
        data = {"update": {"asks": [["2", "0", "0"]]}, "t": 1667320303772, "u": 2, "pu": 1}
        made = read("book", {"result": {"channel": "book.update", "data": [data]}})
        assert only(made, Table.BOOK_CHANGES, "action", "side", "count") == [("delete", "ask", 0)]

    def test_an_empty_book_is_a_snapshot(self, read: Read) -> None:
        data = {"bids": [], "asks": [], "t": 1667320303772, "u": 2}
        made = read("book", {"result": {"channel": "book", "data": [data]}})
        assert only(made, Table.BOOK_CHANGES, "action", "update_id") == [("clear", 2)]

    def test_a_ticker_of_nothing(self, read: Read) -> None:
        row = {"i": "A_USD", "b": None, "bs": None, "k": None, "ks": None, "a": None, "oi": "0", "t": 1667320303772}
        made = read("ticker", {"result": {"channel": "ticker", "data": [row]}}, "A_USD")
        assert only(made, Table.QUOTES, "bid_price", "ask_price", "source") == [(None, None, "ticker")]
        assert only(made, Table.DERIVATIVE_TICKER, "symbol") == []


class TestDeribit:
    feed = "deribit"

    def trades(self, read: Read, **more: Any) -> Outcome:
        return read("trades.100ms", {"params": {"data": [{**TRADE, "instrument_name": "BTC-PERPETUAL", **more}]}})

    @pytest.mark.parametrize(("word", "side"), [("T", "sell"), ("M", "buy"), ("MT", None)])
    def test_who_was_liquidated(self, read: Read, word: str, side: str | None) -> None:
        made = self.trades(read, liquidation=word)
        assert only(made, Table.LIQUIDATIONS, "side", "price_kind") == [(side, "fill")]
        assert only(made, Table.TRADES, "side", "flags") == [("sell", ["liquidation"])]

    def test_a_liquidation_of_no_kind_is_left_out(self, read: Read) -> None:
        tables = [table for table, _ in self.trades(read, liquidation="X").left_out]
        assert tables == [Table.TRADES, Table.LIQUIDATIONS]

    def test_flags(self, read: Read) -> None:
        for more, flags in (
            ({}, None),
            ({"block_trade_id": "1", "block_rfq_id": 2}, ["block"]),
            ({"block_rfq_id": 2}, ["block"]),
            ({"legs": [], "combo_trade_id": "3"}, ["combo"]),
            ({"legs": [{}]}, ["combo"]),
        ):
            assert only(self.trades(read, **more), Table.TRADES, "flags") == [flags]

    @pytest.mark.parametrize("name", ["BTC-PERPETUAL", "ETH-27DEC26", "BTC-5JAN26", "BTC-FS-27DEC26_PERP"])
    def test_inverse_contracts_count_dollars(self, read: Read, name: str) -> None:
        assert only(self.trades(read, instrument_name=name), Table.TRADES, "size_unit") == ["quote"]

    @pytest.mark.parametrize(
        "name",
        [
            *("BTC-27DEC26-50000-C", "BTC_USDC-PERPETUAL", "BTC_USDC-27DEC26", "ETH_BTC", "XRP_USDC-27DEC26-0d5-C"),
            "BTC-CS-19MAY26-70000_75000",
        ],
    )
    def test_others_count_coins(self, read: Read, name: str) -> None:
        assert only(self.trades(read, instrument_name=name), Table.TRADES, "size_unit") == ["base"]

    def test_books_before_2021_had_no_type(self, read: Read) -> None:
        book = {"instrument_name": "BTC-PERPETUAL", "change_id": 2, "bids": [["new", 1, 5]], "asks": []}
        first = read("book.raw", {"params": {"data": book}})
        later = read("book.raw", {"params": {"data": {**book, "prev_change_id": 2, "bids": [["delete", 1, 0]]}}})
        assert only(first, Table.BOOK_CHANGES, "action", "is_snapshot") == [("clear", True), ("set", True)]
        assert only(later, Table.BOOK_CHANGES, "action", "is_snapshot") == [("delete", False)]
        odd = read("book.raw", {"params": {"data": {**book, "prev_change_id": 2, "bids": [["moved", 1, 5]]}}})
        assert odd.left_out == [
            (Table.BOOK_CHANGES, "action: found the word 'moved', which is not declared at `[0]`"),
        ]


class TestDydx:
    feed = "dydx"

    def test_several_flushed_together(self, read: Read) -> None:
        contents = [{"bids": [["1", "2"]]}, {"asks": [["3", "0"]]}]
        made = read("v4_orderbook", {"type": "channel_batch_data", "contents": contents})
        assert only(made, Table.BOOK_CHANGES, "side", "action", "last") == [
            *(("bid", "set", False), ("ask", "delete", True))
        ]
        trades = {"trades": [{"id": "1", "side": "BUY", "size": "1", "price": "2", "type": "DELEVERAGED"}]}
        made = read("v4_trades", {"type": "channel_batch_data", "contents": [trades, trades]})
        assert only(made, Table.TRADES, "flags") == [["deleveraged"], ["deleveraged"]]
        candle = {"startedAt": "2024-01-01T00:01:00.000Z", "resolution": "1MIN", "open": "1", "trades": 3}
        made = read("v4_candles/1MIN", {"type": "channel_batch_data", "contents": [candle]})
        assert only(made, Table.CANDLES, "interval", "trades") == [("1MIN", 3)]

    def test_a_type_of_no_kind_is_left_out(self, read: Read) -> None:
        trade = {"id": "1", "side": "BUY", "size": "1", "price": "2", "type": "GIFT"}
        made = read("v4_trades", {"type": "channel_data", "contents": {"trades": [trade]}})
        assert made.left_out == [(Table.TRADES, "flags: found the word 'GIFT', which is not declared at `type`")]

    def test_prices_and_states_in_one_message(self, read: Read) -> None:
        contents = {"trading": {"A-USD": {"nextFundingRate": "0.1"}}, "oraclePrices": {"B-USD": {"oraclePrice": "2"}}}
        made = read("v4_markets", {"type": "channel_batch_data", "contents": [contents]}, None)
        names = ("symbol", "index_price", "predicted_funding_rate")
        assert only(made, Table.DERIVATIVE_TICKER, *names) == [("A-USD", None, "0.1"), ("B-USD", "2", None)]

    def test_an_empty_book_is_a_snapshot(self, read: Read) -> None:
        made = read("v4_orderbook", {"type": "subscribed", "contents": {"bids": [], "asks": []}})
        assert only(made, Table.BOOK_CHANGES, "action") == ["clear"]


class TestGemini:
    feed = "gemini"

    def test_the_first_of_a_symbol_on_a_connection_is_the_book(self, read: Read) -> None:
        message = {"e": "depthUpdate", "U": 1, "u": 1, "b": [["1", "2"]], "a": []}
        for symbol in ("btcusd", "ethusd"):
            first, later = (read("depth@100ms", message, symbol) for _ in range(2))
            assert only(first, Table.BOOK_CHANGES, "action") == ["clear", "set"]
            assert only(later, Table.BOOK_CHANGES, "action") == ["set"]

    def test_a_side_without_orders(self, read: Read) -> None:
        made = read("bookTicker", {"u": 1, "s": "btcusd", "b": "1", "B": "2"}, "btcusd")
        assert only(made, Table.QUOTES, "bid_price", "ask_price", "ask_size") == [("1", None, None)]


class TestKraken:
    feed = "kraken"

    def test_the_backlog_of_trades_is_flagged(self, read: Read) -> None:
        trade = {"symbol": "BTC/USD", "side": "buy", "price": 1, "qty": 2, "trade_id": 3}
        made = read("trade", {"channel": "trade", "type": "snapshot", "data": [trade]})
        assert only(made, Table.TRADES, "flags") == [["snapshot"]]

    def test_a_pair_that_is_halted(self, read: Read) -> None:
        row = {
            "symbol": "BTC/USD",
            "bid": 0,
            "bid_qty": 0,
            "ask": 2.5,
            "ask_qty": 1,
            "timestamp": "1970-01-01T00:00:00Z",
        }
        made = read("ticker", {"channel": "ticker", "type": "update", "data": [row]})
        names = ("bid_price", "ask_price", "exchange_time")
        assert only(made, Table.QUOTES, *names) == [(None, "2.5", None)]


class TestKrakenFutures:
    feed = "kraken-futures"

    def test_without_a_next_funding_there_is_no_rate(self, read: Read) -> None:
        ticker = {"feed": "ticker", "relative_funding_rate": 0.1, "markPrice": 5, "last": 0.0}
        names = ("funding_rate", "last_price", "next_funding_time", "open_interest_unit")
        for time, rate in ((0, None), (1676394000000, "0.1")):
            made = read("ticker", {**ticker, "next_funding_rate_time": time}, "PF_XBTUSD")
            expected = (rate, None, time * 10**6 or None, "base")
            assert only(made, Table.DERIVATIVE_TICKER, *names) == [expected]

    def test_a_size_below_zero_deletes(self, read: Read) -> None:
        made = read("book", {"feed": "book", "side": "buy", "price": 5, "qty": -3, "seq": 1}, "PI_XBTUSD")
        assert only(made, Table.BOOK_CHANGES, "action", "size", "size_unit") == [("delete", "0", "contracts")]

    @pytest.mark.parametrize(
        ("word", "flags"),
        [("fill", None), ("assignment", ["assignment"]), ("termination", ["termination"]), ("block", ["block"])],
    )
    def test_types_of_trades(self, read: Read, word: str, flags: list[str] | None) -> None:
        trade = {"feed": "trade", "side": "sell", "type": word, "time": 1612266317519, "qty": 1, "price": 2}
        made = read("trade", trade, "PF_XBTUSD")
        assert only(made, Table.TRADES, "flags", "size_unit") == [(flags, "base")]
        assert only(made, Table.LIQUIDATIONS, "side") == []


class TestHyperliquid:
    feed = "hyperliquid"

    @pytest.mark.parametrize("bbo", [[None, {"px": "2", "sz": "1", "n": 3}], [None], []])
    def test_sides_without_orders(self, read: Read, bbo: list[Any]) -> None:
        made = read("bbo", {"channel": "bbo", "data": {"coin": "BTC", "time": 1750948919838, "bbo": bbo}})
        assert only(made, Table.QUOTES, "bid_price", "ask_price", "ask_count") == [
            (None, "2", 3) if len(bbo) > 1 else (None, None, None)
        ]

    def test_spot_has_no_mark_price(self, read: Read) -> None:
        data = {"coin": "@2", "ctx": {"prevDayPx": "1", "markPx": "2", "dayNtlVlm": "3", "dayBaseVlm": "4"}}
        made = read("activeSpotAssetCtx", {"channel": "activeSpotAssetCtx", "data": data}, "@2")
        assert only(made, Table.DERIVATIVE_TICKER, "symbol") == []
        assert only(made, Table.TICKERS, "volume_24h", "volume_unit") == [("4", "base")]
