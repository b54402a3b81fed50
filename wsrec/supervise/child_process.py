"""A child process of the supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from wsrec import parent_death
from wsrec.child_environment import worker_environment
from wsrec.ipc import (
    FailedLine,
    Line,
    LogLine,
    Order,
    Renew,
    RequestLine,
    Resubscribe,
    Settled,
    SummaryLine,
    encode_job,
    encode_order,
)
from wsrec.supervise.pipe_lines import read_lines

_LINE_MAX = 64 << 20


class ChildProcess:
    """A receiver or a writer process.

    Args:
        name: its name in messages.
        module: the module to run.
        on_log: called with each of its log lines.
        on_request: called with its requests to its receiver.
        connects: whether it connects to exchanges.

    Attributes:
        name: its name in messages.
        how: how it failed, as the end of a sentence that begins with its name.
        failed: its reported failure, if any.
        died: whether it ended without a final report: killed, or crashed.
        summary: its last line, if it is a writer and finished.

    """

    def __init__(
        self,
        name: str,
        module: str,
        on_log: Callable[[LogLine], None],
        on_request: Callable[[Renew | Resubscribe | Settled], None] | None = None,
    ) -> None:
        self.name = name
        self.how = ""
        self.failed: FailedLine | None = None
        self.died = False
        self.summary: SummaryLine | None = None
        self._module = module
        self._on_log = on_log
        self._on_request = on_request
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Future[Any] | None = None

    async def start(self, job: msgspec.Struct, descriptors: Sequence[int]) -> None:
        """Start it, or restart it after its end, with its job and the shared memory that the job names.

        Raises:
            OSError: the system cannot start another process.

        """
        self.how, self.failed, self.died, self.summary = "", None, False, None
        environment = worker_environment()
        stderr, its_stderr = os.pipe()
        # it must never wait here, even if this process is stopped
        os.set_blocking(its_stderr, False)
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                self._module,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=its_stderr,
                pass_fds=tuple(descriptors),
                # the terminal's Ctrl-C and hang-up are for the supervisor, even while the child is importing
                start_new_session=True,
                env=parent_death.with_parent_death(environment) if parent_death.ends_with_parent() else environment,
                limit=_LINE_MAX,
            )
        except BaseException:
            os.close(stderr)
            raise
        finally:
            os.close(its_stderr)
        self._write(encode_job(job))
        self._reading = asyncio.gather(self._read(), read_lines(stderr, self._log_stray))

    async def wait(self) -> int:
        """Wait for its end and for all its lines; returns its exit status (negative: the signal that killed it)."""
        assert self._process is not None
        assert self._reading is not None
        await self._reading
        status = await self._process.wait()
        if status and self.failed is None:
            self.how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
            self.died = True
            hint = "see its log lines above; the journals are kept, and recovered by the next start"
            self.failed = FailedLine(message=f"the {self.name} {self.how}", hint=hint)
        elif self.failed is not None:
            # a child does not know its number among several
            self.how = self.failed.message.removeprefix(f"the {self.name.partition(' ')[0]} ")
        return status

    def order(self, order: Order) -> None:
        """Send an order to it."""
        self._write(encode_order(order))

    def kill(self) -> None:
        """Kill it."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    @property
    def pid(self) -> int:
        """Process id of the last process started; 0 before that."""
        return self._process.pid if self._process is not None else 0

    def _write(self, data: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(OSError, RuntimeError):
            self._process.stdin.write(data)

    def _log_stray(self, text: str) -> None:
        self._on_log(LogLine(level="warning", message=f"{self.name}: {text}", kind="stderr"))

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        while data := await self._process.stdout.readline():
            try:
                line: Line = msgspec.json.decode(data, type=Line)
            except msgspec.DecodeError:
                line = LogLine(level="warning", message=f"{self.name}: {data[:500]!r}", kind="stderr")
            match line:
                case LogLine():
                    self._on_log(line)
                case FailedLine():
                    self.failed = line
                case SummaryLine():
                    self.summary = line
                case RequestLine():
                    if self._on_request is not None:
                        self._on_request(line.order)
