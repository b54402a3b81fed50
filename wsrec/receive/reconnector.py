"""Keeps one planned connection open until told to stop: connects again when it ends, and replaces it before it does.

A connection that can be replaced is two, each with a number and a ring of its own, that take turns: the one that stands
by connects, asks for everything and is given time to bring it, and only then is the other one closed. In between every
message comes twice. Nothing is lost by it, unless the other one is ended from outside before that. One that brings
nothing of what the other brings is closed itself, and another attempt made, for as long as the other lasts.
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
from wsrec.receive.succession import SideBySide
from wsrec.receive.waiting import Waiting
from wsrec.ring import loss_evidence
from wsrec.ring.bytering import ENDED, ByteRing
from wsrec.ring.events import EventKind
from wsrec.ring.loss_evidence import Since, since_death
from wsrec.wire.errors import CompressionRefused

# A connection that lasted this long has proved itself: the next failure is a new one
_PROVEN = 10.0
# How long the successor of one that is silent, or brings much, may take to bring data, once it has subscribed
_PATIENCE = 5.0
_PATIENCE_POLL = 0.02
# How long both go on once all that was asked for has begun: one of an exchange's servers may be behind another
_OVERLAP = 1.0
# How long both go on after the last subscription where that is not known: as long as a confirmation may take
_SETTLING = 10.0
# How long it may take at most where the old one has ended, and had brought little
_PATIENCE_MOST = 300.0
# A replacement comes at this part of the lifetime, or up to as much again earlier: not all connections at once
_LIFETIME_LEFT = 0.05
# At this part of it, or so many seconds, before its end it is closed, if its successor brings data, settled or not
_CUT_LEFT = 0.02
_CUT_LEFT_MOST = 5.0


class Side(NamedTuple):
    """One of the connections that take turns: its plan and its ring."""

    plan: ConnectionPlan
    ring: ByteRing


class Counts(NamedTuple):
    """What is counted of a connection.

    Attributes:
        reads: those that brought something.
        frames: that were published.
        bytes, discarded_bytes: received, and of these what was no frame.
        stalls: how often a full ring stopped reading.
        reconnects: how often it was opened again after it had ended.

    """

    reads: int
    frames: int
    bytes: int
    discarded_bytes: int
    stalls: int
    reconnects: int


class Prospects:
    """Whether anything can come of the connections of a receiver: it ends only once all were refused for good.

    Args:
        alone: whether there is no other receiver that may record meanwhile.

    """

    def __init__(self, *, alone: bool = True) -> None:
        self._alone = alone
        self._hopeful: set[Reconnector] = set()
        self._over = asyncio.Event()

    @property
    def vain(self) -> bool:
        """Whether each of them was refused, or has come to its end."""
        return not self._hopeful

    @property
    def over(self) -> bool:
        """Whether trying again is of no use."""
        return self._over.is_set()

    def hope(self, reconnector: Reconnector) -> None:
        """Something may come of this one."""
        self._hopeful.add(reconnector)

    def give_up(self, reconnector: Reconnector) -> bool:
        """Nothing comes of this one; whether that is so of all."""
        self._hopeful.discard(reconnector)
        if self._alone and self.vain:
            self._over.set()
        return self.over

    async def wait(self, seconds: float) -> None:
        """Wait, or until trying again is of no use."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._over.wait()


