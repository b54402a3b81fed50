"""The feed YAML: the structs that define its keys, their types and their documentation.

`configs/feed.schema.json` (for editors) and the tables in `docs/feeds.md` are made from these models. Values that hold
`${NAME}` are read from the environment when connections are planned, never before, so that a `Feed` holds no secret
that its author did not write into it.
"""

from __future__ import annotations

import datetime
import itertools
import json
import math
import os
import re
from collections.abc import Collection, Sequence
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from websockets.exceptions import InvalidURI
from websockets.uri import parse_uri

from wsrec.feed import placeholders
from wsrec.feed.masking import ENVIRONMENT, MASK, mask_tail, mask_url, url_parts, url_parts_of_tail
from wsrec.feed.paths import PATH_PATTERN, TEXT_PATH_PATTERN, Every, scalar_text, steps
from wsrec.feed.ping_defaults import PING_INTERVAL, PING_TIMEOUT
from wsrec.feed.pings import VALUE
from wsrec.net.proxy import parse_proxy

_MAX_EXPANSION = 1000
_JOINED = re.compile(r"\{((?:[^{}]|\.\{\})+)\}")
_MAX_URL = 4000

NAME_PATTERN = r"^[a-z0-9][a-z0-9.-]{0,63}$"
NAME_IN_WORDS = "a-z, 0-9, dots and dashes, at most 64"
KeyPath = Annotated[str, Field(pattern=PATH_PATTERN, max_length=200)]
TextPath = Annotated[str, Field(pattern=TEXT_PATH_PATTERN, max_length=200)]
Regex = Annotated[str, Field(max_length=500)]
Topic = Annotated[str, Field(min_length=1, max_length=200)]
Template = Annotated[str, Field(min_length=1, max_length=4000)]
Name = Annotated[str, Field(min_length=1, max_length=128)]


class ConfigError(Exception):
    """A feed, a target or an option that cannot be used. The text is for the user: what was found, what to do."""


class ConflictError(ValueError):
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
    """Not checked."""
    PREVIOUS = "previous"
    """`seq_previous` equals the previous message's `exchange_seq`."""
    TOUCHING = "touching"
    """`seq_first` equals the previous message's `exchange_seq` plus one: ranges that touch."""
    NEXT = "next"
    """`exchange_seq` equals the previous one plus one."""
    INCREASING = "increasing"
    """`exchange_seq` is above the previous one: shows disorder, not loss."""
    CHECKSUM = "checksum"
    """No numbers: the `checksum` in a message equals that of the reconstructed order book."""


class Action(StrEnum):
    """Automatic action for a stream."""

    NONE = "none"
    """Reports only."""
    SNAPSHOT = "snapshot"
    """Fetches the channel's `snapshot`."""
    RESUBSCRIBE = "resubscribe"
    """Requests the topic again."""
    RENEW = "renew"
    """Replaces the connection."""


class SequenceScope(StrEnum):
    """Scope of one sequence of numbers on a connection."""

    SYMBOL = "symbol"
    """Each symbol of the channel has its own."""
    CHANNEL = "channel"
    """All symbols of the channel share one."""
    CONNECTION = "connection"
    """All messages of the connection share one (the feed's `sequence`, never a channel's)."""


class TimeUnit(StrEnum):
    """Unit of time since the Unix epoch; `iso` is RFC 3339 text."""

    S = "s"
    MS = "ms"
    US = "us"
    NS = "ns"
    ISO = "iso"


class Case(StrEnum):
    """Letter case of a symbol."""

    LOWER = "lower"
    UPPER = "upper"
    KEEP = "keep"

    def apply(self, text: str) -> str:
        """`text` in this case."""
        return text.lower() if self is Case.LOWER else text.upper() if self is Case.UPPER else text


def _json_of(text: str, values: dict[str, Any], key: str) -> str:
    """`text` with `values` substituted; the result must be JSON."""
    unknown = placeholders.names(text) - values.keys() - placeholders.WHEN_SENT
    if unknown:
        known = ", ".join(f"{{{name}}}" for name in sorted({*values, *placeholders.WHEN_SENT}))
        raise ConflictError((key,), f"found {{{min(unknown)}}}, expected one of {known}")
    filled = placeholders.fill_when_sent(placeholders.fill(text, values))
    try:
        json.loads(filled)
    except (ValueError, RecursionError) as error:
        raise ConflictError((key,), f"found text that is no JSON once it is filled in ({error})") from error
    return filled


def _only_when_sent(text: str, key: str, more: set[str] | frozenset[str] = frozenset()) -> None:
    known = {"id", *placeholders.WHEN_SENT, *more}
    unknown = placeholders.names(text) - known
    if unknown:
        listed = ", ".join(f"{{{name}}}" for name in sorted(known))
        raise ConflictError((key,), f"found {{{min(unknown)}}}, expected one of {listed}")


def _check_https(url: str) -> str:
    parts = urlsplit(url)
    plain = url.isprintable() and not any(c.isspace() or c in "{}" for c in url)
    if not plain or parts.scheme != "https" or not parts.hostname or parts.username or parts.fragment:
        raise ValueError("expected https://HOST/PATH")
    return url


def _regex(text: str) -> str:
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"expected a regular expression ({error})") from error
    return text


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


def _texts(value: Any) -> Any:
    """One string, number or boolean, or a list of them, as the strings used for comparison."""
    return tuple(scalar_text(each) or each for each in (value if isinstance(value, list | tuple) else (value,)))


Texts = Annotated[tuple[Annotated[str, Field(max_length=200)], ...], BeforeValidator(_texts)]
Where = dict[TextPath, Texts]


