"""The engine of `--jobs N`: worker processes on this machine, each with one item at a time.

A worker is a fresh interpreter (no fork of a process with threads), ends with this one, and gets its items over a
socket. What is given out runs at most a few items ahead of what was yielded, so memory does not grow with their number.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, Pipe, wait
from types import TracebackType
from typing import Any, Self, TypeVar

from wsrec import parent_death
from wsrec.child_environment import worker_environment
from wsrec.engine.allocator import allocator
from wsrec.engine.work import EngineError, Failure, Item, Progress

R = TypeVar("R")

# items given out beyond the first that is not done, for each worker
_AHEAD = 4
_TIMEOUT = 5.0


class Processes:
    """Worker processes, kept until the end.

    As many as there are processors are started by `with`, so that they import Arrow while the caller does and looks for
    what to read; others at first use.

    Args:
        jobs: their number.
        module: the module of the function that they will run, to be imported at once; None: with the first item.

    """

    def __init__(self, jobs: int, module: str | None = None) -> None:
        self.parallelism = jobs
        self._module = module
        self._workers: list[_Worker] = []

    def __enter__(self) -> Self:
        self._start(min(self.parallelism, os.cpu_count() or 1))
        return self

    def _start(self, number: int) -> None:
        while len(self._workers) < number:
            self._workers.append(_Worker(self._module))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.hang_up()
        for worker in self._workers:
            worker.end()
        self._workers.clear()

    def map(
        self,
        function: Callable[[Any], R],
        items: Sequence[Item],
        progress: Progress | None = None,
        *,
        large: bool = False,
    ) -> Iterator[R]:
        """As `wsrec.engine.work.Engine.map`."""
        self._start(min(self.parallelism, len(items)))
        total, done = sum(item.size for item in items), 0
        given = yielded = 0
        results: dict[int, R] = {}
        while yielded < len(items):
            for worker in self._workers:
                if worker.item is None and given < min(len(items), yielded + _AHEAD * self.parallelism):
                    worker.give(function, given, items[given])
                    given += 1
            busy = {worker.connection: worker for worker in self._workers if worker.item is not None}
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                number, item, results[number] = busy[connection].take()
                done += item.size
                if progress is not None:
                    progress(done, total)
            while yielded in results:
                yield results.pop(yielded)
                yielded += 1


class _Worker:
    def __init__(self, module: str | None) -> None:
        self.connection, theirs = Pipe()
        self.item: Item | None = None
        self._number = 0
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 (this interpreter, a module of ours)
                [sys.executable, "-P", "-m", "wsrec.engine.worker", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                # the terminal's Ctrl-C is for this process
                start_new_session=True,
                env=parent_death.with_parent_death({**worker_environment(), **allocator()}),
            )
        with contextlib.suppress(OSError):
            # if it has ended already, its first item says so
            self.connection.send((sys.path, module))

    def give(self, function: Callable[[Any], Any], number: int, item: Item) -> None:
        self.item, self._number = item, number
        try:
            self.connection.send((function, item))
        except OSError as error:
            raise self._death() from error

    def take(self) -> tuple[int, Item, Any]:
        """The number and the item that it had, and its result."""
        assert self.item is not None
        try:
            result = self.connection.recv()
        except (EOFError, OSError) as error:
            raise self._death() from error
        if isinstance(result, Failure):
            raise result.raised()
        item, self.item = self.item, None
        return self._number, item, result

    def hang_up(self) -> None:
        """Have it end: at once in the middle of an item, else by itself."""
        if self.item is not None:
            self._process.kill()
        self.connection.close()

    def end(self) -> None:
        """Wait for its end."""
        try:
            self._process.wait(_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _death(self) -> EngineError:
        self.end()
        status = self._process.returncode
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        hint = " (out of memory? give fewer `--jobs`)" if status == -signal.SIGKILL else ""
        return EngineError(f"{self.item}: the worker process that read it {how}{hint}")
