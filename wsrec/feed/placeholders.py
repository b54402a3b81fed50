"""Templates with `{placeholders}` in feed files; inserted values can neither end a JSON string nor start another one.

Two forms: `{topics}` stands for a JSON value, an array here; `{topics:/}` for the items joined by the text after the
colon. Placeholders whose value is only known at sending time (`{time_ms}` and the like) are filled by the receiver.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote

from wsrec.feed.errors import ConflictError

PLACEHOLDER = re.compile(r"\{(\w+)(?::([^{}\"\\]*))?\}")

_WHEN_SENT: dict[str, Callable[[], str]] = {
    "time_ms": lambda: str(time.time_ns() // 1_000_000),
    "time_s": lambda: str(time.time_ns() // 1_000_000_000),
    "uuid": lambda: str(uuid.uuid4()),
}
WHEN_SENT = frozenset(_WHEN_SENT)
# legal unescaped in a path and in a query (RFC 3986 section 3.3), and exchanges write them so
_URL_SAFE = "@:!$'()*,;"


class Raw(str):
    """JSON text that is inserted verbatim."""

    __slots__ = ()


def names(template: str) -> set[str]:
    """The placeholders of a template."""
    return {found[1] for found in PLACEHOLDER.finditer(template)}


def fill(template: str, values: Mapping[str, str | int | Raw | Sequence[str]]) -> str:
    """`template` with the placeholders in `values` replaced; others stay.

    A string is escaped for the JSON string around the placeholder; a sequence becomes an array (`Raw` items verbatim),
    or its items joined. Braces are escaped too, so that an inserted text is never taken for a placeholder.
    """

    def put(found: re.Match[str]) -> str:
        if found[1] not in values:
            return found[0]
        value = values[found[1]]
        if isinstance(value, int | Raw):
            return str(value)
        if isinstance(value, str):
            return escape(value)
        if found[2] is not None:
            return found[2].join(item if isinstance(item, Raw) else escape(item) for item in value)
        return "[" + ",".join(item if isinstance(item, Raw) else f'"{escape(item)}"' for item in value) + "]"

    return PLACEHOLDER.sub(put, template)


def fill_url(template: str, values: Mapping[str, str | Sequence[str]]) -> str:
    """`fill` for a part of a URL, percent-encoded."""

    def put(found: re.Match[str]) -> str:
        if found[1] not in values:
            return found[0]
        value = values[found[1]]
        items = [value] if isinstance(value, str) else value
        return (found[2] or ",").join(quote(item, safe=_URL_SAFE) for item in items)

    return PLACEHOLDER.sub(put, template)


def escape(text: str) -> str:
    """`text` as the inside of a JSON string, with `{` escaped."""
    return json.dumps(text, ensure_ascii=False)[1:-1].replace("{", "\\u007b")


def fill_when_sent(text: str) -> str:
    """`text` with the placeholders for the time and random values filled in as of now."""
    return PLACEHOLDER.sub(lambda found: _WHEN_SENT[found[1]]() if found[1] in _WHEN_SENT else found[0], text)


def check_when_sent(text: str, key: str, more: set[str] | frozenset[str] = frozenset()) -> None:
    """Make sure that a text has only placeholders that are known when it is sent: `{id}`, times, `{uuid}` and `more`.

    Raises:
        ConflictError: it has another; of the key `key`.

    """
    known = {"id", *WHEN_SENT, *more}
    unknown = names(text) - known
    if unknown:
        listed = ", ".join(f"{{{name}}}" for name in sorted(known))
        raise ConflictError((key,), f"found {{{min(unknown)}}}, expected one of {listed}")
