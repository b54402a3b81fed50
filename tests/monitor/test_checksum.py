"""Checksums of order books, with real and generated messages."""

from __future__ import annotations

import json
import random
import zlib
from collections import Counter
from decimal import Decimal
from functools import cache
from heapq import nlargest, nsmallest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.subscriptions import requested
from tests.venues.mock import of_today, received_in_session
from wsrec.feed.load import find_feed
from wsrec.feed.schema import Feed
from wsrec.monitor.checksum import BookChecker, Verdict

PLAIN = {
    "name": "plain",
    "description": "",
    "sockets": {"main": {"url": "ws://x"}},
    "symbols": {"pattern": ".+", "words": "any", "example": "A"},
    "subscribe": {"message": "{topics}", "batch": 1},
    "limits": {"streams_per_connection": 9, "messages_per_second": 1, "connects": 1, "connects_interval": 1},
    "fields": {"channel": ["channel"], "symbol": ["data[0].symbol"]},
}
# API v1: a change of both sides is two objects, of which the second has the checksum
V1 = {
    "algorithm": "kraken",
    "value": "[].c",
    "snapshot": {"path": "[].as"},
    "asks": ["[].as", "[].a"],
    "bids": ["[].bs", "[].b"],
    "price": "[0]",
    "size": "[1]",
    "depth": 1000,
}
KRAKEN = find_feed("kraken")


def feed_of(checksum, name="book-1000"):
    channel = {"topic": f"{name}:{{symbol}}", "sequence": "checksum", "checksum": checksum}
    return Feed.model_validate({**PLAIN, "channels": {name: channel}})


def digits(text):
    return text.replace(".", "").lstrip("0")


class PlainBook:
    """A book as two dicts, searched for its best and worst levels each time: the reference."""

    def __init__(self, depth):
        self.depth = depth
        self.sides = {"asks": {}, "bids": {}}

    def apply(self, asks, bids):
        for side, levels in (("asks", asks), ("bids", bids)):
            for price, size in levels:
                self.sides[side].pop(Decimal(price), None)
                if Decimal(size):
                    self.sides[side][Decimal(price)] = digits(price) + digits(size)
            while len(self.sides[side]) > self.depth:
                del self.sides[side][(max if side == "asks" else min)(self.sides[side])]

    def crc(self):
        asks, bids = self.sides["asks"], self.sides["bids"]
        best = [*(asks[price] for price in nsmallest(10, asks)), *(bids[price] for price in nlargest(10, bids))]
        return zlib.crc32("".join(best).encode())

    def copy(self):
        other = PlainBook(self.depth)
        other.sides = {side: dict(levels) for side, levels in self.sides.items()}
        return other


def v2(kind, asks, bids, checksum, symbol="A/B"):
    """A message of API v2, with numbers of exactly these digits."""
    asks, bids = (",".join(f'{{"price":{price},"qty":{size}}}' for price, size in levels) for levels in (asks, bids))
    body = f'{{"symbol":"{symbol}","bids":[{bids}],"asks":[{asks}],"checksum":{checksum}}}'
    return f'{{"channel":"book","type":"{kind}","data":[{body}]}}'.encode()


@cache
def books_of_2021():
    """The session's book messages, by pair."""
    books = {}
    for text in received_in_session("kraken"):
        message = json.loads(text)
        if isinstance(message, list):
            books.setdefault(message[-1], []).append(text.encode())
    return books


def test_every_checksum_of_a_real_session_is_that_of_the_book():
    checker = BookChecker(feed_of(V1))
    verdicts = [
        checker.check(0, "book-1000", pair, message).verdict
        for pair, messages in books_of_2021().items()
        for message in messages
    ]
    assert verdicts == [Verdict.OK] * 4279


def test_a_message_left_out_of_a_real_session_is_found():
    chance = random.Random(4)
    books = books_of_2021()
    chosen = Counter(chance.choices(list(books), k=40))
    found = 0
    for pair, count in chosen.items():
        messages = books[pair]
        plain, before = PlainBook(1000), 0
        for left_out in sorted(chance.choices(range(1, len(messages)), k=count)):
            for text in messages[before:left_out]:
                apply_v1(plain, text)
            before = left_out
            expected = first_break(plain.copy(), messages, left_out + 1)
            checker = BookChecker(feed_of(V1))
            checked = [
                (at, checker.check(0, "book-1000", pair, text)) for at, text in enumerate(messages) if at != left_out
            ]
            broken = [(at, *each[1:]) for at, each in checked if each.verdict is Verdict.BROKEN]
            assert broken == ([expected] if expected else [])
            assert all(each.verdict is Verdict.UNKNOWN for at, each in checked if expected and at > expected[0])
            found += len(broken)
    assert found > 20


def first_break(plain, messages, start):
    """The first message from `start` on whose checksum is not the book's: `(place, expected, found)`."""
    for at in range(start, len(messages)):
        stated = apply_v1(plain, messages[at])
        if stated is not None and stated != plain.crc():
            return at, plain.crc(), stated
    return None


def apply_v1(plain, text):
    """Apply a message to a plain book; returns its checksum."""
    parts = [part for part in json.loads(text) if isinstance(part, dict)]
    sides = [
        [level[:2] for part in parts for key in keys for level in part.get(key, ())]
        for keys in (("as", "a"), ("bs", "b"))
    ]
    plain.apply(*sides)
    return next((int(part["c"]) for part in parts if "c" in part), None)


