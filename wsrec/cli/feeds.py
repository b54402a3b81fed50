"""The commands `wsrec feeds ...`: the catalogue, checks of YAML files, plans of connections."""

from __future__ import annotations

from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from wsrec.cli.command import CommandError, Group
from wsrec.cli.completed_values import OF_OPTIONS, feed_names, open_feed_names
from wsrec.cli.output_format import Column, Listing, OutputFormat, output_format, print_listing
from wsrec.cli.row_lines import row_lines
from wsrec.config.click_options import click_options, settled, taken
from wsrec.config.click_types import PathParam
from wsrec.config.proxy_option import proxy_rules
from wsrec.config.run_config import load_run, run_schema
from wsrec.feed.catalogue import catalogue
from wsrec.feed.errors import ConfigError, OptionError
from wsrec.feed.feed_template import write_template
from wsrec.feed.listing import cached
from wsrec.feed.load import find_feed, load_feed
from wsrec.feed.schema import Feed, feed_schema
from wsrec.feed.sequence_rules import SequenceRule
from wsrec.format.errors import EXIT_UNREADABLE
from wsrec.monitor.sample_rows import SampleRows, sample_rows
from wsrec.monitor.samples import Reading, read_samples, samples_of
from wsrec.options.option import declared
from wsrec.options.record import RecordOptions, Selection
from wsrec.plan.connections import ConnectionPlan, plan
from wsrec.plan.summary import messages as sent_messages
from wsrec.plan.summary import shown, totals
from wsrec.plan.target import resolve
from wsrec.supervise.memory import need_of
from wsrec.supervise.preconditions import DEMO
from wsrec.supervise.record import DEMO_FEED, checked_names
from wsrec.terminal_tables import print_table
from wsrec.units import clean, plural, system_error, utc

_SETTINGS = {"help_option_names": ["-h", "--help"]}
# Characters of a message or an address that the text of a plan shows
_SHOWN = 300
# Messages that a table shows
_MOST_READINGS = 1000
_FINDS_GAPS = {SequenceRule.NONE: "no", SequenceRule.INCREASING: "order only"}
_PLAN_OPTIONS = (
    *declared(Selection),
    *(each for each in declared(RecordOptions) if each.field in ("proxy", "no_proxy")),
)
_as_json = click.option("--json", is_flag=True, help="Print JSON.")
_in_form = output_format("Print JSON.")


@click.group(cls=Group, context_settings=_SETTINGS)
def feeds() -> None:
    """List, show and check feeds: their channels, and the requests a recording would send.

    Example: wsrec feeds show binance
    """


@feeds.command("list")
@_in_form
def list_(form: OutputFormat) -> None:
    """List the feeds that come with wsrec.

    Example: wsrec feeds list --json
    """
    known = [find_feed(name) for name in catalogue()]
    if form is OutputFormat.JSON:
        rows = [
            {
                "name": feed.name,
                "description": feed.description,
                "homepage": feed.homepage,
                "closed": feed.closed and str(feed.closed.date),
            }
            for feed in known
        ]
        return _print_json(rows)
    cells = []
    for feed in known:
        common = sorted({channel.common for channel in feed.channels.values() if channel.common})
        channels = f"closed {feed.closed.date}" if feed.closed else ", ".join(common)
        cells.append((feed.name, feed.description, channels))
    return _print(("feed", "description", "common channels"), cells, form)


@feeds.command()
@click.argument("name", shell_complete=feed_names)
@_in_form
def show(name: str, form: OutputFormat) -> None:
    """Show a feed: addresses, symbols, channels, gap rules.

    NAME is a feed of `wsrec feeds list`, or a YAML file.

    Example: wsrec feeds show binance
    """
    _refuse_demo(name)
    feed = load_feed(Path(name)) if name.endswith((".yaml", ".yml")) else find_feed(name)
    if form is OutputFormat.JSON:
        return _print_json(feed.public_config())
    if form is OutputFormat.TABLE:
        facts = Table(box=None, show_header=False, pad_edge=False)
        for fact in _facts(feed):
            facts.add_row(*_cells(*fact))
        print_table(facts, Console())
    rows = []
    for key, channel in feed.channels.items():
        finds = _FINDS_GAPS.get(feed.sequence_rule(key), "yes")
        values = "; ".join(f"{k}: {' '.join(v or repr(v) for v in vs)}" for k, vs in channel.parameters.items())
        described = f"{channel.description} ({values})" if values else channel.description
        default = "yes" if channel.default else ""
        tables = ", ".join(feed.table_names(key))
        rows.append((key, channel.common or "", default, channel.socket or "", finds, tables, described))
    return _print(("channel", "common", "default", "socket", "finds gaps", "tables", "description"), rows, form)


