"""The command `wsrec recover`: crash recovery by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from wsrec.cli.command import Command, CommandError
from wsrec.cli.output_format import Column, Listing, OutputFormat, output_format, print_listing
from wsrec.config.click_types import FolderType
from wsrec.format.errors import EXIT_NOTHING, EXIT_UNREADABLE, NoCaptureError, UnreadableError
from wsrec.format.lock import OutputLockedError
from wsrec.supervise.outcome import ExitStatus
from wsrec.supervise.recover import RecoveredSession, recover_folder
from wsrec.units import clean, duration, plural, printable_json, system_error, utc


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("out", type=FolderType(exists=True, file_okay=False, path_type=Path), metavar="DIR")
@output_format("Print what was recovered, or the error, as one JSON object.")
def recover(out: Path, form: OutputFormat) -> None:
    """Recover the journals of a killed recorder into Parquet. `wsrec record` does the same when it starts.

    \b
    Examples:
      wsrec recover captures
      wsrec recover captures --json | jq '.sessions[] | {session, rows, lost}'

    It can be stopped or killed at any moment and started again. Nothing is deleted: unreadable parts of journals, and
    files whose name is needed, are moved to DIR/.wsrec/aside.

    \b
    Exit status: 0 recovered, or nothing to recover; 1 something could not be recovered (it is kept);
    2 wrong usage; 3 no capture there; 66 not readable; 74 standard output cannot be written;
    75 a recorder is using the folder.
    """
    try:
        result = recover_folder(out)
    except OutputLockedError as error:
        raise CommandError(f"{error}: it has recovered earlier sessions itself", ExitStatus.LOCKED) from error
    except NoCaptureError as error:
        raise CommandError(str(error), EXIT_NOTHING) from error
    except FileNotFoundError as error:
        raise CommandError(str(error), ExitStatus.USAGE) from error
    except UnreadableError as error:
        raise CommandError(str(error), EXIT_UNREADABLE) from error
    except PermissionError as error:
        raise CommandError(f"{system_error(error)}; the journals are kept", EXIT_UNREADABLE) from error
    except OSError as error:
        raise CommandError(f"{system_error(error)}; the journals are kept", ExitStatus.FAILED) from error
    except msgspec.ValidationError as error:
        raise CommandError(f"{error}; the journals are kept", ExitStatus.FAILED) from error
    for failure in result.failures:
        click.secho(f"wsrec recover: {clean(failure, 2000)}", fg="red", err=True)
    if form is OutputFormat.JSON:
        click.echo(printable_json(result))
    elif form is not OutputFormat.TABLE:
        print_listing(_listing(result.sessions, out), form)
    elif result.sessions:
        for session in result.sessions:
            click.echo(_describe(session, out))
    elif not result.failures:
        click.echo("nothing to recover")
    raise click.exceptions.Exit(result.status)


def _listing(sessions: Sequence[RecoveredSession], out: Path) -> Listing:
    """Each file that was recovered."""
    columns = [
        Column("session"),
        Column("file"),
        Column("rows", "count"),
        Column("lost_from", "time"),
        Column("lost_to", "time"),
    ]
    rows = [
        (
            *(each.session, str(out / line.path), line.rows),
            *((each.lost.start, each.lost.end) if each.lost is not None else (None, None)),
        )
        for each in sessions
        for line in each.files
        if line.path
    ]
    return Listing(columns, rows)


def _describe(session: RecoveredSession, out: Path) -> str:
    lines = [f"recovered {clean(session.session)}: {plural(session.rows, 'row')}"]
    lines += [f"  {clean(str(out / line.path), 1000)}" for line in session.files if line.path]
    lines += [f"  {journal} ended in the middle of a batch: its rest is set aside" for journal in session.torn]
    if session.lost is not None:
        start, end = session.lost.start, session.lost.end
        lines.append(
            f"  not recorded: {utc(start)} to {utc(end)} UTC, {duration(end - start)}"
            f" ({session.lost.start_evidence} to {session.lost.end_evidence})"
        )
    return "\n".join(lines)