class Extract(_Model):
    """A string in the message, or a constant. Exactly one of `path`, `join` and `value` is set."""

    path: TextPath | None = Field(default=None, description="Its path: `data.s`, `data[0].s`, `data[].s`, `[2]`.")
    join: str | None = Field(
        default=None,
        description="Several strings joined: `{arg.channel}.{arg.instId}`. No value if one of them is missing.",
        max_length=300,
    )
    value: Name | None = Field(default=None, description="This string, if `needs` and `where` hold.")
    needs: tuple[TextPath, ...] = Field(default=(), description="Applies only if all these are present and not null.")
    where: Where = Field(
        default={}, description="Applies only if the value at each path is the given string, or one of those given."
    )
    capture: Regex | None = Field(
        default=None,
        description="Regular expression: its groups, joined. The whole string if it does not match.",
    )
    optional: bool = Field(
        default=False,
        description="With `capture`: no value if it does not match, instead of the whole string.",
    )
    map: dict[str, Name] | None = Field(
        default=None, description="Replacements of the string; a string that is not listed is no value."
    )
    case: Case = Field(default=Case.KEEP, description="Change the letter case of the result.")

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
            raise ConflictError((given[0],) if given else (), f"found {found}, expected one of path, join and value")
        if self.value is not None and not (self.needs or self.where):
            raise ConflictError(("value",), "found it without a condition, expected needs or where beside it")
        if self.join is not None and not self.parts:
            raise ConflictError(
                ("join",), f"found {self.join!r}, expected paths in braces, as in `{{channel}}.{{type}}`"
            )
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
        """The result for `text`, or None."""
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
    """A time in the message whose format differs from the feed's others."""

    path: KeyPath = Field(description="Its path: `tick.ts`.")
    unit: TimeUnit | None = Field(default=None, description="In place of `time_unit`.")
    offset: str | None = Field(
        default=None,
        description="With `iso`: the zone of times without one, such as `+09:00`; by default UTC.",
        pattern=r"^[+-][0-9]{2}:[0-5][0-9]$",
    )


Places = tuple[TextPath | Extract, ...]
TimePlaces = tuple[KeyPath | TimePlace, ...]
NumberPlaces = tuple[KeyPath, ...]


class Condition(_Model):
    """A condition on a message."""

    path: KeyPath = Field(description="Path of the value. Without another key: it is present and not null.")
    equals: Texts | None = Field(
        default=None, description="The value is this string, number or boolean, or one of these."
    )
    differs: Texts | None = Field(default=None, description="The value is present and none of these.")
    at_least: int | None = Field(default=None, description="The value is a number of at least this.")

    @model_validator(mode="after")
    def _one_test(self) -> Condition:
        given = [key for key in ("equals", "differs", "at_least") if getattr(self, key) is not None]
        if len(given) > 1:
            raise ConflictError((given[1],), f"found it beside {given[0]}, expected one of them")
        return self


class ChannelIds(_Model):
    """Numeric ids that the exchange assigns to a channel and symbol on one connection."""

    where: Where = Field(description="Which messages announce one: `{event: subscribed}`.", min_length=1)
    id: KeyPath = Field(description="Path of the id in an announcement: `chanId`.")
    names: dict[Annotated[str, Field(pattern=r"^[a-z_]+$")], Places] = Field(
        description="Values stored with the id, by name: `{channel: [channel]}`; places refer to it as `$channel`.",
        min_length=1,
    )
    at: KeyPath = Field(description="Path of the id in all other messages: `[0]`.")


def _text(value: Any) -> Any:
    """A string, number or boolean as the string used for comparison."""
    return scalar_text(value) or value


class Match(_Model):
    """A required string, number or boolean in the message."""

    path: KeyPath = Field(description="Keys from the top of the message, joined by dots: `type`.")
    match: Annotated[str, BeforeValidator(_text)] = Field(
        description="The exact string, number or boolean: `snapshot`, `true`.",
        min_length=1,
        max_length=100,
    )


class Resets(_Model):
    """Legal restarts of the numbers: an event `sequence_reset` instead of a gap."""

    numbers: tuple[int, ...] = Field(
        default=(),
        description="Start values: of `exchange_seq`; of `seq_first` or `seq_previous` if the rule uses these.",
        max_length=16,
    )
    messages: tuple[Match, ...] = Field(
        default=(),
        description="A message that matches one of these starts a new sequence. If it lacks the fields of the rule, it "
        "is not compared, and an event `sequence_reset` records it.",
        max_length=16,
    )


class Late(_Model):
    """Messages of a connection that are numbered early and arrive after higher numbers."""

    where: Where = Field(
        description="The value at each path must be the given string, or one of those given: `{type: subscribed}`.",
        min_length=1,
    )
    within: int = Field(
        default=1000,
        description="How far the numbers advance before a skipped one counts as missing. The end of the connection "
        "also decides.",
        ge=1,
        le=100_000,
    )


class Evidence(_Model):
    """Evidence for a sequence rule."""

    source: str = Field(description="The documentation, or the recording and its date.", min_length=1, max_length=300)
    held: int | None = Field(
        default=None, description="Consecutive pairs of the recording for which the rule held.", ge=0, le=1 << 53
    )
    seen: int | None = Field(default=None, description="Consecutive pairs in the recording.", ge=1, le=1 << 53)

    @model_validator(mode="after")
    def _counted(self) -> Evidence:
        if (self.held is None) != (self.seen is None):
            raise ConflictError(
                ("held",) if self.seen is None else ("seen",), "found one of held and seen, expected both"
            )
        if self.held is not None and self.seen is not None and self.held > self.seen:
            raise ConflictError(("held",), f"found {self.held}, expected no more than seen")
        return self

    def __str__(self) -> str:
        return self.source if self.held is None else f"{self.held:,} of {self.seen:,}: {self.source}"


class ConnectionSequence(_Model):
    """Numbers that increase by one per message of a connection, across all channels."""

    exchange_seq: NumberPlaces = Field(description="Paths of the number in every message.", min_length=1)
    resets: Resets | None = Field(default=None, description="Legal restarts of the numbers.")
    late: Late | None = Field(
        default=None,
        description="Messages that may arrive late because they are numbered when requested. Skipped numbers count as "
        "a gap only if these do not fill them.",
    )
    evidence: tuple[Evidence, ...] = Field(default=(), description="Evidence for it.", max_length=16)


class Token(_Model):
    """An HTTPS request before each connection, reconnections included, whose response completes the URL."""

    url: str = Field(
        description="`https://`, requested before each connection. Redirects are not followed.", max_length=2000
    )
    method: Literal["GET", "POST"] = Field(default="POST", description="`GET` or `POST`; a `POST` has no body.")
    token: KeyPath = Field(description="Path of the token in the response: `{token}` in the socket's `url`.")
    endpoint: KeyPath | None = Field(
        default=None,
        description="Path of the address in the response, which replaces all of `url` before its `?`: "
        "`data.instanceServers[0].endpoint`.",
    )

    @field_validator("url")
    @classmethod
    def _https(cls, url: str) -> str:
        return _check_https(url)