@feeds.command()
@click.argument("file", type=PathParam(path_type=Path), shell_complete=feed_names, metavar="FILE|NAME")
@click.argument("messages", nargs=-1, type=PathParam(path_type=Path), metavar="[MESSAGES]...")
@_as_json
def check(file: Path, messages: tuple[Path, ...], json: bool) -> None:
    """Check a feed's YAML file or a run config; print file, line and key of every mistake.

    NAME is a feed of `wsrec feeds list`, to read messages with it.

    MESSAGES are files of real messages: the fields that the feed reads from each are printed, and the rows of tables
    that it makes, or why it makes none. A file is one JSON document, or has one message per line, or is a capture's
    Parquet.

    \b
    Example: wsrec feeds check my-exchange.yaml
             wsrec feeds check my-exchange.yaml trade.json book.json
             wsrec feeds check binance trade.json

    Exit status: 0 no mistakes; 1 no field could be read from a message, or one that no declaration skips makes no rows
    in a channel with `tables`; 2 a mistake in the YAML; 74 standard output cannot be written.
    """
    named = None if file.exists() else catalogue().get(str(file))
    run = load_run(file) if named is None else None
    if run is not None:
        if messages:
            raise ConfigError(f"{file}: found a run config, expected the YAML of a feed, to read messages with it")
        try:
            names = checked_names(run.wanted, run.settings.get("ca_file"))
        except OptionError as error:
            place = run.places.get(error.field)
            raise error if place is None else ConfigError(f"{place}: {error.problem}") from error
        if json:
            return _print_json({"file": str(file), "feeds": names})
        return click.echo(clean(f"{file}: {', '.join(names)}, no mistakes"))
    feed = load_feed(named or file)
    samples = [sample for each in messages for sample in samples_of(each)]
    readings = read_samples(feed, samples) if samples else []
    made = sample_rows(feed, samples, readings) if samples else []
    if json:
        found = {"file": str(file), "name": feed.name, "channels": list(feed.channel_table)}
        shown_messages = [_message(*each) for each in zip(readings, made, strict=True)]
        _print_json({**found, "messages": shown_messages} if messages else found)
    else:
        click.echo(clean(f"{file}: {feed.name}, {plural(len(feed.channel_table), 'channel')}, no mistakes"))
        _print_readings(readings)
        for line in row_lines(readings, made):
            click.echo(line)
    empty = sum(reading.empty for reading in readings)
    refused = sum(each is not None and each.is_refused for each in made) - empty
    of = f"of {plural(len(readings), 'message')}"
    if empty:
        click.echo(f"no field read from {empty} {of}: see `fields` in docs/reference/feeds.md", err=True)
    if refused > 0:
        click.echo(f"no rows from {refused} {of}, for the reasons above: see docs/reference/tables.md", err=True)
    if empty or refused > 0:
        raise click.exceptions.Exit(1)
    return None


@feeds.command()
@click.argument("name")
@click.option("--out", "-o", type=PathParam(path_type=Path), help="File to write. [default: NAME.yaml]")
def new(name: str, out: Path | None) -> None:
    """Create a feed of your own: a valid, commented YAML file to fill in.

    Example: wsrec feeds new my-exchange --out my-feed.yaml
    """
    try:
        file = write_template(name, out)
    except OSError as error:
        # an error of a write has no file name, and ends in the reason
        why = system_error(error) if error.filename else f"{out or f'{name}.yaml'}: {system_error(error)}"
        raise CommandError(f"{why}; name another file with --out", EXIT_UNREADABLE) from error
    click.echo(clean(f"{file}: fill it in, then `wsrec feeds check {file}` and `wsrec feeds plan {file}`"))


@feeds.command("plan")
@click.argument("target", shell_complete=open_feed_names)
@click_options(_PLAN_OPTIONS, **OF_OPTIONS)
@_in_form
def plan_(target: str, form: OutputFormat, **given: Any) -> None:
    """Print the connections and requests of `wsrec record TARGET`, without connecting.

    TARGET is a feed's name, a YAML file, or a ws:// or wss:// URL, optionally as NAME=URL. Only `--symbols all` sends a
    request to the exchange, for its list of symbols.

    Example: wsrec feeds plan binance --symbols BTCUSDT,ETHUSDT --channels trades,book
    """
    _refuse_demo(target)
    values = settled(_PLAN_OPTIONS, given)
    rules = proxy_rules(values["proxy"], values["no_proxy"])
    chosen = resolve(target, **msgspec.structs.asdict(taken(Selection, values)), proxies=rules)
    connections = plan([chosen], proxies=rules)
    needed = need_of(connections)
    sums = totals(connections)
    if form is OutputFormat.JSON:
        memory = {**needed._asdict(), "total": needed.total}
        rows = [shown(connection) for connection in connections]
        return _print_json({**msgspec.structs.asdict(sums), "memory_bytes": memory, "connections": rows})
    if form is not OutputFormat.TABLE:
        return print_listing(_topics(connections), form)
    if chosen.listed is not None:
        click.echo(clean(f"{chosen.feed.name}: {chosen.listed}"))
    click.echo(
        f"{plural(sums.connections, 'connection')}, {plural(sums.subscriptions, 'subscription')} in "
        f"{plural(sums.messages, 'message')}, at most "
        f"{sums.messages_in_a_second} within a second, all sent {sums.subscribed_after:g} s after the start"
    )
    click.echo(f"memory {needed}")
    for connection in connections:
        _print_plan(connection)
    return None


