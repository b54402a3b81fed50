"""The feed YAML's `channels`: the kinds of messages that can be subscribed to, and how each is checked."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from enum import StrEnum
from typing import Literal
from urllib.parse import quote, urlsplit

from pydantic import Field, field_validator, model_validator

from wsrec.feed import placeholders
from wsrec.feed.errors import ConflictError
from wsrec.feed.fields import NumberPlaces, Places, TimePlaces
from wsrec.feed.sequence_rules import Checksum, Evidence, Resets, SequenceRule
from wsrec.feed.subscribe import Subscribe
from wsrec.feed.table_declarations import ChannelTables
from wsrec.feed.values import Addressed, Model, Template, TimeUnit, Topic, with_parameters

_MAX_EXPANSION = 1000


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


def check_snapshot_url(url: str, *, symbols: bool = True) -> str:
    """Make sure that a recorder may fetch `url`, which may hold `{symbol}` if `symbols` is set.

    Raises:
        ValueError: it may not; the text says what was expected.

    """
    expected = "expected https://HOST/PATH without user, password or ${NAME}, and no placeholder"
    expected += " but {symbol}" * symbols
    filled = url.replace("{symbol}", "x") if symbols else url
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


class Snapshot(Addressed):
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
        return check_snapshot_url(url)

    def filled(self, symbol: str | None, url: str | None = None) -> str:
        """The URL of a symbol's snapshot, or of `url` in place of this one."""
        return (url or self.url).replace("{symbol}", quote(symbol or "", safe=""))


class Channel(Model):
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
    tables: ChannelTables = Field(
        default=(),
        description="Which rows of which tables its messages make; or the name of a channel that has the same.",
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

    @property
    def fetches_snapshots(self) -> bool:
        """Whether a recording fetches its snapshots."""
        return self.snapshot is not None and (self.snapshot.at_start or self.on_gap is Action.SNAPSHOT)

    def fetching_snapshots(self, *, wanted: bool) -> Channel:
        """The same where its snapshot, if it has one, is fetched at the start and after gaps, or not at all.

        Another action after a gap stays as it is.
        """
        if self.snapshot is None:
            return self
        on_gap = self.on_gap
        if not wanted and on_gap is Action.SNAPSHOT:
            on_gap = Action.NONE
        elif wanted and on_gap is Action.NONE and self.sequence is not SequenceRule.NONE:
            on_gap = Action.SNAPSHOT
        snapshot = self.snapshot.model_copy(update={"at_start": wanted})
        return self.model_copy(update={"snapshot": snapshot, "on_gap": on_gap})

    def public(self, parts: Collection[str]) -> Channel:
        """The same without secrets; `parts` of its addresses are none."""
        snapshot = self.snapshot and self.snapshot.public(parts)
        subscribe = self.subscribe and self.subscribe.public(parts)
        return self.model_copy(update={"snapshot": snapshot, "subscribe": subscribe})

    def filled(self, parameters: dict[str, str]) -> Channel:
        """The same with values for all of its parameters."""
        subscribe = self.subscribe
        if subscribe is not None:
            keys = ("message", "argument", "unsubscribe", "url")
            subscribe = subscribe.model_copy(update=_with_parameters(subscribe, keys, parameters))
        texts = _with_parameters(self, ("topic", "argument", "channel_alias", "ack_key"), parameters)
        return self.model_copy(update={**texts, "subscribe": subscribe, "parameters": {}})

    @property
    def per_symbol(self) -> bool:
        """Whether it is requested per symbol, or only once."""
        return "{symbol}" in self.topic


def _with_parameters(model: Model, keys: tuple[str, ...], parameters: dict[str, str]) -> dict[str, str | None]:
    return {key: with_parameters(parameters, getattr(model, key)) for key in keys}
