"""Tables of one feed of one session: each of its files converted, alone or after the one before, with equal results.

A file alone is enough for almost all rows. What is needed of earlier ones is read again: the messages since the last
loss, to find the first row after it (`wsrec.tables.trust`), and all messages of a channel whose declaration remembers
something (`wsrec.decode.table_rows`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wsrec.feed.schema import Feed
from wsrec.feed.table_columns import Table
from wsrec.feed.table_declarations import TableDeclaration
from wsrec.format.capture_file import CaptureFile
from wsrec.format.errors import CaptureError
from wsrec.format.layout import NAME
from wsrec.format.selection import EVERYTHING, Selection, outside
from wsrec.format.stage_times import message_field
from wsrec.options.export import Numbers
from wsrec.ring.events import EventKind
from wsrec.tables.convert import NEEDED, Converter
from wsrec.tables.facts import Extent, facts_digest, files_digest
from wsrec.tables.file_rows import FileRows, first_handoff
from wsrec.tables.gaps import COLUMNS as GAP_COLUMNS
from wsrec.tables.gaps import gap_rows
from wsrec.tables.listings import Listings, has_listing
from wsrec.tables.selection import chosen_rows
from wsrec.tables.session_events import SessionEvents
from wsrec.tables.trust import Trust

_PAYLOADS = ("text", "data")
_PORTION_BYTES = 2 << 20
_EVENT_COLUMNS = ("time", "monotonic", "kind", "conn", "channel", "symbol", "detail")


class SessionTables:
    """Converts the files of one feed of one session.

    Args:
        feed: the feed with the declarations.
        files: its messages files, in order.
        event_files: its events files, in order.
        tables: the tables that are wanted.
        channels: only messages with these names of channels; None: all.
        numbers: the type of numbers.
        rows: the rows of all messages files of the session and feed; None: `files` are all of them.
        later: those messages files behind `files`; only what tells of the rows of `files` is read.
        listings: messages files of other sessions with listings of instruments for this one.

    Attributes:
        converter: that of the last file, with its counts.
        files_sha256: a digest of which files the session has (`wsrec.tables.facts`).

    Raises:
        CaptureError: an events file is damaged.

    """

    def __init__(
        self,
        feed: Feed,
        files: Sequence[CaptureFile],
        event_files: Sequence[CaptureFile],
        tables: Sequence[Table],
        channels: Collection[str] | None = None,
        numbers: Numbers = Numbers.FLOAT,
        rows: Sequence[FileRows] | None = None,
        later: Sequence[Path] = (),
        listings: Sequence[Path] = (),
    ) -> None:
        self._feed, self._files, self._tables, self._numbers = feed, list(files), list(tables), numbers
        self._wanted, self._channels = channels, _read_channels(feed, self._tables, channels)
        events = [(file.number, batch) for file in event_files for batch in file.batches(_EVENT_COLUMNS)]
        self._listed = {number for number, batch in events if has_listing(batch)}
        connections = _last_connections(self._files, later)
        self._listings = Listings.of_files(feed, _with_listings(self._files, later, self._listed, listings))
        rows = FileRows.of(self._files) if rows is None else rows
        self._events = SessionEvents(feed, connections, events, rows)
        self.files_sha256 = files_digest(rows, event_files, [path.name for path in listings])
        self._ends = sorted(end for _, batch in events for end in _disconnections(batch))
        self._of_run = [path.name for path in listings]
        self._stateful = _stateful_channels(feed, self._tables)
        self._in_band = in_band_channels(feed)
        self._trust = Trust(self._events, self._in_band)
        self.converter = self._new_converter(self._trust)
        self._next = 0

    def tables(self, file: CaptureFile, selection: Selection = EVERYTHING) -> Iterator[tuple[Table, pa.RecordBatch]]:
        """The rows of one of the files that are wanted, batch by batch; its own counts are then in `converter`.

        Of a file none of whose messages can be wanted the gaps alone are read: what is missing before a row, since a
        time that the file does not know, may be missing in an earlier one.

        Raises:
            CaptureError: it, or one before it that has to be read, is damaged.
            RefusedNumberError: a number does not fit the decimal type of its column.

        """
        for table, batch in self._made(file, selection):
            rows = chosen_rows(table, batch, selection)
            if rows.num_rows:
                yield table, rows

    def facts_sha256(self, extent: Extent) -> str:
        """A digest of what the session's files tell of the rows of one of them (`wsrec.tables.facts`)."""
        return facts_digest(self._events, self._listed, self._of_run, extent)

    def _made(self, file: CaptureFile, selection: Selection) -> Iterator[tuple[Table, pa.RecordBatch]]:
        if outside(file, selection):
            self.converter.reset_counts()
        else:
            index = self._files.index(file)
            if index != self._next or not index:
                self._prepare(index)
            self._next = index + 1
            self.converter.reset_counts()
            self._trust.begin_file(file.number)
            yield from self._converted(file, self._channels)
        if Table.GAPS in self._tables and file.number in self._events.files:
            messages = pa.Table.from_batches(file.batches(GAP_COLUMNS), _schema_of(GAP_COLUMNS))
            yield Table.GAPS, gap_rows(self._events, file.session, file.number, messages, self._wanted)

    def _new_converter(self, trust: Trust | None) -> Converter:
        session = self._files[0].session if self._files else ""
        return Converter(self._feed, session, self._tables, self._numbers, trust, self._listings)

    def _prepare(self, index: int) -> None:
        """Make converter and trust as they are after the files before this one."""
        self._trust = Trust(self._events, self._in_band)
        self.converter = self._new_converter(None)
        if self._stateful:
            for earlier in self._files[:index]:
                for _ in self._converted(earlier, self._stateful):
                    pass
        self.converter.trust = self._trust
        begin = first_handoff(self._files[index])
        since = self._trust.follow_from(self._files[index].number, begin) if begin is not None else None
        if since is None:
            return
        for earlier in self._files[:index]:
            self._trust.begin_file(earlier.number)
            for batch in earlier.batches(self._trust.columns):
                is_later = pc.greater_equal(batch["handoff_monotonic"], since.handoff)
                later = batch if earlier.number >= since.file else batch.filter(is_later)
                if later.num_rows:
                    self._trust.take(later)

    def _converted(
        self, file: CaptureFile, channels: Collection[str | None] | None
    ) -> Iterator[tuple[Table, pa.RecordBatch]]:
        among = None if channels is None else {"channel": list(channels)}
        # only what a declaration remembers needs to know which connections ended
        ends = self._ends if self._stateful else []
        for batch in file.batches(NEEDED, among=among):
            for portion in portions(batch):
                for part, ended in _divided(portion, ends):
                    for conn in ended:
                        self.converter.disconnected(conn)
                    yield from self.converter.convert(part)


