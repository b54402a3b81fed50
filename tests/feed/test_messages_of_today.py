"""What is read of every single message that is kept beside the project, and of sessions of arrays and of gzip."""

from __future__ import annotations

import ast
import gzip
import re
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from tests.feed.todays_feeds import FEEDS, HEAD
from tests.feeds import parse_feed
from tests.real_messages import DATA, read, rows

MESSAGES = DATA / "messages"
# exchange/message | channel | symbol | exchange_time | exchange_seq; "-" is null. The rows of BitMEX, Hyperliquid's
# book and OKX's option summary were kept without the message around them: there is no channel in them.
EXPECTED = """
binance/agg_trade_stream | aggTrade | BTCUSDT | 123456789000000 | -
binance/book_ticker_stream | bookTicker | BNBUSDT | 1568014460893000000 | -
binance/depth_update_stream | depthUpdate | BTCUSDT | 123456789000000 | 160
binance/kline_stream_closed | kline | BTCUSDT | 1638747660000000000 | -
binance/kline_stream_open | kline | BTCUSDT | 1638747660000000000 | -
binance/liquidation_stream | forceOrder | BTCUSDT | 1568014460893000000 | -
binance/mark_price_stream | markPriceUpdate | BTCUSDT | 1562305380000000000 | -
binance/ticker_stream | 24hrTicker | BTCUSDT | 1672515782136000000 | -
binance/trade_stream | trade | BTCUSDT | 123456789000000 | 5933014
bitmex/ws_funding_rate | - | XBTUSD | 1732507200000000000 | -
bitmex/ws_instrument | - | XBTUSD | 1732536000000000000 | -
bitmex/ws_instrument_index_update | - | XBTUSD | 1779879600500000000 | -
bitmex/ws_instrument_mark_update | - | DOTUSDT | 1779886600500000000 | -
bitmex/ws_liquidation | - | XBTUSD | - | -
bitmex/ws_orderbook_10 | - | XBTUSD | 1732436353513000000 | -
bitmex/ws_orderbook_l2 | - | XBTUSD | 1732436782356000000 | -
bitmex/ws_quote | - | BCHUSDT | 1732315465085000000 | -
bitmex/ws_trade | - | XBTUSD | 1732436138704000000 | -
bitmex/ws_trade_bin_1m | - | XBTUSD | 1732392420000000000 | -
bybit/ws_kline | kline.5 | BTCUSDT | 1672324988882000000 | -
bybit/ws_orderbook_delta | orderbook.1 | BTCUSDT | 1709891679500000000 | 123456790
bybit/ws_orderbook_snapshot | orderbook.1 | BTCUSDT | 1709891679000000000 | 123456789
bybit/ws_public_trade | trade.linear | BTCUSDT | 1709891679005000000 | -
bybit/ws_subscription_ack | subscribe | - | - | -
bybit/ws_subscription_failure | subscribe | - | - | -
bybit/ws_ticker_linear | tickers | BTCUSDT | 1673272861686000000 | -
bybit/ws_ticker_option | tickers | BTC-6JAN23-17500-C | 1672917511074000000 | -
coinbase/ws_candles | candles | BTC-USD | 1775572205000000000 | 3
coinbase/ws_heartbeats | heartbeats | - | 1775572210000000000 | 0
coinbase/ws_l2_data_snapshot | l2_data | BTC-USD | 1775572200123456000 | 0
coinbase/ws_l2_data_update | l2_data | BTC-USD | 1775572201456789000 | 1
coinbase/ws_market_trades | market_trades | BTC-USD | 1775572202789012000 | 5
coinbase/ws_subscriptions | subscriptions | - | 1775572200000000000 | 0
coinbase/ws_ticker | ticker | BTC-USD | 1775572203000000000 | 12
deribit/ws_book_delta | book.100ms | BTC-PERPETUAL | 1699999999500000000 | 123456790
deribit/ws_book_grouped_snapshot | book.none.10.100ms | BTC-PERPETUAL | 1769246173071000000 | -
deribit/ws_book_snapshot | book.100ms | BTC-PERPETUAL | 1699999999000000000 | 123456789
deribit/ws_chart | chart.trades.1 | BTC-PERPETUAL | 1767200040000000000 | -
deribit/ws_error | answer | - | - | -
deribit/ws_quote | quote | BTC-PERPETUAL | 1765541767174000000 | -
deribit/ws_subscribe_response | answer | - | - | -
deribit/ws_ticker | ticker.100ms | BTC-PERPETUAL | 1765541474086000000 | -
deribit/ws_trades | trades.100ms | BTC-PERPETUAL | 1765531356452000000 | 271252855
deribit/ws_trades_option_combo | trades.raw | BTC-CS-19MAY26-70000_75000 | 1779118041756000000 | 1
deribit/ws_volatility_index | deribit_volatility_index | btc_usd | 1619777946007000000 | -
dydx/ws_block_height_subscribed | v4_block_height | v4_block_height | 1704067200000000000 | 1
dydx/ws_block_height_update | v4_block_height | v4_block_height | 1704067201000000000 | 7
dydx/ws_candles_subscribed | v4_candles | BTC-USD/1MIN | - | 1
dydx/ws_candles_update | v4_candles | BTC-USD/1MIN | 1704067260000000000 | 4
dydx/ws_error | error | - | - | 1
dydx/ws_markets_status_update | v4_markets | - | - | 10
dydx/ws_markets_subscribed | v4_markets | - | - | 1
dydx/ws_markets_update | v4_markets | - | 1704067260000000000 | 5
dydx/ws_orderbook_subscribed | v4_orderbook | BTC-USD | - | 1
dydx/ws_orderbook_update | v4_orderbook | BTC-USD | - | 2
dydx/ws_trades_subscribed | v4_trades | BTC-USD | 1704067200000000000 | 1
dydx/ws_trades_update | v4_trades | BTC-USD | 1704067201000000000 | 3
hyperliquid/ws_all_dexs_asset_ctxs | allDexsAssetCtxs | - | - | -
hyperliquid/ws_allmids | allMids | - | - | -
hyperliquid/ws_book_data | - | BTC | 1703875200000000000 | -
kraken/ws_book_snapshot | book | BTC/USD | 1696613755440295000 | -
kraken/ws_book_update | book | BTC/USD | 1696613755440295000 | -
kraken/ws_futures_book_delta | book | PI_XBTUSD | 1612269953629000000 | 326094134
kraken/ws_futures_book_snapshot | book_snapshot | PI_XBTUSD | 1612269825817000000 | 326072249
kraken/ws_futures_book_snapshot_with_zero_qty | book_snapshot | PI_XBTUSD | 1612269825817000000 | 326072249
kraken/ws_futures_ticker | ticker | PI_XBTUSD | 1676393235406000000 | -
kraken/ws_futures_trade | trade | PI_XBTUSD | 1612266317519000000 | 653355
kraken/ws_futures_trade_snapshot | trade_snapshot | PI_XBTUSD | 1612269657781000000 | 655508
kraken/ws_l3_snapshot | level3 | BTC/USD | 1705320000000000000 | -
kraken/ws_l3_update_add | level3 | BTC/USD | 1705320001000000000 | -
kraken/ws_l3_update_delete | level3 | BTC/USD | 1705320004000000000 | -
kraken/ws_l3_update_modify_price | level3 | BTC/USD | 1705320003000000000 | -
kraken/ws_l3_update_modify_qty | level3 | BTC/USD | 1705320002000000000 | -
kraken/ws_ohlc_update | ohlc | BTC/USD | - | -
kraken/ws_pong | pong | - | - | -
kraken/ws_subscribe_response | subscribe | BTC/USD | - | -
kraken/ws_ticker_snapshot | ticker | BTC/USD | 1671960659123456000 | -
kraken/ws_trade_update | trade | BTC/USD | 1696613755440295000 | 10218209
okx/ws_bbo_tbt | bbo-tbt | BTC-USDT | 1597026383085000000 | 123456
okx/ws_books_snapshot | books | BTC-USDT | 1597026383085000000 | 123456
okx/ws_books_update | books | BTC-USDT | 1597026383085000000 | 123457
okx/ws_candle | candle1D | BTC-USDT | 1597026383085000000 | -
okx/ws_funding_rate | funding-rate | BTC-USDT-SWAP | 1744590349506000000 | -
okx/ws_instruments | instruments | BTC-USDT-SWAP | - | -
okx/ws_opt_summary | - | - | 1711612800000000000 | -
okx/ws_tickers | tickers | BTC-USDT | 1597026383085000000 | -
okx/ws_trades | trades | BTC-USD | 1630048897897000000 | -
"""
TABLE = {name: rest for name, *rest in (line.split(" | ") for line in EXPECTED.strip().splitlines())}


