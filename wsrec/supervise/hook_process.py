"""Runs one hook: a user's command by the shell, with JSON on its standard input, output captured and time limited."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from wsrec.child_environment import INHERITED, child_environment
from wsrec.supervise.pipe_lines import Lines
from wsrec.units import duration, system_error

HINT = f"a hook gets PATH, HOME and the like, and the variables that {INHERITED} names"

_LOOK_SECONDS = 0.05
_READ = 1 << 16
# what it has written but nobody has read when it ends, at most: a pipe's capacity many times over
_READ_AT_END = 16
# between SIGTERM and SIGKILL
GRACE = 2.0


class Command(NamedTuple):
    """A hook.

    Attributes:
        name: `file` or `event`.
        text: what the shell runs.
        out: the output folder.
        timeout: seconds after which it is killed.
        on_output: called with each line that it writes, to either stream.

    """

    name: str
    text: str
    out: Path
    timeout: float
    on_output: Callable[[str], None]

    def run(self, given: bytes, stopped: threading.Event) -> str | None:
        """Run it and wait for its end.

        It gets a session of its own, so signals of the terminal do not reach it, and whatever it leaves running is not
        waited for.

        Args:
            given: its standard input. A file in memory: nothing waits for a command that does not read it.
            stopped: ends it early once set.

        Returns:
            What went wrong, with the last line that it wrote; None if it ended with status 0.

        """
        last = ""

        def show(text: str) -> None:
            nonlocal last
            last = text
            self.on_output(text)

        reading, writing = os.pipe()
        try:
            try:
                process = self._start(given, writing)
            finally:
                os.close(writing)
        except OSError as error:
            os.close(reading)
            return f"cannot be started: {system_error(error)}"
        lines = Lines(show)
        try:
            problem = self._wait(process, reading, lines, stopped)
            _drain(reading, lines)
        finally:
            lines.end()
            os.close(reading)
        return problem if problem is None or not last else f"{problem}: {last}"

    def _start(self, given: bytes, output: int) -> subprocess.Popen[bytes]:
        with os.fdopen(os.memfd_create("wsrec-hook"), "r+b") as stdin:
            stdin.write(given)
            # flushes it, too
            stdin.seek(0)
            # the command is the user's own; what others say is in its standard input alone
            return subprocess.Popen(  # noqa: S603
                ["/bin/sh", "-c", self.text],
                stdin=stdin,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={**child_environment(), "WSREC_HOOK": self.name, "WSREC_OUT": str(self.out.absolute())},
            )

    def _wait(
        self, process: subprocess.Popen[bytes], reading: int, lines: Lines, stopped: threading.Event
    ) -> str | None:
        deadline, is_open = time.monotonic() + self.timeout, True
        while (status := process.poll()) is None:
            if stopped.is_set() or time.monotonic() >= deadline:
                _kill(process)
                return (
                    "ended with the recording" if stopped.is_set() else f"took longer than {self._limit} and was killed"
                )
            if is_open and select.select([reading], [], [], _LOOK_SECONDS)[0]:
                data = os.read(reading, _READ)
                is_open = bool(data)
                lines.feed(data)
            elif not is_open:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK_SECONDS)
        if status < 0:
            return f"was killed by signal {-status}"
        return f"ended with status {status}" if status else None

    @property
    def _limit(self) -> str:
        return f"{duration(self.timeout * 1e9)} (--hook-timeout)"


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End it and what it started, first with a chance to clean up."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)


def _drain(reading: int, lines: Lines) -> None:
    """Read what is in the pipe already: what it left running may hold the other end for ever."""
    os.set_blocking(reading, False)
    with contextlib.suppress(BlockingIOError):
        for _ in range(_READ_AT_END):
            if not (data := os.read(reading, _READ)):
                return
            lines.feed(data)
