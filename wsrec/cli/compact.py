"""The command `wsrec compact`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from wsrec.cli.command import Command, CommandError
from wsrec.cli.output_format import Column, Listing, OutputFormat, output_format, print_listing
from wsrec.compact.model import Compacted, CompactStatus
from wsrec.compact.run import Compaction, HeldError
from wsrec.config.click_options import click_options, settled, taken
from wsrec.config.click_types import FolderType
from wsrec.engine.choose import engine_for
from wsrec.engine.work import EngineError
from wsrec.format.errors import CaptureError, NoCaptureError, UnreadableError
from wsrec.options.compact import CompactOptions
from wsrec.options.engine import EngineOptions
from wsrec.options.option import declared
from wsrec.report.terminal import reading_progress
from wsrec.units import clean, plural, printable_json, system_error, utc

_OPTIONS = (*declared(CompactOptions), *declared(EngineOptions))


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("out", type=FolderType(exists=True, file_okay=False, path_type=Path), metavar="DIR")
@click_options(_OPTIONS)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@output_format("Print one JSON object; sizes in bytes, times in ns.")
def compact(out: Path, dry_run: bool, form: OutputFormat, **given: Any) -> None:
    """Sort the message files of finished sessions by channel and symbol, and compress them better.

    DIR is an output folder of `wsrec record`. A question about one symbol then reads a small part of each file. Most
    files become smaller; where messages repeat their neighbours' text a file can become larger, which is said. Every
    row, event and count stays, and `wsrec verify` finds the same; each new file is compared with the old one row by
    row before it takes its place. Sessions that are being recorded, or not recovered, are left as they are.

    \b
    Examples:
      wsrec compact captures --dry-run
      wsrec compact captures --jobs 4
      wsrec compact captures --keep 90d
      wsrec compact captures --json | jq '.sorted'

    It can be stopped or killed at any moment and started again. docs/how-to/compact.md says more.

    \b
    Exit status: 0 done, or nothing to do; 1 a file is damaged and was left as it is, or the disk refused;
    2 wrong usage; 3 no capture there; 66 something cannot be read (no permission, an I/O error, another version of
    the format, or a worker of --jobs or --spark failed); 74 standard output cannot be written;
    75 another `wsrec compact` is at work there.
    """
    values = settled(_OPTIONS, given)
    options, engine_options = taken(CompactOptions, values), taken(EngineOptions, values)
    try:
        with reading_progress(Console(stderr=True)) as progress, engine_for(engine_options) as engine:
            compaction = Compaction(out, engine, options.keep)
            result = compaction.plan() if dry_run else compaction.run(progress)
    except HeldError as error:
        raise CommandError(str(error), CompactStatus.HELD) from error
    except NoCaptureError as error:
        raise CommandError(str(error), CompactStatus.NOTHING) from error
    except (UnreadableError, EngineError) as error:
        raise CommandError(str(error), CompactStatus.UNREADABLE) from error
    except PermissionError as error:
        raise CommandError(system_error(error), CompactStatus.UNREADABLE) from error
    except CaptureError as error:
        raise CommandError(str(error), CompactStatus.FAILED) from error
    if form is OutputFormat.JSON:
        click.echo(printable_json(result))
    elif form is OutputFormat.TABLE:
        click.echo("\n".join(_lines(result)))
    else:
        print_listing(_listing(result), form)
    for problem in result.problems:
        click.secho(f"wsrec compact: {clean(problem, 1000)}", fg="red", err=True)
    raise click.exceptions.Exit(result.status)


def _listing(result: Compacted) -> Listing:
    """What became of the files: sorted, removed, left as they are."""
    done, removed = result.sorted, result.removed
    columns = [
        Column("what"),
        Column("session"),
        Column("files", "count"),
        Column("rows", "count"),
        Column("before", "bytes"),
        Column("after", "bytes"),
        Column("why"),
    ]
    rows: list[tuple[str | int | None, ...]] = [
        ("sorted", None, done.files, done.rows, done.bytes_before, done.bytes_after, None),
        ("sorted before", None, result.already, None, None, None, None),
        ("removed", None, removed.files, None, removed.bytes, 0, None),
        *(("left", each.session, each.files, None, None, None, each.why) for each in result.skipped),
    ]
    return Listing(columns, rows)


def _lines(result: Compacted) -> list[str]:
    would = "would be " if result.dry_run else ""
    done, removed = result.sorted, result.removed
    lines = [f"{would}sorted: {plural(done.files, 'file')}, {plural(done.rows, 'row')}{_change(result)}"]
    if done.larger:
        lines.append(f"larger than before: {plural(done.larger, 'file')}; docs/how-to/compact.md says why")
    if result.already:
        lines.append(f"sorted before: {plural(result.already, 'file')}")
    if removed.before is not None:
        of = f"{plural(removed.files, 'file')} of {plural(removed.hours, 'hour')}, {plural(removed.bytes, 'byte')}"
        lines.append(f"{would}removed, as they ended before {utc(removed.before)}: {of}")
    lines += [
        f"left as it is: session {clean(each.session)}, {plural(each.files, 'file')}: {each.why}"
        for each in result.skipped
    ]
    return lines


def _change(result: Compacted) -> str:
    before, after = result.sorted.bytes_before, result.sorted.bytes_after
    if not result.sorted.files:
        return ""
    if after is None:
        return f"; {plural(before, 'byte')}, to an unknown number"
    about = "about " if result.dry_run else ""
    return f"; {plural(before, 'byte')} to {about}{after:,} ({after / max(before, 1):.0%})"
