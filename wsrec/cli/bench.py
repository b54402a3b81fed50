"""The command `wsrec bench`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
import msgspec

from wsrec.cli.command import Command, CommandError
from wsrec.config.click_types import IntegerParam, NumberParam, PathParam, WordParam
from wsrec.feed.errors import OptionError
from wsrec.format.errors import EXIT_UNREADABLE
from wsrec.tables.whole_file import whole_file
from wsrec.units import not_one_of, system_error


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument(
    "measures",
    nargs=-1,
    type=WordParam(["saturated", "paced", "recording", "limits", "all"]),
    metavar="[saturated|paced|recording|limits|all]...",
)
@click.option(
    "--recording",
    type=PathParam(dir_okay=False, exists=True),
    help="Text recording to send (docs/how-to/replay.md), plain or gzip. [default: messages of the demo market]",
)
@click.option("--messages", type=IntegerParam(1), help="saturated: messages per round. [default: 400000]")
@click.option("--rounds", type=IntegerParam(1), help="Rounds per client. [default: 5]")
@click.option("--rate", type=NumberParam(1), help="paced: messages per second. [default: 10000]")
@click.option(
    "--seconds", type=NumberParam(0, min_open=True), help="Length of a round. [default: paced 3, recording 20]"
)
@click.option("--only", multiple=True, metavar="NAME", help="Measure only this client: wsrec, picows, ... Repeatable.")
@click.option(
    "--transport",
    "transports",
    multiple=True,
    type=WordParam(["tcp", "tls"]),
    help="Measure only this transport. Repeatable.",
)
@click.option(
    "--records",
    multiple=True,
    type=WordParam(["lone", "bulk"]),
    help="Send only this way: each frame in a TLS record (over tcp: by a send) of its own, as exchanges mostly do, "
    "or as many as fit. Repeatable. [default: both]",
)
@click.option("--cpu", type=IntegerParam(0), help="Processor of the receiving process. [default: one of its own]")
@click.option("--sender-cpu", type=IntegerParam(0), help="Processor of the sender. [default: on another core]")
@click.option("--rt-priority", type=IntegerParam(1, 99), help="SCHED_FIFO priority of the receiving process.")
@click.option("--quick", is_flag=True, help="Take a few minutes instead of half an hour; less precise.")
@click.option(
    "--json",
    type=PathParam(dir_okay=False, path_type=Path),
    help="Write the figures of every round to this file.",
)
@click.option("--markdown", "as_markdown", is_flag=True, help="Print the tables as Markdown.")
@click.option(
    "--from",
    "from_file",
    type=PathParam(dir_okay=False, exists=True, path_type=Path),
    help="Print a file that --json wrote, without measuring.",
)
def bench(
    measures: tuple[str, ...],
    only: tuple[str, ...],
    transports: tuple[str, ...],
    records: tuple[str, ...],
    quick: bool,
    json: Path | None,
    as_markdown: bool,
    from_file: Path | None,
    **given: Any,
) -> None:
    """Measure the cost of receiving and recording on this machine, next to picows, aiohttp and websockets.

    \b
    saturated   CPU time per message, at full speed
    paced       wsrec's own steps, the one-way latency and CPU time, at 10,000 messages/s
    recording   from the socket to finished Parquet, next to picows with pyarrow
    limits      what this machine can do at best, and how far wsrec's steps are from it

    \b
    Examples:
      wsrec bench --quick
      wsrec bench saturated --transport tls --records lone --only wsrec --only picows
      wsrec bench paced --rate 50000 --cpu 3 --sender-cpu 2 --rt-priority 50
      wsrec bench --recording btcusdt.txt.gz --json bench.json
      wsrec bench limits --rounds 3
      wsrec bench --from bench.json --markdown

    Everything runs on this machine, over loopback; nothing is left behind. Progress goes to standard error. To install
    the other clients: pip install 'wsrec[bench]' (in a clone: '.[bench]')
    """
    # the bench imports much that no other command needs
    from rich.console import Console

    from wsrec.bench.contestants import NAMES
    from wsrec.bench.progress import observed
    from wsrec.bench.results import Results
    from wsrec.bench.run import from_cli, run
    from wsrec.bench.table import markdown, plain, show
    from wsrec.format.stored_json import decode_stored
    from wsrec.replay.message import SourceError

    if unknown := [name for name in only if name not in NAMES]:
        raise OptionError("only", not_one_of(unknown[0], NAMES))
    if json is not None and not (json.parent.is_dir() and os.access(json.parent, os.W_OK)):
        # before the half an hour, not after it
        hint = "give --json a file in a folder that this user can write to"
        raise CommandError(f"{json} cannot be written; {hint}", EXIT_UNREADABLE)
    try:
        if from_file is not None:
            results = decode_stored(from_file.read_bytes(), Results)
        else:
            options = from_cli(
                measures=measures, only=only, transports=transports, records=records, quick=quick, **given
            )
            with observed(options, Console(stderr=True)) as observer:
                results = run(options, observer)
        if json is not None:
            with whole_file(json) as unfinished:
                unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=1) + b"\n")
    except msgspec.DecodeError as error:
        raise CommandError(f"{from_file}: {error}; give a file that --json wrote", 1) from error
    except OSError as error:
        raise CommandError(system_error(error), 1) from error
    except SourceError as error:
        raise CommandError(str(error), 1) from error
    console = Console(highlight=False)
    if as_markdown:
        click.echo(markdown(results))
    elif console.is_terminal:
        show(results, console)
    else:
        click.echo(plain(results))
