"""The tables that messages are converted to, and the columns of each: names, kinds, meanings.

This is the only place that defines them: declarations (`wsrec.feed.table_declarations`) name these columns, the Arrow
schemas (`wsrec.tables.schema`) and docs/reference/tables.md are made from them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """What a column holds, and so its type in files."""

    NUMBER = "number"
    """A price: float64, correctly rounded from the digits as written, or decimal128(38, 18)."""
    SIZE = "size"
    """A size or volume: as a number, but never below zero."""
    RATE = "rate"
    """A funding rate: as a number, but decimal128(38, 24)."""
    TIME = "time"
    """timestamp[ns, UTC]; times that are none (0, 1970-01-01, year 0001) are null."""
    INTEGER = "integer"
    """int64."""
    COUNT = "count"
    """uint32."""
    TEXT = "text"
    """string."""
    WORD = "word"
    """dictionary of string."""
    TRUTH = "truth"
    """bool."""
    WORDS = "words"
    """list of string."""
    NUMBERS = "numbers"
    """list of numbers."""
    COUNTS = "counts"
    """list of uint32."""


class TableColumn(NamedTuple):
    """A column of a table.

    Attributes:
        name: its name.
        kind: what it holds.
        meaning: one line, for the documentation and the field's metadata.
        words: of a `WORD` the values that it may have; empty: any.

    """

    name: str
    kind: Kind
    meaning: str
    words: tuple[str, ...] = ()


class Table(StrEnum):
    """A table."""

    TRADES = "trades"
    QUOTES = "quotes"
    BOOK_CHANGES = "book_changes"
    BOOK_SNAPSHOTS = "book_snapshots"
    TICKERS = "tickers"
    DERIVATIVE_TICKER = "derivative_ticker"
    LIQUIDATIONS = "liquidations"
    CANDLES = "candles"
    GAPS = "gaps"
    """Not declared: made from the events (`wsrec.tables.gaps`)."""


SIDES = ("buy", "sell")
BOOK_SIDES = ("bid", "ask")
ACTIONS = ("set", "delete", "clear")
STATES = ("ok", "unproved", "suspect", "history")
SIZE_UNITS = ("base", "quote", "contracts", "contracts_both_sides")
FLAGS = (
    "snapshot", "block", "rpi", "elp", "liquidation", "adl", "insurance_fund", "na", "internal", "combo", "match",
    "assignment", "termination", "deleveraged", "twap",
)  # fmt: skip
"""What `flags` may say of a trade or liquidation; `snapshot`: history, sent on subscribing."""
GAP_KINDS = ("gap", "lost_interval", "disconnect", "reset", "checksum", "crossed", "unjoined")

_PRICE, _SIZE = "in the quote currency, as the exchange writes it", "in `size_unit`, never signed"


def _number(name: str, meaning: str) -> TableColumn:
    return TableColumn(name, Kind.NUMBER, meaning)


def _size(name: str, meaning: str) -> TableColumn:
    return TableColumn(name, Kind.SIZE, meaning)


def _time(name: str, meaning: str) -> TableColumn:
    return TableColumn(name, Kind.TIME, meaning)


def _integer(name: str, meaning: str) -> TableColumn:
    return TableColumn(name, Kind.INTEGER, meaning)


def _word(name: str, meaning: str, words: tuple[str, ...] = ()) -> TableColumn:
    return TableColumn(name, Kind.WORD, meaning, words)


def _text(name: str, meaning: str) -> TableColumn:
    return TableColumn(name, Kind.TEXT, meaning)


_SIZE_UNIT = _word("size_unit", "what the size counts", SIZE_UNITS)
_MULTIPLIER = _number("multiplier", "size of one contract, from the exchange's listing at recording time")
_MULTIPLIER_UNIT = _word("multiplier_unit", "what the multiplier counts: base or quote currency", ("base", "quote"))
_FLAGS = TableColumn("flags", Kind.WORDS, "what is special about it: " + ", ".join(FLAGS), FLAGS)
_TRANSACT = _time("transact_time", "the matching engine's time, beside that of the message")
_BEST = (
    _number("bid_price", "best bid; null: no quote on this side"),
    _size("bid_size", "its size"),
    _number("ask_price", "best ask; null: no quote on this side"),
    _size("ask_size", "its size"),
)

IDENTITY = (
    _word("feed", "the feed"),
    _word("session", "the recorder's session: with `feed` and `seq` it names the raw message"),
    TableColumn("seq", Kind.INTEGER, "`seq` of the raw message"),
    TableColumn("item", Kind.COUNT, "row of this table within the message, from 0"),
    TableColumn("conn", Kind.COUNT, "the connection"),
    _time("recv_time", "best arrival time, as in messages"),
    _time("exchange_time", "the exchange's time of the message; never filled with the receive time"),
    _word("symbol", "as the exchange writes it, of this row"),
    _word("channel", "the catalogue's name of the channel"),
    _word("state", "what is known of the row: " + ", ".join(STATES), STATES),
)
"""The columns that each table but `gaps` begins with. (`session`, `seq`, `item`) is a feed's key."""

