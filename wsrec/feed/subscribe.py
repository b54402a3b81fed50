"""The feed YAML's `on_connect`, `subscribe` and `ack`: how topics are requested and answered."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from pydantic import Field, model_validator

from wsrec.feed import placeholders
from wsrec.feed.errors import ConflictError
from wsrec.feed.fields import Condition, NumberPlaces, Places
from wsrec.feed.masking import mask_tail
from wsrec.feed.placeholders import check_when_sent
from wsrec.feed.values import MAX_URL, KeyPath, Model, Template, Where


class OnConnect(Model):
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
            check_when_sent(text, "send")
        return self


class Subscribe(Model):
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
        return self.max_bytes or (MAX_URL if self.url else None)

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
            raise ConflictError(("batch",), "found more than 1, expected none: the message requests one topic")
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


class Ack(Model):
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


def check_subscribe(
    subscribe: Subscribe, argument: str | None, parameters: frozenset[str], where: tuple[str, ...]
) -> None:
    """`subscribe.check`, with the model's place in the feed.

    Raises:
        ConflictError: of a key below `where`.

    """
    try:
        subscribe.check(argument or subscribe.argument, parameters)
    except ConflictError as error:
        raise ConflictError((*where, *error.where), str(error)) from error