class Socket(_Model):
    """An address to connect to."""

    url: str = Field(
        description="`ws://` or `wss://`. `${NAME}` is replaced from the environment when connecting and never stored; "
        "`{token}` is the result of `token`, `{uuid}` a new random id.",
        max_length=2000,
    )
    token: Token | None = Field(default=None, description="The request for `{token}` in `url`.")
    symbols: Regex | None = Field(
        default=None,
        description="Regular expression: only symbols that it matches as a whole are requested here. For feeds whose "
        "markets have separate addresses.",
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

    @field_validator("symbols")
    @classmethod
    def _compiles(cls, text: str | None) -> str | None:
        return text if text is None else _regex(text)

    @model_validator(mode="after")
    def _token_in_its_place(self) -> Socket:
        unknown = placeholders.names(ENVIRONMENT.sub("", self.url)) - {"token", "uuid"}
        if unknown:
            raise ConflictError(("url",), f"found {{{min(unknown)}}}, expected {{token}} or {{uuid}}")
        if ("token" in placeholders.names(self.url)) != (self.token is not None):
            raise ConflictError(("url",), "found one of {token} and the key token, expected both or neither")
        return self

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
        return ENVIRONMENT.sub(lambda found: quote(_environment(found[1]), safe=""), self.url)

    def resolved_headers(self) -> dict[str, str]:
        """The headers with `${NAME}` replaced from the environment.

        Raises:
            ConfigError: a variable is not set, or holds a line break.

        """
        headers = {}
        for name, value in self.headers.items():
            headers[name] = ENVIRONMENT.sub(lambda found: _environment(found[1]), value)
            if not headers[name].isprintable():
                raise ConfigError(f"header {name}: the environment's value is not one line of printable text")
        return headers

    def takes(self, symbol: str) -> bool:
        """Whether a symbol, as the exchange's payload writes it, is asked for here."""
        return self.symbols is None or re.fullmatch(self.symbols, symbol) is not None

    def public(self, parts: Collection[str]) -> Socket:
        """The same without secrets; `parts` of its addresses are none."""
        token = self.token and _masked(self.token, parts)
        headers = dict.fromkeys(self.headers, MASK)
        return _masked(self, parts).model_copy(update={"headers": headers, "token": token})


class Listing(_Model):
    """The exchange's own list of its symbols, over HTTPS: for `--symbols all` and completion."""

    url: str = Field(
        description="`https://`; the response is cached for a day. Redirects are not followed.", max_length=2000
    )
    body: str | None = Field(default=None, description="JSON to send with `POST`; without it, `GET`.", max_length=2000)
    items: KeyPath | None = Field(
        default=None,
        description="Path of the array, or of the object whose values are the items; by default the whole response.",
    )
    symbol: KeyPath | None = Field(
        default=None, description="Path of the symbol in an item; by default the item itself."
    )
    where: dict[KeyPath, Texts] = Field(
        default={}, description="Only items with this string, or one of these, at the path: `{status: TRADING}`."
    )
    write: str = Field(
        default="{symbol}",
        description="How the symbol is made of what is found there: `t{symbol}`. Pairs as users type them, such as "
        "`BTC/USDT`, are translated as theirs are.",
        max_length=64,
    )

    @field_validator("url")
    @classmethod
    def _https(cls, url: str) -> str:
        return _check_https(url)

    @field_validator("write")
    @classmethod
    def _holds_it(cls, text: str) -> str:
        if placeholders.names(text) != {"symbol"}:
            raise ValueError("expected {symbol} in it, and no other placeholder")
        return text


class Symbols(_Model):
    """The exchange's notation of symbols."""

    pattern: Regex = Field(description="Regular expression for a whole symbol as the exchange's payload writes it.")
    words: str = Field(description="The pattern in words, for error messages.", max_length=300)
    example: str = Field(description="A symbol that exists.", max_length=64)
    case: Case = Field(
        default=Case.UPPER,
        description="Case of a symbol; users may type either. `keep`: as typed, in capitals if only that matches.",
    )
    topic_case: Case = Field(default=Case.KEEP, description="Letters of `{symbol}` inside topics.")
    pair: str | None = Field(
        default=None,
        description="How `BTC/USDT` is written here, from `{base}` and `{quote}`: `{base}{quote}`, `{quote}-{base}`.",
        max_length=64,
    )
    perpetual: str | None = Field(
        default=None,
        description="How `BTC/USDT:USDT`, the perpetual settled in what follows the colon, is written here, from "
        "`{base}`, `{quote}` and `{settle}`: `{base}-{quote}-SWAP`.",
        max_length=64,
    )
    currencies: dict[str, str] = Field(
        default={}, description="The exchange's names of currencies in pairs and perpetuals: `{BTC: XBT}`."
    )
    names: dict[str, str] = Field(
        default={}, description="Pairs and perpetuals that follow no rule: `{BTC/USD:BTC: XBTUSD}`."
    )
    listing: Listing | None = Field(
        default=None, description="Where the exchange lists its symbols, for `--symbols all` and completion."
    )

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, text: str) -> str:
        return _regex(text)

    @model_validator(mode="after")
    def _placeholders(self) -> Symbols:
        for key, known in (("pair", {"base", "quote"}), ("perpetual", {"base", "quote", "settle"})):
            unknown = placeholders.names(getattr(self, key) or "") - known
            if unknown:
                raise ConflictError((key,), f"found {{{min(unknown)}}}, expected {', '.join(sorted(known))} in braces")
        return self

    def normalise(self, text: str) -> str:
        """The exchange's symbol for what a user typed.

        Raises:
            ConfigError: it does not look like one.

        """
        symbol = self.case.apply(self._translated(text.strip()))
        if self.case is Case.KEEP and not re.fullmatch(self.pattern, symbol):
            symbol = symbol.upper()
        if not re.fullmatch(self.pattern, symbol):
            forms = (self.pair and "BTC/USDT", self.perpetual and "BTC/USDT:USDT")
            also = "".join(f" or {form}" for form in forms if form)
            raise ConfigError(f"symbol {text!r}: expected {self.words}, as in {self.example}{also}")
        return symbol

    def _translated(self, symbol: str) -> str:
        """The symbol of a pair or perpetual in the notation of users; anything else stays."""
        named = self.names.get(symbol) or self.names.get(symbol.upper())
        if named:
            return named
        pair, colon, settle = symbol.partition(":")
        written = self.perpetual if colon else self.pair
        if not written or pair.count("/") != 1:
            return symbol
        base, quoted = pair.split("/")
        parts = {"base": base, "quote": quoted, "settle": settle}
        called = {key: self.currencies.get(part.upper(), part) for key, part in parts.items()}
        return placeholders.PLACEHOLDER.sub(lambda found: called[found[1]], written)


_Addressed = TypeVar("_Addressed", Socket, Token, Listing, "Snapshot")


