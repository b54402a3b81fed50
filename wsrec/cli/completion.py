"""The command `wsrec completion`: the script that completes wsrec's commands in a shell, shown or installed."""

from __future__ import annotations

import os
from pathlib import Path

import click

from wsrec.cli.command import Command, CommandError, Group
from wsrec.cli.completion_script import SHELLS, Installed, UnknownFileError, install, script
from wsrec.config.click_types import WordParam
from wsrec.feed.errors import ConfigError
from wsrec.format.errors import EXIT_UNREADABLE
from wsrec.units import system_error

# the same as a failure of other commands
_FAILED = 1


def _shell(ctx: click.Context, param: click.Parameter, value: str | None) -> str:
    """The shell that was named, or that of the user."""
    if value is not None or ctx.resilient_parsing:
        return value or ""
    name = Path(os.environ.get("SHELL", "")).name
    if name not in SHELLS:
        found = f"SHELL is {name!r}" if name else "the variable SHELL is not set"
        raise ConfigError(f"{found}: name the shell: {', '.join(SHELLS[:-1])} or {SHELLS[-1]}")
    return name


_argument = click.argument("shell", required=False, type=WordParam(SHELLS), metavar="[bash|zsh|fish]", callback=_shell)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
def completion() -> None:
    """Complete commands, options, feeds, channels and symbols in bash, zsh or fish.

    \b
    Examples:
      wsrec completion install
      wsrec completion show zsh > _wsrec
    """


@completion.command(cls=Command, name="install")
@_argument
def install_completion(shell: str) -> None:
    """Write the script to the folder where the shell looks for it. Without a shell: that of SHELL.

    No other file is changed: where the shell needs a line in its own configuration, that line is printed. wsrec runs
    when something is completed, not when a shell starts.

    \b
    Examples:
      wsrec completion install
      wsrec completion install fish

    \b
    Exit status: 0 installed, or it was already; 1 the file there is not wsrec's; 2 wrong usage;
    66 it cannot be written.
    """
    try:
        done = install(shell)
    except UnknownFileError as error:
        raise CommandError(str(error), _FAILED) from error
    except OSError as error:
        raise CommandError(f"cannot write the script: {system_error(error)}", EXIT_UNREADABLE) from error
    click.echo(_described(done))


@completion.command(cls=Command)
@_argument
def show(shell: str) -> None:
    """Print the script. Without a shell: that of SHELL.

    \b
    Example:
      wsrec completion show bash > /usr/share/bash-completion/completions/wsrec
    """
    click.echo(script(shell), nl=False)


def _described(done: Installed) -> str:
    lines = [f"{'wrote' if done.is_new else 'unchanged:'} {done.path}"]
    lines += done.to_do or ["it works in the next shell that is started"]
    return "\n".join([*lines, f"to undo: rm {done.path}"])
