"""Samples the state of a running recording (`wsrec.supervise.state`) from the status pages of its pairs.

Rates and percentiles are those of a window that ends now: between the pages and a copy of them that is 5 to 10 s old.
It touches no message data, and any thread may sample.
"""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from wsrec.counts import counts_of, total
from wsrec.format.layout import HOUR_NS
from wsrec.histogram import BUCKETS, coarse_quantiles, quantile
from wsrec.plan.connections import ConnectionPlan
from wsrec.ring.status import StatusPage
from wsrec.stages import STEPS, TOTAL
from wsrec.supervise.free_space import FreeSpace
from wsrec.supervise.recent_log import RecentLog
from wsrec.supervise.state import (
    ConnectionState,
    ConnectionStatus,
    Latency,
    ProcessState,
    RecorderState,
    StepState,
)
from wsrec.version import __version__

if TYPE_CHECKING:
    from wsrec.supervise.pair import Pair
    from wsrec.supervise.supervisor import Supervisor

WINDOW = 10.0
"""Longest window (s)."""
# without a heartbeat for so long, what a receiver says of its connections is no longer true
_STALE_NS = 3_000_000_000

_Int64s = npt.NDArray[np.int64]


class _Copy(NamedTuple):
    """What a page had counted at a monotonic time (ns)."""

    at: int
    messages: int
    payload_bytes: int
    wire_bytes: int
    steps: _Int64s
    connections: npt.NDArray[Any]

    @classmethod
    def of(cls, page: StatusPage) -> _Copy:
        return cls(
            time.monotonic_ns(),
            int(page.writer["messages"]),
            int(page.writer["payload_bytes"]),
            int(page.receiver["bytes"]),
            page.steps.copy(),
            page.connections.copy(),
        )


class StateSampler:
    """Samples the state of a recording.

    Args:
        supervisor: the recording.
        log: its last log lines.
        space: its disk.
        holds_folder: returns whether it holds its output folder.

    Attributes:
        ticked: monotonic time (s) of the last `tick`: whether the event loop works.

    """

    def __init__(
        self,
        supervisor: Supervisor,
        log: RecentLog,
        space: FreeSpace,
        holds_folder: Any = lambda: True,
    ) -> None:
        self._supervisor = supervisor
        self._log = log
        self._space = space
        self._holds_folder = holds_folder
        self._began = time.time_ns()
        self._lock = threading.Lock()
        # the copies of each pair's page, the oldest first
        self._copies: list[list[_Copy]] = [[] for _ in supervisor.pairs]
        self.ticked = time.monotonic()

    def tick(self) -> None:
        """Copy the pages for later windows; call about once a second."""
        self.ticked = time.monotonic()
        with self._lock:
            for pair, copies in zip(self._supervisor.pairs, self._copies, strict=True):
                page = pair.status
                if page is not None and (not copies or time.monotonic_ns() - copies[-1].at >= WINDOW / 2 * 1e9):
                    copies.append(_Copy.of(page))
                    del copies[:-2]

    def steps(self) -> _Int64s:
        """The histograms of the steps and the total since the beginning, of all pairs: (steps + total, `BUCKETS`)."""
        found = np.zeros((len(STEPS) + 1, BUCKETS), np.int64)
        for page in self._pages():
            found += page.steps
        return found

    def state(self) -> RecorderState:
        """The state now."""
        supervisor, pages = self._supervisor, self._pages()
        with self._lock:
            copies = [each[0] if each else None for each in self._copies]
        nows = [None if pair.status is None else _Copy.of(pair.status) for pair in supervisor.pairs]
        spans = [_Span(before, now) for before, now in zip(copies, nows, strict=True) if now is not None]
        connections = [
            each
            for pair, span in zip((pair for pair in supervisor.pairs if pair.status is not None), spans, strict=True)
            for each in _connections(pair, span)
        ]
        steps = sum((span.steps for span in spans), np.zeros((len(STEPS) + 1, BUCKETS), np.int64))
        now = time.time_ns()
        until = supervisor.until
        return RecorderState(
            version=__version__,
            pid=os.getpid(),
            out=str(supervisor.options.out.absolute()),
            holds_folder=bool(self._holds_folder()),
            sessions=tuple(pair.session for pair in supervisor.pairs),
            targets=supervisor.targets,
            feeds=tuple(dict.fromkeys(plan.feed for pair in supervisor.pairs for plan in pair.plans)),
            time=now,
            began=self._began,
            until=None if until is None else now + int((until - time.monotonic()) * 1e9),
            phase=supervisor.phase,
            reason=supervisor.reason,
            connections=tuple(sorted(connections, key=lambda each: each.conn)),
            counts=total(counts_of(page.writer) for page in pages),
            window_ns=max((span.ns for span in spans), default=0),
            rate=sum(span.rate("messages") for span in spans),
            payload_rate=sum(span.rate("payload_bytes") for span in spans),
            wire_rate=sum(span.rate("wire_bytes") for span in spans),
            steps=tuple(
                StepState(step.key, Latency(quantile(row, 0.5), quantile(row, 0.99)))
                for step, row in zip((*STEPS, TOTAL), steps, strict=True)
            ),
            ring_fill=max((pair.fill for pair in supervisor.pairs), default=0.0),
            journal_lag_ns=max((_journal_lag(pair) for pair in supervisor.pairs), default=0),
            waiting=sum(pair.waiting for pair in supervisor.pairs),
            files=sum(int(page.writer["files"]) for page in pages),
            journalled_bytes=sum(int(page.writer["journalled_bytes"]) for page in pages),
            disk=self._space.state(),
            disk_trouble=any(page.writer["disk_trouble"] for page in pages),
            next_rotation=_next_rotation(now, supervisor.options.rotate.seconds),
            reconnects=sum(int(page.receiver["reconnects"]) for page in pages),
            stalls=sum(int(page.receiver["stalls"]) for page in pages),
            restarts=sum(pair.restarts for pair in supervisor.pairs),
            processes=tuple(each for pair in supervisor.pairs for each in _processes(pair)),
            log_lines=dict(self._log.lines),
            warnings=self._log.recent(),
        )

    def _pages(self) -> list[StatusPage]:
        return [pair.status for pair in self._supervisor.pairs if pair.status is not None]


