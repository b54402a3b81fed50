"""URL masking: every part of an address that is not known to be public is shown as `***`.

No list of names covers all secrets: exchanges call them jwt, sid or passphrase, or put a listen key into the path. So
of an address only scheme, host, port and the names of its query parameters are shown, and the parts that its feed
declares (`public_url_parts`); for a feed of the catalogue that is the whole text of its file. Placeholders, `${NAME}`
and `{token}`, are shown as such.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from wsrec.feed.placeholders import PLACEHOLDER

MASK = "***"
ENVIRONMENT = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)([^/?#]*)([^?#]*)([^#]*)(#?)", re.DOTALL)
# in a text: also of addresses that lack a slash or a scheme
_USER = re.compile(r"(:/{1,2}|//)([^\s'\"`@]+(?:@[^\s'\"`@]+)*)@")
_VALUE = re.compile(r"([?&;#][\w.\[\]-]+=)(?![*{$])[^\s'\"`&]+")
# of a socket's address, which may lack its colon or a slash: a listen key is a part of the path
_PATH = re.compile(r"\b(wss?(?::?/{1,2})[^\s'\"`/?#]+)((?:/[^\s'\"`/?#]*)+)", re.IGNORECASE)
_HOST = re.compile(r"[\w.:\[\]%-]*")
# stand in for placeholders while an address is taken apart: these may contain separators
_FIRST, _LAST = "\ue000", "\uf8ff"
_SET_ASIDE = re.compile(f"[{_FIRST}-{_LAST}]")
_LITERAL = re.compile(f"[^{_FIRST}-{_LAST}]+")
_FILLED_IN = re.compile(rf"{ENVIRONMENT.pattern}|{PLACEHOLDER.pattern}")


def mask_url(url: str, public: Collection[str] = ()) -> str:
    """`url` with potential secrets masked.

    The rest is kept as written, not decoded and re-encoded: the record must show what was sent.

    Args:
        url: with `${NAME}` and other placeholders not yet filled in.
        public: path segments, and names of query parameters, that may be shown.

    """
    whole = _Set(url)
    found = _URL.match(whole.text)
    if found is None or whole.ambiguous:
        return MASK
    scheme, authority, path, query, fragment = found.groups()
    user, at, host = authority.rpartition("@")
    user = ":".join(_hidden(part) for part in user.split(":"))
    host = host if _HOST.fullmatch(_SET_ASIDE.sub("", host)) else MASK
    path = "".join(part if part == "/" or whole.back(part) in public else _hidden(part) for part in _split(path, "/"))
    query = "".join(part if part in "?&;" else _parameter(part, whole, public) for part in _split(query, "?&;"))
    return whole.back(f"{scheme}{user}{at}{host}{path}{query}{fragment and '#' + MASK}")


def mask_in_text(text: str) -> str:
    """A text about something that was typed, with what would be secret in an address, complete or not, masked.

    Users, passwords, values of query parameters, and the path of a socket's address; other paths are shown, since most
    of what is typed is one.
    """
    text = _USER.sub(lambda found: found[0] if "${" in found[2] else f"{found[1]}{MASK}@", text)
    text = _PATH.sub(lambda found: found[1] + _hidden_path(found[2]), text)
    return _VALUE.sub(rf"\1{MASK}", text)


def _hidden_path(path: str) -> str:
    # wsrec's own sentences have ws://HOST/PATH, and what a variable fills in is shown by its name
    segments = ("/" + (part if "{" in part or not part else MASK) for part in path[1:].split("/"))
    return path if path.lower() == "/path" else "".join(segments)


def mask_tail(tail: str, public: Collection[str] = ()) -> str:
    """`mask_url` for the continuation of an address: more of its path, or of its query."""
    return mask_url(_start(tail) + tail, public).removeprefix(_start(tail))


def url_parts_of_tail(tail: str) -> Iterator[str]:
    """`parts_of` for the continuation of an address."""
    return url_parts(_start(tail) + tail)


def url_parts(url: str) -> Iterator[str]:
    """The parts that must be public for the whole path and query of a URL to be shown."""
    whole = _Set(url)
    found = _URL.match(whole.text)
    if found is not None:
        yield from (whole.back(part) for part in _split(found[3], "/") if part != "/")
        yield from (whole.back(_name(part) or part) for part in _split(found[4], "?&;") if part not in "?&;")


def _start(tail: str) -> str:
    return {"?": "ws://h", "&": "ws://h?", ";": "ws://h?"}.get(tail[:1], "ws://h/")


class _Set:
    """An address with its placeholders replaced by single private-use characters."""

    def __init__(self, url: str) -> None:
        self._aside: list[str] = []
        self.ambiguous = _SET_ASIDE.search(url) is not None
        self.text = _FILLED_IN.sub(self._take, url)

    def _take(self, found: re.Match[str]) -> str:
        self._aside.append(found[0])
        return chr(ord(_FIRST) + len(self._aside) - 1)

    def back(self, text: str) -> str:
        """`text` with the placeholders restored."""
        return _SET_ASIDE.sub(lambda found: self._aside[ord(found[0]) - ord(_FIRST)], text)


def _split(text: str, separators: str) -> list[str]:
    """The non-empty parts of a text and the separators between them, in order."""
    return [part for part in re.split(f"([{separators}])", text) if part]


def _hidden(text: str) -> str:
    return _LITERAL.sub(MASK, text)


def _name(parameter: str) -> str:
    """The name of a parameter; empty if all of it is a value (a trailing `=` may be padding)."""
    name, _, value = parameter.partition("=")
    return name if value.strip("=") else ""


def _parameter(text: str, whole: _Set, public: Collection[str]) -> str:
    name = _name(text)
    if whole.back(name or text) in public:
        return text
    return f"{name}={_hidden(text[len(name) + 1 :])}" if name else _hidden(text)
