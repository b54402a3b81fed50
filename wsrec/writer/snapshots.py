"""HTTP snapshots and listings: fetched beside the stream by threads of the writer, at the rate that the feed allows.

Only public data: nothing secret is sent. Redirects are followed on the same host only. Each host gets one request at a
time, and hosts do not wait for each other: one that hangs delays only its own snapshots.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from wsrec import ipc
from wsrec.arrays import large_binary
from wsrec.decode.json_text import decoded
from wsrec.http.attempt import HttpError
from wsrec.http.client import fetch, host_of
from wsrec.http.proxied import connect_via
from wsrec.net.proxy import DIRECT, ProxyRules
from wsrec.net.retry import HostLimits, capped
from wsrec.net.trust import tls_context
from wsrec.receive.backoff import Backoff
from wsrec.ring.events import Event, EventKind
from wsrec.ring.slot_flags import FLAG_EVENT, WHOLE_SNAPSHOT
from wsrec.ring.slot_layout import SLOT_DTYPE
from wsrec.stages import StampSource
from wsrec.units import plural
from wsrec.wire.frames import TEXT
from wsrec.writer.batch import Batch

BODY_MAX = 16 << 20
"""Largest accepted body (bytes)."""

_TIMEOUT = 30.0
_REDIRECTS = 3
_ATTEMPTS = 6


def not_json(body: bytes) -> str | None:
    """Why a body is no snapshot of anything, in words; None if it is JSON."""
    return "it is empty" if not body else None if decoded(body) is not None else "it is not JSON"


class SnapshotRequest(NamedTuple):
    """A snapshot to fetch.

    Attributes:
        feed: the feed's name.
        conn: the connection of the stream.
        stream: its number among the feed's subscriptions (`StreamTable.streams`).
        channel, symbol: of the stream.
        url: the snapshot's URL.
        interval: least time (s) before the feed's next request.
        reason: why it is needed.
        public_url: `url` with potential secrets masked.
        wait: delay (s) before it is fetched.
        what: what it is, in words.
        problem: what a body lacks, in words, or None; such a body is stored, and fetched again.

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
    what: str = "snapshot"
    problem: Callable[[bytes], str | None] = not_json


class Fetched(NamedTuple):
    """The outcome of a request: a body, or only an event.

    Attributes:
        request: the request.
        time: when it was completed (ns on the monotonic clock).
        event: the event to record.
        body: the snapshot; None on failure.

    """

    request: SnapshotRequest
    time: int
    event: Event
    body: bytes | None

    def batch(self, following: int) -> Batch:
        """The row and the event as slots that were in no ring; `offset` of the row is the stream's number.

        `following` is the slot ring's count of the slot behind them.
        """
        parts = [(0, self.event.encode(), FLAG_EVENT | WHOLE_SNAPSHOT)]
        if self.body is not None:
            parts.insert(0, (self.request.stream, self.body, WHOLE_SNAPSHOT))
        slots = np.zeros(len(parts), SLOT_DTYPE)
        for slot, (offset, payload, flags) in zip(slots, parts, strict=True):
            slot["offset"], slot["length"], slot["flags"], slot["opcode"] = offset, len(payload), flags, TEXT
            slot["conn"], slot["handoff"], slot["source"] = self.request.conn, self.time, StampSource.NONE_ABSENT
        return Batch(slots, large_binary([payload for _, payload, _ in parts]), following)


class _Due(NamedTuple):
    """A queued or running request; the feed's rate allows it `at` (monotonic clock, s)."""

    request: SnapshotRequest
    host: str
    at: float
    backoff: Backoff


