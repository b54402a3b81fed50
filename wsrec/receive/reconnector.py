"""The reconnector: keeps one planned connection open, reconnects when it ends, and replaces it before its lifetime.

A replaceable connection consists of two that take turns, each with its own number and ring: the standby connects,
subscribes to everything and is given time to deliver, and only then is the active one closed. Meanwhile every message
arrives twice. Nothing is lost by this, unless the active one is cut off before. A standby that delivers nothing of what
the active one does is closed itself and retried, for as long as the active one lasts.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from websockets.uri import parse_uri

from wsrec import ipc, shutdown
from wsrec.host.clock import now
from wsrec.net.addresses import AddressHistory
from wsrec.plan.connections import ConnectionPlan
from wsrec.receive.backoff import Backoff
from wsrec.receive.connection import Connection
from wsrec.receive.failure import Failure, explain
from wsrec.receive.failure_log import FailureLog
from wsrec.receive.garbage_collection import Collector
from wsrec.receive.job import ResumeInfo
from wsrec.receive.liveness import IdleTimeout
from wsrec.receive.pong_responder import PingSource
from wsrec.receive.producer import Producer
from wsrec.receive.rate_limit import HostRateLimiters
from wsrec.receive.security import TlsPolicy
from wsrec.receive.succession import HandoverComparison
from wsrec.receive.waiting import Waiting
from wsrec.ring import loss_evidence
from wsrec.ring.bytering import ENDED, ByteRing
from wsrec.ring.events import EventKind
from wsrec.ring.loss_evidence import Since, since_death
from wsrec.wire.errors import CompressionRefused

# A connection that lasted this long has proved itself: the next failure counts as the first (s)
_PROVEN = 10.0
# Time for the successor of a stale or busy connection to deliver data, once it has subscribed (s)
_TIMEOUT = 5.0
_PATIENCE_POLL = 0.02
# Overlap once all subscriptions have started: one of an exchange's servers may be behind another (s)
_OVERLAP = 1.0
# Overlap after the last subscription if that is unknown: the longest time for a confirmation (s)
_SETTLING = 10.0
# Longest wait for data if the old connection has ended and had delivered little (s)
_TIMEOUT_MOST = 300.0
# Share of the lifetime left at a replacement, randomly up to twice that: not all connections at once
_LIFETIME_LEFT = 0.05
# It is closed with this share of the lifetime left, or so many seconds, if its successor delivers data, settled or not
_CUT_LEFT = 0.02
_CUT_LEFT_MOST = 5.0


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


class ActiveReconnectors:
    """Which connections of a receiver may still succeed: it ends only once all are refused permanently.

    Args:
        alone: whether there is no other receiver that may be recording.

    """

    def __init__(self, *, alone: bool = True) -> None:
        self._alone = alone
        self._trying: set[Reconnector] = set()
        self._over = asyncio.Event()

    @property
    def all_exhausted(self) -> bool:
        """True if every connection was refused permanently, or has ended."""
        return not self._trying

    @property
    def over(self) -> bool:
        """True once retrying is pointless for all."""
        return self._over.is_set()

    def register(self, reconnector: Reconnector) -> None:
        """Mark a connection as one that may succeed."""
        self._trying.add(reconnector)

    def give_up(self, reconnector: Reconnector) -> bool:
        """Mark a connection as refused or ended; returns True if that leaves none."""
        self._trying.discard(reconnector)
        if self._alone and self.all_exhausted:
            self._over.set()
        return self.over

    async def wait(self, seconds: float) -> None:
        """Wait, at most until retrying is pointless."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._over.wait()


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
        # a URL template with a token is a valid URL without it too
        self._uri = parse_uri(self.plan.url)
        self._producer = producer
        self._failures = failures or FailureLog(producer)
        self._rate_limiter = limiters.of(self._uri.host, self.plan.pace)
        self._token_rate_limiter = self._rate_limiter
        if self.plan.token is not None:
            self._token_rate_limiter = limiters.of(urlsplit(self.plan.token.url).hostname or "", self.plan.pace)
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
        self._backoff = Backoff()
        self.wanted_since = 0
        self._lost_since: Since | None = None
        # the reason for the loss since then, if the first attempt had succeeded
        self._lost_why = ""
        self._opened_since = 0.0
        self._proved_at = 0
        # when the successor was known to have all subscriptions, on the loop's clock
        self._settled_at: float | None = None
        # whether a new connection must first deliver data: the last one delivered nothing of what was due
        self._doubted = False
        # and within how many seconds
        self._timeout = _SETTLING
        self._retry_in = 0.0
        self._finished = False
        # why the active connection is to be replaced, and the event that signals it
        self._renewal_reason: str | None = None
        self._requested = asyncio.Event()
        self._cut: asyncio.TimerHandle | None = None
        # since when the active connection is stale
        self._idle_since: int | None = None
        self._idle_reason = ""
        # a replacement requested for a connection that is not active yet
        self._early_renewal: tuple[int, str] | None = None
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
        elif self._lost_since is not None:
            complete_until = self._lost_since.time if self.was_connected else 0
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
        self._lost_since = since_death(complete_until, event, resume.began)

    def never_open(self) -> Failure:
        """Why it has not been open yet: the last failure, or a timeout of the attempt in progress."""
        return self.failure or self._explain(self._last_active.timeout_error, self._last_active)

    def check_stamps(self) -> None:
        """Report a NIC whose clock is unrelated to the system's."""
        for side in self._sides:
            side.check_stamps()

    def renew(self, conn: int, reason: str) -> None:
        """Replace the connection of this number, if it is open and not being replaced already."""
        if self._active is not None and self._active.plan.conn == conn:
            self._renewal_reason = reason
            self._requested.set()
        elif any(side.plan.conn == conn and side.connected for side in self._sides):
            self._early_renewal = conn, reason

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
            self._idle_since, self._idle_reason = since, f"silent: {reason}"
        self.renew(conn, reason)

    def settled(self, order: ipc.Settled) -> None:
        """All subscriptions of a connection that is to take over have started, or never will."""
        for side in self._sides:
            if side.plan.conn == order.conn and side.connected and side.opened_at <= order.since:
                # repeated reports do not postpone it
                self._settled_at = self._loop.time() if self._settled_at is None else self._settled_at

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
            await self._first(stop, asyncio.sleep(self.plan.start_after))
            while not stopping.is_set() and not self._finished:
                if self._active is None:
                    await self._open_until_active(stop, self._last_active)
                else:
                    await self._serve(stop, self._active)
        finally:
            stop.cancel()
            self._clear_renewal()
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
                self._lost_since = Since(since, loss_evidence.LAST_BYTE)
            # of two open connections, the standby is not yet responsible for anything
            elif side is self._active or self._active is None:
                self._lost_unread(side, unread.get(side), loss_evidence.CLOSED_UNREAD, now())
        if self._active is None and self._lost_since is None and not self._finished and not open_sides:
            self._lost_since = Since(self.wanted_since, loss_evidence.WANTED)
        if self._lost_since is not None:
            reason = f"{self._lost_why}; " if self._lost_why else ""
            what = "no connection brought data" if self._doubted else "not connected"
            reason += f"{what} before the session's end"
            self._emit_lost_interval(self._last_active, self._lost_since, reason, loss_evidence.SESSION_END, now())

    async def _serve(self, stop: asyncio.Future[Any], active: Connection) -> None:
        """Record until the connection ends, is replaced, or has to stop."""
        await self._first(stop, active.wait_ended(), self._requested.wait())
        if stop.done():
            return
        if active.ended:
            self._lose(active, trying=False)
            if not self._finished:
                await self._first(stop, asyncio.sleep(self._retry_in))
        elif self._requested.is_set():
            reason = self._renewal_reason or ""
            self._clear_renewal()
            if len(self._sides) == 1:
                active.end(ConnectionAbortedError(reason))
            else:
                await self._open_until_active(stop, next(side for side in self._sides if side is not active), reason)

    async def _open_until_active(self, stop: asyncio.Future[Any], new: Connection, reason: str = "") -> None:
        """Open a connection, retrying until it is open; it then takes over from the active one, if there is one."""
        backoff = self._backoff if self._active is None else Backoff()
        while not stop.done() and not self._finished:
            self._early_renewal = None
            failure = await self._while_active(stop, self._attempt(new, backoff.attempts))
            beside = HandoverComparison(self._active, new, _OVERLAP)
            if failure is None and new.connected:
                failure = await self._approve(stop, new, beside)
            # with nothing else open, a connection counts as opened even if it is to stop at once
            opened = failure is None and new.connected and self._active is None and not self._doubted
            if self._finished or (stop.done() and not opened):
                return
            if failure is None:
                await self._hand_over(stop, new, beside, reason)
                return
            self.failure = failure
            if self._active is None and self._lost_since is None:
                self._lost_since = Since(self.wanted_since, loss_evidence.WANTED)
            # a connection that worked before may work again: a firewall's 403 during maintenance is not the end
            refused = failure.permanent and not self.was_connected
            wait: float | None
            if not refused:
                self._all_active.register(self)
                wait = self._wait_after(failure, backoff)
            elif self._all_active.give_up(self):
                wait = None
            else:
                wait = backoff.refused(failure.retry_after)
            if failure.cause == "limited" and wait is not None:
                (self._token_rate_limiter if failure.of_token else self._rate_limiter).block(wait)
            self._report_failure(new, failure, wait, backoff.attempts, was_open=False)
            self._collector.ask()
            if wait is None:
                self._finished = True
                return
            # without any connection the next attempt has its own, shorter delay
            await self._while_active(stop, self._wait(wait), until_lost=True)
            if refused and self._all_active.over:
                self._finished = True
                return
            if self._active is None:
                backoff = self._backoff

    def _wait_after(self, failure: Failure, backoff: Backoff) -> float:
        """The delay (s) after a failed attempt, or after a connection that did not last."""
        # another address need not wait for what this one asked, unless the host limits the rate of attempts
        if self._history.untried_count and failure.cause != "limited":
            return backoff.other_address()
        return backoff.next(failure.retry_after, failure.cause)

    async def _wait(self, seconds: float) -> None:
        await self._all_active.wait(seconds)

    async def _attempt(self, new: Connection, attempt: int) -> Failure | None:
        """Try to open it once; returns the failure, None on success."""
        await self._enter()
        try:
            try:
                await new.open(attempt)
            except CompressionRefused as refused:
                self._forgo_compression(new.plan.conn, refused)
                await self._enter()
                await new.open(attempt)
        except Exception as error:  # noqa: BLE001 (any failure is reported and survived)
            failure = self._explain(error, new)
            if new.address is not None:
                self._history.failed(new.address, failure.cause, permanent=failure.permanent)
                if failure.permanent and not self._history.all_refuse:
                    return failure._replace(permanent=False)
            return failure
        return None

    async def _enter(self) -> None:
        """Wait for the rate limiters of the hosts about to be contacted."""
        await self._rate_limiter.enter()
        if self._token_rate_limiter is not self._rate_limiter:
            await self._token_rate_limiter.enter()

    def _explain(self, error: Exception, side: Connection) -> Failure:
        """Diagnose an exception, with the address concerned, or all that were tried."""
        at = tuple(self._history.tried) if side.address is None else (side.address.ip,)
        return explain(error, self._uri.host, self._uri.port, at, secure=self._uri.secure, proxy=side.proxy)

    def _judge(self, side: Connection, *, proven: bool) -> None:
        """Record the outcome for the address of a connection that has ended."""
        if side.address is None:
            return
        broke = isinstance(side.reason_of_end(), TimeoutError) if side.ended else False
        if proven and side.proved and self._idle_since is None:
            self._history.worked(side.address)
            side.worked()
        if not proven or broke:
            self._history.failed(side.address, "lost")

    def _forgo_compression(self, conn: int, refused: CompressionRefused) -> None:
        """Offer no compression any more: every exchange also sends uncompressed messages."""
        for side in self._sides:
            side.disable_compression()
        hint = "remove `compression` from the feed so that it is not offered"
        ipc.info(f"{refused}; connecting without compression -- {hint}", conn=conn)

    async def _approve(self, stop: asyncio.Future[Any], new: Connection, beside: HandoverComparison) -> Failure | None:
        """Wait until an open connection may become active; returns why it may not, None if it may or was cut short."""
        self._proved_at, self._settled_at = 0, None
        failure = None
        if self._active is not None:
            failure = await self._while_active(stop, self._prove(self._active, new, beside), until_lost=True)
            if failure is None and self._active is None:
                # it ended first, and its last messages may be missing on the new one
                self._look(beside)
                self._doubted = self._doubted or beside.is_behind
        if beside.timeout is not None:
            self._timeout = max(_SETTLING, min(beside.timeout, _TIMEOUT_MOST))
        if failure is None and self._active is None and self._doubted and not stop.done() and not self._finished:
            failure = await self._while_active(stop, self._prove(None, new, beside))
        if failure is not None and new.connected:
            await self._while_active(stop, self._close_candidate(new))
        return failure

    def _look(self, beside: HandoverComparison) -> None:
        beside.look(self._loop.time())
        if beside.serves and not self._proved_at:
            self._proved_at = now()

    async def _prove(self, old: Connection | None, new: Connection, beside: HandoverComparison) -> Failure | None:
        """Wait until a connection may take over; returns why it may not, or why it ended, None if it may."""
        while not new.ended:
            self._look(beside)
            if beside.spoken_at is not None:
                moment = self._loop.time()
                if old is None:
                    due, mute = beside.serves, moment >= beside.spoken_at + self._timeout
                else:
                    due = moment >= self._takes_over_at(old, beside, beside.spoken_at)
                    mute = beside.is_silent(moment, due=due, timeout=_TIMEOUT)
                if mute and not (old is None and due):
                    self._doubted = True
                    return self._silent_failure(new, moment - beside.spoken_at, alone=old is None)
                if due:
                    return None
            await asyncio.sleep(_PATIENCE_POLL)
        failure = self._explain(new.reason_of_end(), new)
        self._judge(new, proven=False)
        new.tear_down()
        return failure

    def _silent_failure(self, new: Connection, seconds: float, *, alone: bool) -> Failure:
        """The failure of a connection that delivers nothing and so does not take over."""
        if new.address is not None:
            self._history.failed(new.address, "silent")
        old_messages = "what the previous connection delivered" if alone else "what the open one delivers"
        what = f"{self.plan.public_url} responds, but has delivered nothing of {old_messages} for {seconds:.1f} s"
        meanwhile = "messages are lost meanwhile" if alone else "and the open one is kept"
        return Failure("silent", what, f"trying another connection, {meanwhile}; report it to the exchange")

    async def _close_candidate(self, new: Connection) -> None:
        """Close a connection that does not take over; an end meanwhile waits for it."""
        self._closing[new] = closing = asyncio.ensure_future(new.close())
        await asyncio.shield(closing)
        del self._closing[new]
        new.tear_down()

    def _takes_over_at(self, old: Connection, beside: HandoverComparison, spoken_at: float) -> float:
        """When the old one may be closed, on the loop's clock; the new one had subscribed at `spoken_at`."""
        # at least one message of the old one must have had time to arrive on the new one
        judged = 0.0 if beside.brought_at is None or beside.serves else beside.brought_at + _OVERLAP
        if self._idle_since is not None:
            # the old one delivers nothing
            if not self._proved_at:
                return max(spoken_at + _TIMEOUT, judged)
            ago = (now() - self._proved_at) / 1e9
            return max(self._loop.time() - ago, spoken_at) + _OVERLAP
        due = max(spoken_at + _SETTLING, judged)
        if not self._proved_at:
            # nothing shows that it is better than a working one, which stays until the exchange ends it
            return due
        if self._settled_at is not None:
            due = min(due, max(self._settled_at, spoken_at) + _OVERLAP)
        if self.plan.lifetime is not None:
            left = self.plan.lifetime - min(self.plan.lifetime * _CUT_LEFT, _CUT_LEFT_MOST)
            # any closer to the last subscription, more could be missing than a cut by the exchange would cost
            cut = self._loop.time() + left - (now() - old.opened_at) / 1e9
            due = min(due, max(cut, spoken_at + _OVERLAP))
        return due

    async def _hand_over(
        self, stop: asyncio.Future[Any], new: Connection, beside: HandoverComparison, reason: str
    ) -> None:
        """Make an open connection the active one, and close the previous one."""
        old, before = self._active, self._last_active
        self._active = self._last_active = new
        self.failure = None
        self._failures.opened(self._uri.host)
        self._opened_since = time.monotonic()
        self._clear_renewal()
        self._plan_replacement(new)
        doubted, self._doubted = self._doubted, False
        if not self._proved_at and beside.timeout is not None:
            self._idle_timeout.expect(beside.timeout)
        if old is None:
            lost, self._lost_since = self._lost_since, None
            ended_beside = lost is not None and new.opened_at <= lost.time and not doubted
            self.reconnects += self.was_connected and not ended_beside
            self.was_connected = True
            self._all_active.register(self)
            if lost is not None and doubted:
                why = self._died or self._lost_why or "not connected, or without data"
                self._emit_lost_interval(before, lost, why, loss_evidence.FIRST_DATA, self._proved_at)
            elif lost is not None and not ended_beside:
                self._emit_lost_interval(
                    before, lost, self._died or self._lost_why or "not connected", loss_evidence.OPENED, new.opened_at
                )
            elif lost is not None:
                self._report_replaced(before, new, reason, new.opened_at, lost.time)
        else:
            since = self._proved_at or new.opened_at
            if self._idle_since is not None and self._proved_at:
                # another connection delivers messages: this one should have
                silent = Since(self._idle_since, loss_evidence.LAST_MESSAGE)
                self._emit_lost_interval(old, silent, f"silent: {reason}", loss_evidence.REPLACED, since)
            self._idle_since = None
            unread = None if old.ended else await self._close_old(stop, old, new)
            if unread is not None and unread < since:
                # it was behind when the other one took over
                self._lost_unread(old, unread, loss_evidence.REPLACED, since)
            last = old.last_event
            if not old.ended:
                self._judge(old, proven=True)
            old.tear_down()
            self._report_replaced(old, new, reason, since, last)
        self._died = None
        early, self._early_renewal = self._early_renewal, None
        if early is not None and early[0] == new.plan.conn:
            self.renew(*early)

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
        self._clear_renewal()
        if self._until_close and active.closed_normally:
            self._finished = True
            active.tear_down(final=True)
            return
        error = active.reason_of_end()
        active.learn(error)
        self.failure = self._explain(error, active)
        proven = time.monotonic() - self._opened_since > _PROVEN
        self._judge(active, proven=proven)
        self._lost_since, self._lost_why = Since(active.tear_down(), loss_evidence.LAST_BYTE), ""
        if self._idle_since is not None and self._idle_since < self._lost_since.time:
            self._lost_since, self._lost_why = Since(self._idle_since, loss_evidence.LAST_MESSAGE), self._idle_reason
        self._idle_since = None
        if proven:
            self._backoff.reset()
        if trying:
            self._retry_in = 0.0
        elif proven and self.failure.cause != "limited" and self.failure.retry_after is None:
            # the rate limiter bounds how many connections to a host do so at once
            self._retry_in = self._backoff.at_once()
        else:
            self._retry_in = self._wait_after(self.failure, self._backoff)
        if self.failure.cause == "limited" and not trying:
            self._rate_limiter.block(self._retry_in)
        beside = next((side for side in self._sides if side.connected and not side.ended), None)
        if beside is None:
            self._report_failure(active, self.failure, self._retry_in, self._backoff.attempts, was_open=True)
        else:
            ipc.info(f"{self.failure.message}; connection {beside.plan.conn} is open", conn=active.plan.conn)
        self._collector.ask()

    def _plan_replacement(self, new: Connection) -> None:
        lifetime = self.plan.lifetime
        if lifetime is not None and len(self._sides) > 1:
            spread = _LIFETIME_LEFT * (1 + random.random())  # noqa: S311 (spreads load, guards nothing)
            # however short the lifetime, leave time for the successor, which may have many subscriptions to send
            takes = self.plan.subscribed_after - self.plan.start_after + _SETTLING + _TIMEOUT
            early = max(lifetime * spread, min(lifetime / 2, takes))
            age = (now() - new.opened_at) / 1e9
            reason = f"the exchange ends connections after {lifetime:g} s"
            self._cut = self._loop.call_later(max(lifetime - early - age, 0.0), self.renew, new.plan.conn, reason)

    def _clear_renewal(self) -> None:
        self._renewal_reason = None
        self._requested.clear()
        if self._cut is not None:
            self._cut.cancel()
            self._cut = None

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
                await self._first(stop, _wait(task), *(() if active is None else (active.wait_ended(),)))
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

    async def _first(self, stop: asyncio.Future[Any], *others: Coroutine[Any, Any, Any]) -> None:
        """Wait for the first of `others`, or for `stop`; the unfinished ones are then cancelled."""
        tasks = [asyncio.ensure_future(other) for other in others]
        try:
            await asyncio.wait((stop, *tasks), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def _report_replaced(self, old: Connection, new: Connection, reason: str, since: int, until: int) -> None:
        self._producer.event(
            EventKind.REPLACED,
            conn=new.plan.conn,
            from_conn=old.plan.conn,
            to_conn=new.plan.conn,
            reason=reason,
            monotonic_from=since,
            monotonic_to=max(until, since),
            proved=bool(self._proved_at),
        )
        ipc.info(f"connection {old.plan.conn} was replaced: {reason}", conn=new.plan.conn)

    def _lost_unread(self, lost: Connection, since: int | None, known_to: str, until: int) -> None:
        if since is not None:
            reason = "closed before all received data was read"
            self._emit_lost_interval(lost, Since(since, loss_evidence.LAST_BYTE), reason, known_to, until)

    def _emit_lost_interval(self, lost: Connection, since: Since, reason: str, known_to: str, until: int) -> None:
        self._producer.event(
            EventKind.LOST_INTERVAL,
            conn=lost.plan.conn,
            monotonic_from=since.time,
            monotonic_to=until,
            reason=reason,
            from_evidence=since.evidence,
            to_evidence=known_to,
            bound=since.bound,
        )

    def _report_failure(
        self, side: Connection, failure: Failure, wait: float | None, attempt: int, *, was_open: bool
    ) -> None:
        self._failures.report(
            side.plan,
            self._uri.host,
            failure,
            wait,
            was_open=was_open,
            attempt=attempt,
            address=None if side.address is None else side.address.ip,
            tried=self._history.tried,
        )


async def _wait(task: asyncio.Future[Any]) -> None:
    await asyncio.wait((task,))
