"""Garbage collection in a receiver: many failures at once are cleaned up together, and never block the loop."""

from __future__ import annotations

import asyncio
import gc
import itertools
import weakref
from collections.abc import Callable, Iterator

import pytest

from wsrec.receive import garbage_collection
from wsrec.receive.garbage_collection import Collector


@pytest.fixture
def collections() -> Iterator[list[int]]:
    """The collections that were made, by generation."""
    made: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "stop":
            made.append(info["generation"])

    gc.collect()
    gc.disable()
    gc.callbacks.append(note)
    yield made
    gc.callbacks.remove(note)
    gc.enable()


class Cycle:
    """What only the collector frees."""

    def __init__(self) -> None:
        self.me = self


async def until(found: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not found():
            await asyncio.sleep(0.005)


@pytest.mark.long
def test_a_thousand_failures_at_once_are_one_collection(collections, monkeypatch):
    monkeypatch.setattr(garbage_collection, "DELAY", 0.01)

    async def run() -> None:
        one = Collector()
        for _ in range(1000):
            one.request()
        await until(lambda: collections)
        # there would be time for another one
        await asyncio.sleep(5 * garbage_collection.DELAY + 50 * one.spent)

    asyncio.run(run())
    assert len(collections) == 1


def test_what_a_failure_left_is_freed_soon(collections):
    async def run() -> None:
        left = weakref.ref(Cycle())
        Collector().request()
        await until(lambda: left() is None)

    asyncio.run(run())


def test_failures_without_end_leave_the_loop_nearly_all_of_its_time(collections, monkeypatch):
    monkeypatch.setattr(garbage_collection, "DELAY", 0.001)
    kept = [[{}] for _ in range(200_000)]

    async def run() -> tuple[float, list[float]]:
        one, loop, spent = Collector(), asyncio.get_running_loop(), [0.0]
        began = loop.time()
        while loop.time() < began + 1.0:
            one.request()
            await asyncio.sleep(0.001)
            spent.append(one.spent)
        return loop.time() - began, [after - before for before, after in itertools.pairwise(spent) if after > before]

    elapsed, took = asyncio.run(run())
    assert took
    # each is followed by fifty times as long without one; what follows the last of them is not over
    assert sum(took) - max(took) <= elapsed / 50
    assert collections
    assert kept
