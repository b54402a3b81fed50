"""The time limits between a stop order (a signal, the end of the time) and the exit, in one table.

A recording stops from its source to its sink: receivers close their connections, then writers finish their files, then
the supervisor prints the result. Each step has its own limits, and the supervisor has one for each process, longer than
the sum of the process's own waits. `worst_case` is the time that a service manager (systemd, a container runtime) must
allow. `docs/explanation/processes.md` has the table, `scripts/systemd` the figure; tests check both.
"""

from __future__ import annotations

from typing import NamedTuple


class Limit(NamedTuple):
    """A time limit.

    Attributes:
        seconds: its length.
        waits: the waiting process, and what it waits for.
        reason: why it is this long, and what happens after it.

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
    "receiver: the unread data of a replaced connection",
    "its successor is recording already. The rest is dropped, and reported as lost unless the successor has it",
)
BACKLOG = Limit(
    20.0,
    "receiver: data sent by exchanges before the end, while a ring is full",
    "the writer has to catch up first. Unread data then becomes a `lost_interval`",
)
LAST_EVENTS = Limit(
    60.0,
    "receiver: room in the control ring for its last events",
    "the writer may have to be restarted first. Without them, the writer determines the loss",
)
RECEIVER_HANGS = Limit(
    3.0,
    "supervisor: a heartbeat of a finishing receiver",
    "it has ten a second until its end. Without any it is killed; received data is kept",
)
RECEIVER = Limit(
    95.0,
    "supervisor: the end of a receiver",
    "the receiver's own limits, with a margin for a busy machine. Then it is killed",
)
ORPHANED_RECEIVER = Limit(
    95.0,
    "writer without a supervisor: the end of its receiver",
    "as long as the supervisor would wait. The writer then finishes without it",
)
DISK = Limit(
    60.0,
    "writer: space on a full disk, or a failing disk",
    "somebody may free space. The journals are kept for the next start, the rest is lost",
)
WRITER = Limit(
    900.0,
    "supervisor: the end of a writer",
    "it may have to finish the files of all earlier journals. Then it is killed, and the next start recovers",
)
HOOKS = Limit(
    60.0,
    "supervisor: the hooks (`--on-file`, `--on-event`)",
    "an upload may be under way. Then they are ended; the next start goes on with the files that are left",
)
LOG = Limit(
    1.0,
    "supervisor: reader of the log, or the terminal",
    "counted from the last byte accepted. Queued lines are then dropped",
)
RESULT = Limit(
    10.0,
    "supervisor: reader of the result",
    "the reading program may be busy. Counted from the last byte accepted; then the result is dropped",
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
    HOOKS,
    LOG,
    RESULT,
)
"""Every limit, in the order of the shutdown."""


def worst_case() -> float:
    """Seconds from a stop order to the exit, if every limit is used up."""
    return RECEIVER.seconds + WRITER.seconds + HOOKS.seconds + LOG.seconds + RESULT.seconds
