"""Messages that were read wrongly once, or not at all: what the catalogue's feeds read of them now.

Those of files are real or documented and are kept beside the project; the others are made after the documentation.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.real_messages import DATA, read, rows
from wsrec.decode.implementation import FieldReader
from wsrec.feed.load import catalogue
from wsrec.feed.load import find_feed as load
from wsrec.monitor.samples import Sample, read_samples
from wsrec.monitor.sequence import SequenceChecker
from wsrec.plan.connections import plan
from wsrec.plan.target import resolve

CASES = DATA.parent / "cases" / "messages"
MORE = DATA.parent / "reference" / "more-feeds-messages"
find_feed = cache(load)


def lines(path: Path) -> list[bytes]:
    """The messages of a file beside the project."""
    if not path.exists():
        pytest.skip(f"real messages are not beside the project: {path}")
    text = path.read_bytes()
    if MORE in path.parents:
        return [json.dumps(json.loads(text)["message"]).encode()]
    return text.splitlines()


def ns(text: str) -> int:
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000


# feed, file: channel, symbol, time, number of its first message
FILES = {
    ("binance-coinm", CASES / "binance-coinm-depth0ms.jsonl"): (
        *("depth@0ms", "BTCUSD_PERP", ns("2024-08-08 23:54:17.440"), 1007198631565),
    ),
    ("bybit-option", CASES / "bybit-option-trade.json"): (
        *("publicTrade", "BTC-28APR23-29500-C", ns("2023-04-05 00:02:02.102"), None),
    ),
    ("gateio-futures", CASES / "gateio-futures-no-time-ms.json"): (
        *("futures.book_ticker", "ETH_USDT", ns("2026-03-25 12:53:34.909"), 92738902534),
    ),
    ("gemini", CASES / "gemini-one-sided.json"): ("bookTicker", "xrpgusd", 1783981140076872200, 1764549594389752),
    ("gemini", CASES / "gemini-contract-status.json"): (
        *("contractStatus", "gemi-btc15m2607241200-hi100000", ns("2026-07-24 05:20:00"), None),
    ),
    ("kraken", CASES / "kraken-tokenized.jsonl"): ("book", "AAPLx/USD", 1783641601123457000, None),
    ("upbit", CASES / "upbit-microseconds.json"): ("orderbook", "USDT-ETC", ns("2023-08-08 21:40:05.062"), None),
    ("okx", MORE / "okx-spreads" / "other-1.json"): (
        *("sprd-public-trades", "ETH-USD-SWAP_ETH-USD-240329", 1703155852033000000, None),
    ),
    ("okx", MORE / "okx-spreads" / "other-2.json"): (
        *("sprd-bbo-tbt", "BTC-USD-SWAP_BTC-USD-231229", 1703155859224000000, None),
    ),
    ("bybit-linear", MORE / "bybit-linear-more" / "delta-1.json"): ("insurance.USDT", None, 1747722930000000000, None),
    ("bybit-linear", MORE / "bybit-linear-more" / "pricelimit-btcusdt-1.json"): (
        *("priceLimit", "BTCUSDT", 1750059683782000000, None),
    ),
    ("bybit-linear", MORE / "bybit-linear-more" / "snapshot-1.json"): (
        "adlAlert.USDT",
        None,
        1757736794000000000,
        None,
    ),
}
# feed, what identifies the message, the message: channel, symbol, time, number
MADE = [
    (
        *("bithumb", {"type": "orderbook", "code": "KRW-BTC", "timestamp": 1790150400123456}),
        ("orderbook", "KRW-BTC", 1790150400123456000, None),
    ),
    (
        *("bithumb", {"type": "trade", "code": "KRW-BTC", "timestamp": 1790150400123}),
        ("trade", "KRW-BTC", 1790150400123000000, None),
    ),
    (
        *("upbit", {"type": "orderbook", "code": "KRW-BTC", "timestamp": 1691530805062}),
        ("orderbook", "KRW-BTC", 1691530805062000000, None),
    ),
    ("gemini", {"u": 7, "E": 5, "s": "btcusd", "a": "1", "A": "2"}, ("bookTicker", "btcusd", 5, 7)),
    (
        "gemini",
        {"e": "depthUpdate", "E": 5, "s": "btcusd", "U": 6, "u": 7, "b": [], "a": []},
        ("depth@100ms", "btcusd", 5, 7),
    ),
    ("gemini", {"E": 5, "s": "btcusd", "t": 9, "p": "1", "q": "1", "m": True}, ("trade", "btcusd", 5, None)),
    (
        *("hyperliquid", {"channel": "candle", "data": {"t": 5, "T": 6, "s": "BTC", "i": "1m", "o": "1"}}),
        ("candle_1m", "BTC", None, None),
    ),
    (
        *("kucoin-futures", {"topic": "/contractMarket/limitCandle:XBTUSDTM_1min", "type": "message", "data": {}}),
        ("limitCandle_1min", "XBTUSDTM", None, None),
    ),
    (
        *(
            "binance-coinm",
            {"stream": "btcusd_perpetual@continuousKline_1m", "data": {"E": 5, "ps": "BTCUSD", "ct": "PERPETUAL"}},
        ),
        ("continuousKline_1m", "BTCUSD_PERPETUAL", 5000000, None),
    ),
    (
        *(
            "binance-coinm",
            {"stream": "btcusd@markPrice", "data": [{"E": 5, "s": "BTCUSD_PERP"}, {"E": 5, "s": "BTCUSD_260925"}]},
        ),
        ("markPrice", None, 5000000, None),
    ),
    (
        "binance",
        {"stream": "btcusdt@blockTrade", "data": {"E": 5, "s": "BTCUSDT", "t": 3}},
        ("blockTrade", "BTCUSDT", 5000000, 3),
    ),
    (
        *("binance", {"stream": "btcusdt@kline_1d@+08:00", "data": {"E": 5, "s": "BTCUSDT"}}),
        ("kline_1d@+08:00", "BTCUSDT", 5000000, None),
    ),
]
LIQUIDATIONS = [
    b'{"event":"subscribed","channel":"status","chanId":9,"key":"liq:global"}',
    b'[9,[["pos",145,1574694478808,null,"tETHF0:USTF0",-0.5,150.1,null,1,1]],4,1574694478809]',
    b'[9,[["pos",145,1574694478808,null,"tETHF0:USTF0",1,1],["pos",146,1574694478808,null,"tBTCF0:USTF0",1,1]],5,1574694478810]',
]


@pytest.mark.parametrize(("feed", "path"), FILES, ids=lambda value: getattr(value, "stem", value))
def test_of_a_file(field_reader, feed, path):
    first = rows(read(field_reader(find_feed(feed)), lines(path)))[0]
    assert first[:4] == FILES[feed, path]


@pytest.mark.parametrize(("feed", "message", "expected"), MADE)
def test_made_after_the_documentation(field_reader, feed, message, expected):
    reader = field_reader(find_feed(feed))
    payload = pa.array([json.dumps(message).encode()], pa.large_binary())
    (row,) = rows(reader.read(payload, np.ones(1, np.bool_), None, np.zeros(1, np.bool_)))
    assert row[:4] == expected


def test_liquidations_of_bitfinex_name_their_market(field_reader):
    _, one, two = rows(read(field_reader(find_feed("bitfinex")), LIQUIDATIONS))
    assert (one[:2], two[:2]) == (("liq", "tETHF0:USTF0"), ("liq", None))


def test_coinm_depth_of_every_change_is_followed():
    feed, messages = find_feed("binance-coinm"), lines(CASES / "binance-coinm-depth0ms.jsonl")
    reader = SequenceChecker(feed)
    conns = np.zeros(len(messages), np.uint16)
    columns = read(FieldReader(feed), messages)
    assert reader.check(conns, columns).gaps == []
    left = [*messages[:2], *messages[3:]]
    (gap,) = SequenceChecker(feed).check(conns[1:], read(FieldReader(feed), left)).gaps
    assert (gap.channel, gap.symbol, gap.what) == ("depth@0ms", "BTCUSD_PERP", "missing")


class TestTokenizedEquities:
    """Kraken spells them with a small x, and knows no other spelling."""

    @pytest.mark.parametrize(
        ("typed", "symbol"),
        [("AAPLx/USD", "AAPLx/USD"), ("BRK.Bx/EUR", "BRK.Bx/EUR"), ("XBT/USD", "BTC/USD"), ("eth/usd", "ETH/USD")],
    )
    def test_are_requested_as_written(self, typed, symbol):
        target = resolve("kraken", (typed,), ("book",))
        assert target.symbols == (symbol,)
        texts = [stated.text for connection in plan([target]) for stated in connection.requests]
        assert all(f'"{symbol}"' in text for text in texts)
        assert texts

    def test_are_listed_by_the_instrument_channel(self):
        (text,) = [s.text for c in plan([resolve("kraken", channels=("instrument",))]) for s in c.requests]
        assert json.loads(text)["params"] == {"channel": "instrument", "include_tokenized_assets": True}


@pytest.mark.parametrize(
    ("feed", "symbol"),
    [("gemini", "gemi-btc15m2607241200-hi100000"), ("hyperliquid", "#10"), ("okx", "BTC-USDT_BTC-USDT-SWAP")],
)
def test_symbols_that_exist_are_taken(feed, symbol):
    assert find_feed(feed).symbols.normalise(symbol) == symbol


@pytest.mark.parametrize("name", ["binance-usdm", "binance-coinm"])
def test_futures_of_binance_take_200_streams_a_connection(name):
    target = resolve(name, tuple(f"S{n}USDT" for n in range(300)), ("trades",))
    assert [len(connection.topics) for connection in plan([target])] == [150, 150]


def test_every_channel_of_the_catalogue_can_be_planned():
    for name in catalogue():
        feed = find_feed(name)
        if feed.closed is None and feed.symbols is not None:
            target = resolve(name, (feed.symbols.example,), tuple(feed.channel_table))
            assert plan([target])


def test_dydx_markets_that_are_one_have_its_symbol():
    message = {
        "type": "channel_data",
        "connection_id": "x",
        "message_id": 5,
        "channel": "v4_markets",
        "version": "1.0.0",
    }
    one = {**message, "contents": {"oraclePrices": {"BTC-USD": {"oraclePrice": "1"}}}}
    two = {**message, "contents": {"trading": {"BTC-USD": {}, "ETH-USD": {}}}}
    read_ = read_samples(find_feed("dydx"), [Sample("m", json.dumps(each).encode()) for each in (one, two)])
    assert [(each.channel, each.symbol) for each in read_] == [("v4_markets", "BTC-USD"), ("v4_markets", None)]
