"""Target resolution: a catalogue feed, a YAML file or a bare URL from the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from wsrec.feed.errors import ConfigError, OptionError
from wsrec.feed.listing import Listed, all_symbols
from wsrec.feed.load import find_feed, load_feed
from wsrec.feed.masking import mask_url
from wsrec.feed.schema import Feed
from wsrec.feed.shard import Shard
from wsrec.feed.sockets import Socket, check_url
from wsrec.feed.values import NAME_IN_WORDS, NAME_PATTERN
from wsrec.net.proxy import DIRECT, ProxyRules
from wsrec.plan.connections import proxies_of
from wsrec.plan.naming import host_name, names_of
from wsrec.units import did_you_mean, not_readable

ALL = "all"
_FILE_MAX = 16 << 20
_URL = re.compile(r"wss?://", re.IGNORECASE)
# of what is no URL
_NAMED = re.compile(r"([^=/]{1,64})=([a-z0-9][a-z0-9.-]{0,63})")
_NAMED_URL = re.compile(r"([^=?#]*)=(wss?://.*)", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Target:
    """A feed, with the symbols and channels to record.

    Attributes:
        feed: the feed; for a bare URL, one without channels and fields.
        symbols: as the exchange writes them.
        channels: the exchange's own names, keys of `feed.channel_table`.
        subscribe: texts to send unchanged, for a bare URL.
        listed: the exchange's list, if all of its symbols were requested.

    """

    feed: Feed
    symbols: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    listed: Listed | None = None


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A target as named by the user, with the requested symbols and channels; see `resolve`.

    Attributes:
        target: name of a catalogue feed, path of a YAML file, or URL, optionally with `NAME=` before it.
        name: the name of a URL; by default the part before `=`, or its host.
        symbols, channels, subscribe: as for `resolve`.
        where: prefix of error messages: file, line and key of a run config.
        places: `FILE:LINE: KEY` of its options in the run config, by field.

    """

    target: str
    name: str = ""
    symbols: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()
    where: str = ""
    places: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_nameless(self) -> bool:
        """Whether it is a URL without a given name."""
        return not self.name and _URL.match(self.target) is not None

    def resolved(self, shard: Shard | None = None, proxies: ProxyRules = DIRECT) -> Target:
        """Resolve it.

        Raises:
            ConfigError: as for `resolve`.

        """
        try:
            return resolve(self.target, self.symbols, self.channels, self.subscribe, shard, self.name, proxies)
        except OptionError as error:
            raise self.located(error) from error
        except ConfigError as error:
            raise self.wrong(str(error)) from error

    def located(self, error: OptionError) -> ConfigError:
        """The error of an option of this target, with its place in the run config if it is from there."""
        place = self.places.get(error.field)
        return error if place is None else ConfigError(f"{place}: {error.problem}")

    def wrong(self, text: str) -> ConfigError:
        """An error about it; each line begins with its place."""
        return ConfigError("\n".join(f"{self.where}{line}" for line in text.split("\n")))


def resolve_all(wanted: Sequence[Wanted], shard: Shard | None = None, proxies: ProxyRules = DIRECT) -> list[Target]:
    """Resolve several that are recorded together; URLs without a name get unique ones.

    Raises:
        ConfigError: as for `resolve`, of each; or two of them are the same URL, or have the same name.

    """
    targets: dict[int, Target] = {}
    problems: list[ConfigError] = []
    for n, each in enumerate(wanted):
        try:
            targets[n] = each.resolved(shard, proxies)
        except ConfigError as error:
            problems.append(error)
    # an option of the command line is wrong for all of them, and is explained by its source
    if alone := next((problem for problem in problems if isinstance(problem, OptionError)), None):
        raise alone
    if problems:
        raise ConfigError("\n".join(str(problem) for problem in problems))
    nameless = {n: each for n, each in enumerate(wanted) if each.is_nameless}
    seen: set[str] = set()
    for each in nameless.values():
        if each.target in seen:
            raise each.wrong(
                f"{mask_url(each.target)} is given twice: leave one out, or name both to record it twice: a=URL b=URL"
            )
        seen.add(each.target)
    named = {target.feed.name for n, target in targets.items() if n not in nameless}
    names = names_of([each.target for each in nameless.values()], named)
    for (n, each), name in zip(nameless.items(), names, strict=True):
        targets[n] = replace(each, name=name).resolved(shard)
    taken: set[str] = set()
    for n, each in enumerate(wanted):
        name = targets[n].feed.name
        if name in taken:
            hint = "give each URL its own, as in a=URL b=URL; record others into two folders (--out)"
            raise each.wrong(f"two targets are both named {name}: {hint}")
        taken.add(name)
    return [targets[n] for n in range(len(wanted))]


