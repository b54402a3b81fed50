"""Stalls: reading stops while a ring is full, so that TCP pushes back, and goes on once there is room."""

from __future__ import annotations

import asyncio

from wsrec.host.clock import now
from wsrec.receive.hotpath import HotPath
from wsrec.receive.liveness import LivenessMonitor
from wsrec.receive.producer import Producer
from wsrec.receive.transport import Transport
from wsrec.receive.waiting import Waiting
from wsrec.ring.events import EventKind

# Each check is a wake-up, and a writer that is behind frees megabytes at a time (s)
_FULL_POLL = 0.005


class Stalls:
    """The stalls of one connection, over all times that it is open.

    Args:
        conn: the connection's number.
        producer: the receiver's slots.
        waiting: the readiness strategy.

    Attributes:
        count: number of times that a full ring stopped reading.
        resumed_at: end of the last stall, on the loop's clock.

    """

    def __init__(self, conn: int, producer: Producer, waiting: Waiting) -> None:
        self.count = 0
        self.resumed_at = 0.0
        self._conn = conn
        self._producer = producer
        self._waiting = waiting
        self._since = 0
        self._loop = asyncio.get_running_loop()
        # of the current connection
        self._hot: HotPath | None = None
        self._transport: Transport | None = None
        self._liveness: LivenessMonitor | None = None
        self._ended: asyncio.Future[None] | None = None

    @property
    def is_stalled(self) -> bool:
        """True while a full ring stops reading."""
        return self._since > 0

    def begin(self, hot: HotPath, transport: Transport, liveness: LivenessMonitor, ended: asyncio.Future[None]) -> None:
        """A connection is about to be read, until `ended`."""
        self._hot, self._transport, self._liveness, self._ended = hot, transport, liveness, ended

    def end(self) -> None:
        """The connection is torn down; a stall ends with it."""
        if self._since:
            self._report()
        self._hot = self._transport = self._liveness = self._ended = None

    def on_full(self) -> None:
        """A ring is full: stop reading so that TCP pushes back, and check again in a few milliseconds."""
        assert self._transport is not None
        self._waiting.unwatch(self._transport.fileno)
        if not self._since:
            self._since = now()
            self.count += 1
            if self._liveness is not None:
                self._liveness.stalled = True
        self._loop.call_later(_FULL_POLL, self._check_room, self._hot)

    def _check_room(self, hot: HotPath | None) -> None:
        if hot is None or hot is not self._hot or self._transport is None or self._ended is None or self._ended.done():
            return
        if not self._producer.flush() or not hot.has_room():
            self._loop.call_later(_FULL_POLL, self._check_room, hot)
            return
        self._report()
        self._waiting.watch(self._transport.fileno, hot.on_readable)

    def _report(self) -> None:
        self._producer.event(EventKind.STALL, conn=self._conn, duration_ns=now() - self._since)
        self._since = 0
        self.resumed_at = self._loop.time()
        if self._liveness is not None:
            self._liveness.stalled = False
