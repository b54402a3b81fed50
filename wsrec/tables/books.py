"""Order books of a capture, rebuilt from snapshots and changes, at moments of the caller's choice (docs/books.md)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from wsrec.feed.schema import Feed
from wsrec.feed.table_columns import Table
from wsrec.format.capture_file import CaptureFile
from wsrec.format.reading import Capture, open_capture
from wsrec.format.reading_arguments import Instant, instant_ns
from wsrec.format.schema import EVENT_SCHEMA
from wsrec.tables.book_builder import NO_SNAPSHOT, BookBuilder, BookRows, Doubt
from wsrec.tables.book_series import BookSeries, End, each_message, grid, single
from wsrec.tables.breaks import Break, BreakKind
from wsrec.tables.built_rows import SCHEMA, BuiltRows
from wsrec.tables.reading import (
    Group,
    Selection,
    check_channels,
    chosen_rows,
    declared_feed,
    groups,
    outside,
    wanted_channels,
)
from wsrec.tables.session_events import SessionEvents
from wsrec.tables.session_tables import SessionTables, in_band_channels

_NEVER = "its stream has no snapshots, and none that was fetched joins it (docs/books.md)"


class Checks(NamedTuple):
    """Later snapshots that were held against the book before them.

    Attributes:
        compared: how many could be: the exchange's numbers say that nothing lies between.
        different: how many of them differ.

    """

    compared: int
    different: int


class Books:
    """Books, as rows of the table `book_snapshots` with `origin` built; made by `books`. Can be read once.

    Attributes:
        schema: the schema of the rows.
        doubts: the intervals in which a book was unknown or doubtful; complete once all rows are read.
        checks: the snapshots that were compared so far.

    """

    schema: pa.Schema = SCHEMA

    def __init__(self, rows: Iterator[pa.RecordBatch], series: list[BookSeries]) -> None:
        self._rows, self._series = rows, series

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self._rows

    def reader(self) -> pa.RecordBatchReader:
        """The rows as a reader, which DuckDB, Polars and pandas accept."""
        return pa.RecordBatchReader.from_batches(self.schema, self._rows)

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self.reader().__arrow_c_stream__(requested_schema)

    def read_all(self) -> pa.Table:
        """All rows as one table."""
        return self.reader().read_all()

    @property
    def doubts(self) -> list[Doubt]:
        """The intervals in which a book was unknown or doubtful."""
        return [doubt for builder in self._builders() for doubt in builder.doubts]

    @property
    def checks(self) -> Checks:
        """The snapshots that were compared."""
        builders = list(self._builders())
        return Checks(sum(each.compared for each in builders), sum(each.different for each in builders))

    def _builders(self) -> Iterator[BookBuilder]:
        for series in self._series:
            yield from series.builders.values()


def books(
    capture: Capture | str | Path,
    *,
    symbol: str | Collection[str] | None = None,
    at: Instant | None = None,
    every: int | None = None,
    levels: int = 20,
    since: Instant | None = None,
    until: Instant | None = None,
    channel: str | Collection[str] | None = None,
    partial: bool = False,
) -> Books:
    """Rebuild order books from the snapshots and changes of a capture.

    Each row is a book at a moment: what had arrived by then, applied by whole messages. Where it is unknown (before its
    first snapshot, after a gap, while not connected) the row has no levels, `state` is `suspect` and `doubt` says why;
    where it is crossed, it has its levels, and the same. Nothing is smoothed over.

    Args:
        capture: a capture, or where it is (`open_capture`).
        symbol: only these, as the exchange writes them; None: all.
        at: one moment; the row has the book as of then.
        every: or moments at multiples of so many ns; without either, after each message.
        levels: the best levels of each side; 0: all.
        since, until: with `every` or without: from when on, and before when. What came before `since` is read as far as
            the books need it.
        channel: only these channels, by their names or common names (`book`); None: all that carry books.
        partial: also without a snapshot, with only the levels that changed since the stream began or broke; such rows
            are `suspect`.

    Raises:
        ValueError: `at` beside `every`, `since` or `until`; `every` or `levels` is too small; a time is not valid.
        ConfigError: a channel that no feed of the capture has.
        CaptureError: `capture` does not exist; or, while reading, a file is damaged.

    Example:
        >>> wsrec.books("out", symbol="BTC/USD", every=100_000_000, levels=5).read_all()

    """
    if at is not None and not (every is None and since is None and until is None):
        raise ValueError("at is one moment: leave out every, since and until")
    if every is not None and every <= 0:
        raise ValueError(f"every takes a number of ns above 0, not {every!r}")
    if levels < 0:
        raise ValueError(f"levels takes a number of levels, or 0 for all, not {levels!r}")
    opened = capture if isinstance(capture, Capture) else open_capture(capture)
    asked = _Asked(
        frozenset(each.casefold() for each in _listed(symbol)),
        _listed(channel),
        instant_ns("at", at),
        every,
        levels,
        instant_ns("since", since),
        instant_ns("until", until),
        partial,
    )
    series: list[BookSeries] = []
    return Books(_batches(opened, asked, series), series)


class _Asked(NamedTuple):
    symbols: frozenset[str]
    channels: tuple[str, ...]
    at: int | None
    every: int | None
    levels: int
    since: int | None
    until: int | None
    partial: bool

    @property
    def first(self) -> int | None:
        """The first moment that is wanted, if it is given."""
        return self.since if self.at is None else self.at

    @property
    def stop(self) -> int | None:
        """From when on nothing is wanted."""
        return self.until if self.at is None else self.at + 1

    def moments(self) -> Any:
        """Gives the moments to look at."""
        if self.at is not None:
            return single(self.at)
        return each_message(self.since) if self.every is None else grid(self.every, self.since)


def _listed(names: str | Collection[str] | None) -> tuple[str, ...]:
    return () if names is None else (names,) if isinstance(names, str) else tuple(names)


def _batches(capture: Capture, asked: _Asked, series: list[BookSeries]) -> Iterator[pa.RecordBatch]:
    of_sessions = groups(capture.files, capture.event_files)
    feeds = [declared_feed(group.files[0]) for group in of_sessions]
    check_channels(feeds, asked.channels)
    for group, feed in zip(of_sessions, feeds, strict=True):
        yield from _SessionBooks(group, feed, asked, series).rows()


class _SessionBooks:
    """The books of one feed of one session.

    Args:
        group: its files.
        feed: the feed with the declarations.
        asked: what is asked for.
        series: the books are added here.

    """

    def __init__(self, group: Group, feed: Feed, asked: _Asked, series: list[BookSeries]) -> None:
        self._group, self._feed, self._asked, self._all = group, feed, asked, series
        self._connections = group.files[-1].metadata.connections
        events = ((file.number, batch) for file in group.event_files for batch in file.batches(EVENT_SCHEMA.names))
        self._events = SessionEvents(self._feed, self._connections, events)
        shown = [each for each in self._events.breaks if each.seq is not None]
        self._reasons = {each.seq: each.detail for each in shown if each.seq is not None}
        self._breaks = frozenset(each.seq for each in shown if each.seq is not None and each.ends_books)
        self._series: dict[tuple[str, str], BookSeries] = {}
        self._made = BuiltRows(asked.levels)

    def rows(self) -> Iterator[pa.RecordBatch]:
        """The rows of its books."""
        first, last = self._span()
        asked = self._asked
        if last is None or (asked.first is not None and asked.first > last) or (asked.stop or last) < (first or 0):
            return
        for batch in self._changes():
            rows = BookRows.of(batch)
            for (symbol, channel), places in _by_book(batch):
                for look in self._of(symbol, channel).take(rows, places):
                    yield from self._made.add(look)
            if (
                asked.stop is not None
                and self._series
                and all((each.last_time or 0) >= asked.stop for each in self._series.values())
            ):
                break
        end = last if asked.stop is None else min(last, asked.stop - 1)
        for series in self._series.values():
            for look in series.finish(end):
                yield from self._made.add(look)
        yield from self._made.rest()

    def _changes(self) -> Iterator[pa.RecordBatch]:
        """The rows of `book_changes` that are needed."""
        selection = Selection(self._begin(), self._end(), self._asked.symbols, self._asked.channels)
        channels = wanted_channels(self._feed, selection.channels)
        files, event_files = self._group.files, self._group.event_files
        session = SessionTables(self._feed, files, event_files, [Table.BOOK_CHANGES], channels)
        for file in files:
            if not outside(file, selection):
                for table, batch in session.tables(file):
                    chosen = chosen_rows(table, batch, selection)
                    if chosen.num_rows:
                        yield chosen

    def _span(self) -> tuple[int | None, int | None]:
        """The first and the last moment of its files."""
        files: Sequence[CaptureFile] = [*self._group.files, *self._group.event_files]
        firsts = [file.first_time for file in files if file.first_time is not None]
        lasts = [file.last_time for file in files if file.last_time is not None]
        return min(firsts, default=None), max(lasts, default=None)

    def _begin(self) -> int | None:
        """From when on rows are needed: from the last time before the first moment that each connection was opened."""
        if self._asked.first is None:
            return None
        opened: dict[int, int] = {}
        for each in self._events.begins:
            if each.streams is None and each.time <= self._asked.first:
                opened[each.conn] = each.time
        return min(opened.values(), default=None)

    def _end(self) -> int | None:
        """Until when rows are needed: a gap shows only with the row after it."""
        stop = self._asked.stop
        if stop is None:
            return None
        following: dict[Any, int] = {}
        for each in self._events.breaks:
            if each.seq is not None and each.time >= stop:
                following.setdefault((each.conns, each.channel, each.symbol), each.time)
        # a row may have arrived a little before or after what it shows
        return max(following.values(), default=stop - 1) + 1

    def _of(self, symbol: str, channel: str) -> BookSeries:
        series = self._series.get((symbol, channel))
        if series is None:
            names = self._names(channel)
            model = self._feed.channel_by_any_name.get(channel)
            fetched = (model is not None and model.fetches_snapshots) or any(
                names & join.channels for join in self._events.joins
            )
            ends = [_end(each) for each in self._events.breaks if _ends(each, names, symbol)]

            def make(conn: int) -> BookBuilder:
                return BookBuilder(
                    symbol,
                    channel,
                    conn,
                    depth=subscribed_depth(self._feed, self._connections, conn, channel, symbol),
                    fetched=fetched,
                    partial=self._asked.partial,
                    unknown=NO_SNAPSHOT if fetched or channel in in_band_channels(self._feed) else _NEVER,
                    reasons=self._reasons,
                    breaks=self._breaks,
                )

            moments = self._asked.moments()
            series = self._series[symbol, channel] = BookSeries(
                make, sorted(ends, key=lambda each: each.time), moments, self._asked.stop
            )
            self._all.append(series)
        return series

    def _names(self, channel: str) -> frozenset[str]:
        model = self._feed.channel_by_any_name.get(channel)
        return frozenset([channel, *(model.aliases if model is not None else ())])


def _by_book(batch: pa.RecordBatch) -> Iterator[tuple[tuple[str, str], Any]]:
    """The symbol and channel of each book in a batch, and the places of its rows."""
    columns = [batch.column(name) for name in ("symbol", "channel")]
    names = [column.dictionary.to_pylist() for column in columns]
    indices = [column.indices.to_numpy(zero_copy_only=False) for column in columns]
    keys = indices[0].astype(np.int64) * max(len(names[1]), 1) + indices[1]
    order = np.argsort(keys, kind="stable")
    cuts = np.flatnonzero(np.diff(keys[order], prepend=-1))
    for places in np.split(order, cuts[1:]):
        symbol, channel = divmod(int(keys[places[0]]), max(len(names[1]), 1))
        yield (names[0][symbol], names[1][channel]), places


def _ends(each: Break, names: frozenset[str], symbol: str) -> bool:
    """Whether a break ends the books of a stream wherever their rows are; others show in the rows' states."""
    if each.seq is not None or not each.ends_books:
        return False
    return (each.channels is None or bool(each.channels & names)) and each.symbol in (None, symbol)


