"""What receiver and writer have in common as children of the supervisor: the job, the log, the end.

A child gets its job as JSON on standard input, after its length (never as arguments, which anyone can list), and
reports as lines of JSON on standard output. A further byte on standard input asks it to finish: `STOP`, or, for a
writer whose receiver ended by itself, `RECEIVER_DIED`. The end of standard input says that the supervisor is gone,
which means the same.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
from typing import Any, Literal, TypeVar

import msgspec

Job = TypeVar("Job", bound=msgspec.Struct)

STOP = b"."
RECEIVER_DIED = b"!"

_LENGTH = struct.Struct("<Q")


class LogLine(msgspec.Struct, frozen=True, tag="log", tag_field="type", omit_defaults=True):
    """One line for the operator."""

    level: Literal["info", "warning", "error"]
    message: str
    cure: str | None = None
    conn: int | None = None


class FailedLine(msgspec.Struct, frozen=True, tag="failed", tag_field="type", omit_defaults=True):
    """The child cannot go on; it ends after this line with exit status 1."""

    message: str
    cure: str | None = None


class SummaryLine(msgspec.Struct, frozen=True, tag="summary", tag_field="type"):
    """The writer's last line: what the session recorded, all feeds of this writer together."""

    session: str
    messages: int
    payload_bytes: int
    control: int
    sent: int
    files: list[dict[str, Any]]
    gaps: int
    lost_intervals: int
    refused: int
    first_recv_time: int | None
    last_recv_time: int | None


Line = LogLine | FailedLine | SummaryLine


def encode_job(job: msgspec.Struct) -> bytes:
    """What the supervisor writes to a child first."""
    data = msgspec.json.encode(job)
    return _LENGTH.pack(len(data)) + data


def read_job(kind: type[Job]) -> Job:
    """Read this child's job; signals of the terminal are the supervisor's to handle.

    Raises:
        msgspec.DecodeError: standard input holds no such job.

    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    header = _read_exactly(_LENGTH.size)
    length = _LENGTH.unpack(header)[0] if len(header) == _LENGTH.size else 0
    return msgspec.json.decode(_read_exactly(length), type=kind)


def _read_exactly(size: int) -> bytes:
    # unbuffered, so that what follows the job stays in the pipe
    data = bytearray()
    while len(data) < size and (more := os.read(sys.stdin.fileno(), size - len(data))):
        data += more
    return bytes(data)


def say(line: Line) -> None:
    """Write one line to the supervisor. Once it is gone nobody listens, and the child finishes all the same."""
    try:
        sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
        sys.stdout.buffer.flush()
    except (BrokenPipeError, ValueError):
        pass


def info(message: str, *, conn: int | None = None) -> None:
    """Say something worth a line in the log."""
    say(LogLine(level="info", message=message, conn=conn))


def warn(message: str, cure: str | None = None, *, conn: int | None = None) -> None:
    """Say that something is not as it should be, and what would cure it."""
    say(LogLine(level="warning", message=message, cure=cure, conn=conn))


def error(message: str, cure: str | None = None, *, conn: int | None = None) -> None:
    """Say that something failed, and what would cure it."""
    say(LogLine(level="error", message=message, cure=cure, conn=conn))
