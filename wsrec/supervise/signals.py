"""Signal handling of a recording: SIGINT, SIGTERM, SIGHUP and a takeover's signal end it cleanly at any time.

Python's default handling ends a process at any point, and an event loop has handlers only while it runs. So
one handler stays installed from the beginning of the command to its end, and only its action changes. The command
imports this module first, so it must import little.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# a wrapper (npm, make, a container's init) forwards a signal that the terminal has sent already: within this time (s)
# it counts as the same request
SAME_REQUEST = 1.0

# sent by a recorder that takes over; not SIGTERM, because it must never count as a second signal, which discards data
TAKEOVER = signal.SIGUSR1
TAKEOVER_NAME = "a takeover"

Act = Callable[[str], object]

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, TAKEOVER)


class Interrupted(KeyboardInterrupt):
    """A signal arrived before anything was recorded; the message says so."""


class _Handler:
    """Calls `act`, if there is one, with the name of each signal.

    Attributes:
        act: the current action.
        came: the first signal received.

    """

    def __init__(self) -> None:
        self.act: Act | None = None
        self.came: str | None = None

    def __call__(self, number: int, _: FrameType | None) -> None:
        name = TAKEOVER_NAME if number == TAKEOVER else signal.Signals(number).name
        self.came = self.came or name
        if self.act is not None:
            self.act(name)


_handler = _Handler()


def hold(act: Act) -> None:
    """Call `act` with the name of each signal from now on, replacing any other handling."""
    _handler.act = act
    for number in _ENDING:
        before = signal.getsignal(number)
        # under nohup a hang-up stays ignored
        if before is not _handler and not (number == signal.SIGHUP and before is signal.SIG_IGN):
            signal.signal(number, _handler)


@contextmanager
def held(act: Act) -> Iterator[None]:
    """Call `act` with the name of each signal within this context, and of one that arrived before.

    Afterwards a process that had called `hold` ignores signals: its recording has ended, and the result must still be
    printed. Any other process gets its previous handlers back.
    """
    before = {number: signal.getsignal(number) for number in _ENDING}
    is_ours, outside = before[signal.SIGTERM] is _handler, _handler.act
    hold(act)
    try:
        if _handler.came is not None:
            # the exception was lost, for example in a destructor: raise it again
            act(_handler.came)
        yield
    finally:
        _handler.act, _handler.came = outside, None
        for number, handler in before.items():
            # ignored by the system: Python removes its handlers before a process has ended
            signal.signal(number, signal.SIG_IGN if is_ours else handler)


def ended_early(name: str) -> str:
    """The message for an end before anything was recorded."""
    return f"ended by {name} before anything was recorded"


def interrupt() -> Act:
    """An action that raises `Interrupted`, once for each request to end."""
    last = -SAME_REQUEST

    def act(name: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= SAME_REQUEST:
            last = now
            raise Interrupted(ended_early(name))

    return act
