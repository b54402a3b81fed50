"""Export of tables: a file a table for each messages file, in its folders and with its name.

    DIR/table=trades/feed=binance/date=2026-11-22/hour=13/SESSION-000001.parquet

Made again, a file replaces itself. It has its final name only when it is complete.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from wsrec.engine.work import Engine, EngineError, Progress, reduce
from wsrec.feed.load import load_feed
from wsrec.feed.schema import Feed
from wsrec.feed.table_columns import Table
from wsrec.format.asked_names import check_channels, missing_channels, missing_symbols, wanted_channels
from wsrec.format.capture_file import CaptureFile
from wsrec.format.declared_feed import declared_feed
from wsrec.format.errors import CaptureError, UnreadableError
from wsrec.format.layout import EVENTS, place
from wsrec.format.manifest import digest_of
from wsrec.format.reading import Capture
from wsrec.format.selection import Selection, outside
from wsrec.options.export import ColumnNames, Format, Numbers, TimeUnit
from wsrec.tables.convert import Converter, RefusedNumberError
from wsrec.tables.facts import Extent
from wsrec.tables.file_rows import FileRows
from wsrec.tables.reading import check_feed
from wsrec.tables.schema import TABLES_VERSION
from wsrec.tables.session_files import Group, SessionItem, groups
from wsrec.tables.session_overlaps import SessionOverlap, session_overlaps
from wsrec.tables.session_tables import SessionTables
from wsrec.tables.table_file import TableFile, UnwritableError

# files that one worker exports after another: few bytes, so that all end at about the same time
_ITEM_BYTES, _ITEM_FILES = 128 << 20, 32


FACTS = ("session_files_sha256", "session_facts_sha256", "extent")
"""Keys of an exported file's metadata that say what its session's files told of its rows (`wsrec.tables.facts`)."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What is exported, and how.

    Attributes:
        tables: the tables.
        out: the folder for the files.
        since, until, symbols, channels: as `wsrec.tables.reading.Selection`.
        format: the files' format.
        time: unit of times; `us` cuts the last three digits.
        numbers: type of numbers.
        names: names of columns.
        feed_file: a feed's YAML file in place of the catalogue's feed of its name; None: none.

    """

    tables: tuple[Table, ...]
    out: str
    since: int | None = None
    until: int | None = None
    symbols: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    format: Format = Format.PARQUET
    time: TimeUnit = TimeUnit.NS
    numbers: Numbers = Numbers.FLOAT
    names: ColumnNames = ColumnNames.WSREC
    feed_file: str | None = None

    @property
    def selection(self) -> Selection:
        """Which rows are wanted."""
        return Selection(self.since, self.until, frozenset(self.symbols), self.channels)


class ExportItem(SessionItem, frozen=True, kw_only=True):
    """Neighbouring messages files of one feed of one session, to be exported together.

    Attributes:
        request: what is exported.
        unfinished: those files that are copies of what an unfinished session has journalled.

    """

    request: Request
    unfinished: frozenset[str] = frozenset()


class LeftOut(msgspec.Struct, frozen=True):
    """Messages, or parts of them, that make no rows, or none with a value.

    Attributes:
        feed: the feed.
        channel: as messages carry it; None: none.
        table: the table; None: all.
        reason: why.
        is_skip: whether a declaration skips them by intent.
        is_null: whether their rows are made, with null in place of what is there.
        count: how many.
        session, seq: the first of them.

    """

    feed: str
    channel: str | None
    table: str | None
    reason: str
    is_skip: bool
    is_null: bool
    count: int
    session: str
    seq: int


class Exported(msgspec.Struct, kw_only=True):
    """The result of an export.

    Attributes:
        messages: messages read.
        rows: rows written, by table.
        states: rows by table and state.
        rounded: numbers that a double does not hold exactly as written, by table.
        cut: times whose last three digits were cut (`us`).
        files: files written.
        bytes: their size.
        unfinished: how many of them are of sessions that are not finished.
        symbols, channels: those of the rows, if only some were asked for.
        nothing_of: which of the names that were asked for have no rows, in words.
        twice: what two sessions recorded at the same time, so that its rows are there twice.
        left_out: what makes no rows.
        errors: damaged files, and numbers that do not fit a decimal.
        unreadable: files that the system refuses to read.

    """

    messages: int = 0
    rows: dict[str, int] = msgspec.field(default_factory=dict)
    states: dict[str, dict[str, int]] = msgspec.field(default_factory=dict)
    rounded: dict[str, int] = msgspec.field(default_factory=dict)
    cut: int = 0
    files: int = 0
    bytes: int = 0
    unfinished: int = 0
    symbols: list[str] = msgspec.field(default_factory=list)
    channels: list[str] = msgspec.field(default_factory=list)
    nothing_of: list[str] = msgspec.field(default_factory=list)
    twice: list[SessionOverlap] = msgspec.field(default_factory=list)
    left_out: list[LeftOut] = msgspec.field(default_factory=list)
    errors: list[str] = msgspec.field(default_factory=list)
    unreadable: list[str] = msgspec.field(default_factory=list)

    def note_names(self, rows: pa.RecordBatch, request: Request) -> None:
        """Note the symbols and channels of rows, if only some were asked for."""
        if request.symbols:
            self.symbols = names_with(self.symbols, rows, "symbol")
        if request.channels:
            self.channels = names_with(self.channels, rows, "channel")

    def fail(self, error: Exception) -> None:
        """Note why a file makes no tables."""
        (self.unreadable if isinstance(error, UnreadableError) else self.errors).append(str(error))


def merge(one: Exported, other: Exported) -> Exported:
    """The result of two exports, the second of which is of later files; changes the first."""
    one.messages += other.messages
    one.cut += other.cut
    one.files += other.files
    one.bytes += other.bytes
    one.unfinished += other.unfinished
    one.symbols = sorted({*one.symbols, *other.symbols})
    one.channels = sorted({*one.channels, *other.channels})
    for mine, theirs in ((one.rows, other.rows), (one.rounded, other.rounded)):
        for table, count in theirs.items():
            mine[table] = mine.get(table, 0) + count
    for table, states in other.states.items():
        known = one.states.setdefault(table, {})
        for state, count in states.items():
            known[state] = known.get(state, 0) + count
    one.left_out = summed([*one.left_out, *other.left_out])
    one.errors += other.errors
    one.unreadable += other.unreadable
    return one


def names_with(known: Sequence[str], rows: pa.RecordBatch, column: str) -> list[str]:
    """The names that are known, and those in a column."""
    return sorted({*known, *(name for name in rows[column].unique().to_pylist() if name is not None)})


def nothing_of(
    capture: Capture, feeds: Sequence[Feed], request: Request, symbols: Sequence[str], channels: Sequence[str]
) -> list[str]:
    """Which of the names that were asked for have no rows, in words; `symbols` and `channels` are those of the rows."""
    without = [
        name
        for name in request.channels
        if not any(set(wanted_channels(feed, [name]) or ()) & {*channels} for feed in feeds)
    ]
    found = missing_symbols(capture.files, feeds, request.symbols, symbols)
    if request.tables == (Table.GAPS,):
        without = []
    return [
        *(f"--symbols: {each}" for each in found),
        *(f"--channels: {each}" for each in missing_channels(capture.files, without)),
    ]


def summed(left_out: Sequence[LeftOut]) -> list[LeftOut]:
    """The same with one for each reason."""
    found: dict[tuple[Any, ...], LeftOut] = {}
    for each in left_out:
        key = (each.feed, each.channel, each.table, each.reason, each.is_skip, each.is_null)
        known = found.get(key)
        found[key] = each if known is None else msgspec.structs.replace(known, count=known.count + each.count)
    return list(found.values())


def export_files(item: ExportItem) -> Exported:
    """Export some files. The same files give the same bytes, whoever exports them beside which others.

    Raises:
        ConfigError: the given YAML has mistakes.
        EngineError: a table cannot be written.

    """
    request, result = item.request, Exported()
    try:
        files = [CaptureFile(Path(path)) for path in (*item.earlier, *item.files)]
        event_files = [CaptureFile(Path(path), EVENTS) for path in item.event_files]
        feed = _feed(files[0], request.feed_file)
        channels = wanted_channels(feed, request.channels)
        later = [Path(path) for path in item.later]
        about = item.rows, later, [Path(path) for path in item.listings]
        session = SessionTables(feed, files, event_files, request.tables, channels, request.numbers, *about)
    except CaptureError as error:
        result.fail(error)
        return result
    for file in files[len(item.earlier) :]:
        if Table.GAPS in request.tables or not outside(file, request.selection):
            merge(result, _export_file(file, session, item, feed))
    return result


def _feed(file: CaptureFile, given: str | None) -> Feed:
    feed = load_feed(Path(given)) if given is not None else None
    return feed if feed is not None and feed.name == file.feed else declared_feed(file)


def _export_file(file: CaptureFile, session: SessionTables, item: ExportItem, feed: Feed) -> Exported:
    outputs: dict[Table, TableFile] = {}
    request, result = item.request, Exported()
    is_unfinished = str(file.path) in item.unfinished
    source = digest_of(file.path)
    try:
        for table, rows in session.tables(file, request.selection.in_feed(feed)):
            if table not in outputs:
                outputs[table] = TableFile(
                    path_of(file, table, request), table, request.format, request.time, request.numbers, request.names
                )
            result.cut += outputs[table].write(rows)
            _count_states(result, table, rows)
            result.note_names(rows, request)
        about = {
            "source_sha256": source,
            **source_of(file),
            "unfinished": is_unfinished,
            "declarations_sha256": declarations_of(feed),
            **(_facts_of(file, session) if outputs else {}),
        }
        for output in outputs.values():
            result.bytes += output.finish(_about(file, session.converter, request, about))
            result.files += 1
            result.unfinished += is_unfinished
    except (CaptureError, RefusedNumberError) as error:
        result.fail(error)
    except UnwritableError as error:
        # it would be the same for the other files
        raise EngineError(str(error)) from error
    finally:
        for output in outputs.values():
            output.discard()
    converter = session.converter
    result.messages = converter.messages
    result.rows = {str(table): output.rows for table, output in outputs.items()}
    result.rounded = {str(table): count for table, count in converter.rounded.items() if count}
    result.left_out = left_out_of(file, converter)
    return result


def _facts_of(file: CaptureFile, session: SessionTables) -> dict[str, Any]:
    """What the rows' states depend on beside the messages file."""
    extent = Extent.of(file)
    return dict(zip(FACTS, (session.files_sha256, session.facts_sha256(extent), extent), strict=True))


