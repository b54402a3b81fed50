"""The source of an option's value: the command line, a variable or a run config; and mistakes explained with it."""

from __future__ import annotations

import click
from click.core import ParameterSource

from wsrec.feed.errors import ConfigError, OptionError
from wsrec.units import did_you_mean

PLACES = "wsrec.places"
"""Key of the click context's `meta`: `FILE:LINE: KEY` of each option that a run config sets, by field."""


def source(ctx: click.Context, field: str) -> str:
    """The source of an option's value: `--duration`, `WSREC_RECORD_DURATION` or `run.yaml:2: duration`."""
    flag = f"--{field.replace('_', '-')}"
    option = next((each for each in ctx.command.params if each.name == field or flag in each.opts), None)
    if option is None or option.name is None:
        return flag
    match ctx.get_parameter_source(option.name):
        case ParameterSource.ENVIRONMENT if ctx.auto_envvar_prefix is not None:
            return f"{ctx.auto_envvar_prefix}_{option.name.upper()}"
        case ParameterSource.DEFAULT_MAP if field in ctx.meta.get(PLACES, ()):
            place: str = ctx.meta[PLACES][field]
            return place
        case _:
            return max(option.opts, key=len)


def explained(error: click.UsageError | ConfigError, ctx: click.Context | None, name: str) -> str:
    """A usage error as text: `WHERE: found X, expected Y`; one line per mistake.

    Args:
        error: raised when the options were read or used.
        ctx: the context of the command, if it got that far.
        name: the command, as a user types it.

    """
    if isinstance(error, OptionError):
        return str(error) if ctx is None else f"{source(ctx, error.field)}: {error.problem}"
    if isinstance(error, ConfigError):
        return str(error)
    ctx = error.ctx or ctx
    help_hint = f"; see `{name} --help`"
    if isinstance(error, click.NoSuchOption):
        meant = _option_meant(error.option_name, ctx)
        return f"no such option {error.option_name}{f', {meant}' if meant else help_hint}"
    if isinstance(error, click.BadParameter) and not isinstance(error, click.MissingParameter):
        if ctx is None or not isinstance(error.param, click.Option) or error.param.name is None:
            return error.message
        return f"{source(ctx, error.param.name)}: {error.message}"
    # click's sentences
    words = error.format_message().removesuffix(".")
    return f"{words[:1].lower()}{words[1:]}{help_hint}"


def _option_meant(name: str, ctx: click.Context | None) -> str:
    # without their dashes, which all have in common
    known = [] if ctx is None else [opt[2:] for option in ctx.command.params for opt in option.opts if opt[:2] == "--"]
    return did_you_mean(name.lstrip("-"), known).replace("`", "`--", 1)


def command_name(ctx: click.Context) -> str:
    """The command as a user types it, whatever the program was started as: `wsrec feeds plan`."""
    return " ".join(["wsrec", *ctx.command_path.split()[1:]])