class SnapshotThread(threading.Thread):
    """Fetches the requested snapshots: one request per host at a time, in a thread of its own.

    Args:
        ca_file: PEM file trusted in addition to the system's certificates.
        proxies: proxy selection by feed name; no proxy for others.

    Attributes:
        done: completed requests, in order of time; taken out by the caller.

    """

    def __init__(self, ca_file: str | None, proxies: Mapping[str, ProxyRules] | None = None) -> None:
        super().__init__(name="snapshots", daemon=True)
        self.done: deque[Fetched] = deque()
        self._context = tls_context(ca_file)
        self._proxies = proxies or {}
        self._waiting: dict[tuple[int, int], _Due] = {}
        # by host
        self._under_way: dict[str, _Due] = {}
        # by feed and host
        self._free_at: dict[tuple[str, str], float] = {}
        self._limits = HostLimits()
        self._changed = threading.Condition()
        self._stopping = False

    def request(self, request: SnapshotRequest) -> None:
        """Queue a snapshot, unless it is queued already."""
        try:
            host = host_of(request.url)
        except HttpError:
            # the attempt reports the error
            host = ""
        due = _Due(request, host, time.monotonic() + request.wait, Backoff())
        with self._changed:
            if self._stopping:
                # too late for an event: the rows that asked for it are the last
                ipc.warn(
                    f"no {request.what} from {request.public_url}: the session ended",
                    feed=request.feed,
                    conn=request.conn,
                    kind=EventKind.SNAPSHOT_FAILED,
                )
                return
            self._waiting.setdefault((request.conn, request.stream), due)
            self._changed.notify()

    def stop(self) -> None:
        """Start nothing more and do not wait: running and waiting requests count as failed."""
        with self._changed:
            self._stopping = True
            for due in self._under_way.values():
                error = HttpError(due.host, " did not answer before the session's end", "timeout")
                self._end(due, EventKind.SNAPSHOT_FAILED, _failure(error, None))
            for due in self._waiting.values():
                error = HttpError(due.host, " was not asked before the session's end", "session_end")
                self._end(due, EventKind.SNAPSHOT_FAILED, _failure(error, None), warns=False)
            never = Counter((due.request.feed, due.request.what) for due in self._waiting.values())
            for (feed, what), count in never.items():
                message = f"{plural(count, what)} not fetched before the session's end"
                ipc.warn(message, feed=feed, kind=EventKind.SNAPSHOT_FAILED)
            self._waiting.clear()
            self._changed.notify()

    def run(self) -> None:
        """Start requests when they are due, until stopped."""
        while (due := self._next()) is not None:
            try:
                threading.Thread(target=self._fetch, args=(due,), name=f"snapshot of {due.host}", daemon=True).start()
            except RuntimeError:
                # the system refuses another thread: the request fails the same way and reports it
                self._fetch(due)

    def _next(self) -> _Due | None:
        with self._changed:
            while not self._stopping:
                now = time.monotonic()
                free = (due for due in self._waiting.values() if due.host not in self._under_way)
                first = min(free, key=self._starts, default=None)
                if first is not None and self._starts(first) <= now:
                    self._under_way[first.host] = first
                    return self._waiting.pop((first.request.conn, first.request.stream))
                self._changed.wait(None if first is None else self._starts(first) - now)
            return None

    def _starts(self, due: _Due) -> float:
        paced = self._free_at.get((due.request.feed, due.host), 0.0)
        return max(due.at, paced, self._limits.free_at(due.host))

    def _fetch(self, due: _Due) -> None:
        request, began = due.request, time.monotonic_ns()
        wait: float | None = None
        body: bytes | None = None
        try:
            body = fetch(
                request.url,
                context=self._context,
                limit=BODY_MAX,
                timeout=_TIMEOUT,
                redirects=_REDIRECTS,
                connect=connect_via(self._proxies.get(request.feed, DIRECT).of(request.url)),
            )
            kind = EventKind.SNAPSHOT
            detail: dict[str, Any] = {
                "monotonic_requested": began,
                "duration_ns": time.monotonic_ns() - began,
                "bytes": len(body),
            }
            problem = request.problem(body)
            if problem is not None:
                wait = self._again(due, "answer")
                detail |= {"problem": problem, "retry_s": wait}
        except HttpError as error:
            kind = EventKind.SNAPSHOT_FAILED
            wait = self._again(due, error.cause, error.retry_after)
            detail = _failure(error, wait)
        with self._changed:
            if self._stopping:
                return
            self._end(due, kind, detail, body)
            del self._under_way[due.host]
            self._free_at[request.feed, due.host] = time.monotonic() + request.interval
            if wait is not None:
                later = due._replace(at=time.monotonic() + wait)
                self._waiting.setdefault((request.conn, request.stream), later)
            self._changed.notify()

    def _again(self, due: _Due, cause: str, retry_after: float | None = None) -> float | None:
        """After how many seconds the request is repeated; None: not at all."""
        again = due.backoff.next(capped(retry_after), cause)
        if cause == "limited" or retry_after is not None:
            self._limits.block(due.host, again)
        return again if due.backoff.attempts < _ATTEMPTS else None

    def _end(
        self, due: _Due, kind: EventKind, detail: dict[str, Any], body: bytes | None = None, *, warns: bool = True
    ) -> None:
        """Record the outcome of a request; called with the lock held, so that all are in order of time."""
        request = due.request
        about = {
            "channel": request.channel,
            "symbol": request.symbol,
            "url": request.public_url,
            "reason": request.reason,
        }
        event = Event(kind, request.conn, detail={**about, **detail})
        self.done.append(Fetched(request, time.monotonic_ns(), event, body))
        problem = detail["message"] if body is None else detail.get("problem")
        if problem is not None and warns:
            ipc.warn(
                f"no {request.what} from {request.public_url}: {problem}",
                feed=request.feed,
                conn=request.conn,
                kind=kind,
                channel=request.channel,
                symbol=request.symbol,
            )


def _failure(error: HttpError, wait: float | None) -> dict[str, Any]:
    return {"message": str(error), "cause": error.cause, "retry_s": wait}