class _Span:
    """A page between two moments: `before` is None if nothing was counted yet at the first one."""

    def __init__(self, before: _Copy | None, now: _Copy) -> None:
        self.now = now
        self._before = before
        self.ns = 0 if before is None else now.at - before.at
        self.steps = now.steps if before is None else now.steps - before.steps

    def rate(self, name: str) -> float:
        """What a counter rose by per second."""
        if self._before is None or not self.ns:
            return 0.0
        return float(max(getattr(self.now, name) - getattr(self._before, name), 0) / self.ns * 1e9)

    def rates(self) -> list[float]:
        """The messages of each connection per second."""
        if self._before is None or not self.ns:
            return [0.0] * len(self.now.connections)
        now, before = (each.connections["writer"]["messages"].astype(np.int64) for each in (self.now, self._before))
        return ((now - before) / self.ns * 1e9).tolist()  # type: ignore[no-any-return]

    def latencies(self) -> list[Latency]:
        """The latency of each connection."""
        counts: _Int64s = self.now.connections["latency"]
        if self._before is not None:
            counts = counts - self._before.connections["latency"]
        return list(map(Latency, coarse_quantiles(counts, 0.5), coarse_quantiles(counts, 0.99)))


def _connections(pair: Pair, span: _Span) -> list[ConnectionState]:
    page, now = span.now, span.now.at
    assert pair.status is not None
    receiver = pair.status.receiver
    beats = now - int(receiver["heartbeat"]) < _STALE_NS
    ended = bool(receiver["finished"] or receiver["exhausted"])
    found = []
    rows = zip(
        pair.plans,
        page.connections["receiver"].tolist(),
        page.connections["writer"].tolist(),
        span.rates(),
        span.latencies(),
        strict=True,
    )
    for plan, received, written, rate, latency in rows:
        connected, active, opened, _, _, wire_bytes, stalls, reconnects = received
        messages, payload_bytes, last_message = written
        quiet = now - max(opened, last_message)
        found.append(
            ConnectionState(
                feed=plan.feed,
                conn=plan.conn,
                # 0 before the receiver has written it
                active=active if opened else plan.conn,
                host=_host(plan),
                state=_status(plan, now - pair.began, quiet, opened, connected=connected and beats, ended=ended),
                opened_ns=max(now - opened, 0) if opened else None,
                age_ns=max(now - last_message, 0) if last_message else None,
                messages=messages,
                payload_bytes=payload_bytes,
                wire_bytes=wire_bytes,
                rate=rate,
                latency=latency,
                reconnects=reconnects,
                stalls=stalls,
            )
        )
    return found


def _status(
    plan: ConnectionPlan, running: int, quiet: int, opened: int, *, connected: bool, ended: bool
) -> ConnectionStatus:
    if connected:
        return "silent" if plan.idle_timeout is not None and quiet > plan.idle_timeout * 1e9 else "open"
    if ended:
        return "ended"
    if opened:
        return "down"
    return "waiting" if running < plan.start_after * 1e9 else "connecting"


def _host(plan: ConnectionPlan) -> str:
    """Host and port, without user and password."""
    return urlsplit(plan.public_url).netloc.rpartition("@")[2]


def _journal_lag(pair: Pair) -> int:
    """The age of its oldest data that is in no journal (ns), also while its writer hangs."""
    page = pair.status
    if page is None or not pair.waiting:
        return 0
    beat = int(page.writer["heartbeat"])
    return int(page.writer["journal_lag_ns"]) + (max(time.monotonic_ns() - beat, 0) if beat else 0)


def _processes(pair: Pair) -> list[ProcessState]:
    now = time.monotonic_ns()
    found = []
    for supervised, beat in (
        (pair.receiver, 0 if pair.status is None else int(pair.status.receiver["heartbeat"])),
        (pair.writer, 0 if pair.status is None else int(pair.status.writer["heartbeat"])),
    ):
        found.append(
            ProcessState(
                name=supervised.child.name,
                pid=supervised.child.pid,
                heartbeat_ns=max(now - beat, 0) if beat else None,
                restarts=supervised.restarts,
            )
        )
    return found


def _next_rotation(now: int, seconds: float) -> int:
    """When the next file begins (ns since the epoch): at the rotation, or at the full hour."""
    rotate = max(int(min(seconds, 3600.0) * 1e9), 1)
    hour = now // HOUR_NS * HOUR_NS
    return min(hour + ((now - hour) // rotate + 1) * rotate, hour + HOUR_NS)
