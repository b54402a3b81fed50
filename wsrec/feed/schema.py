"""The feed YAML: what an exchange's market offers and how its messages are read. The one place that defines it.

`configs/feed.schema.json` (for editors) and the tables in `docs/feeds.md` are made from these models. Values that hold
`${NAME}` are read from the environment when connections are planned, never before, so that a `Feed` holds no secret
that its author did not write into it.
"""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Sequence
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from websockets.exceptions import InvalidURI
from websockets.uri import parse_uri

from wsrec.feed.paths import PATH_PATTERN, TEXT_PATH_PATTERN, scalar_text

MASK = "***"
_MAX_EXPANSION = 1000
_ENV = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_JOINED = re.compile(r"\{((?:[^{}]|\.\{\})+)\}")
_SECRET_NAME = re.compile(r"key|token|secret|sign|passw|credential|auth", re.IGNORECASE)

NAME_PATTERN = r"^[a-z0-9][a-z0-9.-]{0,63}$"
KeyPath = Annotated[str, Field(pattern=PATH_PATTERN, max_length=200)]
TextPath = Annotated[str, Field(pattern=TEXT_PATH_PATTERN, max_length=200)]
Regex = Annotated[str, Field(max_length=500)]
Topic = Annotated[str, Field(min_length=1, max_length=200)]
Name = Annotated[str, Field(min_length=1, max_length=128)]


class ConfigError(Exception):
    """A feed, a target or an option that cannot be used. The text is for the user: what was found, what to do."""


class MisfitError(ValueError):
    """A value that contradicts another one of the same feed.

    Attributes:
        where: keys from the feed down to the value, for the error's line.

    """

    def __init__(self, where: tuple[str, ...], text: str) -> None:
        super().__init__(text)
        self.where = where


class SequenceRule(StrEnum):
    """How a message's sequence number follows from the one before it in the same succession (`SequenceScope`)."""

    NONE = "none"
    """The messages do not tell."""
    PREVIOUS = "previous"
    """`seq_previous` equals the previous message's `exchange_seq`."""
    TOUCHING = "touching"
    """`seq_first` equals the previous message's `exchange_seq` plus one: ranges that touch."""
    NEXT = "next"
    """`exchange_seq` equals the previous one plus one."""
    INCREASING = "increasing"
    """`exchange_seq` is above the previous one: shows disorder, not loss."""


class SequenceScope(StrEnum):
    """What one succession of sequence numbers runs over, on a connection."""

    SYMBOL = "symbol"
    """Each symbol of the channel has its own."""
    CHANNEL = "channel"
    """All symbols of the channel share one."""
    CONNECTION = "connection"
    """All messages of the connection share one (the feed's `sequence`, never a channel's)."""


class TimeUnit(StrEnum):
    """What the exchange counts time in, since the Unix epoch; `iso` is RFC 3339 text."""

    S = "s"
    MS = "ms"
    US = "us"
    NS = "ns"
    ISO = "iso"


class Case(StrEnum):
    """The letters of a symbol."""

    LOWER = "lower"
    UPPER = "upper"
    KEEP = "keep"

    def apply(self, text: str) -> str:
        """`text` in this case."""
        return text.lower() if self is Case.LOWER else text.upper() if self is Case.UPPER else text


def _regex(text: str) -> str:
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"expected a regular expression ({error})") from error
    return text


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _texts(value: Any) -> Any:
    """One text, number, true or false, or a list of them, as the texts that they are compared as."""
    return tuple(scalar_text(each) or each for each in (value if isinstance(value, list | tuple) else (value,)))


Texts = Annotated[tuple[Annotated[str, Field(max_length=200)], ...], BeforeValidator(_texts)]
Where = dict[TextPath, Texts]


