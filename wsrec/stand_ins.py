"""Plain stand-ins for what an output's encoding cannot write: nothing fails to print, nothing turns into other signs.

Standard output and error of the C locale that are no terminal, as under cron, are written in ASCII: whoever reads them
there is told of no encoding, and Python's UTF-8 becomes `Âµ`.
"""

from __future__ import annotations

import codecs
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ERRORS = "wsrec.stand_ins"
"""The name of the error handler, for `str.encode` and text streams."""

_STAND_INS = {
    **dict(zip("▁▂▃▄▅▆▇█", "_.:-=+*#", strict=True)),
    **dict(zip("▓▒░▚", "=+:*", strict=True)),
    **dict.fromkeys("─━╸╺\N{EM DASH}\N{EN DASH}", "-"),
    **dict.fromkeys("\N{MICRO SIGN}\N{GREEK SMALL LETTER MU}", "u"),
    **dict.fromkeys("\N{LEFT SINGLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}", "'"),
    **dict.fromkeys("\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}", " "),
    "\N{MULTIPLICATION SIGN}": "x",
    "·": "|",
    "→": "->",
    "←": "<-",
    "…": "...",
    "≤": "<=",
    "≥": ">=",
    "±": "+-",
    "“": '"',
    "”": '"',
}


def prepare(stream: Any) -> None:
    """Let a standard stream write any text; one that cannot be changed is left as it is."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is None:
        return
    if _is_plain(stream):
        reconfigure(encoding="ascii", errors=ERRORS)
    else:
        reconfigure(errors=ERRORS)


def exact(stream: Any) -> None:
    """Let a standard stream of the C locale write UTF-8 again: of data for programs no character is replaced."""
    if _is_c_locale() and getattr(stream, "encoding", None) == "ascii":
        stream.reconfigure(encoding="utf-8", errors=ERRORS)


def _is_plain(stream: Any) -> bool:
    return _is_c_locale() and str(stream.encoding).lower() == "utf-8" and not stream.isatty()


def _is_c_locale() -> bool:
    begun = _environment()
    if begun.get("PYTHONIOENCODING") or begun.get("PYTHONUTF8"):
        return False
    named = next((value for name in ("LC_ALL", "LC_CTYPE", "LANG") if (value := begun.get(name))), "C")
    return named in ("C", "POSIX")


def _environment() -> Mapping[str, str]:
    """The environment that the process began with: Python itself replaces the C locale in its own (PEP 538)."""
    try:
        raw = Path("/proc/self/environ").read_bytes()
    except OSError:
        return os.environ
    pairs = (line.partition("=") for line in os.fsdecode(raw).split("\0"))
    return {name: value for name, _, value in pairs}


def _replaced(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_STAND_INS.get(each) or _escaped(each) for each in text), error.end


def _escaped(character: str) -> str:
    """A character as JSON and Python write it."""
    number = ord(character)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


codecs.register_error(ERRORS, _replaced)
