"""`--proxy` and `--no-proxy`: which source set the proxy, and a refusal of passwords on the command line."""

from __future__ import annotations

import os

import click
from click.core import ParameterSource

from wsrec.feed.errors import ConfigError
from wsrec.feed.masking import ENVIRONMENT
from wsrec.feed.sockets import resolved_proxy
from wsrec.net.proxy import ProxyRules, parse_proxy

RUN_PROXY = "wsrec.run.proxy"
"""Key of the click context's `meta`: the place of `proxy` in the run config, for error messages."""


def proxy_rules(proxy: str | None, no_proxy: bool) -> ProxyRules:
    """The proxy rules from the running command's options and the environment."""
    ctx = click.get_current_context()
    return ProxyRules.of_environment(os.environ, none=no_proxy, given=proxy, source=_source(ctx))


def _source(ctx: click.Context) -> str:
    match ctx.get_parameter_source("proxy"):
        case ParameterSource.ENVIRONMENT:
            return _variable(ctx)
        case ParameterSource.DEFAULT_MAP:
            return "`proxy` of the run config"
        case _:
            return "--proxy"


def _variable(ctx: click.Context) -> str:
    return f"{ctx.auto_envvar_prefix or 'WSREC'}_PROXY"


def checked_proxy(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The address with `${NAME}` filled in; a password in plain text on the command line is refused."""
    if value is None or ctx.resilient_parsing:
        return value
    try:
        if ctx.get_parameter_source("proxy") is ParameterSource.COMMANDLINE and _has_password(value):
            raise ValueError(
                "a password on the command line can be read by every user of this machine: write '${NAME}' in its "
                f"place, in single quotes, or put the address into {_variable(ctx)} or the `proxy` of a YAML file"
            )
        found = resolved_proxy(value)
        parse_proxy(found)
    except (ValueError, ConfigError) as error:
        if ctx.get_parameter_source("proxy") is ParameterSource.DEFAULT_MAP and RUN_PROXY in ctx.meta:
            raise click.UsageError(f"{ctx.meta[RUN_PROXY]}: {error}", ctx) from None
        raise click.BadParameter(str(error), ctx, param) from None
    return found


def _has_password(value: str) -> bool:
    """Whether the address has a password that does not come from the environment."""
    # host and port may be filled in, too: only the part before the last @ is searched
    user, at, _ = value.rpartition("@")
    return bool(at) and bool(ENVIRONMENT.sub("", user.partition("://")[2] or user).partition(":")[2])