class Extract(_Model):
    """A text in the message, or a name for what a message is. One of `path`, `join` and `value` says which."""

    path: TextPath | None = Field(default=None, description="Where it is: `data.s`, `data[0].s`, `data[].s`, `[2]`.")
    join: str | None = Field(
        default=None,
        description="Several texts in one: `{arg.channel}.{arg.instId}`. No value where one of them is not there.",
        max_length=300,
    )
    value: Name | None = Field(default=None, description="This text, where `needs` and `where` hold.")
    needs: tuple[TextPath, ...] = Field(default=(), description="Counts only where all these are there and not null.")
    where: Where = Field(
        default={}, description="Counts only where each of these paths holds the text, or one of the texts, beside it."
    )
    capture: Regex | None = Field(
        default=None,
        description="Regular expression: what its groups take, joined. The whole text where it does not match.",
    )
    optional: bool = Field(
        default=False,
        description="With `capture`: no value where it does not match, in place of the whole text.",
    )
    map: dict[str, Name] | None = Field(
        default=None, description="What the text stands for; a text that is not listed is no value."
    )
    case: Case = Field(default=Case.KEEP, description="Change the letters of what was taken.")

    def __hash__(self) -> int:
        return hash((self.path, self.join, self.value, self.capture))

    @field_validator("capture")
    @classmethod
    def _groups(cls, text: str | None) -> str | None:
        if text is not None and not re.compile(_regex(text)).groups:
            raise ValueError("expected a regular expression with a group, as in `^[^@]+@(.+)$`")
        return text

    @model_validator(mode="after")
    def _one_source(self) -> Extract:
        given = [key for key in ("path", "join", "value") if getattr(self, key) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none of them"
            raise MisfitError((given[0],) if given else (), f"found {found}, expected one of path, join and value")
        if self.value is not None and not (self.needs or self.where):
            raise MisfitError(("value",), "found it without a condition, expected needs or where beside it")
        if self.join is not None and not self.parts:
            raise MisfitError(("join",), f"found {self.join!r}, expected paths in braces, as in `{{channel}}.{{type}}`")
        return self

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """The paths that a `join` names."""
        return tuple(_JOINED.findall(self.join)) if self.join else ()

    def joined(self, parts: Sequence[str]) -> str:
        """The text of a `join`, from the text at each of its paths."""
        texts = iter(parts)
        return _JOINED.sub(lambda _: next(texts), self.join or "")

    def take(self, text: str) -> str | None:
        """What `text` gives, or None."""
        if self.capture is not None:
            found = re.search(self.capture, text)
            if found is None and self.optional:
                return None
            text = ("".join(part for part in found.groups() if part) if found else "") or text
        if self.map is not None:
            if text not in self.map:
                return None
            text = self.map[text]
        return self.case.apply(text)


class TimePlace(_Model):
    """A time in the message that is written otherwise than the feed's others."""

    path: KeyPath = Field(description="Where it is: `tick.ts`.")
    unit: TimeUnit | None = Field(default=None, description="In place of `time_unit`.")
    offset: str | None = Field(
        default=None,
        description="With `iso`: the zone of texts that name none, as `+09:00`; by default UTC.",
        pattern=r"^[+-][0-9]{2}:[0-5][0-9]$",
    )


Places = tuple[TextPath | Extract, ...]
TimePlaces = tuple[KeyPath | TimePlace, ...]
NumberPlaces = tuple[KeyPath, ...]


class Condition(_Model):
    """Something that a message holds."""

    path: KeyPath = Field(description="Where it is. With nothing else: that it is there and not null.")
    equals: Texts | None = Field(default=None, description="It is this text, number, true or false, or one of them.")
    differs: Texts | None = Field(default=None, description="It is there, and none of these.")
    at_least: int | None = Field(default=None, description="It is a number of at least this.")

    @model_validator(mode="after")
    def _one_test(self) -> Condition:
        given = [key for key in ("equals", "differs", "at_least") if getattr(self, key) is not None]
        if len(given) > 1:
            raise MisfitError((given[1],), f"found it beside {given[0]}, expected one of them")
        return self


class ChannelIds(_Model):
    """Numbers that stand for a channel and symbol on one connection, as the exchange announced there."""

    where: Where = Field(description="Which messages announce one: `{event: subscribed}`.", min_length=1)
    id: KeyPath = Field(description="Where an announcement has the id: `chanId`.")
    names: dict[Annotated[str, Field(pattern=r"^[a-z_]+$")], Places] = Field(
        description="What is remembered of it by which name: `{channel: [channel]}`; places write it `$channel`.",
        min_length=1,
    )
    at: KeyPath = Field(description="Where all other messages have the id: `[0]`.")


class Match(_Model):
    """A text in the message that has to be this one."""

    path: KeyPath = Field(description="Keys from the top of the message, joined by dots: `type`.")
    match: str = Field(description="The whole text there: `snapshot`.", min_length=1, max_length=100)


class Resets(_Model):
    """Where the numbers may begin anew: an event `sequence_reset` then, and no gap."""

    numbers: tuple[int, ...] = Field(
        default=(),
        description="Numbers to begin anew with: of `exchange_seq`; of `seq_first` or `seq_previous` where the rule "
        "looks at these.",
        max_length=16,
    )
    messages: tuple[Match, ...] = Field(
        default=(), description="Texts of which one makes a message the first of a new succession.", max_length=16
    )


class ConnectionSequence(_Model):
    """Numbers that go up by one from message to message of a connection, whatever channel they are of."""

    exchange_seq: NumberPlaces = Field(description="Where every message has its number.", min_length=1)
    resets: Resets | None = Field(default=None, description="Where the numbers may begin anew.")


class Socket(_Model):
    """An address to connect to."""

    url: str = Field(
        description="`ws://` or `wss://`. `${NAME}` is replaced from the environment when connecting and never stored.",
        max_length=2000,
    )
    headers: dict[str, str] = Field(
        default={},
        description="Added to the handshake request. `${NAME}` as in `url`; never printed or stored.",
    )
    compression: Literal["deflate"] | None = Field(
        default=None,
        description="`deflate` offers permessage-deflate (RFC 7692), each message by itself.",
    )

    @field_validator("url")
    @classmethod
    def _websocket(cls, url: str) -> str:
        check_url(url)
        return url

    @field_validator("headers")
    @classmethod
    def _one_line(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name) or not value.isprintable():
                raise ValueError("expected header names of letters, digits and dashes, and values of one line")
        return headers

    def resolved_url(self) -> str:
        """The URL with `${NAME}` replaced from the environment, escaped as a URL needs it.

        Raises:
            ConfigError: a variable is not set.

        """
        return _ENV.sub(lambda found: quote(_environment(found[1]), safe=""), self.url)

    def resolved_headers(self) -> dict[str, str]:
        """The headers with `${NAME}` replaced from the environment.

        Raises:
            ConfigError: a variable is not set, or holds a line break.

        """
        headers = {}
        for name, value in self.headers.items():
            headers[name] = _ENV.sub(lambda found: _environment(found[1]), value)
            if not headers[name].isprintable():
                raise ConfigError(f"header {name}: the environment's value is not one line of printable text")
        return headers

    def public(self) -> Socket:
        """The same without secrets."""
        return self.model_copy(update={"url": mask_url(self.url), "headers": dict.fromkeys(self.headers, MASK)})


class Symbols(_Model):
    """What the exchange calls its instruments."""

    pattern: Regex = Field(description="Regular expression for a whole symbol as the exchange's payload writes it.")
    words: str = Field(description="The pattern in words, for error messages.", max_length=300)
    example: str = Field(description="A symbol that exists.", max_length=64)
    case: Case = Field(default=Case.UPPER, description="Letters of a symbol; users may type either.")
    topic_case: Case = Field(default=Case.KEEP, description="Letters of `{symbol}` inside topics.")
    pair: str | None = Field(
        default=None,
        description="How `BTC/USDT` is written here, from `{base}` and `{quote}`: `{base}{quote}`.",
        max_length=64,
    )

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, text: str) -> str:
        return _regex(text)

    def normalise(self, text: str) -> str:
        """The exchange's symbol for what a user typed.

        Raises:
            ConfigError: it does not look like one.

        """
        symbol = text.strip()
        if self.pair and symbol.count("/") == 1:
            base, quoted = symbol.split("/")
            symbol = self.pair.replace("{base}", base).replace("{quote}", quoted)
        symbol = self.case.apply(symbol)
        if not re.fullmatch(self.pattern, symbol):
            also = " or BTC/USDT" if self.pair else ""
            raise ConfigError(f"symbol {text!r}: expected {self.words}, as in {self.example}{also}")
        return symbol


