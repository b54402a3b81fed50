"""Messages between the supervisor and its children: job, orders, log lines, summary.

A child reads its job as JSON, preceded by its length, from standard input (never as arguments, which anyone can list),
and reports by JSON lines on standard output. Further lines on standard input are orders. The end of standard input
means that the supervisor has died, and counts as `Stop`.
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
from typing import Any, Literal, TypedDict, TypeVar, Unpack

import msgspec

from wsrec import parent_death
from wsrec.counts import Counts
from wsrec.plan.requests import SubscriptionRequest
from wsrec.units import clean, plural

Job = TypeVar("Job", bound=msgspec.Struct)

_LENGTH = struct.Struct("<Q")


class LogLine(msgspec.Struct, frozen=True, tag="log", tag_field="type", omit_defaults=True):
    """A log line for the operator.

    Attributes:
        level: its level.
        message, hint: what happened, and what to do about it.
        conn: the connection that it is about; None if it is about none, or several.
        feed: its feed; None if it is about several. The supervisor fills in that of the connection.
        session: its session; filled in by the supervisor.
        kind: what happened, in a word for programs: mostly a kind of events (`wsrec.ring.events.EventKind`).
        channel, symbol: the stream that it is about.
        count: how many times it happened; more than 1 in a line that counts.
        detail: that of the event that it is about.

    """

    level: Literal["info", "warning", "error"]
    message: str
    hint: str | None = None
    conn: int | None = None
    feed: str | None = None
    session: str | None = None
    kind: str | None = None
    channel: str | None = None
    symbol: str | None = None
    count: int = 1
    detail: dict[str, Any] | None = None


class About(TypedDict, total=False):
    """What a log line is about: the attributes of `LogLine` of these names."""

    conn: int | None
    feed: str | None
    kind: str | None
    channel: str | None
    symbol: str | None
    count: int
    detail: dict[str, Any] | None


class FailedLine(msgspec.Struct, frozen=True, tag="failed", tag_field="type", omit_defaults=True):
    """The child cannot continue; it exits with status 1 after this line.

    Attributes:
        message, hint: the reason, and what to do about it.
        again: whether a new process may succeed.

    """

    message: str
    hint: str | None = None
    again: bool = False


class SummaryLine(Counts, frozen=True, kw_only=True, tag="summary", tag_field="type"):
    """The writer's last line: totals of the session for all feeds of this writer."""

    session: str
    files: list[dict[str, Any]]
    first_recv_time: int | None
    last_recv_time: int | None


class Stop(msgspec.Struct, frozen=True, tag="stop", tag_field="order", omit_defaults=True):
    """Finish and exit.

    Attributes:
        orphaned: True if the supervisor died, instead of sending the order.

    """

    orphaned: bool = False


class Renew(msgspec.Struct, frozen=True, tag="renew", tag_field="order"):
    """To a receiver: replace a connection, because of `reason`."""

    conn: int
    reason: str


class Resubscribe(msgspec.Struct, frozen=True, tag="resubscribe", tag_field="order", omit_defaults=True):
    """To a receiver: resubscribe to topics of a connection.

    Attributes:
        conn: the connection.
        topics: the topics: every request that contains one of them is sent again.
        reason: why.
        parts: requests to send instead, now and on every later connection; `{id}` in them is filled in. Topics that
        are in none of them are dropped. None: the requests stay as they are.

    """

    conn: int
    topics: tuple[str, ...]
    reason: str
    parts: tuple[SubscriptionRequest, ...] | None = None


class Settled(msgspec.Struct, frozen=True, tag="settled", tag_field="order"):
    """To a receiver: every topic of a connection has delivered a message, or is known to deliver none.

    Attributes:
        conn: the connection.
        since: when it was opened (ns on the monotonic clock), to exclude earlier connections of the same number.

    """

    conn: int
    since: int


Order = Stop | Renew | Resubscribe | Settled


