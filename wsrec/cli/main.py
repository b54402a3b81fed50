"""The command `wsrec`: a group of subcommands, each imported when it is called."""

from __future__ import annotations

import signal
import sys
import threading
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

import click

from wsrec import parent_death
from wsrec.cli.about import about, about_json
from wsrec.cli.command import Group
from wsrec.feed.errors import ConfigError
from wsrec.units import clean

_COMMANDS = (
    *(
        "record",
        "report",
        "verify",
        "export",
        "sql",
        "book",
        "recover",
        "compact",
        "replay",
        "feeds",
        "doctor",
        "bench",
    ),
)


# they end their workers, and remove temporary copies of what has no file yet
_READING = ("report", "verify", "export", "sql", "book")


class _Commands(Group):
    """The subcommands, imported when called or listed: their imports together take another half a second."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The subcommands' names, in the order of `--help`."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The subcommand of that name; None if there is none."""
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"wsrec.cli.{cmd_name}"), cmd_name)
        return command


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
    Completion (bash):     eval "$(_WSREC_COMPLETE=bash_source wsrec)"
    """
    parent_death.hold()
    if version:
        click.echo(about_json() if json else about())
        ctx.exit()
    if json:
        raise ConfigError("--json: found it before the command, expected it after: `wsrec COMMAND --json`")
    if ctx.invoked_subcommand is None:
        raise click.UsageError("missing command", ctx)
    ctx.call_on_close(_show_warnings())
    if ctx.invoked_subcommand in _READING and threading.current_thread() is threading.main_thread():
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        ctx.call_on_close(lambda: signal.signal(signal.SIGTERM, before))


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
