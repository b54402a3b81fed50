"""Shapes of messages that no golden row has: of older recordings, of answers over REST, of channels seldom recorded."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from tests.tables.shapes import has, outcome, rows
from wsrec.decode.implementation import FieldReader
from wsrec.feed.load import find_feed
from wsrec.feed.table_columns import Table

MS = 1_000_000


class TestHtx:
    def test_trades_without_trade_id_have_the_id_that_is_there(self):
        trade = {"amount": 0.1, "ts": 1572912000000, "id": 10136000, "price": 9.2, "direction": ""}
        [row] = rows("htx", "trade.detail", Table.TRADES, {"tick": {"data": [trade]}})
        has(row, trade_id="10136000", side=None, size="0.1", size_unit="base")

    def test_the_book_that_was_asked_for_replaces_the_book(self):
        message = {
            "rep": "market.btcusdt.mbp.400",
            "ts": 1572912000000,
            "data": {"seqNum": 7, "prevSeqNum": 6, "bids": [[1.5, 2]], "asks": []},
        }
        fields = FieldReader(find_feed("htx")).read(
            pa.array([json.dumps(message).encode()], pa.large_binary()), np.ones(1, np.bool_)
        )
        assert (fields.channel[0].as_py(), fields.symbol[0].as_py()) == ("mbp.400", "btcusdt")
        clear, level = rows("htx", "mbp.400", Table.BOOK_CHANGES, message)
        has(clear, action="clear", symbol="btcusdt", is_snapshot=True, update_id=7)
        has(level, action="set", side="bid", price="1.5", is_snapshot=True)

    @pytest.mark.parametrize("market", ["htx", "htx-linear-swap", "htx-coin-swap", "htx-coin-futures"])
    def test_a_step_with_update_is_a_change(self, market):
        tick = {"bids": [[1, 2]], "asks": [], "ts": 5 * 10**11, "version": 3}
        whole = outcome(market, "depth.step0", {"tick": tick})
        assert [table for table, _ in whole.rows] == [Table.BOOK_SNAPSHOTS]
        changed = outcome(market, "depth.step0", {"tick": tick, "update": True})
        assert [table for table, _ in changed.rows] == [Table.BOOK_CHANGES]

    def test_derivatives_count_both_sides_in_trades_and_volumes_only(self):
        trade = {"amount": 4, "id": 1, "price": 2, "direction": "sell", "ts": 1572912000000}
        [row] = rows("htx-coin-swap", "trade.detail", Table.TRADES, {"tick": {"data": [trade]}})
        has(row, size="4", size_unit="contracts_both_sides")
        [row] = rows("htx-coin-swap", "detail", Table.TICKERS, {"tick": {"close": 1, "vol": 8, "amount": 2}})
        has(row, volume_24h="8", volume_unit="contracts_both_sides", base_volume_24h="2")
        [row] = rows("htx-coin-swap", "bbo", Table.QUOTES, {"tick": {"bid": [5, 6]}})
        has(row, bid_price="5", bid_size="6", ask_price=None, size_unit="contracts")


class TestKucoin:
    def test_the_best_prices_are_two_lists(self):
        data = {"bids": ["1", "2"], "asks": ["3", "4"], "timestamp": 1729816058766}
        [row] = rows("kucoin", "level1", Table.QUOTES, {"data": data})
        has(row, bid_price="1", bid_size="2", ask_price="3", ask_size="4", source="bbo")

    def test_a_side_without_a_quote_is_null(self):
        [row] = rows("kucoin", "level1", Table.QUOTES, {"data": {"bids": None, "asks": ["3", "4"]}})
        has(row, bid_price=None, bid_size=None, ask_price="3")

    @pytest.mark.parametrize(("market", "unit"), [("kucoin", "base"), ("kucoin-futures", "contracts")])
    def test_the_best_levels_are_whole_books(self, market, unit):
        [row] = rows(
            market, "level2Depth5", Table.BOOK_SNAPSHOTS, {"data": {"bids": [["9", "1"]], "asks": [["10", "2"]]}}
        )
        has(row, bid_prices=["9"], ask_sizes=["2"], size_unit=unit)

    @pytest.mark.parametrize(("market", "time"), [("kucoin", 1550653727731), ("kucoin-futures", 1550653727731000000)])
    def test_the_book_over_rest(self, market, time):
        data = {"sequence": "8", "time": time, "ts": time, "bids": [["6500", 1]], "asks": []}
        clear, level = rows(market, "level2", Table.BOOK_CHANGES, {"code": "200000", "data": data}, is_rest=True)
        has(clear, action="clear", update_id=8, exchange_time=1550653727731 * MS)
        has(level, side="bid", price="6500", size="1", is_snapshot=True)

    def test_candles_of_futures_have_their_volume_at_the_end(self):
        message = {
            "topic": "/contractMarket/limitCandle:LTCUSDTM_1min",
            "data": {"symbol": "S", "candles": ["1715470980", "81.38", "81.4", "81.5", "81.3", "61.0", "61"]},
        }
        [row] = rows("kucoin-futures", "limitCandle_1min", Table.CANDLES, message)
        has(row, interval="1min", open_time=1715470980 * 1000 * MS, volume="61", close="81.4", high="81.5", low="81.3")

    def test_mark_and_index_price(self):
        message = {"subject": "mark.index.price", "data": {"markPrice": 2.5, "indexPrice": 2.4, "granularity": 1000}}
        [row] = rows("kucoin-futures", "instrument", Table.DERIVATIVE_TICKER, message)
        has(row, mark_price="2.5", index_price="2.4", funding_rate=None)


class TestMexc:
    """Decoded frames; `tests.feed.test_protobuf` decodes them."""

    def test_deals_of_before_june_2026_have_no_id(self):
        deal = {"price": "1", "quantity": "2", "tradeType": 2, "time": 1710000000002}
        [row] = rows("mexc", "aggre.deals@100ms", Table.TRADES, {"publicAggreDeals": {"deals": [deal]}})
        has(row, trade_id=None, side="sell", price="1", size="2", trade_time=1710000000002 * MS)

    def test_the_best_levels_are_whole_books(self):
        body = {"asks": [{"price": "2", "quantity": "3"}], "bids": [], "version": "9"}
        [row] = rows("mexc", "limit.depth@5", Table.BOOK_SNAPSHOTS, {"publicLimitDepths": body})
        has(row, bid_prices=[], ask_prices=["2"], ask_sizes=["3"], update_id=9)

    def test_a_side_without_a_quote_is_null(self):
        body = {"bidPrice": "", "bidQuantity": "", "askPrice": "2", "askQuantity": "1", "version": "4"}
        [row] = rows("mexc", "aggre.bookTicker@100ms", Table.QUOTES, {"publicAggreBookTicker": body})
        has(row, bid_price=None, bid_size=None, ask_price="2", update_id=4)

    def test_statistics_have_two_volumes(self):
        body = {"symbol": "S", "price": "2", "high": "3", "low": "1", "volume": "20", "quantity": "10"}
        [row] = rows("mexc", "miniTicker", Table.TICKERS, {"publicMiniTicker": body})
        has(row, last_price="2", volume_24h="10", quote_volume_24h="20", volume_unit="base")

    def test_the_book_over_rest(self):
        answer = {"lastUpdateId": 7, "bids": [["1", "2"]], "asks": []}
        clear, level = rows("mexc", "aggre.depth@10ms", Table.BOOK_CHANGES, answer, is_rest=True)
        has(clear, action="clear", update_id=7)
        has(level, side="bid", price="1", size="2")


class TestMexcFutures:
    def test_older_messages_hold_one_trade(self):
        trade = {"M": 1, "O": 1, "T": 1, "p": 6866.5, "t": 1587442049632, "v": 2096}
        [row] = rows("mexc-futures", "deal", Table.TRADES, {"channel": "push.deal", "data": trade})
        has(row, trade_id=None, side="buy", price="6866.5", size="2096", trade_time=1587442049632 * MS)

    def test_another_kind_of_trade_is_refused(self):
        trade = {"T": 3, "p": 1, "t": 1587442049632, "v": 2}
        made = outcome("mexc-futures", "deal", {"data": [trade]})
        assert made.rows == []
        assert "which is not declared" in made.left_out[0][1]

    def test_a_range_of_none_is_the_version(self):
        data = {"asks": [], "bids": [[1, 2, 3]], "begin": 0, "end": 0, "version": 9}
        [row] = rows("mexc-futures", "depth", Table.BOOK_CHANGES, {"data": data})
        has(row, first_update_id=None, update_id=9, count=3)

    def test_the_book_over_rest(self):
        data = {"asks": [[2, 5, 1]], "bids": [], "version": 4, "timestamp": 1634630330000}
        answer = {"success": True, "code": 0, "data": data}
        clear, level = rows("mexc-futures", "depth", Table.BOOK_CHANGES, answer, is_rest=True)
        has(clear, action="clear", update_id=4, exchange_time=1634630330000 * MS)
        has(level, side="ask", size="5", size_unit="contracts")


class TestKorea:
    @pytest.mark.parametrize("market", ["upbit", "bithumb"])
    def test_history_sent_on_subscribing_is_marked(self, market):
        trade = {"trade_price": 1, "trade_volume": 2, "ask_bid": "BID", "stream_type": "SNAPSHOT", "sequential_id": 5}
        [row] = rows(market, "trade", Table.TRADES, {**trade, "trade_timestamp": 1614729599000})
        has(row, flags=["snapshot"], side="buy", trade_time=1614729599000 * MS)

    def test_times_in_microseconds_are_read_as_such(self):
        trade = {"trade_price": 1, "trade_volume": 2, "ask_bid": "ASK", "trade_timestamp": 1614729599000123}
        [row] = rows("upbit", "trade", Table.TRADES, trade)
        has(row, trade_time=1614729599000123000, flags=None)
