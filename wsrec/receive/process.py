"""The receiver process: takes its job, sets up scheduling and memory, and runs its connections on uvloop."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import socket
import sys
import traceback
from collections.abc import Callable
from typing import Any, Literal, NoReturn, ParamSpec

import msgspec
import uvloop
from websockets.exceptions import InvalidURI

from wsrec import ipc, shutdown
from wsrec.host import privilege
from wsrec.host.clock import Anchor, StageClock, anchor, now, step
from wsrec.host.processor import clock_source, processor, troubles
from wsrec.http import client as http_client
from wsrec.options.record import TlsMode, WaitStrategy
from wsrec.receive.active_reconnectors import ActiveReconnectors
from wsrec.receive.connection_counts import ConnectionCounts
from wsrec.receive.failure_log import FailureLog
from wsrec.receive.garbage_collection import Collector
from wsrec.receive.implementation import COMPILED
from wsrec.receive.job import ReceiverJob
from wsrec.receive.pong_responder import PongResponder
from wsrec.receive.producer import Producer
from wsrec.receive.rate_limit import HostRateLimiters
from wsrec.receive.reconnector import Reconnector
from wsrec.receive.segments import Segments
from wsrec.receive.sides import Counts, Side
from wsrec.receive.tls_choice import TlsPolicy
from wsrec.receive.waiting import STRATEGIES
from wsrec.ring.bytering import ByteRing
from wsrec.ring.events import EventKind
from wsrec.ring.slotring import SlotRing
from wsrec.ring.status import StatusPage
from wsrec.units import duration, system_error

_MEMORY_HINT = "give the machine or the cgroup more memory, or use a smaller --ring-size or --max-message"
# Upper bound of the time that UTC is off after a change of the clock's rate, until the next anchor shows it (s)
ANCHOR_INTERVAL = 0.1
_STATUS_INTERVAL = 0.1
# of the rows of connections, which are for people: with a thousand they take half a percent of a processor
_ROWS_INTERVAL_NS = 500_000_000
# connections processed per turn of the loop: at most 0.2 ms of delay for a message, even with a thousand
_AT_ONCE = 64


_Args = ParamSpec("_Args")


def _critical(step: Callable[_Args, None]) -> Callable[_Args, None]:
    """Decorator for callbacks without which a receiver is useless: the loop would only log their failure."""

    @functools.wraps(step)
    def guarded(*args: _Args.args, **named: _Args.kwargs) -> None:
        try:
            step(*args, **named)
        except Exception as error:  # noqa: BLE001 (reported)
            broken(error)

    return guarded


class Receiver:
    """All connections of one receiver process."""

    def __init__(self, job: ReceiverJob) -> None:
        self._job = job
        # the stage clock first: the takeover is timed with it
        self._clock = StageClock()
        self._status = StatusPage(job.status)
        self._status.receiver["finished"] = False
        self._producer = Producer(SlotRing(job.slots), ByteRing(job.control_ring))
        if (resume := job.resume) is not None:
            detail: dict[str, Any] = msgspec.structs.asdict(resume)
            del detail["began"]
            self._producer.event(EventKind.RESTART, process="receiver", **detail)
        if any(plan.token is not None for plan in job.connections):
            http_client.prepare()
        self._waiting = STRATEGIES[job.options.wait]()
        self._tls = TlsPolicy(job.options.tls, job.options.ca_file)
        # standby rings take no memory before they are used
        sides = [
            Side(plan, ByteRing(ring, populate=job.populate and plan.standby_of is None))
            for plan, ring in zip(job.connections, job.rings, strict=True)
        ]
        standby = {side.plan.standby_of: side for side in sides if side.plan.standby_of is not None}
        limiters = HostRateLimiters()
        self._all_active = ActiveReconnectors(alone=job.alone)
        self._segments = Segments.start(job, self._producer)
        collector = Collector()
        self._failures = FailureLog(self._producer)
        self._connections = [
            Reconnector(
                [side, *([standby[side.plan.conn]] if side.plan.conn in standby else [])],
                self._producer,
                self._waiting,
                limiters,
                tls=self._tls,
                max_message=job.options.max_message,
                until_close=job.options.until_close,
                active=self._all_active,
                collector=collector,
                failures=self._failures,
                resume=job.resume,
                segments=self._segments,
            )
            for side in sides
            if side.plan.standby_of is None
        ]
        self._of = {conn: one for one in self._connections for conn in one.sides.numbers}
        # totals of the receivers before this one
        self._before = Counts(*(int(self._status.receiver[name]) for name in Counts._fields))
        self._connection_counts = ConnectionCounts(self._status, self._connections)
        self._rows_next, self._rows_due = 0, True
        self._connected, self._totals = 0, self._before
        self._reporting: asyncio.Handle | None = None
        self._anchor: Anchor | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(_on_exception)
        self._stopping = asyncio.Event()
        self._orders = ipc.OrderReader()

    async def run(self) -> None:
        """Record until a stop order, or until no connection is worth retrying."""
        self._sample_anchor()
        self._prepare()
        self._publish_status()
        self._loop.add_reader(sys.stdin.fileno(), self._on_stdin)
        ping_sources = {
            conn: one for connection in self._connections for conn, one in connection.sides.ping_sources.items()
        }
        answers = PongResponder(self._producer, ping_sources)
        for connection in self._connections:
            if connection.plan.answers:
                connection.sides.find_pings_by(answers.look)
        answering = asyncio.ensure_future(answers.run())
        answering.add_done_callback(_on_vital_task_ended)
        await asyncio.gather(*(connection.run(self._stopping) for connection in self._connections))
        answering.cancel()
        if self._segments is not None:
            await self._segments.finish()
        self._failures.flush()
        self._sample_anchor()
        deadline = now() + int(shutdown.LAST_EVENTS.seconds * 1e9)
        while not (written := self._producer.flush()) and now() < deadline:
            await asyncio.sleep(0.001)
        self._publish_status(len(self._connections))
        # otherwise the writer reports what is lost
        self._status.receiver["finished"] = written

    def failure(self) -> ipc.FailedLine | None:
        """The failure to report to the supervisor if no connection was ever made."""
        if any(connection.was_connected for connection in self._connections):
            return None
        if not self._connections:
            return None
        # a failed connection is more informative than one that still waits for an answer
        reported = next((connection for connection in self._connections if connection.failure), self._connections[0])
        failure = reported.never_open()
        message = failure.message
        if self._stopping.is_set():
            message = f"not connected before the end: {message} (tried for {duration(now() - reported.wanted_since)})"
        return ipc.FailedLine(message=message, hint=failure.hint)

    def _prepare(self) -> None:
        job = self._job
        with socket.socket() as probe:
            refusals = {
                "pin": privilege.pin(job.cpu) if job.cpu is not None else None,
                "realtime": privilege.realtime(job.options.rt_priority)
                if job.options.rt_priority is not None
                else None,
                "memory": privilege.lock_memory(),
                "waiting": self._waiting.prepare(probe),
            }
        for request, refusal in refusals.items():
            if refusal is None:
                continue
            self._producer.event(EventKind.PRIVILEGE, what=refusal.what, reason=refusal.reason, hint=refusal.hint)
            message = f"{refusal.what} was refused: {refusal.reason}"
            # nobody asked for locked memory, and most users may not lock it: cron would mail every recording of theirs
            level: Literal["info", "warning"] = "info" if request == "memory" else "warning"
            ipc.emit(ipc.LogLine(level=level, message=message, hint=refusal.hint, kind=EventKind.PRIVILEGE))
        mode, unable = self._tls.mode, self._tls.unable or self._tls.not_direct
        if unable is not None and mode is not TlsMode.AUTO:
            message = f"--tls {mode} is not possible here, using stamped: {unable.reason}"
            if self._tls.named is not None:
                ipc.warn(message, unable.hint)
            else:
                # nothing is lost but speed, and nobody has asked for it
                ipc.info(f"{message}; {unable.hint}")
        pinned = processor(job.cpu) if job.cpu is not None else None
        for what, hint in troubles(
            pinned, spins=job.options.wait is not WaitStrategy.EPOLL, realtime=job.options.rt_priority is not None
        ):
            ipc.warn(what, hint)
        hot_path = "compiled" if COMPILED else "python"
        self._producer.event(
            EventKind.SCHEDULING,
            process="receiver",
            hot_path=hot_path,
            waiting=self._waiting.name,
            clock_source=clock_source(),
            processor=pinned,
            **privilege.in_force(),
        )
        # the objects that exist now stay; scanning them again and again would only add pauses
        gc.collect()
        gc.freeze()
        gc.disable()

    @_critical
    def _sample_anchor(self) -> None:
        was, drift = self._clock.name, self._clock.check()
        if self._clock.name != was:
            ipc.warn(f"stages 2 to 6 switch to {self._clock.name}: {self._clock.refusal}")
        previous, self._anchor = self._anchor, anchor()
        stepped = 0 if previous is None else step(previous, self._anchor)
        self._producer.event(
            EventKind.ANCHOR,
            monotonic=self._anchor.stage,
            realtime=self._anchor.realtime,
            width_ns=self._anchor.width,
            clock=self._clock.name,
            drift_ns=drift,
            step_ns=stepped,
        )
        if stepped:
            self._producer.event(EventKind.CLOCK_STEP, step_ns=stepped)
            ipc.warn(
                f"the system clock stepped by {stepped / 1e9:+.6f} s",
                "run chrony or PTP, which slew the clock instead of stepping it",
                kind=EventKind.CLOCK_STEP,
                detail={"step_ns": stepped},
            )
        self._failures.due()
        if self._segments is not None:
            self._segments.check()
        self._loop.call_later(ANCHOR_INTERVAL, self._sample_anchor)

    @_critical
    def _publish_status(self, at_once: int = _AT_ONCE) -> None:
        """Update the status page for the supervisor, `at_once` connections per turn of the loop."""
        self._producer.flush()
        ipc.flush()
        self._status.receiver["heartbeat"] = now()
        if self._reporting is not None:
            self._reporting.cancel()
        self._connected, self._totals = 0, self._before
        # always if one turn goes through all of them: they are few, or it is the last report
        self._rows_due = now() >= self._rows_next or at_once >= len(self._connections)
        if self._rows_due:
            self._rows_next = now() + _ROWS_INTERVAL_NS
        self._report(0, at_once)

    @_critical
    def _report(self, start: int, at_once: int) -> None:
        some, end = self._connections[start : start + at_once], start + at_once
        for connection in some:
            connection.publish_complete_until()
            connection.sides.check_stamps()
            self._connected += connection.sides.connected
        counts = [connection.sides.counts(connection.reconnects) for connection in some]
        if self._rows_due:
            for row, each in enumerate(counts, start):
                self._connection_counts.put(row, each)
        self._totals = Counts(*map(sum, zip(self._totals, *counts, strict=True)))
        if end < len(self._connections):
            self._reporting = self._loop.call_soon(self._report, end, at_once)
            return
        status = self._status.receiver
        status["connections"], status["connected"] = len(self._connections), self._connected
        status["exhausted"] = self._all_active.all_exhausted
        for name, total in self._totals._asdict().items():
            status[name] = total
        self._reporting = self._loop.call_later(_STATUS_INTERVAL, self._publish_status)

    @_critical
    def _on_stdin(self) -> None:
        for order in self._orders.read():
            if isinstance(order, ipc.Stop):
                self._loop.remove_reader(sys.stdin.fileno())
                self._stopping.set()
                return
            connection = self._of.get(order.conn)
            if connection is not None and isinstance(order, ipc.Renew):
                connection.renew(order.conn, order.reason)
            elif connection is not None and isinstance(order, ipc.Settled):
                connection.settled(order)
            elif connection is not None and isinstance(order, ipc.Resubscribe):
                connection.sides.resubscribe(order)


def _on_exception(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Exit when memory runs out in a callback: it leaves a connection in mid-read, and a new process recovers."""
    if isinstance(context.get("exception"), MemoryError):
        out_of_memory()
    loop.default_exception_handler(context)