class RequestLine(msgspec.Struct, frozen=True, tag="request", tag_field="type"):
    """A writer's request to its receiver, forwarded by the supervisor."""

    order: Renew | Resubscribe | Settled


Line = LogLine | FailedLine | SummaryLine | RequestLine


def encode_job(job: msgspec.Struct) -> bytes:
    """The first bytes that the supervisor writes to a child: the job."""
    data = msgspec.json.encode(job)
    return _LENGTH.pack(len(data)) + data


def read_job(kind: type[Job]) -> Job:
    """Read this child's job. Also ignores the terminal's signals, which the supervisor handles.

    Raises:
        msgspec.DecodeError: standard input does not contain such a job.

    """
    parent_death.hold()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    header = _read_exactly(_LENGTH.size)
    length = _LENGTH.unpack(header)[0] if len(header) == _LENGTH.size else 0
    return msgspec.json.decode(_read_exactly(length), type=kind)


def encode_order(order: Order) -> bytes:
    """An order as the line that the supervisor writes to a child."""
    return msgspec.json.encode(order) + b"\n"


class OrderReader:
    """Reads orders from standard input as they arrive.

    Args:
        fd: descriptor to read from; None for standard input.

    """

    def __init__(self, fd: int | None = None) -> None:
        self._fd = sys.stdin.fileno() if fd is None else fd
        self._begun = b""

    def read(self) -> list[Order]:
        """The next orders; blocks until there is at least a part of one. At the end of the pipe, `Stop(orphaned=True)`.

        Raises:
            msgspec.DecodeError: a line is not an order.

        """
        data = os.read(self._fd, 1 << 16)
        if not data:
            return [Stop(orphaned=True)]
        *lines, self._begun = (self._begun + data).split(b"\n")
        return [msgspec.json.decode(line, type=Order) for line in lines]


def _read_exactly(size: int) -> bytes:
    # unbuffered, so that data behind the job stays in the pipe
    data = bytearray()
    while len(data) < size and (more := os.read(sys.stdin.fileno(), size - len(data))):
        data += more
    return bytes(data)


class OutputQueue:
    """Output queue to the supervisor, which may not read for a while: stopped (Ctrl-Z), or busy.

    Log lines are queued up to a limit and counted beyond it; the count is reported once the queue is empty. All
    requests are queued, each replacing an earlier one of the same kind. Only the final lines of a process, `FailedLine`
    and `SummaryLine`, block until they are written.

    Args:
        fd: the pipe to the supervisor; set to non-blocking.
        limit: queued bytes above which log lines are only counted.

    """

    def __init__(self, fd: int, limit: int = 256 << 10) -> None:
        self._fd = fd
        self._limit = limit
        self._waiting = bytearray()
        self._requests: dict[bytes, bytes] = {}
        self._dropped_count = 0
        self._supervisor_gone = False
        # used by other threads besides the loop's
        self._lock = threading.RLock()
        os.set_blocking(fd, False)

    def emit(self, line: Line) -> None:
        """Write or queue a line."""
        data = msgspec.json.encode(line) + b"\n"
        with self._lock:
            self.flush()
            match line:
                case LogLine() if self._waiting and (
                    self._dropped_count or len(self._waiting) + len(data) > self._limit
                ):
                    self._dropped_count += 1
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
        """Write what the pipe takes now; call it periodically."""
        if not self._waiting:
            return
        with self._lock, contextlib.suppress(BlockingIOError):
            while self._waiting:
                self._write()
                if not self._waiting:
                    self._gather()

    def finish(self) -> None:
        """Wait until everything is written, or the supervisor has died."""
        with self._lock:
            pipe = select.poll()
            pipe.register(self._fd, select.POLLOUT)
            self.flush()
            while self._waiting:
                pipe.poll()
                self.flush()

    def _write(self) -> None:
        if self._supervisor_gone:
            count = len(self._waiting)
        else:
            try:
                count = os.write(self._fd, self._waiting)
            except BlockingIOError:
                raise
            except OSError:
                # the supervisor has died; the child finishes all the same
                self._supervisor_gone, count = True, len(self._waiting)
        del self._waiting[:count]

    def _gather(self) -> None:
        """Append the deferred requests and the count to the queue."""
        for data in self._requests.values():
            self._waiting += data
        self._requests.clear()
        if self._dropped_count:
            message = f"{plural(self._dropped_count, 'line was', 'lines were')} not shown: the output is too slow"
            self._waiting += msgspec.json.encode(LogLine(level="warning", message=message)) + b"\n"
            self._dropped_count = 0


