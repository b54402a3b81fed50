"""Signals, from the first import of a command to its last line: none leaves a traceback.

Python's own handling raises in whatever is running: half-imported modules, a destructor, the code that ends the
interpreter. So `wsrec.__main__` lets SIGINT end the process at once, except while a command runs (`Interruptible`):
there it raises `KeyboardInterrupt`, for what has to be ended and removed. `wsrec record` has rules of its own
(`wsrec.supervise.signals`), and a message also for a signal during its start.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

# ExitStatus.NOTHING, whose module takes long to import
_NOTHING = 3
# as `FlagParam` reads a variable
_TRUE = ("1", "true", "t", "yes", "y", "on")
_TIMEOUT = 1.0
INTERRUPTED = 128 + signal.SIGINT
"""Exit status after SIGINT, as shells have it."""

# of those that are raised as exceptions
_came: list[int] = []


def hold_signals() -> None:
    """For `wsrec record`: make every signal end the process with a message and a status of its own."""
    if sys.argv[1:2] == ["record"]:
        from wsrec.supervise.signals import hold

        hold(_leave)
    else:
        sys.unraisablehook = _raise_again


class Interruptible:
    """While a command runs: SIGINT raises `KeyboardInterrupt`, and SIGTERM `SystemExit`, so that it can clean up.

    Args:
        cleans_up: whether SIGTERM is to raise, too; else it ends the process at once.

    """

    def __init__(self, *, cleans_up: bool) -> None:
        self._cleans_up = cleans_up
        self._before: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}

    def __enter__(self) -> None:
        # what the program that calls this command chose stays, as in a test; `wsrec.__main__` chooses this one
        if signal.getsignal(signal.SIGINT) is not signal.SIG_DFL:
            return
        for number in (signal.SIGINT, *([signal.SIGTERM] if self._cleans_up else [])):
            self._before[number] = signal.signal(number, _raise)

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def came() -> int:
    """The signal that was raised, or 0: an exception since then may be what the interrupted code made of it."""
    return _came[0] if _came else 0


def end_as_interrupted(status: object) -> None:
    """End by SIGINT itself if that is what a command's status says: a shell then ends its script or loop, too."""
    if status == INTERRUPTED and signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGINT)
        # the first process of a container is not ended by its own signals: its status is the same


def _raise(number: int, _: FrameType | None) -> None:
    _came.append(number)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    sys.exit(128 + number)


def _raise_again(what: sys.UnraisableHookArgs) -> None:
    """Raise once more what was raised in a destructor or a callback, where nothing can be: Python only prints it."""
    if issubclass(what.exc_type, KeyboardInterrupt | SystemExit) and _came:
        os.kill(os.getpid(), _came[-1])
    else:
        sys.__unraisablehook__(what)


def _leave(name: str) -> None:
    import json

    from wsrec.supervise.signals import ended_early

    why = ended_early(name)
    _write(2, f"wsrec record: {why}\n")
    if "--json" in sys.argv or os.environ.get("WSREC_RECORD_JSON", "").strip().lower() in _TRUE:
        _write(1, json.dumps({"status": _NOTHING, "error": why}, separators=(",", ":")) + "\n")
    # raising in half-imported modules is not safe, and there is nothing to undo
    os._exit(_NOTHING)


def _write(fd: int, text: str) -> None:
    import threading

    # do not wait for a terminal that accepts no output
    writing = threading.Thread(target=_write_all, args=(fd, text.encode()), daemon=True)
    writing.start()
    writing.join(_TIMEOUT)


def _write_all(fd: int, data: bytes) -> None:
    # its reader may be gone
    try:
        os.write(fd, data)
    except OSError:
        return
