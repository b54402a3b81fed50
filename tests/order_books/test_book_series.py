"""wsrec.order_books.book_series and book_builder: a book over time, and what is doubtful about it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.order_books.changes import START, change_batch, change_rows
from wsrec.order_books import book_builder
from wsrec.order_books.book_builder import NO_SNAPSHOT, BookBuilder, BookRows
from wsrec.order_books.book_series import BookSeries, End, each_message, grid, single

BOOK = [("bid", 9.0, 1.0), ("ask", 10.0, 2.0)]


class Watched:
    """A series and what was looked at: (moment, prices of bids, doubt)."""

    def __init__(self, moments: Any, ends: Iterable[End] = (), **about: Any) -> None:
        self.series = BookSeries(lambda conn: BookBuilder("A", "book", conn, **about), list(ends), moments)
        self.looks: list[tuple[int, list[float] | None, str | None]] = []

    def take(self, *messages: Iterable[dict[str, Any]]) -> None:
        batch = change_batch(row for message in messages for row in message)
        self._add(self.series.take(BookRows.of(batch), np.arange(batch.num_rows)))

    def finish(self, until: int) -> list[tuple[int, list[float] | None, str | None]]:
        self._add(self.series.finish(START + until))
        return self.looks

    def _add(self, looks: Any) -> None:
        for look in looks:
            found = look.builder.levels(0)
            self.looks.append((look.time - START, None if found is None else found[0].prices, look.doubt))

    @property
    def doubts(self) -> list[tuple[int | None, int | None, bool, str]]:
        return [
            (d.start and d.start - START, d.end and d.end - START, d.unknown, d.reason)
            for builder in self.series.builders.values()
            for d in builder.doubts
        ]


def at(*moments: int) -> Any:
    left = [START + moment for moment in moments]

    def moments_of(_times: Any, until: int) -> Iterable[int]:
        while left and left[0] <= until:
            yield left.pop(0)

    return moments_of


def test_a_book_is_unknown_before_its_first_snapshot() -> None:
    watched = Watched(at(15, 25, 30, 45))
    watched.take(change_rows(10, [("bid", 8, 1)], state="suspect"), change_rows(20, [], state="suspect"))
    watched.take(change_rows(30, BOOK, snapshot=True), change_rows(40, [("bid", 9.5, 1)]))
    assert watched.finish(50) == [
        (15, None, NO_SNAPSHOT), (25, None, NO_SNAPSHOT), (30, [9], None), (45, [9.5, 9], None),
    ]  # fmt: skip
    assert watched.doubts == [(None, 30, True, NO_SNAPSHOT)]


def test_a_moment_sees_whole_messages_only() -> None:
    watched = Watched(at(10, 20))
    watched.take(change_rows(10, BOOK, snapshot=True), change_rows(20, [("bid", 9, 0), ("bid", 8, 1)]))
    assert watched.finish(20) == [(10, [9], None), (20, [8], None)]


@pytest.mark.parametrize("together", [True, False])
def test_between_the_messages_around_a_gap_the_book_is_already_doubtful(together: bool) -> None:
    watched = Watched(at(10, 15, 25, 35, 40), reasons={20: "missing: expected 5, found 7"})
    messages = [
        change_rows(10, BOOK, snapshot=True),
        change_rows(20, [("bid", 8, 1)], state="suspect"),
        change_rows(30, [("bid", 7, 1)], state="suspect"),
        change_rows(40, BOOK, snapshot=True),
    ]
    for part in [messages] if together else [[message] for message in messages]:
        watched.take(*part)
    gap = "missing: expected 5, found 7"
    looks = watched.finish(50)
    assert [(time, doubt) for time, _, doubt in looks] == [(10, None), (15, gap), (25, gap), (35, gap), (40, None)]
    assert [prices for _, prices, _ in looks][2:4] == [None, None]
    assert watched.doubts == [(None, 10, True, NO_SNAPSHOT), (10, 40, True, gap)]


def test_a_book_ends_with_its_connection() -> None:
    end = End(START + 15, frozenset([0]), "its connection was closed")
    watched = Watched(at(12, 16, 25), [end])
    watched.take(change_rows(10, BOOK, snapshot=True), change_rows(20, BOOK, snapshot=True))
    assert watched.finish(30) == [(12, [9], None), (16, None, end.reason), (25, [9], None)]
    assert (15, 20, True, end.reason) in watched.doubts


def test_a_crossed_book_is_shown_and_marked() -> None:
    watched = Watched(at(15, 25, 35))
    watched.take(
        change_rows(10, BOOK, snapshot=True), change_rows(20, [("bid", 10, 1)]), change_rows(30, [("bid", 10, 0)])
    )
    looks = watched.finish(40)
    assert [(time, prices) for time, prices, _ in looks] == [(15, [9]), (25, [10, 9]), (35, [9])]
    assert [doubt is not None for _, _, doubt in looks] == [False, True, False]
    assert (20, 30, False, "crossed") in watched.doubts


def test_of_two_connections_the_book_that_is_known_and_changed_last_is_shown() -> None:
    end = End(START + 35, frozenset([0]), "its connection was closed")
    watched = Watched(at(15, 25, 36, 45), [end])
    watched.take(
        change_rows(10, BOOK, snapshot=True),
        change_rows(20, [("bid", 8, 1)], snapshot=True, conn=1, state="history"),
        change_rows(22, [("bid", 8.5, 1)], conn=1, state="history"),
        change_rows(30, [("bid", 9.25, 1)]),
        change_rows(40, [("bid", 8.75, 1)], conn=1),
    )
    prices = [prices for _, prices, _ in watched.finish(50)]
    assert prices == [[9], [8.5, 8], [8.5, 8], [8.75, 8.5, 8]]


class TestFetchedSnapshots:
    def test_changes_that_came_before_it_and_have_higher_numbers_are_applied_on_top(self) -> None:
        watched = Watched(at(25, 35), fetched=True)
        watched.take(
            change_rows(10, [("bid", 8, 1)], state="suspect", update_id=5),
            change_rows(20, [("bid", 9, 3)], update_id=7),
            change_rows(30, BOOK, snapshot=True, update_id=6),
        )
        assert watched.finish(40) == [(25, None, NO_SNAPSHOT), (35, [9], None)]
        (builder,) = watched.series.builders.values()
        assert builder.book.levels()[0].sizes == [3]

    def test_one_that_is_ahead_of_the_stream_is_not_undone_by_older_changes(self) -> None:
        watched = Watched(at(25, 35, 45), fetched=True)
        watched.take(
            change_rows(20, BOOK, snapshot=True, update_id=6),
            change_rows(30, [("bid", 9, 0)], update_id=6, state="suspect"),
            change_rows(40, [("bid", 8, 1)], update_id=7),
        )
        assert watched.finish(50) == [(25, [9], None), (35, [9], None), (45, [9, 8], None)]

    @pytest.mark.parametrize(("number", "known"), [(5, False), (6, True)])
    def test_where_too_many_changes_came_before_it_a_book_begins_only_without_those_that_are_gone(
        self, number: int, known: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(book_builder, "PENDING_MAX", 2)
        watched = Watched(at(45), fetched=True)
        watched.take(*(change_rows(10 * n, [("bid", n, 1)], update_id=4 + n) for n in (1, 2)))
        watched.take(change_rows(30, [("bid", 3, 1)], update_id=7))
        watched.take(change_rows(40, BOOK, snapshot=True, update_id=number))
        ((_, prices, doubt),) = watched.finish(50)
        assert (prices is not None, doubt is None) == (known, known)

    @pytest.mark.parametrize("together", [True, False])
    def test_a_break_ends_the_book_though_a_later_snapshot_proves_all_that_follows_it(self, together: bool) -> None:
        watched = Watched(at(15, 25, 35, 55), fetched=True, breaks=frozenset([30]), reasons={30: "4 are missing"})
        messages = [
            change_rows(10, BOOK, snapshot=True, update_id=5),
            change_rows(20, [("bid", 9, 0), ("bid", 7, 1)], update_id=6),
            change_rows(30, [("bid", 6, 1)], update_id=11),
            change_rows(40, BOOK, snapshot=True, update_id=10),
            change_rows(50, [("bid", 5, 1)], update_id=12),
        ]
        for part in [messages] if together else [[each] for each in messages]:
            watched.take(*part)
        looks = watched.finish(60)
        assert looks == [
            (15, [9], None),
            (25, [7], "4 are missing"),
            (35, None, "4 are missing"),
            (55, [9, 6, 5], None),
        ]
        assert watched.doubts == [(None, 10, True, NO_SNAPSHOT), (20, 40, True, "4 are missing")]

    def test_one_that_does_not_join_begins_no_book(self) -> None:
        watched = Watched(at(15, 25), fetched=True)
        watched.take(change_rows(10, BOOK, snapshot=True, state="suspect"), change_rows(20, [], state="suspect"))
        assert all(prices is None for _, prices, _ in watched.finish(30))


class TestComparison:
    def rows(self, size: float, update: int = 3) -> Watched:
        watched = Watched(at(15))
        watched.take(
            change_rows(10, BOOK, snapshot=True, update_id=2),
            change_rows(20, [("bid", 9, 4)], update_id=3),
            change_rows(30, [("bid", 9, size)], snapshot=True, update_id=update),
        )
        watched.finish(40)
        return watched

    def test_a_later_snapshot_with_the_same_number_must_equal_the_book(self) -> None:
        builder = self.rows(4).series.builders[0]
        assert (builder.compared, builder.different) == (1, 0)

    def test_a_difference_is_a_doubt(self) -> None:
        watched = self.rows(5)
        builder = watched.series.builders[0]
        assert (builder.compared, builder.different) == (1, 1)
        assert watched.doubts[-1][3] == "it differs from the exchange's later snapshot"

    def test_one_with_another_number_is_not_compared(self) -> None:
        assert self.rows(5, update=9).series.builders[0].compared == 0


def test_without_a_snapshot_a_partial_book_has_what_changed_and_is_doubted() -> None:
    watched = Watched(at(15, 25), partial=True)
    watched.take(change_rows(10, [("bid", 8, 1)], state="suspect"), change_rows(20, [("bid", 9, 1)], state="suspect"))
    looks = watched.finish(30)
    assert [prices for _, prices, _ in looks] == [[8], [9, 8]]
    assert all(doubt and "without a snapshot" in doubt for _, _, doubt in looks)


def test_moments() -> None:
    times = np.array([13, 21, 35])
    assert list(grid(10, None)(times, 40)) == [20, 30, 40]
    assert list(grid(10, 5)(times, 20)) == [20]
    assert list(single(20)(times, 19)) == []
    moments = each_message(20)
    assert [*moments(times, 30), *moments(np.array([35]), 40)] == [21, 35]


_LEVELS = st.lists(
    st.tuples(st.sampled_from(["bid", "ask"]), st.integers(1, 9).map(float), st.integers(0, 2).map(float)), max_size=3
)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(_LEVELS, st.sampled_from(["change"] * 6 + ["snapshot", "gap"])), min_size=1, max_size=20),
    st.integers(1, 20),
)
def test_as_one_would_keep_it_with_dictionaries(messages: list[tuple[Any, str]], cut: int) -> None:
    """At each message the book is what two dictionaries have, or unknown from a gap to the next snapshot."""
    watched = Watched(each_message(None))
    book: dict[str, dict[float, float]] | None = None
    rows, expected = [], []
    for seq, (levels, kind) in enumerate(messages, 1):
        if kind == "snapshot":
            book = {"bid": {}, "ask": {}}
        elif kind == "gap":
            book = None
        state = "suspect" if book is None else "ok"
        found = list(change_rows(seq, levels, snapshot=kind == "snapshot", state=state))
        if not found:
            continue
        for side, price, size in levels if book is not None else ():
            book[side].pop(price, None)  # type: ignore[index]
            book[side] |= {price: size} if size else {}  # type: ignore[index]
        rows.append(found)
        expected.append((seq, None if book is None else sorted(book["bid"], reverse=True)))
    for part in (rows[:cut], rows[cut:]):
        if part:
            watched.take(*part)
    looks = watched.finish(100)
    # a look right before a gap is doubtful, too; the levels are still there
    assert [(time, prices) for time, prices, _ in looks] == expected
