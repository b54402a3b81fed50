"""Snapshots over HTTP: fetched beside the stream, by a thread of the writer, never faster than the feed allows.

Only public data: nothing secret is sent. Certificates and host names are verified; a redirect is followed on the same
host only, and what an exchange sends is bounded in size and time.
"""

from __future__ import annotations

import http.client
import ssl
import threading
import time
from collections import deque
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urljoin, urlsplit

import numpy as np

from wsrec import __version__, child
from wsrec.feed.arrays import large_binary
from wsrec.ring.events import Event, EventKind
from wsrec.ring.slotring import SLOT_DTYPE, Flag
from wsrec.stages import StampSource
from wsrec.store.batch import Batch
from wsrec.trust import tls_context
from wsrec.wire.frames import TEXT

BODY_MAX = 16 << 20
"""Largest body (bytes) that is taken."""

_TIMEOUT = 10.0
_DEADLINE = 60.0
_REDIRECTS = 3
_ATTEMPTS = 6
_CHUNK = 1 << 16
_RETRY_MOST = 3600.0
# RFC 6585 section 4, and what Binance says to an address that went on after 429
_TOO_MANY = (429, 418)
_REST = int(Flag.REST | Flag.FIN)


class SnapshotRequest(NamedTuple):
    """A snapshot that is wanted.

    Attributes:
        feed: the feed's name.
        conn: the connection of the stream.
        stream: its number among the feed's subscriptions (`SilenceTracker.streams`).
        channel, symbol: of the stream.
        url: where it is.
        interval: least time (s) before the feed's next request.
        reason: why it is wanted.
        public_url: `url` without what may be secret.
        wait: time (s) before it is fetched.

    """

    feed: str
    conn: int
    stream: int
    channel: str
    symbol: str | None
    url: str
    interval: float
    reason: str
    public_url: str
    wait: float = 0.0


class Fetched(NamedTuple):
    """What became of a request: a body, or an event alone.

    Attributes:
        request: the request.
        time: when it was over (ns on the monotonic clock).
        event: what to tell.
        body: None where there is none.

    """

    request: SnapshotRequest
    time: int
    event: Event
    body: bytes | None

    def batch(self, following: int) -> Batch:
        """The row and the event as slots that were in no ring; `offset` of the row is the stream's number.

        `following` is the slot ring's count of the slot that follows them.
        """
        parts = [(0, self.event.encode(), int(Flag.EVENT) | _REST)]
        if self.body is not None:
            parts.insert(0, (self.request.stream, self.body, _REST))
        slots = np.zeros(len(parts), SLOT_DTYPE)
        for slot, (offset, payload, flags) in zip(slots, parts, strict=True):
            slot["offset"], slot["length"], slot["flags"], slot["opcode"] = offset, len(payload), flags, TEXT
            slot["conn"], slot["handoff"], slot["source"] = self.request.conn, self.time, StampSource.NONE_ABSENT
        return Batch(slots, large_binary([payload for _, payload, _ in parts]), following)


class SnapshotError(Exception):
    """A snapshot could not be had.

    Attributes:
        wait: seconds that the exchange wants to be left alone; None where it did not say.

    """

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class _Due(NamedTuple):
    request: SnapshotRequest
    at: float
    attempt: int


