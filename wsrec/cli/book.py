"""The command `wsrec book`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console

from wsrec.cli.command import Command, CommandError
from wsrec.cli.reading import reading
from wsrec.config.click_options import click_options, settled, taken
from wsrec.config.click_types import ChoiceParam, IntegerParam, PathParam, SourceType, ValueParam
from wsrec.feed.errors import ConfigError
from wsrec.feed.table_columns import Table
from wsrec.format.errors import EXIT_NOTHING, EXIT_UNREADABLE
from wsrec.format.reading import open_capture
from wsrec.format.selection import check_times
from wsrec.options.engine import EngineOptions
from wsrec.options.export import Format, Numbers, TimeUnit
from wsrec.options.option import declared
from wsrec.options.time_types import Instant
from wsrec.options.value_types import Duration
from wsrec.order_books.book_lines import plain_rows, print_book, print_lines, summary
from wsrec.order_books.books import Books, books
from wsrec.tables.table_file import TableFile, UnwritableError
from wsrec.units import clean, printable_json

_ENGINE = declared(EngineOptions)
_DOUBTFUL = 4


def _names(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name for text in given for name in text.split(",") if name)


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("sources", nargs=-1, required=True, type=SourceType(), metavar="FILE|DIR|GLOB...")
@click.option(
    "--symbol",
    "-s",
    multiple=True,
    callback=_names,
    metavar="SYM,...",
    help="Only these, as the exchange writes them or as BTC/USDT. [default: all]",
)
@click.option(
    "--channel",
    "-c",
    multiple=True,
    callback=_names,
    metavar="CH,...",
    help="Only these: `book`, or the exchange's own names. [default: all that carry books]",
)
@click.option("--at", type=ValueParam(Instant()), metavar="TIME", help="The book at this time.")
@click.option(
    "--every",
    type=ValueParam(Duration()),
    metavar="DURATION",
    help="A book at each multiple of this. [default: after each message]",
)
@click.option("--since", type=ValueParam(Instant()), metavar="TIME", help="Only books at or after this time.")
@click.option("--until", type=ValueParam(Instant()), metavar="TIME", help="Only books before this time.")
@click.option("--levels", type=IntegerParam(0), default=20, show_default=True, help="Best levels of each side; 0: all.")
@click.option("--partial", is_flag=True, help="Also books without a snapshot: with only the levels that changed.")
@click.option(
    "--out",
    "-o",
    type=PathParam(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the books to this file, as rows of `book_snapshots`.",
)
@click.option(
    "--format", "kind", type=ChoiceParam(Format), help="Format of the file. [default: that of its name, or parquet]"
)
@click_options(_ENGINE)
@click.option("--json", is_flag=True, help="Print one JSON object a line for each book, and one with what is doubtful.")
def book(sources: tuple[str, ...], json: bool, out: Path | None, kind: Format | None, **asked: Any) -> None:
    """Rebuild order books from the snapshots and changes of a capture.

    A book is unknown before its first snapshot, after a gap until the next one, and while not connected; while the best
    bid is at or above the best ask it is doubtful. That is said, and never smoothed over.

    \b
    Examples:
      wsrec book captures --symbol BTC-USDT --at 2026-11-22T13:00:00Z
      wsrec book captures --symbol BTC-USDT --every 1s --levels 1
      wsrec book captures --symbol BTC-USDT --every 100ms --out books.parquet --jobs 4

    docs/how-to/books.md explains how books are rebuilt and what is checked.

    \b
    Exit status: 0 found; 1 a file is damaged; 2 wrong usage;
    3 no capture there, or no message of such a book in that time; 4 with --at: a book is unknown or doubtful;
    66 something cannot be read, --out not be written, or a worker of --jobs or --spark failed;
    74 standard output cannot be written.
    """
    options = taken(EngineOptions, settled(_ENGINE, {each.field: asked.pop(each.field) for each in _ENGINE}))
    _check(asked, out, kind)
    every = asked.pop("every")
    try:
        with reading():
            found = books(
                open_capture(sources, running=options.spark is None),
                every=None if every is None else round(every * 1e9),
                jobs=options.jobs,
                spark=options.spark,
                **asked,
            )
            count, doubtful = (
                _written(found, out, kind) if out is not None else _printed(found, asked["at"], as_json=json)
            )
    except UnwritableError as error:
        raise CommandError(f"--out: {error}", EXIT_UNREADABLE) from error
    if not count:
        raise CommandError(f"{_named(sources)}: holds no message of such a book in that time", EXIT_NOTHING)
    if json:
        about = {"books": count, "checks": found.checks._asdict(), "doubts": msgspec.to_builtins(found.doubts)}
        click.echo(printable_json(about))
    elif asked["at"] is None:
        for line in summary(count, found.doubts, found.checks):
            click.echo(line, err=out is None)
    if doubtful and asked["at"] is not None:
        raise click.exceptions.Exit(_DOUBTFUL)


def _named(sources: tuple[str, ...]) -> str:
    return clean(", ".join(sources), 1000)


def _check(asked: dict[str, Any], out: Path | None, kind: Format | None) -> None:
    for name in ("every", "since", "until"):
        if asked["at"] is not None and asked[name] is not None:
            raise ConfigError(f"--{name} cannot be combined with --at, which is one moment")
    check_times(asked["since"], asked["until"])
    if kind is not None and out is None:
        raise ConfigError("--format needs --out")


def _written(found: Books, out: Path, kind: Format | None) -> tuple[int, int]:
    """Write the books to a file: how many, and how many of them are doubtful."""
    by_name = {f".{kind.value}": kind for kind in Format}
    kind = kind or by_name.get(out.suffix, Format.PARQUET)
    file = TableFile(out, Table.BOOK_SNAPSHOTS, kind, TimeUnit.NS, Numbers.FLOAT)
    doubtful = 0
    try:
        for batch in found:
            file.write(batch)
            doubtful += batch.num_rows - batch.column("doubt").null_count
        if file.rows:
            file.finish({})
    finally:
        file.discard()
    return file.rows, doubtful


def _printed(found: Books, at: int | None, *, as_json: bool) -> tuple[int, int]:
    """Print the books: how many, and how many of them are doubtful."""
    console = Console(highlight=False)
    count = doubtful = 0
    for batch in found:
        rows = list(plain_rows(batch))
        if as_json:
            for row in rows:
                click.echo(printable_json(row))
        elif at is None:
            print_lines(rows, console, heads=not count)
        else:
            for row in rows:
                print_book(row, console)
        count += len(rows)
        doubtful += sum(row["doubt"] is not None for row in rows)
    return count, doubtful