class Subscribe(_Model):
    """How topics are requested: in a message (`message`), or in the address (`url`)."""

    message: Template | None = Field(
        default=None,
        description="Text of a message, with placeholders (see above): `{topics}`, `{arguments}`, `{symbols}`, "
        "`{channel}`, `{topic}`, `{symbol}`, `{id}`, `{time_ms}`, `{time_s}`, `{uuid}`.",
    )
    argument: Template | None = Field(
        default=None,
        description="JSON of each item of `{arguments}`, from `{topic}`, `{channel}`, `{symbol}`: one a topic; with "
        "`{symbols}`: one a channel.",
    )
    batch: int | None = Field(
        default=None, description="Most topics in one message; by default no limit.", ge=1, le=100_000
    )
    max_bytes: int | None = Field(
        default=None,
        description="Most bytes of a message; with `url`, of the whole address (4000 by default).",
        ge=100,
        le=10_000_000,
    )
    url: Template | None = Field(
        default=None, description="In place of `message`: what follows the socket's `url`: `?streams={topics:/}`."
    )
    unsubscribe: Template | None = Field(
        default=None,
        description="A message to send before `message` is repeated, with the same placeholders, for exchanges that "
        "refuse a second subscription.",
    )
    replaces: bool = Field(
        default=False,
        description="Whether a message replaces the one before it: then one message has all topics of a connection.",
    )

    def public(self, parts: Collection[str]) -> Subscribe:
        """The same without secrets; `parts` of its address are none."""
        return self if self.url is None else self.model_copy(update={"url": mask_tail(self.url, parts)})

    @property
    def by_channel(self) -> bool:
        """Whether a message holds topics of one channel only."""
        if self.message is None or self.by_topic:
            return False
        return bool(placeholders.names(self.message) & {"channel", "symbols"})

    @property
    def by_topic(self) -> bool:
        """Whether a message requests a single topic."""
        if self.message is None:
            return False
        names = placeholders.names(self.message)
        return bool(names & {"topic", "symbol"}) or not names & {"topics", "arguments", "symbols"}

    @property
    def most(self) -> int | None:
        """Most topics in one message."""
        return 1 if self.by_topic else self.batch

    @property
    def longest(self) -> int | None:
        """Most bytes of a message or an address."""
        return self.max_bytes or (_MAX_URL if self.url else None)

    @model_validator(mode="after")
    def _asks(self) -> Subscribe:
        if (self.message is None) == (self.url is None):
            raise ConflictError((), "found both or none of message and url, expected one of them")
        if self.url is not None:
            if placeholders.names(self.url) != {"topics"}:
                raise ConflictError(("url",), "found other placeholders or none, expected {topics:/} or the like")
            for key in ("argument", "batch", "unsubscribe", "replaces"):
                if getattr(self, key):
                    raise ConflictError((key,), "found it beside url, expected it with message only")
            return self
        if self.by_topic and (self.batch or 1) > 1:
            raise ConflictError(("batch",), "found more than 1, expected none: the message asks for one topic")
        if self.by_topic and self.replaces:
            raise ConflictError(("replaces",), "found a message of one topic, expected one for many")
        return self

    def check(self, argument: str | None, parameters: frozenset[str]) -> None:
        """Make sure that the templates expand to JSON.

        Args:
            argument: a channel's own, or this one's.
            parameters: a channel's, which may stand in the templates too.

        Raises:
            ConflictError: it is not, or a placeholder is unknown; of the key of this model.

        """
        if self.message is None:
            return
        if "arguments" in placeholders.names(self.message) and argument is None:
            raise ConflictError(("message",), "found {arguments}, expected argument beside it")
        texts = dict.fromkeys(("topic", "channel", "symbol", *parameters), "1")
        lists = {"topics": ["1"], "symbols": ["1"]}
        if argument is not None:
            argument = _json_of(argument, {**texts, "symbols": ["1"]}, "argument")
        arguments = {} if argument is None else {"arguments": [placeholders.Raw(argument)]}
        for key in ("message", "unsubscribe"):
            _json_of(getattr(self, key) or "0", {**texts, **lists, **arguments, "id": 1}, key)


class Snapshot(_Model):
    """A snapshot of a stream's state over HTTP, without a key: a row with direction `rest`."""

    url: str = Field(
        description="`https://`; `{symbol}` is replaced by the symbol as in messages.",
        max_length=2000,
    )
    at_start: bool = Field(default=False, description="Fetch one whenever a subscription begins.")
    interval: float = Field(
        default=1.0, description="Least time (s) between a request and the feed's next one.", ge=0.05, le=3600
    )
    exchange_seq: NumberPlaces = Field(default=(), description="Paths of its sequence number: `lastUpdateId`.")

    @field_validator("url")
    @classmethod
    def _https(cls, url: str) -> str:
        expected = "expected https://HOST/PATH without user, password or ${NAME}, and no placeholder but {symbol}"
        filled = url.replace("{symbol}", "x")
        try:
            parts = urlsplit(filled)
            usable = parts.hostname and (parts.port is None or parts.port > 0) and not parts.username
        except ValueError:
            usable = False
        plain = filled.isascii() and filled.isprintable() and not re.search(r"[\s{}#]", filled)
        if not usable or not plain:
            raise ValueError(expected)
        local = parts.hostname in ("localhost", "127.0.0.1", "::1")
        if parts.scheme != "https" and not (local and parts.scheme == "http"):
            raise ValueError(expected)
        return url

    def filled(self, symbol: str | None, url: str | None = None) -> str:
        """The URL of a symbol's snapshot, or of `url` in place of this one."""
        return (url or self.url).replace("{symbol}", quote(symbol or "", safe=""))


class Checksum(_Model):
    """An order book's checksum in messages without numbers, compared with the reconstructed book."""

    algorithm: Literal["kraken"] = Field(
        description="`kraken`: CRC-32 of the best asks from the lowest price up, then the best bids from the highest "
        "down; of each level price and size, without the decimal point and without zeros in front."
    )
    value: KeyPath = Field(description="Path of the checksum; a message without it is applied and not checked.")
    snapshot: Condition = Field(description="Messages that contain the whole book and restart it.")
    asks: tuple[KeyPath, ...] = Field(
        description="Paths of arrays of asks, in snapshots and in changes: all that are present are applied.",
        min_length=1,
        max_length=8,
    )
    bids: tuple[KeyPath, ...] = Field(description="The same of bids.", min_length=1, max_length=8)
    price: KeyPath = Field(default="price", description="The price in a level: a key, or an index such as `[0]`.")
    size: KeyPath = Field(default="size", description="The size in a level; a level of size 0 is removed.")
    levels: int = Field(default=10, description="How many levels of each side are in the checksum.", ge=1, le=1000)
    depth: int = Field(description="Levels of each side to keep: the subscribed depth.", ge=1, le=10_000)

    @model_validator(mode="after")
    def _of_a_level(self) -> Checksum:
        for key in ("price", "size"):
            path = steps(getattr(self, key))
            if len(path) != 1 or isinstance(path[0], Every):
                raise ConflictError((key,), f"found {getattr(self, key)!r}, expected one key, or a place as [0]")
        if self.levels > self.depth:
            raise ConflictError(("levels",), f"found {self.levels}, expected no more than depth")
        return self


