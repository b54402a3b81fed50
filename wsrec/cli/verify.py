"""The command `wsrec verify`."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from wsrec.cli.json_command import JsonCommand
from wsrec.config.click_types import FolderType
from wsrec.format.folders import cannot_read
from wsrec.report.terminal import reading_progress
from wsrec.units import clean, printable_json
from wsrec.verify.model import VerifyStatus
from wsrec.verify.terminal import print_verification
from wsrec.verify.verify import verify as verify_captures


@click.command(cls=JsonCommand, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument(
    "paths", nargs=-1, required=True, type=FolderType(exists=True, readable=False, path_type=Path), metavar="PATH..."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; times and durations are integers of ns.")
@click.option("--quiet", "-q", is_flag=True, help="Say nothing: the exit status is the answer.")
def verify(paths: tuple[Path, ...], as_json: bool, quiet: bool) -> None:
    """Read captures back: checksums, schema, every row, every count, and what each stream's completeness rests on.

    PATH is a folder that was recorded into, one that holds several, or a file or folder within one (then only that is
    looked at).

    \b
    Examples:
      wsrec verify captures
      wsrec verify captures --json | jq '.captures[].sessions[].streams[] | select(.state == "incomplete")'
      wsrec verify captures --quiet || mail -s 'captures' ops < /dev/null

    Nothing on disk is changed. docs/verify.md says what is proved, and by what.

    \b
    Exit status: 0 everything holds; 1 damaged or contradictory; 2 wrong usage; 3 nothing there;
    4 sound, but with intervals that are incomplete, or a session not ended or not recovered;
    66 something cannot be read.
    """
    try:
        with reading_progress(Console(stderr=True)) as progress:
            result = verify_captures(paths, progress)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        click.secho(f"wsrec verify: {clean(where + cannot_read(error), 1000)}", fg="red", err=True)
        raise click.exceptions.Exit(int(VerifyStatus.UNREADABLE)) from None
    if as_json:
        click.echo(printable_json(result))
    elif not quiet:
        print_verification(result, Console(highlight=False))
    raise click.exceptions.Exit(result.status)