PRICES = st.integers(1, 60).map(lambda n: f"{n / 100:.2f}")
SIZES = st.sampled_from(["0.00000000", "0.00500000", "1.00000000", "12.30000000", "0.10000001"])
LEVELS = st.lists(st.tuples(PRICES, SIZES), max_size=30)


@given(st.lists(st.tuples(LEVELS, LEVELS), min_size=1, max_size=20), st.sampled_from([10, 25]))
def test_any_book_has_the_checksum_of_a_plain_one(changes, depth):
    checker, plain = BookChecker(KRAKEN), PlainBook(depth)
    checker.subscribed(0, [requested(KRAKEN, f"book{depth}", "A/B")])
    for number, (asks, bids) in enumerate(changes):
        plain.apply(asks, bids)
        message = v2("update" if number else "snapshot", asks, bids, plain.crc())
        assert checker.check(0, "book", "A/B", message).verdict is Verdict.OK


def test_a_break_is_reported_once_and_a_snapshot_starts_over():
    checker, plain = BookChecker(KRAKEN), PlainBook(10)
    checker.subscribed(0, [requested(KRAKEN, "book10", "A/B")])
    plain.apply([("1.10", "5.00")], [("1.00", "0.50")])
    whole = v2("snapshot", [("1.10", "5.00")], [("1.00", "0.50")], plain.crc())
    change = v2("update", [("1.20", "1.00")], [], 7)
    assert checker.check(0, "book", "A/B", change).verdict is Verdict.UNKNOWN
    assert checker.check(0, "book", "A/B", whole).verdict is Verdict.OK
    plain.apply([("1.20", "1.00")], [])
    assert checker.check(0, "book", "A/B", change) == (Verdict.BROKEN, plain.crc(), 7)
    assert checker.check(0, "book", "A/B", change).verdict is Verdict.UNKNOWN
    assert checker.check(0, "book", "A/B", whole).verdict is Verdict.OK
    checker.reset(1)
    assert checker.check(0, "book", "A/B", v2("update", [], [], zlib.crc32(b"110500100050"))).verdict is Verdict.BROKEN
    checker.check(0, "book", "A/B", whole)
    checker.reset(0)
    assert checker.check(0, "book", "A/B", change).verdict is Verdict.UNKNOWN


def test_a_book_of_unknown_depth_is_not_checked():
    checker = BookChecker(KRAKEN)
    whole = v2("snapshot", [("1", "1")], [], zlib.crc32(b"11"))
    assert checker.check(0, "book", "A/B", whole).verdict is Verdict.UNKNOWN
    checker.subscribed(0, [requested(KRAKEN, "book10", "A/B"), requested(KRAKEN, "book25", "C/D")])
    assert checker.check(0, "book", "A/B", whole).verdict is Verdict.OK
    checker.subscribed(0, [requested(KRAKEN, "book25", "A/B")])
    assert checker.check(0, "book", "A/B", whole).verdict is Verdict.UNKNOWN
    assert checker.check(0, "book", "E/F", whole).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    "message",
    [
        b"{",
        b"[" * 100_000,
        b'{"type":"update","data":[{"asks":[{"price":1e5,"qty":1}],"checksum":1}]}',
        b'{"type":"update","data":[{"asks":[{"price":1.2345678901234567,"qty":1}],"checksum":1}]}',
        b'{"type":"update","data":[{"asks":[{"price":-1,"qty":1}],"checksum":1}]}',
        b'{"type":"update","data":[{"asks":{"price":1},"checksum":1}]}',
        b'{"type":"update","data":[{"asks":[1],"checksum":1}]}',
        b'{"type":"update","data":[{"asks":[],"checksum":"99999999999999999999999"}]}',
        b'{"type":"update","data":[{"asks":[' + b",".join([b'{"price":1,"qty":1}'] * 5000) + b"]}]}",
    ],
)
def test_what_cannot_be_read_ends_the_book_and_is_no_break(message):
    checker = BookChecker(KRAKEN)
    checker.subscribed(0, [requested(KRAKEN, "book10", "A/B")])
    whole = v2("snapshot", [("1", "1")], [], zlib.crc32(b"11"))
    assert checker.check(0, "book", "A/B", whole).verdict is Verdict.OK
    assert checker.check(0, "book", "A/B", message).verdict is Verdict.UNKNOWN
    assert checker.check(0, "book", "A/B", v2("update", [], [], 1)).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("name", ["ws_book_snapshot", "ws_book_update"])
def test_messages_of_today_are_read(name):
    """Their books are cut short by who noted them down, so that their checksums cannot hold."""
    for text in of_today(f"kraken/{name}"):
        checker = BookChecker(KRAKEN)
        checker.subscribed(0, [requested(KRAKEN, "book10", "BTC/USD")])
        stated = json.loads(text)["data"][0]["checksum"]
        checked = checker.check(0, "book", "BTC/USD", text.encode())
        assert checked.found == (stated if name == "ws_book_snapshot" else None)


@pytest.mark.parametrize(
    ("changes", "reported"),
    [
        ({"price": "a.b"}, "expected one key"),
        ({"size": "[]"}, "expected one key"),
        ({"depth": 5}, "expected no more than depth"),
    ],
)
def test_rules_that_cannot_be(changes, reported):
    with pytest.raises(ValueError, match=reported):
        feed_of({**V1, **changes})


def test_rule_and_places_belong_together():
    for channel in ({"sequence": "checksum"}, {"checksum": V1}):
        with pytest.raises(ValueError, match="expected both or neither"):
            Feed.model_validate({**PLAIN, "channels": {"book": {"topic": "book:{symbol}", **channel}}})
