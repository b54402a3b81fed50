"""The command `wsrec export`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from wsrec.cli.command import Command, CommandError
from wsrec.config.click_options import click_options, settled, taken
from wsrec.config.click_types import SourceType
from wsrec.engine.choose import engine_for
from wsrec.engine.work import EngineError
from wsrec.feed.errors import ConfigError
from wsrec.feed.table_columns import Table
from wsrec.format.errors import EXIT_NOTHING, EXIT_UNREADABLE, CaptureError
from wsrec.format.layout import KINDS
from wsrec.format.reading import DamagedFile, open_capture
from wsrec.format.selection import check_times
from wsrec.options.engine import EngineOptions
from wsrec.options.export import ColumnNames, ExportOptions, TimeUnit, Tool
from wsrec.options.option import declared
from wsrec.other_tools.export_to import Clocks, ToolExport, export_to, tables_of
from wsrec.other_tools.market_rows import SUSPECT_BOOKS
from wsrec.other_tools.outcome import ExportError
from wsrec.report.terminal import reading_progress
from wsrec.tables.export import Exported, LeftOut, Request
from wsrec.tables.export import export as export_tables
from wsrec.tables.session_overlaps import EACH_ONCE
from wsrec.terminal_tables import print_table
from wsrec.units import clean, not_one_of, plural, printable_json, system_error

_OPTIONS = (*declared(ExportOptions), *declared(EngineOptions))
_DAMAGED = 1


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("sources", nargs=-1, required=True, type=SourceType(), metavar="FILE|DIR|GLOB...")
@click_options(_OPTIONS)
@click.option("--json", is_flag=True, help="Print one JSON object.")
def export(sources: tuple[str, ...], json: bool, **given: Any) -> None:
    """Make tables of captures: trades, quotes, books and more, a file a table for each messages file.

    Each row has the `session` and `seq` of the message that it came from, and in `state` what is known of it: `ok`
    (proved complete), `unproved`, `suspect` (after a gap), `history` (sent again).

    \b
    Examples:
      wsrec export captures
      wsrec export captures --tables trades,quotes --out tables --symbols BTCUSDT
      wsrec export captures --tables trades --since 2026-11-22T13:00Z --format csv --time us
      wsrec export captures --to hftbacktest --symbols BTCUSDT --channels trades,book

    Of a recording in progress there are its rows up to now (with --spark: its finished files).
    Messages that no declaration fits are counted, with the reason. docs/reference/tables.md explains the tables,
    docs/how-to/other-tools.md what `--to` writes.

    \b
    Exit status: 0 exported; 1 a file is damaged, or a number does not fit; 2 wrong usage;
    3 no capture there, or no message makes a row of these tables (of `gaps` alone: 0, as no gap is known);
    66 something cannot be read, a table not be written, or a worker failed; 74 standard output cannot be written.
    """
    values = settled(_OPTIONS, given)
    options, engine_options = taken(ExportOptions, values), taken(EngineOptions, values)
    request = _request(sources, options)
    if options.to is not None:
        if engine_options != EngineOptions():
            name = "--spark" if engine_options.spark else "--jobs"
            raise ConfigError(f"{name}: found it beside --to, whose files need all rows in one process: give one")
        for name, usual in (("time", TimeUnit.NS), ("names", ColumnNames.WSREC)):
            if getattr(options, name) is not usual:
                raise ConfigError(f"--{name}: found it beside --to, whose files have the tool's: give one")
        offset = None if options.exchange_offset is None else round(options.exchange_offset * 1e9)
        if options.clock_shift is not None and options.to is not Tool.HFTBACKTEST:
            raise ConfigError(f"--clock-shift: found it beside --to {options.to}, expected --to hftbacktest")
        _export_to(sources, options.to, request, Clocks(offset, options.clock_shift), as_json=json)
        return
    if options.clock_shift is not None:
        raise ConfigError("--clock-shift: found it without --to, expected --to hftbacktest")
    if options.exchange_offset is not None:
        raise ConfigError(
            "--exchange-offset: found it without --to, whose files need a time of the exchange in each row"
        )
    damaged: list[DamagedFile] = []
    try:
        capture = open_capture(sources, damaged=damaged.append, running=engine_options.spark is None)
        with engine_for(engine_options) as engine, reading_progress(Console(stderr=True)) as progress:
            result = export_tables(capture, request, engine, progress)
    except EngineError as error:
        raise CommandError(str(error), EXIT_UNREADABLE) from error
    _add_damaged(result, damaged)
    if json:
        click.echo(printable_json({"out": request.out, **msgspec.to_builtins(result)}))
    else:
        empty = [table for table in request.tables if options.tables and table not in result.rows]
        _print(result, request, empty, Console(highlight=False))
    _exit_if_damaged(result)
    # that no gap is known is an answer
    if not result.files and (request.tables != (Table.GAPS,) or result.nothing_of):
        _exit_without_rows("no message makes a row of these tables, as they were asked for")


def _add_damaged(result: Exported | ToolExport, damaged: list[DamagedFile]) -> None:
    """Add what could not be opened."""
    for each in damaged:
        if each.kind == "source":
            raise CommandError(each.message, EXIT_UNREADABLE if each.unreadable else EXIT_NOTHING)
        problems = result.unreadable if each.unreadable else result.errors
        if each.message not in problems:
            problems.append(each.message)


def _exit_if_damaged(result: Exported | ToolExport) -> None:
    """Name what was asked for and is not there, and what could not be read; exit if there is any of that."""
    for note in result.nothing_of:
        click.secho(f"wsrec export: {note}", fg="yellow", err=True)
    for problem in [*result.errors, *result.unreadable]:
        click.secho(f"wsrec export: {clean(problem, 1000)}", fg="red", err=True)
    if result.errors or result.unreadable:
        raise click.exceptions.Exit(_DAMAGED if result.errors else EXIT_UNREADABLE)


def _exit_without_rows(why: str) -> NoReturn:
    # what was found is printed: with --json an error would be a second object
    click.secho(f"wsrec export: {why}", fg="red", err=True)
    raise click.exceptions.Exit(EXIT_NOTHING)


def _request(sources: tuple[str, ...], options: ExportOptions) -> Request:
    known = {str(table): table for table in Table}
    unknown = next((name for name in options.tables if name not in known), None)
    if unknown is not None:
        raise ConfigError(f"--tables: {not_one_of(unknown, [*known])}")
    tables = tuple(known[name] for name in options.tables)
    if options.to is not None:
        possible, usual = tables_of(options.to)
        unfit = next((table for table in tables if table not in possible), None)
        if unfit is not None:
            raise ConfigError(
                f"--tables: found {unfit}, which {options.to} has nothing for, expected {', '.join(possible)}"
            )
        tables = tables or usual
    check_times(options.since, options.until)
    out = _out(sources, options)
    folder = next((each for each in (out.resolve(), *out.resolve().parents) if _is_of_capture(each)), None)
    if folder is not None:
        raise ConfigError(
            f"--out: found {str(out)!r}, which is in the {folder.name} of a capture, expected another folder"
        )
    return Request(
        tables=tables or tuple(Table),
        out=str(out),
        since=options.since,
        until=options.until,
        symbols=options.symbols,
        channels=options.channels,
        format=options.format,
        time=options.time,
        numbers=options.numbers,
        names=options.names,
        feed_file=options.feed,
    )


def _is_of_capture(folder: Path) -> bool:
    """Whether a folder is the one for a capture's messages or events, whose readers would take what is put there."""
    return folder.name in KINDS and any(any((folder.parent / kind).glob("feed=*")) for kind in KINDS)