def _end(each: Break) -> End:
    time = each.time if each.since is None else min(each.since, each.time)
    words = {
        BreakKind.END: "its connection was closed",
        BreakKind.DISCONNECT: f"its connection was lost: {each.detail}",
        BreakKind.LOST_INTERVAL: f"lost interval: {each.detail}",
    }
    return End(time, each.conns, words.get(each.kind, each.detail))


def subscribed_depth(feed: Feed, connections: Sequence[dict[str, Any]], conn: int, channel: str, symbol: str) -> int:
    """Levels of each side that a subscription covers, where the exchange relies on its clients to drop the others.

    Messages of several channels may carry the same name; then the topics that the connection requested decide.

    Returns:
        0 if all levels count.

    """
    table = feed.channel_table
    names = {channel, *(table[channel].aliases if channel in table else ())}
    depths = {
        name: each.checksum.depth
        for name, each in table.items()
        if each.checksum is not None and names & {name, *each.aliases}
    }
    topics = [topic for described in connections if described.get("conn") == conn for topic in _topics(described)]
    requested = {
        depths[topic["channel"]]
        for topic in topics
        if topic.get("channel") in depths and topic.get("symbol") in (None, symbol)
    }
    requested = requested or ({depths[channel]} if channel in depths else set(depths.values()))
    return requested.pop() if len(requested) == 1 else 0


def _topics(described: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The topics that a connection requested, of its entry in `wsrec.connections`."""
    yield from described.get("requested_by_url", ())
    for request in described.get("requests", ()):
        yield from request.get("topics", ())
