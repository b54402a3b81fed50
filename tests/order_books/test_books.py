"""wsrec.books: order books of captures, held against what one keeps with plain dictionaries, and against checksums."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import wsrec
from tests.order_books.book_capture import Fetched, Happened, Received, closed, opened, record, usdm_entries, usdm_feed
from tests.order_books.small_books import SECOND, START, message, small_feed, snapshot
from tests.real_messages import DATA
from tests.tables.recorded import record as record_session
from tests.tables.recorded import session_messages
from wsrec.feed.load import find_feed
from wsrec.feed.table_columns import Table
from wsrec.order_books.book_lines import number
from wsrec.order_books.books import Books
from wsrec.order_books.session_books import subscribed_depth
from wsrec.ring.events import EventKind
from wsrec.tables.schema import table_schema

pytestmark = pytest.mark.skipif(not DATA.exists(), reason=f"real messages are not beside the project: {DATA}")


def rows(found: Books) -> list[dict[str, Any]]:
    """Books as plain data; times in ns."""
    table = found.read_all()
    assert table.schema.equals(table_schema(Table.BOOK_SNAPSHOTS))
    columns = {
        field.name: (column.cast(pa.int64()) if pa.types.is_timestamp(field.type) else column).to_pylist()
        for field, column in zip(table.schema, table.columns, strict=True)
    }
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def at(out: Path, time: float, **more: Any) -> dict[str, Any]:
    (row,) = rows(wsrec.books(out, at=START + round(time * SECOND), **more))
    return row


@pytest.mark.parametrize("count", [1_000, pytest.param(None, marks=pytest.mark.long)])
def test_the_book_after_the_last_usdm_message_is_that_of_two_dictionaries(tmp_path: Path, count: int | None) -> None:
    entries = list(usdm_entries())[:count]
    topics = opened(entries[0].time - 5, ["btcusdt@depth@0ms"])
    record(tmp_path / "out", usdm_feed(find_feed), [*topics, *entries], "depth@0ms", ["BTCUSDT"])
    sides: dict[str, dict[float, float]] = {}
    pending: list[dict[str, Any]] = []
    fetched = 0
    for entry in entries:
        whole = json.loads(entry.text)
        if isinstance(entry, Fetched):
            sides, fetched = {"b": _levels(whole["bids"]), "a": _levels(whole["asks"])}, entry.time
            changes = [change for change in pending if change["u"] > whole["lastUpdateId"]]
        else:
            changes = [whole["data"]]
            pending += changes
        for change in changes if sides else ():
            for side, of in sides.items():
                for price, size in _levels(change[side]).items():
                    of[price] = size
                    if not size:
                        del of[price]
    found = wsrec.books(tmp_path / "out", symbol="BTCUSDT", every=SECOND, until=entries[-1].time, levels=0)
    batches = list(found)
    # a whole book has many levels
    assert max(batch.nbytes for batch in batches) < 5 << 19 < sum(batch.nbytes for batch in batches)
    before = [row for batch in batches for row in batch.to_pylist()]
    assert Counter(row["state"] for row in before) == {"ok": len(before)}
    (doubt,) = found.doubts
    assert (doubt.unknown, doubt.end) == (True, fetched), "unknown before the snapshot, and never crossed after it"
    (row,) = rows(wsrec.books(tmp_path / "out", at=entries[-1].time, levels=0))
    assert (row["state"], row["doubt"], row["depth"]) == ("ok", None, max(map(len, sides.values())))
    assert dict(zip(row["bid_prices"], row["bid_sizes"], strict=True)) == sides["b"]
    assert dict(zip(row["ask_prices"], row["ask_sizes"], strict=True)) == sides["a"]
    assert row["bid_prices"] == sorted(sides["b"], reverse=True)
    assert row["update_id"] == pending[-1]["u"]


def _levels(listed: list[list[str]]) -> dict[float, float]:
    return {float(price): float(size) for price, size in listed}


@cache
def kraken_of_today() -> tuple[list[tuple[int, bytes]], dict[str, list[int | None]], dict[str, tuple[int, int]]]:
    """Kraken's session of 2021 in the words of today's API.

    Also by pair the checksum of each message, None for that of a snapshot, and the decimals of prices and sizes.
    """
    found, checksums, decimals = [], dict[str, list[int | None]](), dict[str, tuple[int, int]]()
    for time, text in session_messages("kraken"):
        message = json.loads(text)
        if not isinstance(message, list):
            continue
        pair, parts = message[-1], [part for part in message if isinstance(part, dict)]
        sides = [
            [level[:2] for part in parts for key in keys for level in part.get(key, ())]
            for keys in (("bs", "b"), ("as", "a"))
        ]
        for price, size in (*sides[0], *sides[1]):
            decimals[pair] = len(price.partition(".")[2]), len(size.partition(".")[2])
        is_snapshot = "as" in parts[0]
        checksum = next((int(part["c"]) for part in parts if "c" in part), None)
        bids, asks = (",".join(f'{{"price":{p},"qty":{q}}}' for p, q in side) for side in sides)
        stated = "" if checksum is None else f',"checksum":{checksum}'
        body = f'{{"symbol":"{pair}","bids":[{bids}],"asks":[{asks}]{stated},"timestamp":"2021-04-17T16:48:52.9Z"}}'
        kind = "snapshot" if is_snapshot else "update"
        found.append((time, f'{{"channel":"book","type":"{kind}","data":[{body}]}}'.encode()))
        checksums.setdefault(pair, []).append(checksum)
    return found, checksums, decimals


def test_every_checksum_of_a_kraken_session_is_that_of_the_rebuilt_book(tmp_path: Path) -> None:
    messages, checksums, decimals = kraken_of_today()
    feed = find_feed("kraken")
    opening = opened(messages[0][0] - 9, [f"book:{pair}" for pair in checksums])
    # as in the session, where several messages may have come at the same time: each has its own here
    times = [time for time, _ in messages]
    moved = [max(time, times[0] + n) for n, time in enumerate(times)]
    received = [Received(time, text) for time, (_, text) in zip(_rising(moved), messages, strict=True)]
    record(tmp_path / "out", feed, [*opening, *received], "book1000", checksums)
    found = wsrec.books(tmp_path / "out", levels=10)
    held = Counter[str]()
    seen = dict.fromkeys(checksums, 0)
    for row in rows(found):
        pair = row["symbol"]
        stated = checksums[pair][seen[pair]]
        seen[pair] += 1
        if stated is not None:
            held["equal" if stated == _crc(row, *decimals[pair]) else "different"] += 1
            assert row["doubt"] is None
    assert held == {"equal": 4269}
    assert not [doubt for doubt in found.doubts if not doubt.unknown], "it never crossed"


def _rising(times: list[int]) -> Iterator[int]:
    last = 0
    for time in times:
        last = max(time, last + 1)
        yield last


def _crc(row: dict[str, Any], of_price: int, of_size: int) -> int:
    """Kraken's checksum of a book's ten best levels, with the decimals that the messages have."""
    text = ""
    for side in ("ask", "bid"):
        for price, size in zip(row[f"{side}_prices"], row[f"{side}_sizes"], strict=True):
            for value, decimals in ((price, of_price), (size, of_size)):
                text += f"{value:.{decimals}f}".replace(".", "").lstrip("0")
    return zlib.crc32(text.encode())


@pytest.mark.parametrize(
    ("session", "feed", "states"),
    [
        ("coinbase", "coinbase", {"unproved": 2935}),
        ("deribit", "deribit", {"ok": 46}),
        ("bitmex", "bitmex", {"unproved": 1979}),
    ],
)
def test_books_of_a_session_never_cross(tmp_path: Path, session: str, feed: str, states: dict[str, int]) -> None:
    record_session(tmp_path / "out", feed, session_messages(session)[:3_000])
    found = wsrec.books(tmp_path / "out", levels=1)
    assert Counter(row["state"] for row in rows(found)) == states
    assert {doubt.reason for doubt in found.doubts} == {"no snapshot of it has arrived yet"}


def test_every_checksum_of_an_okx_session_is_that_of_the_rebuilt_book(tmp_path: Path) -> None:
    """OKX, 2022: of 25 levels, `bid price:size:ask price:size` in turn. Its messages had no numbers then."""
    messages = session_messages("okx")
    record_session(tmp_path / "out", "okx", messages)
    books = [json.loads(text) for _, text in messages if b'"channel":"books"' in text and b'"data"' in text]
    stated: dict[str, list[int]] = {}
    for book in books:
        stated.setdefault(book["arg"]["instId"], []).append(book["data"][0]["checksum"])
    found: dict[str, list[int]] = {}
    for row in rows(wsrec.books(tmp_path / "out", levels=25)):
        found.setdefault(row["symbol"], []).append(_okx_checksum(row))
        assert (row["state"], row["doubt"]) == ("unproved", None)
    assert found == stated
    assert sum(map(len, stated.values())) == 290


def _okx_checksum(row: dict[str, Any]) -> int:
    sides = [zip(row[f"{side}_prices"], row[f"{side}_sizes"], strict=True) for side in ("bid", "ask")]
    levels = [level for pair in zip_longest(*sides) for level in pair if level is not None]
    text = ":".join(number(value) for level in levels for value in level)
    return int(np.array(zlib.crc32(text.encode()), np.uint32).view(np.int32))


class TestBreaks:
    @pytest.fixture
    def out(self, tmp_path: Path) -> Path:
        """A book with a gap, a lost connection and a later snapshot."""
        entries = [
            *opened(START, ["book.A"]),
            snapshot(1, 10),
            message(2, 11, {10: 2}),
            message(4, 13, {8: 5}),
            message(5, 14, {7: 5}),
            snapshot(6, 14),
            message(7, 15, {11: 1}),
            closed(START + 8 * SECOND, message="reset by peer"),
            *opened(START + 9 * SECOND, ["book.A"]),
            snapshot(10, 30),
        ]
        record(tmp_path / "out", small_feed(), entries, "book", "A")
        return tmp_path / "out"

    def test_it_is_known_or_said_to_be_unknown(self, out: Path) -> None:
        found = [at(out, time) for time in (1, 2.5, 4.5, 6, 7.5, 8.5, 10)]
        assert [row["state"] for row in found] == ["ok", "suspect", "suspect", "ok", "ok", "suspect", "ok"]
        gap, lost = "missing: expected 11, found 12", "its connection was lost: reset by peer"
        assert [row["doubt"] for row in found] == [None, gap, gap, None, None, lost, None]
        # between the messages around the gap what is known is shown, with its doubt
        assert [row["bid_prices"] for row in found] == [[9], [10, 9], None, [9], [11, 9], None, [9]]

    def test_the_doubts_are_the_intervals(self, out: Path) -> None:
        found = wsrec.books(out)
        looks = [(row["as_of"] - START) // SECOND for row in rows(found)]
        assert looks == [1, 2, 4, 5, 6, 7, 10]
        doubts = [(d.start, d.end, d.unknown) for d in found.doubts]
        second = [(None if a is None else (a - START) // SECOND, (b - START) // SECOND, u) for a, b, u in doubts]
        assert second == [(None, 1, True), (2, 6, True), (8, 10, True)]

    def test_a_crossed_book_is_marked(self, tmp_path: Path) -> None:
        entries = [*opened(START), snapshot(1, 10), message(2, 11, {12: 1}), message(3, 12, {12: 0})]
        record(tmp_path / "crossed", small_feed(), entries, "book", "A")
        found = wsrec.books(tmp_path / "crossed")
        assert [(row["state"], row["bid_prices"][0]) for row in rows(found)] == [("ok", 9), ("suspect", 12), ("ok", 9)]
        crossed = found.doubts[-1]
        assert (crossed.unknown, crossed.start, crossed.end) == (False, START + 2 * SECOND, START + 3 * SECOND)

    def test_a_later_snapshot_with_nothing_between_is_compared(self, tmp_path: Path) -> None:
        entries = [*opened(START), snapshot(1, 10), message(2, 11, {9: 1}), snapshot(3, 11), message(4, 12, {9: 2})]
        record(tmp_path / "same", small_feed(), [*entries, snapshot(5, 12)], "book", "A")
        found = wsrec.books(tmp_path / "same")
        rows(found)
        assert found.checks == (2, 1)
        assert found.doubts[-1].reason == "it differs from the exchange's later snapshot"

    def test_while_connections_overlap_a_book_is_known_throughout(self, tmp_path: Path) -> None:
        replaced = {"from_conn": 0, "to_conn": 1, "proved": True, "reason": "old"}
        replaced |= {"monotonic_from": 1_003 * SECOND + 100, "monotonic_to": 1_004 * SECOND + 100}
        entries = [
            *opened(START),
            snapshot(1, 10),
            message(2, 11, {10: 1}),
            *opened(START + 2 * SECOND + 5, conn=1),
            snapshot(3, 11, conn=1)._replace(
                text=snapshot(3, 11).text.replace(b'["9", "1"]', b'["9", "1"], ["10", "1"]')
            ),
            message(3, 12, {8: 1}),
            message(4, 12, {8: 1}, conn=1),
            Happened(START + 4 * SECOND + 5, EventKind.REPLACED, replaced, 1),
            closed(START + 5 * SECOND),
            message(6, 13, {7: 1}, conn=1),
        ]
        record(tmp_path / "two", small_feed(), entries, "book", "A", conns=2)
        found = [at(tmp_path / "two", time) for time in (2.5, 3.5, 4.5, 5.5, 6)]
        assert [row["doubt"] for row in found] == [None] * 5
        prices = [[10, 9], [10, 9, 8], [10, 9, 8], [10, 9, 8], [10, 9, 8, 7]]
        assert [row["bid_prices"] for row in found] == prices


class TestAsked:
    @pytest.fixture
    def out(self, tmp_path: Path) -> Path:
        entries = [*opened(START), snapshot(1, 10), *(message(n, 9 + n, {n: 1}) for n in range(2, 9))]
        record(tmp_path / "out", small_feed(), entries, "book", "A")
        return tmp_path / "out"

    def test_moments_are_multiples_from_since_and_before_until(self, out: Path) -> None:
        found = rows(wsrec.books(out, every=2 * SECOND, since=START + 3 * SECOND, until=START + 7 * SECOND))
        assert [(row["as_of"] - START) // SECOND for row in found] == [4, 6]
        assert [row["bid_prices"][0] for row in found] == [9, 9]
        assert [row["depth"] for row in found] == [4, 6]

    def test_each_row_names_its_last_message_and_their_key_is_unique(self, out: Path) -> None:
        found = rows(wsrec.books(out, every=SECOND // 4))
        keys = [(row["session"], row["seq"], row["item"]) for row in found]
        assert len(set(keys)) == len(keys)
        assert all(row["recv_time"] <= row["as_of"] and row["origin"] == "built" for row in found)

    def test_levels(self, out: Path) -> None:
        assert [len(at(out, 8, levels=levels)["bid_prices"]) for levels in (1, 3, 0)] == [1, 3, 8]

    def test_another_symbol_is_an_error_and_its_case_does_not_matter(self, out: Path) -> None:
        with pytest.raises(wsrec.CaptureError, match="found 'B', which the capture does not have, expected A"):
            rows(wsrec.books(out, symbol="B"))
        assert len(rows(wsrec.books(out, symbol="a", channel="book"))) == 8

    def test_an_opened_capture_and_other_tools(self, out: Path) -> None:
        found = wsrec.books(wsrec.open_capture(out), every=SECOND)
        assert pa.table(found).num_rows == 8

    @pytest.mark.parametrize(
        "wrong", [{"at": START, "every": 1}, {"every": 0}, {"levels": -1}, {"since": "yesterday"}, {"at": "13:00"}]
    )
    def test_what_cannot_be_meant_is_refused(self, out: Path, wrong: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=r"at|every|levels|since"):
            wsrec.books(out, **wrong)

    def test_without_a_snapshot_partial_books_can_be_asked_for(self, tmp_path: Path) -> None:
        record(tmp_path / "none", small_feed(), [*opened(START), message(1, 5, {3: 1})], "book", "A")
        assert at(tmp_path / "none", 1)["bid_prices"] is None
        row = at(tmp_path / "none", 1, partial=True)
        assert (row["bid_prices"], row["state"]) == ([3], "suspect")


def test_the_depth_that_books_are_cut_to_is_the_subscribed_one() -> None:
    feed = find_feed("kraken")
    about = {"conn": 0, "requests": [{"number": 1, "topics": [{"topic": "t", "channel": "book25", "symbol": "A/B"}]}]}
    assert subscribed_depth(feed, [about], 0, "book10", "A/B") == 25
    assert subscribed_depth(feed, [], 0, "book10", "A/B") == 10
    assert subscribed_depth(find_feed("okx"), [], 0, "books", "BTC-USDT") == 0
