"""JSON decoding with exact decimals; repairs common deviations from JSON first."""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError, ArithmeticError)
"""Exceptions that decoding a message may raise."""


def decimal(text: str) -> Decimal | None:
    """A decimal; None if its exponent does not fit a `Decimal`."""
    try:
        return Decimal(text)
    except ArithmeticError:
        return None


decode = msgspec.json.Decoder(float_hook=decimal).decode
"""Decodes JSON; every number not written as an integer becomes a `Decimal`. Raises one of `UNREADABLE`."""


def decoded(payload: bytes | memoryview, decode: Callable[[bytes | memoryview], Any] = decode) -> Any:
    """Decode a message, repaired if necessary (`mended`); None if it is not JSON.

    Args:
        payload: the message.
        decode: how, where numbers are to be something else than `Decimal`.

    """
    try:
        return decode(payload)
    except UNREADABLE:
        pass
    try:
        return decode(mended(payload))
    except UNREADABLE:
        return None


_TOKEN = re.compile(rb'("[^"\\]*+(?:\\.[^"\\]*+)*+"?)(\s*:)?|-?\b(?:NaN|Infinity|\d{1000,})\b', re.DOTALL)
_ESCAPED = re.compile(rb"(?:[^\\]++|\\[^u]|\\u[0-9a-fA-F]{4})*+", re.DOTALL)
_PAIRED = re.compile(
    rb"(?:[^\\]++|\\[^u]|\\u(?![dD][89a-fA-F])....|\\u[dD][89abAB]..\\u[dD][c-fC-F]..)*+",
    re.DOTALL,
)


def mended(payload: bytes | memoryview) -> bytes:
    """Replace the values that prevent decoding by null, so that only they are lost.

    They are NaN and Infinity, which writers in other languages produce; lone surrogates (halves of UTF-16 pairs), which
    the grammar of JSON allows (RFC 8259, section 8.2); and integers of more than 1000 digits.

    Raises:
        ValueError: there is no such value in it.

    """
    text, count = bytes(payload), 0

    def replaced(found: re.Match[bytes]) -> bytes:
        nonlocal count
        string, colon = found[1], found[2] or b""
        if string is None:
            count += 1
            return b"null"
        if b"\\u" not in string or not _is_split(string):
            return found[0]
        count += 1
        # a key has to stay a text; no path contains this one
        return b'"\\ufffd"' + colon if colon else b"null"

    if text.lstrip()[:1] not in (b"{", b"["):
        raise ValueError("not a JSON object or array")
    text = _TOKEN.sub(replaced, text)
    if not count:
        raise ValueError("nothing to mend")
    return text


def _is_split(string: bytes) -> bool:
    """Whether an escaped half of a UTF-16 pair lacks its other half."""
    return bool(_ESCAPED.fullmatch(string)) and not _PAIRED.fullmatch(string)
