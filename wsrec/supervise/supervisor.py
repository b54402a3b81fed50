"""The supervisor: makes the shared memory, starts a receiver and a writer a processor, and brings them to a good end.

It never touches message data. What it knows of the recording it reads from the status pages and the children's lines.
A child that dies or hangs is started again (`process_supervisor`) and goes on with the shared memory, which
outlives it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec.structs import replace

from wsrec import shutdown
from wsrec.counts import Counts, counts_of, total
from wsrec.feed.schema import Feed
from wsrec.format import claim, heartbeat
from wsrec.format.heartbeat import Heartbeat
from wsrec.format.layout import session_folder
from wsrec.ipc import FailedLine, LogLine, Renew, Resubscribe, Settled, Stop, SummaryLine
from wsrec.options.record import RecordOptions
from wsrec.plan.connections import ConnectionPlan, divided, standbys
from wsrec.receive.job import ReceiverJob, ResumeInfo
from wsrec.ring.bytering import ByteRing
from wsrec.ring.slotring import SlotRing
from wsrec.ring.status import StatusPage
from wsrec.supervise import memory
from wsrec.supervise.child_process import Child
from wsrec.supervise.outcome import Outcome, exit_status
from wsrec.supervise.process_supervisor import ExitInfo, ProcessSupervisor
from wsrec.supervise.signals import SAME_WISH, held
from wsrec.units import duration
from wsrec.writer import session_start
from wsrec.writer.job import FeedJob, WriterJob

CONTROL_CAPACITY = 1 << 20
# after this (s) the operator is told what is waited for
_NOTICE = 5.0
# characters of what is taken out of log lines as a secret, and of a key that stands in an address's path
_SECRET_LEAST = 8
_KEY_IN_PATH = 16
_LOOK_SECONDS = 0.05


class Pair:
    """One receiver, its writer and the memory between them."""

    def __init__(
        self,
        session: str,
        plans: list[ConnectionPlan],
        standbys: list[ConnectionPlan],
        cpu: int | None,
        on_log: Callable[[LogLine], None],
        name: str,
    ) -> None:
        self.session = session
        self.plans = plans
        self.standbys = standbys
        self.cpu = cpu
        receiver = Child(f"receiver{name}", "wsrec.receive", on_log)
        writer = Child(f"writer{name}", "wsrec.writer", on_log, self._pass_on)
        self.receiver = ProcessSupervisor(
            receiver,
            self._start_receiver,
            heartbeat=lambda: self._beat("receiver"),
            beats_to_the_end=True,
            held=lambda: False,
            on_log=on_log,
            costs="what comes until it is connected again is lost",
        )
        self.writer = ProcessSupervisor(
            writer,
            self._start_writer,
            heartbeat=lambda: self._beat("writer"),
            beats_to_the_end=False,
            held=lambda: self.status is not None and bool(self.status.writer["disk_trouble"]),
            on_log=on_log,
            costs="what was received is kept",
        )
        self.descriptors: list[int] = []
        self.slots: SlotRing | None = None
        self.rings: list[ByteRing] = []
        self.status: StatusPage | None = None
        self._on_log = on_log
        self._began = time.monotonic_ns()
        self._receiver_job: ReceiverJob | None = None
        self._writer_job: WriterJob | None = None
        self._locks: tuple[int, ...] = ()
        self._folder = Path()
        self._claim: int | None = None
        self._alive: Heartbeat | None = None

    async def start(
        self,
        options: RecordOptions,
        feeds: list[Feed],
        start: dict[str, Any],
        locks: Sequence[int] = (),
        *,
        connections: int,
        alone: bool = True,
    ) -> None:
        """Make the shared memory and start both processes; `alone` where there is no other pair.

        The memory of all pairs' `connections` follows their number.

        Raises:
            OSError: no memory, no descriptors, or no process.

        """
        # also while no writer runs
        self._folder = session_folder(options.out, self.session)
        self._claim = claim.hold(self._folder)
        slots = self._own(SlotRing.create("wsrec-slots"))
        control_ring = self._own(ByteRing.create("wsrec-control", CONTROL_CAPACITY))
        status = self._own(StatusPage.create("wsrec-status"))
        plans = [*self.plans, *self.standbys]
        capacity = memory.ring_size(options.ring_size, connections)
        populate = memory.is_populated(options.ring_size, connections)
        rings = tuple(self._own(ByteRing.create(f"wsrec-ring-{plan.conn}", capacity)) for plan in plans)
        self.slots, self.status, self.rings = (
            SlotRing(slots),
            StatusPage(status),
            [ByteRing(fd, populate=False) for fd in rings],
        )
        # the writer gets no secrets but what it asks for snapshots with: what it stores it can only have from here
        public = tuple(plan.public() for plan in plans)
        proxies = {plan.feed: plan.proxies for plan in plans}
        self._locks = tuple(locks)
        self._began = time.monotonic_ns()
        self._writer_job = WriterJob(
            session=self.session,
            out=str(options.out),
            slots=slots,
            rings=rings,
            populate=populate,
            control_ring=control_ring,
            status=status,
            connections=public,
            feeds=tuple(FeedJob.of(f, proxies[f.name]) for f in feeds if f.name in proxies),
            options=options.for_workers(),
            session_start=start,
            began=self._began,
            began_time=time.time_ns(),
        )
        self._receiver_job = ReceiverJob(
            slots=slots,
            rings=rings,
            populate=populate,
            control_ring=control_ring,
            status=status,
            connections=tuple(plans),
            options=options.for_workers(),
            cpu=self.cpu,
            alone=alone,
        )
        self._note_beginning(self._writer_job)
        self._alive = Heartbeat(self._folder)
        self._alive.start()
        try:
            await self.writer.start()
            await self.receiver.start()
        except BaseException:
            # nothing was received, so nothing is missing
            with contextlib.suppress(OSError):
                session_start.end(self._folder)
            raise

    @property
    def restarts(self) -> int:
        """How often its receiver and its writer were started again."""
        return self.receiver.restarts + self.writer.restarts

    @property
    def fill(self) -> float:
        """How full the fullest ring is, from 0 to 1."""
        if self.slots is None:
            return 0.0
        bytes_used = max((ring.head.read() - ring.tail.read()) / ring.capacity for ring in self.rings)
        return max(self.waiting / self.slots.capacity, bytes_used)

    @property
    def waiting(self) -> int:
        """Slots that were published and not yet journalled."""
        return self.slots.published.read() - self.slots.released.read() if self.slots is not None else 0

    def close(self) -> None:
        """Let go of the shared memory, and of the session."""
        if self._alive is not None:
            self._alive.stop()
        if self._claim is not None:
            os.close(self._claim)
            self._claim = None
            with contextlib.suppress(OSError):
                # where no writer came to do it
                self._folder.rmdir()
        for fd in self.descriptors:
            os.close(fd)
        self.descriptors.clear()

    def _note_beginning(self, job: WriterJob) -> None:
        """Write down what is going to be recorded, so that it is known whose time was lost if all of it is killed."""
        try:
            session_start.write(self._folder, job)
            heartbeat.begin(self._folder)
        except OSError as error:
            message = f"what is going to be recorded cannot be noted in {self._folder}: {error}"
            hint = "make room: until the writer could note it, nothing tells what is lost if everything is killed"
            self._on_log(LogLine(level="warning", message=message, hint=hint))

    async def _start_receiver(self, exit_info: ExitInfo | None) -> None:
        assert self._receiver_job is not None
        job = self._receiver_job
        if exit_info is not None:
            job = msgspec.structs.replace(job, resume=ResumeInfo(began=self._began, **exit_info._asdict()))
        await self.receiver.child.start(job, self.descriptors)

    async def _start_writer(self, exit_info: ExitInfo | None) -> None:
        assert self._writer_job is not None
        job = self._writer_job
        if exit_info is not None:
            job = msgspec.structs.replace(job, resume=True, restart={"process": "writer", **exit_info._asdict()})
        # the output stays locked until its last writer has ended, also where the supervisor is killed
        await self.writer.child.start(job, [*self.descriptors, *self._locks])

    def _pass_on(self, order: Renew | Resubscribe | Settled) -> None:
        """An order of the writer's for its receiver; what holds for later connections holds for later receivers too."""
        job = self._receiver_job
        if isinstance(order, Resubscribe) and order.parts is not None and job is not None:
            pairs = {plan.conn: plan.conn if plan.standby_of is None else plan.standby_of for plan in job.connections}
            connections = tuple(
                divided(plan, order.topics, order.parts) if pairs[plan.conn] == pairs.get(order.conn) else plan
                for plan in job.connections
            )
            self._receiver_job = msgspec.structs.replace(job, connections=connections)
            if order.parts and self._writer_job is not None:
                # a later writer does not give these numbers to other requests
                last = max(self._writer_job.last_request, *(part.number for part in order.parts))
                self._writer_job = msgspec.structs.replace(self._writer_job, last_request=last)
        self.receiver.child.order(order)

    def _beat(self, who: str) -> int:
        return 0 if self.status is None else int(getattr(self.status, who)["heartbeat"])

    def _own(self, fd: int) -> int:
        self.descriptors.append(fd)
        return fd


