"""Pings that an exchange sends as messages: which of the declared ones a message is, and what its answer repeats."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, Protocol, TypeVar

from wsrec.feed.packed import unpacked
from wsrec.feed.paths import first, scalar_text, steps

# a ping of a few hundred bytes does not become more than this
_UNPACKED_MAX = 64 << 10


class Ping(Protocol):
    """What is declared of one: see `wsrec.feed.schema.Answer`."""

    @property
    def path(self) -> str | None: ...  # noqa: D102
    @property
    def match(self) -> str | None: ...  # noqa: D102
    @property
    def pattern(self) -> str | None: ...  # noqa: D102
    @property
    def value(self) -> str | None: ...  # noqa: D102


Declared = TypeVar("Declared", bound=Ping)


def find_ping(declared: Iterable[Declared], payload: bytes) -> tuple[Declared, str] | None:
    """The first of the declared pings that a message is.

    Args:
        declared: pings.
        payload: the message, which may be gzip, zlib or raw deflate.

    Returns:
        Also what `{value}` stands for in the answer: JSON, or a text as it came. None where the message is no ping.

    """
    rules = list(declared)
    data = bytes(unpacked(payload, _UNPACKED_MAX) or b"")
    for rule in rules:
        if rule.pattern is not None and (found := _fits(rule.pattern, payload) or _fits(rule.pattern, data)):
            return rule, "".join(part for part in found.groups() if part)
    rules = [rule for rule in rules if rule.path is not None and _may_hold(data, rule.path)]
    if not rules:
        return None
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        return None
    for rule in rules:
        assert rule.path is not None
        text = scalar_text(value) if (value := first(message, rule.path)) is not None else None
        if value is not None and rule.match in (None, text):
            return rule, _json(first(message, rule.value) if rule.value else None)
    return None


def _fits(pattern: str, data: bytes) -> re.Match[str] | None:
    """The whole of a message by a regular expression; None where it is no text, or another one."""
    try:
        return re.fullmatch(pattern, data.decode())
    except UnicodeDecodeError:
        return None


def _may_hold(data: bytes, path: str) -> bool:
    """Whether the last key of a path is in a message, which is found out quicker than all that it says."""
    last = steps(path)[-1]
    return not isinstance(last, str) or f'"{last}"'.encode() in data


def _json(value: Any) -> str:
    value = value if isinstance(value, str | int | float) else None
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        # half of a surrogate pair, which is text in JSON alone
        return json.dumps(value)
    return text
