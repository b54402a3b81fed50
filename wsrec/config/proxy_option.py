"""The proxy options: the rules that they make with the environment; a password that all can read is refused."""

from __future__ import annotations

import os

import click
from click.core import ParameterSource

from wsrec.config.sources import source
from wsrec.feed.errors import ConfigError
from wsrec.net.proxy import ProxyRules, parse_proxy


def proxy_rules(proxy: str | None, no_proxy: bool) -> ProxyRules:
    """The proxy rules from the running command's options and the environment."""
    where = source(click.get_current_context(), "proxy")
    return ProxyRules.of_environment(os.environ, none=no_proxy, given=proxy, source=where)


def checked_proxy(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The address with `${NAME}` filled in; a password on the command line is refused.

    Raises:
        click.BadParameter: it is no proxy's address, or has such a password.

    """
    if value is None or ctx.resilient_parsing:
        return value
    # imports pydantic, which takes long
    from wsrec.feed.sockets import has_open_password, resolved_proxy

    try:
        if ctx.get_parameter_source("proxy") is ParameterSource.COMMANDLINE and has_open_password(value):
            raise ValueError(
                "a password on the command line can be read by every user of this machine: write '${NAME}' in its "
                f"place, in single quotes, or put the address into {ctx.auto_envvar_prefix or 'WSREC'}_PROXY or the "
                "`proxy` of a YAML file"
            )
        found = resolved_proxy(value)
        parse_proxy(found)
    except (ValueError, ConfigError) as error:
        raise click.BadParameter(str(error), ctx, param) from None
    return found
