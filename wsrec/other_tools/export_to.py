"""Export to another tool: the rows of a capture, made on the fly, to the tool's own files."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import msgspec

from wsrec.engine.work import Progress
from wsrec.feed.load import load_feed
from wsrec.feed.table_columns import Table
from wsrec.format.capture_file import CaptureFile
from wsrec.format.declared_feed import declared_feed
from wsrec.format.errors import UnreadableError
from wsrec.format.reading import Capture
from wsrec.options.export import Tool
from wsrec.other_tools import hftbacktest, nautilus, tardis
from wsrec.other_tools.outcome import ExportError, Outcome, TableRows
from wsrec.tables.convert import Converter
from wsrec.tables.export import Exported, LeftOut, Request, left_out_of, nothing_of, summed
from wsrec.tables.listings import Listings
from wsrec.tables.reading import check_feed, read_tables
from wsrec.tables.session_overlaps import session_overlaps

Decimals = dict[tuple[str, str], tuple[int, int]]


class Clocks(NamedTuple):
    """What a user says of the times.

    Attributes:
        offset: how long before its arrival a row without any time of the exchange happened (ns).
        shift: how much later local times are than recorded (ns), for the tool that compares them with the exchange's.

    """

    offset: int | None = None
    shift: int | None = None


_AS_RECORDED = Clocks()


class _Exporter(NamedTuple):
    """What a tool takes.

    Attributes:
        tables: the tables that it has something for.
        usual: those that are exported if the user names none.
        write: writes the files; takes the rows, the folder, what is assumed of clocks, and the decimals of prices and
            sizes by feed and symbol, complete only after the rows.

    """

    tables: tuple[Table, ...]
    usual: tuple[Table, ...]
    write: Callable[[TableRows, Path, Clocks, Decimals], Outcome]


_EXPORTERS = {
    Tool.HFTBACKTEST: _Exporter(
        hftbacktest.TABLES,
        hftbacktest.DEFAULT_TABLES,
        lambda rows, out, clocks, _: hftbacktest.to_hftbacktest(
            rows, out, exchange_offset=clocks.offset, clock_shift=clocks.shift
        ),
    ),
    Tool.NAUTILUS: _Exporter(
        nautilus.TABLES,
        nautilus.DEFAULT_TABLES,
        lambda rows, out, clocks, decimals: nautilus.to_nautilus(
            rows, out, exchange_offset=clocks.offset, decimals=decimals
        ),
    ),
    # its `timestamp` is the local one where there is no other
    Tool.TARDIS: _Exporter(tardis.TABLES, tardis.DEFAULT_TABLES, lambda rows, out, *_: tardis.to_tardis(rows, out)),
}


class ToolExport(msgspec.Struct, kw_only=True):
    """The result of an export to a tool.

    Attributes:
        outcome: what was written and what not.
        messages: messages read.
        rounded: numbers that a double does not hold exactly as written.
        nothing_of: which of the symbols and channels that were asked for have no rows, in words.
        left_out: messages, or parts of them, that make no rows.
        errors: damaged files, and numbers that do not fit a decimal.
        unreadable: files that the system refuses to read.

    """

    outcome: Outcome
    messages: int = 0
    rounded: int = 0
    nothing_of: list[str] = msgspec.field(default_factory=list)
    left_out: list[LeftOut] = msgspec.field(default_factory=list)
    errors: list[str] = msgspec.field(default_factory=list)
    unreadable: list[str] = msgspec.field(default_factory=list)

    def fail(self, error: Exception) -> None:
        """Note why the rows of a file, or the rest of them, are missing."""
        into = self.unreadable if isinstance(error, UnreadableError) else self.errors
        if str(error) not in into:
            into.append(str(error))


def tables_of(tool: Tool) -> tuple[tuple[Table, ...], tuple[Table, ...]]:
    """The tables that a tool has something for, and those that it usually takes."""
    exporter = _EXPORTERS[tool]
    return exporter.tables, exporter.usual


def export_to(
    capture: Capture, tool: Tool, request: Request, clocks: Clocks = _AS_RECORDED, progress: Progress | None = None
) -> ToolExport:
    """Export a capture to a tool.

    Args:
        capture: the capture.
        tool: the tool.
        request: which rows, of which tables, to which folder.
        clocks: what the user says of the times.
        progress: called from time to time, with bytes.

    Raises:
        ExportError: rows do not fit the tool, and only the user can say what is to be done.
        ConfigError: no feed has such a channel, or the given YAML has mistakes or is of another feed.
        CaptureError: the feed of a session cannot be read.
        OSError: a file cannot be written.

    """
    result = ToolExport(outcome=Outcome())
    decimals: Decimals = {}
    total, done = sum(file.size for file in capture.files), 0

    def count(file: CaptureFile, converter: Converter) -> None:
        nonlocal done
        result.messages += converter.messages
        result.rounded += sum(converter.rounded.values())
        result.left_out += left_out_of(file, converter)
        if converter.listings is not None and file.last_time is not None:
            decimals.update(listed_decimals(file.feed, converter.listings, file.last_time))
        done += file.size
        if progress is not None:
            progress(done, total)

    given = load_feed(Path(request.feed_file)) if request.feed_file is not None else None
    check_feed(request.feed_file, given, {file.feed for file in capture.files})
    feeds_given = {given.name: given} if given is not None else None
    for overlap in session_overlaps(capture.files, request.tables, request.selection, feeds_given):
        raise ExportError(f"{overlap}, and would be there twice: export one session's files, or a time without both")
    rows = read_tables(
        capture,
        request.tables,
        request.selection,
        feeds=feeds_given,
        numbers=request.numbers,
        on_file=count,
        on_failed=result.fail,
    )
    seen = Exported()
    result.outcome = _EXPORTERS[tool].write(_noting(rows, seen, request), Path(request.out), clocks, decimals)
    result.left_out = summed(result.left_out)
    feeds = {file.feed: file for file in capture.files}
    declared = [given if given is not None and given.name == name else declared_feed(feeds[name]) for name in feeds]
    result.nothing_of = nothing_of(capture, declared, request, seen.symbols, seen.channels)
    if (capture.damaged or result.errors or result.unreadable) and Table.BOOK_CHANGES in request.tables:
        result.outcome.note(
            "book_changes after a damaged file lack those that were in it: a book is wrong until its next snapshot"
        )
    return result


def _noting(rows: TableRows, seen: Exported, request: Request) -> TableRows:
    """The rows, whose symbols and channels are noted."""
    for table, batch in rows:
        seen.note_names(batch, request)
        yield table, batch


def listed_decimals(feed: str, listings: Listings, time: int) -> Decimals:
    """The decimals of an exchange's steps of prices and sizes, by feed and symbol, where its listing states both."""
    return {
        (feed, symbol): (_decimals(each.price_step), _decimals(each.size_step))
        for symbol, each in listings.at(time).items()
        if each.price_step is not None and each.size_step is not None
    }


def _decimals(step: Decimal) -> int:
    exponent = step.normalize().as_tuple().exponent
    return min(max(0, -exponent), nautilus.DECIMALS) if isinstance(exponent, int) else 0
