"""The command `wsrec report`."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console

from wsrec.cli.command import Command, CommandError
from wsrec.config.click_options import click_options, settled, taken
from wsrec.config.click_types import SourceType
from wsrec.engine.choose import engine_for
from wsrec.engine.work import EngineError
from wsrec.format.errors import EXIT_NOTHING, EXIT_UNREADABLE
from wsrec.format.selection import Selection, check_times
from wsrec.options.engine import EngineOptions
from wsrec.options.option import declared
from wsrec.options.rows import RowFilter
from wsrec.report.terminal import print_report, reading_progress
from wsrec.units import clean

_OPTIONS = (*declared(RowFilter), *declared(EngineOptions))


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("sources", nargs=-1, required=True, type=SourceType(), metavar="FILE|DIR|GLOB...")
@click.option(
    "--frames", is_flag=True, help="Also the steps of frames first in their read, and of those behind others."
)
@click.option("--details", is_flag=True, help="Also what does not fit on one screen: sessions, incidents, delays.")
@click.option("--json", is_flag=True, help="Print one JSON object; times and durations are integers of ns.")
@click_options(_OPTIONS)
def report(sources: tuple[str, ...], frames: bool, details: bool, json: bool, **given: Any) -> None:
    """Summarize captures: rows, rates, gaps, completeness, and the time between the six stages of a frame.

    \b
    Examples:
      wsrec report out
      wsrec report out/messages/feed=binance/date=2026-11-22
      wsrec report 'out/messages/feed=*/date=2026-11-22/hour=13/*.parquet'
      wsrec report out --details
      wsrec report out --jobs 8
      wsrec report out --since 13:00 --until 13:05 --symbol BTCUSDT
      wsrec report out --json | jq '.recordings[].sessions[] | {session, missing}'

    A recording in progress is reported up to now (with --spark: its finished files). Nothing on disk is changed. Files
    that cannot be read are named on standard error, and the others are reported.
    docs/explanation/stages.md explains the stages. Of a part (--since, --until, --channel, --symbol) it is not said
    whether it is complete; events of a whole connection count for each symbol and channel.

    \b
    Exit status: 0 everything was read; 1 a file is damaged; 2 wrong usage, or a path does not exist;
    3 no capture there, no finished file yet, or no message that was asked for;
    66 something cannot be read (no permission, an I/O error, another version of the format, or a worker of --jobs or
    --spark failed);
    74 standard output cannot be written.
    """
    values = settled(_OPTIONS, given)
    options, rows = taken(EngineOptions, values), taken(RowFilter, values)
    check_times(rows.since, rows.until)
    selection = Selection(rows.since, rows.until, frozenset(rows.symbol), rows.channel)
    try:
        with reading_progress(Console(stderr=True)) as progress, engine_for(options, "wsrec.report.collect") as engine:
            # beside the workers, which import it too
            from wsrec.report.collect import collect

            result = collect(sources, progress, engine, running=options.spark is None, selection=selection)
    except EngineError as error:
        raise CommandError(str(error), EXIT_UNREADABLE) from error
    if json:
        click.echo(result.to_json())
    else:
        print_report(result, Console(highlight=False), frames=frames, details=details)
    for note in result.nothing_of:
        click.secho(f"wsrec report: {note}", fg="yellow", err=True)
    for problem in [*result.errors, *result.unreadable, *result.absent]:
        click.secho(f"wsrec report: {clean(problem, 1000)}", fg="red", err=True)
    if result.errors:
        raise click.exceptions.Exit(1)
    if result.unreadable:
        raise click.exceptions.Exit(EXIT_UNREADABLE)
    if result.absent or (result.nothing_of and not any(recording.rows for recording in result.recordings)):
        raise click.exceptions.Exit(EXIT_NOTHING)