def resolve(
    target: str,
    symbols: Sequence[str] = (),
    channels: Sequence[str] = (),
    subscribe: Sequence[str] = (),
    shard: Shard | None = None,
    name: str = "",
    proxies: ProxyRules = DIRECT,
) -> Target:
    """Find the feed that `target` names, and the requested symbols and channels.

    Args:
        target: name of a catalogue feed, path of a YAML file, or a `ws://` or `wss://` URL, which may have `NAME=`
            before it.
        symbols: as users type them, `all`, or `@FILE`; the feed's own by default.
        channels: common names (`trades`, `book`, `bbo`, `ticker`) or the exchange's; the feed's own by default.
        subscribe: texts to send after connecting to a bare URL.
        shard: the share of the symbols to take, and of the channels without symbols.
        name: name of a URL; by default its host.
        proxies: proxy selection for the request of the exchange's list, if the feed names none.

    Raises:
        ConfigError: a part of it is not valid; the message says what is.

    """
    if found := _NAMED_URL.fullmatch(target):
        if name and name != found[1]:
            raise ConfigError(f"found two names for one URL, {name!r} and {found[1]!r}, expected one of them")
        name, target = found.groups()
        if not re.fullmatch(NAME_PATTERN, name):
            raise ConfigError(f"name {name!r}: expected {NAME_IN_WORDS}, as in spot=wss://HOST/PATH")
    if _URL.match(target):
        _refuse_beside_url(symbols, channels, shard)
        return Target(feed=feed_of_url(target, name), subscribe=tuple(subscribe))
    if "://" in target:
        # the rest is not repeated: it may contain a secret
        written = re.match(r"[A-Za-z][A-Za-z0-9+.-]{0,20}://", target)
        beginning = f"found {written[0]}, " if written else ""
        raise ConfigError(f"{beginning}expected a URL that begins with ws:// or wss://")
    if (named := _NAMED.fullmatch(target)) and not _is_path(target):
        requested, of = named.groups()
        raise ConfigError(
            f"found {requested}={of}: NAME= is for URLs; {of} has a name of its own: leave out {requested + '='!r}"
        )
    feed = load_feed(Path(target)) if _is_path(target) else find_feed(target)
    feed.check_open()
    _refuse_beside_feed(feed, name, subscribe)
    if not feed.channels:
        if symbols or channels or shard:
            field = "symbols" if symbols else "channels" if channels else "shard"
            raise OptionError(field, f"{feed.name} declares no channels: leave it out")
        return Target(feed=feed)
    return _selected(feed, symbols, channels, shard, proxies)


def _refuse_beside_url(symbols: Sequence[str], channels: Sequence[str], shard: Shard | None) -> None:
    if shard is not None:
        raise OptionError("shard", "needs a feed that knows symbols, not a bare URL: name one (`wsrec feeds list`)")
    if symbols or channels:
        raise OptionError(
            "symbols" if symbols else "channels",
            "needs a feed that knows them, not a bare URL: send the exchange's own subscription with "
            "--subscribe TEXT, or name a feed (`wsrec feeds list`)",
        )


def _refuse_beside_feed(feed: Feed, name: str, subscribe: Sequence[str]) -> None:
    if name:
        raise ConfigError(f"{feed.name} has a name of its own: leave out {name!r}, which only a URL can be given")
    if subscribe:
        raise OptionError(
            "subscribe",
            f"{feed.name} makes its own subscriptions, expected a bare URL as the target; or --symbols and --channels",
        )


