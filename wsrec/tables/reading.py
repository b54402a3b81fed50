"""Tables of a capture, made on the fly: sessions one after the other, each feed's files in order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping

import pyarrow as pa

from wsrec.feed.errors import ConfigError
from wsrec.feed.schema import Feed
from wsrec.feed.table_columns import Table
from wsrec.format.asked_names import check_channels, wanted_channels
from wsrec.format.capture_file import CaptureFile
from wsrec.format.declared_feed import declared_feed
from wsrec.format.errors import CaptureError
from wsrec.format.reading import Capture
from wsrec.format.selection import EVERYTHING, Selection, outside
from wsrec.options.export import Numbers
from wsrec.tables.convert import Converter, RefusedNumberError
from wsrec.tables.session_files import groups
from wsrec.tables.session_tables import SessionTables


def read_tables(
    capture: Capture,
    tables: Collection[Table],
    selection: Selection = EVERYTHING,
    *,
    feeds: Mapping[str, Feed] | None = None,
    numbers: Numbers = Numbers.FLOAT,
    on_file: Callable[[CaptureFile, Converter], None] = lambda _file, _converter: None,
    on_failed: Callable[[CaptureError | RefusedNumberError], None] | None = None,
) -> Iterator[tuple[Table, pa.RecordBatch]]:
    """The rows of tables, batch by batch: of each session and feed and table in order of (`seq`, `item`).

    Args:
        capture: the capture.
        tables: the tables.
        selection: which rows.
        feeds: feeds in place of those of the catalogue, by name.
        numbers: the type of numbers.
        on_file: called with each file when its rows are read, and with what counted them.
        on_failed: called with what is raised otherwise; then the rows of the next file follow.

    Raises:
        ConfigError: a channel that no feed of the capture has.
        CaptureError: a file is damaged, and `on_failed` is None.
        RefusedNumberError: the same of a number that does not fit the decimal type of its column.

    """
    wanted = list(tables)
    of_sessions = groups(capture.files, capture.event_files)
    known: dict[str, Feed] = {group.feed: declared_feed(group.files[0]) for group in of_sessions} | dict(feeds or {})
    check_channels([known[group.feed] for group in of_sessions], selection.channels)
    for group in of_sessions:
        feed = known[group.feed]
        chosen = selection.in_feed(feed)
        channels = wanted_channels(feed, selection.channels)
        try:
            session = SessionTables(
                feed, group.whole, group.event_files, wanted, channels, numbers, listings=group.listings
            )
        except CaptureError as error:
            _failed(error, on_failed)
            continue
        for file in group.files:
            try:
                yield from session.tables(file, chosen)
            except (CaptureError, RefusedNumberError) as error:
                _failed(error, on_failed)
            if not outside(file, selection):
                on_file(file, session.converter)


def _failed(
    error: CaptureError | RefusedNumberError, on_failed: Callable[[CaptureError | RefusedNumberError], None] | None
) -> None:
    if on_failed is None:
        raise error
    on_failed(error)


def check_feed(path: str | None, given: Feed | None, feeds: Collection[str]) -> None:
    """Check that the feed of a file that a user gave is one of a capture's.

    Raises:
        ConfigError: the capture has others.

    """
    if given is not None and feeds and given.name not in feeds:
        names = ", ".join(sorted(feeds))
        raise ConfigError(f"--feed: {path} is of the feed {given.name}, expected one of the capture's: {names}")
