"""The bench's child processes: jobs on standard input, JSON lines on standard output, as for wsrec's own children."""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from wsrec import parent_death
from wsrec.child_environment import worker_environment
from wsrec.ipc import FailedLine, Line, LogLine, SummaryLine, encode_job

_Answer = TypeVar("_Answer", bound=msgspec.Struct)


class ContestantError(Exception):
    """A contestant could not be measured; the text says why."""


class Process:
    """A child process.

    Args:
        popen: the process, all its pipes unbuffered.
        warn: called with each warning.

    Attributes:
        pid: process id.

    """

    def __init__(self, popen: subprocess.Popen[bytes], warn: Callable[[str], None]) -> None:
        self.pid = popen.pid
        self._popen = popen
        self._warn = warn

    @property
    def ended(self) -> bool:
        """True if it has ended."""
        return self._popen.poll() is not None

    def send(self, word: bytes) -> None:
        """Write to its standard input; ignored if it has ended."""
        assert self._popen.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._popen.stdin.write(word)

    def answer(self, kind: type[_Answer], seconds: float) -> _Answer:
        """Read lines up to the next one of `kind`, a struct tagged as those of `wsrec.ipc`.

        Raises:
            ContestantError: it failed, ended, or was silent for `seconds`.

        """
        assert self._popen.stdout is not None
        expected: Any = kind | LogLine | FailedLine
        deadline = time.monotonic() + seconds
        while select.select([self._popen.stdout], [], [], max(deadline - time.monotonic(), 0))[0]:
            data = self._popen.stdout.readline()
            if not data:
                raise ContestantError("it ended too early; see its output on standard error")
            line = msgspec.json.decode(data, type=expected)
            if isinstance(line, kind):
                return line
            self._take([line])
        raise ContestantError(f"it gave no output for {seconds:.0f} s")

    def end(self, seconds: float) -> None:
        """Wait for its end, at most `seconds`, and process its remaining output.

        Raises:
            ContestantError: it failed, or did not end.

        """
        try:
            self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise ContestantError(self.final_error() or f"it did not end in {seconds:.0f} s") from None
        self._take(self._remaining_lines())

    def final_error(self) -> str | None:
        """Kill it, and return its error, or else its last warning, if there is one."""
        self._popen.kill()
        lines = [line for line in self._remaining_lines() if not isinstance(line, SummaryLine)]
        failed = [line.message for line in lines if isinstance(line, FailedLine)]
        warned = [line.message for line in lines if isinstance(line, LogLine) and line.level != "info"]
        return next(reversed(failed or warned), None)

    def _remaining_lines(self) -> list[Line]:
        assert self._popen.stdout is not None
        return [msgspec.json.decode(line, type=Line) for line in self._popen.stdout.read().splitlines()]

    def _take(self, lines: Sequence[Line]) -> None:
        for line in lines:
            if isinstance(line, FailedLine):
                raise ContestantError(line.message)
            if isinstance(line, LogLine) and line.level != "info":
                self._warn(f"{line.message}; {line.hint}" if line.hint else line.message)


@contextlib.contextmanager
def running(
    module: str,
    job: msgspec.Struct,
    warn: Callable[[str], None],
    descriptors: Sequence[int] = (),
    **environment: str,
) -> Iterator[Process]:
    """Run `python -m module` with its job while the context is open; then it is killed.

    It does not receive the terminal's Ctrl-C, which only the bench handles.

    Args:
        module: the module.
        job: read by the child from standard input (`wsrec.ipc.read_job`).
        warn: called with each warning.
        descriptors: inherited descriptors.
        environment: additional variables.

    """
    popen = subprocess.Popen(  # noqa: S603 - our own modules
        [sys.executable, "-P", "-m", module],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
        pass_fds=tuple(descriptors),
        start_new_session=True,
        env={**parent_death.with_parent_death(worker_environment()), **environment},
    )
    process = Process(popen, warn)
    try:
        process.send(encode_job(job))
        yield process
    finally:
        popen.kill()
        for pipe in (popen.stdin, popen.stdout):
            if pipe is not None:
                pipe.close()
        popen.wait()