def _out(sources: tuple[str, ...], options: ExportOptions) -> Path:
    """The folder for the files."""
    folders = [Path(source) for source in sources if Path(source).is_dir()]
    if options.to is not None:
        out = options.out or Path(options.to)
        inside = next((each for each in folders if out.resolve().is_relative_to(each.resolve())), None)
        if options.to is Tool.NAUTILUS and inside is not None:
            problem = "whose readers would take the catalogue's files for messages"
            raise ConfigError(f"--out: found {str(out)!r} in {str(inside)!r}, {problem}, expected a folder elsewhere")
        return out
    if options.out is not None:
        return options.out
    if len(folders) != 1 or len(sources) != 1:
        raise ConfigError("--out: found nothing, expected a folder for the tables, as the source is no single folder")
    return folders[0] / "tables"


def _export_to(sources: tuple[str, ...], tool: Tool, request: Request, clocks: Clocks, *, as_json: bool) -> None:
    damaged: list[DamagedFile] = []
    try:
        with reading_progress(Console(stderr=True)) as progress:
            result = export_to(open_capture(sources, damaged=damaged.append), tool, request, clocks, progress)
    except CaptureError as error:
        raise CommandError(str(error), _DAMAGED) from error
    except ExportError as error:
        raise ConfigError(str(error)) from error
    except OSError as error:
        raise CommandError(f"{clean(request.out)}: {system_error(error)}", EXIT_UNREADABLE) from error
    _add_damaged(result, damaged)
    if as_json:
        click.echo(printable_json(_as_object(result, tool, request)))
    else:
        _print_tool(result, request, Console(highlight=False))
    _exit_if_damaged(result)
    if not result.outcome.files:
        _exit_without_rows(f"no message makes a row for {tool}")


