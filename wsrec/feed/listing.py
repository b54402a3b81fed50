"""Symbol listings: all symbols of an exchange, fetched over HTTPS and cached for a day in the user's cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from wsrec.feed.errors import ConfigError
from wsrec.feed.paths import first, scalar_text
from wsrec.feed.schema import Feed
from wsrec.feed.symbols import Listing
from wsrec.http.attempt import HttpError
from wsrec.http.client import fetch, host_of
from wsrec.http.proxied import connect_via
from wsrec.net.proxy import DIRECT, ProxyRules
from wsrec.net.retry import LIMITED_WAIT, HostLimits, capped
from wsrec.net.trust import tls_context
from wsrec.units import plural

MAX_AGE = 86400.0
MAX_SYMBOLS = 100_000
_LIMIT = 64 << 20
_TIMEOUT = 30.0
# shared, since several feeds may list their symbols at one host
_limits = HostLimits()


class Listed(NamedTuple):
    """Symbols of an exchange.

    Attributes:
        symbols: as in the exchange's messages, in the exchange's order.
        age: seconds since they were fetched.
        trouble: why an outdated list is used; empty for a current one.

    """

    symbols: tuple[str, ...]
    age: float
    trouble: str = ""

    def __str__(self) -> str:
        old = "just now" if self.age < 60 else f"{_duration(self.age)} ago"
        trouble = f" ({self.trouble})" if self.trouble else ""
        return f"{plural(len(self.symbols), 'symbol')}, listed {old}{trouble}"


def all_symbols(feed: Feed, proxies: ProxyRules = DIRECT) -> Listed:
    """All symbols that the exchange lists; fetched unless the cache holds a list of the last day.

    Args:
        feed: the feed.
        proxies: proxy selection.

    Raises:
        ConfigError: the feed has no listing, or neither an answer nor a cached list exists; says what to do.

    """
    hint = "name symbols with --symbols A,B, or a file of them with --symbols @FILE"
    if feed.symbols is None or feed.symbols.listing is None:
        raise ConfigError(f"{feed.name} does not say where its exchange lists symbols (symbols.listing): {hint}")
    kept = cached(feed)
    if kept is not None and kept.age < MAX_AGE:
        return kept
    try:
        symbols = _request(feed, feed.symbols.listing, proxies)
    except (HttpError, ValueError) as error:
        if kept is not None:
            return kept._replace(trouble=str(error))
        raise ConfigError(f"{feed.name}: the exchange's symbols cannot be listed: {error}; {hint}") from error
    _keep(_file(feed, feed.symbols.listing), symbols)
    return Listed(symbols, 0.0)


def cached(feed: Feed) -> Listed | None:
    """The cached list, however old; None without one. Sends no request."""
    if feed.symbols is None or feed.symbols.listing is None:
        return None
    try:
        kept = json.loads(_file(feed, feed.symbols.listing).read_bytes())
        return Listed(tuple(_fitting(feed, kept["symbols"])), max(time.time() - float(kept["time"]), 0.0))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _request(feed: Feed, listing: Listing, proxies: ProxyRules) -> tuple[str, ...]:
    body = None if listing.body is None else listing.body.encode()
    method = "GET" if body is None else "POST"
    context = tls_context()
    host = host_of(listing.url)
    if (left := _limits.free_at(host) - time.monotonic()) > 0:
        raise HttpError(host, f" has refused earlier requests as too many; {_later(left)}", "limited")
    try:
        connect = connect_via(proxies.of(listing.url))
        data = fetch(
            listing.url, context=context, method=method, body=body, limit=_LIMIT, timeout=_TIMEOUT, connect=connect
        )
    except HttpError as error:
        if error.cause != "limited":
            raise
        wait = capped(error.retry_after) or LIMITED_WAIT
        _limits.block(host, wait)
        raise HttpError("", f"{error}; {_later(wait)}", "limited") from None
    try:
        answer = json.loads(data)
    except RecursionError:
        raise ValueError("the answer is not a list of symbols") from None
    found = tuple(dict.fromkeys(_fitting(feed, _written(listing, answer))))
    if not found:
        raise ValueError("no symbol of the answer matches the feed's pattern: check symbols.listing")
    if len(found) > MAX_SYMBOLS:
        raise ValueError(f"the answer has more than {MAX_SYMBOLS} symbols")
    return found


def _written(listing: Listing, answer: Any) -> Iterator[str]:
    """The symbols in the listing's answer, written as messages write them."""
    items = answer if listing.items is None else first(answer, listing.items)
    if isinstance(items, dict):
        items = list(items.values())
    if not isinstance(items, list):
        raise ValueError(f"the answer has no array at {listing.items or 'its top'}")
    for item in items:
        if all(scalar_text(first(item, path)) in texts for path, texts in listing.where.items()):
            symbol = item if listing.symbol is None else first(item, listing.symbol)
            if isinstance(symbol, str):
                yield listing.write.replace("{symbol}", symbol)


def _fitting(feed: Feed, symbols: Any) -> Iterator[str]:
    assert feed.symbols is not None
    for symbol in symbols:
        with contextlib.suppress(ConfigError):
            if isinstance(symbol, str):
                yield feed.symbols.normalise(symbol)


def _file(feed: Feed, listing: Listing) -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    folder = base if base.is_absolute() else Path.home() / ".cache"
    key = hashlib.sha256(listing.model_dump_json().encode()).hexdigest()[:12]
    return folder / "wsrec" / "symbols" / f"{feed.name}-{key}.json"


def _keep(file: Path, symbols: tuple[str, ...]) -> None:
    # an unwritable home folder must not prevent recording
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, suffix=".tmp", delete=False) as new:
            try:
                json.dump({"time": time.time(), "symbols": symbols}, new)
                new.flush()
                Path(new.name).replace(file)
            except BaseException:
                Path(new.name).unlink()
                raise


def _later(wait: float) -> str:
    return f"try again in {_duration(wait)}"


def _duration(seconds: float) -> str:
    for size, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            return plural(int(seconds // size), name)
    return plural(round(seconds), "second")
