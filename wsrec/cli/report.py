"""The command `wsrec report`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from wsrec.cli.command import Command, CommandError
from wsrec.cli.output_format import OutputFormat, output_format, print_listing
from wsrec.cli.report_steps import steps
from wsrec.config.click_options import click_options, settled, taken
from wsrec.config.click_types import PathParam, SourceType
from wsrec.engine.choose import engine_for
from wsrec.engine.work import EngineError
from wsrec.feed.errors import ConfigError
from wsrec.format.errors import EXIT_NOTHING, EXIT_UNREADABLE
from wsrec.format.selection import Selection, check_times
from wsrec.options.engine import EngineOptions
from wsrec.options.option import declared
from wsrec.options.rows import RowFilter
from wsrec.report.terminal import print_report, reading_progress
from wsrec.units import clean, plural, size, system_error

if TYPE_CHECKING:
    from wsrec.pictures.model import Pictures
    from wsrec.report.model import Report

_OPTIONS = (*declared(RowFilter), *declared(EngineOptions))


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("sources", nargs=-1, required=True, type=SourceType(), metavar="FILE|DIR|GLOB...")
@click.option(
    "--frames", is_flag=True, help="Also the steps of frames first in their read, and of those behind others."
)
@click.option("--details", is_flag=True, help="Also what does not fit on one screen: sessions, incidents, delays.")
@click.option(
    "--html",
    type=PathParam(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a page with figures instead, which opens in a browser without a network.",
)
@click.option(
    "--against",
    type=SourceType(),
    metavar="FILE|DIR|GLOB",
    help="With --html: another capture, shown beside the first in each figure.",
)
@click.option(
    "--figures",
    type=PathParam(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Also write each figure of the page as a CSV file into this folder (with --against: of the first capture).",
)
@output_format("Print one JSON object; times and durations are integers of ns.")
@click_options(_OPTIONS)
def report(
    sources: tuple[str, ...],
    frames: bool,
    details: bool,
    html: Path | None,
    against: str | None,
    figures: Path | None,
    form: OutputFormat,
    **given: Any,
) -> None:
    """Summarize captures: rows, rates, gaps, completeness, and the time between the six stages of a frame.

    \b
    Examples:
      wsrec report out
      wsrec report out/messages/feed=binance/date=2026-11-22
      wsrec report 'out/messages/feed=*/date=2026-11-22/hour=13/*.parquet'
      wsrec report out --details
      wsrec report out --html report.html
      wsrec report after --against before --html tuning.html
      wsrec report out --figures csv
      wsrec report out --jobs 8
      wsrec report out --since 13:00 --until 13:05 --symbol BTCUSDT
      wsrec report out --format csv > steps.csv
      wsrec report out --json | jq '.recordings[].sessions[] | {session, missing}'

    A recording in progress is reported up to now (with --spark: its finished files). Nothing on disk is changed. Files
    that cannot be read are named on standard error, and the others are reported.
    docs/explanation/stages.md explains the stages. Of a part (--since, --until, --channel, --symbol) it is not said
    whether it is complete; events of a whole connection count for each symbol and channel.

    \b
    Exit status: 0 everything was read; 1 a file is damaged; 2 wrong usage, or a path does not exist;
    3 no capture there, no finished file yet, or no message that was asked for;
    66 something cannot be read (no permission, an I/O error, another version of the format, or a worker of --jobs or
    --spark failed), or --html or --figures not be written;
    74 standard output cannot be written.
    """
    values = settled(_OPTIONS, given)
    options, rows = taken(EngineOptions, values), taken(RowFilter, values)
    check_times(rows.since, rows.until)
    selection = Selection(rows.since, rows.until, frozenset(rows.symbol), rows.channel)
    if html is None and against is not None:
        raise ConfigError("--against: found it without --html, expected --html FILE")
    if html is not None:
        _check_page(html, {"--frames": frames, "--details": details})
    if figures is not None:
        _check_figures(figures)
    captures: list[Pictures] = []
    is_drawn = html is not None or figures is not None
    module = "wsrec.pictures.collect" if is_drawn else "wsrec.report.collect"
    reading: dict[str, Any] = {"running": options.spark is None, "selection": selection}
    try:
        with reading_progress(Console(stderr=True)) as progress, engine_for(options, module) as engine:
            # beside the workers, which import it too
            if is_drawn:
                from wsrec.pictures.collect import collect as collect_pictures

                named = [sources] if against is None else [sources, (against,)]
                captures = [collect_pictures(each, progress, engine, **reading) for each in named]
                reports = [each.report for each in captures]
            else:
                from wsrec.report.collect import collect

                reports = [collect(sources, progress, engine, **reading)]
    except EngineError as error:
        raise CommandError(str(error), EXIT_UNREADABLE) from error
    # a page of nothing would look like one of a capture
    written = _write(captures, html, figures) if is_drawn and all(each.recordings for each in reports) else []
    if form is OutputFormat.JSON:
        click.echo(reports[0].to_json())
    elif form is not OutputFormat.TABLE:
        print_listing(steps(reports[0]), form)
    elif html is None and not _is_of_no_such_name(reports[0]):
        print_report(reports[0], Console(highlight=False), frames=frames, details=details)
    for line in written if form is OutputFormat.TABLE else ():
        click.echo(line)
    _exit_if_incomplete(reports)


def _check_page(html: Path, others: dict[str, bool]) -> None:
    """Refuse a page that could not be written before reading for minutes, and options of the terminal's report."""
    from wsrec.pictures.page import check_page

    for name, is_given in others.items():
        if is_given:
            raise ConfigError(f"{name}: found it beside --html, whose page has all of it: give one of them")
    try:
        check_page(html)
    except OSError as error:
        raise CommandError(f"--html: {system_error(error)}", EXIT_UNREADABLE) from error


