"""The reading API: a capture as Arrow record batches, in order and in bounded memory (docs/how-to/reading.md).

`open_capture` finds the files of a capture; `Capture.messages` and `Capture.events` check and read them. A file that
cannot be read raises an exception unless the caller chose otherwise: nothing is skipped silently.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.dataset

from wsrec.format.capture import events_beside, events_files, message_files
from wsrec.format.capture_file import ORDERS, SCHEMAS, CaptureFile
from wsrec.format.copies import RepeatedFileWarning, difference, once
from wsrec.format.errors import CaptureError, NoCaptureError, UnreadableError
from wsrec.format.layout import EVENTS, MESSAGES, NAME, FileKind
from wsrec.format.merging import merged
from wsrec.format.reading_arguments import Instant, check_closed, instant_ns, named_values, schema_of
from wsrec.format.schema import EVENT_SCHEMA, MESSAGE_SCHEMA
from wsrec.format.stage_times import DERIVED_SCHEMA
from wsrec.format.unfinished_rows import UnfinishedRows
from wsrec.ring.events import EventKind

_WORD = pa.dictionary(pa.int32(), pa.string())
_DIRECTIONS = ("recv", "sent", "rest")


def _identity(name: str, meaning: str) -> pa.Field:
    return pa.field(name, _WORD, nullable=False, metadata={"meaning": meaning})


IDENTITY = (
    _identity("feed", "the feed, from the file's metadata"),
    _identity("session", "the session, from the file's metadata"),
)
"""The columns that `Capture.messages` and `Capture.events` add to those of the files."""

DERIVED = tuple(DERIVED_SCHEMA)
"""Columns that `Capture.messages` computes on request: times of the stages, and the total of the steps between them."""


class DamagedFileWarning(UserWarning):
    """A file of a capture cannot be read, or not to its end; the message names the file and a remedy."""


class DamagedFile(NamedTuple):
    """A file or folder that could not be read.

    Attributes:
        path: the file or folder.
        message: the problem and a remedy, with the path.
        unreadable: True if the system refuses to read it or it has another version of the format, so that nothing is
            known about it; False if it is damaged or missing.
        kind: `messages` or `events` for a file, `folder`, or `source` for an argument that does not exist.

    """

    path: Path
    message: str
    unreadable: bool
    kind: Literal["messages", "events", "folder", "source"]


class SessionInfo(NamedTuple):
    """One session of a capture: the recording of one writer in one run.

    Attributes:
        session: its id.
        feeds: the recorded feeds, in order of their names.
        files: number of message files.
        rows: number of rows in them.
        first_time, last_time: the smallest and largest `recv_time` (ns since the epoch); None without rows.

    """

    session: str
    feeds: tuple[str, ...]
    files: int
    rows: int
    first_time: int | None
    last_time: int | None


OnDamaged = Literal["raise", "warn"] | Callable[[DamagedFile], None]


def open_capture(
    path: str | Path | Iterable[str | Path], *, damaged: OnDamaged = "raise", running: bool = True
) -> Capture:
    """Open a capture: an output folder, a part of one, files, or glob patterns.

    Of a recording in progress, or an interrupted one, an output folder has what was journalled so far, which is seldom
    more than a tenth of a second old: it is read from the journals now (`wsrec.format.unfinished_rows`), in about a
    second and another for each 300,000 to 500,000 messages. No finished file is opened yet: the footers of all message
    files, or of all events files, are read once something needs them.

    Args:
        path: a folder (searched at any depth), a Parquet file, a glob pattern, or several of them.
        running: False: only finished files.
        damaged: action for an unreadable file or folder, now or later. `raise` (the default) raises `CaptureError`, for
            a file when the footers are read, or while its rows are. `warn` issues a `DamagedFileWarning` and continues
            with the rest. A function is called with each `DamagedFile` instead. `Capture.damaged` lists all of them.

    A file that is there twice, as in a capture and its backup, is read once, and a `RepeatedFileWarning` names it.

    Raises:
        CaptureError: a file or folder does not exist, a folder contains no message file, or two files are the same one
            of the same session by their names, but differ.
        UnreadableError: a `CaptureError`: the system refuses to read a folder.
        TypeError: `path` is none of these.
        ValueError: `damaged` is none of these, or `path` is an empty list.

    Example:
        >>> capture = wsrec.open_capture("out")
        >>> capture.messages(columns=["recv_time", "symbol", "text"], channel="trade").read_all()

    """
    sources = list(path) if isinstance(path, Iterable) and not isinstance(path, str) else [path]
    if wrong := [source for source in sources if not isinstance(source, str | Path)]:
        raise TypeError(f"open_capture takes texts and paths, found {wrong[0]!r}")
    if not sources:
        raise ValueError("open_capture([]): give at least one folder, file or pattern")
    return Capture(sources, damaged, running=running)


class Capture:
    """A capture opened by `open_capture`.

    Attributes:
        damaged: files and folders that could not be read so far.
        unfinished: the sessions being recorded, and interrupted ones that were not recovered, whose rows are included.

    """

    def __init__(self, sources: Sequence[str | Path], damaged: OnDamaged = "raise", *, running: bool = True) -> None:
        if not callable(damaged) and damaged not in ("raise", "warn"):
            raise ValueError(f"damaged takes 'raise', 'warn' or a function, not {damaged!r}")
        self._on_damaged = damaged
        self.damaged: list[DamagedFile] = []
        messages: dict[Path, Path] = {}
        events: dict[Path, Path] = {}
        folders: dict[Path, Path] = {}
        # before the finished files are listed: a file that lands meanwhile is in the list, and takes its copy's place
        self._unfinished = UnfinishedRows(sources if running else ())
        self.unfinished = self._unfinished.sessions
        for folder, problem in self._unfinished.problems:
            self._report(folder, CaptureError(problem), "folder")
        begun = any(self._unfinished.files(kind, ()) for kind in (MESSAGES, EVENTS))
        for source in sources:
            beside = events_files(Path(source))
            events |= {_identified(each, folders): each for each in beside}
            try:
                found = message_files([source], self._unreadable_folder)
            except CaptureError as error:
                # a feed without messages has only events files, and a recording that has just begun no file
                alone = beside or (isinstance(error, NoCaptureError) and begun)
                if not alone or isinstance(error, UnreadableError):
                    self._report(Path(source), error, "source")
                continue
            messages |= {_identified(each, folders): each for each in found}
        for message_file in messages.values():
            other = events_beside(message_file.absolute())
            if other is not None:
                events.setdefault(_identified(other, folders), other)
        self._finished: dict[FileKind, list[Path]] = {MESSAGES: [*messages.values()], EVENTS: [*events.values()]}
        self._paths: dict[FileKind, list[Path]] = {
            kind: self._once([*paths, *self._unfinished.files(kind, paths)], kind)
            for kind, paths in self._finished.items()
        }
        self._files: dict[FileKind, list[CaptureFile]] = {}

    def _once(self, paths: list[Path], kind: FileKind) -> list[Path]:
        """The files without copies, of which a warning tells, and without those that are there twice and differ."""
        found = once(paths, kind)
        for first, second in found.differing:
            self._report(second, CaptureError(self._difference(first, second)), kind)
        if kind == MESSAGES and found.notice is not None:
            warnings.warn(found.notice, RepeatedFileWarning, stacklevel=_depth())
        return found.paths

    def _difference(self, first: Path, second: Path) -> str:
        """What is to be said of two files that differ; copies of what is unfinished have names that tell nothing."""
        name = NAME.fullmatch(second.name)
        there = [each for each in self.unfinished if name is not None and each.session == name["session"]]
        is_finished = any(second in paths for paths in self._finished.values())
        if is_finished or len(there) < 2:
            return difference(first, second)
        one, other, *_ = there
        return (
            f"{one.out}: session {one.session} is unfinished there and in {other.out}, with other rows; "
            "neither was read: name one of the two"
        )

    def paths(self, kind: FileKind) -> list[Path]:
        """The files of a kind, `messages` or `events`, none of which is opened for it."""
        return [*self._paths[kind]]

    def is_unfinished(self, file: CaptureFile) -> bool:
        """Whether a file is a copy of what a session had journalled: its own file, once finished, has more rows."""
        return self.is_copy(file.path, file.kind)

    def is_copy(self, path: Path, kind: FileKind) -> bool:
        """The same of the path of a file of a kind, as in `paths`."""
        return path not in self._finished[kind]

    @property
    def files(self) -> list[CaptureFile]:
        """The message files, in order of their smallest `recv_time`.

        Raises:
            CaptureError: at first use, with `raise`: one of them is damaged.
            UnreadableError: at first use, with `raise`: the system refuses to read one, or it has another version.

        """
        return self._opened(MESSAGES)

    @property
    def event_files(self) -> list[CaptureFile]:
        """The events files, in order of their smallest `time`; errors as of `files`."""
        return self._opened(EVENTS)

    def _opened(self, kind: FileKind) -> list[CaptureFile]:
        found = self._files.get(kind)
        if found is None:
            # kept only when all are opened: what raises does so at each use
            found = self._files[kind] = self._open(self._paths[kind], kind)
        return found

    def _open(self, paths: Iterable[Path], kind: FileKind) -> list[CaptureFile]:
        files = []
        for path in paths:
            try:
                files.append(CaptureFile(path, kind))
            except CaptureError as error:
                self._report(path, error, kind)
        # files without statistics come first
        return sorted(files, key=lambda file: (file.first_time or 0, file.path))

    def _unreadable_folder(self, error: UnreadableError) -> None:
        self._report(error.path, error, "folder")

    def _report(self, path: Path, error: CaptureError, kind: Literal["messages", "events", "folder", "source"]) -> None:
        found = DamagedFile(path, str(error), isinstance(error, UnreadableError), kind)
        self.damaged.append(found)
        if callable(self._on_damaged):
            self._on_damaged(found)
        elif self._on_damaged == "raise" or kind == "source":
            raise error
        else:
            warnings.warn(found.message, DamagedFileWarning, stacklevel=_depth())

    @property
    def sessions(self) -> list[SessionInfo]:
        """The sessions that have message files, in order of their first message."""
        found: dict[str, list[CaptureFile]] = {}
        for file in self.files:
            found.setdefault(file.session, []).append(file)
        return [
            SessionInfo(
                session,
                tuple(sorted({file.feed for file in files})),
                len(files),
                sum(file.rows for file in files),
                min((file.first_time for file in files if file.first_time is not None), default=None),
                max((file.last_time for file in files if file.last_time is not None), default=None),
            )
            for session, files in found.items()
        ]

    @property
    def schema(self) -> pa.Schema:
        """The schema of `messages()`: `feed`, `session` and the files' columns, each with its meaning as metadata."""
        return pa.schema([*IDENTITY, *MESSAGE_SCHEMA])

    @property
    def event_schema(self) -> pa.Schema:
        """The schema of `events()`."""
        return pa.schema([*IDENTITY, *EVENT_SCHEMA])

    def messages(
        self,
        columns: Sequence[str] | None = None,
        *,
        since: Instant | None = None,
        until: Instant | None = None,
        channel: str | Collection[str] | None = None,
        symbol: str | Collection[str] | None = None,
        feed: str | Collection[str] | None = None,
        session: str | Collection[str] | None = None,
        direction: str | Collection[str] | None = None,
    ) -> pa.RecordBatchReader:
        """Read messages: one session after another, each in order of hand-off, with all of its feeds merged.

        Files and row groups that cannot match, according to their statistics, are not read. Memory use is one batch (at
        most 64 MB) for each feed of a session.

        Args:
            columns: names from `schema` and `DERIVED`. None: all of `schema`, with the steps between the six stages
                (ns), `nic_to_event` to `parsed_to_handoff`. The six times themselves are `nic_time`, `event_time`,
                `recv_start_time`, `recv_end_time`, `parsed_time` and `handoff_time`, exact to the ns.
            since, until: only messages with `recv_time` at or after `since`, and before `until`.
            channel, symbol, feed, session: only these, as the exchange writes them.
            direction: only `recv`, `sent` or `rest`; None: all.

        Returns:
            A reader of record batches that can be read once; DuckDB, Polars and pandas accept it directly. Without any
            such message it has one empty batch.

        Raises:
            ValueError: `columns` is empty, or has an unknown or repeated name; a time is not valid; `direction` is
                unknown.
            TypeError: an argument has another type.
            CaptureError: while reading: a file is damaged (`open_capture`).

        Example:
            >>> trades = capture.messages(["recv_time", "text"], since="2026-11-22T13:00Z", symbol="BTCUSDT")
            >>> duckdb.sql("select count(*) from trades")

        """
        among = named_values(channel=channel, symbol=symbol, direction=direction)
        check_closed("direction", among, _DIRECTIONS)
        wanted = schema_of(columns, self.schema, DERIVED)
        moments = instant_ns("since", since), instant_ns("until", until)
        return self._reader(self.files, MESSAGES, wanted, *moments, among, feed, session)

    def events(
        self,
        columns: Sequence[str] | None = None,
        *,
        since: Instant | None = None,
        until: Instant | None = None,
        kind: str | Collection[str] | None = None,
        channel: str | Collection[str] | None = None,
        symbol: str | Collection[str] | None = None,
        feed: str | Collection[str] | None = None,
        session: str | Collection[str] | None = None,
    ) -> pa.RecordBatchReader:
        """Read events: gaps, disconnections, refusals and the like (docs/reference/format.md lists the kinds).

        Args:
            columns: names from `event_schema`; None: all. `detail` is a JSON object.
            since, until: only events with `time` at or after `since`, and before `until`.
            kind: only of these kinds.
            channel, symbol, feed, session: only events about these.

        Returns:
            A reader of record batches that can be read once, in the order of `messages`.

        Raises:
            ValueError: `columns` is empty, or has an unknown or repeated name; a time is not valid; a kind is
                unknown.
            TypeError: an argument has another type.
            CaptureError: while reading: a file is damaged (`open_capture`).

        Example:
            >>> capture.events(kind=["gap", "lost_interval"]).read_all().to_pylist()

        """
        among = named_values(kind=kind, channel=channel, symbol=symbol)
        check_closed("kind", among, [kind.value for kind in EventKind])
        wanted = schema_of(columns, self.event_schema, ())
        moments = instant_ns("since", since), instant_ns("until", until)
        return self._reader(self.event_files, EVENTS, wanted, *moments, among, feed, session)

    def dataset(self, kind: FileKind = MESSAGES) -> pa.dataset.Dataset:
        """The readable finished files as a pyarrow dataset, with `feed`, `date` and `hour` from their folders.

        For engines that plan queries themselves and read with several threads; the order of rows is undefined. Damage
        after the footer raises the engine's own error (an OSError of pyarrow), which may not name the file: `messages`
        and `wsrec verify` name it.

        Args:
            kind: `messages` or `events`.

        Raises:
            ValueError: `kind` is neither.

        Example:
            >>> messages = capture.dataset()
            >>> duckdb.sql("select symbol, count(*) from messages where feed = 'binance' group by symbol")

        """
        if kind not in SCHEMAS:
            raise ValueError(f"kind takes {' or '.join(map(repr, SCHEMAS))}, not {kind!r}")
        # it may outlive the capture, and with it the copies of unfinished files
        finished = set(self._finished[kind])
        files = [file for file in self._opened(kind) if file.path in finished]
        folders = pa.schema([("feed", pa.string()), ("date", pa.date32()), ("hour", pa.int8())])
        return pa.dataset.dataset(
            [str(file.path.absolute()) for file in files],
            schema=pa.schema([*SCHEMAS[kind], *folders]),
            format="parquet",
            partitioning=pa.dataset.partitioning(folders, flavor="hive"),
        )

    def _reader(
        self,
        files: Sequence[CaptureFile],
        kind: FileKind,
        wanted: pa.Schema,
        since: int | None,
        until: int | None,
        among: dict[str, list[str]],
        feed: str | Collection[str] | None,
        session: str | Collection[str] | None,
    ) -> pa.RecordBatchReader:
        owners = named_values(feed=feed, session=session)
        chosen = [
            file
            for file in files
            if file.rows
            and all(getattr(file, name) in values for name, values in owners.items())
            and (since is None or file.last_time is None or file.last_time >= since)
            and (until is None or file.first_time is None or file.first_time < until)
        ]
        sessions = _by_session(chosen)
        own = {field.name for field in IDENTITY}
        names = [name for name in wanted.names if name not in own]
        if ORDERS[kind] not in names and any(len(of_session) > 1 for of_session in sessions):
            names.append(ORDERS[kind])

        def read(file: CaptureFile) -> Iterator[pa.RecordBatch]:
            try:
                for batch in file.batches(names, since=since, until=until, among=among):
                    yield _with_identity(batch, file)
            except CaptureError as error:
                self._report(file.path, error, kind)

        def rows() -> Iterator[pa.RecordBatch]:
            some = False
            for of_session in sessions:
                chains = [(batch for file in chain for batch in read(file)) for chain in of_session]
                for batch in merged(chains, ORDERS[kind]):
                    some = True
                    yield pa.RecordBatch.from_arrays([batch.column(name) for name in wanted.names], schema=wanted)
            if not some:
                # polars refuses a reader without a batch
                yield pa.RecordBatch.from_pylist([], schema=wanted)

        return pa.RecordBatchReader.from_batches(wanted, rows())