class Reconnector:
    """Keeps one planned connection open until told to stop.

    Args:
        sides: the planned connection, and the one that stands by for it, if there is one.
        producer: the receiver's slots.
        waiting: how to learn that there is something to read.
        limiters: the receiver's pace of connecting, by host.
        tls: how TLS is taken off the wire, and what is trusted.
        max_message: bytes; a larger message closes the connection with 1009.
        until_close: whether a normal close by the exchange (1000) ends the connection for good.
        prospects, collector, failures: shared with the other reconnectors of its receiver; None for a lone one.
        resume: a receiver that died, whose rings these are.

    Attributes:
        plan: the planned connection's.
        was_connected: whether it ever was.
        reconnects: how often it was opened again after it had ended.
        failure: the last failure, None after a success.
        wanted_since: monotonic time (ns) since which it is to be open; 0 before `run`.

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
        prospects: Prospects | None = None,
        collector: Collector | None = None,
        failures: FailureLog | None = None,
        resume: ResumeInfo | None = None,
    ) -> None:
        self._prospects = prospects or Prospects()
        self._prospects.hope(self)
        self._collector = collector or Collector()
        self.plan = sides[0].plan
        self.was_connected = False
        self.reconnects = 0
        self.failure: Failure | None = None
        # a URL that needs a token is one without it too
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
        # why what is missing since then is missing, where it was connected at first
        self._lost_why = ""
        self._opened_since = 0.0
        self._proved_at = 0
        # when the successor was known to have everything, on the loop's clock
        self._settled_at: float | None = None
        # whether what is opened is believed only once it brings data: the last one brought nothing of what was due
        self._doubted = False
        # and within how many seconds
        self._patience = _SETTLING
        self._retry_in = 0.0
        self._finished = False
        # why the active connection is to be replaced; and what wakes whoever waits for that
        self._wish: str | None = None
        self._wished = asyncio.Event()
        self._cut: asyncio.TimerHandle | None = None
        # since when the active connection brings nothing
        self._silent_since: int | None = None
        self._silent_why = ""
        # the same of a connection that is not the active one yet
        self._early_wish: tuple[int, str] | None = None
        # connections that the end has begun to close already
        self._closing: dict[Connection, asyncio.Task[int | None]] = {}
        # how the receiver before ended, until a connection is open again
        self._died: str | None = None
        if resume is not None:
            self._take_over(resume)

    @property
    def connected(self) -> bool:
        """Whether a WebSocket is open now."""
        return any(side.connected for side in self._sides)

    @property
    def stalls(self) -> int:
        """How often a full ring stopped reading."""
        return sum(side.stalls for side in self._sides)

    def counts(self) -> Counts:
        """What it came to so far, over all times it was open."""
        first, *others = [(side.reads, side.frames, side.received, side.discarded, side.stalls) for side in self._sides]
        together = map(sum, zip(first, *others, strict=True)) if others else first
        return Counts._make([*together, self.reconnects])

    @property
    def ping_sources(self) -> dict[int, PingSource]:
        """Its connections whose exchange pings with messages, by number."""
        answers = self.plan.answers
        return {
            side.plan.conn: PingSource(answers, side.ring, side.answer, side.end) for side in self._sides if answers
        }

    def find_pings_by(self, look: Callable[[], None]) -> None:
        """Have `look` called before it is judged whether a connection is silent: a ping is no data."""
        for side in self._sides:
            side.look_for_pings = look

    @property
    def numbers(self) -> list[int]:
        """Of the connections that it keeps."""
        return [side.plan.conn for side in self._sides]

    def publish_complete_until(self) -> None:
        """Tell whoever may have to take over up to when nothing is missing: in the ring of the side that is active."""
        if self._finished:
            complete_until = ENDED
        elif self._lost_since is not None:
            complete_until = self._lost_since.time if self.was_connected else 0
        else:
            complete_until = self._active.last_event if self._active is not None else 0
        for side in self._sides:
            side.publish_complete_until(complete_until if self._finished or side is self._last_active else 0)

    def _take_over(self, resume: ResumeInfo) -> None:
        """Go on with the rings of a receiver that died: what was open is lost, and what came of it is in the rings."""
        self._died = f"the receiver {resume.how}"
        left = [(side.take_over(self._died), side) for side in self._sides]
        self.was_connected = any(was_connected for (_, _, was_connected), _ in left)
        (complete_until, event, _), self._last_active = max(left, key=lambda one: one[0][:2])
        if complete_until == ENDED:
            self._finished = True
            return
        self._lost_since = since_death(complete_until, event, resume.began)

    def never_open(self) -> Failure:
        """Why it was not opened by now: the last failure, or the silence of a server that is still waited for."""
        return self.failure or self._explain(self._last_active.waits_for, self._last_active)

    def check_stamps(self) -> None:
        """Tell of a NIC whose clock no other can be compared with."""
        for side in self._sides:
            side.check_stamps()

    def renew(self, conn: int, reason: str) -> None:
        """Have the connection of this number replaced, if it is open and no other is taking its place already."""
        if self._active is not None and self._active.plan.conn == conn:
            self._wish = reason
            self._wished.set()
        elif any(side.plan.conn == conn and side.connected for side in self._sides):
            self._early_wish = conn, reason

    def _elsewhere(self) -> bool:
        """Whether there is an address that has not failed, besides the active one."""
        active = self._active
        return active is not None and active.address is not None and self._history.has_other(active.address)

    def _on_idle(self, conn: int, reason: str, since: int) -> None:
        side = next(side for side in self._sides if side.plan.conn == conn)
        if side.address is not None:
            # its successor is to go elsewhere
            self._history.failed(side.address, "silent")
        if side is self._active:
            self._silent_since, self._silent_why = since, f"silent: {reason}"
        self.renew(conn, reason)

    def settled(self, order: ipc.Settled) -> None:
        """Whatever a connection that is to take over was asked for has begun, or never will."""
        for side in self._sides:
            if side.plan.conn == order.conn and side.connected and side.opened_at <= order.since:
                # to be told once more puts nothing off
                self._settled_at = self._loop.time() if self._settled_at is None else self._settled_at

    def resubscribe(self, order: ipc.Resubscribe) -> None:
        """Have a connection ask once more. What it asks for in other words holds for the one that stands by, too."""
        for side in self._sides:
            mine = side.plan.conn == order.conn
            if order.parts is not None:
                side.divide(order.topics, order.parts, order.reason, send=mine)
            elif mine:
                side.ask_again(order.topics, order.reason)

    async def run(self, stopping: asyncio.Event) -> None:
        """Connect, record, and connect again whenever it ends; return once `stopping` is set or trying is in vain."""
        stop = asyncio.ensure_future(stopping.wait())
        self.wanted_since = now()
        try:
            await self._first(stop, asyncio.sleep(self.plan.start_after))
            while not stopping.is_set() and not self._finished:
                if self._active is None:
                    await self._bring(stop, self._last_active)
                else:
                    await self._keep(stop, self._active)
        finally:
            stop.cancel()
            self._forget_wish()
            self._prospects.give_up(self)
            await self._end()

    async def _end(self) -> None:
        """Close what is open, and say what is lost at the end."""
        open_sides = [side for side in self._sides if side in self._closing or (side.connected and not side.ended)]
        closing = (self._closing.get(side) or side.close() for side in open_sides)
        unread = dict(zip(open_sides, await asyncio.gather(*closing), strict=True))
        for side in self._sides:
            broken = side is self._active and side not in unread and side.ended and side.failed
            since = side.tear_down(final=side in unread)
            if broken:
                self._lost_since = Since(since, loss_evidence.LAST_BYTE)
            # of two that are open, the one that stood by owes nothing yet
            elif side is self._active or self._active is None:
                self._lost_unread(side, unread.get(side), loss_evidence.CLOSED_UNREAD, now())
        if self._active is None and self._lost_since is None and not self._finished and not open_sides:
            self._lost_since = Since(self.wanted_since, loss_evidence.WANTED)
        if self._lost_since is not None:
            reason = f"{self._lost_why}; " if self._lost_why else ""
            what = "no connection brought data" if self._doubted else "not connected"
            reason += f"{what} before the session's end"
            self._lost(self._last_active, self._lost_since, reason, loss_evidence.SESSION_END, now())

    async def _keep(self, stop: asyncio.Future[Any], active: Connection) -> None:
        """Record until the connection ends, is replaced, or has to stop."""
        await self._first(stop, active.wait_ended(), self._wished.wait())
        if stop.done():
            return
        if active.ended:
            self._lose(active, trying=False)
            if not self._finished:
                await self._first(stop, asyncio.sleep(self._retry_in))
        elif self._wished.is_set():
            reason = self._wish or ""
            self._forget_wish()
            if len(self._sides) == 1:
                active.end(ConnectionAbortedError(reason))
            else:
                await self._bring(stop, next(side for side in self._sides if side is not active), reason)

    async def _bring(self, stop: asyncio.Future[Any], new: Connection, reason: str = "") -> None:
        """Open a connection, again and again until it is, and have it take the active one's place, if there is one."""
        backoff = self._backoff if self._active is None else Backoff()
        while not stop.done() and not self._finished:
            self._early_wish = None
            failure = await self._beside(stop, self._attempt(new, backoff.attempts))
            beside = SideBySide(self._active, new, _OVERLAP)
            if failure is None and new.connected:
                failure = await self._succeed(stop, new, beside)
            # where nothing else is open that holds also for one that is to stop at once: it did open
            opened = failure is None and new.connected and self._active is None and not self._doubted
            if self._finished or (stop.done() and not opened):
                return
            if failure is None:
                await self._hand_over(stop, new, beside, reason)
                return
            self.failure = failure
            if self._active is None and self._lost_since is None:
                self._lost_since = Since(self.wanted_since, loss_evidence.WANTED)
            # what worked before can work again: a firewall's 403 in a maintenance window is not the end
            refused = failure.permanent and not self.was_connected
            wait: float | None
            if not refused:
                self._prospects.hope(self)
                wait = self._wait_after(failure, backoff)
            elif self._prospects.give_up(self):
                wait = None
            else:
                wait = backoff.refused(failure.retry_after)
            if failure.cause == "limited" and wait is not None:
                (self._token_rate_limiter if failure.of_token else self._rate_limiter).block(wait)
            self._tell_failure(new, failure, wait, backoff.attempts, was_open=False)
            self._collector.ask()
            if wait is None:
                self._finished = True
                return
            # without any connection the next attempt has its own, shorter wait
            await self._beside(stop, self._wait(wait), until_lost=True)
            if refused and self._prospects.over:
                self._finished = True
                return
            if self._active is None:
                backoff = self._backoff

    def _wait_after(self, failure: Failure, backoff: Backoff) -> float:
        """The wait (s) after a failed attempt, or a connection that did not last."""
        # another address need not wait for what this one wants, unless all of the host counts how often we come
        if self._history.untried and failure.cause != "limited":
            return backoff.elsewhere()
        return backoff.next(failure.retry_after, failure.cause)

    async def _wait(self, seconds: float) -> None:
        await self._prospects.wait(seconds)

    async def _attempt(self, new: Connection, attempt: int) -> Failure | None:
        """Try once to open it; why that failed, None where it did not."""
        await self._enter()
        try:
            try:
                await new.open(attempt)
            except CompressionRefused as refused:
                self._forgo_compression(new.plan.conn, refused)
                await self._enter()
                await new.open(attempt)
        except Exception as error:  # noqa: BLE001 (an end of any kind is told and survived)
            failure = self._explain(error, new)
            if new.address is not None:
                self._history.failed(new.address, failure.cause, permanent=failure.permanent)
                if failure.permanent and not self._history.all_refuse:
                    return failure._replace(permanent=False)
            return failure
        return None

    async def _enter(self) -> None:
        """Wait for one's turn at each host that is about to be asked."""
        await self._rate_limiter.enter()
        if self._token_rate_limiter is not self._rate_limiter:
            await self._token_rate_limiter.enter()

    def _explain(self, error: Exception, side: Connection) -> Failure:
        """The failure behind an exception, with the address that it is about, or all that were tried."""
        at = tuple(self._history.tried) if side.address is None else (side.address.ip,)
        return explain(error, self._uri.host, self._uri.port, at, secure=self._uri.secure, proxy=side.proxy)

    def _judge(self, side: Connection, *, proven: bool) -> None:
        """Remember of an open connection that has ended whether its address is one to come back to first."""
        if side.address is None:
            return
        broke = isinstance(side.reason_of_end(), TimeoutError) if side.ended else False
        if proven and side.proved and self._silent_since is None:
            self._history.worked(side.address)
            side.worked()
        if not proven or broke:
            self._history.failed(side.address, "lost")

    def _forgo_compression(self, conn: int, refused: CompressionRefused) -> None:
        """Offer none any more: every exchange also sends messages as they are."""
        for side in self._sides:
            side.forgo_compression()
        hint = "take `compression` out of the feed, and it is not offered at all"
        ipc.info(f"{refused}; connecting without compression -- {hint}", conn=conn)

    async def _succeed(self, stop: asyncio.Future[Any], new: Connection, beside: SideBySide) -> Failure | None:
        """Wait until an open connection may be the active one; why it may not, None where it may or nothing goes on."""
        self._proved_at, self._settled_at = 0, None
        failure = None
        if self._active is not None:
            failure = await self._beside(stop, self._prove(self._active, new, beside), until_lost=True)
            if failure is None and self._active is None:
                # it has ended first, and what it brought at last may have come of nothing else
                self._look(beside)
                self._doubted = self._doubted or beside.owes
        if beside.patience is not None:
            self._patience = max(_SETTLING, min(beside.patience, _PATIENCE_MOST))
        if failure is None and self._active is None and self._doubted and not stop.done() and not self._finished:
            failure = await self._beside(stop, self._prove(None, new, beside))
        if failure is not None and new.connected:
            await self._beside(stop, self._dismiss(new))
        return failure

    def _look(self, beside: SideBySide) -> None:
        beside.look(self._loop.time())
        if beside.serves and not self._proved_at:
            self._proved_at = now()

    async def _prove(self, old: Connection | None, new: Connection, beside: SideBySide) -> Failure | None:
        """Wait until a connection may take over; why it may not, or has ended, None where it may."""
        while not new.ended:
            self._look(beside)
            if beside.spoken_at is not None:
                moment = self._loop.time()
                if old is None:
                    due, mute = beside.serves, moment >= beside.spoken_at + self._patience
                else:
                    due = moment >= self._takes_over_at(old, beside, beside.spoken_at)
                    mute = beside.is_mute(moment, due=due, patience=_PATIENCE)
                if mute and not (old is None and due):
                    self._doubted = True
                    return self._mute(new, moment - beside.spoken_at, alone=old is None)
                if due:
                    return None
            await asyncio.sleep(_PATIENCE_POLL)
        failure = self._explain(new.reason_of_end(), new)
        self._judge(new, proven=False)
        new.tear_down()
        return failure

    def _mute(self, new: Connection, seconds: float, *, alone: bool) -> Failure:
        """Why a connection that brings nothing does not take over."""
        if new.address is not None:
            self._history.failed(new.address, "silent")
        brought = "what the one before brought" if alone else "what the open one brings"
        what = f"{self.plan.public_url} answers, and has brought nothing of {brought} for {seconds:.1f} s"
        meanwhile = "what would come meanwhile is lost" if alone else "and the open one goes on"
        return Failure("silent", what, f"another connection is tried, {meanwhile}; ask the exchange about it")

    async def _dismiss(self, new: Connection) -> None:
        """Close a connection that does not take over; where the end comes meanwhile, that waits for it."""
        self._closing[new] = closing = asyncio.ensure_future(new.close())
        await asyncio.shield(closing)
        del self._closing[new]
        new.tear_down()

    def _takes_over_at(self, old: Connection, beside: SideBySide, spoken_at: float) -> float:
        """When the old one may be closed, on the loop's clock; by `spoken_at` all was asked for on the new one."""
        # one message of the old one has to have had time to come on the new one
        judged = 0.0 if beside.brought_at is None or beside.serves else beside.brought_at + _OVERLAP
        if self._silent_since is not None:
            # nothing comes of the old one
            if not self._proved_at:
                return max(spoken_at + _PATIENCE, judged)
            ago = (now() - self._proved_at) / 1e9
            return max(self._loop.time() - ago, spoken_at) + _OVERLAP
        due = max(spoken_at + _SETTLING, judged)
        if not self._proved_at:
            # nothing shows that it is worth a working one: that one's end is the exchange's to set
            return due
        if self._settled_at is not None:
            due = min(due, max(self._settled_at, spoken_at) + _OVERLAP)
        if self.plan.lifetime is not None:
            left = self.plan.lifetime - min(self.plan.lifetime * _CUT_LEFT, _CUT_LEFT_MOST)
            # less than that behind what was asked last, more could be missing than what an end by the exchange costs
            cut = self._loop.time() + left - (now() - old.opened_at) / 1e9
            due = min(due, max(cut, spoken_at + _OVERLAP))
        return due

    async def _hand_over(self, stop: asyncio.Future[Any], new: Connection, beside: SideBySide, reason: str) -> None:
        """Make an open connection the active one, and close the one before."""
        old, before = self._active, self._last_active
        self._active = self._last_active = new
        self.failure = None
        self._failures.opened(self._uri.host)
        self._opened_since = time.monotonic()
        self._forget_wish()
        self._plan_replacement(new)
        doubted, self._doubted = self._doubted, False
        if not self._proved_at and beside.patience is not None:
            self._idle_timeout.expect(beside.patience)
        if old is None:
            lost, self._lost_since = self._lost_since, None
            ended_beside = lost is not None and new.opened_at <= lost.time and not doubted
            self.reconnects += self.was_connected and not ended_beside
            self.was_connected = True
            self._prospects.hope(self)
            if lost is not None and doubted:
                why = self._died or self._lost_why or "not connected, or to what brought no data"
                self._lost(before, lost, why, loss_evidence.FIRST_DATA, self._proved_at)
            elif lost is not None and not ended_beside:
                self._lost(
                    before, lost, self._died or self._lost_why or "not connected", loss_evidence.OPENED, new.opened_at
                )
            elif lost is not None:
                self._tell_replaced(before, new, reason, new.opened_at, lost.time)
        else:
            since = self._proved_at or new.opened_at
            if self._silent_since is not None and self._proved_at:
                # another one brings messages: this one should have
                silent = Since(self._silent_since, loss_evidence.LAST_MESSAGE)
                self._lost(old, silent, f"silent: {reason}", loss_evidence.REPLACED, since)
            self._silent_since = None
            unread = None if old.ended else await self._close_old(stop, old, new)
            if unread is not None and unread < since:
                # it was behind when the other one came
                self._lost_unread(old, unread, loss_evidence.REPLACED, since)
            last = old.last_event
            if not old.ended:
                self._judge(old, proven=True)
            old.tear_down()
            self._tell_replaced(old, new, reason, since, last)
        self._died = None
        early, self._early_wish = self._early_wish, None
        if early is not None and early[0] == new.plan.conn:
            self.renew(*early)

    async def _close_old(self, stop: asyncio.Future[Any], old: Connection, new: Connection) -> int | None:
        """Close the old one (see `Connection.close`); where the end comes meanwhile, begin with the new one, too."""
        closing = asyncio.ensure_future(old.close(shutdown.REPLACED_BACKLOG.seconds))
        await asyncio.wait((stop, closing), return_when=asyncio.FIRST_COMPLETED)
        if not closing.done() and new.connected and not new.ended:
            self._closing[new] = asyncio.ensure_future(new.close())
        return await closing

    def _lose(self, active: Connection, *, trying: bool) -> None:
        """The active connection has ended: tell, and say how long to wait before the next attempt."""
        self._active = None
        self._forget_wish()
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
        if self._silent_since is not None and self._silent_since < self._lost_since.time:
            self._lost_since, self._lost_why = Since(self._silent_since, loss_evidence.LAST_MESSAGE), self._silent_why
        self._silent_since = None
        if proven:
            self._backoff.reset()
        if trying:
            self._retry_in = 0.0
        elif proven and self.failure.cause != "limited" and self.failure.retry_after is None:
            # how many connections to a host do so at once is the limiter's to say
            self._retry_in = self._backoff.at_once()
        else:
            self._retry_in = self._wait_after(self.failure, self._backoff)
        if self.failure.cause == "limited" and not trying:
            self._rate_limiter.block(self._retry_in)
        beside = next((side for side in self._sides if side.connected and not side.ended), None)
        if beside is None:
            self._tell_failure(active, self.failure, self._retry_in, self._backoff.attempts, was_open=True)
        else:
            ipc.info(f"{self.failure.message}; connection {beside.plan.conn} is open", conn=active.plan.conn)
        self._collector.ask()

    def _plan_replacement(self, new: Connection) -> None:
        lifetime = self.plan.lifetime
        if lifetime is not None and len(self._sides) > 1:
            spread = _LIFETIME_LEFT * (1 + random.random())  # noqa: S311 (spreads load, guards nothing)
            # however short it is, there has to be time for the other one, which may have much to ask for
            takes = self.plan.subscribed_after - self.plan.start_after + _SETTLING + _PATIENCE
            early = max(lifetime * spread, min(lifetime / 2, takes))
            age = (now() - new.opened_at) / 1e9
            reason = f"the exchange cuts it after {lifetime:g} s"
            self._cut = self._loop.call_later(max(lifetime - early - age, 0.0), self.renew, new.plan.conn, reason)

    def _forget_wish(self) -> None:
        self._wish = None
        self._wished.clear()
        if self._cut is not None:
            self._cut.cancel()
            self._cut = None

    async def _beside(
        self, stop: asyncio.Future[Any], work: Coroutine[Any, Any, Failure | None], *, until_lost: bool = False
    ) -> Failure | None:
        """Do `work` while the active connection goes on, and tell where that ends; its result, None if cut short.

        Args:
            stop: cuts it short.
            work: what to do.
            until_lost: whether the active connection's end cuts it short too.

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
        """Wait for the first of `others`, or for `stop`; those that are not done then are cancelled."""
        tasks = [asyncio.ensure_future(other) for other in others]
        try:
            await asyncio.wait((stop, *tasks), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    def _tell_replaced(self, old: Connection, new: Connection, reason: str, since: int, until: int) -> None:
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
            reason = "closed before all that had come was read"
            self._lost(lost, Since(since, loss_evidence.LAST_BYTE), reason, known_to, until)

    def _lost(self, lost: Connection, since: Since, reason: str, known_to: str, until: int) -> None:
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

    def _tell_failure(
        self, side: Connection, failure: Failure, wait: float | None, attempt: int, *, was_open: bool
    ) -> None:
        self._failures.tell(
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
