"""Shell completion: feeds, their channels, and the symbols that are known without a request to an exchange.

A shell waits for it at each Tab: what reads feeds is imported where one is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from wsrec.config.proxy_option import checked_proxy
from wsrec.feed.catalogue import catalogue, is_closed
from wsrec.feed.errors import ConfigError

if TYPE_CHECKING:
    from wsrec.feed.schema import Feed

# A shell shows hundreds at most, and a Tab must not take long
_MOST = 500


def feed_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Feeds of the catalogue that match; files if none does."""
    found = [name for name in catalogue() if name.startswith(incomplete)]
    return _or_files(found, incomplete)


def open_feed_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """As `feed_names`, without closed markets; after `NAME=`, the URL schemes."""
    name, equals, _ = incomplete.partition("=")
    if equals:
        from wsrec.feed.values import NAME_PATTERN

        if re.fullmatch(NAME_PATTERN, name):
            return [CompletionItem(f"{name}={scheme}") for scheme in ("wss://", "ws://")]
    found = [name for name, file in catalogue().items() if name.startswith(incomplete) and not is_closed(file)]
    return _or_files(found, incomplete)


def channel_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Channels of the feeds named so far, common names first."""
    feeds = _feeds(ctx)
    common = [channel.common for feed in feeds for channel in feed.channels.values() if channel.common]
    return _listed(incomplete, (*common, *(name for feed in feeds for name in feed.channel_table)))


def symbol_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Symbols of the feeds named so far: those that were listed before, else the defaults and the example."""
    from wsrec.feed.listing import cached
    from wsrec.plan.target import ALL

    names: list[str] = []
    for feed in _feeds(ctx):
        listed = cached(feed)
        if listed is not None:
            names += listed.symbols
        elif feed.symbols is not None:
            names += (*feed.default_symbols, feed.symbols.example)
        if feed.symbols is not None and feed.symbols.listing is not None:
            names.append(ALL)
    return _listed(incomplete, names)


OF_OPTIONS: dict[str, dict[str, Any]] = {
    "symbols": {"shell_complete": symbol_names},
    "channels": {"shell_complete": channel_names},
    "proxy": {"callback": checked_proxy},
}
"""Arguments of click options beyond their declaration (`wsrec.config.click_options`)."""


def _or_files(names: list[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names] or [CompletionItem(incomplete, type="file")]


def _feeds(ctx: click.Context) -> list[Feed]:
    from wsrec.feed.load import find_feed, load_feed

    # arguments before an option without a value are not parsed: they are in `args`
    given: Any = ctx.params.get("targets") or ctx.params.get("target") or ctx.args
    feeds = []
    for name in (given,) if isinstance(given, str) else given:
        try:
            feeds.append(load_feed(Path(name)) if name.endswith((".yaml", ".yml")) else find_feed(name))
        except ConfigError:
            continue
    return feeds


def _listed(incomplete: str, names: Iterable[str]) -> list[CompletionItem]:
    """Completions of the last item of a comma-separated list, each with the items before it."""
    before, comma, begun = incomplete.rpartition(",")
    found = [name for name in dict.fromkeys(names) if name.lower().startswith(begun.lower())]
    return [CompletionItem(f"{before}{comma}{name}") for name in found[:_MOST]]