class Channel(_Model):
    """A kind of message that can be subscribed to."""

    topic: Topic = Field(
        description="The topic to request; `{symbol}` and `{PARAMETER}` are replaced. If `subscribe` does not send it, "
        "its name in events and reports.",
    )
    argument: Template | None = Field(default=None, description="In place of `subscribe.argument`.")
    channel_alias: Topic | None = Field(
        default=None, description="What `{channel}` in `subscribe` stands for; by default the channel's name."
    )
    subscribe: Subscribe | None = Field(default=None, description="In place of the feed's `subscribe`.")
    always: bool = Field(
        default=False,
        description="Always subscribed in addition; without `{symbol}` once per connection. For heartbeats.",
    )
    weight: float = Field(
        default=1.0,
        description="Message rate of a topic relative to other channels: used to balance connections.",
        gt=0,
        le=1e6,
    )
    description: str = Field(default="", description="What it carries, for `wsrec feeds show`.", max_length=300)
    common: Literal["trades", "book", "bbo", "ticker"] | None = Field(
        default=None, description="The generic name of this channel."
    )
    default: bool = Field(default=False, description="Recorded when no channels are requested.")
    socket: str | None = Field(
        default=None, description="Which of `sockets` carries it; needed where there are several."
    )
    parameters: dict[str, tuple[str, ...]] = Field(
        default={},
        description="Values of each `{PARAMETER}` in the channel's name and topic: one channel each.",
    )
    ack_key: Topic | None = Field(
        default=None,
        description="The topic's name in acknowledgements, from `{symbol}` and `{PARAMETER}`; by default the topic.",
    )
    aliases: tuple[str, ...] = Field(
        default=(), description="Other names that its messages may carry as their channel."
    )
    symbol: Places | None = Field(default=None, description="In place of `fields.symbol`; `[]`: has none.")
    family: bool = Field(
        default=False,
        description="Whether `{symbol}` of the topic stands for all symbols that begin with it and a dash: "
        "`publicTrade.BTC` delivers trades of `BTC-26SEP25-60000-C`.",
    )
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
        description="How numbers follow one another: `none`, `previous`, `touching`, `next` or `increasing`; "
        "`checksum`: there are none, see that key.",
    )
    evidence: tuple[Evidence, ...] = Field(
        default=(),
        description="Evidence for the rule, for the catalogue page. A rule without it counts as unverified.",
        max_length=16,
    )
    checksum: Checksum | None = Field(
        default=None, description="With the rule `checksum`: where the order book and its checksum are."
    )
    sequence_scope: Literal["symbol", "channel"] = Field(
        default="symbol",
        description="Scope of one sequence of numbers: one `symbol` of the channel, or all of the "
        "`channel`. For all of a connection see the feed's `sequence`.",
    )
    overlap: bool = Field(
        default=False,
        description="With `touching`: a range may overlap earlier numbers, as long as it extends to new ones.",
    )
    repeats: bool = Field(default=False, description="Whether a message may repeat its predecessor's number.")
    resets: Resets | None = Field(default=None, description="Legal restarts of the numbers; by default none.")
    idle_timeout: float | None = Field(
        default=None,
        description="Seconds without a message after which a subscription counts as stale; by default never.",
        ge=0.1,
        le=86400,
    )
    on_stale: Literal[Action.NONE, Action.RESUBSCRIBE, Action.RENEW] = Field(
        default=Action.NONE,
        description="What to do after `idle_timeout` without a message: `none`, `resubscribe` or `renew` "
        "(the connection).",
    )
    on_gap: Action = Field(
        default=Action.NONE,
        description="What to do after a gap: `none`, `snapshot`, `resubscribe` or `renew` (the connection).",
    )
    snapshot: Snapshot | None = Field(
        default=None, description="Where to fetch the whole state over HTTP, and when; see also `on_gap`."
    )

    @model_validator(mode="after")
    def _operands(self) -> Channel:
        needs = {SequenceRule.PREVIOUS: "seq_previous", SequenceRule.TOUCHING: "seq_first"}.get(self.sequence)
        checksum = self.sequence is SequenceRule.CHECKSUM
        if checksum != (self.checksum is not None):
            raise ConflictError(("checksum",), "found one of it and `sequence: checksum`, expected both or neither")
        if self.sequence is not SequenceRule.NONE and not checksum and not self.exchange_seq:
            raise ConflictError(("sequence",), f"found {self.sequence.value!r}, expected exchange_seq beside it")
        if needs and not getattr(self, needs):
            raise ConflictError(("sequence",), f"found {self.sequence.value!r}, expected {needs} beside it")
        if self.overlap and self.sequence is not SequenceRule.TOUCHING:
            raise ConflictError(("overlap",), "found it without ranges, expected `sequence: touching` beside it")
        if self.evidence and self.sequence is SequenceRule.NONE:
            raise ConflictError(("evidence",), "found it without a rule, expected `sequence` beside it")
        for key in ("repeats", "resets"):
            if getattr(self, key) and self.sequence in (SequenceRule.NONE, SequenceRule.CHECKSUM):
                raise ConflictError((key,), "found it without a rule, expected `sequence` beside it")
        if self.on_stale is not Action.NONE and self.idle_timeout is None:
            raise ConflictError(("on_stale",), f"found {self.on_stale.value!r}, expected `idle_timeout` beside it")
        if self.on_gap is Action.SNAPSHOT and self.snapshot is None:
            raise ConflictError(("on_gap",), "found 'snapshot', expected the key `snapshot` beside it")
        if self.on_gap is not Action.NONE and self.sequence is SequenceRule.NONE:
            raise ConflictError(("on_gap",), f"found {self.on_gap.value!r}, expected `sequence` beside it")
        if math.prod(map(len, self.parameters.values())) > _MAX_EXPANSION:
            raise ConflictError(("parameters",), f"found more than {_MAX_EXPANSION} combinations")
        for key in ("topic", "channel_alias", "ack_key"):
            unknown = placeholders.names(getattr(self, key) or "") - {"symbol", *self.parameters}
            if unknown:
                found = f"found {{{min(unknown)}}}, expected {{symbol}} or one of parameters"
                raise ConflictError((key,), found)
        return self

    def public(self, parts: Collection[str]) -> Channel:
        """The same without secrets; `parts` of its addresses are none."""
        snapshot = self.snapshot and _masked(self.snapshot, parts)
        subscribe = self.subscribe and self.subscribe.public(parts)
        return self.model_copy(update={"snapshot": snapshot, "subscribe": subscribe})

    def filled(self, parameters: dict[str, str]) -> Channel:
        """The same with values for all of its parameters."""
        subscribe = self.subscribe
        if subscribe is not None:
            texts = {
                key: _with(parameters, getattr(subscribe, key)) for key in ("message", "argument", "unsubscribe", "url")
            }
            subscribe = subscribe.model_copy(update=texts)
        texts = {
            key: _with(parameters, getattr(self, key)) for key in ("topic", "argument", "channel_alias", "ack_key")
        }
        return self.model_copy(update={**texts, "subscribe": subscribe, "parameters": {}})

    @property
    def per_symbol(self) -> bool:
        """Whether it is asked for once a symbol, or once."""
        return "{symbol}" in self.topic


