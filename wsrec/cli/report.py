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
from wsrec.options.engine import EngineOptions
from wsrec.options.option import declared
from wsrec.report.terminal import print_report, reading_progress
from wsrec.units import clean

_ENGINE = declared(EngineOptions)


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("sources", nargs=-1, required=True, type=SourceType(), metavar="FILE|DIR|GLOB...")
@click.option("--json", is_flag=True, help="Print one JSON object; times and durations are integers of ns.")
@click_options(_ENGINE)
def report(sources: tuple[str, ...], json: bool, **given: Any) -> None:
    """Summarize captures: rows, rates, gaps, completeness, and the time between the six stages of a frame.

    \b
    Examples:
      wsrec report out
      wsrec report out/messages/feed=binance/date=2026-11-22
      wsrec report 'out/messages/feed=*/date=2026-11-22/hour=13/*.parquet'
      wsrec report out --jobs 8
      wsrec report out --json | jq '.recordings[].sessions[] | {session, missing}'

    A recording in progress is reported up to now (with --spark: its finished files). Nothing on disk is changed. Files
    that cannot be read are named on standard error, and the others are reported.
    docs/stages.md explains the stages.

    \b
    Exit status: 0 everything was read; 1 a file is damaged; 2 wrong usage, or a path does not exist;
    3 no capture there, or no finished file yet;
    66 something cannot be read (no permission, an I/O error, another version of the format, or a worker of --jobs or
    --spark failed);
    74 standard output cannot be written.
    """
    options = taken(EngineOptions, settled(_ENGINE, given))
    try:
        with reading_progress(Console(stderr=True)) as progress, engine_for(options, "wsrec.report.collect") as engine:
            # beside the workers, which import it too
            from wsrec.report.collect import collect

            result = collect(sources, progress, engine, running=options.spark is None)
    except EngineError as error:
        raise CommandError(str(error), EXIT_UNREADABLE) from error
    if json:
        click.echo(result.to_json())
    else:
        print_report(result, Console(highlight=False))
    for problem in [*result.errors, *result.unreadable, *result.absent]:
        click.secho(f"wsrec report: {clean(problem, 1000)}", fg="red", err=True)
    if result.errors:
        raise click.exceptions.Exit(1)
    if result.unreadable:
        raise click.exceptions.Exit(EXIT_UNREADABLE)
    if result.absent:
        raise click.exceptions.Exit(EXIT_NOTHING)
