"""Formatting for people: figures with three significant digits and a unit, untrusted text made safe to print."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

_DURATIONS = (
    (1, "ns"),
    (1_000, "µs"),
    (1_000_000, "ms"),
    (1_000_000_000, "s"),
    (60_000_000_000, "min"),
    (3_600_000_000_000, "h"),
    (86_400_000_000_000, "d"),
)
_SIZES = ((1, "B"), (10**3, "kB"), (10**6, "MB"), (10**9, "GB"), (10**12, "TB"))
NAMED = 5
"""Subscriptions named in a log line."""

# comparing words takes time by the square of their length, and a word may be anything
_LONGEST_WORD = 64
# of difflib: two letters exchanged in a word of eight are 0.88, `jobs` for `bogus` and `coinbase` for `binanse` 0.67
_NEAR = 0.7
_COUNTS = ((1, ""), (10**3, "k"), (10**6, "M"), (10**9, "G"))


def duration(ns: float | None, space: str = " ") -> str:
    """A duration (ns) with its unit: ``12.3 µs``. Minutes start at 1,000 s; None becomes a dash."""
    if ns is None:
        return "-"
    if 60e9 <= abs(ns) < 999.5e9:
        return f"{ns / 1e9:.0f}{space}s"
    return _scaled(ns, _DURATIONS, space)


def size(number: float) -> str:
    """An amount of bytes with its unit, in powers of 1,000: ``58.7 MB``."""
    return _scaled(number, _SIZES, " ")


def short_count(number: int) -> str:
    """A count in at most five characters, short from 10,000 on: ``7,051``, ``12.3k``, ``1.23M``."""
    return f"{number:,}" if number < 10_000 else _scaled(number, _COUNTS, "")


def _scaled(number: float, units: tuple[tuple[int, str], ...], space: str) -> str:
    for index, (scale, unit) in enumerate(units):
        value = number / scale
        following = units[index + 1][0] / scale if index + 1 < len(units) else None
        # 999,950 is 1.00 of the next unit, not 1000 of this one; minutes become hours at 60
        if following is None or abs(value) < following - (0.5 if following == 1000 else 0.0):
            return f"{_three_digits(value, whole=scale == 1)}{space}{unit}"
    raise AssertionError("the last unit takes every number")


def _three_digits(value: float, *, whole: bool) -> str:
    if whole:
        return f"{value:.0f}"
    for digits, limit in ((2, 9.995), (1, 99.95)):
        if abs(value) < limit:
            return f"{value:.{digits}f}"
    return f"{value:,.0f}"


def plural(number: int, word: str, words: str | None = None) -> str:
    """A count with its word: `1 file`, `1,234 files`; `words` is the plural that an s does not make."""
    return f"{number:,} {word if number == 1 else words or f'{word}s'}"


def no_formula(text: str) -> str:
    """A text for a cell of CSV, with an apostrophe before what a spreadsheet would take for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def utc(ns: int, *, date: bool = True) -> str:
    """A time (ns since the epoch, UTC) to the millisecond: ``2026-11-22 13:00:00.123``."""
    try:
        moment = datetime.fromtimestamp(ns // 1_000_000_000, UTC)
    except (OverflowError, OSError, ValueError):
        return f"{ns} ns"
    return f"{moment:{'%Y-%m-%d ' if date else ''}%H:%M:%S}.{ns // 1_000_000 % 1000:03}"


def clean(text: str, limit: int = 200) -> str:
    """Untrusted text made printable: escapes spelled out, cut after `limit` characters."""
    # str.isprintable is false for all control, format (direction marks), surrogate and unassigned characters
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: limit + 1])
    return safe if len(text) <= limit else safe[: limit - 1] + "…"


def named(topics: Sequence[str]) -> str:
    """Topics for a log line: the first few, and the number of the others."""
    more = f" and {len(topics) - NAMED:,} more" if len(topics) > NAMED else ""
    return ", ".join(clean(topic, 100) for topic in topics[:NAMED]) + more


def did_you_mean(word: str, known: Iterable[str], most: int = 1) -> str:
    """The question that follows a mistyped word: "did you mean `ping_interval`?"; empty where no known word is near."""
    if len(word) > _LONGEST_WORD:
        return ""
    words = {each.lower(): each for each in known}
    near = difflib.get_close_matches(word.strip().lower(), words, n=most, cutoff=_NEAR)
    return f"did you mean {' or '.join(f'`{words[each]}`' for each in near)}?" if near else ""


def not_one_of(word: str, known: Sequence[str]) -> str:
    """The error for a word that is not among several: `found X, expected A, B or C`, with a similar one."""
    expected = f"{', '.join(known[:-1])} or {known[-1]}" if len(known) > 1 else known[0]
    meant = did_you_mean(word, known)
    return f"found {word!r}, expected {expected}{f', {meant}' if meant else ''}"


def not_readable(path: object, error: Exception) -> str:
    """The words for a file or folder that cannot be used: `'PATH', which does not exist`."""
    if isinstance(error, FileNotFoundError):
        return f"{str(path)!r}, which does not exist"
    why = "not UTF-8 text" if isinstance(error, UnicodeError) else getattr(error, "strerror", None) or error
    return f"{str(path)!r}, which cannot be read ({why})"


def system_error(error: OSError | OverflowError) -> str:
    """The message of an error of the operating system without its number: `No space left on device: '/data/x'`."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    return error.strerror if error.filename is None else f"{error.strerror}: {str(error.filename)!r}"


def printable_json(value: Any) -> str:
    """A struct as one JSON object that is safe on a terminal and in any encoding: what is not ASCII is escaped.

    Bytes of a path that are not UTF-8 are escaped as Python has them (`\\udcff`), which Python's `json` reads again.
    """
    try:
        return printable(msgspec.json.encode(value).decode())
    except UnicodeEncodeError:
        return printable(json.dumps(msgspec.to_builtins(value), separators=(",", ":")))


def printable(json_text: str) -> str:
    """JSON that is safe on a terminal, and in any encoding: ASCII."""
    # msgspec escapes what JSON requires; other characters can only occur in strings
    return re.sub("[^\n\x20-\x7e]", _escaped, json_text)


def _escaped(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{high:02x}{low:02x}" for high, low in zip(units[::2], units[1::2], strict=True))