class Limits(_Model):
    """The exchange's limits."""

    streams_per_connection: int | None = Field(
        default=None, description="Most topics on one connection; by default no limit is known.", ge=1, le=1_000_000
    )
    streams_per_channel: int | None = Field(
        default=None, description="Most topics of one channel on one connection.", ge=1, le=1_000_000
    )
    streams: int | None = Field(
        default=None, description="Most topics on all connections from one address together.", ge=1, le=10_000_000
    )
    connections: int | None = Field(
        default=None,
        description="Most connections from one address at a time; one is kept for replacements.",
        ge=1,
        le=1_000_000,
    )
    messages_per_second: float = Field(
        default=4.0, description="Most messages that we may send on a connection.", gt=0, le=1e6
    )
    messages_per_second_in_all: float | None = Field(
        default=None,
        description="Most messages a second from one address, on all connections together: they start one after "
        "another, and each sends less often.",
        gt=0,
        le=1e6,
    )
    send_interval: float | None = Field(
        default=None,
        description="Least time (s) between two messages that we send; by default from `messages_per_second`.",
        gt=0,
        le=3600,
    )
    messages_per_connection: int | None = Field(
        default=None,
        description="Most subscription messages on a connection within its first hour; more connections are opened "
        "rather than more sent.",
        ge=1,
        le=1_000_000,
    )
    bytes_per_connection: int | None = Field(
        default=None, description="Most bytes of all subscription messages on a connection.", ge=100, le=100_000_000
    )
    connects: int = Field(description="Most connection attempts within `connects_interval`.", ge=1, le=1_000_000)
    connects_interval: float = Field(description="Seconds in which `connects` are counted.", gt=0, le=86400)
    lifetime: float | None = Field(
        default=None,
        description="Seconds after which the exchange cuts every connection; it is replaced before that.",
        ge=1,
        le=366 * 86400,
    )

    def spacing(self, connections: int) -> float:
        """Least time (s) between two messages that we send on one of so many connections."""
        alone = self.send_interval or 1 / self.messages_per_second
        together = self.messages_per_second_in_all
        return alone if together is None else max(alone, connections / together)


class Ack(_Model):
    """How the exchange acknowledges a subscription: by the request's id, by topics, or both."""

    id: KeyPath | None = Field(default=None, description="Path of the id in request and acknowledgement.")
    where: Where = Field(
        default={}, description="Which messages are acknowledgements; by default all with the id, or a topic's key."
    )
    key: Places = Field(
        default=(),
        description="The topic in an acknowledgement, as in the channel's `ack_key`. With `[]`: several.",
    )
    accepted: KeyPath | None = Field(
        default=None,
        description="With `id`: path of the accepted topics; the rest of the request is refused.",
    )
    data: bool = Field(default=False, description="Whether data acknowledges: the first message with the topic's key.")
    errors: tuple[Condition, ...] = Field(
        default=(), description="Conditions, any of which makes it a refusal; by default: `error_code` is present."
    )
    error_code: NumberPlaces = Field(default=(), description="Paths of a refusal's code.")
    error_message: NumberPlaces = Field(default=(), description="Paths of a refusal's text.")
    timeout: float = Field(
        default=10.0, description="Seconds after which a request counts as unanswered.", gt=0, le=3600
    )

    @model_validator(mode="after")
    def _matched(self) -> Ack:
        if self.id is None and not self.key:
            raise ConflictError((), "found neither id nor key, expected one of them")
        if self.accepted is not None and self.id is None:
            raise ConflictError(("accepted",), "found it without id, expected both")
        if self.data and not self.key:
            raise ConflictError(("data",), "found it without key, expected both")
        return self


class Answer(_Model):
    """A message of the exchange that has to be answered, and the answer."""

    path: KeyPath | None = Field(
        default=None, description="Path in JSON that identifies the ping: `ping`, `params.type`."
    )
    match: str | None = Field(
        default=None,
        description="With `path`: the exact string required there; by default anything.",
        max_length=200,
    )
    message: str | None = Field(
        default=None,
        description="Instead of `path`, for text that is not JSON: the whole text, in which `{value}` matches any run "
        "of characters: `Ping`, `ping {value}`.",
        max_length=200,
    )
    text: Template = Field(
        description="The answer; `{value}` is the message's own number or text as JSON, or what it stands for in "
        "`message`, as it came; `{id}` a number that counts up, `{time_ms}`, `{time_s}` and `{uuid}` as "
        "in `subscribe`.",
    )
    value: KeyPath | None = Field(default=None, description="With `path`: path of the `{value}`.")
    encoding: Literal["text", "binary", "gzip"] = Field(
        default="text", description="How the answer is sent: a text frame, a binary one, or gzip in a binary one."
    )
    max_bytes: int = Field(
        default=256, description="Bytes; a longer message, as received or inflated, is not a ping.", ge=2, le=65536
    )

    @field_validator("message")
    @classmethod
    def _reports_apart(cls, text: str | None) -> str | None:
        if text in ("", VALUE):
            raise ValueError("expected a text that other messages differ from, or each message would be a ping")
        if text is not None and (often := text.count(VALUE)) > 1:
            raise ValueError(f"found {VALUE} {often} times, expected it once at most")
        if text is not None and (unknown := placeholders.names(text) & {"id", *placeholders.WHEN_SENT}):
            raise ValueError(f"found {{{min(unknown)}}}, expected {VALUE} for what differs from ping to ping")
        return text

    @model_validator(mode="after")
    def _value_known(self) -> Answer:
        if (self.path is None) == (self.message is None):
            raise ConflictError(("message",) if self.path else (), "expected one of path and message")
        for key in ("match", "value"):
            if self.message is not None and getattr(self, key) is not None:
                raise ConflictError((key,), "found it beside message, expected it with path")
        taken = self.value or (self.message is not None and VALUE in self.message)
        _only_when_sent(self.text, "text", {"value"} if taken else set())
        return self


