"""The book of one symbol over time: looked at again and again while its rows are read.

A symbol's channel may come on several connections, one of which replaces another: each has a book of its own, and the
one that was changed last is shown. A moment is looked at once the rows after it are known, because only they show that
messages are missing before them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from wsrec.arrays import Int64s, Places
from wsrec.order_books.book_builder import BookBuilder, BookRows


class End(NamedTuple):
    """A connection's books end.

    Attributes:
        time: when (ns since the epoch).
        conns: the connections; None: all.
        reason: why.

    """

    time: int
    conns: frozenset[int] | None
    reason: str


class Look(NamedTuple):
    """A book at a moment.

    Attributes:
        time: the moment (ns since the epoch).
        builder: the book.
        doubt: why it is unknown or doubtful; None if it is neither.

    """

    time: int
    builder: BookBuilder
    doubt: str | None


class _Line:
    """The book of one connection, the rows that are not applied yet, and the ends that are not reached."""

    def __init__(self, builder: BookBuilder, ends: list[End]) -> None:
        self.builder = builder
        self._ends = ends
        self._rows: BookRows | None = None
        self._at = 0

    def take(self, rows: BookRows) -> None:
        """Take the next rows; those before were applied."""
        self._rows, self._at = rows, 0

    def advance(self, time: int) -> None:
        """Apply what came up to a moment."""
        while self._ends and self._ends[0].time <= time:
            end = self._ends.pop(0)
            self._apply(end.time)
            self.builder.end(end.time, end.reason)
        self._apply(time)

    def _apply(self, time: int) -> None:
        if self._rows is not None:
            stop = int(self._rows.times.searchsorted(time, side="right"))
            self.builder.apply(self._rows, self._at, stop)
            self._at = max(self._at, stop)

    def doubt(self, time: int) -> str | None:
        """Why the book is unknown or doubtful at a moment, up to which rows were applied."""
        last = self.builder.last
        if self.builder.doubt is not None or self._rows is None or last is None or last.time >= time:
            return self.builder.doubt
        return self.builder.breaks_at(self._rows, self._at)


class BookSeries:
    """The book of a symbol and channel of one session.

    Args:
        make: makes the builder of a connection's book.
        ends: the ends of the books, in order of time.
        moments: returns the next moments to look at, given those of the rows (ns since the epoch), up to a moment.
        stop: no moment at or after this one is looked at.

    Attributes:
        builders: the books, by connection.

    """

    def __init__(
        self,
        make: Callable[[int], BookBuilder],
        ends: list[End],
        moments: Callable[[Int64s, int], Iterator[int]],
        stop: int | None = None,
    ) -> None:
        self._make, self._ends, self._moments, self._stop = make, ends, moments, stop
        self.builders: dict[int, BookBuilder] = {}
        self._lines: dict[int, _Line] = {}
        self.last_time: int | None = None

    def take(self, batch: BookRows, places: Places) -> Iterator[Look]:
        """Take the rows at some places of a batch: the looks before the last of them."""
        conns = batch.batch.column("conn").to_numpy()[places]
        present = np.unique(conns).tolist()
        moments = []
        for conn in present:
            line = self._lines.get(conn)
            if line is None:
                builder = self.builders[conn] = self._make(conn)
                line = self._lines[conn] = _Line(builder, [each for each in self._ends if _concerns(each, conn)])
            rows = batch.stream(places[conns == conn] if len(present) > 1 else places)
            line.take(rows)
            moments.append(rows.times[rows.changes.lasts])
        # the last moment before was not looked at: these rows may be of the same
        moments += [] if self.last_time is None else [np.array([self.last_time])]
        times = np.sort(np.concatenate(moments)) if len(moments) > 1 else moments[0]
        last = int(times[-1]) if len(times) else 0
        # those at the last moment may be followed by others of the same
        yield from self._looks(times, last - 1)
        for line in self._lines.values():
            line.advance(last)
        self.last_time = last

    def finish(self, until: int) -> Iterator[Look]:
        """The looks after the last row, up to a moment."""
        if self.last_time is not None:
            yield from self._looks(np.array([self.last_time]), until)
            for line in self._lines.values():
                line.advance(until)
        for builder in self.builders.values():
            builder.finish()

    def _looks(self, times: Int64s, until: int) -> Iterator[Look]:
        for moment in self._moments(times, until if self._stop is None else min(until, self._stop - 1)):
            for line in self._lines.values():
                line.advance(moment)
            # a book that is known, else the one that changed last
            lines = [line for line in self._lines.values() if line.builder.last is not None] or [*self._lines.values()]
            line = max(lines, key=_rank)
            yield Look(moment, line.builder, line.doubt(moment))


def _rank(line: _Line) -> tuple[bool, int]:
    last = line.builder.last
    return line.builder.why is None, -1 if last is None else last.time


def _concerns(end: End, conn: int) -> bool:
    return end.conns is None or conn in end.conns


def grid(every: int, since: int | None) -> Callable[[Int64s, int], Iterator[int]]:
    """Moments that are multiples of `every` (ns), from the first row or `since` on."""
    following: list[int] = []

    def moments(times: Int64s, until: int) -> Iterator[int]:
        if not following and len(times):
            first = int(times[0]) if since is None else max(since, int(times[0]))
            following.append(-(-first // every) * every)
        while following and following[0] <= until:
            yield following[0]
            following[0] += every

    return moments


def single(at: int) -> Callable[[Int64s, int], Iterator[int]]:
    """One moment."""
    left = [at]

    def moments(_times: Int64s, until: int) -> Iterator[int]:
        if left and left[0] <= until:
            yield left.pop()

    return moments


def each_message(since: int | None) -> Callable[[Int64s, int], Iterator[int]]:
    """The moments of the messages themselves."""
    done = [-1 if since is None else since - 1]

    def moments(times: Int64s, until: int) -> Iterator[int]:
        for time in np.unique(times).tolist():
            if done[0] < time <= until:
                done[0] = time
                yield time

    return moments
