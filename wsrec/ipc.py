"""What receiver and writer have in common as children of the supervisor: the job, the log, the end.

A child gets its job as JSON on standard input, after its length (never as arguments, which anyone can list), and
reports as lines of JSON on standard output. Further lines on standard input are orders. The end of standard input says
that the supervisor is gone, and means `Stop`.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import select
import signal
import stat
import struct
import sys
import threading
from typing import Any, Literal, TypeVar

import msgspec

from wsrec import parent_death
from wsrec.counts import Counts
from wsrec.plan.requests import SubscriptionRequest

Job = TypeVar("Job", bound=msgspec.Struct)

_LENGTH = struct.Struct("<Q")


class LogLine(msgspec.Struct, frozen=True, tag="log", tag_field="type", omit_defaults=True):
    """One line for the operator."""

    level: Literal["info", "warning", "error"]
    message: str
    hint: str | None = None
    conn: int | None = None


class FailedLine(msgspec.Struct, frozen=True, tag="failed", tag_field="type", omit_defaults=True):
    """The child cannot go on; it ends after this line with exit status 1.

    Attributes:
        message, hint: why, and what to do about it.
        again: whether a new process may be able to.

    """

    message: str
    hint: str | None = None
    again: bool = False


class SummaryLine(Counts, frozen=True, kw_only=True, tag="summary", tag_field="type"):
    """The writer's last line: what the session recorded, all feeds of this writer together."""

    session: str
    files: list[dict[str, Any]]
    first_recv_time: int | None
    last_recv_time: int | None


class Stop(msgspec.Struct, frozen=True, tag="stop", tag_field="order", omit_defaults=True):
    """Finish what was begun, and end.

    Attributes:
        orphaned: whether nobody gave the order: the supervisor is gone.

    """

    orphaned: bool = False


class Renew(msgspec.Struct, frozen=True, tag="renew", tag_field="order"):
    """For a receiver: replace a connection, because of `reason`."""

    conn: int
    reason: str


class Resubscribe(msgspec.Struct, frozen=True, tag="resubscribe", tag_field="order", omit_defaults=True):
    """For a receiver: ask for topics of a connection once more.

    Attributes:
        conn: the connection.
        topics: what is to be asked for: the messages that hold one of them are sent again.
        reason: why.
        parts: requests to send in their place, now and on every later connection, under numbers of their own. Topics
            that are in none are not asked for again. None: the requests stay as they are, and keep their numbers.

    """

    conn: int
    topics: tuple[str, ...]
    reason: str
    parts: tuple[SubscriptionRequest, ...] | None = None


class Settled(msgspec.Struct, frozen=True, tag="settled", tag_field="order"):
    """For a receiver: every topic of a connection has brought a message, or is known to bring none.

    Attributes:
        conn: the connection.
        since: when it was opened (ns on the monotonic clock), no earlier: not a life of it before that one.

    """

    conn: int
    since: int


Order = Stop | Renew | Resubscribe | Settled


class RequestLine(msgspec.Struct, frozen=True, tag="request", tag_field="type"):
    """What a writer asks of its receiver; the supervisor passes it on."""

    order: Renew | Resubscribe | Settled


Line = LogLine | FailedLine | SummaryLine | RequestLine


def encode_job(job: msgspec.Struct) -> bytes:
    """What the supervisor writes to a child first."""
    data = msgspec.json.encode(job)
    return _LENGTH.pack(len(data)) + data


def read_job(kind: type[Job]) -> Job:
    """Read this child's job; signals of the terminal are the supervisor's to handle.

    Raises:
        msgspec.DecodeError: standard input holds no such job.

    """
    parent_death.hold()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    header = _read_exactly(_LENGTH.size)
    length = _LENGTH.unpack(header)[0] if len(header) == _LENGTH.size else 0
    return msgspec.json.decode(_read_exactly(length), type=kind)


def encode_order(order: Order) -> bytes:
    """The line that the supervisor writes to a child."""
    return msgspec.json.encode(order) + b"\n"


class OrderReader:
    """Orders out of standard input as it comes.

    Args:
        fd: descriptor to read from, standard input where None.

    """

    def __init__(self, fd: int | None = None) -> None:
        self._fd = sys.stdin.fileno() if fd is None else fd
        self._begun = b""

    def read(self) -> list[Order]:
        """The next orders; waits for at least a part of one. At the end of the pipe, `Stop` without a supervisor.

        Raises:
            msgspec.DecodeError: a line is no order.

        """
        data = os.read(self._fd, 1 << 16)
        if not data:
            return [Stop(orphaned=True)]
        *lines, self._begun = (self._begun + data).split(b"\n")
        return [msgspec.json.decode(line, type=Order) for line in lines]


def _read_exactly(size: int) -> bytes:
    # unbuffered, so that what follows the job stays in the pipe
    data = bytearray()
    while len(data) < size and (more := os.read(sys.stdin.fileno(), size - len(data))):
        data += more
    return bytes(data)