def feed_of(name):
    """The small feed of an exchange's messages."""
    return parse_feed((HEAD + FEEDS[name]).encode(), f"{name}.yaml")


@pytest.mark.parametrize("name", TABLE)
def test_message(field_reader, name):
    path = MESSAGES / f"{name}.json"
    if not path.exists():
        pytest.skip(f"real messages are not beside the project: {path}")
    feed = feed_of("kraken-futures" if "futures" in name else path.parent.name)
    ((channel, symbol, time, seq, *_),) = rows(read(field_reader(feed), [path.read_bytes()]))
    assert ["-" if value is None else str(value) for value in (channel, symbol, time, seq)] == TABLE[name]


def test_every_message_is_in_the_table():
    if not MESSAGES.exists():
        pytest.skip(f"real messages are not beside the project: {MESSAGES}")
    assert {f"{file.parent.name}/{file.stem}" for file in MESSAGES.rglob("*.json")} == TABLE.keys()


def session(name):
    """What was received in a session: the messages, and whether each was binary."""
    path = DATA / "sessions" / f"{name}.txt.gz"
    if not path.exists():
        pytest.skip(f"real messages are not beside the project: {path}")
    with gzip.open(path) as lines:
        texts = [found[1] for line in lines if (found := re.match(rb"[\d.]+: (.*)\n", line))]
    binary = np.array([text[:2] in (b"b'", b'b"') for text in texts])
    return [ast.literal_eval(t.decode()) if b else t for t, b in zip(texts, binary, strict=True)], binary


