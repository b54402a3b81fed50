"""Shapes of Binance, Bybit and OKX that no golden row has: unknown words, empty sides, REST, arrays of symbols."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tables.shapes import has, outcome, rows
from wsrec.decode.table_rows import NO_DECLARATION
from wsrec.feed.table_columns import Table

MS = 1_000_000
TIME = 1_723_161_256_313
FUTURES = ["binance-usdm", "binance-coinm"]


def stream(name: str, data: Any) -> dict[str, Any]:
    return {"stream": name, "data": data}


class TestBinanceFutures:
    @pytest.mark.parametrize("market", FUTURES)
    @pytest.mark.parametrize(
        ("word", "flags"), [("MARKET", None), ("INSURANCE_FUND", ["insurance_fund"]), ("ADL", ["adl"]), ("NA", ["na"])]
    )
    def test_trades_outside_of_the_book_have_a_flag(self, market, word, flags):
        trade = {"e": "trade", "E": TIME, "T": TIME, "s": "B", "t": 5, "p": "1.5", "q": "0", "X": word, "m": True}
        [row] = rows(market, "trade", Table.TRADES, stream("b@trade", trade))
        has(row, flags=flags, size="0", side="sell", trade_time=TIME * MS)

    @pytest.mark.parametrize("market", FUTURES)
    def test_a_kind_of_trade_that_is_not_known_is_refused(self, market):
        trade = {"e": "trade", "t": 5, "p": "1.5", "q": "1", "X": "RPI", "m": True}
        made = outcome(market, "trade", stream("b@trade", trade))
        assert made.rows == []
        assert made.left_out == [(Table.TRADES, "flags: found the word 'RPI', which is not declared at `X`")]

    @pytest.mark.parametrize(("market", "unit"), [("binance-usdm", "base"), ("binance-coinm", "contracts")])
    def test_the_book_over_http(self, market, unit):
        answer = {"lastUpdateId": 7, "E": TIME, "T": TIME - 1, "bids": [["1", "2"]], "asks": [["3", "4"]]}
        clear, bid, ask = rows(market, "depth@0ms", Table.BOOK_CHANGES, answer, is_rest=True)
        has(clear, action="clear", update_id=7, exchange_time=TIME * MS, transact_time=(TIME - 1) * MS)
        has(bid, side="bid", price="1", is_snapshot=True, size_unit=unit, last=False)
        has(ask, side="ask", price="3", is_snapshot=True, last=True)

    @pytest.mark.parametrize("market", FUTURES)
    def test_the_best_levels_replace_the_book(self, market):
        data = {"e": "depthUpdate", "E": TIME, "T": TIME, "s": "B", "U": 1, "u": 2, "pu": 0}
        message = stream("b@depth5@100ms", {**data, "b": [["2", "1"]], "a": [["3", "1"], ["4", "9"]]})
        made = outcome(market, "depth5@100ms", message)
        assert [table for table, _ in made.rows] == [Table.BOOK_SNAPSHOTS]
        has(made.rows[0][1][0], bid_prices=["2"], ask_sizes=["1", "9"], depth=2, update_id=2, transact_time=TIME * MS)

    @pytest.mark.parametrize(
        ("market", "channel", "message"),
        [
            ("binance-usdm", "!markPrice@arr@1s", lambda data: stream("!markPrice@arr@1s", data)),
            ("binance-coinm", "markPrice@1s", lambda data: stream("btcusd@markPrice@1s", data)),
        ],
    )
    def test_marks_of_several_contracts(self, market, channel, message):
        perpetual = {"E": TIME, "s": "A", "p": "1", "i": "2", "P": "3", "r": "0.0001", "T": TIME}
        dated = {"E": TIME + 1, "s": "A_2612", "p": "4", "P": "5", "r": "", "T": 0}
        first, second = rows(market, channel, Table.DERIVATIVE_TICKER, message([perpetual, dated]))
        has(first, symbol="A", mark_price="1", index_price="2", funding_rate="0.0001", next_funding_time=TIME * MS)
        has(second, symbol="A_2612", funding_rate=None, next_funding_time=None, exchange_time=(TIME + 1) * MS)

    def test_indices(self):
        composite = {"e": "compositeIndex", "E": TIME, "s": "DEFIUSDT", "p": "554.41604065", "C": "baseAsset", "c": []}
        message = stream("defiusdt@compositeIndex", composite)
        [row] = rows("binance-usdm", "compositeIndex", Table.DERIVATIVE_TICKER, message)
        has(row, index_price="554.41604065", mark_price=None)
        assets = [
            {"e": "assetIndexUpdate", "E": TIME, "s": s, "i": "0.27462452", "b": "0.1"} for s in ("ADAUSD", "BTCUSD")
        ]
        made = rows("binance-usdm", "!assetIndex@arr", Table.DERIVATIVE_TICKER, stream("!assetIndex@arr", assets))
        assert [row["symbol"] for row in made] == ["ADAUSD", "BTCUSD"]
        has(made[1], index_price="0.27462452", exchange_time=TIME * MS)

    def test_statistics_of_all_symbols(self):
        data = [{"e": "24hrTicker", "E": TIME, "s": s, "c": "5", "Q": "1", "v": "9", "q": "3"} for s in "AB"]
        made = rows("binance-coinm", "!ticker@arr", Table.TICKERS, stream("!ticker@arr", data))
        assert [row["symbol"] for row in made] == ["A", "B"]
        has(made[0], volume_24h="9", volume_unit="contracts", base_volume_24h="3", quote_volume_24h=None, last_size="1")

    def test_candles_of_a_price_that_is_not_traded_have_no_volume(self):
        k = {"t": TIME, "T": TIME + 1, "s": "0", "i": "1m", "o": "1", "c": "2", "h": "3", "l": "0.5", "v": "0", "n": 60}
        message = stream("btcusd@indexPriceKline_1m", {"e": "indexPrice_kline", "E": TIME, "ps": "BTCUSD", "k": k})
        [row] = rows("binance-coinm", "indexPriceKline_1m", Table.CANDLES, message)
        has(row, high="3", volume=None, trades=None, symbol="S")

    @pytest.mark.parametrize("name", ["b@rpiDepth@500ms", "b@depth@500ms", "b@depth"])
    def test_each_speed_of_the_book_is_changes(self, name):
        data = {"e": "depthUpdate", "E": TIME, "T": TIME, "U": 1, "u": 2, "pu": 0, "b": [["1", "0.000"]], "a": []}
        [row] = rows("binance-usdm", name.removeprefix("b@"), Table.BOOK_CHANGES, stream(name, data))
        has(row, action="delete", side="bid", first_update_id=1, update_id=2, prev_update_id=0)


BYBIT = [("bybit-spot", "base"), ("bybit-linear", "base"), ("bybit-inverse", "quote"), ("bybit-option", "base")]


class TestBybit:
    @pytest.mark.parametrize(("market", "unit"), BYBIT)
    def test_a_restart_of_the_service_replaces_the_book(self, market, unit):
        channel = "orderbook.100" if market == "bybit-option" else "orderbook.200"
        data = {"s": "S", "b": [["1", "2"]], "a": [], "u": 1}
        message = {"topic": f"{channel}.S", "type": "delta", "ts": TIME, "cts": TIME - 1, "data": data}
        clear, bid = rows(market, channel, Table.BOOK_CHANGES, message)
        has(clear, action="clear", transact_time=(TIME - 1) * MS)
        has(bid, action="set", is_snapshot=True, size_unit=unit)
        data["u"] = 2
        [change] = rows(market, channel, Table.BOOK_CHANGES, message)
        has(change, is_snapshot=False)

    @pytest.mark.parametrize(("market", "unit"), BYBIT)
    def test_flags_and_symbols_are_those_of_each_trade(self, market, unit):
        trade = {"T": TIME, "S": "Buy", "v": "2", "p": "9", "i": "x"}
        data = [{**trade, "s": "A", "BT": True, "RPI": False}, {**trade, "s": "B", "BT": False, "RPI": True}]
        first, second = rows(market, "publicTrade", Table.TRADES, {"type": "snapshot", "ts": TIME, "data": data})
        has(first, symbol="A", flags=["block"], size_unit=unit)
        has(second, symbol="B", flags=["rpi"], side="buy")

    def test_best_prices_with_an_empty_side(self):
        message = {"type": "snapshot", "ts": TIME, "data": {"s": "S", "b": [], "a": [["3", "4"]], "u": 8}}
        [row] = rows("bybit-linear", "orderbook.1", Table.QUOTES, message)
        has(row, bid_price=None, bid_size=None, ask_price="3", ask_size="4", update_id=8)

    @pytest.mark.parametrize("market", ["bybit-spot", "bybit-linear", "bybit-inverse"])
    def test_changes_of_both_best_prices_say_what_they_are(self, market):
        levels = {"b": [["27994.60", "0"], ["27991.70", "0.777"]], "a": [["27994.40", "0.058"], ["27994.80", "0"]]}
        message = {"type": "delta", "ts": TIME, "data": {"s": "S", **levels, "u": 8}}
        [row] = rows(market, "orderbook.1", Table.QUOTES, message)
        has(row, bid_price="27991.70", bid_size="0.777", ask_price="27994.40", ask_size="0.058", update_id=8)
        message["data"]["a"] = [["27994.80", "0"]]
        [row] = rows(market, "orderbook.1", Table.QUOTES, message)
        has(row, bid_price="27991.70", ask_price=None, ask_size=None)

    @pytest.mark.parametrize("levels", [{"b": [], "a": [["3", "4"]]}, {"b": [["1", "2"]], "a": []}])
    def test_changes_of_one_best_price_are_left_out(self, levels):
        made = outcome("bybit-spot", "orderbook.1", {"type": "delta", "ts": TIME, "data": {"s": "S", **levels, "u": 8}})
        assert (made.rows, made.skipped) == ([], None)
        assert made.left_out == [(None, "a change of one side of the best prices, as before 2024")]

    def test_best_prices_of_a_type_that_is_not_declared_are_not_taken_for_whole_ones(self):
        data = {"s": "S", "b": [["1", "2"]], "a": [["3", "4"]], "u": 8}
        made = outcome("bybit-linear", "orderbook.1", {"type": "weird", "ts": TIME, "data": data})
        assert made.left_out == [(None, NO_DECLARATION)]

    def test_a_change_of_statistics_makes_rows_of_what_it_says(self):
        made = outcome("bybit-linear", "tickers", {"type": "delta", "data": {"symbol": "S", "openInterest": "5"}})
        [(table, [row])] = made.rows
        assert table is Table.DERIVATIVE_TICKER
        has(row, open_interest="5", open_interest_unit="base", open_interest_sides=2, mark_price=None)

    def test_a_book_with_two_sizes_has_the_first(self):
        levels = [["121975.1", "0.114259", "0"], ["121960.5", "0", "0.163986"]]
        message = {"type": "delta", "data": {"s": "S", "b": levels, "a": [], "u": 9}}
        made = rows("bybit-spot", "orderbook.rpi", Table.BOOK_CHANGES, message)
        assert [(row["action"], row["size"]) for row in made] == [("set", "0.114259"), ("delete", "0")]

    def test_the_whole_book_over_http(self):
        result = {"s": "S", "a": [["3", "4"]], "b": [], "ts": TIME, "u": 6, "cts": TIME - 1}
        clear, ask = rows("bybit-spot", "orderbook.full", Table.BOOK_CHANGES, {"result": result}, is_rest=True)
        has(clear, action="clear", update_id=6, exchange_time=TIME * MS, transact_time=(TIME - 1) * MS)
        has(ask, side="ask", is_snapshot=True)


def of_okx(channel: str, *data: Any, **more: Any) -> dict[str, Any]:
    return {"arg": {"channel": channel}, **more, "data": list(data)}


class TestOkx:
    @pytest.mark.parametrize(
        ("symbol", "unit"),
        [
            *(("BTC-USDT", "base"), ("BTC-USDT-SWAP", "contracts"), ("BTC-USD-260925", "contracts")),
            ("BTC-USD-260925-50000-C", "contracts"),
        ],
    )
    def test_what_sizes_count_goes_by_the_kind_of_instrument(self, symbol, unit):
        trade = {"instId": symbol, "tradeId": "1", "px": "2", "sz": "3", "side": "buy", "ts": str(TIME), "count": "4"}
        [row] = rows("okx", "trades", Table.TRADES, of_okx("trades", trade), symbol=symbol)
        has(row, size_unit=unit, count=4)
        [row] = rows(
            "okx", "tickers", Table.TICKERS, of_okx("tickers", {"instId": symbol, "vol24h": "5", "volCcy24h": "6"})
        )
        base, quote = (None, "6") if unit == "base" else ("6", None)
        has(row, volume_24h="5", volume_unit=unit, base_volume_24h=base, quote_volume_24h=quote)
        book = {"bids": [["1", "2", "0", "3"]], "asks": [], "ts": str(TIME), "seqId": 4}
        [row] = rows("okx", "books5", Table.BOOK_SNAPSHOTS, of_okx("books5", book), symbol=symbol)
        has(row, size_unit=unit, bid_counts=[3], ask_prices=[], update_id=4)
        [row] = rows("okx", "bbo-tbt", Table.QUOTES, of_okx("bbo-tbt", book), symbol=symbol)
        has(row, size_unit=unit, bid_count=3, ask_price=None, ask_size=None)

    @pytest.mark.parametrize(("source", "flags"), [("0", None), ("1", ["elp"])])
    def test_trades_of_the_liquidity_programme_have_a_flag(self, source, flags):
        trade = {
            "instId": "A-B",
            "tradeId": "1",
            "px": "2",
            "sz": "3",
            "side": "sell",
            "ts": str(TIME),
            "source": source,
        }
        [row] = rows("okx", "trades", Table.TRADES, of_okx("trades", trade))
        has(row, flags=flags)
        trade["source"] = "2"
        assert outcome("okx", "trades", of_okx("trades", trade)).rows == []

    @pytest.mark.parametrize(("sent", "column"), [(0, None), (-855196043, -855196043)])
    def test_a_checksum_of_0_is_none(self, sent, column):
        book = {"bids": [["1", "0", "0", "0"]], "asks": [], "ts": str(TIME), "checksum": sent}
        [row] = rows("okx", "books", Table.BOOK_CHANGES, of_okx("books", book, action="update"))
        has(row, checksum=column, action="delete", count=0)

    @pytest.mark.parametrize(
        ("symbol", "more", "wanted"),
        [
            ("BTC-USDT", ["7", "8", "1"], {"base_volume": None, "quote_volume": "8", "closed": True}),
            ("BTC-USDT-SWAP", ["7", "8", "0"], {"base_volume": "7", "quote_volume": "8", "closed": False}),
            ("BTC-USDT", ["7"], {"base_volume": None, "quote_volume": "7", "closed": None}),
            ("BTC-USDT-SWAP", ["7"], {"base_volume": "7", "quote_volume": None, "closed": None}),
        ],
    )
    def test_candles_of_today_and_of_before_2022(self, symbol, more, wanted):
        candle = [str(TIME), "1", "4", "0.5", "3", "6", *more]
        [row] = rows("okx", "candle1m", Table.CANDLES, of_okx("candle1m", candle), symbol=symbol)
        unit = "contracts" if "SWAP" in symbol else "base"
        has(row, interval="1m", open_time=TIME * MS, high="4", volume="6", volume_unit=unit, **wanted)

    def test_liquidations_of_several_instruments(self):
        detail = {"side": "sell", "posSide": "long", "bkPx": "3", "sz": "5", "ts": str(TIME)}
        message = of_okx(
            "liquidation-orders",
            {"instId": "A-USDT-SWAP", "details": [detail, {**detail, "side": "buy", "ts": str(TIME + 1)}]},
            {"instId": "B-USDT-SWAP", "details": [detail]},
        )
        made = rows("okx", "liquidation-orders-SWAP", Table.LIQUIDATIONS, message)
        assert [(row["symbol"], row["side"]) for row in made] == [
            *(("A-USDT-SWAP", "sell"), ("A-USDT-SWAP", "buy"), ("B-USDT-SWAP", "sell"))
        ]
        has(made[1], trade_time=(TIME + 1) * MS, exchange_time=(TIME + 1) * MS, price_kind="bankruptcy")

    @pytest.mark.parametrize(
        ("symbol", "unit"), [("ETH-USD-SWAP_ETH-USD-240329", "quote"), ("A-USDT_A-USDT-SWAP", "base")]
    )
    def test_spreads(self, symbol, unit):
        book = {"bids": [["-168", "4000", "1"]], "asks": [], "ts": str(TIME)}
        [row] = rows("okx", "sprd-bbo-tbt", Table.QUOTES, of_okx("sprd-bbo-tbt", book), symbol=symbol)
        has(row, bid_price="-168", bid_size="4000", bid_count=1, size_unit=unit)
        trade = {"sprdId": symbol, "tradeId": "2", "px": "64.9", "sz": "13430", "side": "sell", "ts": str(TIME)}
        [row] = rows("okx", "sprd-public-trades", Table.TRADES, of_okx("sprd-public-trades", trade))
        has(row, symbol=symbol, side="sell", size_unit=unit)
        ticker = {"sprdId": symbol, "last": "4", "open24h": "-7", "vol24h": "9.87", "bidPx": "5.9", "bidSz": "5.79"}
        [row] = rows("okx", "sprd-tickers", Table.TICKERS, of_okx("sprd-tickers", {**ticker, "ts": str(TIME)}))
        has(row, open_24h="-7", volume_24h="9.87", volume_unit=unit, bid_price="5.9", exchange_time=TIME * MS)


def test_binance_spot_books_of_the_best_levels_have_neither_symbol_nor_time():
    message = {"lastUpdateId": 160, "bids": [["0.0024", "10"]], "asks": [["0.0026", "100"]]}
    for market in ("binance", "binance-us"):
        [row] = rows(market, "depth5", Table.BOOK_SNAPSHOTS, stream("bnbbtc@depth5", message))
        has(row, update_id=160, bid_prices=["0.0024"], exchange_time=None, symbol="S")
        clear, *levels = rows(market, "depth@100ms", Table.BOOK_CHANGES, message, is_rest=True)
        has(clear, action="clear", update_id=160)
        assert [row["side"] for row in levels] == ["bid", "ask"]
