"""Signal handling of a recording: SIGINT, SIGTERM and SIGHUP end it in order at any time.

What Python does by itself ends a process wherever it happens to be, and an event loop has handlers only while it runs.
So there is one handler from the beginning of the command to its end, and only what it does changes. The command imports
this before all else, so little is imported here.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# A wrapper (npm, make, a container's init) passes on the signal that the terminal has sent already: within this (s) it
# is the same wish
SAME_WISH = 1.0

Act = Callable[[str], object]

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """A signal came before anything was recorded; the message says so."""


class _Handler:
    """Calls `act`, if there is one, with the name of each signal that comes.

    Attributes:
        act: what is done.
        came: the first signal that came.

    """

    def __init__(self) -> None:
        self.act: Act | None = None
        self.came: str | None = None

    def __call__(self, number: int, _: FrameType | None) -> None:
        name = signal.Signals(number).name
        self.came = self.came or name
        if self.act is not None:
            self.act(name)


_handler = _Handler()


def hold(act: Act) -> None:
    """Call `act` with the name of each signal from now on, in place of any other handling."""
    _handler.act = act
    for number in _ENDING:
        before = signal.getsignal(number)
        # under nohup a hang-up stays ignored
        if before is not _handler and not (number == signal.SIGHUP and before is signal.SIG_IGN):
            signal.signal(number, _handler)


@contextmanager
def held(act: Act) -> Iterator[None]:
    """Have `act` called with the name of each signal meanwhile, also with that of one that came before.

    Afterwards a process that held them before ignores them: its recording has ended, and what it came to is to be
    printed. In any other they are handled as they were.
    """
    before = {number: signal.getsignal(number) for number in _ENDING}
    is_ours, outside = before[signal.SIGTERM] is _handler, _handler.act
    hold(act)
    try:
        if _handler.came is not None:
            # nobody heard it: a destructor was running, say
            act(_handler.came)
        yield
    finally:
        _handler.act, _handler.came = outside, None
        for number, handler in before.items():
            # ignored by the system: Python lets go of its handlers before a process has ended
            signal.signal(number, signal.SIG_IGN if is_ours else handler)


def ended_early(name: str) -> str:
    """The words for an end before anything was recorded."""
    return f"ended by {name} before anything was recorded"


def interrupt() -> Act:
    """An act that raises `Interrupted`, once for each wish."""
    last = -SAME_WISH

    def act(name: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= SAME_WISH:
            last = now
            raise Interrupted(ended_early(name))

    return act