def _kind(order: Renew | Resubscribe | Settled) -> bytes:
    """The key under which a newer order replaces a queued one."""
    if isinstance(order, Resubscribe):
        return msgspec.json.encode(msgspec.structs.replace(order, reason=""))
    return f"{type(order).__name__} {order.conn}".encode()


class _StandardError(io.TextIOBase):
    """Standard error of a child (tracebacks, Python's warnings) as log lines: the terminal is the supervisor's."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = ""

    def write(self, text: str) -> int:
        """Log the complete lines; the rest is kept until its line ends."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            if line:
                warn(line.encode(errors="backslashreplace").decode(), kind="stderr")
        return len(text)


class _BlockingOutput:
    """Standard output, each line written at once."""

    def emit(self, line: Line) -> None:
        """Write a line; ignored if its reader has died, since the child finishes all the same."""
        with contextlib.suppress(BrokenPipeError, ValueError):
            sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
            sys.stdout.buffer.flush()

    def flush(self) -> None:
        """Nothing is queued."""


_output: OutputQueue | _BlockingOutput | None = None


def report_to_parent(*, blocking: bool = False) -> None:
    """Make this process a child that reports on standard output; its `main` calls this first.

    Without it, nothing here writes to standard output, which belongs to the user of the command.

    Args:
        blocking: whether each line waits until it is written. If not, neither supervisor nor terminal can stall this
            process, and its standard error is reported too.

    """
    global _output
    fd = sys.stdout.fileno()
    kind = os.fstat(fd).st_mode
    if _output is not None:
        return
    if blocking or not (stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind)):
        _output = _BlockingOutput()
        return
    _output = OutputQueue(fd)
    sys.stderr = _StandardError()
    # runs after the traceback of an uncaught exception
    atexit.register(_output.finish)


def flush() -> None:
    """Write queued output; call it a few times a second."""
    if _output is not None:
        _output.flush()


def emit(line: Line) -> None:
    """Send one line to the parent; in a process that is no child, show log lines and failures on standard error."""
    if _output is not None:
        _output.emit(line)
    elif isinstance(line, LogLine | FailedLine):
        shown = line if isinstance(line, LogLine) else LogLine(level="error", message=line.message, hint=line.hint)
        sys.stderr.write(f"{text_of(shown)}\n")


def place_of(feed: str | None, conn: int | None) -> str:
    """`FEED CONN`, made printable: what a log line is about; empty if it is about neither."""
    return " ".join(clean(str(part), 100) for part in (feed, conn) if part is not None)


def text_of(line: LogLine) -> str:
    """A log line as text: its level, `[FEED CONN]` if it is about one of them, message and hint, made printable."""
    about = place_of(line.feed, line.conn)
    hint = f" -- {clean(line.hint, 1000)}" if line.hint else ""
    return f"{line.level}{f' [{about}]' if about else ''} {clean(line.message, 2000)}{hint}"


def info(message: str, **about: Unpack[About]) -> None:
    """Log information."""
    emit(LogLine(level="info", message=message, **about))


def warn(message: str, hint: str | None = None, **about: Unpack[About]) -> None:
    """Log a warning, with a hint what to do about it."""
    emit(LogLine(level="warning", message=message, hint=hint, **about))


def error(message: str, hint: str | None = None, **about: Unpack[About]) -> None:
    """Log an error, with a hint what to do about it."""
    emit(LogLine(level="error", message=message, hint=hint, **about))
