"""wsrec.order_books.book: order books from level changes, in Python and compiled."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.order_books.changes import change_batch, change_rows
from wsrec.order_books import book_implementation
from wsrec.order_books.book import Book as PythonBook
from wsrec.order_books.book_implementation import CompiledBook
from wsrec.order_books.level_changes import ASK, BID, CLEAR, DELETE, NO_SIDE, SET, LevelChanges

_not_built = pytest.mark.skipif(CompiledBook is None, reason="not compiled here")
BOTH = [pytest.param(PythonBook, id="python"), pytest.param(CompiledBook, id="compiled", marks=_not_built)]


def made(*rows: tuple[Any, ...]) -> LevelChanges:
    """Changes given as (action, side, price, size, count, named, last)."""
    kinds = (np.int8, np.int8, np.float64, np.float64, np.int64, np.bool_, np.bool_)
    return LevelChanges._make(np.array([row[n] for row in rows], kind) for n, kind in enumerate(kinds))


def put(side: int, price: float, size: float, *, last: bool = True, count: int = -1, named: bool = False) -> Any:
    return (SET, side, price, size, count, named, last)


@pytest.mark.parametrize("kind", BOTH)
class TestBook:
    def test_levels_come_best_first_with_their_counts(self, kind: Any) -> None:
        book = kind()
        rows = [put(BID, 9, 1), put(BID, 10, 2, count=3), put(ASK, 12, 4), put(ASK, 11, 5), put(BID, 8, 6)]
        assert book.apply(made(*rows), 0, 5) == []
        bids, asks = book.levels(2)
        assert (bids.prices, bids.sizes, bids.counts) == ([10, 9], [2, 1], [3, -1])
        assert (asks.prices, asks.sizes) == ([11, 12], [5, 4])
        assert book.levels()[0].prices == [10, 9, 8]
        assert len(book) == 5

    def test_size_zero_deletes_and_a_missing_level_is_no_error(self, kind: Any) -> None:
        book = kind()
        rows = [put(BID, 9, 1), put(BID, 9, 0), put(ASK, 9, 0), (DELETE, BID, 7, np.nan, -1, False, True)]
        book.apply(made(*rows), 0, 4)
        assert len(book) == 0

    def test_a_deletion_without_a_side_removes_from_whichever_has_the_price(self, kind: Any) -> None:
        book = kind()
        rows = [put(BID, 9, 1), put(ASK, 10, 1), (DELETE, NO_SIDE, 10, np.nan, -1, False, True)]
        book.apply(made(*rows), 0, 3)
        assert [side.prices for side in book.levels()] == [[9], []]

    def test_a_level_with_an_id_changes_sides(self, kind: Any) -> None:
        book = kind()
        book.apply(made(put(BID, 9, 1, named=True), put(ASK, 9, 2, named=True)), 0, 2)
        assert [side.prices for side in book.levels()] == [[], [9]]

    def test_clear_empties_it(self, kind: Any) -> None:
        book = kind()
        clear = (CLEAR, NO_SIDE, np.nan, np.nan, -1, False, False)
        book.apply(made(put(BID, 9, 1), clear, put(ASK, 10, 1)), 0, 3)
        assert [side.prices for side in book.levels()] == [[], [10]]

    def test_it_is_cut_to_the_subscribed_depth_after_a_message_not_within_it(self, kind: Any) -> None:
        book = kind(2)
        # the third level is behind the two best only until the first is deleted in the same message
        rows = [put(BID, 9, 1), put(BID, 8, 1), put(BID, 7, 1, last=False), put(BID, 9, 0)]
        book.apply(made(*rows), 0, 4)
        assert book.levels()[0].prices == [8, 7]
        book.apply(made(put(BID, 9, 1), put(BID, 9, 0)), 0, 2)
        assert book.levels()[0].prices == [8]

    def test_a_crossing_is_looked_for_after_each_message_and_its_ends_are_told(self, kind: Any) -> None:
        book = kind()
        rows = [
            put(BID, 9, 1),
            put(ASK, 9, 1),
            put(ASK, 10, 1),
            put(ASK, 9, 0, last=False),
            put(BID, 10, 1, last=False),
        ]
        rows += [put(BID, 10, 0)]
        assert book.apply(made(*rows), 0, 3) == [1]
        assert book.crossed
        assert book.apply(made(*rows), 3, 6) == [5]
        assert not book.crossed

    def test_too_many_levels_are_told(self, kind: Any) -> None:
        book = kind(0, 3)
        rows = [put(BID, price, 1) for price in range(1, 5)]
        book.apply(made(*rows), 0, 4)
        assert book.overfull
        assert len(book) == 3
        book.clear()
        assert not book.overfull


_PRICES = st.integers(1, 40).map(lambda ticks: ticks / 4)
_ROWS = st.tuples(
    st.sampled_from([SET] * 12 + [DELETE] * 5 + [CLEAR]),
    st.sampled_from([BID, ASK] * 5 + [NO_SIDE]),
    _PRICES | st.just(float("nan")),
    st.sampled_from([0.0, 1.0, 2.5, float("nan")]),
    st.integers(-1, 3),
    st.integers(0, 9).map(lambda n: n == 0),
    st.booleans(),
)


@pytest.mark.parametrize("kind", BOTH)
@settings(max_examples=150, deadline=None)
@given(rows=st.lists(_ROWS, max_size=120), depth=st.sampled_from([0, 0, 3]), cut=st.integers(0, 120))
def test_as_plain_dictionaries(kind: Any, rows: list[Any], depth: int, cut: int) -> None:
    sides: tuple[dict[float, Any], dict[float, Any]] = ({}, {})
    crossed, turns = False, []
    for n, (action, side, price, size, count, named, last) in enumerate(rows):
        if action == CLEAR:
            sides = ({}, {})
        elif price == price and action == SET and size > 0:
            if side != NO_SIDE:
                sides[side][price] = (size, count)
                if named:
                    sides[1 - side].pop(price, None)
        elif price == price:
            for each in (BID, ASK) if side == NO_SIDE else (side,):
                sides[each].pop(price, None)
        if last:
            if depth:
                sides = (
                    dict(sorted(sides[0].items(), reverse=True)[:depth]),
                    dict(sorted(sides[1].items())[:depth]),
                )
            if crossed != bool(sides[0] and sides[1] and max(sides[0]) >= min(sides[1])):
                crossed = not crossed
                turns.append(n)
    book, cut, changes = kind(depth), min(cut, len(rows)), made(*rows)
    assert book.apply(changes, 0, cut) + book.apply(changes, cut, len(rows)) == turns
    found = book.levels()
    for side, of, worst_first in zip(found, sides, (True, False), strict=True):
        prices = sorted(of, reverse=worst_first)
        assert side.prices == prices
        assert list(zip(side.sizes, side.counts, strict=True)) == [of[price] for price in prices]
    assert book.crossed == crossed


@pytest.mark.parametrize("order", [1, -1, 0])
@pytest.mark.parametrize("kind", BOTH)
def test_a_long_book_in_any_order(kind: Any, order: int) -> None:
    prices = np.arange(1.0, 3001.0)[:: order or 1]
    if not order:
        np.random.default_rng(1).shuffle(prices)
    book = kind()
    book.apply(made(*[put(n % 2, price + n % 2 * 5000, price) for n, price in enumerate(prices.tolist())]), 0, 3000)
    bids, asks = book.levels()
    assert bids.prices == sorted(bids.prices, reverse=True)
    assert asks.prices == sorted(asks.prices)
    assert sorted(bids.sizes + asks.sizes) == list(range(1, 3001))


def test_rows_of_the_table_are_read() -> None:
    rows = [*change_rows(1, [("bid", 9, 1), ("ask", 10, 2)], snapshot=True), *change_rows(2, [("bid", 9, 0)], count=4)]
    rows[-1]["level_id"] = 7
    found = LevelChanges.of(change_batch(rows))
    assert found.actions.tolist() == [CLEAR, SET, SET, DELETE]
    assert found.sides.tolist() == [NO_SIDE, BID, ASK, BID]
    assert found.prices.tolist()[1:] == [9, 10, 9]
    assert np.isnan(found.prices[0])
    assert found.counts.tolist() == [-1, -1, -1, 4]
    assert found.named.tolist() == [False, False, False, True]
    assert found.lasts.tolist() == [False, False, True, True]


@_not_built
def test_the_speed_of_the_compiled_one_is_many_times_that_of_python() -> None:
    random = np.random.default_rng(1)
    count = 20_000
    rows = made(*[put(int(side), 1000 + side * 100 + int(level), 1.0) for side, level in zip(
        random.integers(0, 2, count), random.integers(0, 100, count), strict=True)])  # fmt: skip
    took = {}
    for kind in (PythonBook, CompiledBook) * 3:
        began = time.perf_counter()
        kind().apply(rows, 0, count)
        took[kind] = min(took.get(kind, 9.0), time.perf_counter() - began)
    assert took[CompiledBook] * 5 < took[PythonBook]


def test_the_one_in_use_is_the_compiled_one_where_it_was_built() -> None:
    expected = CompiledBook if book_implementation.COMPILED else PythonBook
    assert book_implementation.Book is expected