class ClientKeepAlive(_Model):
    """Keep-alives that wsrec sends, and liveness checks. Pings of the exchange are always answered."""

    every: float | None = Field(
        default=None,
        description="Seconds between two, if the exchange requires them.",
        gt=0,
        le=86400,
    )
    text: str | None = Field(
        default=None,
        description="A text message to send; without it, a WebSocket ping. `{id}`, `{time_ms}`, `{time_s}` and "
        "`{uuid}` as in `subscribe`.",
        max_length=2000,
    )
    answers: tuple[Answer, ...] = Field(
        default=(),
        description="Pings that the exchange sends as messages (JSON or not, in frames of either kind, also in gzip, "
        "or in several frames), and how each is answered, within 0.1 s.",
        max_length=16,
    )
    ping_interval: float = Field(
        default=PING_INTERVAL,
        description="Seconds without a byte after which a WebSocket ping checks the connection.",
        ge=0.1,
        le=86400,
    )
    ping_timeout: float = Field(
        default=PING_TIMEOUT,
        description="Seconds to wait for the pong before the connection counts as dead.",
        ge=0.1,
        le=3600,
    )

    @model_validator(mode="after")
    def _reported_when(self) -> ClientKeepAlive:
        if self.text is not None and self.every is None:
            raise ConflictError(("text",), "found no `every`, expected how often to send it")
        _only_when_sent(self.text or "", "text")
        return self


class OnConnect(_Model):
    """Steps before the first subscription on each connection."""

    wait: float = Field(default=0.0, description="Seconds to wait first.", ge=0, le=60)
    send: tuple[Template, ...] = Field(
        default=(),
        description="Messages to send then, spaced as `limits` say. `{id}`, `{time_ms}`, `{time_s}` and `{uuid}` as in "
        "`subscribe`.",
        max_length=16,
    )

    @model_validator(mode="after")
    def _known(self) -> OnConnect:
        for text in self.send:
            _only_when_sent(text, "send")
        return self


class ClosingNotice(_Model):
    """A message without a channel that announces the close of the connection."""

    path: KeyPath = Field(description="Path of the announcement, a string or a number.")
    match: Regex = Field(description="Regular expression that matches the whole announcement.")

    @field_validator("match")
    @classmethod
    def _compiles(cls, text: str) -> str:
        return _regex(text)


