"""Python's collector in a receiver: it is off, since it pauses all, and comes when a failure may have left cycles.

Failures come in crowds: a thousand connections to a host that refuses them fail in one turn of the loop. Whatever was
asked for meanwhile is one collection, and the longer one takes the more seldom they are.
"""

from __future__ import annotations

import asyncio
import gc
import time

# so that what fails together is collected together
DELAY = 0.5
# a collection may take one part in so many of the time
_SHARE = 50


class Collector:
    """Collects what failures leave, soon and not too often.

    Attributes:
        spent: how long (s) collections have taken.

    """

    def __init__(self) -> None:
        self.spent = 0.0
        self._loop = asyncio.get_running_loop()
        self._is_due = False
        self._not_before = 0.0

    def ask(self) -> None:
        """Have it collect: a failure may have left cycles that hold sockets and buffers."""
        if not self._is_due:
            self._is_due = True
            self._loop.call_at(max(self._loop.time() + DELAY, self._not_before), self._collect)

    def _collect(self) -> None:
        self._is_due = False
        began = time.perf_counter()
        gc.collect()
        took = time.perf_counter() - began
        self.spent += took
        self._not_before = self._loop.time() + took * _SHARE
