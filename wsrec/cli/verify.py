"""The command `wsrec verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from wsrec.cli.command import Command, CommandError
from wsrec.cli.output_format import Column, Listing, OutputFormat, output_format, print_listing
from wsrec.config.click_options import click_options, settled, taken
from wsrec.config.click_types import FolderType
from wsrec.engine.allocator import chosen
from wsrec.engine.choose import engine_for
from wsrec.engine.work import EngineError
from wsrec.format.folders import cannot_read
from wsrec.options.engine import EngineOptions
from wsrec.options.option import declared
from wsrec.report.terminal import reading_progress
from wsrec.units import printable_json
from wsrec.verify.memory import Memory, default_folder
from wsrec.verify.model import State, Verification, VerifyStatus
from wsrec.verify.terminal import print_verification, reasons
from wsrec.verify.verify import verify as verify_captures

_ENGINE = declared(EngineOptions)


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument(
    "paths", nargs=-1, required=True, type=FolderType(exists=True, readable=False, path_type=Path), metavar="PATH..."
)
@output_format("Print one JSON object; times and durations are integers of ns.")
@click.option(
    "--quiet",
    "-q",
    is_flag=True,
    help="Print no result, in no format; only why the exit status is not 0, on standard error.",
)
@click.option("--again", is_flag=True, help="Read every file again, whatever an earlier verify proved.")
@click.option(
    "--memory",
    type=FolderType(path_type=Path),
    help="Folder for what was proved. [default: $XDG_CACHE_HOME/wsrec/proved, or ~/.cache/wsrec/proved]",
)
@click_options(_ENGINE)
@chosen()
def verify(
    paths: tuple[Path, ...], quiet: bool, again: bool, memory: Path | None, form: OutputFormat, **given: Any
) -> None:
    """Check captures: checksums, schema, every row and count, and the completeness of each stream.

    PATH is an output folder of `wsrec record`, a folder with several of them, or a file or folder inside one (then only
    that part is checked).

    \b
    Examples:
      wsrec verify captures
      wsrec verify captures --jobs 8
      wsrec verify captures --json | jq '.captures[].sessions[].streams[] | select(.state == "incomplete")'
      wsrec verify captures --quiet || mail -s 'captures' ops < /dev/null

    The capture is not changed. Files that an earlier verify of the whole folder proved, and that are unchanged since
    by size, times and inode, are not read again; it says how many. docs/how-to/verify.md explains that and the
    evidence.

    \b
    Exit status: 0 no problem found; 1 damaged or contradictory; 2 wrong usage; 3 no capture there, or an empty one;
    4 sound, but with incomplete intervals, or a session that has not ended or is not recovered;
    66 something cannot be read (no permission, an I/O error, or another version of the format), or a worker of
    --jobs or --spark failed; 74 standard output cannot be written.
    """
    options = taken(EngineOptions, settled(_ENGINE, given))
    folder = memory or default_folder()
    known = None if folder is None else Memory(folder, again=again)
    try:
        with reading_progress(Console(stderr=True)) as progress, engine_for(options) as engine:
            result = verify_captures(paths, progress, memory=known, engine=engine)
    except EngineError as error:
        raise CommandError(str(error), VerifyStatus.UNREADABLE) from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise CommandError(where + cannot_read(error), VerifyStatus.UNREADABLE) from error
    if memory is not None and known is not None and known.problem is not None:
        click.echo(f"wsrec verify: what was proved is not remembered: {known.problem}", err=True)
    if quiet:
        for reason in reasons(result):
            click.echo(f"wsrec verify: {reason}", err=True)
    elif form is OutputFormat.JSON:
        click.echo(printable_json(result))
    elif form is OutputFormat.TABLE:
        print_verification(result, Console(highlight=False))
    else:
        print_listing(_streams(result), form)
    raise click.exceptions.Exit(result.status)


def _streams(result: Verification) -> Listing:
    """Each stream of each session."""
    names = ("capture", "feed", "session", "conn", "channel", "symbol", "topic", "rule", "state")
    counts = ("messages", "not_inflated", "gaps", "compared", "resets")
    columns = [
        *(Column(name) for name in names),
        *(Column(name, "count") for name in counts),
        *(Column(state, "ns") for state in State),
    ]
    rows = [
        (
            *(capture.path, session.feed, session.session),
            *(str(stream.conn), stream.channel, stream.symbol, stream.topic, stream.rule, stream.state),
            *(getattr(stream, name) for name in (*counts, *State)),
        )
        for capture in result.captures
        for session in capture.sessions
        for stream in session.streams
    ]
    return Listing(columns, rows)
