"""The rows that each market's messages make: equal to those worked out by hand from the venues' documentation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import reduce
from operator import getitem
from typing import Any

import pytest

from tests.tables.golden import FOLDER, differences, golden, markets
from wsrec.decode.table_rows import Message, Outcome, TableRowReader
from wsrec.feed.load import catalogue, find_feed

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="real messages are not beside the project: golden rows")


def test_every_market_of_the_catalogue_has_golden_rows() -> None:
    assert set(markets()) <= set(catalogue())
    assert len(markets()) >= 36


@pytest.mark.parametrize("market", catalogue())
def test_every_row_is_the_golden_one(market: str) -> None:
    assert differences(market) == []


_WORDS = {
    "snapshot", "update", "delta", "partial", "insert", "delete", "change", "new", "subscribed", "channel_data",
    "channel_batch_data", "match", "last_match", "l2update", "trade", "trade_snapshot", "book", "book_snapshot",
    "all", "te", "tu", "SNAPSHOT", "REALTIME", "buy", "sell", "Buy", "Sell", "BUY", "SELL", "bid", "offer", "ask",
    "ASK", "BID", "A", "B", "M", "T", "MT", "fill", "block", "liquidation", "LIMIT", "LIQUIDATED", "MARKET",
    "Regular", "yes", "no",
}  # fmt: skip


def _places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of a message's words."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from _places(each, (*way, key))
    if isinstance(value, bool) or (isinstance(value, str) and value in _WORDS):
        yield way


@pytest.mark.parametrize("market", catalogue())
def test_a_word_that_no_declaration_knows_changes_rows_with_a_reason_only(market: str) -> None:
    feed = find_feed(market)

    def made(content: Any, channel: str) -> Outcome:
        return TableRowReader(feed).read(Message(json.dumps(content).encode(), channel, "X"))

    for each in golden(market):
        if each.binary or each.table is None:
            continue
        before = made(json.loads(each.payload), each.channel)
        for way in _places(json.loads(each.payload)):
            content = json.loads(each.payload)
            parent = reduce(getitem, way[:-1], content)
            parent[way[-1]] = "weird"
            after = made(content, each.channel)
            where = f"{market}:{each.line} {way}"
            assert after.rows == before.rows or len(after.left_out) > len(before.left_out) or after.skipped, where