def portions(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Messages in portions of some MiB of payload: the rows of book changes take many times the bytes of their text."""
    sizes = [pc.binary_length(batch.column(name)).fill_null(0).to_numpy(zero_copy_only=False) for name in _PAYLOADS]
    portion = np.cumsum(sum(sizes), dtype=np.int64) // _PORTION_BYTES
    ends = [*(np.flatnonzero(np.diff(portion)) + 1).tolist(), batch.num_rows]
    begin = 0
    for end in ends:
        yield batch.slice(begin, end - begin)
        begin = end


def _last_connections(files: Sequence[CaptureFile], later: Sequence[Path]) -> list[dict[str, Any]]:
    """The connections as the last file describes them that can be read."""
    for path in reversed(later):
        with contextlib.suppress(CaptureError):
            return CaptureFile(path).metadata.connections
    return files[-1].metadata.connections if files else []


def _with_listings(
    files: Sequence[CaptureFile], later: Sequence[Path], listed: Collection[int], listings: Sequence[Path]
) -> list[CaptureFile]:
    """The files with listings of instruments."""
    found = [file for file in files if file.number in listed]
    named = ((path, NAME.fullmatch(path.name)) for path in later)
    for path in (*(path for path, name in named if name and int(name["number"]) in listed), *listings):
        with contextlib.suppress(CaptureError):
            found.append(CaptureFile(path))
    return found


def _read_channels(
    feed: Feed, tables: Collection[Table], channels: Collection[str] | None
) -> Collection[str | None] | None:
    """Names of the channels whose messages are read: those that make one of the tables; None for all.

    Messages without a channel are read, too, unless channels were chosen: they are no channel's to leave out.
    """
    declared = {name: {each.table for each in feed.tables_of(name)} for name in feed.channel_by_any_name}
    if channels is not None:
        return [name for name in channels if declared.get(name, set()) & set(tables)]
    if all(each is None or each in tables for found in declared.values() for each in found):
        return None
    return [*(name for name, found in declared.items() if found & set(tables)), None]


def _stateful_channels(feed: Feed, tables: Collection[Table]) -> list[str]:
    """Names of channels whose declarations of these tables remember something between messages."""
    return [
        name
        for name in feed.channel_by_any_name
        if any(each.table in tables and _remembers(each) for each in feed.tables_of(name))
    ]


def remembers(feed: Feed, table: Table) -> bool:
    """Whether rows of a table depend on earlier messages, so that none of a file can be made without those before."""
    return bool(_stateful_channels(feed, [table]))


def _remembers(declaration: TableDeclaration) -> bool:
    cells = [cell for cells in declaration.columns.values() for cell in cells]
    remembered = any(cell.remembered_by is not None for cell in cells)
    return remembered or declaration.begins is not None or declaration.snapshot == "first"


def in_band_channels(feed: Feed) -> list[str]:
    """Names of channels whose own messages include snapshots of their books."""
    return [
        name
        for name in feed.channel_by_any_name
        if any(
            each.table is Table.BOOK_CHANGES and each.source == "stream" and each.snapshot is not False
            for each in feed.tables_of(name)
        )
    ]


def _disconnections(events: pa.RecordBatch) -> Iterator[tuple[int, int]]:
    """When (stage clock) which connection ended."""
    ended = pc.equal(events["kind"].cast(pa.string()), EventKind.DISCONNECT.value)
    sound = pc.and_(pc.and_(events["monotonic"].is_valid(), events["conn"].is_valid()), ended)
    chosen = events.select(["monotonic", "conn"]).filter(sound)
    yield from zip(chosen["monotonic"].to_pylist(), chosen["conn"].to_pylist(), strict=True)


def _divided(batch: pa.RecordBatch, ends: Sequence[tuple[int, int]]) -> Iterator[tuple[pa.RecordBatch, Sequence[int]]]:
    """The batch in parts, each with the connections that ended before it and after the part before."""
    moments = batch["handoff_monotonic"].to_numpy()
    begin = 0
    ended: list[int] = []
    for moment, conn in ends:
        if not moments[0] <= moment <= moments[-1]:
            continue
        cut = int(np.searchsorted(moments, moment))
        if cut > begin:
            yield batch.slice(begin, cut - begin), ended
            begin, ended = cut, []
        ended.append(conn)
    yield batch.slice(begin), ended


def _schema_of(columns: Sequence[str]) -> pa.Schema:
    return pa.schema([message_field(name) for name in columns])