class Supervisor:
    """Runs one recording.

    Args:
        targets: what was asked for, in the user's words, secrets removed.
        feeds: the feeds.
        plans: their connections.
        options: how to record.
        on_log: called with each line for the operator.
        locks: descriptors of the output's lock, which the writers hold too.

    Attributes:
        pairs: receivers and writers, one pair a processor.
        options: how it records.
        began: monotonic time (s) of the start.
        until: monotonic time (s) at which it ends; None where that is not known (yet).

    """

    def __init__(
        self,
        targets: tuple[str, ...],
        feeds: list[Feed],
        plans: list[ConnectionPlan],
        options: RecordOptions,
        on_log: Callable[[LogLine], None],
        locks: Sequence[int] = (),
    ) -> None:
        self.options = options
        self.began = time.monotonic()
        self.until: float | None = None
        self._targets = targets
        self._feeds = feeds
        self._on_log = on_log = _withholding(on_log, plans)
        self._locks = tuple(locks)
        cpus: tuple[int | None, ...] = options.cpu[: len(plans)] or (None,)
        # all receivers knock at the same hosts, from the same address
        plans = [replace(one, pace=one.pace and one.pace.share(len(cpus))) for one in plans]
        spare = {one.standby_of: one for one in standbys(plans)}
        base = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        self.pairs = [
            Pair(
                base if len(cpus) == 1 else f"{base}-r{index}",
                mine := plans[index :: len(cpus)],
                [spare[one.conn] for one in mine if one.conn in spare],
                cpu,
                on_log,
                "" if len(cpus) == 1 else f" {index}",
            )
            for index, cpu in enumerate(cpus)
        ]
        self._stopping = asyncio.Event()
        self._reason = ""
        self._signalled = -SAME_WISH
        # the second signal's name, and what had failed before it
        self._given_up = ""
        self._failed_before: FailedLine | None = None
        self._receiving = len(self.pairs)

    async def run(self) -> Outcome:
        """Record until a signal, the end of the time, or the end of every connection.

        Raises:
            OSError: the recording could not be started.

        """
        loop = asyncio.get_running_loop()
        with held(lambda name: loop.call_soon_threadsafe(self._on_signal, name)):
            await self._run()
            return self._come_to()

    async def _run(self) -> None:
        if self.options.until is not None:
            left = (self.options.until - datetime.now(UTC)).total_seconds()
            self._end_at(time.monotonic() + left)
        looking: list[asyncio.Task[None]] = []
        connections = sum(len(pair.plans) for pair in self.pairs)
        start = {"targets": self._targets, "connections": connections}
        try:
            for pair in self.pairs:
                alone = len(self.pairs) == 1
                await pair.start(self.options, self._feeds, start, self._locks, connections=connections, alone=alone)
            if self.options.duration is not None:
                looking.append(asyncio.ensure_future(self._look_for_begin(self.options.duration)))
            if len(self.pairs) > 1:
                looking.append(asyncio.ensure_future(self._look_for_hope()))
            await asyncio.gather(*(self._record(pair) for pair in self.pairs))
        finally:
            self._abandon()
            for task in looking:
                task.cancel()

    def _come_to(self) -> Outcome:
        """What it came to, once all processes have ended; the memory is let go of."""
        failure, given_up = self._failure(), 0
        unfinished = any(pair.writer.child.summary is None for pair in self.pairs)
        if self._given_up and unfinished and (failure is None or failure is not self._failed_before):
            # who was killed for it has not failed
            given_up = sum(pair.waiting for pair in self.pairs)
            message = f"given up on a second {self._given_up}: "
            message += f"{given_up:,} frames that were received and not journalled are lost"
            hint = "what was journalled is kept, and recovered by the next start"
            failure = FailedLine(message=message, hint=hint)
        outcome = self._outcome(failure, given_up)
        for pair in self.pairs:
            pair.close()
        return outcome

    def _failure(self) -> FailedLine | None:
        """Why the first that cannot go on cannot."""
        supervisors = [pair.writer for pair in self.pairs] + [pair.receiver for pair in self.pairs]
        return next((process.failed for process in supervisors if process.failed is not None), None)

    def is_open(self) -> bool:
        """Whether every connection is open now, and what comes reaches the disk."""
        pages = self._pages()
        planned = sum(len(pair.plans) for pair in self.pairs)
        trouble = any(page.writer["disk_trouble"] or not page.writer["heartbeat"] for page in pages)
        return sum(int(page.receiver["connected"]) for page in pages) == planned and not trouble

    def is_answered(self) -> bool:
        """Whether every subscription had its answer, of feeds that say how one looks."""
        answering = {feed.name for feed in self._feeds if feed.ack is not None}
        plans = [plan for pair in self.pairs for plan in pair.plans if plan.feed in answering]
        requested = sum(len(request.topics) for plan in plans for request in plan.requests)
        return requested <= sum(int(pair.status.writer["answered"]) for pair in self.pairs if pair.status is not None)

    def _end_at(self, moment: float) -> None:
        """End at this monotonic time (s)."""
        self.until = moment
        asyncio.get_running_loop().call_later(
            max(moment - time.monotonic(), 0), functools.partial(self._stop, "the time was up")
        )

    async def _look_for_begin(self, seconds: float) -> None:
        """Have it end that long after the first connection was open; where none is, after as long of trying."""
        while not any(page.receiver["heartbeat"] for page in self._pages()):
            await asyncio.sleep(_LOOK_SECONDS)
        tried_since = time.monotonic()
        while not any(page.receiver["connected"] or page.receiver["frames"] for page in self._pages()):
            if time.monotonic() - tried_since >= seconds:
                self._stop(f"no connection was open within {duration(int(seconds * 1e9))}")
                return
            await asyncio.sleep(_LOOK_SECONDS)
        self._end_at(time.monotonic() + seconds)

    async def _look_for_hope(self) -> None:
        """Have it end once every receiver's connections were refused for good."""
        while not all(page.receiver["exhausted"] for page in self._pages()):
            await asyncio.sleep(_LOOK_SECONDS)
        self._stop("every connection was refused")

    def _pages(self) -> list[StatusPage]:
        return [pair.status for pair in self.pairs if pair.status is not None]

    async def _record(self, pair: Pair) -> None:
        """One pair's part from its start to its end: the receiver's comes first, and then the writer's."""
        receiver = asyncio.ensure_future(pair.receiver.run())
        writer = asyncio.ensure_future(pair.writer.run())
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait((stopping, receiver, writer), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if writer.done():
            self._writer_ended(pair)
        pair.receiver.finish(Stop(), again=False)
        await self._within(receiver, shutdown.RECEIVER, pair.receiver)
        self._receiver_ended(pair)
        pair.writer.finish(Stop(), again=True)
        await self._within(writer, shutdown.WRITER, pair.writer)

    async def _within(self, ending: asyncio.Future[None], limit: shutdown.Limit, process: ProcessSupervisor) -> None:
        name = process.child.name
        await within(ending, limit.seconds, name=name, kill=process.abandon, on_log=self._on_log)

    def _writer_ended(self, pair: Pair) -> None:
        """A writer that ended by itself: where the output is at fault it is the end for all, else for its pair."""
        failed = pair.writer.failed
        if len(self.pairs) == 1 or not pair.writer.exhausted or failed is None:
            self._stop(f"the {pair.writer.child.name} ended")
        else:
            self._report_ended(pair, failed)

    def _receiver_ended(self, pair: Pair) -> None:
        """Say at once that one of several receivers failed; the others go on."""
        failed = pair.receiver.failed
        if len(self.pairs) > 1 and failed is not None and not self._stopping.is_set():
            self._report_ended(pair, failed)
        self._receiving -= 1
        if not self._receiving:
            self._stop(f"the {pair.receiver.child.name} ended" if failed is not None else "every connection ended")

    def _report_ended(self, pair: Pair, failed: FailedLine) -> None:
        message = f"{failed.message}; its {len(pair.plans)} connections are no longer recorded"
        self._on_log(LogLine(level="error", message=message, hint="stop and record again"))

    def _on_signal(self, name: str) -> None:
        if not self._stopping.is_set():
            self._signalled = time.monotonic()
            self._stop(name)
            return
        if time.monotonic() - self._signalled < SAME_WISH:
            return
        if not self._given_up:
            self._given_up, self._failed_before = name, self._failure()
            self._on_log(LogLine(level="warning", message=f"a second {name}: what is not on disk by now is given up"))
        self._abandon()

    def _abandon(self) -> None:
        for pair in self.pairs:
            pair.receiver.abandon()
            pair.writer.abandon()

    def _stop(self, reason: str) -> None:
        if not self._stopping.is_set():
            self._reason = reason
            self._stopping.set()

    def _summary_of(self, pair: Pair) -> SummaryLine:
        """What is known of a writer that had no last word: its counters, and the files that had landed."""
        # only here: it brings pyarrow along, which takes long to import
        from wsrec.format import manifest

        try:
            lines = [line for line in manifest.read(self.options.out) if line.session == pair.session]
        except OSError:
            lines = []
        page = pair.status
        counts = Counts() if page is None else counts_of(page.writer)
        return SummaryLine(
            session=pair.session,
            **counts.named(),
            files=[msgspec.to_builtins(line) for line in lines],
            first_recv_time=min((line.first_time for line in lines if line.first_time is not None), default=None),
            last_recv_time=max((line.last_time for line in lines if line.last_time is not None), default=None),
        )

    def _outcome(self, failure: FailedLine | None, given_up: int) -> Outcome:
        summaries = [pair.writer.child.summary or self._summary_of(pair) for pair in self.pairs]
        firsts = [s.first_recv_time for s in summaries if s.first_recv_time is not None]
        lasts = [s.last_recv_time for s in summaries if s.last_recv_time is not None]
        pages = [pair.status for pair in self.pairs if pair.status is not None]
        return Outcome(
            status=exit_status(summaries, failure),
            reason=self._reason,
            error=failure.message if failure else None,
            hint=failure.hint if failure else None,
            finished=all(pair.writer.child.summary is not None for pair in self.pairs),
            out=str(self.options.out),
            targets=self._targets,
            sessions=tuple(pair.session for pair in self.pairs),
            elapsed_ns=int((time.monotonic() - self.began) * 1e9),
            **total(summaries).named(),
            given_up=given_up,
            reconnects=sum(int(page.receiver["reconnects"]) for page in pages),
            stalls=sum(int(page.receiver["stalls"]) for page in pages),
            restarts=sum(pair.restarts for pair in self.pairs),
            first_recv_time=min(firsts, default=None),
            last_recv_time=max(lasts, default=None),
            files=tuple(line for s in summaries for line in s.files),
        )


async def within(
    ending: asyncio.Future[None],
    seconds: float,
    *,
    name: str,
    kill: Callable[[], None],
    on_log: Callable[[LogLine], None],
    notice: float = _NOTICE,
) -> None:
    """Wait for the end of a process that was told to finish, and kill it at the limit.

    Args:
        ending: done once it has ended.
        seconds: the limit.
        name: the process, in messages.
        kill: ends it at once.
        on_log: called with each line for the operator.
        notice: seconds after which the operator is told what is waited for.

    """
    _, late = await asyncio.wait((ending,), timeout=notice)
    if late:
        # nothing is wrong: where only that is to be said, nothing is
        on_log(LogLine(level="info", message=_waiting_for(name)))
        _, late = await asyncio.wait((ending,), timeout=seconds - notice)
    if late:
        on_log(LogLine(level="error", message=f"the {name} did not end in {seconds:g} s; killed"))
        kill()
    await ending


def _waiting_for(name: str) -> str:
    again = "Ctrl-C" if sys.stderr.isatty() else "SIGINT or SIGTERM"
    return f"waiting for the {name} to finish; another {again} gives up what is not on disk by then"


def _withholding(on_log: Callable[[LogLine], None], plans: Sequence[ConnectionPlan]) -> Callable[[LogLine], None]:
    """`on_log` without the feeds' secrets: an exchange may repeat them, and the writer does not know them."""
    secrets_of_plans = sorted({secret for plan in plans for secret in _reporting(plan)}, key=len, reverse=True)

    def log(line: LogLine) -> None:
        message = line.message
        for secret in secrets_of_plans:
            message = message.replace(secret, "***")
        on_log(line if message == line.message else replace(line, message=message))

    return log


def _reporting(plan: ConnectionPlan) -> Iterator[str]:
    """What of a plan is secret and stands for nothing else: a word of an address that is one of the language is not."""
    parts = urlsplit(plan.url)
    raw = [pair.partition("=")[2] for pair in parts.query.split("&")]
    keys = [part for part in parts.path.split("/") if len(part) >= _KEY_IN_PATH and any(map(str.isdigit, part))]
    of_proxy = "" if plan.proxy is None else plan.proxy.password
    for text in (*raw, *keys, parts.username or "", parts.password or "", of_proxy or "", *plan.headers.values()):
        for secret in (text, unquote(text)):
            if len(secret) >= _SECRET_LEAST and "{" not in secret and secret not in plan.public_url:
                yield secret