class SnapshotThread(threading.Thread):
    """Fetches what is asked for, one request at a time.

    Args:
        ca_file: PEM file trusted besides the system's certificates.

    Attributes:
        done: what became of the requests, in order of time; the caller takes it out.

    """

    def __init__(self, ca_file: str | None) -> None:
        super().__init__(name="snapshots", daemon=True)
        self.done: deque[Fetched] = deque()
        self._context = tls_context(ca_file)
        self._waiting: dict[tuple[int, int], _Due] = {}
        self._feed_free: dict[str, float] = {}
        self._changed = threading.Condition()
        self._stopping = False

    def ask(self, request: SnapshotRequest) -> None:
        """Have a snapshot fetched; one that is waited for already is not asked for twice."""
        with self._changed:
            self._waiting.setdefault((request.conn, request.stream), _Due(request, time.monotonic() + request.wait, 1))
            self._changed.notify()

    def stop(self) -> None:
        """Begin nothing more; what is under way then is left."""
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def run(self) -> None:
        """Fetch, until stopped."""
        while (due := self._next()) is not None:
            self._fetch(due)

    def _next(self) -> _Due | None:
        with self._changed:
            while not self._stopping:
                now = time.monotonic()
                first = min(self._waiting.values(), key=self._starts, default=None)
                if first is not None and self._starts(first) <= now:
                    return self._waiting.pop((first.request.conn, first.request.stream))
                self._changed.wait(None if first is None else self._starts(first) - now)
            return None

    def _starts(self, due: _Due) -> float:
        return max(due.at, self._feed_free.get(due.request.feed, 0.0))

    def _fetch(self, due: _Due) -> None:
        request, began = due.request, time.monotonic_ns()
        about = {
            "channel": request.channel,
            "symbol": request.symbol,
            "url": request.public_url,
            "reason": request.reason,
        }
        wait: float | None = None
        pause = request.interval
        detail: dict[str, Any]
        try:
            body = fetch(request.url, self._context)
            detail = {"monotonic_requested": began, "duration_ns": time.monotonic_ns() - began, "bytes": len(body)}
            kind, found = EventKind.SNAPSHOT, body
        except SnapshotError as error:
            if due.attempt < _ATTEMPTS:
                wait = min(max(error.wait or 0.0, 2.0 ** (due.attempt - 1)), _RETRY_MOST)
            pause = max(pause, min(error.wait or 0.0, _RETRY_MOST))
            kind, found, detail = EventKind.SNAPSHOT_FAILED, None, {"message": str(error), "retry_s": wait}
            child.warn(f"{request.feed}: no snapshot from {request.public_url}: {error}", conn=request.conn)
        event = Event(kind, request.conn, detail={**about, **detail})
        self.done.append(Fetched(request, time.monotonic_ns(), event, found))
        with self._changed:
            self._feed_free[request.feed] = time.monotonic() + pause
            if wait is not None:
                again = _Due(request, time.monotonic() + wait, due.attempt + 1)
                self._waiting.setdefault((request.conn, request.stream), again)


def fetch(url: str, context: ssl.SSLContext) -> bytes:
    """The body that lies under a URL.

    Raises:
        SnapshotError: there is none, or it is too large or too slow.

    """
    deadline = time.monotonic() + _DEADLINE
    try:
        for _ in range(_REDIRECTS + 1):
            found = _get(urlsplit(url), context, deadline)
            if isinstance(found, bytes):
                return found
            target = urljoin(url, found)
            if urlsplit(target)[:2] != urlsplit(url)[:2]:
                raise SnapshotError("it was moved to another host, which is not followed")
            url = target
    except (OSError, http.client.HTTPException, ValueError) as error:
        # what other errors say may have the address in it
        raise SnapshotError((isinstance(error, OSError) and str(error)) or type(error).__name__) from None
    raise SnapshotError("too many redirects")


def _get(url: SplitResult, context: ssl.SSLContext, deadline: float) -> bytes | str:
    """The body, or where it has moved to."""
    host = url.hostname or ""
    connection = (
        http.client.HTTPSConnection(host, url.port, timeout=_TIMEOUT, context=context)
        if url.scheme == "https"
        else http.client.HTTPConnection(host, url.port, timeout=_TIMEOUT)
    )
    try:
        path = f"{url.path or '/'}{'?' if url.query else ''}{url.query}"
        connection.request("GET", path, headers={"User-Agent": f"wsrec/{__version__}", "Accept": "application/json"})
        with connection.getresponse() as response:
            if response.status in (301, 302, 303, 307, 308):
                return response.headers.get("Location", "")
            if response.status != http.client.OK:
                wait = _retry_after(response.headers.get("Retry-After"))
                if wait is None and response.status in _TOO_MANY:
                    wait = 60.0
                raise SnapshotError(f"HTTP status {response.status}", wait)
            body = bytearray()
            while chunk := response.read(_CHUNK):
                body += chunk
                if len(body) > BODY_MAX:
                    raise SnapshotError(f"it is larger than {BODY_MAX >> 20} MiB")
                if time.monotonic() > deadline:
                    raise SnapshotError(f"it takes longer than {_DEADLINE:g} s")
            return bytes(body)
    finally:
        connection.close()


def _retry_after(text: str | None) -> float | None:
    """Seconds of a Retry-After header (RFC 9110 section 10.2.3): a number, or a date."""
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
        return max((moment - datetime.now(UTC)).total_seconds(), 0.0)
    except (TypeError, ValueError):
        return None