def _selected(
    feed: Feed, symbols: Sequence[str], channels: Sequence[str], shard: Shard | None, proxies: ProxyRules
) -> Target:
    """Resolve the requested symbols and channels of a feed."""
    names = _channels(feed, channels)
    listed = all_symbols(feed, proxies_of(feed, proxies)) if ALL in symbols else None
    chosen = _symbols(feed, symbols, listed)
    if not chosen and any(feed.channel_table[name].per_symbol for name in names):
        example = feed.symbols.example if feed.symbols else "SYMBOL"
        raise ConfigError(f"{feed.name} has no default symbols: give some, as in --symbols {example}")
    if shard is not None:
        chosen = tuple(symbol for symbol in chosen if shard.includes(symbol))
        names = tuple(name for name in names if feed.channel_table[name].per_symbol or shard.includes(name))
        if not names or (not chosen and all(feed.channel_table[name].per_symbol for name in names)):
            raise OptionError(
                "shard", f"{feed.name}: shard {shard} has none of the symbols: request more symbols, or fewer shards"
            )
    return Target(feed=feed, symbols=chosen, channels=names, listed=listed)


def feed_of_url(url: str, name: str = "") -> Feed:
    """A feed with only an address and a name: by default its host's.

    Raises:
        ConfigError: it is not a WebSocket URL.

    """
    try:
        check_url(url)
        return Feed(name=name or host_name(url), description=mask_url(url)[:300], sockets={"main": Socket(url=url)})
    except ValueError as error:
        raise ConfigError("cannot use this URL: expected ws://HOST/PATH or wss://HOST/PATH") from error


def _is_path(target: str) -> bool:
    return target.endswith((".yaml", ".yml")) or ("/" in target and Path(target).exists())


def _symbols(feed: Feed, requested: Sequence[str], listed: Listed | None) -> tuple[str, ...]:
    if feed.symbols is None:
        if requested:
            raise OptionError("symbols", f"{feed.name} has no symbols: omit it")
        return ()
    chosen: list[str] = []
    for text in requested or feed.default_symbols:
        if text == ALL and listed is not None:
            chosen += listed.symbols
        elif text.startswith("@"):
            chosen += _symbols_of_file(feed, Path(text[1:]))
        else:
            try:
                chosen.append(feed.symbols.normalise(text))
            except ConfigError as error:
                raise OptionError("symbols", str(error)) from error
    return tuple(dict.fromkeys(chosen))


def _symbols_of_file(feed: Feed, file: Path) -> list[str]:
    """The symbols in a text file, separated by commas, blanks or lines; # at the start of a word begins a comment."""
    assert feed.symbols is not None
    try:
        with file.open(encoding="utf-8-sig") as lines:
            text = lines.read(_FILE_MAX + 1)
    except (OSError, ValueError) as error:
        raise OptionError(
            "symbols", f"found {not_readable(f'@{file}', error)}, expected a text file of symbols"
        ) from error
    if len(text) > _FILE_MAX:
        raise OptionError("symbols", f"@{file}: found more than {_FILE_MAX >> 20} MiB, expected a list of symbols")
    chosen = []
    for number, line in enumerate(text.splitlines(), 1):
        for word in re.sub(r"(^|\s)#.*", "", line).replace(",", " ").split():
            try:
                chosen.append(feed.symbols.normalise(word))
            except ConfigError as error:
                raise ConfigError(f"{file}:{number}: {error}") from error
    if not chosen:
        raise OptionError("symbols", f"@{file}: found no symbols, expected at least one")
    return chosen


def _channels(feed: Feed, requested: Sequence[str]) -> tuple[str, ...]:
    table = feed.channel_table
    common: dict[str, str] = {channel.common: name for name, channel in table.items() if channel.common}
    names = []
    always = [name for name, channel in table.items() if channel.always and channel.per_symbol]
    for text in (*(requested or feed.default_channels), *always):
        name = common.get(text.strip(), text.strip())
        if name not in table:
            meant = did_you_mean(text, (*common, *table), most=3)
            raise OptionError(
                "channels",
                f"{feed.name} has no channel {text!r}: {meant}{' ' if meant else ''}expected {', '.join(common)} or a "
                f"name that `wsrec feeds show {feed.name}` lists",
            )
        names.append(name)
    if len(names) == len(always):
        raise ConfigError(f"{feed.name} has no default channels: give some with --channels")
    return tuple(dict.fromkeys(names))
