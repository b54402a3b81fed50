"""A process that ends with the one that started it, whatever that one was doing (PR_SET_PDEATHSIG, prctl(2)).

For what is of no use without it: the processes of a bench, the exchange of `record demo`. Receiver and writer of a
recording finish the files instead; where the whole recording is on a leash, they are too.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Mapping

_VARIABLE = "WSREC_LEASH"
_PR_SET_PDEATHSIG = 1


def leashed(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment with which a process of ours ends when this one ends."""
    return {**environment, _VARIABLE: str(os.getpid())}


def is_leashed() -> bool:
    """Whether this process is on a leash."""
    return _VARIABLE in os.environ


def hold() -> None:
    """Have this process killed when its parent ends, where the parent asked for that. Call it first."""
    holder = os.environ.get(_VARIABLE, "")
    if not holder.isdigit():
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(holder):
        # it has ended while this one was starting
        os._exit(1)