def _check_figures(folder: Path) -> None:
    """The same for a folder of CSV files."""
    from wsrec.pictures.csv_tables import check_folder

    try:
        check_folder(folder)
    except OSError as error:
        raise CommandError(f"--figures: {system_error(error)}", EXIT_UNREADABLE) from error


def _write(captures: list[Pictures], html: Path | None, figures: Path | None) -> list[str]:
    """Write what is asked for; returns a line about each."""
    lines = []
    if html is not None:
        from wsrec.pictures.page import write_page

        try:
            lines.append(f"{clean(str(html), 1000)}: {size(write_page(captures, html))}")
        except OSError as error:
            raise CommandError(f"--html: {system_error(error)}", EXIT_UNREADABLE) from error
    if figures is not None:
        from wsrec.pictures.csv_tables import write_csv

        try:
            lines.append(f"{clean(str(figures), 1000)}: {plural(len(write_csv(captures[0], figures)), 'CSV file')}")
        except OSError as error:
            raise CommandError(f"--figures: {system_error(error)}", EXIT_UNREADABLE) from error
    return lines


def _is_of_no_such_name(report: Report) -> bool:
    """Whether all that was asked for are names that the capture does not have: there is nothing to report."""
    names = report.nothing_of
    is_absent = bool(names) and all(note.startswith(("--symbol: ", "--channel: ")) for note in names)
    return is_absent and not any(recording.rows for recording in report.recordings)


def _exit_if_incomplete(reports: list[Report]) -> None:
    """Name what could not be read, and what was asked for and is not there; exit if there is any of that."""
    for result in reports:
        for note in result.nothing_of:
            click.secho(f"wsrec report: {note}", fg="yellow", err=True)
        for problem in [*result.errors, *result.unreadable, *result.absent]:
            click.secho(f"wsrec report: {clean(problem, 1000)}", fg="red", err=True)
    if any(each.errors for each in reports):
        raise click.exceptions.Exit(1)
    if any(each.unreadable for each in reports):
        raise click.exceptions.Exit(EXIT_UNREADABLE)
    if any(each.absent or (each.nothing_of and not any(one.rows for one in each.recordings)) for each in reports):
        raise click.exceptions.Exit(EXIT_NOTHING)
