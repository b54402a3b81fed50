"""The feed YAML: the model `Feed` of one exchange market, composed of the parts in the modules beside it.

`configs/feed.schema.json` (for editors) and the tables in `docs/reference/feeds.md` are made from these models. Values
that hold `${NAME}` are read from the environment when connections are planned, never before, so that a `Feed` holds no
secret that its author did not write into it.
"""

from __future__ import annotations

import datetime
import itertools
from functools import cached_property
from typing import Any

from pydantic import Field, field_validator, model_validator

from wsrec.feed import placeholders
from wsrec.feed.channel import Channel
from wsrec.feed.errors import ConfigError, ConflictError
from wsrec.feed.fields import Fields, check_names
from wsrec.feed.instruments import Instruments
from wsrec.feed.keep_alive import ClientKeepAlive, ClosingNotice
from wsrec.feed.limits import Limits
from wsrec.feed.masking import mask_url, url_parts, url_parts_of_tail
from wsrec.feed.sequence_rules import ConnectionSequence, SequenceRule
from wsrec.feed.sockets import Socket, check_proxy, resolved_proxy
from wsrec.feed.subscribe import Ack, OnConnect, Subscribe, check_subscribe
from wsrec.feed.symbols import Symbols
from wsrec.feed.table_declarations import TableDeclaration
from wsrec.feed.values import MAX_URL, NAME_PATTERN, Model, Texts, with_parameters


class Closed(Model):
    """A closed market."""

    date: datetime.date = Field(description='The day (UTC) on which it ended, in quotes: `"2026-09-23"`.')
    reason: str = Field(description="What happened, and the source.", min_length=1, max_length=500)


