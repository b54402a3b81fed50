"""wsrec.decode.compiled_table_reader: the same rows as the reference, and the same left out, whatever comes."""

from __future__ import annotations

import json
import random
import re
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.decode.table_readers import SCHEMAS, assert_alike
from tests.decode.test_table_rows import BOOK, TRADES, feed_of
from tests.tables.golden import FOLDER, golden, markets
from wsrec.decode.compiled_table_reader import RowScanner
from wsrec.decode.program_maker import program_of
from wsrec.decode.table_program import NotCompilableError
from wsrec.feed.load import find_feed
from wsrec.feed.table_columns import Table

pytestmark = pytest.mark.skipif(RowScanner is None, reason="the compiled table reader was not built here: no compiler")


@cache
def of_market(market: str) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for each in golden(market):
        if not each.binary:
            found.setdefault(each.channel, []).append(each.payload)
    return found


@pytest.mark.skipif(not FOLDER.is_dir(), reason="real messages are not beside the project: golden rows")
@pytest.mark.parametrize("market", markets() or ["binance"])
def test_real_messages_and_changed_ones_are_read_alike(market: str) -> None:
    feed, chance = find_feed(market), random.Random(market)
    for channel, payloads in of_market(market).items():
        changed = [_changed(payload, chance) for payload in payloads for _ in range(12)]
        assert_alike(feed, [*payloads, *changed], channel)


def _changed(payload: bytes, chance: random.Random) -> bytes:
    """A message with one value, key or byte changed."""
    values = [b"0", b'"0"', b'""', b"null", b"true", b"-1", b'"-0.50"', b"1e3", b'"x"', b"[]", b"{}", b"1e-400"]
    values += [b"12345678901234567890", b'"0.1234567890123456789"', b'"\\u0041"', b"[null]", b'"1e9999"', b"-0"]
    tokens = [found.span() for found in re.finditer(rb'"[^"]*"|-?[\d.]+(?:e-?\d+)?|true|false|null', payload)]
    start, stop = chance.choice(tokens)
    kind = chance.randrange(4)
    if kind == 0:
        return payload[:start] + payload[stop:]
    if kind == 1:
        where = chance.randrange(len(payload))
        return payload[:where] + bytes([chance.randrange(256)]) + payload[where + 1 :]
    return payload[:start] + chance.choice(values) + payload[stop:]


class TestNumbers:
    @given(st.text("0123456789.eE+-", max_size=26) | st.floats(allow_nan=False, allow_infinity=False).map(repr))
    def test_as_texts(self, digits: str) -> None:
        message = json.dumps({"p": digits, "q": "1"}).encode()
        assert_alike(feed_of(TRADES), [message], "data")

    @given(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(10**22), 10**22))
    def test_as_numbers(self, price: float, size: int) -> None:
        assert_alike(feed_of(TRADES), [json.dumps({"p": price, "q": size}).encode()], "data")

    def test_doubles_are_the_nearest(self) -> None:
        digits = ["61804.70000000", "0.0000001117", "9007199254740993", "0.1", "123456789012345.6", "1e22", "5e-324"]
        feed = feed_of(TRADES)
        made, _, rounded = assert_alike(feed, [json.dumps({"p": d, "q": "0"}).encode() for d in digits], "data")
        wanted = {index: float(d) for index, d in enumerate(digits)}
        assert {message: row["price"] for message, row in made[Table.TRADES]} == {
            index: value for index, value in wanted.items() if index != 6
        } | ({6: 5e-324} if 6 in dict(made[Table.TRADES]) else {})
        assert rounded == 1


class TestShapes:
    def test_a_rounded_number_that_no_row_keeps_is_not_counted(self) -> None:
        columns = {"bid_price": "b", "bid_size": "B", "ask_price": "a", "ask_size": "A"}
        message = {"b": "0", "B": "0.1234567890123456789", "a": "2", "A": "3"}
        _, _, rounded = assert_alike(
            feed_of({"table": "quotes", "columns": columns}), [json.dumps(message).encode()], "data"
        )
        assert rounded == 0

    @given(st.lists(st.sampled_from(["1", "0", "0.0", "x", "", None, 5, True]), max_size=3), st.booleans())
    def test_books(self, level: list[Any], snapshot: bool) -> None:
        declared = {**BOOK, "snapshot": {"path": "snap"}, "columns": {"update_id": "u"}}
        message = {"snap": snapshot or None, "u": 7, "a": [level, ["1", "2"]], "b": []}
        assert_alike(feed_of(declared), [json.dumps(message).encode()], "data")

    def test_a_book_without_levels_that_cannot_be_read(self) -> None:
        declared = {**BOOK, "columns": {"transact_time": "t"}}
        for levels in ([], [["1", "2"]]):
            _, left_out, _ = assert_alike(feed_of(declared), [json.dumps({"a": levels, "t": []}).encode()], "data")
            assert len(left_out) == 1

    def test_rows_within_rows(self) -> None:
        declared = {
            **TRADES,
            "rows": "events[].trades[]",
            "symbol": "s",
            "columns": {"price": "p", "size": "q", "trade_id": "$.events[].id", "trade_time": "$.t"},
            "flags": [{"path": "$.events[].type", "words": {"snapshot": "snapshot", "update": None}}],
        }
        events = [
            {"trades": [{"s": "A", "p": 1, "q": 2}, {"s": "B", "p": 3, "q": 4}], "type": "snapshot", "id": "x"},
            {"id": "y", "trades": []},
            {"type": "update", "id": "z", "trades": [{"s": "C", "p": 5, "q": 6}]},
        ]
        message = json.dumps({"events": events, "t": 1_700_000_000_000}).encode()
        made, left_out, _ = assert_alike(feed_of(declared), [message, message.replace(b"5", b"null")], "data")
        assert [row["trade_id"] for message, row in made[Table.TRADES] if message == 0] == ["x", "x", "z"]
        assert len(left_out) == 1

    def test_the_last_row_of_each_symbol(self) -> None:
        declared = {
            "table": "book_changes",
            "rows": "d[]",
            "symbol": "s",
            "columns": {"side": {"path": "x", "words": {"b": "bid"}}, "price": "p", "size": "q"},
        }
        rows = [{"s": s, "x": "b", "p": 1, "q": 1} for s in "ABAB"]
        made, _, _ = assert_alike(feed_of(declared), [json.dumps({"d": rows}).encode()] * 3, "data")
        assert [row["last"] for _, row in made[Table.BOOK_CHANGES]] == [False, False, True, True] * 3


def test_what_matters_for_speed_is_compiled() -> None:
    for market, channels in {
        "binance": ("trade", "aggTrade", "bookTicker", "depth@100ms"),
        "binance-usdm": ("trade", "bookTicker", "depth@0ms"),
        "okx": ("trades", "books", "bbo-tbt"),
        "bybit-linear": ("publicTrade", "orderbook.50"),
        "kraken": ("trade",),
        "deribit": ("trades.100ms", "book.100ms"),
    }.items():
        feed = find_feed(market)
        for channel in channels:
            if feed.tables_of(channel):
                program_of(feed, channel, is_rest=False, schemas=SCHEMAS)


def test_what_is_not_supported_is_refused_not_ignored() -> None:
    split = {**TRADES, "rows": "x", "split": ","}
    with pytest.raises(NotCompilableError):
        program_of(feed_of(split), "data", is_rest=False, schemas=SCHEMAS)
