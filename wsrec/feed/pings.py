"""Application-level pings: recognises an exchange's ping messages and extracts what the answer must repeat."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Protocol, TypeVar

from wsrec.feed.packed import unpacked
from wsrec.feed.paths import first, scalar_text, steps

VALUE = "{value}"
"""Wildcard for any run of characters in a ping that is not JSON, repeated in its answer."""


class Ping(Protocol):
    """A declared ping: see `wsrec.feed.keep_alive.Answer`."""

    @property
    def path(self) -> str | None: ...  # noqa: D102
    @property
    def match(self) -> str | None: ...  # noqa: D102
    @property
    def message(self) -> str | None: ...  # noqa: D102
    @property
    def value(self) -> str | None: ...  # noqa: D102
    @property
    def max_bytes(self) -> int: ...  # noqa: D102


Declared = TypeVar("Declared", bound=Ping)


def find_ping(declared: Iterable[Declared], payload: bytes) -> tuple[Declared, str] | None:
    """Match a message against the declared pings; the first match counts.

    Args:
        declared: pings.
        payload: the message, which may be gzip, zlib or raw deflate.

    Returns:
            The ping and the text for `{value}` in its answer: JSON, or text as received. None if the message is no
            ping.

    """
    rules = [rule for rule in declared if len(payload) <= rule.max_bytes]
    if not rules:
        return None
    data = bytes(unpacked(payload, max(rule.max_bytes for rule in rules)) or b"")
    rules = [rule for rule in rules if len(data) <= rule.max_bytes]
    texts = [_text(payload), _text(data)]
    for rule in rules:
        if rule.message is not None:
            for text in texts:
                if text is not None and (value := _fits(rule.message, text)) is not None:
                    return rule, value
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


def _text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _fits(message: str, text: str) -> str | None:
    """The text that `{value}` stands for in `text`; None if it does not match `message`."""
    before, value, behind = message.partition(VALUE)
    if not value:
        return "" if text == message else None
    if len(text) < len(before) + len(behind) or not (text.startswith(before) and text.endswith(behind)):
        return None
    return text[len(before) : len(text) - len(behind)]


def _may_hold(data: bytes, path: str) -> bool:
    """False if the last key of a path is certainly absent; much cheaper than parsing the message."""
    last = steps(path)[-1]
    return not isinstance(last, str) or f'"{last}"'.encode() in data


def _json(value: Any) -> str:
    value = value if isinstance(value, str | int | float) else None
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        # a lone surrogate, which only JSON escapes can express
        return json.dumps(value)
    return text
