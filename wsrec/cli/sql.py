"""The command `wsrec sql`."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
from rich.console import Console

from wsrec import stand_ins
from wsrec.cli.command import Command, CommandError
from wsrec.cli.output_format import Column, Listing, OutputFormat, is_json_first, print_listing
from wsrec.cli.reading import reading
from wsrec.config.click_options import click_options, settled, taken
from wsrec.config.click_types import ChoiceParam, PathParam, SourceType
from wsrec.engine.choose import engine_for
from wsrec.feed.errors import ConfigError
from wsrec.format.errors import EXIT_UNREADABLE
from wsrec.format.reading import open_capture
from wsrec.options.engine import EngineOptions
from wsrec.options.option import declared
from wsrec.report.terminal import reading_progress
from wsrec.tables.sql import SqlError, answer
from wsrec.tables.sql_result import SameNameError, csv_texts, json_lines, print_rows, text_rows, write_parquet
from wsrec.tables.whole_file import whole_file
from wsrec.units import system_error

_OPTIONS = declared(EngineOptions)
_MOST_ROWS = 1000


class Form(StrEnum):
    """How the rows are printed or written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    MARKDOWN = "markdown"
    PARQUET = "parquet"


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source", type=SourceType(), metavar="CAPTURE")
@click.argument("question", metavar="SELECT")
@click.option(
    "--format",
    "form",
    type=ChoiceParam(Form),
    default=str(Form.TABLE),
    show_default=True,
    help="table, csv, json (a row a line), markdown, parquet.",
)
@click.option("--json", is_flag=True, help="Print a JSON object a row. The same as --format json.")
@click.option("--out", "-o", type=PathParam(dir_okay=False, path_type=Path), help="Write the rows to this file.")
@click_options(_OPTIONS)
def sql(source: str, question: str, form: Form, json: bool, out: Path | None, **given: Any) -> None:
    """Ask a capture in SQL: messages, events, trades, quotes, book_changes and the other tables are views.

    CAPTURE is an output folder of `wsrec record`, a part of one, a file or a pattern. Tables that are not exported
    (`wsrec export CAPTURE`) are made for the question. DuckDB answers: `pip install 'wsrec[sql]'`,
    in a clone `'.[sql]'`.

    \b
    Examples:
      wsrec sql captures "select symbol, count(*), sum(size) from trades group by symbol"
      wsrec sql captures "select kind, count(*) from events group by kind"
      wsrec sql captures "select * from quotes where symbol = 'BTCUSDT'" --format parquet --out quotes.parquet

    Times are UTC, in nanoseconds. Nothing is changed: one SELECT is run. docs/how-to/other-tools.md has more.

    \b
    Exit status: 0 answered; 1 a file is damaged; 2 wrong usage, or no SELECT that DuckDB can answer;
    3 no capture there; 66 something cannot be read, --out not be written, or a worker failed;
    74 standard output cannot be written.
    """
    if json and is_json_first("form", form):
        form = Form.JSON
    if form is Form.PARQUET and out is None:
        raise ConfigError("--format: found parquet without --out, expected the file to write")
    if form in (Form.TABLE, Form.MARKDOWN) and out is not None:
        raise ConfigError(f"--out: found it with --format {form}, expected csv, json or parquet")
    options = taken(EngineOptions, settled(_OPTIONS, given))
    try:
        with reading():
            capture = open_capture(source, running=options.spark is None)
            with (
                engine_for(options) as engine,
                reading_progress(Console(stderr=True)) as progress,
                answer(capture, question, engine, progress, _notice) as rows,
            ):
                _write(rows, form, out)
    except (SqlError, SameNameError) as error:
        raise ConfigError(str(error)) from error


def _notice(text: str) -> None:
    click.echo(f"wsrec sql: {text}", err=True)


def _write(rows: pa.RecordBatchReader, form: Form, out: Path | None) -> None:
    if form is Form.TABLE:
        if print_rows(rows, Console(highlight=False), _MOST_ROWS):
            click.echo(f"wsrec sql: these are the first {_MOST_ROWS:,} rows; --format csv or json has all", err=True)
    elif out is None:
        _print(rows, form)
    else:
        try:
            _write_file(rows, form, out)
        except OSError as error:
            raise CommandError(f"--out: {system_error(error)}", EXIT_UNREADABLE) from error


def _print(rows: pa.RecordBatchReader, form: Form) -> None:
    if form is Form.JSON:
        for line in json_lines(rows):
            click.echo(line)
        return
    if form is Form.MARKDOWN:
        print_listing(Listing([Column(name) for name in rows.schema.names], text_rows(rows)), OutputFormat.MARKDOWN)
        return
    stand_ins.exact(sys.stdout)
    for text in csv_texts(rows, for_terminal=sys.stdout.isatty()):
        # as it is: click takes escape sequences out of what does not go to a terminal
        click.echo(text, nl=False, color=True)


def _write_file(rows: pa.RecordBatchReader, form: Form, out: Path) -> None:
    if form is Form.PARQUET:
        write_parquet(rows, out)
        return
    with whole_file(out) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as file:
        file.writelines(csv_texts(rows) if form is Form.CSV else (f"{line}\n" for line in json_lines(rows)))
