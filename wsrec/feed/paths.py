"""JSON paths of feed files: `data.s`, `data[0].ts`, `[2]`, `trades[].id`, `markets.{}`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from functools import cache
from typing import Any

_KEY = r'(?:[^.\s"\\\[\]{}$][^.\s"\\\[\]{}]*|"[^"\\]+")'
_INDEX = r"\[(?:-?[0-9]{1,4})?\]"
_TOKEN = re.compile(rf"\.?(?:(?P<key>{_KEY})|\[(?P<index>-?[0-9]{{1,4}})\]|(?P<each>\[\])|(?P<keys>\{{\}}))")
_PATH = rf"(?:{_KEY}|{_INDEX})(?:\.{_KEY}|{_INDEX})*(?:\.\{{\}})?|\{{\}}"
PATH_PATTERN = rf"^(?:{_PATH})$"
"""Syntax of a path: keys joined by dots, quoted if they contain dots; `[n]` an element of an array, negative from the
end; `[]` each element (of an object: each value); a final `{}` the keys of an object."""
TEXT_PATH_PATTERN = rf"^(?:{_PATH}|\$[a-z_]+)$"
"""The same, or `$name`: a remembered name (`fields.ids`)."""

_FROM_TOP = rf"\$(?:\.(?:{_KEY}|{_INDEX})|{_INDEX})?(?:\.{_KEY}|{_INDEX})*(?:\.\{{\}})?"
ROW_PATH_PATTERN = rf"^(?:{_PATH}|{_FROM_TOP}|\$(?:key|channel|symbol))$"
"""A path from a table's row, or, after `$`, from the top of the message; `$key`, `$channel`, `$symbol`."""


class NotScannableError(Exception):
    """The paths include some that the compiled scanner does not support."""


class Every(Enum):
    """A step to more than one value."""

    ELEMENT = "[]"
    KEY = "{}"


Step = str | int | Every


@cache
def steps(path: str) -> tuple[Step, ...]:
    """The steps of a path that matches `PATH_PATTERN`, from the top of the message."""
    found: list[Step] = []
    for token in _TOKEN.finditer(path):
        key, index, each, _ = token.groups()
        if key is not None:
            found.append(key.strip('"'))
        else:
            found.append(int(index) if index is not None else Every.ELEMENT if each else Every.KEY)
    return tuple(found)


def values(message: Any, way: tuple[Step, ...]) -> Iterator[Any]:
    """The values at the end of the path, in the message's order; null counts as absent."""
    for at, step in enumerate(way):
        if step is Every.ELEMENT:
            for inner in (
                message if isinstance(message, list) else message.values() if isinstance(message, dict) else ()
            ):
                yield from values(inner, way[at + 1 :])
            return
        if step is Every.KEY:
            yield from message if isinstance(message, dict) else ()
            return
        if isinstance(step, int):
            if not isinstance(message, list) or not -len(message) <= step < len(message):
                return
            message = message[step]
        elif isinstance(message, dict):
            message = message.get(step)
        else:
            return
    if message is not None:
        yield message


def first(message: Any, path: str) -> Any:
    """The first value at a path, or None."""
    return next(values(message, steps(path)), None)


def scalar_text(value: Any) -> str | None:
    """A string, integer or boolean as text, as conditions and ids compare them; None for anything else."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value) if isinstance(value, int) else None
