"""Output for the operator, written by a thread that nothing else waits for.

A terminal accepts nothing after Ctrl-S, and a pipe nothing while its reader (`less`, or a hung program) does not read;
write(2) then blocks. A supervisor must not block: it reads its children's lines and ends them on request. So lines are
queued here, up to a limit. Lines beyond it are counted, and the count is shown in their place once the queue is empty.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import select
import stat
import sys
import termios
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, TextIO

from wsrec import shutdown, stand_ins
from wsrec.units import plural, system_error

# queued characters: about twenty thousand lines
_LIMIT = 4 << 20
_PIECE = select.PIPE_BUF
_LOOK_SECONDS = 0.02
LOG_TIMEOUT = shutdown.LOG.seconds
RESULT_TIMEOUT = shutdown.RESULT.seconds


class Sink(io.TextIOBase):
    """A standard stream without its own buffer, which would have to be flushed at exit and could block.

    Args:
        stream: the stream; None if the process was started without one: then everything is accepted and dropped.

    """

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self._stream = stream
        self._written = 0
        try:
            self._fd = -1 if stream is None else stream.fileno()
        except (AttributeError, OSError, ValueError):
            # not a file of the system, for example captured by a test
            self._fd = -1
        if self._fd >= 0 and stream is not None:
            # earlier output comes first
            stream.flush()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The stream's encoding."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    @property
    def fd(self) -> int:
        """Its descriptor; -1 if it has none."""
        return self._fd

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._stream is not None and self._stream.isatty()

    def write(self, text: str) -> int:
        """Write the whole text, however long that takes.

        Raises:
            OSError: the reader is gone.

        """
        if self._fd < 0:
            if self._stream is not None:
                self._stream.write(text)
                self._stream.flush()
            return len(text)
        data = memoryview(text.encode(self.encoding, stand_ins.ERRORS))
        while data:
            # piece by piece, so that progress is visible
            try:
                count = os.write(self._fd, data[:_PIECE])
            except BlockingIOError:
                # another process with the same file made it non-blocking
                waiting = select.poll()
                waiting.register(self._fd, select.POLLOUT)
                waiting.poll()
                continue
            self._written += count
            data = data[count:]
        return len(text)

    def taken(self) -> tuple[int, int]:
        """Changes with every progress: bytes written, and bytes waiting in the system."""
        waiting = bytearray(4)
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                is_pipe = stat.S_ISFIFO(os.fstat(self._fd).st_mode)
                fcntl.ioctl(self._fd, termios.FIONREAD if is_pipe else termios.TIOCOUTQ, waiting)
        return self._written, int.from_bytes(waiting, sys.byteorder)

    def is_same_as(self, other: Sink) -> bool:
        """Whether both refer to the same terminal, pipe or file."""
        if self._fd < 0 or other._fd < 0:
            return False
        return os.path.sameopenfile(self._fd, other._fd)


class _Line(NamedTuple):
    text: str
    style: str


class Outlet:
    """Queues lines for a standard stream. A thread of its own shows them in order; nothing else waits for it.

    Args:
        stream: the standard stream.
        show: shows a line, called in that thread with text and style; None: writes the text.
        unshown: returns text and style of the line with the number of lines that were not shown.
        limit: largest number of queued characters.

    Attributes:
        sink: the stream, for other ways of showing lines.
        given_up: whether the stream was blocked at the end.
        error: the error that ended the output, other than that of a reader that is gone; None without one.

    """

    def __init__(
        self,
        stream: TextIO | None,
        show: Callable[[str, str], None] | None = None,
        unshown: Callable[[int], tuple[str, str]] = lambda count: (
            f"{plural(count, 'line was', 'lines were')} not shown",
            "",
        ),
        *,
        limit: int = _LIMIT,
    ) -> None:
        self.sink = Sink(stream)
        self.given_up = False
        self.error: OSError | None = None
        self._show = show or self._write
        self._log_unshown = unshown
        self._limit = limit
        self._lines: deque[_Line] = deque()
        self._held = 0
        self._unshown = 0
        self._picture: Callable[[], None] | None = None
        self._closing = False
        self._changed = threading.Condition()
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def put(self, text: str, style: str = "", *, last: bool = False) -> None:
        """Queue a line, or count it if too many are queued; `last` lines are always queued."""
        with self._changed:
            if self._closing:
                return
            # no line is shown before the count of earlier ones that were not
            if not last and (self._unshown or self._held + len(text) > self._limit) and self._lines:
                self._unshown += 1
                return
            if self._unshown:
                self._add(*self._count())
            self._add(text, style)
            self._wake()

    def draw(self, picture: Callable[[], None]) -> None:
        """Call `picture` in the thread after the queued lines; it replaces a queued picture."""
        with self._changed:
            if not self._closing:
                self._picture = picture
                self._wake()

    def close(self, timeout: float = LOG_TIMEOUT) -> None:
        """Wait until everything is written; give up after `timeout` seconds without progress."""
        with self._changed:
            self._closing = True
            self._changed.notify()
            if self._thread is None:
                return
        before, deadline = self.sink.taken(), time.monotonic() + timeout
        while not self._done.wait(_LOOK_SECONDS):
            now = self.sink.taken()
            if now != before:
                before, deadline = now, time.monotonic() + timeout
            elif time.monotonic() >= deadline:
                self.given_up = True
                return

    def _add(self, text: str, style: str) -> None:
        self._lines.append(_Line(text, style))
        self._held += len(text)

    def _count(self) -> tuple[str, str]:
        count, self._unshown = self._unshown, 0
        return self._log_unshown(count)

    def _wake(self) -> None:
        if self._thread is None:
            # at exit it may still wait for a terminal: nothing waits for it
            self._thread = threading.Thread(target=self._run, name="outlet", daemon=True)
            self._thread.start()
        self._changed.notify()

    def _run(self) -> None:
        try:
            while (job := self._next()) is not None:
                job()
        except BrokenPipeError:
            # the reader (`| head`) is gone: nothing can be shown
            pass
        except OSError as error:
            self.error = error
        finally:
            with self._changed:
                self._closing = True
                self._lines.clear()
                self._picture = None
            self._done.set()

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            while not self._lines and not self._unshown and self._picture is None:
                if self._closing:
                    return None
                self._changed.wait()
            if not self._lines and not self._unshown:
                picture, self._picture = self._picture, None
                return picture
            if not self._lines:
                self._add(*self._count())
            line = self._lines.popleft()
            self._held -= len(line.text)
            return lambda: self._show(*line)

    def _write(self, text: str, style: str) -> None:
        self.sink.write(text + "\n")


class Stray(io.TextIOBase):
    """Replaces standard error, so that stray output, such as Python's warnings, is shown in order with the lines."""

    def __init__(self, put: Callable[[str], None], sink: Sink) -> None:
        super().__init__()
        self._put = put
        self._sink = sink
        self._begun = ""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The encoding of the underlying stream."""
        return self._sink.encoding

    def isatty(self) -> bool:
        """Whether the underlying stream is a terminal."""
        return self._sink.isatty()

    def write(self, text: str) -> int:
        """Show complete lines; the rest waits for its end."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._put(line)
        return len(text)


def print_result(text: str, log: Outlet | None = None) -> bool:
    """Print a result on standard output: a slow reader gets all of it, a blocked one is given up on.

    Args:
        text: the result.
        log: the outlet of the earlier lines: a terminal or pipe on which it gave up is not waited for again.

    Returns:
        Whether standard output could be written. An error, such as a full disk, is on standard error; it is none if the
        reader is gone, or was given up on.

    """
    result = Outlet(sys.stdout)
    result.put(text, last=True)
    timeout = LOG_TIMEOUT if result.sink.isatty() else RESULT_TIMEOUT
    if log is not None and log.given_up and result.sink.is_same_as(log.sink):
        timeout = 0.0
    result.close(timeout)
    if result.error is not None:
        _complain(f"wsrec record: cannot write to stdout: {system_error(result.error)}")
    elif result.given_up and timeout:
        _complain(f"wsrec record: standard output was blocked for {timeout:g} s: the result was not printed")
    return result.error is None


def _complain(text: str) -> None:
    word = Outlet(sys.stderr)
    word.put(text)
    word.close()
