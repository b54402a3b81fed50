"""The command `wsrec status`."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import click
from rich.console import Console
from rich.live import Live

from wsrec.cli.command import Command, CommandError
from wsrec.cli.output_format import Column, Listing, OutputFormat, output_format, print_listing
from wsrec.cli.reading import reading
from wsrec.config.click_types import FolderType
from wsrec.feed.errors import ConfigError
from wsrec.supervise.status_query import StatusExit, StatusReport, ask
from wsrec.supervise.status_view import line_of, print_report, screen
from wsrec.units import printable_json, system_error

_PERIOD = 1.0


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("out", type=FolderType(exists=True, file_okay=False, path_type=Path), metavar="DIR")
@output_format("Print one JSON object; with --watch one a line. Sizes in bytes, times in ns.")
@click.option(
    "--watch", is_flag=True, help="Again every second until Ctrl-C: in place on a terminal, else a line each."
)
def status(out: Path, form: OutputFormat, watch: bool) -> None:
    """Ask the recorder that is recording into a folder how it is doing.

    DIR is the output folder of a running `wsrec record`. Shown are its connections with the age of their last message,
    rates, latencies, how full rings, journal and disk are, what is missing so far, and its last warnings.

    \b
    Examples:
      wsrec status captures
      wsrec status captures --watch
      wsrec status captures --json | jq '.recorders[].state.connections[] | {feed, conn, state, age_ns}'
      wsrec status captures >/dev/null || mail -s "recorder is not healthy" ops@example.org

    It never waits longer than 3 s, and changes nothing. Only the recorder's own user and root get an answer.

    \b
    Exit status: 0 recording, and nothing is wrong; 1 the recorder has died: what it left needs recovery;
    2 wrong usage; 3 nothing is being recorded there; 4 recording, but a connection is not up, something is missing,
    or the disk or the writer is in trouble; 66 not readable, or a recorder of another version of wsrec;
    69 the recorder does not answer; 74 standard output cannot be written.
    """
    if watch:
        if form in (OutputFormat.CSV, OutputFormat.MARKDOWN):
            raise ConfigError(f"--watch: found it beside --format {form}, expected table or json")
        report = _watch(out, json=form is OutputFormat.JSON)
    else:
        report = _ask(out)
        if form is OutputFormat.JSON:
            click.echo(printable_json(report))
        elif form is OutputFormat.TABLE:
            print_report(report, Console(highlight=False))
        else:
            print_listing(_connections(report), form)
    if report.status and not _is_seen():
        # cron mails it, whatever becomes of standard output; where both are one file, it is there already
        click.secho(f"wsrec status: {line_of(report)}", fg="red", err=True)
    raise click.exceptions.Exit(report.status)


def _is_seen() -> bool:
    """Whether what was printed is where errors are, or on a terminal."""
    try:
        return os.isatty(1) or os.path.samestat(os.fstat(1), os.fstat(2))
    except OSError:
        # started without one of them
        return False


def _connections(report: StatusReport) -> Listing:
    """Each connection of each recorder."""
    counts = ("messages", "rate", "reconnects", "stalls")
    columns = [
        *(Column(name) for name in ("feed", "conn", "state")),
        Column("age", "ns"),
        *(Column(name, "bytes") for name in ("payload", "wire")),
        *(Column(name, "count") for name in counts),
    ]
    rows = [
        (
            *(each.feed, str(each.conn), each.state, each.age_ns, each.payload_bytes, each.wire_bytes),
            *(getattr(each, name) for name in counts),
        )
        for recorder in report.recorders
        for each in recorder.state.connections
    ]
    return Listing(columns, rows)


def _watch(out: Path, *, json: bool) -> StatusReport:
    """Show it every second until Ctrl-C; returns the last report."""
    console = Console(highlight=False)
    report = _ask(out)
    with contextlib.suppress(KeyboardInterrupt):
        if json or not console.is_terminal:
            while True:
                click.echo(printable_json(report) if json else line_of(report))
                time.sleep(_PERIOD)
                report = _ask(out)
        with Live(screen(report, console.width), console=console, auto_refresh=False, screen=True) as live:
            while True:
                time.sleep(_PERIOD)
                report = _ask(out)
                live.update(screen(report, console.width), refresh=True)
    return report


def _ask(out: Path) -> StatusReport:
    try:
        with reading():
            return ask(out)
    except FileNotFoundError as error:
        raise CommandError(str(error), StatusExit.USAGE) from error
    except OSError as error:
        raise CommandError(system_error(error), StatusExit.UNREADABLE) from error
