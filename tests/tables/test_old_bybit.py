"""Bybit's API v2, which the catalogue does not have: declared as a feed of one's own, its session of 2021 is a book."""

from __future__ import annotations

import json

from tests.feeds import parse_feed
from tests.venues.mock import received_in_session
from wsrec.decode.row_maker import TableRow
from wsrec.decode.table_rows import Message, TableRowReader
from wsrec.feed.table_columns import Table

FEED = """
name: bybit-v2
description: Bybit linear perpetuals until 2023
sockets: {main: {url: wss://stream.bybit.com/realtime_public}}
symbols: {pattern: '[A-Z]+', words: letters, example: BTCUSDT}
subscribe: {message: '{"op":"subscribe","args":["{topic}"]}'}
limits: {streams_per_connection: 10, connects: 10, connects_interval: 60}
fields:
  channel: [{path: topic, capture: '^(.+)\\.[^.]+$'}]
  symbol: [{path: topic, capture: '\\.([^.]+)$'}]
  exchange_time: [{path: timestamp_e6, unit: us}, "data[].trade_time_ms"]
  time_unit: ms
channels:
  trade:
    topic: trade.{symbol}
    tables:
      - table: trades
        rows: data[]
        columns:
          trade_id: trade_id
          price: price
          size: size
          size_unit: base
          side: {path: side, words: {Buy: buy, Sell: sell}}
          trade_time: trade_time_ms
  orderBookL2_25:
    topic: orderBookL2_25.{symbol}
    tables:
      # The lists of levels to delete, to change and to insert; of a snapshot one list.
      - table: book_changes
        rows: "data[][]"
        snapshot: {path: $.type, equals: snapshot, otherwise: delta}
        delete: {path: size, absent: true}
        columns:
          side: {path: side, words: {Buy: bid, Sell: ask}}
          price: price
          size: size
          size_unit: base
          level_id: id
"""


def test_the_session_s_trades_and_its_book_which_never_crosses() -> None:
    reader = TableRowReader(parse_feed(FEED.encode(), "bybit-v2.yaml"))
    books: dict[str, dict[str, dict[float, str]]] = {}
    trades = 0
    for text in received_in_session("bybit"):
        message = json.loads(text)
        if "topic" not in message:
            continue  # an answer
        channel, symbol = message["topic"].rsplit(".", 1)
        made = reader.read(Message(text.encode(), channel, symbol))
        assert (made.left_out, made.skipped) == ([], None)
        for table, rows in made.rows:
            if table is Table.TRADES:
                assert len(rows) == len(message["data"])
                trades += len(rows)
                continue
            lists = [each for each in message["data"].values() if isinstance(each, list)]
            assert sum(row["action"] != "clear" for row in rows) == sum(map(len, lists))
            book = books.setdefault(symbol, {})
            for row in rows:
                _apply(book, row)
            assert max(book["bid"]) < min(book["ask"]), text
            assert len(book["bid"]) == len(book["ask"]) == 25
    assert len(books) == 8
    assert trades > 60


def _apply(book: dict[str, dict[float, str]], row: TableRow) -> None:
    if row["action"] == "clear":
        book.update(bid={}, ask={})
    elif row["action"] == "delete":
        del book[row["side"]][float(row["price"])]
    else:
        book[row["side"]][float(row["price"])] = row["size"]
