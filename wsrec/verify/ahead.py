"""Threads that work ahead: results come in order, and whoever waits for one works on another meanwhile.

The work has to be such that threads can share a process: Arrow decodes, the compiled readers read and hashes are made
without the interpreter's lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class _Task(Generic[T, R]):
    """A result that is or will be made, by a thread or here."""

    def __init__(self, function: Callable[[T], R], item: T, pool: ThreadPoolExecutor) -> None:
        self._function, self._item = function, item
        self._future: Future[R] = pool.submit(function, item)

    @property
    def is_done(self) -> bool:
        """Whether it is there."""
        return self._future.done() and not self._future.cancelled()

    def take_over(self) -> bool:
        """Make it here, unless a thread has begun."""
        if not self._future.cancel():
            return False
        made: Future[R] = Future()
        try:
            made.set_result(self._function(self._item))
        except BaseException as error:  # noqa: BLE001 (raised where the result is taken)
            made.set_exception(error)
        self._future = made
        return True

    def result(self) -> R:
        """The result, as soon as it is there."""
        return self._future.result()

    def drop(self) -> None:
        """Nobody will ask for it."""
        self._future.cancel()


class Ahead:
    """Threads beside the caller's.

    Args:
        threads: how many; 0: the caller does everything, when it asks for it.

    Attributes:
        threads: as above.

    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads) if threads else None

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Yield the result of each item, in their order; few more than there are threads are made ahead."""
        if self._pool is None:
            yield from map(function, items)
            return
        waiting: deque[_Task[T, R]] = deque()
        following = iter(items)
        try:
            while True:
                while len(waiting) < self.threads + 2:
                    try:
                        item = next(following)
                    except StopIteration:
                        break
                    waiting.append(_Task(function, item, self._pool))
                if not waiting:
                    return
                first = waiting.popleft()
                while not first.is_done and any(task.take_over() for task in (first, *waiting)):
                    pass
                yield first.result()
        finally:
            for task in waiting:
                task.drop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
