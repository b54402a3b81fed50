"""The hooks of a recording: a user's commands for finished files and for events, out of the recording's way.

Each runs in a thread of the supervisor. What they do or fail to do changes neither the recording nor its exit status.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, Unpack

from wsrec import shutdown
from wsrec.ipc import About, LogLine
from wsrec.options.record import RecordOptions
from wsrec.supervise.event_hook import END, EventHook
from wsrec.supervise.file_hook import FileHook
from wsrec.supervise.hook_process import GRACE, Command
from wsrec.supervise.outcome import Outcome, reason

_LOOK_SECONDS = 0.05
_NOTICE = 5.0
# of the time for both, what is left for events once the files have had theirs: `end` is one
_FOR_EVENTS = 10.0


class Hooks:
    """Runs the hooks of the options, within a context.

    Args:
        options: how it is recorded.
        on_log: takes log lines; called in other threads too.
        is_ours: whether this process holds the output folder.

    """

    def __init__(self, options: RecordOptions, on_log: Callable[[LogLine], None], is_ours: Callable[[], bool]) -> None:
        self._on_log = on_log

        def command(name: str, text: str) -> Command:
            def show(line: str) -> None:
                on_log(LogLine(level="info", message=f"--on-{name}: {line}", kind="hook"))

            return Command(name, text, options.out, options.hook_timeout, show)

        self._file = self._event = None
        if options.on_file is not None:
            self._file = FileHook(command("file", options.on_file), self._warn, is_ours)
        if options.on_event is not None:
            self._event = EventHook(command("event", options.on_event), self._warn)

    def __enter__(self) -> Self:
        for hook in self._running():
            hook.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for hook in self._running():
            hook.stop()
        for hook in self._running():
            hook.join(2 * GRACE)

    def watching(self, on_log: Callable[[LogLine], None]) -> Callable[[LogLine], None]:
        """`on_log`, with each line passed to the hook for events first."""
        event = self._event
        if event is None:
            return on_log

        def log(line: LogLine) -> None:
            event.put(line)
            on_log(line)

        return log

    async def finish(self, outcome: Outcome, is_given_up: Callable[[], bool]) -> None:
        """Run what is pending at the end of a recording, for a limited time.

        Args:
            outcome: the outcome, which is an event itself.
            is_given_up: whether to end at once.

        """
        deadline = time.monotonic() + shutdown.HOOKS.seconds
        if self._file is not None:
            self._file.end()
            await self._ended(self._file, deadline - _FOR_EVENTS, is_given_up)
        if self._event is not None:
            self._event.put(_end(outcome))
            self._event.end()
            await self._ended(self._event, deadline, is_given_up)

    async def _ended(self, hook: FileHook | EventHook, deadline: float, is_given_up: Callable[[], bool]) -> None:
        notice = time.monotonic() + _NOTICE
        while hook.is_alive() and time.monotonic() < deadline - 2 * GRACE and not is_given_up():
            if time.monotonic() >= notice:
                notice = float("inf")
                self._on_log(LogLine(level="info", message=f"waiting for --{hook.name} to finish", kind="hook"))
            await asyncio.sleep(_LOOK_SECONDS)
        hook.stop()
        await asyncio.to_thread(hook.join, 2 * GRACE)

    def _running(self) -> list[FileHook | EventHook]:
        return [hook for hook in (self._file, self._event) if hook is not None]

    def _warn(self, message: str, hint: str | None = None, **about: Unpack[About]) -> None:
        # these may be about no feed
        about["feed"] = about.get("feed") or None
        self._on_log(LogLine(level="warning", message=message, hint=hint, **about))


def _end(outcome: Outcome) -> LogLine:
    """The end of a recording as an event."""
    why = reason(outcome)
    detail = {
        "status": outcome.status,
        "reason": outcome.reason,
        "messages": outcome.messages,
        "gaps": outcome.gaps,
        "lost_intervals": outcome.lost_intervals,
        "refused": outcome.refused,
        "files": len(outcome.files),
        "elapsed_ns": outcome.elapsed_ns,
        "targets": outcome.targets,
        "sessions": outcome.sessions,
    }
    message = "recorded, and nothing is known to be missing" if why is None else why
    return LogLine(level="info" if why is None else "warning", message=message, kind=END, detail=detail)