class Channel(_Model):
    """A kind of message that can be subscribed to."""

    topic: Topic = Field(description="What to ask for; `{symbol}` and `{PARAMETER}` are replaced.")
    description: str = Field(default="", description="What it carries, for `wsrec feeds show`.", max_length=300)
    common: Literal["trades", "book", "bbo", "ticker"] | None = Field(
        default=None, description="The name that stands for this channel on every exchange."
    )
    default: bool = Field(default=False, description="Recorded when no channels are asked for.")
    socket: str | None = Field(
        default=None, description="Which of `sockets` carries it; needed where there are several."
    )
    parameters: dict[str, tuple[str, ...]] = Field(
        default={},
        description="Values of each `{PARAMETER}` in the channel's name and topic: one channel each.",
    )
    ack_key: Topic | None = Field(
        default=None,
        description="What an answer calls the topic, from `{symbol}` and `{PARAMETER}`; by default the topic.",
    )
    aliases: tuple[str, ...] = Field(
        default=(), description="Other names that its messages may carry as their channel."
    )
    symbol: Places | None = Field(default=None, description="In place of `fields.symbol`; `[]`: has none.")
    exchange_time: TimePlaces | None = Field(
        default=None, description="In place of `fields.exchange_time`; `[]`: has none."
    )
    time_unit: TimeUnit | None = Field(default=None, description="In place of `fields.time_unit`.")
    exchange_seq: NumberPlaces = Field(
        default=(), description="Where the sequence number is (the last one, of a range or of `[]`)."
    )
    seq_first: NumberPlaces = Field(
        default=(), description="Where the first number of a range is (rule `touching`; the first one, of `[]`)."
    )
    seq_previous: NumberPlaces = Field(
        default=(), description="Where the previous message's number is (rule `previous`)."
    )
    sequence: SequenceRule = Field(
        default=SequenceRule.NONE,
        description="How numbers follow one another: `none`, `previous`, `touching`, `next` or `increasing`.",
    )
    sequence_scope: Literal["symbol", "channel"] = Field(
        default="symbol",
        description="Whose messages one succession of numbers runs over: one `symbol` of the channel, or all of the "
        "`channel`. For all of a connection see the feed's `sequence`.",
    )
    overlap: bool = Field(
        default=False,
        description="With `touching`: a range may begin with numbers that were there before, as long as it goes on.",
    )
    repeats: bool = Field(
        default=False, description="Whether a message may have the number of the one before it once more."
    )
    resets: Resets | None = Field(default=None, description="Where the numbers may begin anew; by default nowhere.")
    quiet: float | None = Field(
        default=None,
        description="Seconds without a message after which a subscription counts as silent; by default it never does.",
        ge=0.1,
        le=86400,
    )

    @model_validator(mode="after")
    def _operands(self) -> Channel:
        needs = {SequenceRule.PREVIOUS: "seq_previous", SequenceRule.TOUCHING: "seq_first"}.get(self.sequence)
        if self.sequence is not SequenceRule.NONE and not self.exchange_seq:
            raise MisfitError(("sequence",), f"found {self.sequence.value!r}, expected exchange_seq beside it")
        if needs and not getattr(self, needs):
            raise MisfitError(("sequence",), f"found {self.sequence.value!r}, expected {needs} beside it")
        if self.overlap and self.sequence is not SequenceRule.TOUCHING:
            raise MisfitError(("overlap",), "found it without ranges, expected `sequence: touching` beside it")
        for key in ("repeats", "resets"):
            if getattr(self, key) and self.sequence is SequenceRule.NONE:
                raise MisfitError((key,), "found it without a rule, expected `sequence` beside it")
        if math.prod(map(len, self.parameters.values())) > _MAX_EXPANSION:
            raise MisfitError(("parameters",), f"found more than {_MAX_EXPANSION} combinations")
        for key in ("topic", "ack_key"):
            unknown = set(_PLACEHOLDER.findall(getattr(self, key) or "")) - {"symbol", *self.parameters}
            if unknown:
                found = f"found {{{min(unknown)}}}, expected {{symbol}} or one of parameters"
                raise MisfitError((key,), found)
        return self

    @property
    def per_symbol(self) -> bool:
        """Whether it is asked for once a symbol, or once."""
        return "{symbol}" in self.topic


