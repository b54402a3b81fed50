"""The template behind `wsrec feeds new`: a feed's YAML that loads as it is, with comments on what to change."""

from __future__ import annotations

import re
from pathlib import Path
from string import Template

from wsrec.feed.errors import ConfigError
from wsrec.feed.values import NAME_IN_WORDS, NAME_PATTERN

_TEXT = Template("""\
# yaml-language-server: $$schema=feed.schema.json
#
# A feed of wsrec. docs/reference/feeds.md and `wsrec feeds schema` explain every key. Note the source of each value
# beside it, or "unverified" if there is none. `wsrec feeds check FILE` finds mistakes, and
# `wsrec feeds plan FILE` shows what would be sent.
name: $name
description: "$name: public market data"
# homepage: https://example.com/docs

sockets:
  main:
    url: wss://example.com/ws

symbols:
  # A whole symbol as the messages write it.
  pattern: '[A-Z0-9]+-[A-Z0-9]+'
  words: base and quote with a dash between them
  example: BTC-USDT
  case: upper
  # How BTC/USDT is written.
  pair: "{base}-{quote}"
  # How BTC/USDT:USDT, a perpetual, is written.
  # perpetual: "{base}-{quote}-SWAP"
  # Where the exchange lists its symbols, for --symbols all.
  # listing:
  #   url: https://example.com/api/symbols
  #   items: data
  #   symbol: symbol
  #   where: {status: [trading]}
default_symbols: [BTC-USDT]

# What to send first on each connection, and how long to wait before.
# on_connect: {wait: 1.0, send: ['{"method":"hello","id":{id}}']}

subscribe:
  # {topics}: an array of topics. For other forms see docs/reference/feeds.md.
  message: '{"op":"subscribe","args":{topics},"id":{id}}'
  batch: 50

# Keep-alive messages that the exchange requires.
# keep_alive: {every: 20, text: '{"op":"ping"}'}

limits:
  streams_per_connection: 200
  messages_per_second: 2
  # Connection attempts from one address.
  connects: 10
  connects_interval: 60

# How the exchange answers subscriptions.
# ack: {id: id, error_code: [code], error_message: [msg]}

# Where to find each field in a message.
fields:
  # what is before the dot in `trades.BTC-USDT`
  channel: [{path: topic, capture: '^([^.]+)'}]
  symbol: [data.symbol]
  exchange_time: [ts]
  time_unit: ms

channels:
  trades:
    description: every trade
    topic: "trades.{symbol}"
    common: trades
    default: true
    # Which rows of which table a message makes: see docs/reference/tables.md.
    # `wsrec feeds check FILE MESSAGES` shows them.
    # tables:
    #   - table: trades
    #     rows: "data.trades[]"
    #     columns:
    #       trade_id: id
    #       price: px
    #       size: qty
    #       size_unit: base
    #       side: {path: side, words: {B: buy, S: sell}}
    #       trade_time: t
  book:
    description: order book changes
    topic: "book.{symbol}"
    common: book
    default: true
    # More messages than other channels; connections are balanced by weight.
    weight: 5
    # tables:
    #   - table: book_changes
    #     rows: data
    #     # another word than these two is refused
    #     snapshot: {path: $$.type, equals: snapshot, otherwise: update}
    #     bids: bids
    #     asks: asks
    #     level: [price, size]
    #     columns: {update_id: seq, size_unit: base}
""")


def feed_template(name: str) -> str:
    """The YAML of a new feed called `name`."""
    return _TEXT.substitute(name=name)


def write_template(name: str, out: Path | None = None) -> Path:
    """Write the template of a feed called `name` to a new file, by default NAME.yaml; returns its path.

    Raises:
        ConfigError: no feed can be called so, or the file exists.
        OSError: it cannot be written.

    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise ConfigError(f"name {name!r}: expected {NAME_IN_WORDS}, as in my-exchange")
    file, text = out or Path(f"{name}.yaml"), feed_template(name)
    try:
        with file.open("x", encoding="utf-8") as new_file:
            try:
                new_file.write(text)
                new_file.flush()
            except BaseException:
                # an empty one would be in the way of the next attempt
                file.unlink()
                raise
    except FileExistsError as error:
        raise ConfigError(f"{file}: {error.strerror}; name another file with --out") from error
    return file
