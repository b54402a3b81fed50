"""The command `wsrec`: a group of subcommands, each imported when it is called."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

from wsrec import parent_death
from wsrec.cli.command import Group
from wsrec.feed.catalogue import catalogue
from wsrec.feed.errors import ConfigError
from wsrec.units import clean

COMMANDS = {
    "record": "Record exchange feeds into Parquet until stopped: every byte, six timestamps per frame.",
    "status": "Ask the recorder that is recording into a folder how it is doing.",
    "report": "Summarize captures: rows, rates, gaps, completeness, and the time between the six stages of a frame.",
    "verify": "Check captures: checksums, schema, every row and count, and the completeness of each stream.",
    "export": "Make tables of captures: trades, quotes, books and more, a file a table for each messages file.",
    "sql": "Ask a capture in SQL: messages, events, trades, quotes, book_changes and the other tables are views.",
    "book": "Rebuild order books from the snapshots and changes of a capture.",
    "recover": "Recover the journals of a killed recorder into Parquet.",
    "compact": "Sort the message files of finished sessions by channel and symbol, and compress them better.",
    "replay": "Serve a capture, a text recording or a synthetic market over WebSocket, as an exchange does.",
    "feeds": "List, show and check feeds: their channels, and the requests a recording would send.",
    "doctor": "Check this machine for recording: timestamps, TLS, clock, processors, limits.",
    "bench": "Measure the cost of receiving and recording on this machine, next to picows, aiohttp and websockets.",
    "completion": "Complete commands, options, feeds, channels and symbols in bash, zsh or fish.",
}
"""The commands in the order of `--help`, each with the first sentence of its own."""


# what can be repeated in a command as it is
_PLAIN = re.compile(r"[\w./~+,=-]{1,200}")


class _Commands(Group):
    """The subcommands, imported when called: all their imports together take more than a second."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The subcommands' names, in the order of `--help`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The subcommand of that name; None if there is none."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"wsrec.cli.{cmd_name}"), cmd_name)
        return command

    def meant(self, ctx: click.Context, name: str) -> str:
        """Also what a target or a capture without its command was meant for."""
        found = super().meant(ctx, name)
        if found or not _PLAIN.fullmatch(name):
            return found
        if name in catalogue() or name.endswith((".yaml", ".yml")):
            return f"did you mean `wsrec record {name}`?"
        return f"did you mean `wsrec report {name}`?" if name.endswith("/") or os.path.lexists(name) else ""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands in the help, without importing them."""
        room = formatter.width - 6 - max(map(len, COMMANDS))
        with formatter.section("Commands"):
            formatter.write_dl([(name, _summary(name, room)) for name in COMMANDS])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands and options that begin so, without importing the commands."""
        names = [name for name in COMMANDS if name.startswith(incomplete)]
        return [
            *(CompletionItem(name, help=_summary(name)) for name in names),
            *click.Command.shell_complete(self, ctx, incomplete),
        ]


def _summary(name: str, room: int = 45) -> str:
    return click.Command(name, help=COMMANDS[name]).get_short_help_str(room)


@click.group(
    cls=_Commands,
    # for `--version`
    invoke_without_command=True,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "WSREC", "max_content_width": 100},
)
# a variable WSREC_VERSION is likely, in a container's file say, and would mean something else
@click.option(
    "--version",
    is_flag=True,
    allow_from_autoenv=False,
    help="Print version, commit, implementation, Python and pyarrow, and exit.",
)
@click.option("--json", is_flag=True, allow_from_autoenv=False, help="With --version: print one JSON object.")
@click.pass_context
def main(ctx: click.Context, version: bool, json: bool) -> None:
    """Record exchange WebSocket feeds into Parquet, byte for byte, with six timestamps per frame.

    \b
    First capture:         wsrec record demo --duration 10s
    Counts and latencies:  wsrec report captures
    Completeness:          wsrec verify captures
    Trades, quotes, books: wsrec export captures
    A real exchange:       wsrec record binance --symbols BTC/USDT
    Check this machine:    wsrec doctor
    Completion:            wsrec completion install
    """
    parent_death.hold()
    if version:
        from wsrec.cli.about import about, about_json

        click.echo(about_json() if json else about())
        ctx.exit()
    if json:
        raise ConfigError("--json: found it before the command, expected it after: `wsrec COMMAND --json`")
    if ctx.invoked_subcommand is None:
        raise click.UsageError("missing command", ctx)
    ctx.call_on_close(_show_warnings())


def _show_warnings() -> Callable[[], None]:
    """Print the warnings of wsrec's readers in a line each; returns what ends that."""
    before = warnings.showwarning

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if category.__module__.startswith("wsrec."):
            click.echo(f"wsrec: {clean(str(message), 1000)}", err=True)
        else:
            before(message, category, *where, **more)

    def end() -> None:
        warnings.showwarning = before

    warnings.showwarning = show
    return end
