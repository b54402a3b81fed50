"""Shapes of Bitfinex, BitMEX, Bitstamp, Coinbase and Crypto.com that no golden row has: empty books, odd words."""

from __future__ import annotations

import pytest

from tests.tables.shapes import Read, connection, only
from wsrec.decode.table_rows import Outcome
from wsrec.feed.table_columns import Table

LEVEL = {"symbol": "XBTUSD", "id": 8799193550, "side": "Buy"}


@pytest.fixture
def read(request: pytest.FixtureRequest) -> Read:
    """Reads messages of a connection to the test class's market."""
    return connection(request.cls.feed)


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
            *(("A-USD", "clear", None, None), ("A-USD", "set", "ask", None), ("B-USD", "clear", None, None)),
            ("C-USD", "delete", "bid", None),
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
