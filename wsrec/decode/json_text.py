"""JSON decoding with exact decimals; repairs common deviations from JSON first."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import msgspec

UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError, ArithmeticError)
"""What decoding a message may raise."""


def decimal(text: str) -> Decimal | None:
    """A decimal; None for one whose exponent no `Decimal` can have."""
    try:
        return Decimal(text)
    except ArithmeticError:
        return None


decode = msgspec.json.Decoder(float_hook=decimal).decode
"""Decodes JSON; every number that is not written as an integer is a `Decimal`. Raises one of `UNREADABLE`."""


def decoded(payload: bytes | memoryview) -> Any:
    """The message decoded, mended where that helps (`mended`); None where it is no JSON."""
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
    """A message with null in place of the values that keep it from being decoded: they cost only themselves.

    They are NaN and Infinity, which writers of other languages let through; halves of UTF-16 pairs, which the grammar
    of JSON allows (RFC 8259, section 8.2); and integers of more than 1000 digits.

    Raises:
        ValueError: there is nothing of the kind in it.

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
        # a key has to stay a text; this one is in no path
        return b'"\\ufffd"' + colon if colon else b"null"

    if text.lstrip()[:1] not in (b"{", b"["):
        raise ValueError("no JSON object or array")
    text = _TOKEN.sub(replaced, text)
    if not count:
        raise ValueError("nothing to mend")
    return text


def _is_split(string: bytes) -> bool:
    """Whether an escaped half of a UTF-16 pair is without its other half."""
    return bool(_ESCAPED.fullmatch(string)) and not _PAIRED.fullmatch(string)