class Fields(_Model):
    """Places of the fields in messages. They are tried in order; a channel may have its own."""

    channel: Places = Field(description="The channel's name. Other names are for acknowledgements and heartbeats.")
    symbol: Places = Field(default=(), description="The symbol; with `[]` the one common to all rows, else none.")
    exchange_time: TimePlaces = Field(default=(), description="The exchange's event time.")
    time_unit: TimeUnit = Field(
        default=TimeUnit.MS, description="Unit of `exchange_time`: `s`, `ms`, `us`, `ns` or `iso`."
    )
    time_tolerance: float = Field(
        default=86400.0,
        description="Seconds by which `exchange_time` may differ from the arrival. One farther off is "
        "null, with a warning and an event `exchange_time_off`.",
        ge=1,
        le=3.2e9,
    )
    ids: ChannelIds | None = Field(
        default=None, description="Ids that stand for channels on a connection, learned from its messages."
    )
    texts: dict[str, Name] = Field(
        default={}, description="Whole messages that are not JSON, and their channel (`pong: pong`)."
    )
    binary: Literal["json", "gzip", "opaque"] = Field(
        default="json",
        description="Content of binary messages: `json`, `gzip` of JSON (zlib, deflate and plain JSON are detected, "
        "and gzip in text messages), or `opaque`: not parsed. Other text messages are JSON.",
    )
    binary_schema: str | None = Field(
        default=None,
        description="Name of the schema of binary messages, for decoding stored payloads.",
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
    """Make sure that a place refers only to names in `fields.ids`.

    Raises:
        ConflictError: it names something else.

    """
    paths = (place,) if isinstance(place, str) else (place.path or "", *place.parts, *place.needs, *place.where)
    unknown = {path[1:] for path in paths if path.startswith("$")} - names
    if unknown:
        raise ConflictError(where, f"found ${min(unknown)}, expected one of fields.ids.names")


class Closed(_Model):
    """A closed market."""

    date: datetime.date = Field(description='The day (UTC) on which it ended, in quotes: `"2026-09-23"`.')
    reason: str = Field(description="What happened, and the source.", min_length=1, max_length=500)


class Feed(_Model):
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
        max_length=_MAX_URL,
    )
    public_url_parts: Texts = Field(
        default=(),
        description="Parts of the paths of its addresses, and names of parameters of their queries, that are shown and "
        "stored: `[ws, v5, streams]`. All others are shown and stored as `***`, except for catalogue feeds.",
    )
    symbols: Symbols | None = Field(default=None, description="Notation of symbols.")
    default_symbols: tuple[str, ...] = Field(default=(), description="Recorded when no symbols are requested.")
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
            _check_subscribe(self.subscribe, None, frozenset(), ("subscribe",))
        if any(channel.per_symbol for channel in self.channels.values()) and self.symbols is None:
            raise ConflictError(("channels",), "found topics with {symbol}, expected symbols beside them")
        if self.sequence is not None and self.fields is None:
            raise ConflictError(("sequence",), "found it without fields, expected them beside it")
        if self.sequence is not None and self.sequence.late and self.fields and self.fields.binary != "json":
            found = f"found it with fields.binary: {self.fields.binary}, expected json: messages are read anew for it"
            raise ConflictError(("sequence", "late"), found)
        common: dict[str, str] = {}
        topics: dict[str, str] = {}
        for name, channel in self.channels.items():
            where = ("channels", name)
            if channel.checksum is not None and (self.fields is None or self.fields.binary != "json"):
                raise ConflictError(
                    (*where, "checksum"), "found it without fields of JSON, expected `fields` beside it"
                )
            if self.sequence is not None and channel.checksum is not None:
                raise ConflictError((*where, "checksum"), "found it beside the feed's sequence, expected one of them")
            if self.sequence is not None and channel.exchange_seq:
                raise ConflictError(
                    (*where, "exchange_seq"), "found it beside the feed's sequence, expected one of them"
                )
            self._check_asking(channel, where)
            by_symbol = all(socket.symbols for socket in self.sockets.values())
            anywhere = (by_symbol and channel.per_symbol) or (channel.always and not channel.per_symbol)
            if channel.socket is None and len(self.sockets) > 1 and not anywhere:
                raise ConflictError(where, f"found no socket, expected one of {', '.join(self.sockets)}")
            if channel.socket is not None and channel.socket not in self.sockets:
                found = f"found {channel.socket!r}, expected one of {', '.join(self.sockets)}"
                raise ConflictError((*where, "socket"), found)
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
            if channel.common and common.setdefault(channel.common, name) != name:
                found = f"found {channel.common!r}, which is {common[channel.common]} already"
                raise ConflictError((*where, "common"), found)
        for symbol in self.default_symbols:
            if self.symbols is None:
                raise ConflictError(("default_symbols",), "found no symbols, expected them beside it")
            try:
                self.symbols.normalise(symbol)
            except ConfigError as error:
                raise ConflictError(("default_symbols",), f"found {error}") from error
        return self

    def _check_asking(self, channel: Channel, where: tuple[str, ...]) -> None:
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
            _check_subscribe(channel.subscribe, channel.argument, parameters, (*where, "subscribe"))
        elif channel.argument is not None:
            _check_subscribe(subscribe, channel.argument, frozenset(channel.parameters), where)
        requested = f"{subscribe.message}{channel.argument or subscribe.argument}"
        asks_for = {"topics", "topic", "symbols", "symbol"}
        if channel.per_symbol and subscribe.url is None and not placeholders.names(requested) & asks_for:
            found = "found no symbol in what is sent, expected {topics}, {arguments}, {symbols}, {topic} or {symbol}"
            raise ConflictError((*where, "subscribe") if channel.subscribe else ("subscribe",), found)
        if not channel.per_symbol and placeholders.names(requested) & {"symbol", "symbols"}:
            raise ConflictError(
                (*where, "topic"), "found no {symbol}, expected a subscribe of its own: the feed's asks by symbol"
            )

    @cached_property
    def channel_table(self) -> dict[str, Channel]:
        """Every channel by its full name, parameters filled in."""
        table: dict[str, Channel] = {}
        for key, channel in self.channels.items():
            for values in itertools.product(*channel.parameters.values()):
                chosen = dict(zip(channel.parameters, values, strict=True))
                table[_with(chosen, key)] = channel.filled(chosen)
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
        """The rule for messages of a channel, by any of its names or none."""
        if self.sequence is not None:
            return SequenceRule.NEXT
        found = self.channel_by_any_name.get(channel) if channel else None
        return found.sequence if found else SequenceRule.NONE

    def carries(self, socket: str, channel: Channel) -> bool:
        """Whether a channel is asked for on one of the sockets; the socket may not take all of its symbols."""
        return channel.socket == socket or (channel.socket is None and (len(self.sockets) == 1 or channel.per_symbol))

    def constant_channels(self, socket: str) -> tuple[str, ...]:
        """Full names of the channels that every connection of a socket has beside what is asked for."""
        return tuple(
            name
            for name, channel in self.channel_table.items()
            if channel.always and not channel.per_symbol and (channel.socket in (None, socket))
        )

    @property
    def default_channels(self) -> tuple[str, ...]:
        """Full names of the channels that are recorded when none are asked for."""
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
            symbols = symbols.model_copy(update={"listing": _masked(symbols.listing, parts)})
        return self.model_copy(
            update={
                "proxy": self.proxy and mask_url(self.proxy),
                "sockets": {key: socket.public(parts) for key, socket in self.sockets.items()},
                "symbols": symbols,
                "subscribe": subscribe and subscribe.public(parts),
                "channels": {key: channel.public(parts) for key, channel in self.channels.items()},
            }
        )

    def urls(self) -> list[str]:
        """Every address that it has, as it is written."""
        urls = [socket.url for socket in self.sockets.values()]
        urls += [socket.token.url for socket in self.sockets.values() if socket.token is not None]
        if self.symbols is not None and self.symbols.listing is not None:
            urls.append(self.symbols.listing.url)
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


def _masked(model: _Addressed, parts: Collection[str]) -> _Addressed:
    return model.model_copy(update={"url": mask_url(model.url, parts)})


def _with(parameters: dict[str, str], text: Any) -> Any:
    """A channel's text with its parameters substituted."""
    if text is None:
        return None
    for key, value in parameters.items():
        text = text.replace(f"{{{key}}}", value)
    return text


def _check_subscribe(
    subscribe: Subscribe, argument: str | None, parameters: frozenset[str], where: tuple[str, ...]
) -> None:
    try:
        subscribe.check(argument or subscribe.argument, parameters)
    except ConflictError as error:
        raise ConflictError((*where, *error.where), str(error)) from error


def check_url(url: str) -> None:
    """Make sure that `url` is an address for WebSocket.

    Raises:
        ValueError: it is not; the text says what was expected, without repeating the URL.

    """
    expected = "expected ws://HOST/PATH or wss://HOST/PATH, without a #fragment"
    # What the environment holds is filled in later; for the check any text does (a number, so that it may be a port).
    url = placeholders.PLACEHOLDER.sub("1", ENVIRONMENT.sub("1", url))
    if not url.isprintable() or any(c.isspace() for c in url):
        raise ValueError(expected)
    try:
        parse_uri(url)
    except (InvalidURI, ValueError, AssertionError) as error:
        raise ValueError(expected) from error


def check_proxy(text: str) -> str:
    """The same, where it is a proxy's address.

    Raises:
        ValueError: it is none; the text says what was expected.

    """
    # What the environment holds is filled in later; for the check any text does (a number, so that it may be a port).
    # And what was stored of one that is in the environment as a whole is read back.
    if text != MASK:
        parse_proxy(ENVIRONMENT.sub("1", text))
    return text


def resolved_proxy(text: str) -> str:
    """A proxy's address with `${NAME}` replaced from the environment: a part of it escaped as a URL needs it.

    Raises:
        ConfigError: a variable is not set.

    """
    whole = ENVIRONMENT.fullmatch(text)
    if whole is not None:
        return _environment(whole[1])
    return ENVIRONMENT.sub(lambda found: quote(_environment(found[1]), safe=""), text)


def feed_schema() -> dict[str, Any]:
    """The JSON Schema of a feed YAML, for editors."""
    schema = Feed.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "wsrec feed"}


def _environment(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise ConfigError(f"${{{name}}}: the environment has no {name}; set it, or take it out")
    return value