def out_of_memory() -> NoReturn:
    """Report it and exit as if killed: without last records, which the next receiver would repeat."""
    try:
        ipc.emit(ipc.FailedLine(message="the receiver ran out of memory", hint=_MEMORY_HINT, again=True))
    finally:
        os._exit(1)


def _on_vital_task_ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        broken(error)


def broken(error: BaseException) -> NoReturn:
    """Report an error that disables a part of the receiver, and exit as if killed: the next one is complete."""
    if isinstance(error, MemoryError):
        out_of_memory()
    try:
        # the error's text goes where secrets are masked
        traceback.print_tb(error.__traceback__)
        message = f"the receiver failed: {type(error).__name__}: {error}"
        ipc.emit(ipc.FailedLine(message=message, hint="report this with the lines above", again=True))
    finally:
        os._exit(1)


async def _run(job: ReceiverJob) -> ipc.FailedLine | None:
    receiver = Receiver(job)
    await receiver.run()
    return receiver.failure()


def main() -> int:
    """Run one receiver; the job is read from standard input."""
    ipc.report_to_parent()
    try:
        job = ipc.read_job(ReceiverJob)
    except msgspec.DecodeError as error:
        ipc.emit(ipc.FailedLine(message=f"the receiver's job cannot be read: {error}"))
        return 1
    try:
        failure = uvloop.run(_run(job))
    except MemoryError:
        out_of_memory()
    except OSError as error:
        # after a takeover it may be temporary: an earlier receiver had succeeded
        failure = ipc.FailedLine(message=f"the receiver failed: {system_error(error)}", again=job.resume is not None)
    except InvalidURI as error:
        # the error's own text contains the URL, which may have secrets
        failure = ipc.FailedLine(message=f"not a WebSocket URL: {error.msg}", hint="use the form wss://host:port/path")
    if failure is not None:
        ipc.emit(failure)
        return 1
    return 0
