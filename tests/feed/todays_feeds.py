"""Small feeds for the single messages of today's exchanges: how each is read, and no more of it than that."""

from __future__ import annotations

HEAD = """
name: today
description: reads messages
sockets: {main: {url: "wss://example.com"}}
symbols: {pattern: '.+', words: anything, example: X, case: keep}
subscribe: {message: '{"ask":{topics}}'}
limits: {streams_per_connection: 1, connects: 1, connects_interval: 1}
"""

FEEDS = {
    # rows of tables, without the message around them
    "bitmex": """
fields:
  channel: [table]
  symbol: ["data[].symbol", symbol]
  exchange_time: ["data[].timestamp", timestamp]
  time_unit: iso
""",
    "bybit": """
fields:
  channel: [op, {path: topic, capture: '^(.+)\\.[^.]+$'}]
  symbol: [data.s, data.symbol, "data[].s", {path: topic, capture: '^kline\\.[^.]+\\.(.+)$', optional: true}]
  exchange_time: [ts]
channels:
  "orderbook.{depth}":
    topic: "orderbook.{depth}.{symbol}"
    parameters: {depth: ["1", "50"]}
    exchange_seq: [data.u]
    sequence: next
  tickers: {topic: "tickers.{symbol}"}
""",
    "coinbase": """
fields:
  channel: [channel]
  symbol: ["events[].product_id", "events[].trades[].product_id", "events[].tickers[].product_id",
           "events[].candles[].product_id"]
  exchange_time: [timestamp]
  time_unit: iso
sequence: {exchange_seq: [sequence_num]}
channels:
  level2: {topic: "level2 {symbol}", ack_key: level2, aliases: [l2_data]}
""",
    "deribit": """
fields:
  channel:
    - {path: params.channel, capture: '^(chart\\.trades|\\w+)\\.[^.]+(\\..+)?$'}
    - {value: answer, needs: [id]}
  symbol:
    - params.data.instrument_name
    - "params.data[].instrument_name"
    - params.data.index_name
    - {path: params.channel, capture: '^chart\\.trades\\.([^.]+)', optional: true}
  exchange_time: [params.data.timestamp, "params.data[].timestamp", params.data.tick]
channels:
  book.100ms:
    topic: "book.{symbol}.100ms"
    exchange_seq: [params.data.change_id]
    seq_previous: [params.data.prev_change_id]
    sequence: previous
  "trades.{interval}":
    topic: "trades.{symbol}.{interval}"
    parameters: {interval: [raw, 100ms]}
    exchange_seq: ["params.data[].trade_seq"]
    seq_first: ["params.data[].trade_seq"]
    sequence: touching
""",
    "dydx": """
fields:
  channel: [channel, type]
  symbol: [id, "contents.markets.{}", "contents.trading.{}", "contents.oraclePrices.{}"]
  exchange_time:
    - "contents.trades[].createdAt"
    - "contents.oraclePrices[].effectiveAt"
    - contents.time
    - contents.startedAt
  time_unit: iso
sequence: {exchange_seq: [message_id]}
""",
    "hyperliquid": """
fields: {channel: [channel], symbol: [data.coin, "data[].coin", coin], exchange_time: [data.time, "data[].time", time]}
""",
    "kraken": """
fields:
  channel: [method, channel]
  symbol: ["data[].symbol", result.symbol]
  exchange_time: ["data[].timestamp"]
  time_unit: iso
channels:
  trade:
    topic: "trade {symbol}"
    exchange_seq: ["data[].trade_id"]
    seq_first: ["data[].trade_id"]
    sequence: touching
""",
    "kraken-futures": """
fields:
  channel: [event, feed]
  symbol: [product_id]
  exchange_time: [timestamp, time]
channels:
  book: {topic: "book {symbol}", aliases: [book_snapshot], exchange_seq: [seq], sequence: next}
  trade: {topic: "trade {symbol}", exchange_seq: [seq], sequence: next}
  trade_snapshot:
    topic: "trade_snapshot {symbol}"
    exchange_time: ["trades[0].time"]
    exchange_seq: ["trades[0].seq"]
    seq_first: ["trades[-1].seq"]
""",
    "okx": """
fields:
  channel: [event, arg.channel]
  symbol: [arg.instId, "data[].instId", "[].instId"]
  exchange_time: ["data[].ts", "[].ts"]
  texts: {pong: pong}
channels:
  books:
    topic: "books {symbol}"
    exchange_seq: ["data[0].seqId"]
    seq_previous: ["data[0].prevSeqId"]
    sequence: previous
  bbo-tbt: {topic: "bbo-tbt {symbol}", exchange_seq: ["data[].seqId"], sequence: increasing}
  candle1D: {topic: "candle1D {symbol}", exchange_time: ["data[0][0]"]}
""",
    "binance": """
fields: {channel: [e], symbol: [s, o.s], exchange_time: [E]}
channels:
  depth: {topic: "{symbol}@depth", aliases: [depthUpdate], exchange_seq: [u], seq_first: [U], seq_previous: [pu]}
  trade: {topic: "{symbol}@trade", exchange_seq: [t]}
""",
}
