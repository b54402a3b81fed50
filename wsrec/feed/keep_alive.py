"""The feed YAML's `keep_alive` and `closing_notice`: what keeps a connection open, and what announces its end."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from wsrec.feed import placeholders
from wsrec.feed.errors import ConflictError
from wsrec.feed.ping_defaults import PING_INTERVAL, PING_TIMEOUT
from wsrec.feed.pings import VALUE
from wsrec.feed.placeholders import check_when_sent
from wsrec.feed.values import KeyPath, Model, Regex, Template, check_regex


class Answer(Model):
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
        check_when_sent(self.text, "text", {"value"} if taken else set())
        return self


class ClientKeepAlive(Model):
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
        check_when_sent(self.text or "", "text")
        return self


class ClosingNotice(Model):
    """A message without a channel that announces the close of the connection."""

    path: KeyPath = Field(description="Path of the announcement, a string or a number.")
    match: Regex = Field(description="Regular expression that matches the whole announcement.")

    @field_validator("match")
    @classmethod
    def _compiles(cls, text: str) -> str:
        return check_regex(text)