def _identified(path: Path, folders: dict[Path, Path]) -> Path:
    """The path that is the same for each way to a file; `folders` keeps those that were looked up."""
    if path.is_symlink():
        return path.resolve()
    folder = folders.get(path.parent)
    if folder is None:
        folder = folders[path.parent] = path.parent.resolve()
    return folder / path.name


def _by_session(files: Sequence[CaptureFile]) -> list[list[list[CaptureFile]]]:
    """The files of each session, by feed, in order of their numbers."""
    found: dict[str, dict[str, list[CaptureFile]]] = {}
    for file in files:
        found.setdefault(file.session, {}).setdefault(file.feed, []).append(file)
    return [
        [sorted(chain, key=lambda file: (file.number, file.first_time or 0, file.path)) for chain in feeds.values()]
        for feeds in found.values()
    ]


def _with_identity(batch: pa.RecordBatch, file: CaptureFile) -> pa.RecordBatch:
    zeros = pa.array(np.zeros(batch.num_rows, np.int32))
    own = [pa.DictionaryArray.from_arrays(zeros, pa.array([word], pa.string())) for word in (file.feed, file.session)]
    return pa.RecordBatch.from_arrays([*own, *batch.columns], schema=pa.schema([*IDENTITY, *batch.schema]))


def _depth() -> int:
    """The number of stack frames from here to the code that called wsrec, as `warnings.warn` counts them."""
    frame, depth = inspect.currentframe(), 0
    while frame is not None and str(frame.f_globals.get("__name__")).startswith("wsrec."):
        frame, depth = frame.f_back, depth + 1
    return depth
