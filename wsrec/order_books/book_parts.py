"""The part of books that workers make: rows of `book_changes` of some files, which one process then applies in order.

Parsing and the rows' states take about half of the time of `wsrec book`. The rows come as Arrow IPC: compressed, a row
of the real Binance USD-M recording takes 9 bytes in place of 139.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from wsrec.engine.work import EngineError
from wsrec.feed.schema import Feed
from wsrec.feed.table_columns import Table
from wsrec.format.asked_names import wanted_channels
from wsrec.format.capture_file import CaptureFile
from wsrec.format.declared_feed import declared_feed
from wsrec.format.errors import CaptureError
from wsrec.format.layout import EVENTS
from wsrec.format.selection import Selection, outside
from wsrec.tables.file_rows import FileRows
from wsrec.tables.session_files import Group, SessionItem
from wsrec.tables.session_tables import SessionTables, remembers

# of book_changes, those that books are made of
_COLUMNS = (
    *("feed", "session", "seq", "conn", "recv_time", "exchange_time", "symbol", "channel", "state", "action"),
    *("is_snapshot", "side", "price", "size", "count", "last", "size_unit", "multiplier", "transact_time"),
    *("update_id", "prev_update_id", "level_id"),
)
# less is not worth an item: what its rows' states need of earlier files is read for each
_ITEM_BYTES = 4 << 20
_COMPRESSED = pa.ipc.IpcWriteOptions(compression="lz4")


class BookItem(SessionItem, frozen=True, kw_only=True):
    """Neighbouring messages files of one feed of one session, whose rows are needed for books.

    Attributes:
        selection: which rows.
        spool: an existing folder for them on this machine; None: they come with the result.

    """

    selection: Selection
    spool: str | None = None


class MadeChanges(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of an item.

    Attributes:
        rows: Arrow IPC streams one after another, a batch each; the path of a file with them if there is a spool.
        error: why there are no more; None if they are complete.

    """

    rows: bytes | str
    error: CaptureError | None = None

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The batches, once: a file of them is deleted.

        Raises:
            CaptureError: a messages or events file of the item is damaged.

        """
        try:
            is_path = isinstance(self.rows, str)
            with pa.OSFile(os.fsencode(self.rows)) if is_path else pa.BufferReader(self.rows) as source:
                size = source.size()
                while source.tell() < size:
                    with pa.ipc.open_stream(source) as stream:
                        yield from stream
        finally:
            self.discard()
        if self.error is not None:
            raise self.error

    def discard(self) -> None:
        """Delete the file of the batches, if there is one."""
        if isinstance(self.rows, str):
            Path(self.rows).unlink(missing_ok=True)


def changes(
    feed: Feed,
    files: Sequence[CaptureFile],
    event_files: Sequence[CaptureFile],
    selection: Selection,
    first: int = 0,
    rows: Sequence[FileRows] | None = None,
    later: Sequence[Path] = (),
    listings: Sequence[Path] = (),
) -> Iterator[pa.RecordBatch]:
    """The rows of `book_changes` of the files of one feed of one session, from the `first` of them on.

    `rows` are those of all messages files of the session and feed; None: `files` are all of them. `later` are those
    behind `files`, `listings` files of other sessions with listings of instruments for this one.

    Raises:
        CaptureError: a file is damaged.

    """
    channels = wanted_channels(feed, selection.channels)
    session = SessionTables(
        feed, files, event_files, [Table.BOOK_CHANGES], channels, rows=rows, later=later, listings=listings
    )
    for file in files[first:]:
        for _, batch in session.tables(file, selection):
            yield batch


def items_of(group: Group, feed: Feed, selection: Selection, most: float, spool: str | None) -> list[BookItem]:
    """What of a session can be read side by side: neighbouring files, of about `most` bytes."""
    # what is remembered between messages would be read again for each item, from the session's beginning on
    most = math.inf if remembers(feed, Table.BOOK_CHANGES) else max(most, _ITEM_BYTES)
    found: list[BookItem] = []
    paths = [str(file.path) for file in group.files]
    rows = tuple(FileRows.of(group.whole))
    begin, size = 0, 0
    for place, file in enumerate(group.files):
        if outside(file, selection):
            continue
        if not found or size + file.size > most:
            begin, size = place, 0
            found.append(
                BookItem(
                    files=(),
                    earlier=tuple(paths[:begin]),
                    later=tuple(paths[begin + 1 :]),
                    event_files=tuple(str(each.path) for each in group.event_files),
                    rows=rows,
                    listings=tuple(map(str, group.listings)),
                    selection=selection,
                    spool=spool,
                )
            )
        size += file.size
        here, later = tuple(paths[begin : place + 1]), tuple(paths[place + 1 :])
        found[-1] = msgspec.structs.replace(found[-1], files=here, later=later, size=size)
    return found


def make_changes(item: BookItem) -> MadeChanges:
    """The rows of an item: the same ones in the same batches as where its session is read as a whole."""
    if item.spool is None:
        buffer = pa.BufferOutputStream()
        error = _write(item, buffer)
        return MadeChanges(rows=buffer.getvalue().to_pybytes(), error=error)
    try:
        descriptor, path = tempfile.mkstemp(dir=item.spool, suffix=".arrow")
        os.close(descriptor)
        with pa.OSFile(os.fsencode(path), "wb") as file:
            return MadeChanges(rows=path, error=_write(item, file))
    except OSError as error:
        # Arrow's message has its own calls
        why = os.strerror(error.errno) if error.errno is not None else str(error)
        cure = "level changes wait there: free space, or have TMPDIR name another folder"
        raise EngineError(f"{item.spool}: {why}; {cure}") from error


def _write(item: BookItem, sink: Any) -> CaptureError | None:
    try:
        files = [CaptureFile(Path(path)) for path in (*item.earlier, *item.files)]
        event_files = [CaptureFile(Path(path), EVENTS) for path in item.event_files]
        feed = declared_feed(files[0])
        later, listings = ([Path(path) for path in of] for of in (item.later, item.listings))
        for batch in changes(feed, files, event_files, item.selection, len(item.earlier), item.rows, later, listings):
            rows = batch.select(_COLUMNS)
            # a stream each: the words of a batch's dictionaries are its own
            with pa.ipc.new_stream(sink, rows.schema, options=_COMPRESSED) as stream:
                stream.write_batch(rows)
    except CaptureError as error:
        return error
    return None