@feeds.command()
@click.option("--run", is_flag=True, help="Print the schema of run configs.")
def schema(run: bool) -> None:
    """Print the JSON Schema of feed YAML files or run configs, for editors.

    Example: wsrec feeds schema > feed.schema.json
    """
    _print_json(run_schema() if run else feed_schema())


def _refuse_demo(name: str) -> None:
    if name == DEMO:
        raise ConfigError(f"{DEMO} is an exchange on this machine that imitates {DEMO_FEED}: give {DEMO_FEED} instead")


def _message(reading: Reading, made: SampleRows | None) -> dict[str, Any]:
    """A message's fields and rows, for JSON."""
    shown_fields = reading._asdict()
    if made is None:
        return shown_fields
    left_out = [{"table": table, "reason": reason} for table, reason in made.left_out]
    return {**shown_fields, "tables": made.rows, "left_out": left_out, "skipped": made.skipped}


def _print_readings(readings: Sequence[Reading]) -> None:
    """Print one line per message, as wide as needed: a table fitted to the terminal would break names and numbers."""
    if not readings:
        return
    rows: list[tuple[str, ...]] = [
        ("message", "channel", "symbol", "exchange_time", "exchange_seq", "first", "previous")
    ]
    for message, channel, symbol, time, last, begin, before, role in readings[:_MOST_READINGS]:
        numbers = ("-" if number is None else str(number) for number in (last, begin, before))
        reported = "-" if time is None else utc(time)
        rows.append(
            (clean(message), clean(channel or (f"({role})" if role else "-")), clean(symbol or "-"), reported, *numbers)
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
    if len(readings) > _MOST_READINGS:
        click.echo(f"and {len(readings) - _MOST_READINGS} more; --json prints all of them")


def _print_plan(connection: ConnectionPlan) -> None:
    click.echo(clean(f"connection {connection.conn}: {_cut(connection.public_url)}"))
    subscriptions = plural(len(connection.topics), "subscription")
    lines = [f"{subscriptions}, all sent {connection.subscribed_after:g} s after the start"]
    if connection.proxy is not None:
        lines.append(f"through the proxy {connection.proxy.public}")
    if connection.headers:
        lines.append(f"headers: {', '.join(sorted(connection.headers))}")
    if connection.token:
        lines.append(f"first {connection.token.method} {connection.token.public_url} for a token, before each attempt")
    if connection.start_after:
        lines.append(f"connects {connection.start_after:g} s after the start")
    if connection.wait:
        lines.append(f"waits {connection.wait:g} s before the first message")
    if connection.keep_alive:
        lines.append(f"every {connection.keep_alive.every:g} s: {connection.keep_alive.text or 'ping'}")
    lines += [f"answers {answer.path or answer.message}: {answer.text}" for answer in connection.answers]
    sent = sent_messages(connection)
    if len(sent) > 1:
        lines.append(f"{len(sent)} messages, {connection.send_interval:g} s apart")
    for line in (*lines, *(f"send {_cut(text)}" for text in sent)):
        click.echo(clean(f"  {line}"))


def _cut(text: str) -> str:
    """The beginning of a text that may list hundreds of topics; `--json` prints the whole."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"


def _facts(feed: Feed) -> list[tuple[str, str]]:
    facts = [(feed.name, feed.description)]
    if feed.closed:
        facts.append(("closed", f"{feed.closed.date}: {feed.closed.reason}"))
    public = feed.public()
    facts += [(f"socket {name}", socket.url) for name, socket in public.sockets.items()]
    if public.symbols:
        facts.append(("symbols", f"{public.symbols.words}, as in {public.symbols.example}"))
        facts.append(("default symbols", ", ".join(feed.default_symbols) or "none"))
        if public.symbols.listing:
            facts.append(("all symbols", str(cached(feed) or f"not listed yet, from {public.symbols.listing.url}")))
    if feed.limits and feed.limits.streams_per_connection:
        facts.append(("limits", f"{plural(feed.limits.streams_per_connection, 'stream')} a connection"))
    if public.proxy:
        facts.append(("proxy", public.proxy))
    if feed.homepage:
        facts.append(("homepage", feed.homepage))
    return facts


def _topics(connections: Sequence[ConnectionPlan]) -> Listing:
    """Each subscription, with its connection."""
    rows = [
        (str(connection.conn), connection.public_url, each.topic, each.channel, each.symbol)
        for connection in connections
        for each in connection.topics
    ]
    return Listing([Column(name) for name in ("connection", "url", "topic", "channel", "symbol")], rows)


def _print(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], form: OutputFormat) -> None:
    if form is not OutputFormat.TABLE:
        return print_listing(Listing([Column(name) for name in columns], rows), form)
    table = _table(*columns)
    for row in rows:
        table.add_row(*_cells(*row))
    return print_table(table, Console())


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        # names are not broken on a narrow terminal, so that they can be copied
        table.add_column(column, no_wrap=column in ("feed", "channel"), overflow="fold")
    return table


def _cells(*texts: str) -> list[str]:
    return [escape(clean(text)) for text in texts]


def _print_json(data: Any) -> None:
    click.echo(dumps(data, indent=2))