class Subscribe(_Model):
    """The message that asks for topics."""

    template: str = Field(
        description="Its text; `{topics}` becomes a JSON array of topics, `{id}` a number that counts up.",
        max_length=2000,
    )
    batch: int = Field(description="Most topics in one message.", ge=1, le=100_000)

    @field_validator("template")
    @classmethod
    def _asks(cls, text: str) -> str:
        if "{topics}" not in text:
            raise ValueError("expected {topics} somewhere in the text")
        return text


class Limits(_Model):
    """What the exchange allows, so that it neither closes nor bans."""

    streams_per_connection: int = Field(description="Most topics on one connection.", ge=1, le=1_000_000)
    messages_per_second: float = Field(description="Most messages that we may send on a connection.", gt=0, le=1e6)
    send_interval: float | None = Field(
        default=None,
        description="Least time (s) between two messages that we send; by default from `messages_per_second`.",
        gt=0,
        le=3600,
    )
    connects: int = Field(description="Most connection attempts within `connects_interval`.", ge=1, le=1_000_000)
    connects_interval: float = Field(description="Seconds in which `connects` are counted.", gt=0, le=86400)

    @property
    def spacing(self) -> float:
        """Least time (s) between two messages that we send."""
        return self.send_interval or 1 / self.messages_per_second


