"""The reconnector: keeps one planned connection open, reconnects when it ends, and replaces it before its lifetime.

A replaceable connection consists of two that take turns, each with its own number and ring: the standby connects,
subscribes to everything and is given time to deliver, and only then is the active one closed. Meanwhile every message
arrives twice, so nothing is lost unless the active one is cut off earlier. A standby that delivers nothing of what the
active one delivers is closed and retried, for as long as the active one lasts.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Coroutine, Sequence
from typing import Any

from wsrec import ipc
from wsrec.host.clock import now
from wsrec.net.addresses import AddressHistory
from wsrec.receive.active_reconnectors import ActiveReconnectors
from wsrec.receive.attempts import ConnectionAttempts
from wsrec.receive.backoff import Backoff
from wsrec.receive.closing import ClosingHandshakes
from wsrec.receive.connection import Connection
from wsrec.receive.failure import Failure
from wsrec.receive.failure_log import FailureLog
from wsrec.receive.garbage_collection import Collector
from wsrec.receive.job import ResumeInfo
from wsrec.receive.liveness import IdleTimeout
from wsrec.receive.lost_intervals import LostIntervals
from wsrec.receive.producer import Producer
from wsrec.receive.rate_limit import HostRateLimiters
from wsrec.receive.renewal import Renewal
from wsrec.receive.segments import Segments
from wsrec.receive.sides import Side, Sides
from wsrec.receive.succession import HandoverComparison
from wsrec.receive.successor_proof import SuccessorProof
from wsrec.receive.tls_choice import TlsPolicy
from wsrec.receive.waiting import Waiting
from wsrec.ring import loss_evidence
from wsrec.ring.bytering import ENDED
from wsrec.ring.events import EventKind
from wsrec.ring.loss_evidence import Since, since_death

# A connection that lasted this long has proved itself: the next failure counts as the first (s)
_PROVEN = 10.0


class Reconnector:
    """Keeps one planned connection open until it is stopped.

    Args:
        sides: the planned connection, and its standby if it has one.
        producer: the receiver's slots.
        waiting: the readiness strategy.
        limiters: the receiver's rate limiters, by host.
        tls: TLS mode and trust.
        max_message: bytes; a larger message closes the connection with 1009.
        until_close: whether a normal close by the exchange (1000) ends the connection for good.
        active, collector, failures: shared by the reconnectors of a receiver; None for private ones.
        resume: the previous receiver, whose rings these are; None for the first one.
        segments: the receiver's capture; None without one.

    Attributes:
        plan: the plan of the connection (not of its standby).
        sides: the connection, and its standby if it has one.
        was_connected: whether it was ever open.
        reconnects: number of reconnections.
        failure: the last failure, None after a success.
        wanted_since: monotonic time (ns) since which it should be open; 0 before `run`.

    """

    def __init__(
        self,
        sides: Sequence[Side],
        producer: Producer,
        waiting: Waiting,
        limiters: HostRateLimiters,
        *,
        tls: TlsPolicy,
        max_message: int,
        until_close: bool,
        active: ActiveReconnectors | None = None,
        collector: Collector | None = None,
        failures: FailureLog | None = None,
        resume: ResumeInfo | None = None,
        segments: Segments | None = None,
    ) -> None:
        self._all_active = active or ActiveReconnectors()
        self._all_active.register(self)
        self._collector = collector or Collector()
        self.plan = sides[0].plan
        self.was_connected = False
        self.reconnects = 0
        self.failure: Failure | None = None
        self._until_close = until_close
        self._loop = asyncio.get_running_loop()
        self._idle_timeout = IdleTimeout(self.plan.idle_timeout, lambda: self.sides.elsewhere())
        self._history = AddressHistory()
        connections = [
            Connection(
                side.plan,
                side.ring,
                producer,
                waiting,
                tls=tls,
                idle_timeout=self._idle_timeout,
                max_message=max_message,
                on_idle=functools.partial(self._on_idle, side.plan.conn),
                history=self._history,
                segments=segments,
            )
            for side in sides
        ]
        self.sides = Sides(connections, self._history)
        self._lost = LostIntervals(producer)
        self._attempts = ConnectionAttempts(
            self.plan, connections, self._history, limiters, failures or FailureLog(producer)
        )
        self._proof = SuccessorProof(self.plan, self._attempts, self._history, lambda: self._lost.is_stale)
        self._renewal = Renewal(self.plan, self.renew)
        self._backoff = Backoff()
        self.wanted_since = 0
        self._opened_since = 0.0
        self._retry_in = 0.0
        self._finished = False
        self._closing = ClosingHandshakes()
        # how the previous receiver ended, until a connection is open again
        self._died: str | None = None
        if resume is not None:
            self._take_over(resume)

    def publish_complete_until(self) -> None:
        """Publish until when nothing is missing, for a receiver that may take over: in the ring of the active side."""
        if self._finished:
            complete_until = ENDED
        elif self._lost.since is not None:
            complete_until = self._lost.since.time if self.was_connected else 0
        else:
            complete_until = self.sides.active.last_event if self.sides.active is not None else 0
        self.sides.publish_complete_until(complete_until, everywhere=self._finished)

    def _take_over(self, resume: ResumeInfo) -> None:
        """Continue with the rings of a receiver that died: its connections are lost, their data is in the rings."""
        self._died = f"the receiver {resume.how}"
        complete_until, event, self.was_connected = self.sides.take_over(self._died)
        if complete_until == ENDED:
            self._finished = True
            return
        self._lost.since = since_death(complete_until, event, resume.began)

    def never_open(self) -> Failure:
        """Why it has not been open yet: the last failure, or that the attempt in progress has had no answer."""
        return self.failure or self._attempts.explain(self.sides.last_active.timeout_error, self.sides.last_active)

    def renew(self, conn: int, reason: str) -> None:
        """Replace the connection of this number, if it is open and not being replaced already."""
        if self.sides.active is not None and self.sides.active.plan.conn == conn:
            self._renewal.request(reason)
        elif any(side.plan.conn == conn and side.connected for side in self.sides.all):
            self._renewal.early = conn, reason

    def _on_idle(self, conn: int, reason: str, since: int) -> None:
        side = self.sides.of(conn)
        if side.address is not None:
            # so that its successor uses another address
            self._history.failed(side.address, "silent")
        if side is self.sides.active:
            self._lost.stale_since, self._lost.stale_reason = since, f"silent: {reason}"
        self.renew(conn, reason)

    def settled(self, order: ipc.Settled) -> None:
        """All subscriptions of a connection have started, or never will; of interest if it is to take over."""
        side = self.sides.of(order.conn)
        if side is not self.sides.active and side.connected and side.opened_at <= order.since:
            self._proof.settled()

    async def run(self, stopping: asyncio.Event) -> None:
        """Connect, record, and reconnect whenever it ends; returns once `stopping` is set or retrying is pointless."""
        stop = asyncio.ensure_future(stopping.wait())
        self.wanted_since = now()
        try:
            await _first(stop, asyncio.sleep(self.plan.start_after))
            while not stopping.is_set() and not self._finished:
                if self.sides.active is None:
                    await self._open_until_active(stop, self.sides.last_active)
                else:
                    await self._serve(stop, self.sides.active)
        finally:
            stop.cancel()
            self._renewal.clear()
            self._all_active.give_up(self)
            await self._end()

    async def _end(self) -> None:
        """Close what is open, and record what is lost at the end."""
        unread = await self._closing.all(self.sides.all)
        for side in self.sides.all:
            broken = side is self.sides.active and side not in unread and side.ended and side.failed
            since = side.tear_down(final=side in unread)
            if broken:
                self._lost.since = Since(since, loss_evidence.LAST_BYTE)
            # of two open connections, the standby is not yet responsible for anything
            elif side is self.sides.active or self.sides.active is None:
                self._lost.emit_unread(side, unread.get(side), loss_evidence.CLOSED_UNREAD, now())
        if self.sides.active is None and self._lost.since is None and not self._finished and not unread:
            self._lost.since = Since(self.wanted_since, loss_evidence.WANTED)
        self._lost.emit_at_end(self.sides.last_active, doubted=self._proof.doubted)

    async def _serve(self, stop: asyncio.Future[Any], active: Connection) -> None:
        """Record until the connection ends, is replaced, or has to stop."""
        await _first(stop, active.wait_ended(), self._renewal.requested.wait())
        if stop.done():
            return
        if active.ended:
            self._lose(active, trying=False)
            if not self._finished:
                await _first(stop, asyncio.sleep(self._retry_in))
        elif self._renewal.requested.is_set():
            reason = self._renewal.take()
            if len(self.sides.all) == 1:
                active.end(ConnectionAbortedError(reason))
            else:
                await self._open_until_active(stop, self.sides.beside(active), reason)

    async def _open_until_active(self, stop: asyncio.Future[Any], new: Connection, reason: str = "") -> None:
        """Open a connection, retrying until it is open; it then takes over from the active one, if there is one."""
        backoff = self._backoff if self.sides.active is None else Backoff()
        while not stop.done() and not self._finished:
            self._renewal.early = None
            failure = await self._while_active(stop, self._attempts.open(new, backoff.attempts))
            beside = self._proof.compare(self.sides.active, new)
            if failure is None and new.connected:
                failure = await self._approve(stop, new, beside)
            # with nothing else open, a connection counts as opened even if it is to stop at once
            opened = failure is None and new.connected and self.sides.active is None and not self._proof.doubted
            if self._finished or (stop.done() and not opened):
                return
            if failure is None:
                await self._hand_over(stop, new, beside, reason)
                return
            self.failure = failure
            if self.sides.active is None:
                self._lost.begin(self.wanted_since, loss_evidence.WANTED)
            # a connection that worked before may work again: a firewall's 403 during maintenance is not the end
            refused = failure.permanent and not self.was_connected
            wait: float | None
            if not refused:
                self._all_active.register(self)
                wait = self._attempts.delay(failure, backoff)
            elif self._all_active.give_up(self):
                wait = None
            else:
                wait = backoff.refused(failure.retry_after)
            if wait is not None:
                self._attempts.block(failure, wait)
            self._attempts.report(new, failure, wait, backoff.attempts, was_open=False)
            self._collector.request()
            if wait is None:
                self._finished = True
                return
            # without any connection the next attempt has its own, shorter delay
            await self._while_active(stop, self._all_active.wait(wait), until_lost=True)
            if refused and self._all_active.over:
                self._finished = True
                return
            if self.sides.active is None:
                backoff = self._backoff

    async def _approve(self, stop: asyncio.Future[Any], new: Connection, beside: HandoverComparison) -> Failure | None:
        """Wait until an open connection may become active; returns why it may not, None if it may or was cut short."""
        self._proof.begin()
        failure = None
        if self.sides.active is not None:
            failure = await self._while_active(stop, self._proof.prove(self.sides.active, new, beside), until_lost=True)
            if failure is None and self.sides.active is None:
                self._proof.old_ended(beside)
        self._proof.expect(beside.timeout)
        if (
            failure is None
            and self.sides.active is None
            and self._proof.doubted
            and not stop.done()
            and not self._finished
        ):
            failure = await self._while_active(stop, self._proof.prove(None, new, beside))
        if failure is not None and new.connected:
            await self._while_active(stop, self._closing.candidate(new))
        return failure

    async def _hand_over(
        self, stop: asyncio.Future[Any], new: Connection, beside: HandoverComparison, reason: str
    ) -> None:
        """Make an open connection the active one, and close the previous one."""
        old, before = self.sides.active, self.sides.last_active
        self.sides.active = self.sides.last_active = new
        self.failure = None
        self._attempts.opened()
        self._opened_since = time.monotonic()
        self._renewal.clear()
        if len(self.sides.all) > 1:
            self._renewal.schedule(new)
        doubted, self._proof.doubted = self._proof.doubted, False
        if not self._proof.proved_at and beside.timeout is not None:
            self._idle_timeout.expect(beside.timeout)
        if old is None:
            self._connected_again(before, new, reason, doubted=doubted)
        else:
            await self._replace(stop, old, new, reason)
        self._died = None
        early = self._renewal.take_early(new.plan.conn)
        if early is not None:
            self.renew(new.plan.conn, early)

    def _connected_again(self, before: Connection, new: Connection, reason: str, *, doubted: bool) -> None:
        """A connection is open where none was: report what was lost since the end of the one before."""
        lost, self._lost.since = self._lost.since, None
        ended_beside = lost is not None and new.opened_at <= lost.time and not doubted
        self.reconnects += self.was_connected and not ended_beside
        self.was_connected = True
        self._all_active.register(self)
        if lost is None:
            return
        if ended_beside:
            self._report_replaced(before, new, reason, new.opened_at, lost.time)
        else:
            self._lost.emit_unconnected(before, new, lost, self._died, self._proof.proved_at if doubted else None)

    async def _replace(self, stop: asyncio.Future[Any], old: Connection, new: Connection, reason: str) -> None:
        """Close the connection that another one has replaced."""
        since = self._proof.proved_at or new.opened_at
        if self._lost.stale_since is not None and self._proof.proved_at:
            # another connection delivers messages: this one should have
            silent = Since(self._lost.stale_since, loss_evidence.LAST_MESSAGE)
            self._lost.emit(old, silent, f"silent: {reason}", loss_evidence.REPLACED, since)
        self._lost.stale_since = None
        unread = None if old.ended else await self._closing.replaced(stop, old, new)
        if unread is not None and unread < since:
            # it was behind when the other one took over
            self._lost.emit_unread(old, unread, loss_evidence.REPLACED, since)
        last = old.last_event
        if not old.ended:
            self._attempts.judge(old, proven=True, stale=self._lost.is_stale)
        old.tear_down()
        self._report_replaced(old, new, reason, since, last)

    def _report_replaced(self, old: Connection, new: Connection, reason: str, since: int, until: int) -> None:
        self._lost.report_replaced(old, new, reason, since, until, proved=bool(self._proof.proved_at))

    def _lose(self, active: Connection, *, trying: bool) -> None:
        """The active connection has ended: report it, and set the delay before the next attempt."""
        self.sides.active = None
        self._renewal.clear()
        if self._until_close and active.closed_normally:
            self._finished = True
            active.tear_down(final=True)
            return
        error = active.reason_of_end()
        active.learn(error)
        self.failure = self._attempts.explain(error, active)
        proven = time.monotonic() - self._opened_since > _PROVEN
        self._attempts.judge(active, proven=proven, stale=self._lost.is_stale)
        self._lost.end_of_active(active.tear_down())
        if proven:
            self._backoff.reset()
        if trying:
            self._retry_in = 0.0
        elif proven and self.failure.cause != "limited" and self.failure.retry_after is None:
            # the rate limiter bounds how many connections to a host do so at once
            self._retry_in = self._backoff.at_once()
        else:
            self._retry_in = self._attempts.delay(self.failure, self._backoff)
        if not trying:
            self._attempts.block(self.failure, self._retry_in)
        beside = self.sides.open
        if beside is None:
            self._attempts.report(active, self.failure, self._retry_in, self._backoff.attempts, was_open=True)
        else:
            message = f"{self.failure.message}; connection {beside.plan.conn} is open"
            ipc.info(message, conn=active.plan.conn, kind=EventKind.DISCONNECT)
        self._collector.request()

    async def _while_active(
        self, stop: asyncio.Future[Any], work: Coroutine[Any, Any, Failure | None], *, until_lost: bool = False
    ) -> Failure | None:
        """Do `work` while the active connection runs, and handle its end; returns the result, None if cut short.

        Args:
            stop: cuts it short.
            work: what to do.
            until_lost: whether the end of the active connection cuts it short too.

        """
        task = asyncio.ensure_future(work)
        try:
            while not task.done() and not stop.done() and not self._finished:
                active = self.sides.active
                await _first(stop, _wait(task), *(() if active is None else (active.wait_ended(),)))
                if active is not None and active.ended and active is self.sides.active and not stop.done():
                    self._lose(active, trying=True)
                    if until_lost:
                        break
            return task.result() if task.done() else None
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait((task,))
            # the task holds its exception, whose traceback holds this frame
            del task


async def _wait(task: asyncio.Future[Any]) -> None:
    await asyncio.wait((task,))


async def _first(stop: asyncio.Future[Any], *others: Coroutine[Any, Any, Any]) -> None:
    """Wait for the first of `others`, or for `stop`; the unfinished ones are then cancelled."""
    tasks = [asyncio.ensure_future(other) for other in others]
    try:
        await asyncio.wait((stop, *tasks), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
