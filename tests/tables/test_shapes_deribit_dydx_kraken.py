"""Shapes of Deribit, dYdX, Gemini, Hyperliquid and Kraken that no golden row has: old books, sides without orders."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tables.shapes import Read, connection, only
from wsrec.decode.table_rows import Outcome
from wsrec.feed.table_columns import Table

TRADE = {"trade_id": "1", "timestamp": 1584058044032, "price": 2, "amount": 10, "direction": "sell"}


@pytest.fixture
def read(request: pytest.FixtureRequest) -> Read:
    """Reads messages of a connection to the test class's market."""
    return connection(request.cls.feed)


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
        unknown = "found the word 'GIFT', which is not declared at `type`"
        assert made.left_out == [(Table.TRADES, f"flags: {unknown}"), (Table.LIQUIDATIONS, unknown)]

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
