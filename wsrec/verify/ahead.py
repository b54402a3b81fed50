"""Threads that work ahead: results come in order, and whoever waits for one works on another meanwhile.

The work has to be such that threads can share a process: Arrow decodes and the compiled readers read without the
interpreter's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from threading import Condition, Lock, Thread
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Ahead(NamedTuple):
    """Threads beside the caller's.

    Attributes:
        threads: how many; 0: the caller does everything, when it asks for it.

    """

    threads: int

    def map(self, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Yield the result of each item, in their order; few more than there are threads are made ahead.

        Args:
            function: called by several threads at the same time.
            items: taken by one thread at a time.

        """
        if not self.threads:
            yield from map(function, items)
            return
        work = _Work(function, iter(items), self.threads + 1)
        threads = [Thread(target=work.help, name=f"ahead {number}", daemon=True) for number in range(self.threads)]
        try:
            for thread in threads:
                thread.start()
            yield from work.results()
        finally:
            work.end()
            for thread in threads:
                thread.join()


class _Work(Generic[T, R]):
    """Items, and what was made of them.

    Args:
        function: makes a result of an item.
        items: the items.
        most: how many results may wait to be taken, or be in work.

    """

    def __init__(self, function: Callable[[T], R], items: Iterator[T], most: int) -> None:
        self._function, self._items, self._most = function, items, most
        self._taking = Lock()
        self._changed = Condition()
        # by number; of what was raised instead, the exception
        self._made: dict[int, tuple[R | None, BaseException | None]] = {}
        self._begun = self._yielded = 0
        self._ended = False

    def results(self) -> Iterator[R]:
        """All results in order, made here where none is ready."""
        while True:
            with self._changed:
                made = self._made.pop(self._yielded, None)
                if made is None and self._ended and self._yielded == self._begun:
                    return
            if made is None:
                if not self._step():
                    with self._changed:
                        self._changed.wait_for(self._can_go_on)
                continue
            result, error = made
            if error is not None:
                raise error
            with self._changed:
                self._yielded += 1
                self._changed.notify_all()
            yield result  # type: ignore[misc]

    def help(self) -> None:
        """Make results until there are no more items."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ended or self._has_room())
                if self._ended:
                    return
            self._step()

    def end(self) -> None:
        """Take no more items."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _has_room(self) -> bool:
        return self._begun - self._yielded < self._most

    def _can_go_on(self) -> bool:
        return self._yielded in self._made or (self._ended and self._yielded == self._begun)

    def _step(self) -> bool:
        """Make a result of the next item; whether there was one to make."""
        with self._taking:
            if self._ended or not self._has_room():
                return False
            number = self._begun
            try:
                item = next(self._items)
            except StopIteration:
                self.end()
                return False
            except BaseException as error:  # noqa: BLE001 (raised where the result is taken)
                self._put(number, None, error)
                return True
            with self._changed:
                self._begun += 1
        try:
            result = self._function(item)
        except BaseException as error:  # noqa: BLE001 (raised where the result is taken)
            self._put(number, None, error)
        else:
            self._put(number, result, None)
        return True

    def _put(self, number: int, result: R | None, error: BaseException | None) -> None:
        with self._changed:
            self._begun = max(self._begun, number + 1)
            self._made[number] = result, error
            self._ended = self._ended or error is not None
            self._changed.notify_all()
