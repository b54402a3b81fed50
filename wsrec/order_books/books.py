"""Order books of a capture, rebuilt from snapshots and changes, at moments of choice (docs/how-to/books.md)."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from wsrec.engine.choose import engine_for
from wsrec.format.asked_names import check_channels, missing_symbols
from wsrec.format.declared_feed import declared_feed
from wsrec.format.errors import CaptureError, NoSymbolError
from wsrec.format.reading import Capture, open_capture
from wsrec.format.reading_arguments import Instant, instant_ns
from wsrec.options.engine import EngineOptions
from wsrec.order_books.book_builder import BookBuilder, Doubt
from wsrec.order_books.book_parts import make_changes
from wsrec.order_books.book_series import BookSeries
from wsrec.order_books.built_rows import SCHEMA
from wsrec.order_books.session_books import Asked, SessionBooks
from wsrec.tables.session_files import groups

# items for each worker: enough that all are busy to the end
_SHARES = 8


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
    jobs: int = 1,
    spark: str | None = None,
) -> Books:
    """Rebuild order books from the snapshots and changes of a capture.

    Each row is a book at a moment: what had arrived by then, applied by whole messages. Where it is unknown (before its
    first snapshot, after a gap, while not connected) the row has no levels, `state` is `suspect` and `doubt` says why;
    where it is crossed, it has its levels, and the same. Nothing is smoothed over.

    Args:
        capture: a capture, or where it is (`open_capture`).
        symbol: only these, as the exchange writes them or as `BTC/USDT`; None: all.
        at: one moment; the row has the book as of then.
        every: or moments at multiples of so many ns; without either, after each message.
        levels: the best levels of each side; 0: all.
        since, until: with `every` or without: from when on, and before when. What came before `since` is read as far as
            the books need it.
        channel: only these channels, by their names or common names (`book`); None: all that carry books.
        partial: also without a snapshot, with only the levels that changed since the stream began or broke; such rows
            are `suspect`.
        jobs: read the messages in so many processes beside this one, with equal results.
        spark: or on the Apache Spark cluster with this master (docs/how-to/engine.md).

    Raises:
        ValueError: `at` beside `every`, `since` or `until`; `jobs` beside `spark`; `every`, `levels` or `jobs` is too
            small; a time is not valid.
        ConfigError: a channel that no feed of the capture has.
        CaptureError: `capture` does not exist; or, while reading, a file is damaged, or, once the other books are read,
            `symbol` has one that is nowhere in the capture (`NoSymbolError`).
        EngineError: while reading, a worker of `jobs` or `spark` failed.

    Example:
        >>> wsrec.books("out", symbol="BTC/USD", every=100_000_000, levels=5).read_all()

    """
    if at is not None and not (every is None and since is None and until is None):
        raise ValueError("at is one moment: leave out every, since and until")
    if every is not None and every <= 0:
        raise ValueError(f"every takes a number of ns above 0, not {every!r}")
    if levels < 0:
        raise ValueError(f"levels takes a number of levels, or 0 for all, not {levels!r}")
    if jobs < 1 or (jobs > 1 and spark is not None):
        raise ValueError(f"jobs takes a number of processes, not {jobs!r}" if jobs < 1 else "give jobs or spark")
    opened = capture if isinstance(capture, Capture) else open_capture(capture)
    asked = Asked(
        frozenset(_listed(symbol)),
        _listed(channel),
        instant_ns("at", at),
        every,
        levels,
        instant_ns("since", since),
        instant_ns("until", until),
        partial,
    )
    series: list[BookSeries] = []
    return Books(_batches(opened, asked, series, EngineOptions(jobs=jobs, spark=spark)), series)


def _listed(names: str | Collection[str] | None) -> tuple[str, ...]:
    return () if names is None else (names,) if isinstance(names, str) else tuple(names)


def _batches(
    capture: Capture, asked: Asked, series: list[BookSeries], options: EngineOptions
) -> Iterator[pa.RecordBatch]:
    of_sessions = groups(capture.files, capture.event_files)
    feeds = [declared_feed(group.files[0]) for group in of_sessions]
    check_channels(feeds, asked.channels, "--channel")
    books = (SessionBooks(group, feed, asked, series) for group, feed in zip(of_sessions, feeds, strict=True))
    if options == EngineOptions():
        for each in books:
            yield from each.rows(each.changes())
    else:
        yield from _by_workers(list(books), options)
    seen = {builder.symbol for each in series for builder in each.builders.values()}
    for problem in missing_symbols(capture.files, feeds, sorted(asked.symbols), seen):
        raise NoSymbolError(f"symbol: {problem}")


def _by_workers(books: Iterable[SessionBooks], options: EngineOptions) -> Iterator[pa.RecordBatch]:
    """The rows of books whose changes are read by workers, those of all sessions side by side."""
    sessions: list[SessionBooks] = []
    damage = None
    try:
        sessions += books
    except CaptureError as error:
        # those before it are shown first
        damage = error
    with (
        tempfile.TemporaryDirectory(prefix="wsrec-book-") as folder,
        engine_for(options, make_changes.__module__) as engine,
    ):
        most = sum(each.size for each in sessions) / (engine.parallelism * _SHARES)
        # a cluster's workers are on other machines
        spool = folder if options.spark is None else None
        items = [each.items(most, spool) for each in sessions]
        results = engine.map(make_changes, [item for of_one in items for item in of_one], large=True)
        for each, of_one in zip(sessions, items, strict=True):
            own = itertools.islice(results, len(of_one))
            yield from each.rows(batch for made in own for batch in made.batches())
            # what lies behind the last moment
            for made in own:
                made.discard()
    if damage is not None:
        raise damage
