"""A receiver, its writer and the shared memory between them: started, restarted and released together.

The memory belongs to the supervisor, so it outlives either process, and a new process continues with it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from wsrec.counts import Counts, counts_of
from wsrec.feed.schema import Feed
from wsrec.format import claim, heartbeat
from wsrec.format.heartbeat import Heartbeat
from wsrec.format.layout import session_folder
from wsrec.ipc import LogLine, Renew, Resubscribe, Settled, SummaryLine
from wsrec.options.record import InstrumentsMode, RecordOptions
from wsrec.plan.connections import ConnectionPlan, divided
from wsrec.receive.job import ReceiverJob, ResumeInfo
from wsrec.ring.bytering import ByteRing
from wsrec.ring.slotring import SlotRing
from wsrec.ring.status import StatusPage
from wsrec.segments.segment_ring import SegmentRing
from wsrec.segments.stream_map import StreamMap
from wsrec.supervise import memory
from wsrec.supervise.child_process import ChildProcess
from wsrec.supervise.log_lines import placing
from wsrec.supervise.process_supervisor import ExitInfo, ProcessSupervisor
from wsrec.units import system_error
from wsrec.writer import session_start
from wsrec.writer.job import FeedJob, WriterJob

CONTROL_CAPACITY = 1 << 20


class _Shared(NamedTuple):
    """Descriptors of the memory that receiver and writer share, and whether its pages are made at once."""

    slots: int
    control_ring: int
    status: int
    rings: tuple[int, ...]
    populate: bool
    segments: int | None
    stream_map: int | None


class Pair:
    """One receiver, its writer and the memory between them."""

    def __init__(
        self,
        session: str,
        plans: list[ConnectionPlan],
        standbys: list[ConnectionPlan],
        cpu: int | None,
        writer_cpu: int | None,
        on_log: Callable[[LogLine], None],
        name: str,
    ) -> None:
        self.session = session
        on_log = placing(on_log, [*plans, *standbys], session)
        # the feeds whose listings of instruments its writer fetches
        self.fetches = set[str]()
        self.plans = plans
        self.standbys = standbys
        self.cpu = cpu
        self.writer_cpu = writer_cpu
        receiver = ChildProcess(f"receiver{name}", "wsrec.receive", on_log)
        writer = ChildProcess(f"writer{name}", "wsrec.writer", on_log, self._pass_on)
        self.receiver = ProcessSupervisor(
            receiver,
            self._start_receiver,
            heartbeat=lambda: self._beat("receiver"),
            beats_to_the_end=True,
            held=lambda: False,
            on_log=on_log,
            costs="messages are lost until it is connected again",
        )
        self.writer = ProcessSupervisor(
            writer,
            self._start_writer,
            heartbeat=lambda: self._beat("writer"),
            beats_to_the_end=False,
            held=lambda: self.status is not None and bool(self.status.writer["disk_trouble"]),
            on_log=on_log,
            costs="received data is kept",
        )
        self.descriptors: list[int] = []
        self.slots: SlotRing | None = None
        self.rings: list[ByteRing] = []
        self.status: StatusPage | None = None
        self._on_log = on_log
        self.began = time.monotonic_ns()
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
        """Create the shared memory and start both processes; `alone` if there is no other pair.

        The rings' memory depends on the number of `connections` of all pairs.

        Raises:
            OSError: no memory, descriptor or process is available.

        """
        # valid before the first writer runs
        self._folder = session_folder(options.out, self.session)
        self._claim = claim.hold(self._folder)
        plans = [*self.plans, *self.standbys]
        shared = self._create_memory(plans, options.ring_size, connections, segments=options.segments)
        # the writer gets no secrets except URLs of snapshots: only what it gets can end up in files
        public = tuple(plan.public() for plan in plans)
        proxies = {plan.feed: plan.proxies for plan in plans}
        self._locks = tuple(locks)
        self.began = time.monotonic_ns()
        self._writer_job = WriterJob(
            session=self.session,
            out=str(options.out),
            **shared._asdict(),
            connections=public,
            feeds=tuple(
                FeedJob.of(
                    feed,
                    proxies[feed.name],
                    options.instruments if feed.name in self.fetches else InstrumentsMode.NEVER,
                    options.snapshots,
                )
                for feed in feeds
                if feed.name in proxies
            ),
            options=options.for_workers(),
            cpu=self.writer_cpu,
            session_start=start,
            began=self.began,
            began_time=time.time_ns(),
        )
        self._receiver_job = ReceiverJob(
            **shared._asdict(),
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

    def _create_memory(
        self, plans: Sequence[ConnectionPlan], ring_size: int | None, connections: int, *, segments: bool
    ) -> _Shared:
        capacity = memory.ring_size(ring_size, connections)
        shared = _Shared(
            slots=self._own(SlotRing.create("wsrec-slots")),
            control_ring=self._own(ByteRing.create("wsrec-control", CONTROL_CAPACITY)),
            status=self._own(StatusPage.create("wsrec-status", len(self.plans))),
            rings=tuple(self._own(ByteRing.create(f"wsrec-ring-{plan.conn}", capacity)) for plan in plans),
            populate=memory.is_populated(ring_size, connections),
            segments=self._own(SegmentRing.create("wsrec-segments")) if segments else None,
            stream_map=self._own(StreamMap.create("wsrec-stream-map")) if segments else None,
        )
        self.slots, self.status = SlotRing(shared.slots), StatusPage(shared.status)
        self.rings = [ByteRing(fd, populate=False) for fd in shared.rings]
        return shared

    @property
    def restarts(self) -> int:
        """Number of restarts of its receiver and its writer."""
        return self.receiver.restarts + self.writer.restarts

    @property
    def fill(self) -> float:
        """Fill level of the fullest ring, from 0 to 1."""
        if self.slots is None:
            return 0.0
        bytes_used = max((ring.head.read() - ring.tail.read()) / ring.capacity for ring in self.rings)
        return max(self.waiting / self.slots.capacity, bytes_used)

    @property
    def waiting(self) -> int:
        """Number of slots published but not yet journalled."""
        return self.slots.published.read() - self.slots.released.read() if self.slots is not None else 0

    def summary(self, out: Path) -> SummaryLine:
        """The writer's summary; without one, its counters and the files in the manifest of `out`."""
        if self.writer.child.summary is not None:
            return self.writer.child.summary
        # imported here: they import pyarrow, which takes long
        from wsrec.format import manifest
        from wsrec.format.errors import UnreadableError

        try:
            lines = [line for line in manifest.read(out) if line.session == self.session]
        except (OSError, UnreadableError, msgspec.ValidationError):
            lines = []
        page = self.status
        counts = Counts() if page is None else counts_of(page.writer)
        return SummaryLine(
            session=self.session,
            **counts.named(),
            files=[msgspec.to_builtins(line) for line in lines],
            first_recv_time=min((line.first_time for line in lines if line.first_time is not None), default=None),
            last_recv_time=max((line.last_time for line in lines if line.last_time is not None), default=None),
        )

    def close(self) -> None:
        """Release the shared memory and the session."""
        if self._alive is not None:
            self._alive.stop()
        if self._claim is not None:
            os.close(self._claim)
            self._claim = None
            with contextlib.suppress(OSError):
                # if no writer has removed it
                self._folder.rmdir()
        for fd in self.descriptors:
            os.close(fd)
        self.descriptors.clear()

    def _note_beginning(self, job: WriterJob) -> None:
        """Record what is going to be recorded, so that the loss is known if everything is killed."""
        try:
            session_start.write(self._folder, job)
            heartbeat.begin(self._folder)
        except OSError as error:
            message = f"the session record cannot be written in {self._folder}: {system_error(error)}"
            hint = "free some space: until the writer has written it, a loss is not recorded if everything is killed"
            self._on_log(LogLine(level="warning", message=message, hint=hint))

    async def _start_receiver(self, exit_info: ExitInfo | None) -> None:
        assert self._receiver_job is not None
        job = self._receiver_job
        if exit_info is not None:
            job = msgspec.structs.replace(job, resume=ResumeInfo(began=self.began, **exit_info._asdict()))
        await self.receiver.child.start(job, self.descriptors)

    async def _start_writer(self, exit_info: ExitInfo | None) -> None:
        assert self._writer_job is not None
        job = self._writer_job
        if exit_info is not None:
            job = msgspec.structs.replace(job, resume=True, restart={"process": "writer", **exit_info._asdict()})
        # the output stays locked until its last writer has ended, even if the supervisor is killed
        await self.writer.child.start(job, [*self.descriptors, *self._locks])

    def _pass_on(self, order: Renew | Resubscribe | Settled) -> None:
        """Pass an order of the writer on to its receiver; one for later connections is repeated for later receivers."""
        job = self._receiver_job
        if isinstance(order, Resubscribe) and order.parts is not None and job is not None:
            pairs = {plan.conn: plan.conn if plan.standby_of is None else plan.standby_of for plan in job.connections}
            connections = tuple(
                divided(plan, order.topics, order.parts) if pairs[plan.conn] == pairs.get(order.conn) else plan
                for plan in job.connections
            )
            self._receiver_job = msgspec.structs.replace(job, connections=connections)
            if order.parts and self._writer_job is not None:
                # a restarted writer must not give these numbers to other requests
                last = max(self._writer_job.last_request, *(part.number for part in order.parts))
                self._writer_job = msgspec.structs.replace(self._writer_job, last_request=last)
        self.receiver.child.order(order)

    def _beat(self, who: str) -> int:
        return 0 if self.status is None else int(getattr(self.status, who)["heartbeat"])

    def _own(self, fd: int) -> int:
        self.descriptors.append(fd)
        return fd
