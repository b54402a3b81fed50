"""Garbage collection in a receiver: disabled because it pauses everything, run after failures that leave cycles.

Failures come in bursts: a thousand connections to a host that refuses them fail in one turn of the loop. Requests in
the meantime are merged into one collection, and the longer it takes, the less often it runs.
"""

from __future__ import annotations

import asyncio
import gc
import time

# so that failures that happen together are collected together (s)
DELAY = 0.5
# a collection may take one part in so many of the time
_SHARE = 50


class Collector:
    """Runs the collector soon after failures, within a share of the time.

    Attributes:
        spent: total time (s) of collections.

    """

    def __init__(self) -> None:
        self.spent = 0.0
        self._loop = asyncio.get_running_loop()
        self._is_due = False
        self._not_before = 0.0

    def request(self) -> None:
        """Request a collection: a failure may have left cycles that hold sockets and buffers."""
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
