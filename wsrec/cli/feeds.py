"""`wsrec feeds`: what can be recorded, and what would be asked of the exchange."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wsrec.feed.load import catalogue, find_feed, load_feed
from wsrec.feed.plan import plan
from wsrec.feed.schema import ConfigError, Feed, SequenceRule, feed_schema, mask_url
from wsrec.feed.target import resolve
from wsrec.units import clean

_P = ParamSpec("_P")
_T = TypeVar("_T")
_SETTINGS = {"help_option_names": ["-h", "--help"]}
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def comma_list(ctx: click.Context, param: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Callback for a repeatable option whose values may each be several, separated by commas.

    Raises:
        click.BadParameter: the option is given without a single item.

    """
    given = [[item for item in map(str.strip, text.split(",")) if item] for text in value]
    # an unset variable of a script ("$SYMBOLS") must not quietly become the feed's defaults, nor fewer symbols
    if not all(given):
        raise click.BadParameter("it is given but empty; name at least one, or leave the option out", ctx, param)
    return tuple(item for items in given for item in items)


def config_errors(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Make a command print a `ConfigError` on stderr and exit with 2."""

    @functools.wraps(function)
    def wrapped(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return function(*args, **kwargs)
        except ConfigError as error:
            for line in str(error).split("\n"):
                click.echo(clean(line), err=True)
            raise SystemExit(2) from error

    return wrapped


@click.group(context_settings=_SETTINGS)
def feeds() -> None:
    """Show what can be recorded: feeds, their channels, what would be sent.

    Example: wsrec feeds show binance
    """


@feeds.command("list")
@_as_json
@config_errors
def list_(as_json: bool) -> None:
    """List the feeds that come with wsrec.

    Example: wsrec feeds list --json
    """
    known = [find_feed(name) for name in catalogue()]
    if as_json:
        rows = [{"name": feed.name, "description": feed.description, "homepage": feed.homepage} for feed in known]
        return _print_json(rows)
    table = _table("feed", "description", "common channels")
    for feed in known:
        common = sorted({channel.common for channel in feed.channels.values() if channel.common})
        table.add_row(*_cells(feed.name, feed.description, ", ".join(common)))
    return Console().print(table)


@feeds.command()
@click.argument("name")
@_as_json
@config_errors
def show(name: str, as_json: bool) -> None:
    """Show a feed: addresses, symbols, channels, gap rules.

    NAME is a feed of `wsrec feeds list`, or a YAML file.

    Example: wsrec feeds show binance
    """
    feed = load_feed(Path(name)) if name.endswith((".yaml", ".yml")) else find_feed(name)
    if as_json:
        return _print_json(feed.public_config())
    console = Console()
    facts = Table(box=None, show_header=False, pad_edge=False)
    for fact in _facts(feed):
        facts.add_row(*_cells(*fact))
    console.print(facts)
    table = _table("channel", "common", "default", "socket", "finds gaps", "description")
    for key, channel in feed.channels.items():
        finds = {SequenceRule.NONE: "no", SequenceRule.INCREASING: "order only"}.get(
            SequenceRule.NEXT if feed.sequence else channel.sequence, "yes"
        )
        values = "; ".join(f"{k}: {' '.join(v or repr(v) for v in vs)}" for k, vs in channel.parameters.items())
        described = f"{channel.description} ({values})" if values else channel.description
        default = "yes" if channel.default else ""
        table.add_row(*_cells(key, channel.common or "", default, channel.socket or "", finds, described))
    return console.print(table)


@feeds.command()
@click.argument("file", type=click.Path(path_type=Path))
@_as_json
@config_errors
def check(file: Path, as_json: bool) -> None:
    """Check a feed's YAML file; says file, line and key of every mistake.

    Example: wsrec feeds check my-exchange.yaml
    """
    feed = load_feed(file)
    if as_json:
        return _print_json({"file": str(file), "name": feed.name, "channels": list(feed.channel_table)})
    return click.echo(clean(f"{file}: {feed.name}, {len(feed.channel_table)} channels, no mistakes"))


@feeds.command("plan")
@click.argument("target")
@click.option("--symbols", multiple=True, metavar="A,B", callback=comma_list, help="For example BTCUSDT,ETH/USDT.")
@click.option("--channels", multiple=True, metavar="A,B", callback=comma_list, help="For example trades,book.")
@click.option("--subscribe", multiple=True, metavar="TEXT", help="For a bare URL: text to send, as it is.")
@_as_json
@config_errors
def plan_(
    target: str,
    symbols: tuple[str, ...],
    channels: tuple[str, ...],
    subscribe: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show what `wsrec record TARGET` would connect to and send, without connecting.

    TARGET is a feed's name, a YAML file or a ws:// or wss:// URL.

    Example: wsrec feeds plan binance --symbols BTCUSDT,ETHUSDT --channels trades,book
    """
    connections = plan([resolve(target, symbols, channels, subscribe)])
    if as_json:
        # Without what may be secret: the URL as it is sent, and headers' values.
        rows = [msgspec.to_builtins(connection) for connection in connections]
        return _print_json([{**row, "url": row["public_url"], "headers": sorted(row["headers"])} for row in rows])
    for connection in connections:
        click.echo(clean(f"connection {connection.conn}: {connection.public_url}"))
        if connection.headers:
            click.echo(clean(f"  headers: {', '.join(sorted(connection.headers))}"))
        if connection.start_after:
            click.echo(f"  connects {connection.start_after:g} s after the start")
        if connection.keep_alive:
            click.echo(clean(f"  every {connection.keep_alive.every:g} s: {connection.keep_alive.text or 'ping'}"))
        if len(connection.subscriptions) > 1:
            click.echo(f"  {len(connection.subscriptions)} messages, {connection.send_interval:g} s apart")
        for subscription in connection.subscriptions:
            click.echo(clean(f"  send {subscription.text}"))
    return None


@feeds.command()
def schema() -> None:
    """Print the JSON Schema of feed YAML files, for editors.

    Example: wsrec feeds schema > feed.schema.json
    """
    _print_json(feed_schema())


def _facts(feed: Feed) -> list[tuple[str, str]]:
    facts = [(feed.name, feed.description)]
    facts += [(f"socket {name}", mask_url(socket.url)) for name, socket in feed.sockets.items()]
    if feed.symbols:
        facts.append(("symbols", f"{feed.symbols.words}, as in {feed.symbols.example}"))
        facts.append(("default symbols", ", ".join(feed.default_symbols) or "none"))
    if feed.limits:
        facts.append(("limits", f"{feed.limits.streams_per_connection} streams a connection"))
    if feed.homepage:
        facts.append(("homepage", feed.homepage))
    return facts


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        # Names stay whole also where the terminal is narrow: they are there to be typed.
        table.add_column(column, no_wrap=column in ("feed", "channel"), overflow="fold")
    return table


def _cells(*texts: str) -> list[str]:
    return [escape(clean(text)) for text in texts]


def _print_json(data: Any) -> None:
    click.echo(json.dumps(data, indent=2))
