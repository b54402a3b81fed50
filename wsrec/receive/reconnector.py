"""The reconnector: keeps one planned connection open, reconnects when it ends, and replaces it before its lifetime.

A replaceable connection consists of two that take turns, each with its own number and ring: the standby connects,
subscribes to everything and is given time to deliver, and only then is the active one closed. Meanwhile every message
arrives twice. Nothing is lost by this, unless the active one is cut off before. A standby that delivers nothing of what
the active one does is closed itself and retried, for as long as the active one lasts.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple

from wsrec import ipc, shutdown
from wsrec.host.clock import now
from wsrec.net.addresses import AddressHistory
from wsrec.plan.connections import ConnectionPlan
from wsrec.receive.active_reconnectors import ActiveReconnectors
from wsrec.receive.attempts import ConnectionAttempts
from wsrec.receive.backoff import Backoff
from wsrec.receive.connection import Connection
from wsrec.receive.failure import Failure
from wsrec.receive.failure_log import FailureLog
from wsrec.receive.garbage_collection import Collector
from wsrec.receive.job import ResumeInfo
from wsrec.receive.liveness import IdleTimeout
from wsrec.receive.lost_intervals import LostIntervals
from wsrec.receive.pong_responder import PingSource
from wsrec.receive.producer import Producer
from wsrec.receive.rate_limit import HostRateLimiters
from wsrec.receive.renewal import Renewal
from wsrec.receive.security import TlsPolicy
from wsrec.receive.succession import HandoverComparison
from wsrec.receive.successor_proof import SuccessorProof
from wsrec.receive.waiting import Waiting
from wsrec.ring import loss_evidence
from wsrec.ring.bytering import ENDED, ByteRing
from wsrec.ring.loss_evidence import Since, since_death

# A connection that lasted this long has proved itself: the next failure counts as the first (s)
_PROVEN = 10.0


class Side(NamedTuple):
    """One of the connections that take turns: its plan and its ring."""

    plan: ConnectionPlan
    ring: ByteRing


class Counts(NamedTuple):
    """Counters of a connection.

    Attributes:
        reads: non-empty reads.
        frames: frames published.
        bytes, discarded_bytes: bytes received, and those outside of complete frames.
        stalls: number of times that a full ring stopped reading.
        reconnects: number of reconnections.

    """

    reads: int
    frames: int
    bytes: int
    discarded_bytes: int
    stalls: int
    reconnects: int


class Reconnector:
    """Keeps one planned connection open until told to stop.

    Args:
        sides: the planned connection, and its standby if it has one.
        producer: the receiver's slots.
        waiting: the readiness strategy.
        limiters: the receiver's rate limiters, by host.
        tls: TLS mode and trust.
        max_message: bytes; a larger message closes the connection with 1009.
        until_close: whether a normal close by the exchange (1000) ends the connection for good.
        prospects, collector, failures: shared by the reconnectors of a receiver; None for private ones.
        resume: the previous receiver, whose rings these are; None for the first one.

    Attributes:
        plan: the plan of the connection (not of its standby).
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
        self._idle_timeout = IdleTimeout(self.plan.idle_timeout, self._elsewhere)
        self._history = AddressHistory()
        self._sides = [
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
            )
            for side in sides
        ]
        self._active: Connection | None = None
        self._last_active = self._sides[0]
        self._lost = LostIntervals(producer)
        self._attempts = ConnectionAttempts(
            self.plan, self._sides, self._history, limiters, failures or FailureLog(producer)
        )
        self._proof = SuccessorProof(self.plan, self._attempts, self._history, lambda: self._lost.is_stale)
        self._renewal = Renewal(self.plan, self.renew)
        self._backoff = Backoff()
        self.wanted_since = 0
        self._opened_since = 0.0
        self._retry_in = 0.0
        self._finished = False
        # connections already being closed when the end arrives
        self._closing: dict[Connection, asyncio.Task[int | None]] = {}
        # how the previous receiver ended, until a connection is open again
        self._died: str | None = None
        if resume is not None:
            self._take_over(resume)

    @property
    def connected(self) -> bool:
        """True if a WebSocket is open."""
        return any(side.connected for side in self._sides)

    @property
    def stalls(self) -> int:
        """Number of times that a full ring stopped reading."""
        return sum(side.stalls for side in self._sides)

    def counts(self) -> Counts:
        """Its counters so far, over all connections."""
        first, *others = [(side.reads, side.frames, side.received, side.discarded, side.stalls) for side in self._sides]
        together = map(sum, zip(first, *others, strict=True)) if others else first
        return Counts._make([*together, self.reconnects])

    @property
    def ping_sources(self) -> dict[int, PingSource]:
        """Its connections with application-level pings, by number."""
        answers = self.plan.answers
        return {
            side.plan.conn: PingSource(answers, side.ring, side.answer, side.end) for side in self._sides if answers
        }

    def find_pings_by(self, look: Callable[[], None]) -> None:
        """Call `look` before a connection is judged stale: a ping is not data."""
        for side in self._sides:
            side.answer_pings = look

    @property
    def numbers(self) -> list[int]:
        """The numbers of its connections."""
        return [side.plan.conn for side in self._sides]

    def publish_complete_until(self) -> None:
        """Publish until when nothing is missing, for a receiver that may take over: in the ring of the active side."""
        if self._finished:
            complete_until = ENDED
        elif self._lost.since is not None:
            complete_until = self._lost.since.time if self.was_connected else 0
        else:
            complete_until = self._active.last_event if self._active is not None else 0
        for side in self._sides:
            side.publish_complete_until(complete_until if self._finished or side is self._last_active else 0)

    def _take_over(self, resume: ResumeInfo) -> None:
        """Continue with the rings of a receiver that died: its connections are lost, their data is in the rings."""
        self._died = f"the receiver {resume.how}"
        left = [(side.take_over(self._died), side) for side in self._sides]
        self.was_connected = any(was_connected for (_, _, was_connected), _ in left)
        (complete_until, event, _), self._last_active = max(left, key=lambda one: one[0][:2])
        if complete_until == ENDED:
            self._finished = True
            return
        self._lost.since = since_death(complete_until, event, resume.began)

    def never_open(self) -> Failure:
        """Why it has not been open yet: the last failure, or a timeout of the attempt in progress."""
        return self.failure or self._attempts.explain(self._last_active.timeout_error, self._last_active)

    def check_stamps(self) -> None:
        """Report a NIC whose clock is unrelated to the system's."""
        for side in self._sides:
            side.check_stamps()

    def renew(self, conn: int, reason: str) -> None:
        """Replace the connection of this number, if it is open and not being replaced already."""
        if self._active is not None and self._active.plan.conn == conn:
            self._renewal.request(reason)
        elif any(side.plan.conn == conn and side.connected for side in self._sides):
            self._renewal.early = conn, reason

    def _elsewhere(self) -> bool:
        """True if there is an address that has not failed besides the active one."""
        active = self._active
        return active is not None and active.address is not None and self._history.has_alternative(active.address)

    def _on_idle(self, conn: int, reason: str, since: int) -> None:
        side = next(side for side in self._sides if side.plan.conn == conn)
        if side.address is not None:
            # so that its successor uses another address
            self._history.failed(side.address, "silent")
        if side is self._active:
            self._lost.stale_since, self._lost.stale_reason = since, f"silent: {reason}"
        self.renew(conn, reason)

    def settled(self, order: ipc.Settled) -> None:
        """All subscriptions of a connection that is to take over have started, or never will."""
        for side in self._sides:
            if side.plan.conn == order.conn and side.connected and side.opened_at <= order.since:
                self._proof.settled()

    def resubscribe(self, order: ipc.Resubscribe) -> None:
        """Make a connection resubscribe. Changed requests also apply to its standby."""
        for side in self._sides:
            mine = side.plan.conn == order.conn
            if order.parts is not None:
                side.divide(order.topics, order.parts, order.reason, send=mine)
            elif mine:
                side.resubscribe(order.topics, order.reason)

    async def run(self, stopping: asyncio.Event) -> None:
        """Connect, record, and reconnect whenever it ends; returns once `stopping` is set or retrying is pointless."""
        stop = asyncio.ensure_future(stopping.wait())
        self.wanted_since = now()
        try:
            await _first(stop, asyncio.sleep(self.plan.start_after))
            while not stopping.is_set() and not self._finished:
                if self._active is None:
                    await self._open_until_active(stop, self._last_active)
                else:
                    await self._serve(stop, self._active)
        finally:
            stop.cancel()
            self._renewal.clear()
            self._all_active.give_up(self)
            await self._end()

    async def _end(self) -> None:
        """Close what is open, and record what is lost at the end."""
        open_sides = [side for side in self._sides if side in self._closing or (side.connected and not side.ended)]
        closing = (self._closing.get(side) or side.close() for side in open_sides)
        unread = dict(zip(open_sides, await asyncio.gather(*closing), strict=True))
        for side in self._sides:
            broken = side is self._active and side not in unread and side.ended and side.failed
            since = side.tear_down(final=side in unread)
            if broken:
                self._lost.since = Since(since, loss_evidence.LAST_BYTE)
            # of two open connections, the standby is not yet responsible for anything
            elif side is self._active or self._active is None:
                self._lost.emit_unread(side, unread.get(side), loss_evidence.CLOSED_UNREAD, now())
        if self._active is None and self._lost.since is None and not self._finished and not open_sides:
            self._lost.since = Since(self.wanted_since, loss_evidence.WANTED)
        if self._lost.since is not None:
            reason = f"{self._lost.why}; " if self._lost.why else ""
            what = "no connection brought data" if self._proof.doubted else "not connected"
            reason += f"{what} before the session's end"
            self._lost.emit(self._last_active, self._lost.since, reason, loss_evidence.SESSION_END, now())

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
            if len(self._sides) == 1:
                active.end(ConnectionAbortedError(reason))
            else:
                await self._open_until_active(stop, next(side for side in self._sides if side is not active), reason)

    async def _open_until_active(self, stop: asyncio.Future[Any], new: Connection, reason: str = "") -> None:
        """Open a connection, retrying until it is open; it then takes over from the active one, if there is one."""
        backoff = self._backoff if self._active is None else Backoff()
        while not stop.done() and not self._finished:
            self._renewal.early = None
            failure = await self._while_active(stop, self._attempts.open(new, backoff.attempts))
            beside = self._proof.compare(self._active, new)
            if failure is None and new.connected:
                failure = await self._approve(stop, new, beside)
            # with nothing else open, a connection counts as opened even if it is to stop at once
            opened = failure is None and new.connected and self._active is None and not self._proof.doubted
            if self._finished or (stop.done() and not opened):
                return
            if failure is None:
                await self._hand_over(stop, new, beside, reason)
                return
            self.failure = failure
            if self._active is None:
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
            self._collector.ask()
            if wait is None:
                self._finished = True
                return
            # without any connection the next attempt has its own, shorter delay
            await self._while_active(stop, self._all_active.wait(wait), until_lost=True)
            if refused and self._all_active.over:
                self._finished = True
                return
            if self._active is None:
                backoff = self._backoff

    async def _approve(self, stop: asyncio.Future[Any], new: Connection, beside: HandoverComparison) -> Failure | None:
        """Wait until an open connection may become active; returns why it may not, None if it may or was cut short."""
        self._proof.begin()
        failure = None
        if self._active is not None:
            failure = await self._while_active(stop, self._proof.prove(self._active, new, beside), until_lost=True)
            if failure is None and self._active is None:
                self._proof.old_ended(beside)
        self._proof.expect(beside.timeout)
        if failure is None and self._active is None and self._proof.doubted and not stop.done() and not self._finished:
            failure = await self._while_active(stop, self._proof.prove(None, new, beside))
        if failure is not None and new.connected:
            await self._while_active(stop, self._close_candidate(new))
        return failure

    async def _close_candidate(self, new: Connection) -> None:
        """Close a connection that does not take over; an end meanwhile waits for it."""
        self._closing[new] = closing = asyncio.ensure_future(new.close())
        await asyncio.shield(closing)
        del self._closing[new]
        new.tear_down()

    async def _hand_over(
        self, stop: asyncio.Future[Any], new: Connection, beside: HandoverComparison, reason: str
    ) -> None:
        """Make an open connection the active one, and close the previous one."""
        old, before = self._active, self._last_active
        self._active = self._last_active = new
        self.failure = None
        self._attempts.opened()
        self._opened_since = time.monotonic()
        self._renewal.clear()
        if len(self._sides) > 1:
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
        why = self._died or self._lost.why
        if doubted:
            why = why or "not connected, or without data"
            self._lost.emit(before, lost, why, loss_evidence.FIRST_DATA, self._proof.proved_at)
        elif not ended_beside:
            self._lost.emit(before, lost, why or "not connected", loss_evidence.OPENED, new.opened_at)
        else:
            self._report_replaced(before, new, reason, new.opened_at, lost.time)

    async def _replace(self, stop: asyncio.Future[Any], old: Connection, new: Connection, reason: str) -> None:
        """Close the connection that another one has replaced."""
        since = self._proof.proved_at or new.opened_at
        if self._lost.stale_since is not None and self._proof.proved_at:
            # another connection delivers messages: this one should have
            silent = Since(self._lost.stale_since, loss_evidence.LAST_MESSAGE)
            self._lost.emit(old, silent, f"silent: {reason}", loss_evidence.REPLACED, since)
        self._lost.stale_since = None
        unread = None if old.ended else await self._close_old(stop, old, new)
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

    async def _close_old(self, stop: asyncio.Future[Any], old: Connection, new: Connection) -> int | None:
        """Close the old one (see `Connection.close`); if the end arrives meanwhile, close the new one too."""
        closing = asyncio.ensure_future(old.close(shutdown.REPLACED_BACKLOG.seconds))
        await asyncio.wait((stop, closing), return_when=asyncio.FIRST_COMPLETED)
        if not closing.done() and new.connected and not new.ended:
            self._closing[new] = asyncio.ensure_future(new.close())
        return await closing

    def _lose(self, active: Connection, *, trying: bool) -> None:
        """The active connection has ended: report it, and set the delay before the next attempt."""
        self._active = None
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
        beside = next((side for side in self._sides if side.connected and not side.ended), None)
        if beside is None:
            self._attempts.report(active, self.failure, self._retry_in, self._backoff.attempts, was_open=True)
        else:
            ipc.info(f"{self.failure.message}; connection {beside.plan.conn} is open", conn=active.plan.conn)
        self._collector.ask()

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
                active = self._active
                await _first(stop, _wait(task), *(() if active is None else (active.wait_ended(),)))
                if active is not None and active.ended and active is self._active and not stop.done():
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