class Lines:
    """Lines on their way to the supervisor, which may take none for a while: stopped (Ctrl-Z), or with much to do.

    Log lines wait for it up to a limit, and beyond that are counted; the count is said once those that waited are gone.
    Requests wait however many they are, each of a kind in place of the one before it. Only the last words of a process,
    `FailedLine` and `SummaryLine`, are waited for.

    Args:
        fd: the pipe to the supervisor, which does not block from now on.
        limit: bytes that wait at most before log lines are counted.

    """

    def __init__(self, fd: int, limit: int = 256 << 10) -> None:
        self._fd = fd
        self._limit = limit
        self._waiting = bytearray()
        self._requests: dict[bytes, bytes] = {}
        self._unshown = 0
        self._gone = False
        # not only the loop speaks
        self._lock = threading.RLock()
        os.set_blocking(fd, False)

    def emit(self, line: Line) -> None:
        """Pass a line on, now or later."""
        data = msgspec.json.encode(line) + b"\n"
        with self._lock:
            self.flush()
            match line:
                case LogLine() if self._waiting and (self._unshown or len(self._waiting) + len(data) > self._limit):
                    self._unshown += 1
                case RequestLine() if self._waiting:
                    kind = _kind(line.order)
                    self._requests.pop(kind, None)
                    self._requests[kind] = data
                case LogLine() | RequestLine():
                    self._waiting += data
                    self.flush()
                case _:
                    self._gather()
                    self._waiting += data
                    self.finish()

    def flush(self) -> None:
        """Write what the supervisor takes now; to be called again and again."""
        if not self._waiting:
            return
        with self._lock, contextlib.suppress(BlockingIOError):
            while self._waiting:
                self._write()
                if not self._waiting:
                    self._gather()

    def finish(self) -> None:
        """Wait until the supervisor has taken everything, or is gone."""
        with self._lock:
            pipe = select.poll()
            pipe.register(self._fd, select.POLLOUT)
            self.flush()
            while self._waiting:
                pipe.poll()
                self.flush()

    def _write(self) -> None:
        if self._gone:
            count = len(self._waiting)
        else:
            try:
                count = os.write(self._fd, self._waiting)
            except BlockingIOError:
                raise
            except OSError:
                # nobody listens any more, and the child finishes all the same
                self._gone, count = True, len(self._waiting)
        del self._waiting[:count]

    def _gather(self) -> None:
        """Have what had to wait for its turn wait for the supervisor."""
        for data in self._requests.values():
            self._waiting += data
        self._requests.clear()
        if self._unshown:
            message = f"{self._unshown:,} lines were not shown: they came faster than they were taken"
            self._waiting += msgspec.json.encode(LogLine(level="warning", message=message)) + b"\n"
            self._unshown = 0


def _kind(order: Renew | Resubscribe | Settled) -> bytes:
    """What of an order makes it another one than the order before: of its kind, only the newest counts."""
    if isinstance(order, Resubscribe):
        return msgspec.json.encode(msgspec.structs.replace(order, reason=""))
    return f"{type(order).__name__} {order.conn}".encode()


class _StandardError(io.TextIOBase):
    """What nobody knows to say otherwise, a traceback or a warning of Python's: the terminal is the supervisor's."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = ""

    def write(self, text: str) -> int:
        """Say its whole lines; what follows the last of them waits for its end."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            if line:
                warn(line.encode(errors="backslashreplace").decode())
        return len(text)


_lines: Lines | None = None


def never_wait() -> None:
    """From now on wait neither for the supervisor nor for the operator's terminal, whatever is said."""
    global _lines
    fd = sys.stdout.fileno()
    kind = os.fstat(fd).st_mode
    if _lines is None and (stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind)):
        _lines = Lines(fd)
        sys.stderr = _StandardError()
        # after the traceback of what nobody caught
        atexit.register(_lines.finish)


def flush() -> None:
    """Pass on what the supervisor did not take before; to be called a few times a second."""
    if _lines is not None:
        _lines.flush()


def emit(line: Line) -> None:
    """Pass one line to the supervisor. Once it is gone nobody listens, and the child finishes all the same."""
    if _lines is not None:
        _lines.emit(line)
        return
    with contextlib.suppress(BrokenPipeError, ValueError):
        sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
        sys.stdout.buffer.flush()


def info(message: str, *, conn: int | None = None) -> None:
    """Say something worth a line in the log."""
    emit(LogLine(level="info", message=message, conn=conn))


def warn(message: str, hint: str | None = None, *, conn: int | None = None) -> None:
    """Say that something is not as it should be, and what would fix it."""
    emit(LogLine(level="warning", message=message, hint=hint, conn=conn))


def error(message: str, hint: str | None = None, *, conn: int | None = None) -> None:
    """Say that something failed, and what would fix it."""
    emit(LogLine(level="error", message=message, hint=hint, conn=conn))