def counted(field_reader, yaml, name):
    """How often each channel came with a symbol and a time (yes or no), and the rows."""
    messages, binary = session(name)
    reader = field_reader(parse_feed((HEAD + yaml).encode(), name))
    columns = reader.read(pa.array(messages, pa.large_binary()), np.ones(len(messages), np.bool_), None, binary)
    found = rows(columns)
    return Counter((row[0], row[1] is not None, row[2] is not None) for row in found), found


def test_session_of_gzip(field_reader):
    yaml = """
fields:
  binary: gzip
  channel:
    - {path: ch, capture: '^market\\.[^.]+\\.(.+)$'}
    - {value: ping, needs: [ping]}
    - {value: subscribed, needs: [subbed]}
  symbol: [{path: ch, capture: '^market\\.([^.]+)\\.'}]
  exchange_time: [ts]
channels:
  depth.step0: {topic: "market.{symbol}.depth.step0"}
"""
    counts, found = counted(field_reader, yaml, "huobi")
    assert counts == {
        ("depth.step0", True, True): 292,
        ("trade.detail", True, True): 44,
        ("subscribed", False, True): 20,
        ("ping", False, False): 6,
    }
    assert found[1][:3] == ("depth.step0", "trioeth", 1618678069870000000)


def test_session_of_arrays(field_reader):
    yaml = """
fields:
  channel: [event, "[-2]"]
  symbol: ["[-1]", pair]
  exchange_time: ["[1].a[-1][2]", "[1].b[-1][2]", "[1].as[0][2]"]
  time_unit: s
"""
    counts, found = counted(field_reader, yaml, "kraken")
    assert counts == {
        ("book-1000", True, True): 4279,
        ("heartbeat", False, False): 31,
        ("subscriptionStatus", True, False): 10,
        ("systemStatus", False, False): 1,
    }
    times = [row[2] for row in found if row[0] == "book-1000"]
    assert 1618678000 < times[-1] / 1e9 < 1618678200 + 3600


def test_session_of_channel_numbers(field_reader):
    """The same session by the numbers that the exchange announced, as Bitfinex wants it."""
    yaml = """
fields:
  channel: [$channel, event]
  symbol: [$symbol, pair]
  ids:
    where: {event: subscriptionStatus}
    id: channelID
    names: {channel: [channelName], symbol: [pair]}
    at: "[0]"
"""
    messages, _ = session("kraken")
    plain = """
fields: {channel: [event, "[-2]"], symbol: ["[-1]", pair]}
"""
    readers = [field_reader(parse_feed((HEAD + text).encode(), "kraken")) for text in (yaml, plain)]
    assert len({tuple(rows(read(reader, messages))) for reader in readers}) == 1
