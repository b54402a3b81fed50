"""The time limits between a stop order (a signal, the end of the time) and the exit, in one table.

A recording stops from its source to its sink: receivers close their connections, then writers finish their files, then
the supervisor prints the result. Each step has its own limits, and the supervisor has one for each process, longer than
the sum of the process's own waits. `worst_case` is the time that a service manager (systemd, a container runtime) must
allow. `docs/recording.md` has the table, `scripts/systemd` the figure; tests check both.
"""

from __future__ import annotations

from typing import NamedTuple


class Limit(NamedTuple):
    """How long something is waited for.

    Attributes:
        seconds: how long at most.
        waits: who waits, for what.
        reason: why as long as this, and what follows when it is over.

    """

    seconds: float
    waits: str
    reason: str


CLOSE_REPLY = Limit(
    1.5,
    "receiver: an exchange's answer to the close frame",
    "of all connections at a time. An answer takes a round trip; without one the connection is dropped",
)
REPLACED_BACKLOG = Limit(
    5.0,
    "receiver: what a replaced connection has still to read",
    "its successor records already. The rest is dropped, and booked as lost where the successor does not have it",
)
BACKLOG = Limit(
    20.0,
    "receiver: what exchanges had sent before, while a ring is full",
    "the writer has to catch up first. What is unread then is a `lost_interval`",
)
LAST_EVENTS = Limit(
    60.0,
    "receiver: room in the control ring for its last events",
    "the writer may have to be started again first. Without them the writer says what is lost",
)
RECEIVER_HANGS = Limit(
    3.0,
    "supervisor: a heartbeat of a receiver that finishes",
    "ten times a second to its end. It is killed; what was received is kept",
)
RECEIVER = Limit(
    95.0,
    "supervisor: the end of a receiver",
    "what a receiver may wait for by itself, with a margin for a busy machine. It is killed",
)
ORPHANED_RECEIVER = Limit(
    95.0,
    "writer without a supervisor: the end of its receiver",
    "as long as the supervisor would wait. The writer then finishes without it",
)
DISK = Limit(
    60.0,
    "writer: space on a full disk, or a disk that refuses",
    "somebody may make room. What was journalled is kept for the next start, the rest is lost",
)
WRITER = Limit(
    900.0,
    "supervisor: the end of a writer",
    "it may have to make files of all that a writer before it left journalled. It is killed; the next start recovers",
)
LOG = Limit(
    1.0,
    "supervisor: reader of the log, or the terminal",
    "counted from the last byte that was taken. What waits is dropped",
)
RESULT = Limit(
    10.0,
    "supervisor: reader of the result",
    "a program that asked for it may be busy. Counted from the last byte that was taken; then it is dropped",
)

LIMITS = (
    CLOSE_REPLY,
    REPLACED_BACKLOG,
    BACKLOG,
    LAST_EVENTS,
    RECEIVER_HANGS,
    RECEIVER,
    ORPHANED_RECEIVER,
    DISK,
    WRITER,
    LOG,
    RESULT,
)
"""Every limit, in the order of an end."""


def worst_case() -> float:
    """Seconds from a stop order to the exit, if every limit is used up."""
    return RECEIVER.seconds + WRITER.seconds + LOG.seconds + RESULT.seconds
