"""Names for bare URLs, derived from their host.

A later run continues the folders of the previous one, so a name depends on which URLs are recorded together, but not on
their order. The part after the host may be secret: several URLs of one host are only numbered, in the order of the URLs
as written (with `${NAME}`, not its value).
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from urllib.parse import urlsplit

from wsrec.net.ports import DEFAULT_PORTS

LONGEST = 64


def host_name(url: str) -> str:
    """The host of a valid WebSocket URL as a name: lower case letters, digits, dots and dashes."""
    host = urlsplit(url).hostname or ""
    try:
        # the canonical form with the longest run of zeros shortened
        groups = str(ipaddress.IPv6Address(host.partition("%")[0]))
        host = "ipv6-" + "-".join(groups.replace("::", ":0:").strip(":").split(":"))
    except ValueError:
        with contextlib.suppress(UnicodeError):
            host = host.encode("idna").decode()
    return re.sub(r"[^a-z0-9.-]+", "-", host.lower()).strip(".-")[:LONGEST].strip(".-") or "url"


def names_of(urls: Sequence[str], taken: Collection[str]) -> list[str]:
    """A unique name for each of several different URLs, none of them in `taken`.

    The host; with the port if the ports of a host differ; numbered if that is not enough.
    """
    ports: dict[str, set[int]] = defaultdict(set)
    for url in urls:
        ports[host_name(url)].add(_port(url))
    used = set(taken)
    names: dict[str, str] = {}
    for url in sorted(urls, key=lambda url: (host_name(url), _port(url), url)):
        host = host_name(url)
        stem = _with(host, f"-{_port(url)}") if len(ports[host]) > 1 else host
        name, count = stem, 1
        while name in used:
            count += 1
            name = _with(stem, f"-{count}")
        used.add(name)
        names[url] = name
    return [names[url] for url in urls]


def _with(stem: str, ending: str) -> str:
    return stem[: LONGEST - len(ending)].rstrip(".-") + ending


def _port(url: str) -> int:
    parts = urlsplit(url)
    return parts.port or DEFAULT_PORTS.get(parts.scheme, 0)
