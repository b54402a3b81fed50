"""Base class of the commands: reports every error in the same form, and usage errors with exit status 2.

The form is `wsrec COMMAND: WHERE: found X, expected Y` on standard error; WHERE is the option, the variable or the
place in a run config with the value; with `--json` there is an object on standard output, too.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import click
from click.exceptions import NoArgsIsHelpError

from wsrec.cli.early import INTERRUPTED, Interruptible, came
from wsrec.cli.stdout import ReaderGoneError, StdoutError, give_up, watched
from wsrec.config.click_types import FlagParam
from wsrec.config.sources import command_name, explained
from wsrec.feed.errors import ConfigError
from wsrec.feed.masking import mask_in_text
from wsrec.supervise.outcome import ExitStatus
from wsrec.units import clean, did_you_mean, printable_json, system_error

READER_GONE = 128 + signal.SIGPIPE
"""Exit status of a command whose reader is gone: a shell's for a program that SIGPIPE ended."""

# they end their workers, and remove temporary copies of what has no file yet
_CLEANING = ("report", "verify", "export", "sql", "book", "bench")


class CommandError(Exception):
    """A command failed: the message is printed as usage errors are.

    Args:
        message: the reason, one or several lines.
        status: the exit status.

    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = int(status)


class _Refusing(click.Command):
    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        for option in self.params:
            # a flag's variable may have any value
            if isinstance(option.type, click.types.BoolParamType):
                option.type = FlagParam()

    def main(self, *args: Any, **settings: Any) -> Any:
        """Run the program."""
        with watched():
            return super().main(*args, **settings)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse the arguments."""
        name = "wsrec" if parent is None else f"{command_name(parent)} {info_name}"
        with self._refusals(name, None, as_json=self._wants_json(args, name)):
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        # `--json` of bench is a file
        as_json = ctx.params.get("json") is True or ctx.params.get("format") == "json"
        with self._refusals(command_name(ctx), ctx, as_json=as_json):
            if isinstance(self, click.Group):
                return super().invoke(ctx)
            with Interruptible(cleans_up=self.name in _CLEANING):
                return super().invoke(ctx)

    def refuse(self, name: str, why: str, status: int, *, as_json: bool) -> None:
        """Print an error of one or several lines, each with the command's name before it."""
        lines = [clean(line, 2000) for line in mask_in_text(why).split("\n")]
        _complain(name, lines)
        if not as_json:
            return
        try:
            click.echo(printable_json({"status": status, "error": "\n".join(lines)}))
        except StdoutError as error:
            _give_up(name, error)

    @contextlib.contextmanager
    def _refusals(self, name: str, ctx: click.Context | None, *, as_json: bool) -> Iterator[None]:
        try:
            yield
        except (NoArgsIsHelpError, click.exceptions.Exit):
            raise
        except (click.UsageError, ConfigError) as error:
            status = int(ExitStatus.USAGE)
            self.refuse(name, explained(error, ctx, name), status, as_json=as_json)
            raise click.exceptions.Exit(status) from error
        except CommandError as error:
            self.refuse(name, str(error), error.status, as_json=as_json)
            raise click.exceptions.Exit(error.status) from error
        except ReaderGoneError as error:
            # quietly, and not with the 1 of click, which tells of damage here
            give_up(sys.stdout)
            raise click.exceptions.Exit(READER_GONE) from error
        except StdoutError as error:
            _give_up(name, error)
            raise click.exceptions.Exit(int(ExitStatus.UNPRINTED)) from error
        except KeyboardInterrupt as error:
            self.refuse(name, "interrupted", INTERRUPTED, as_json=as_json)
            raise click.exceptions.Exit(INTERRUPTED) from error
        except Exception as error:
            # what an interrupted import made of it, for example
            if not (number := came()):
                raise
            self.refuse(name, "interrupted", 128 + number, as_json=as_json)
            raise click.exceptions.Exit(128 + number) from error

    def _wants_json(self, args: list[str], name: str) -> bool:
        """Whether JSON is requested, in arguments that may be invalid."""
        flags = [option for option in self.params if "--json" in option.opts and getattr(option, "is_flag", False)]
        variables = [f"{name} {option.name}".upper().replace(" ", "_") for option in flags]
        if not flags:
            return False
        wanted = "--json" in args or "--format=json" in args or ("--format", "json") in itertools.pairwise(args)
        return wanted or any(map(_is_true, variables))


def _complain(name: str, lines: list[str]) -> None:
    try:
        for line in lines:
            click.secho(f"{name}: {line}", fg="red", err=True)
    except OSError:
        # on the same full disk, perhaps: the exit status remains
        give_up(sys.stderr)


def _give_up(name: str, error: StdoutError) -> None:
    _complain(name, [f"cannot write to stdout: {system_error(error)}"])
    give_up(sys.stdout)


def _is_true(variable: str) -> bool:
    try:
        return bool(FlagParam().convert(os.environ.get(variable) or "no", None, None))
    except click.BadParameter:
        return False


class Command(_Refusing):
    """A command that reports its errors: click's, and every `ConfigError` and `CommandError`."""


class Group(_Refusing, click.Group):
    """A group of commands that reports unknown ones."""

    command_class = Command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments name."""
        name = args[0]
        if not ctx.resilient_parsing and self.get_command(ctx, name) is None:
            hint = self.meant(ctx, name) or f"see `{command_name(ctx)} --help`"
            raise ConfigError(f"no such command {name!r}{', ' if hint.startswith('did') else '; '}{hint}")
        return super().resolve_command(ctx, args)

    def meant(self, ctx: click.Context, name: str) -> str:
        """The question what a word that is no command was meant to be; empty if nothing is near."""
        return did_you_mean(name, self.list_commands(ctx))
