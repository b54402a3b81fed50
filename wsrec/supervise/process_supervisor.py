"""Supervision of one process: restarted when it dies or hangs, abandoned when restarts do not help."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from wsrec import shutdown
from wsrec.ipc import FailedLine, LogLine, Stop
from wsrec.receive.backoff import Backoff
from wsrec.supervise.child_process import ChildProcess
from wsrec.units import system_error

_LOOK_SECONDS = 1.0
# after this time (s) the operator is informed about what the shutdown is waiting for
_NOTICE = 5.0
# A child is hung after this many checks in a row without a sign of life. Checks are counted, not seconds: if the whole
# machine was paused, there were no checks
LOOKS = 10
# before its first heartbeat it may have to wait for a disk that loads its modules
_LOOKS_STARTING = 6 * LOOKS
# a child that uses the processor may still recover, for example with a thousand connections on a busy machine; one in
# an endless loop does not
_LOOKS_BUSY = 6 * LOOKS
# limit of checks at shutdown, for a child that has heartbeats until its end
_LOOKS_FINISHING = round(shutdown.RECEIVER_HANGS.seconds / _LOOK_SECONDS)
# with more deaths than this, and less than this uptime in between, restarting does not help
STORM_DEATHS = 5
_STORM_SECONDS = 60.0


class ExitInfo(NamedTuple):
    """The end of a child that is restarted.

    Attributes:
        how: the end of a sentence that begins with its name.
        pid: its process id.
        after_ns: time since its last heartbeat.
        restarts: number of restarts, including this one.

    """

    how: str
    pid: int
    after_ns: int
    restarts: int


class ProcessSupervisor:
    """Supervises one child across all restarts.

    Args:
        child: the child.
        start: starts it: after a death, or (None) for the first time.
        heartbeat: returns its heartbeat, a number in shared memory that changes while it is responsive.
        beats_to_the_end: whether it has heartbeats until it ends. If not, using the processor counts as a sign of life
            while it finishes.
        held: whether it waits for something that killing it would not fix.
        on_log: called with each line for the operator.
        costs: the cost of its death, for the operator.

    Attributes:
        restarts: number of restarts.
        failed: why it ended for good; None if it finished its work or was not to be restarted.
        died: whether it ended without a final report.
        exhausted: whether it died too often.

    """

    def __init__(
        self,
        child: ChildProcess,
        start: Callable[[ExitInfo | None], Awaitable[None]],
        *,
        heartbeat: Callable[[], int],
        beats_to_the_end: bool,
        held: Callable[[], bool],
        on_log: Callable[[LogLine], None],
        costs: str,
    ) -> None:
        self.child = child
        self.restarts = 0
        self.failed: FailedLine | None = None
        self.died = False
        self.exhausted = False
        self._start = start
        self._heartbeat = heartbeat
        self._beats_to_the_end = beats_to_the_end
        self._held = held
        self._on_log = on_log
        self._costs = costs
        self._how = ""
        self._seen = 0
        self._beat_at = 0.0
        self._uptimes: deque[float] = deque(maxlen=STORM_DEATHS + 1)
        self._backoff = Backoff()
        self._finishing: Stop | None = None
        self._finish_again = False
        self._abandoned = False
        self._skip_wait = asyncio.Event()

    async def start(self) -> None:
        """Start it for the first time.

        Raises:
            OSError: the system cannot start another process.

        """
        self._seen = self._heartbeat()
        await self._start(None)

    async def run(self) -> None:
        """Wait until it has ended for good; restart it until then."""
        child, name = self.child, self.child.name
        while True:
            lived = await self._run_once()
            self.failed = child.failed
            self.died = child.died or (child.failed is not None and child.failed.again)
            if not self.died or self._is_enough():
                return
            wait = self._wait_after(lived)
            if wait is None:
                self._give_up()
                return
            when = "at once" if not wait else f"in {wait:.1f} s"
            message = f"the {name} {self._how}; restarted {when}; {self._costs}"
            self._on_log(LogLine(level="warning", message=message, kind="restart", detail={"process": name}))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._skip_wait.wait(), wait)
            # the end may have been requested in the meantime: then nothing is lost but what the death has cost
            self.failed = None
            if self._is_enough():
                return
            await self._start_again()

    def finish(self, order: Stop, *, again: bool) -> None:
        """Make it finish.

        Args:
            order: the order to send.
            again: whether to restart it for that if it dies or is waiting for its restart.

        """
        self._finishing, self._finish_again = order, again
        self._skip_wait.set()
        self.child.order(order)

    async def ended(
        self, running: asyncio.Future[None], seconds: float, *, discards: Callable[[], str], notice: float = _NOTICE
    ) -> None:
        """Wait for the end of a process that was ordered to finish, and kill it at the limit.

        Args:
            running: the task of `run`.
            seconds: the limit.
            discards: returns what would end it at once.
            notice: seconds after which the operator is informed.

        """
        name = self.child.name
        _, late = await asyncio.wait((running,), timeout=notice)
        if late:
            # nothing is wrong yet: no line is logged just for that
            message = f"waiting for the {name} to finish; {discards()} discards what is not on disk by then"
            self._on_log(LogLine(level="info", message=message))
            _, late = await asyncio.wait((running,), timeout=seconds - notice)
        if late:
            self._on_log(LogLine(level="error", message=f"the {name} did not end in {seconds:g} s; killed"))
            self.abandon()
        await running

    def abandon(self) -> None:
        """Kill it at once and for good."""
        self._abandoned = True
        self._skip_wait.set()
        self.child.kill()

    def _is_enough(self) -> bool:
        return self._abandoned or (self._finishing is not None and not self._finish_again)

    async def _start_again(self) -> None:
        self.restarts += 1
        after = int((time.monotonic() - self._beat_at) * 1e9)
        self._seen = self._heartbeat()
        try:
            await self._start(ExitInfo(self._how, self.child.pid, after, self.restarts))
        except OSError as error:
            # reported like a death
            message = f"the {self.child.name} could not be started: {system_error(error)}"
            self.child.failed = FailedLine(message=message, again=True)
        if self._abandoned:
            self.child.kill()
        elif self._finishing is not None:
            self.child.order(self._finishing)

    async def _run_once(self) -> float:
        """Wait for the end of one process, or kill it if it hangs; returns the seconds with signs of life."""
        began = self._beat_at = last_sign = time.monotonic()
        ended = asyncio.ensure_future(self.child.wait())
        beat, worked = self._seen, 0
        # number of checks without a heartbeat, and of those without any work
        looks, idle, hung, reported = 0, 0, False, False
        try:
            while not (await asyncio.wait((ended,), timeout=_LOOK_SECONDS))[0]:
                work = work_of(self.child.pid)
                quiet = self._heartbeat() == beat
                if not quiet:
                    beat, self._beat_at = self._heartbeat(), time.monotonic()
                # it imports, recovers, or finishes: no heartbeat, but it is working
                starting = beat == self._seen
                works, worked = work.worked != worked, work.worked
                beatless = starting or (self._finishing is not None and not self._beats_to_the_end)
                if not quiet or (beatless and works):
                    looks, idle, reported, last_sign = 0, 0, False, time.monotonic()
                    continue
                looks, idle = looks + 1, idle + (not works)
                if hung:
                    continue
                if self._finishing is not None and not beatless:
                    if looks < _LOOKS_FINISHING:
                        continue
                elif idle < (_LOOKS_STARTING if starting else LOOKS) and looks < _LOOKS_BUSY:
                    if looks >= LOOKS and works and not starting and not reported:
                        self._report_busy()
                        reported = True
                    continue
                if work.held or self._held():
                    if not reported:
                        self._report_held()
                    reported = True
                    continue
                hung = True
                self.child.kill()
                if self._finishing is not None:
                    self._report_killed(looks)
            await ended
        finally:
            ended.cancel()
        self._how = f"had no heartbeat for {looks * _LOOK_SECONDS:.0f} s and was killed" if hung else self.child.how
        return last_sign - began if hung else time.monotonic() - began

    def _wait_after(self, lived: float) -> float | None:
        """Seconds to wait before the restart; None if it died too often."""
        if lived >= _STORM_SECONDS:
            self._uptimes.clear()
            self._backoff.reset()
        self._uptimes.append(lived)
        # the uptime before the first of them does not count
        between = sum(self._uptimes) - self._uptimes[0]
        if len(self._uptimes) > STORM_DEATHS and between < _STORM_SECONDS:
            return None
        return 0.0 if len(self._uptimes) == 1 else self._backoff.next()

    def _give_up(self) -> None:
        self.exhausted = True
        name, last = self.child.name, self.child.failed
        message = f"the {name} died {len(self._uptimes)} times within {_STORM_SECONDS:.0f} s of work; "
        message += f"the last time it {self._how}; it is not restarted again"
        hint = "see its log lines above, and `dmesg` for a lack of memory; the journals are kept"
        if last is not None and not self.child.died and last.hint:
            hint = f"{last.hint}; the journals are kept"
        self.failed = FailedLine(message=message, hint=hint)

    def _report_busy(self) -> None:
        message = f"the {self.child.name} has had no heartbeat for {LOOKS * _LOOK_SECONDS:.0f} s, but it is working: "
        message += f"it is killed after {_LOOKS_BUSY * _LOOK_SECONDS:.0f} s"
        hint = "if this happens again, record fewer connections on this machine, or use more receivers (--cpu 2,3)"
        self._on_log(LogLine(level="warning", message=message, hint=hint))

    def _report_killed(self, looks: int) -> None:
        message = (
            f"the {self.child.name} had no heartbeat for {looks * _LOOK_SECONDS:.0f} s when it was ordered to finish, "
        )
        message += "and was killed; received data is kept"
        self._on_log(LogLine(level="warning", message=message))

    def _report_held(self) -> None:
        message = f"the {self.child.name} is blocked: it waits for a disk or network storage"
        hint = "fix the disk; recording resumes by itself, and new data waits in the rings and at the exchange"
        self._on_log(LogLine(level="error", message=message, hint=hint, kind="disk"))


class Work(NamedTuple):
    """Work of a process according to the kernel: CPU time (ticks), whether a thread waits for a device (state D)."""

    worked: int
    held: bool


def work_of(pid: int) -> Work:
    """Read it from /proc/PID/task/*/stat (proc_pid_stat(5)); all zero without such a process."""
    worked, held = 0, False
    for path in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # the name before it is in brackets and may contain any character
            state, *numbers = path.read_text().rpartition(")")[2].split()
            worked += int(numbers[10]) + int(numbers[11])
            held = held or state == "D"
    return Work(worked, held)
