"""wsrec's receiver process as the supervisor starts it, with its rings held by this process."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from wsrec.bench import cpu_time
from wsrec.bench.contestants import WsrecConfiguration
from wsrec.bench.cpu_time import CpuTime
from wsrec.bench.process import ContestantError, Process, running
from wsrec.bench.setup import Setup
from wsrec.options.record import TlsMode, WorkerOptions
from wsrec.plan.connections import plan
from wsrec.plan.target import resolve
from wsrec.receive.job import ReceiverJob
from wsrec.ring.bytering import ByteRing
from wsrec.ring.events import Event, EventKind
from wsrec.ring.slot_flags import CONTROL_RECORD, FLAG_EVENT
from wsrec.ring.slotring import SlotRing
from wsrec.ring.status import StatusPage
from wsrec.writer.job import FeedJob, WriterJob

_CONTROL_CAPACITY = 1 << 20
# opcodes from here on are control frames (RFC 6455 section 5.2)
_CONTROL = 8
_CONNECT_SECONDS = 30.0
_END_SECONDS = 15.0
# a message per second is slower than any measurement
_IDLE_SECONDS = 30.0


class Receiver:
    """A running receiver process and its rings.

    Args:
        process: the process.
        slots, ring, control_ring, status: descriptors of its shared memory.
        consumes: whether this process frees the rings; otherwise a writer does.

    """

    def __init__(
        self, process: Process, slots: int, ring: int, control_ring: int, status: int, *, consumes: bool
    ) -> None:
        self.process = process
        self._slots = SlotRing(slots)
        self._ring = ByteRing(ring)
        self._control_ring = ByteRing(control_ring)
        self._status = StatusPage(status)
        self._consumes = consumes
        self._taken = 0
        self._missed = 0

    def connected(self, mode: TlsMode | None) -> None:
        """Wait for the connection and check its TLS mode (None for tcp), since a receiver may fall back with a warning.

        Raises:
            ContestantError: it could not connect, or is in another mode.

        """
        deadline = time.monotonic() + _CONNECT_SECONDS
        while not int(self._status.receiver["connected"]):
            if self.process.ended or time.monotonic() > deadline:
                raise ContestantError(self.process.final_error() or "it did not connect")
            time.sleep(0.01)
        slots = self._slots.run(0, self._slots.published.read())
        slots = slots[slots["flags"] & FLAG_EVENT != 0]
        events = [Event.decode(self._control_ring.slice(int(slot["offset"]), int(slot["length"]))) for slot in slots]
        used = next((event.detail["mode"] for event in events if event.kind is EventKind.TLS), None)
        if used != mode and mode is not TlsMode.AUTO:
            raise ContestantError(self.process.final_error() or f"TLS mode {used} was used instead")
        self.take()

    def take(self) -> npt.NDArray[Any]:
        """A copy of the message slots published since the last call; they are consumed unless a writer does that.

        A writer may free slots before this process has read them. Overwritten ones are counted in `_missed`; except for
        a few events, they were messages.
        """
        published = self._slots.published.read()
        start = max(self._taken, published - self._slots.capacity)
        self._missed += start - self._taken
        run = self._slots.run(start, published).copy()
        received: npt.NDArray[Any] = run[(run["flags"] & CONTROL_RECORD == 0) & (run["opcode"] < _CONTROL)]
        self._taken = published
        if self._consumes:
            if len(received):
                self._ring.tail.publish(int(received["offset"][-1]) + int(received["length"][-1]))
            self._slots.released.publish(published)
        return received

    def messages(self, count: int, interval: float) -> Iterator[npt.NDArray[Any]]:
        """The results of `take`, every `interval` seconds, until `count` messages were published; no array is empty.

        Raises:
            ContestantError: the receiver ended too early, or no more messages arrived.

        """
        seen, deadline = 0, time.monotonic() + _IDLE_SECONDS
        while seen + self._missed < count:
            received = self.take()
            if len(received):
                seen += len(received)
                deadline = time.monotonic() + _IDLE_SECONDS
                yield received
            elif self.process.ended or time.monotonic() > deadline:
                stopped = f"it stopped after {seen + self._missed:,} of {count:,} messages"
                raise ContestantError(self.process.final_error() or stopped)
            else:
                time.sleep(interval)

    def cpu(self) -> CpuTime:
        """CPU time of its threads so far."""
        return cpu_time.of(self.process.pid)

    def stalls(self) -> int:
        """Wait for the receiver's end; returns the number of times that a full ring stopped reading.

        Raises:
            ContestantError: the receiver failed.

        """
        self.process.end(_END_SECONDS)
        return int(self._status.receiver["stalls"])


def reads_of(slots: npt.NDArray[Any]) -> int:
    """How many reads brought these frames. The last of a read is marked, too, but maybe only after it was taken."""
    return int(np.count_nonzero(slots["frame_in_read"] == 0))


@contextlib.contextmanager
def receiving(ours: WsrecConfiguration, setup: Setup, url: str, transport: str) -> Iterator[Receiver]:
    """Run a receiver, and a writer if `ours` has one, while the context is open; then they are killed."""
    with contextlib.ExitStack() as stack:
        slots = SlotRing.create("wsrec-bench-slots")
        stack.callback(os.close, slots)
        ring, control_ring, status = (
            ByteRing.create("wsrec-bench-ring"),
            ByteRing.create("wsrec-bench-control", _CONTROL_CAPACITY),
            StatusPage.create("wsrec-bench-status", 1),
        )
        for fd in (ring, control_ring, status):
            stack.callback(os.close, fd)
        descriptors = (slots, ring, control_ring, status)
        target = resolve(url)
        connections = tuple(plan([target]))
        if ours.writer:
            out = stack.enter_context(
                tempfile.TemporaryDirectory(dir=setup.folder, prefix="out-", ignore_cleanup_errors=True)
            )
            writer = WriterJob(
                session="bench",
                out=out,
                slots=slots,
                rings=(ring,),
                control_ring=control_ring,
                status=status,
                connections=connections,
                feeds=(FeedJob.of(target.feed),),
            )
            stack.enter_context(running("wsrec.writer", writer, setup.warn, descriptors))
        job = ReceiverJob(
            slots=slots,
            rings=(ring,),
            control_ring=control_ring,
            status=status,
            connections=connections,
            options=WorkerOptions(
                tls=ours.tls,
                ca_file=setup.ca(transport),
                rt_priority=setup.rt_priority,
                wait=ours.wait,
                until_close=True,
            ),
            cpu=setup.placement.receiver,
        )
        pure = "1" if ours.pure else ""
        process = stack.enter_context(running("wsrec.receive", job, setup.warn, descriptors, WSREC_PURE=pure))
        yield Receiver(process, slots, ring, control_ring, status, consumes=not ours.writer)
