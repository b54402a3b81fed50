"""Parent-death signal: processes that are killed when their parent ends (PR_SET_PDEATHSIG, prctl(2)).

For processes that are useless without their parent: those of a benchmark, and the exchange of `record demo`. Receiver
and writer of a recording finish their files instead, unless the whole recording runs this way.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping

_VARIABLE = "WSREC_PARENT_PID"
_PR_SET_PDEATHSIG = 1


def with_parent_death(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for a child that is to end with this process."""
    return {**environment, _VARIABLE: str(os.getpid())}


def ends_with_parent() -> bool:
    """True if this process ends with its parent."""
    return _VARIABLE in os.environ


def hold() -> None:
    """Have this process killed when its parent ends, if the parent requested it. Must be called first."""
    holder = os.environ.get(_VARIABLE, "")
    if not holder.isdigit():
        return
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(holder):
        # the parent ended while this process was starting
        os._exit(1)