class Ack(_Model):
    """How the exchange answers a subscription: by the request's id, by topics, or both."""

    id: KeyPath | None = Field(default=None, description="Where request and answer carry their id.")
    where: Where = Field(
        default={}, description="Which messages are answers; by default all that have the id, or a topic's key."
    )
    key: Places = Field(
        default=(),
        description="Where an answer names its topic, as the channel's `ack_key` does. With `[]`: it names several.",
    )
    accepted: KeyPath | None = Field(
        default=None,
        description="With `id`: where the answer lists what it accepts; the rest of the request is refused.",
    )
    data: bool = Field(
        default=False, description="Whether data is the answer: the first message that has the topic's key."
    )
    errors: tuple[Condition, ...] = Field(
        default=(), description="What makes an answer a refusal, each by itself; by default that `error_code` is there."
    )
    error_code: NumberPlaces = Field(default=(), description="Where a refusal's code may be.")
    error_message: NumberPlaces = Field(default=(), description="Where a refusal's text may be.")
    timeout: float = Field(
        default=10.0, description="Seconds after which a request counts as unanswered.", gt=0, le=3600
    )

    @model_validator(mode="after")
    def _matched(self) -> Ack:
        if self.id is None and not self.key:
            raise MisfitError((), "found neither id nor key, expected one of them")
        if self.accepted is not None and self.id is None:
            raise MisfitError(("accepted",), "found it without id, expected both")
        if self.data and not self.key:
            raise MisfitError(("data",), "found it without key, expected both")
        return self


class ClientKeepAlive(_Model):
    """What we have to send for the exchange not to close. Its own WebSocket pings are always answered."""

    every: float = Field(description="Seconds between two.", gt=0, le=86400)
    text: str | None = Field(
        default=None, description="A text message to send; without it, a WebSocket ping.", max_length=2000
    )


