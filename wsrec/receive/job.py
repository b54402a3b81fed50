"""The receiver's job: everything that the supervisor passes to a receiver process."""

from __future__ import annotations

import msgspec

from wsrec.options.record import WorkerOptions
from wsrec.plan.connections import ConnectionPlan


class ResumeInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a receiver knows of the one whose memory it takes over.

    Attributes:
        began: start of the first receiver, ns on the monotonic clock.
        how: how the previous one ended, as a clause that follows its name.
        pid: process id of the previous one.
        after_ns: time since its last heartbeat.
        restarts: number of restarts so far.

    """

    began: int
    how: str
    pid: int
    after_ns: int
    restarts: int


class ReceiverJob(msgspec.Struct, frozen=True, kw_only=True):
    """Everything one receiver needs.

    Attributes:
        slots: descriptor of the slot ring's shared memory.
        rings: descriptor of each connection's byte ring, in order of `connections`.
        populate: whether to fault in the rings' memory at once; never done for standby connections.
        control_ring: descriptor of the control ring: events and sent frames.
        status: descriptor of the status page.
        segments, stream_map: descriptors of the segment ring and the stream map; None without `--segments`.
        connections: what to connect to.
        options: how to work.
        cpu: processor to run on; one of those in `RecordOptions.cpu`.
        alone: whether it is the only receiver, which ends once all its connections are refused permanently.
        resume: what it takes over; None for the first receiver.

    """

    slots: int
    rings: tuple[int, ...]
    control_ring: int
    status: int
    connections: tuple[ConnectionPlan, ...]
    populate: bool = True
    segments: int | None = None
    stream_map: int | None = None
    options: WorkerOptions = WorkerOptions()
    cpu: int | None = None
    alone: bool = True
    resume: ResumeInfo | None = None