def _as_object(result: ToolExport, tool: Tool, request: Request) -> dict[str, Any]:
    outcome = result.outcome
    return {
        "out": request.out,
        "to": tool,
        "messages": result.messages,
        "files": [str(path) for path in outcome.files],
        "written": outcome.written,
        "rounded": result.rounded,
        "rows_left_out": [
            {"table": table, "reason": reason, "count": count} for (table, reason), count in outcome.left_out.items()
        ],
        "nothing_of": result.nothing_of,
        "left_out": msgspec.to_builtins(result.left_out),
        "notes": outcome.notes,
        "errors": result.errors,
        "unreadable": result.unreadable,
    }


def _print_tool(result: ToolExport, request: Request, console: Console) -> None:
    for line in result.outcome.lines():
        click.echo(clean(line, 1000))
    files = plural(len(result.outcome.files), "file")
    exact = _exact(bool(result.outcome.files), result.rounded)
    click.echo(f"{plural(result.messages, 'message')}, {files} below {clean(request.out)}{exact}")
    _print_reasons(result.left_out, console)


def _print(result: Exported, request: Request, empty: list[Table], console: Console) -> None:
    grid = Grid(box=None, header_style="bold", pad_edge=False)
    grid.add_column("table", no_wrap=True)
    states = ("ok", "unproved", "suspect", "history")
    for name in ("rows", *states, "rounded"):
        grid.add_column(name, justify="right", no_wrap=True)
    for table, rows in result.rows.items():
        counted = result.states.get(table, {})
        cells = [f"{counted[state]:,}" if state in counted else "" for state in states]
        grid.add_row(table, f"{rows:,}", *cells, f"{result.rounded.get(table, 0):,}")
    if result.rows:
        print_table(grid, console)
    total = sum(result.rows.values())
    files = f"{plural(result.files, 'file')} ({plural(result.bytes, 'byte')})"
    exact = _exact(bool(total), sum(result.rounded.values()))
    written = f"{plural(total, 'row')} in {files}"
    click.echo(f"{plural(result.messages, 'message')}, {written} below {clean(request.out)}{exact}")
    for table in empty:
        why = "no gap is known" if table is Table.GAPS else "nothing that was asked for makes one"
        click.echo(f"{table}: no rows, as {why}")
    if suspect := result.states.get(Table.BOOK_CHANGES, {}).get("suspect"):
        verb = "is" if suspect == 1 else "are"
        click.echo(f"book_changes: {plural(suspect, 'row')} {verb} suspect: {SUSPECT_BOOKS}")
    if result.unfinished:
        some = plural(result.unfinished, "file")
        click.echo(f"{some} of sessions that are not finished: export them again when they are")
    for each in result.twice:
        click.echo(f"{each}, and there twice: {EACH_ONCE}")
    if result.cut:
        click.echo(f"{plural(result.cut, 'time')} cut to microseconds")
    _print_reasons(result.left_out, console)


def _exact(has_rows: bool, rounded: int) -> str:
    """What the summary says of the numbers."""
    if not has_rows:
        return ""
    verb = "number is" if rounded == 1 else "numbers are"
    return f"; {rounded:,} {verb} rounded to doubles" if rounded else "; every number is exact"


def _print_reasons(left_out: list[LeftOut], console: Console) -> None:
    kinds = {"left out": (False, False), "null in place of what is there": (False, True)}
    for heading, kind in {**kinds, "skipped by declaration": (True, False)}.items():
        some = [each for each in left_out if (each.is_skip, each.is_null) == kind]
        if some:
            click.echo(f"{heading}:")
            _print_left_out(some, console)


def _print_left_out(left_out: list[LeftOut], console: Console) -> None:
    grid = Grid(box=None, header_style="bold", pad_edge=False)
    for name in ("count", "feed", "channel", "table", "reason", "first"):
        grid.add_column(name, justify="right" if name == "count" else "left", no_wrap=name != "reason")
    for each in sorted(left_out, key=lambda each: -each.count):
        first = f"{each.session} {each.seq}"
        texts = (each.feed, each.channel or "-", each.table or "-", each.reason, first)
        grid.add_row(f"{each.count:,}", *(escape(clean(text)) for text in texts))
    print_table(grid, console)