class Feed(Model):
    """One exchange market."""

    name: str = Field(description="Its name in paths and columns: a-z, 0-9, dots, dashes.", pattern=NAME_PATTERN)
    description: str = Field(description="One line for `wsrec feeds list`.", max_length=300)
    homepage: str | None = Field(default=None, description="The exchange's own documentation.", max_length=500)
    closed: Closed | None = Field(
        default=None, description="When and why it closed: it can no longer be recorded; its captures remain readable."
    )
    sockets: dict[str, Socket] = Field(description="Addresses by name.", min_length=1)
    proxy: str | None = Field(
        default=None,
        description="Proxy for all of its connections and requests: `http://user:${PROXY_PASSWORD}@host:3128`, "
        "`socks5h://host:1080`. `--proxy` and `--no-proxy` override it; it overrides the environment.",
        max_length=MAX_URL,
    )
    public_url_parts: Texts = Field(
        default=(),
        description="Parts of the paths of its addresses, and names of parameters of their queries, that are shown and "
        "stored: `[ws, v5, streams]`. All others are shown and stored as `***`, except for catalogue feeds.",
    )
    symbols: Symbols | None = Field(default=None, description="Notation of symbols.")
    default_symbols: tuple[str, ...] = Field(default=(), description="Recorded when no symbols are requested.")
    instruments: Instruments | None = Field(
        default=None, description="The venue's listing of its instruments, with their contract sizes."
    )
    channels: dict[str, Channel] = Field(default={}, description="The channels, by the exchange's own names.")
    on_connect: OnConnect | None = Field(
        default=None, description="Steps before the first subscription on each connection."
    )
    subscribe: Subscribe | None = Field(
        default=None, description="How to request topics; required with channels, unless each has its own."
    )
    limits: Limits | None = Field(default=None, description="The exchange's limits; required with channels.")
    ack: Ack | None = Field(
        default=None, description="How subscriptions are acknowledged; without it acknowledgements are not checked."
    )
    keep_alive: ClientKeepAlive | None = Field(default=None, description="Keep-alives to send and pings to answer.")
    closing_notice: tuple[ClosingNotice, ...] = Field(
        default=(), description="How the exchange announces a close: the connection is replaced before."
    )
    fields: Fields | None = Field(
        default=None, description="Places of channel, symbol and time in messages; by default none."
    )
    sequence: ConnectionSequence | None = Field(
        default=None,
        description="Numbers across all messages of a connection; channels then have none of their own.",
    )

    @field_validator("proxy")
    @classmethod
    def _is_proxy(cls, proxy: str | None) -> str | None:
        return None if proxy is None else check_proxy(proxy)

    @model_validator(mode="after")
    def _consistent(self) -> Feed:
        if self.channels and self.limits is None:
            raise ConflictError(("channels",), "found channels without limits, expected both")
        if self.subscribe is not None:
            check_subscribe(self.subscribe, None, frozenset(), ("subscribe",))
        if any(channel.per_symbol for channel in self.channels.values()) and self.symbols is None:
            raise ConflictError(("channels",), "found topics with {symbol}, expected symbols beside them")
        if self.sequence is not None and self.fields is None:
            raise ConflictError(("sequence",), "found it without fields, expected them beside it")
        if self.sequence is not None and self.sequence.late and self.fields and self.fields.binary != "json":
            found = f"found it with fields.binary: {self.fields.binary}, expected json: messages are read anew for it"
            raise ConflictError(("sequence", "late"), found)
        self._check_channels()
        self._check_default_symbols()
        return self

    def _check_channels(self) -> None:
        common: dict[str, str] = {}
        topics: dict[str, str] = {}
        for name, channel in self.channels.items():
            where = ("channels", name)
            self._check_numbers(channel, where)
            self._check_subscription(channel, where)
            self._check_socket(channel, where)
            for place in channel.symbol or ():
                check_names(
                    place, set(self.fields.ids.names) if self.fields and self.fields.ids else set(), (*where, "symbol")
                )
            if placeholders.names(name) != set(channel.parameters):
                raise ConflictError(
                    where, "found a name that does not hold each {PARAMETER} of parameters, and no other"
                )
            if topics.setdefault(channel.topic, name) != name:
                found = f"found {channel.topic!r}, which is {topics[channel.topic]}'s already"
                raise ConflictError((*where, "topic"), found)
            if isinstance(channel.tables, str):
                self._check_tables(channel.tables, (*where, "tables"))
            if channel.common and common.setdefault(channel.common, name) != name:
                found = f"found {channel.common!r}, which is {common[channel.common]} already"
                raise ConflictError((*where, "common"), found)

    def _check_tables(self, name: str, where: tuple[str, ...]) -> None:
        """Check that another channel, which this one shares its tables with, has some of its own."""
        shared = self.channels.get(name)
        if shared is None or isinstance(shared.tables, str) or not shared.tables:
            expected = ", ".join(
                key for key, each in self.channels.items() if each.tables and not isinstance(each.tables, str)
            )
            channel = f"a channel that has one: {expected}" if expected else "the name of a channel that has one"
            raise ConflictError(where, f"found {name!r}, expected a list, or {channel}")

    def _check_numbers(self, channel: Channel, where: tuple[str, ...]) -> None:
        if channel.checksum is not None and (self.fields is None or self.fields.binary != "json"):
            raise ConflictError((*where, "checksum"), "found it without fields of JSON, expected `fields` beside it")
        if self.sequence is not None and channel.checksum is not None:
            raise ConflictError((*where, "checksum"), "found it beside the feed's sequence, expected one of them")
        if self.sequence is not None and channel.exchange_seq:
            raise ConflictError((*where, "exchange_seq"), "found it beside the feed's sequence, expected one of them")

    def _check_socket(self, channel: Channel, where: tuple[str, ...]) -> None:
        by_symbol = all(socket.symbols for socket in self.sockets.values())
        anywhere = (by_symbol and channel.per_symbol) or (channel.always and not channel.per_symbol)
        if channel.socket is None and len(self.sockets) > 1 and not anywhere:
            raise ConflictError(where, f"found no socket, expected one of {', '.join(self.sockets)}")
        if channel.socket is not None and channel.socket not in self.sockets:
            found = f"found {channel.socket!r}, expected one of {', '.join(self.sockets)}"
            raise ConflictError((*where, "socket"), found)

    def _check_default_symbols(self) -> None:
        for symbol in self.default_symbols:
            if self.symbols is None:
                raise ConflictError(("default_symbols",), "found no symbols, expected them beside it")
            try:
                self.symbols.normalise(symbol)
            except ConfigError as error:
                raise ConflictError(("default_symbols",), f"found {error}") from error

    def _check_subscription(self, channel: Channel, where: tuple[str, ...]) -> None:
        subscribe = channel.subscribe or self.subscribe
        if subscribe is None:
            raise ConflictError(where, "found no subscribe, neither the feed's nor the channel's, expected one")
        if self.subscribe is not None and bool(subscribe.url) != bool(self.subscribe.url):
            raise ConflictError((*where, "subscribe"), "found message here and url in the feed's, expected the same")
        if channel.argument is not None and "arguments" not in placeholders.names(subscribe.message or ""):
            raise ConflictError(
                (*where, "argument"), "found it without {arguments} in subscribe.message, expected that"
            )
        if channel.subscribe is not None:
            parameters = frozenset(channel.parameters)
            check_subscribe(channel.subscribe, channel.argument, parameters, (*where, "subscribe"))
        elif channel.argument is not None:
            check_subscribe(subscribe, channel.argument, frozenset(channel.parameters), where)
        requested = f"{subscribe.message}{channel.argument or subscribe.argument}"
        naming = {"topics", "topic", "symbols", "symbol"}
        if channel.per_symbol and subscribe.url is None and not placeholders.names(requested) & naming:
            found = "found no symbol in what is sent, expected {topics}, {arguments}, {symbols}, {topic} or {symbol}"
            raise ConflictError((*where, "subscribe") if channel.subscribe else ("subscribe",), found)
        if not channel.per_symbol and placeholders.names(requested) & {"symbol", "symbols"}:
            raise ConflictError(
                (*where, "topic"), "found no {symbol}, expected a subscribe of its own: the feed's is by symbol"
            )

    @cached_property
    def channel_table(self) -> dict[str, Channel]:
        """Every channel by its full name, parameters filled in."""
        table: dict[str, Channel] = {}
        for key, channel in self.channels.items():
            for values in itertools.product(*channel.parameters.values()):
                chosen = dict(zip(channel.parameters, values, strict=True))
                table[with_parameters(chosen, key)] = channel.filled(chosen)
        return table

    @cached_property
    def channel_by_any_name(self) -> dict[str, Channel]:
        """`channel_table` and the channels' aliases, for names that messages carry; a full name goes first."""
        table = dict(self.channel_table)
        for channel in self.channels.values():
            for alias in channel.aliases:
                table.setdefault(alias, channel)
        return table

    def tables_of(self, channel: str | None) -> tuple[TableDeclaration, ...]:
        """The declarations of a channel's tables, by any of its names; none if it has none."""
        return self._declared(self.channel_by_any_name.get(channel) if channel else None)

    def table_names(self, channel: str) -> list[str]:
        """The tables that a channel's messages make rows of, by its key in `channels` or by any of its names."""
        declared = self._declared(self.channels.get(channel) or self.channel_by_any_name.get(channel))
        return list(dict.fromkeys(str(each.table) for each in declared if each.table is not None))

    def _declared(self, channel: Channel | None) -> tuple[TableDeclaration, ...]:
        tables = channel.tables if channel else ()
        shared = self.channels[tables].tables if isinstance(tables, str) else tables
        return shared if isinstance(shared, tuple) else ()

    @cached_property
    def counts_contracts(self) -> bool:
        """Whether sizes in its tables count contracts, and need their multipliers."""
        declared = (each for name in self.channels for each in self.tables_of(name))
        units = (cell for each in declared for cell in each.columns.get("size_unit", ()))
        return any((cell.value or "").startswith("contracts") for cell in units)

    def sequence_rule(self, channel: str | None) -> SequenceRule:
        """The rule for messages of a channel, by any of its names or none."""
        if self.sequence is not None:
            return SequenceRule.NEXT
        found = self.channel_by_any_name.get(channel) if channel else None
        return found.sequence if found else SequenceRule.NONE

    def carries(self, socket: str, channel: Channel) -> bool:
        """Whether a channel is requested on one of the sockets, which may not accept all of its symbols."""
        return channel.socket == socket or (channel.socket is None and (len(self.sockets) == 1 or channel.per_symbol))

    def constant_channels(self, socket: str) -> tuple[str, ...]:
        """Full names of the channels that every connection of a socket has in addition."""
        return tuple(
            name
            for name, channel in self.channel_table.items()
            if channel.always and not channel.per_symbol and (channel.socket in (None, socket))
        )

    @property
    def default_channels(self) -> tuple[str, ...]:
        """Full names of the channels that are recorded if none are requested."""
        return tuple(name for name, channel in self.channel_table.items() if channel.default)

    def check_open(self) -> None:
        """Make sure that there is something to record.

        Raises:
            ConfigError: the market is closed.

        """
        if self.closed is not None:
            kept = "its captures are still read, and nothing new can be recorded"
            raise ConfigError(f"{self.name} closed on {self.closed.date}: {self.closed.reason}; {kept}")

    def resolved_proxy(self) -> str | None:
        """The proxy with `${NAME}` replaced from the environment.

        Raises:
            ConfigError: a variable is not set.

        """
        return None if self.proxy is None else resolved_proxy(self.proxy)

    def public(self) -> Feed:
        """The same feed without secrets, to be stored or shown; still reads messages, no longer connects."""
        parts = self.public_url_parts
        symbols, subscribe = self.symbols, self.subscribe
        if symbols is not None and symbols.listing is not None:
            symbols = symbols.model_copy(update={"listing": symbols.listing.public(parts)})
        return self.model_copy(
            update={
                "proxy": self.proxy and mask_url(self.proxy),
                "sockets": {key: socket.public(parts) for key, socket in self.sockets.items()},
                "symbols": symbols,
                "instruments": self.instruments and self.instruments.public(parts),
                "subscribe": subscribe and subscribe.public(parts),
                "channels": {key: channel.public(parts) for key, channel in self.channels.items()},
            }
        )

    def fetching_snapshots(self, *, wanted: bool) -> Feed:
        """The same feed where the snapshots of all channels that declare one are fetched, or none are."""
        channels = {key: channel.fetching_snapshots(wanted=wanted) for key, channel in self.channels.items()}
        return self.model_copy(update={"channels": channels})

    def urls(self) -> list[str]:
        """Every address that it has, as it is written."""
        urls = [socket.url for socket in self.sockets.values()]
        urls += [socket.token.url for socket in self.sockets.values() if socket.token is not None]
        if self.symbols is not None and self.symbols.listing is not None:
            urls.append(self.symbols.listing.url)
        urls += self.instruments.urls if self.instruments is not None else ()
        return urls + [channel.snapshot.url for channel in self.channels.values() if channel.snapshot is not None]

    def open(self) -> Feed:
        """The same feed, all text of whose addresses is public; what is filled in is not."""
        parts = [*self.public_url_parts]
        for subscribe in (self.subscribe, *(channel.subscribe for channel in self.channels.values())):
            parts += url_parts_of_tail(subscribe.url) if subscribe is not None and subscribe.url is not None else ()
        parts += (part for url in self.urls() for part in url_parts(url))
        return self.model_copy(update={"public_url_parts": tuple(dict.fromkeys(parts))})

    def public_config(self) -> dict[str, Any]:
        """`public()` as plain data; `Feed.model_validate` reads it back."""
        return self.public().model_dump(mode="json", exclude_defaults=True)


def feed_schema() -> dict[str, Any]:
    """The JSON Schema of a feed YAML, for editors."""
    schema = Feed.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "wsrec feed"}