COLUMNS: dict[Table, tuple[TableColumn, ...]] = {
    Table.TRADES: (
        _time("trade_time", "when it matched"),
        _text("trade_id", "the exchange's id, as text"),
        _word("side", "of the aggressor; null where the message does not say", SIDES),
        _number("price", _PRICE),
        _size("size", _SIZE),
        _SIZE_UNIT,
        _MULTIPLIER,
        _MULTIPLIER_UNIT,
        _FLAGS,
        _integer("first_trade_id", "of an aggregate: its first trade"),
        _integer("last_trade_id", "of an aggregate: its last trade"),
        TableColumn("count", Kind.COUNT, "of an aggregate: how many trades were joined"),
    ),
    Table.QUOTES: (
        *_BEST,
        TableColumn("bid_count", Kind.COUNT, "orders at the best bid"),
        TableColumn("ask_count", Kind.COUNT, "orders at the best ask"),
        _SIZE_UNIT,
        _MULTIPLIER,
        _MULTIPLIER_UNIT,
        _TRANSACT,
        _integer("update_id", "the exchange's number"),
        _word("source", "`bbo`: each change; `ticker`: throttled", ("bbo", "ticker")),
    ),
    Table.BOOK_CHANGES: (
        _word("action", "`set`, `delete` the level, or `clear` the book: each snapshot begins so", ACTIONS),
        TableColumn("is_snapshot", Kind.TRUTH, "whether it is of a snapshot, which replaces the book"),
        _word("side", "null: of `clear`, and of a deletion whose side the exchange does not say", BOOK_SIDES),
        _number("price", _PRICE),
        _size("size", "the level's new size in `size_unit`; 0 deletes"),
        TableColumn("count", Kind.COUNT, "orders at the level"),
        TableColumn("last", Kind.TRUTH, "whether it is the message's last row of this symbol"),
        _SIZE_UNIT,
        _MULTIPLIER,
        _MULTIPLIER_UNIT,
        _TRANSACT,
        _integer("first_update_id", "first number that the message covers"),
        _integer("update_id", "last number that the message covers"),
        _integer("prev_update_id", "number of the message before"),
        _integer("level_id", "the exchange's id of the level"),
        _integer("checksum", "the book's checksum after this message, as sent"),
    ),
    Table.BOOK_SNAPSHOTS: (
        TableColumn("bid_prices", Kind.NUMBERS, "best first"),
        TableColumn("bid_sizes", Kind.NUMBERS, "of the same levels"),
        TableColumn("ask_prices", Kind.NUMBERS, "best first"),
        TableColumn("ask_sizes", Kind.NUMBERS, "of the same levels"),
        TableColumn("bid_counts", Kind.COUNTS, "orders at the same levels"),
        TableColumn("ask_counts", Kind.COUNTS, "orders at the same levels"),
        TableColumn("depth", Kind.COUNT, "levels of the longer side"),
        _SIZE_UNIT,
        _MULTIPLIER,
        _MULTIPLIER_UNIT,
        _TRANSACT,
        _integer("update_id", "the exchange's number"),
        _word("origin", "`message`: as sent; `built`: from changes", ("message", "built")),
        _time("as_of", "of a built one: the moment; it holds what had arrived by then, and `seq` is the last message"),
        _text("doubt", "of a built one: why it is unknown (then it has no levels) or doubtful"),
    ),
    Table.TICKERS: (
        _number("last_price", "of the last trade"),
        _size("last_size", "of the last trade"),
        _number("open_24h", "24 hours ago"),
        _number("high_24h", "highest since"),
        _number("low_24h", "lowest since"),
        _number("open_price", "of the exchange's calendar day, where it counts days in place of 24 hours"),
        _number("high_price", "highest of that day"),
        _number("low_price", "lowest of that day"),
        _size("volume_24h", "traded since, in `volume_unit`"),
        _word("volume_unit", "what `volume_24h` counts", SIZE_UNITS),
        _size("base_volume_24h", "traded since in base currency, where `volume_24h` counts something else"),
        _size("quote_volume_24h", "traded since in quote currency"),
        *_BEST,
    ),
    Table.DERIVATIVE_TICKER: (
        _number("mark_price", "mark price"),
        _number("index_price", "of the underlying"),
        _number("last_price", "of the last trade"),
        _number("estimated_settle_price", "estimated settlement price"),
        TableColumn("funding_rate", Kind.RATE, "fraction per interval, as the exchange states it"),
        TableColumn("predicted_funding_rate", Kind.RATE, "of the interval after"),
        _time("next_funding_time", "when it is settled"),
        _size("open_interest", "in `open_interest_unit`"),
        _word("open_interest_unit", "what it counts", SIZE_UNITS),
        TableColumn("open_interest_sides", Kind.COUNT, "1, or 2 where long and short positions are both counted"),
    ),
    Table.LIQUIDATIONS: (
        _time("trade_time", "when it happened"),
        _text("liquidation_id", "the exchange's id, as text"),
        _word("side", "of the liquidating order: `sell` liquidates a long position", SIDES),
        _number("price", _PRICE),
        _word("price_kind", "what `price` is", ("order", "bankruptcy", "fill")),
        _number("average_price", "of its fills"),
        _size("size", _SIZE),
        _SIZE_UNIT,
        _MULTIPLIER,
        _MULTIPLIER_UNIT,
        _FLAGS,
    ),
    Table.CANDLES: (
        _text("interval", "as the exchange writes it"),
        _time("open_time", "begin"),
        _time("close_time", "end, as the exchange states it"),
        _number("open", "first price"),
        _number("high", "highest price"),
        _number("low", "lowest price"),
        _number("close", "last price"),
        _size("volume", "in `volume_unit`"),
        _word("volume_unit", "what `volume` counts", SIZE_UNITS),
        _size("base_volume", "in base currency, where `volume` counts something else"),
        _size("quote_volume", "in quote currency"),
        TableColumn("trades", Kind.COUNT, "number of trades"),
        TableColumn("closed", Kind.TRUTH, "whether it is final"),
    ),
    Table.GAPS: (
        _word("feed", "the feed"),
        _word("session", "the recorder's session"),
        _integer("seq", "`seq` of the first row after it; null: none came"),
        _time("from", "when it began"),
        _time("to", "when it ended"),
        TableColumn("conn", Kind.COUNT, "the connection"),
        _word("channel", "the channel; null: all of the connection's"),
        _word("symbol", "the symbol; null: all of the channel's"),
        _word("kind", ", ".join(GAP_KINDS), GAP_KINDS),
        _integer("missing", "messages that are missing, where the exchange's numbers say so"),
        _text("detail", "the reason in words"),
    ),
}
"""The columns of each table after `IDENTITY`; of `gaps` all."""