def left_out_of(file: CaptureFile, converter: Converter) -> list[LeftOut]:
    """What of a file made no rows, by the counts of its conversion."""
    return [
        LeftOut(
            file.feed,
            reason.channel,
            reason.table and str(reason.table),
            reason.reason,
            reason.is_skip,
            reason.is_null,
            found.times,
            file.session,
            found.seq,
        )
        for reason, found in converter.left_out.items()
    ]


def _count_states(result: Exported, table: Table, rows: pa.RecordBatch) -> None:
    if table is Table.GAPS:
        return
    known = result.states.setdefault(str(table), {})
    for each in rows["state"].value_counts().to_pylist():
        known[each["values"]] = known.get(each["values"], 0) + each["counts"]


def _about(file: CaptureFile, converter: Converter, request: Request, about: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of an exported file."""
    chosen = {name: getattr(request, name) for name in ("since", "until", "symbols", "channels")}
    return {
        "tables_version": TABLES_VERSION,
        "feed": file.feed,
        "session": file.session,
        **about,
        "selection": {name: value for name, value in chosen.items() if value} or None,
        "messages": converter.messages,
        "rounded": sum(converter.rounded.values()),
        "left_out": [msgspec.to_builtins(each) for each in left_out_of(file, converter)],
    }


def source_of(file: CaptureFile) -> dict[str, Any]:
    """What shows at once whether a table is of a messages file as it is now."""
    return {"source_bytes": file.size, "source_rows": file.rows}


def declarations_of(feed: Feed) -> str:
    """The sha256 of a feed's declarations of tables."""
    declared = {name: channel.model_dump(mode="json")["tables"] for name, channel in feed.channels.items()}
    return hashlib.sha256(json.dumps(declared, sort_keys=True).encode()).hexdigest()


def path_of(file: CaptureFile, table: Table, request: Request) -> Path:
    """The path of the file for a table: in the folders of the messages file."""
    folders = [part for part in file.path.absolute().parts[-4:-1] if "=" in part]
    below = Path(*folders) if len(folders) == 3 else place(file.feed, file.first_time or 0, "s", 0).parent
    name = f"{file.path.stem}.{request.format}"
    return Path(request.out) / f"table={table}" / below / name


def items_of(
    of_sessions: Sequence[Group], request: Request, unfinished: frozenset[str] = frozenset()
) -> list[ExportItem]:
    """What can be exported side by side: of each feed of each session some neighbouring files."""
    found = []
    for group in of_sessions:
        events = tuple(str(file.path) for file in group.event_files)
        paths = [str(file.path) for file in group.whole]
        rows = tuple(FileRows.of(group.whole))
        asked = [file in group.files for file in group.whole]
        begin = 0
        while begin < len(paths):
            end, size = begin, 0
            while end < len(paths) and asked[end] and size < _ITEM_BYTES and end - begin < _ITEM_FILES:
                size += group.whole[end].size
                end += 1
            if end == begin:
                begin += 1
                continue
            found.append(
                ExportItem(
                    files=tuple(paths[begin:end]),
                    size=size,
                    earlier=tuple(paths[:begin]),
                    later=tuple(paths[end:]),
                    event_files=events,
                    rows=rows,
                    listings=tuple(map(str, group.listings)),
                    request=request,
                    unfinished=unfinished.intersection(paths[begin:end]),
                )
            )
            begin = end
    return found


def export(capture: Capture, request: Request, engine: Engine, progress: Progress | None = None) -> Exported:
    """Export the tables of a capture.

    Args:
        capture: the capture.
        request: what is exported, and how.
        engine: where the work runs.
        progress: called from time to time.

    Raises:
        ConfigError: no feed has such a channel, or the given YAML has mistakes or is of another feed.
        EngineError: a table cannot be written, or an item failed.

    """
    of_sessions = groups(capture.files, capture.event_files)
    given = load_feed(Path(request.feed_file)) if request.feed_file is not None else None
    check_feed(request.feed_file, given, {group.feed for group in of_sessions})
    feeds = {group.feed: _feed(group.files[0], request.feed_file) for group in of_sessions}
    check_channels(list(feeds.values()), request.channels)
    unfinished = frozenset(str(file.path) for file in capture.files if capture.is_unfinished(file))
    items = items_of(of_sessions, request, unfinished)
    result = reduce(engine, export_files, merge, items, progress) or Exported()
    result.nothing_of = nothing_of(capture, list(feeds.values()), request, result.symbols, result.channels)
    result.twice = session_overlaps(capture.files, request.tables, request.selection, feeds)
    return result