class Fields(_Model):
    """Where a message carries what. Places are tried in order; a channel may have its own."""

    channel: Places = Field(
        description="The channel's name. A name that is no channel's is an answer's or a heartbeat's."
    )
    symbol: Places = Field(default=(), description="The symbol.")
    exchange_time: TimePlaces = Field(default=(), description="The exchange's event time.")
    time_unit: TimeUnit = Field(
        default=TimeUnit.MS, description="Unit of `exchange_time`: `s`, `ms`, `us`, `ns` or `iso`."
    )
    ids: ChannelIds | None = Field(
        default=None, description="Ids that stand for channels on a connection, learned from its messages."
    )
    texts: dict[str, Name] = Field(
        default={}, description="Messages that are no JSON, whole: what channel they are of (`pong: pong`)."
    )
    binary: Literal["json", "gzip", "opaque"] = Field(
        default="json",
        description="What binary messages hold: `json`, `gzip` of JSON, or `opaque`: nothing is read of them. Text "
        "messages are JSON.",
    )
    binary_schema: str | None = Field(
        default=None,
        description="Name of the schema that binary messages are written by, for those who decode what was stored.",
        max_length=200,
    )

    @model_validator(mode="after")
    def _remembered(self) -> Fields:
        names = set(self.ids.names) if self.ids else set()
        for name, places in self.ids.names.items() if self.ids else ():
            for place in places:
                check_names(place, set(), ("ids", "names", name))
        for key in ("channel", "symbol"):
            for place in getattr(self, key):
                check_names(place, names, (key,))
        return self


def check_names(place: str | Extract, names: set[str], where: tuple[str, ...]) -> None:
    """Make sure that a place names only what `fields.ids` remembers.

    Raises:
        MisfitError: it names something else.

    """
    paths = (place,) if isinstance(place, str) else (place.path or "", *place.parts, *place.needs, *place.where)
    unknown = {path[1:] for path in paths if path.startswith("$")} - names
    if unknown:
        raise MisfitError(where, f"found ${min(unknown)}, expected one of fields.ids.names")


