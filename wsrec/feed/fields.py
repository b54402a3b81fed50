"""The feed YAML's `fields`: where a message carries its channel, symbol and time."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from wsrec.feed.errors import ConflictError
from wsrec.feed.paths import scalar_text
from wsrec.feed.protobuf_schema import ProtobufSchema
from wsrec.feed.values import Case, KeyPath, Model, Name, Regex, TextPath, Texts, TimeUnit, Where, check_regex

_JOINED = re.compile(r"\{((?:[^{}]|\.\{\})+)\}")


class Extract(Model):
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
        if text is not None and not re.compile(check_regex(text)).groups:
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


class TimePlace(Model):
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


class Condition(Model):
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


class ChannelIds(Model):
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


class Match(Model):
    """A required string, number or boolean in the message."""

    path: KeyPath = Field(description="Keys from the top of the message, joined by dots: `type`.")
    match: Annotated[str, BeforeValidator(_text)] = Field(
        description="The exact string, number or boolean: `snapshot`, `true`.",
        min_length=1,
        max_length=100,
    )


class Fields(Model):
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
    binary: Literal["json", "gzip", "protobuf", "opaque"] = Field(
        default="json",
        description="Content of binary messages: `json`, `gzip` of JSON (zlib, deflate and plain JSON are detected, "
        "and gzip in text messages), `protobuf`, read as JSON by `binary_schema`, or `opaque`: not parsed. Other text "
        "messages are JSON.",
    )
    binary_schema: ProtobufSchema | None = Field(default=None, description="With `protobuf`: the types of messages.")

    @model_validator(mode="after")
    def _of_protobuf(self) -> Fields:
        if (self.binary == "protobuf") != (self.binary_schema is not None):
            raise ConflictError(("binary_schema",), "found one of binary: protobuf and binary_schema, expected both")
        return self

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
