"""Readiness strategies, one for all connections of an event loop: a spin of each its own would delay the others."""

from __future__ import annotations

import asyncio
import weakref

from wsrec.options.record import WaitStrategy
from wsrec.receive.waiting import STRATEGIES, Waiting


class _Shared:
    def __init__(self, waiting: Waiting) -> None:
        self.waiting = waiting
        self.users = 0


_OF_LOOP: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[WaitStrategy, _Shared]] = (
    weakref.WeakKeyDictionary()
)


def join(strategy: WaitStrategy) -> Waiting:
    """The running loop's `strategy`, for one more connection, which has to `leave` it."""
    shared = _OF_LOOP.setdefault(asyncio.get_running_loop(), {})
    if strategy not in shared:
        shared[strategy] = _Shared(STRATEGIES[strategy]())
    shared[strategy].users += 1
    return shared[strategy].waiting


def leave(waiting: Waiting) -> None:
    """One connection of the running loop less; with the last one its resources go."""
    strategies = _OF_LOOP[asyncio.get_running_loop()]
    shared = strategies[waiting.name]
    shared.users -= 1
    if not shared.users:
        del strategies[waiting.name]
        waiting.close()
