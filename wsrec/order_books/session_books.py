"""The books of one feed of one session, made from its rows of `book_changes`, and which of those rows they need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from wsrec.feed.schema import Feed
from wsrec.format.capture_file import CaptureFile
from wsrec.format.schema import EVENT_SCHEMA
from wsrec.format.selection import Selection
from wsrec.order_books.book_builder import NO_SNAPSHOT, BookBuilder, BookRows
from wsrec.order_books.book_parts import BookItem, changes, items_of
from wsrec.order_books.book_series import BookSeries, End, each_message, grid, single
from wsrec.order_books.built_rows import BuiltRows
from wsrec.tables.breaks import Break, BreakKind
from wsrec.tables.file_rows import FileRows
from wsrec.tables.session_events import SessionEvents
from wsrec.tables.session_files import Group
from wsrec.tables.session_tables import in_band_channels

_NEVER = "its stream has no snapshots, and none that was fetched joins it (docs/how-to/books.md)"


class Asked(NamedTuple):
    """What books are asked for; as the arguments of `wsrec.books`.

    Attributes:
        symbols: as users write them; empty: all.
        channels: names of channels; empty: all that carry books.
        at, every, since, until: moments and durations (ns).
        levels: the best levels of each side; 0: all.
        partial: also without a snapshot.

    """

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


class SessionBooks:
    """The books of one feed of one session.

    Args:
        group: its files.
        feed: the feed with the declarations.
        asked: what is asked for.
        series: the books are added here.

    Attributes:
        size: bytes of its messages files.

    """

    def __init__(self, group: Group, feed: Feed, asked: Asked, series: list[BookSeries]) -> None:
        self._group, self._feed, self._asked, self._all = group, feed, asked, series
        self._connections = group.files[-1].metadata.connections
        events = ((file.number, batch) for file in group.event_files for batch in file.batches(EVENT_SCHEMA.names))
        self._rows = FileRows.of(group.whole)
        self._events = SessionEvents(self._feed, self._connections, events, self._rows)
        shown = [each for each in self._events.breaks if each.seq is not None]
        self._reasons = {each.seq: each.detail for each in shown if each.seq is not None}
        self._breaks = frozenset(each.seq for each in shown if each.seq is not None and each.ends_books)
        self._series: dict[tuple[str, str], BookSeries] = {}
        self._made = BuiltRows(asked.levels)
        self._last = self._last_moment()
        self.size = sum(file.size for file in group.files)

    def rows(self, changes: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows of its books, made from its rows of `book_changes` (`changes`)."""
        asked, last = self._asked, self._last
        if last is None:
            return
        for batch in changes:
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

    def changes(self) -> Iterator[pa.RecordBatch]:
        """The rows of `book_changes` that are needed."""
        if self._last is None:
            return iter(())
        files, event_files = self._group.files, self._group.event_files
        return changes(
            self._feed, files, event_files, self._selection(), rows=self._rows, listings=self._group.listings
        )

    def items(self, most: float, spool: str | None) -> list[BookItem]:
        """What workers can read of these side by side: `wsrec.order_books.book_parts.items_of`."""
        return [] if self._last is None else items_of(self._group, self._feed, self._selection(), most, spool)

    def _selection(self) -> Selection:
        chosen = Selection(self._begin(), self._end(), self._asked.symbols, self._asked.channels)
        return chosen.in_feed(self._feed)

    def _last_moment(self) -> int | None:
        """The last moment of its files; None if no moment that is asked for is within them."""
        files: Sequence[CaptureFile] = [*self._group.files, *self._group.event_files]
        first = min((file.first_time for file in files if file.first_time is not None), default=None)
        last = max((file.last_time for file in files if file.last_time is not None), default=None)
        asked = self._asked
        if last is None or (asked.first is not None and asked.first > last) or (asked.stop or last) < (first or 0):
            return None
        return last

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
