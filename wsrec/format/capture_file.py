"""A capture file that was opened and checked: its metadata, and its rows batch by batch."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from msgspec import structs

from wsrec.format.capture import check_readable, checked_metadata, metadata, open_file, words
from wsrec.format.columns import Bools, row_batches, times
from wsrec.format.errors import CaptureError, UnreadableError, first_line
from wsrec.format.folders import parquet_files
from wsrec.format.layout import EVENTS, MESSAGES, NAME, FileKind, other
from wsrec.format.metadata import OF_SESSION, FileMetadata, read_metadata
from wsrec.format.parquet_file import ParquetFile
from wsrec.format.schema import EVENT_SCHEMA, MESSAGE_SCHEMA, UTC_NS
from wsrec.format.sorted_rows import SEQ, as_it_lies, in_order, sorted_blocks
from wsrec.format.stage_times import MONOTONIC, message_field
from wsrec.units import plural

SCHEMAS: dict[str, pa.Schema] = {MESSAGES: MESSAGE_SCHEMA, EVENTS: EVENT_SCHEMA}
TIMES = {MESSAGES: "recv_time", EVENTS: "time"}
"""The column that `since` and `until` apply to, by kind of file."""
ORDERS = {MESSAGES: MONOTONIC, EVENTS: "monotonic"}
"""The column that orders the rows of a session; null comes last."""


class CaptureFile:
    """A message or events file.

    Args:
        path: the file.
        kind: `messages` or `events`.
        keep_footer: whether its footer and metadata are kept (30 kB and more) instead of read again at each use.

    Attributes:
        path, kind: as given.
        feed, session: from its metadata.
        number: the number of its pair in the session, from its name; 0 if the name has none.
        host: the name of the recording machine; may be empty.
        rows: number of rows.
        size: size on disk in bytes.
        first_time, last_time: the smallest and largest `recv_time` (of events: `time`) in it (ns since the
            epoch); None without rows or statistics.
        first_seq, last_seq, checked_from, events: as in its metadata (`wsrec.format.metadata`).

    Raises:
        CaptureError: it is damaged, or not a file of wsrec.
        UnreadableError: the system refuses to read it, or it has another version of the format.

    """

    def __init__(self, path: Path, kind: FileKind = MESSAGES, *, keep_footer: bool = False) -> None:
        self.path, self.kind = path, kind
        self._kept: tuple[pq.FileMetaData, FileMetadata] | None = None
        name = NAME.fullmatch(path.name)
        self.number = int(name["number"]) if name else 0
        with open_file(path, kind) as file:
            about = checked_metadata(path, file)
            if keep_footer:
                self._kept = file.metadata, about
            self.feed, self.session = about.feed, about.session
            self.host = str(about.host.get("name") or "")
            self.first_seq, self.last_seq = about.first_seq, about.last_seq
            self.checked_from, self.events = about.checked_from, about.events
            self.rows: int = file.metadata.num_rows
            self.first_time, self.last_time = _Statistics(file, kind).extremes_of_all()
        self.size = path.stat().st_size

    def __repr__(self) -> str:
        return f"CaptureFile({str(self.path)!r}, {self.rows:,} {self.kind})"

    @property
    def metadata(self) -> FileMetadata:
        """The file's metadata, read from disk on each call unless they are kept (of message files).

        An events file has those of its session from the message file beside it (`OF_SESSION`), or if that is gone from
        the message file of the session with the nearest number.

        Raises:
            CaptureError, UnreadableError: it can no longer be read, or no file has those of its session.

        """
        if self._kept is not None and self.kind == MESSAGES:
            return self._kept[1]
        with open_file(self.path, self.kind) as file:
            about = checked_metadata(self.path, file)
            is_brief = self.kind == EVENTS and OF_SESSION[0] not in metadata(file)
        return structs.replace(about, **self._of_session()) if is_brief else about

    def _of_session(self) -> dict[str, Any]:
        for path in self._message_files():
            with contextlib.suppress(CaptureError, ValueError), open_file(path, MESSAGES) as file:
                found = read_metadata(file.metadata.metadata)
                if found.session == self.session:
                    return {key: getattr(found, key) for key in OF_SESSION}
        what = "its session is described in its message files, which are missing or damaged; put them beside it"
        raise CaptureError(f"{self.path}: {what}")

    def _message_files(self) -> Iterator[Path]:
        """The message file beside this events file, then the others of its session, the nearest number first."""
        beside = other(self.path.absolute())
        if beside is None:
            return
        if beside.exists():
            yield beside
        named = [(NAME.fullmatch(path.name), path) for path in parquet_files(beside.parents[2], lambda _: None)]
        rest = [(int(name["number"]), path) for name, path in named if name and name["session"] == self.session]
        yield from (path for _, path in sorted(rest, key=lambda each: abs(each[0] - self.number)) if path != beside)

    def _open(self) -> pq.ParquetFile:
        if self._kept is None:
            return open_file(self.path, self.kind)
        check_readable(self.path)
        return ParquetFile(self.path, metadata=self._kept[0], read_dictionary=words(self.kind))

    def batches(
        self,
        columns: Sequence[str],
        *,
        since: int | None = None,
        until: int | None = None,
        among: Mapping[str, Collection[Any]] | None = None,
        most: int | None = None,
        use_threads: bool = True,
        ordered: bool = True,
    ) -> Iterator[pa.RecordBatch]:
        """Yield the rows in order of hand-off, in batches of about 64 MB at most, none of them empty.

        Row groups that cannot match, according to their statistics, are not read. Of the others the columns of `among`
        are read first, and the rest only if a row matches. Of a file that was sorted one block is held in memory, of
        about 64 MB (`wsrec.format.sorted_rows`).

        Args:
            columns: names from the schema of the file's kind, for messages also of `DERIVED_SCHEMA`.
            since, until: only rows at or after `since` and before `until` (ns since the epoch).
            among: by column, the values to keep.
            most: largest number of rows in a batch.
            use_threads: whether Arrow decodes several columns at the same time.
            ordered: False: the rows of a file that was sorted may come in its own order, each block as one batch.

        Raises:
            CaptureError: the file is damaged; batches yielded before are sound.
            UnreadableError: the system refuses to read it.

        """
        chosen = {name: list(values) for name, values in (among or {}).items()}
        bounded = since is not None or until is not None
        needed = list(dict.fromkeys([*columns, *chosen, *([TIMES[self.kind]] if bounded else [])]))
        field = message_field if self.kind == MESSAGES else EVENT_SCHEMA.field
        wanted = pa.schema([field(name) for name in columns])
        given = 0
        blocks: list[range] | None = None

        def rows(file: pq.ParquetFile, groups: Iterable[int], most: int | None = None) -> Iterator[pa.RecordBatch]:
            nonlocal given
            statistics = _Statistics(file, self.kind)
            for group in groups:
                if not statistics.may_hold(group, since, until, chosen):
                    continue
                # of a sorted file the statistics say enough
                if chosen and blocks is None and not _holds(file, group, chosen):
                    continue
                for read in row_batches(file, needed, [group], most, use_threads=use_threads):
                    given += read.num_rows
                    yield self._chosen(read, since, until, chosen)

        try:
            with self._open() as file:
                blocks = sorted_blocks(file) if self.kind == MESSAGES else None
                if blocks is None:
                    found = rows(file, range(file.metadata.num_row_groups), most)
                elif not ordered:
                    found = chain.from_iterable(as_it_lies(rows(file, groups)) for groups in blocks)
                else:
                    needed += [] if SEQ in needed else [SEQ]
                    found = chain.from_iterable(in_order(rows(file, groups), most) for groups in blocks)
                for batch in found:
                    if batch.num_rows:
                        yield _conforming(batch.select(list(columns)), wanted)
        except CaptureError:
            raise
        except (pa.ArrowException, OSError, ValueError) as error:
            if isinstance(error, PermissionError):
                raise UnreadableError(self.path, error) from error
            what = f"damaged after {given:,} of {plural(self.rows, 'row')} ({first_line(error)})"
            raise CaptureError(
                f"{self.path}: {what}; the rows before are sound; nothing was changed: set the file aside"
            ) from error

    def _chosen(
        self, batch: pa.RecordBatch, since: int | None, until: int | None, among: Mapping[str, list[Any]]
    ) -> pa.RecordBatch:
        kept = np.ones(batch.num_rows, np.bool_)
        if since is not None or until is not None:
            moments, _ = times(batch, TIMES[self.kind])
            kept &= (moments >= since) if since is not None else True
            kept &= (moments < until) if until is not None else True
        kept &= _matching(batch, among)
        return batch if kept.all() else batch.filter(pa.array(kept))


def _matching(batch: pa.RecordBatch, among: Mapping[str, list[Any]]) -> Bools:
    """Which rows have one of the values in each of these columns."""
    kept = np.ones(batch.num_rows, np.bool_)
    for name, values in among.items():
        column = batch.column(name)
        if pa.types.is_dictionary(column.type):
            known = pc.is_in(column.dictionary, value_set=pa.array(values, column.type.value_type))
            # the last code is null's
            found = np.append(known.to_numpy(zero_copy_only=False), None in values)
            kept &= found[column.indices.fill_null(len(found) - 1).to_numpy(zero_copy_only=False)]
        else:
            kept &= pc.is_in(column, value_set=pa.array(values, column.type)).to_numpy(zero_copy_only=False)
    return kept


def _holds(file: pq.ParquetFile, group: int, among: Mapping[str, list[Any]]) -> bool:
    """Whether a row group has matching rows, by these columns alone."""
    return any(_matching(batch, among).any() for batch in row_batches(file, list(among), [group]))


class _Statistics:
    """The smallest and largest values of each row group, as far as the file has them."""

    def __init__(self, file: pq.ParquetFile, kind: str) -> None:
        # each of these is made anew at each access
        self._metadata, schema = file.metadata, file.schema_arrow
        self._columns = {name: at for at, name in enumerate(self._metadata.schema.names)}
        time = TIMES[kind]
        # of a file that was rewritten by another tool the unit may be another
        self._time = time if schema.field(time).type == UTC_NS else None

    def extremes(self, group: int) -> tuple[int | None, int | None]:
        """The extremes of `recv_time` (of events: `time`) in ns since the epoch; None if unknown."""
        if self._time is None:
            return None, None
        statistics = self._metadata.row_group(group).column(self._columns[self._time]).statistics
        if statistics is None or not statistics.has_min_max:
            return None, None
        return int(statistics.min_raw), int(statistics.max_raw)

    def may_hold(self, group: int, since: int | None, until: int | None, among: Mapping[str, Collection[Any]]) -> bool:
        """Whether a row group may have matching rows."""
        if since is not None or until is not None:
            least, greatest = self.extremes(group)
            if since is not None and greatest is not None and greatest < since:
                return False
            if until is not None and least is not None and least >= until:
                return False
        of_group = self._metadata.row_group(group) if among else None
        for name, values in among.items():
            assert of_group is not None
            statistics = of_group.column(self._columns[name]).statistics
            if statistics is not None and statistics.has_min_max:
                low, high = statistics.min, statistics.max
                # nulls are not in them
                if not any(value is None or low <= value <= high for value in values):
                    return False
        return True

    def extremes_of_all(self) -> tuple[int | None, int | None]:
        """The extremes of all row groups; None if one is unknown."""
        pairs = [self.extremes(group) for group in range(self._metadata.num_row_groups)]
        firsts = [first for first, _ in pairs if first is not None]
        lasts = [last for _, last in pairs if last is not None]
        if not pairs or len(firsts) < len(pairs):
            return None, None
        return min(firsts), max(lasts)


def _conforming(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch with the format's types and field metadata, even if another tool rewrote the file."""
    columns = [
        column if column.type == field.type else column.cast(field.type)
        for column, field in zip(batch.columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
