"""The receiver's job: everything that the supervisor passes to a receiver process."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from wsrec.plan.connections import ConnectionPlan


class TlsMode(StrEnum):
    """How TLS is decrypted (docs/stages.md). AUTO chooses one of the others for each connection."""

    AUTO = "auto"
    STAMPED = "stamped"
    KTLS = "ktls"
    OPENSSL = "openssl"


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
        connections: what to connect to.
        tls: the TLS mode.
        ca_file: PEM file trusted in addition to the system's certificates.
        cpu: processor to run on.
        rt_priority: SCHED_FIFO priority.
        busy_poll: whether to poll the sockets all the time, instead of waiting for the kernel.
        max_message: bytes; a larger message closes the connection with 1009.
        until_close: whether a normal close by the exchange (1000) ends its connection for good.
        alone: whether it is the only receiver, which ends once all its connections are refused permanently.
        resume: what it takes over; None for the first receiver.

    """

    slots: int
    rings: tuple[int, ...]
    control_ring: int
    status: int
    connections: tuple[ConnectionPlan, ...]
    populate: bool = True
    tls: TlsMode = TlsMode.STAMPED
    ca_file: str | None = None
    cpu: int | None = None
    rt_priority: int | None = None
    busy_poll: bool = False
    max_message: int = 64 << 20
    until_close: bool = False
    alone: bool = True
    resume: ResumeInfo | None = None