class Feed(_Model):
    """One exchange market."""

    name: str = Field(description="Its name in paths and columns: a-z, 0-9, dots, dashes.", pattern=NAME_PATTERN)
    description: str = Field(description="One line for `wsrec feeds list`.", max_length=300)
    homepage: str | None = Field(default=None, description="The exchange's own documentation.", max_length=500)
    sockets: dict[str, Socket] = Field(description="Addresses by name.", min_length=1)
    symbols: Symbols | None = Field(default=None, description="What symbols look like.")
    default_symbols: tuple[str, ...] = Field(default=(), description="Recorded when no symbols are asked for.")
    channels: dict[str, Channel] = Field(
        default={}, description="What can be subscribed to, by the exchange's own names."
    )
    subscribe: Subscribe | None = Field(default=None, description="How to ask for topics; needed with channels.")
    limits: Limits | None = Field(default=None, description="What the exchange allows; needed with channels.")
    ack: Ack | None = Field(
        default=None, description="How subscriptions are answered; without it answers are not checked."
    )
    keep_alive: ClientKeepAlive | None = Field(default=None, description="What we have to send to stay connected.")
    fields: Fields | None = Field(
        default=None, description="Where messages carry channel, symbol, time; without it, nowhere."
    )
    sequence: ConnectionSequence | None = Field(
        default=None,
        description="Numbers that count all messages of a connection; channels have none of their own then.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Feed:
        if self.channels:
            for key in ("subscribe", "limits"):
                if getattr(self, key) is None:
                    raise MisfitError(("channels",), f"found channels without {key}, expected both")
        if any(channel.per_symbol for channel in self.channels.values()) and self.symbols is None:
            raise MisfitError(("channels",), "found topics with {symbol}, expected symbols beside them")
        if self.sequence is not None and self.fields is None:
            raise MisfitError(("sequence",), "found it without fields, expected them beside it")
        common: dict[str, str] = {}
        for name, channel in self.channels.items():
            where = ("channels", name)
            if self.sequence is not None and channel.exchange_seq:
                raise MisfitError((*where, "exchange_seq"), "found it beside the feed's sequence, expected one of them")
            if channel.socket is None and len(self.sockets) > 1:
                raise MisfitError(where, f"found no socket, expected one of {', '.join(self.sockets)}")
            if channel.socket is not None and channel.socket not in self.sockets:
                found = f"found {channel.socket!r}, expected one of {', '.join(self.sockets)}"
                raise MisfitError((*where, "socket"), found)
            for place in channel.symbol or ():
                check_names(
                    place, set(self.fields.ids.names) if self.fields and self.fields.ids else set(), (*where, "symbol")
                )
            if set(_PLACEHOLDER.findall(name)) != set(channel.parameters):
                raise MisfitError(where, "found a name that does not hold each {PARAMETER} of parameters, and no other")
            if channel.common and common.setdefault(channel.common, name) != name:
                found = f"found {channel.common!r}, which is {common[channel.common]} already"
                raise MisfitError((*where, "common"), found)
        for symbol in self.default_symbols:
            if self.symbols is None:
                raise MisfitError(("default_symbols",), "found no symbols, expected them beside it")
            try:
                self.symbols.normalise(symbol)
            except ConfigError as error:
                raise MisfitError(("default_symbols",), f"found {error}") from error
        return self

    @cached_property
    def channel_table(self) -> dict[str, Channel]:
        """Every channel by its full name, parameters filled in."""
        table: dict[str, Channel] = {}
        for template, channel in self.channels.items():
            for values in itertools.product(*channel.parameters.values()):
                name, topic, ack_key = template, channel.topic, channel.ack_key
                for key, value in zip(channel.parameters, values, strict=True):
                    name = name.replace(f"{{{key}}}", value)
                    topic = topic.replace(f"{{{key}}}", value)
                    ack_key = ack_key and ack_key.replace(f"{{{key}}}", value)
                table[name] = channel.model_copy(update={"topic": topic, "ack_key": ack_key, "parameters": {}})
        return table

    @cached_property
    def channel_by_any_name(self) -> dict[str, Channel]:
        """`channel_table` and the channels' aliases, for names that messages carry; a full name goes first."""
        table = dict(self.channel_table)
        for channel in self.channels.values():
            for alias in channel.aliases:
                table.setdefault(alias, channel)
        return table

    def sequence_rule(self, channel: str | None) -> SequenceRule:
        """The rule that messages of a channel, by any name of it or none, are held against."""
        if self.sequence is not None:
            return SequenceRule.NEXT
        found = self.channel_by_any_name.get(channel) if channel else None
        return found.sequence if found else SequenceRule.NONE

    @property
    def default_channels(self) -> tuple[str, ...]:
        """Full names of the channels that are recorded when none are asked for."""
        return tuple(name for name, channel in self.channel_table.items() if channel.default)

    def public(self) -> Feed:
        """The same feed without secrets, to be stored or shown; still reads messages, no longer connects."""
        return self.model_copy(update={"sockets": {key: s.public() for key, s in self.sockets.items()}})

    def public_config(self) -> dict[str, Any]:
        """`public()` as plain data; `Feed.model_validate` reads it back."""
        return self.public().model_dump(mode="json", exclude_defaults=True)


def check_url(url: str) -> None:
    """Make sure that `url` is an address for WebSocket.

    Raises:
        ValueError: it is not; the text says what was expected, without repeating the URL.

    """
    expected = "expected ws://HOST/PATH or wss://HOST/PATH, without a #fragment"
    # What the environment holds is filled in later; for the check any text does (a number, so that it may be a port).
    url = _ENV.sub("1", url)
    if not url.isprintable() or any(c.isspace() for c in url):
        raise ValueError(expected)
    try:
        parse_uri(url)
    except (InvalidURI, ValueError, AssertionError) as error:
        raise ValueError(expected) from error


def mask_url(url: str) -> str:
    """`url` with the user's name and password and the values of secret-looking parameters replaced."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return MASK
    userinfo, at, host = parts.netloc.rpartition("@")
    netloc = f"{MASK}:{MASK}@{host}" if at and userinfo else host
    # Kept as written, not decoded and encoded again: what is stored shall be what was sent.
    pairs = re.split(r"([&;])", parts.query)
    for index, pair in enumerate(pairs):
        name, equals, value = pair.partition("=")
        if equals and value and not _ENV.fullmatch(value) and _SECRET_NAME.search(name):
            pairs[index] = f"{name}={MASK}"
    return urlunsplit(parts._replace(netloc=netloc, query="".join(pairs)))


def feed_schema() -> dict[str, Any]:
    """The JSON Schema of a feed YAML, for editors."""
    schema = Feed.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "wsrec feed"}


def _environment(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise ConfigError(f"${{{name}}}: the environment has no {name}; set it, or take it out of the feed")
    return value
