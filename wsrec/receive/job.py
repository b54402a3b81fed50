"""What the supervisor asks of one receiver process."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from wsrec.plan.connections import ConnectionPlan


class TlsMode(StrEnum):
    """How TLS is taken off the wire (docs/stages.md). AUTO chooses one of the others for each connection."""

    AUTO = "auto"
    STAMPED = "stamped"
    KTLS = "ktls"
    OPENSSL = "openssl"


class ResumeInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a receiver must know of the one whose memory it takes over.

    Attributes:
        began: when the first receiver was started, ns on the monotonic clock.
        how: how the one before ended, as the end of a sentence that begins with its name.
        pid: of the one before.
        after_ns: time since it last told of itself.
        restarts: how often a receiver was started again by now.

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
        populate: whether the rings' memory is brought in at once; what stands by never is.
        control_ring: descriptor of the byte ring of events and of what we send.
        status: descriptor of the status page.
        connections: what to connect to.
        tls: the TLS mode.
        ca_file: PEM file trusted besides the system's certificates.
        cpu: processor to run on.
        rt_priority: SCHED_FIFO priority.
        busy_poll: whether to try and read all the time, instead of waiting for the kernel's word.
        max_message: bytes; a larger message closes the connection with 1009.
        until_close: whether a normal close by the exchange (1000) ends its connection for good.
        alone: whether it is the only receiver, which ends where all its connections are refused for good.
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
