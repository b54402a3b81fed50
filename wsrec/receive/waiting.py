"""Readiness strategies: how the receiver waits for its sockets (epoll, or busy-polling)."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from wsrec.host import privilege
from wsrec.host.clock import now

# How long busy-polling keeps the event loop waiting: timers, signals, standard input and writes are late by as much. An
# iteration of the loop takes about 2 us, an empty read 1 to 2: longer slices delivered no message any sooner
SLICE_NS = 20_000


class Waiting(ABC):
    """A readiness strategy: calls back when a socket has, or may have, something to read.

    Attributes:
        name: the strategy's name in events and metadata.

    """

    name: ClassVar[str]

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def prepare(self, sock: socket.socket) -> privilege.Refusal | None:
        """Set socket options that help the strategy; a refusal makes it slower, not wrong."""
        return None

    @abstractmethod
    def watch(self, fileno: int, callback: Callable[[], None]) -> None:
        """Call `callback` from now on whenever the socket may have something to read.

        It must read without blocking, tolerate that there is nothing, and may watch and unwatch any socket.
        """

    @abstractmethod
    def unwatch(self, fileno: int) -> None:
        """Stop the callbacks, even one that is due; ignored for sockets that are not watched."""

    @abstractmethod
    def close(self) -> None:
        """Unwatch all sockets and release the resources."""


class Epoll(Waiting):
    """The event loop sleeps until the kernel reports a socket: one wake-up per read, and no CPU time while idle.

    For a socket with an error libuv calls back once and then drops it (`uv__poll_io`), although there may be more to
    read, and the error itself. So a separate epoll (epoll(7)) watches all sockets for errors only.
    """

    name = "epoll"

    def __init__(self) -> None:
        super().__init__()
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._errors = select.epoll() if hasattr(select, "epoll") else None
        if self._errors is not None:
            self._loop.add_reader(self._errors.fileno(), self._on_errors)

    def watch(self, fileno: int, callback: Callable[[], None]) -> None:
        """See `Waiting.watch`."""
        self._loop.add_reader(fileno, callback)
        if self._errors is not None:
            if self._callbacks.pop(fileno, None) is not None:
                self._forget(fileno)
            self._callbacks[fileno] = callback
            # errors are always reported
            self._errors.register(fileno, 0)

    def unwatch(self, fileno: int) -> None:
        """See `Waiting.unwatch`."""
        self._loop.remove_reader(fileno)
        if self._callbacks.pop(fileno, None) is not None:
            self._forget(fileno)

    def close(self) -> None:
        """See `Waiting.close`."""
        for fileno in list(self._callbacks):
            self.unwatch(fileno)
        if self._errors is not None and not self._errors.closed:
            self._loop.remove_reader(self._errors.fileno())
            self._errors.close()

    def _forget(self, fileno: int) -> None:
        assert self._errors is not None
        # a socket closed meanwhile is already gone
        with contextlib.suppress(OSError):
            self._errors.unregister(fileno)

    def _on_errors(self) -> None:
        """Call back each socket with an error until it has been read; the epoll stays readable until then."""
        assert self._errors is not None
        for fileno, _ in self._errors.poll(0):
            if (callback := self._callbacks.get(fileno)) is not None:
                callback()


class BusyPoll(Waiting):
    """Reads every watched socket in turn, without pause: no wake-up, at the price of a whole processor.

    The read itself is the poll. After each `SLICE_NS` the event loop runs one iteration without waiting, so timers,
    signals, other descriptors and tasks are served. While no socket is watched the loop waits as usual.
    """

    name = "busy-poll"

    def __init__(self) -> None:
        super().__init__()
        self._callbacks: dict[int, Callable[[], None]] = {}
        # the same as an immutable copy to iterate over; replaced on each change, so that an iteration notices
        self._turns: tuple[Callable[[], None], ...] = ()
        self._scheduled = False

    def prepare(self, sock: socket.socket) -> privilege.Refusal | None:
        """Make each read poll the NIC's queue too (SO_BUSY_POLL)."""
        return privilege.busy_poll(sock)

    def watch(self, fileno: int, callback: Callable[[], None]) -> None:
        """See `Waiting.watch`."""
        self._callbacks[fileno] = callback
        self._turns = tuple(self._callbacks.values())
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._spin)

    def unwatch(self, fileno: int) -> None:
        """See `Waiting.unwatch`."""
        if self._callbacks.pop(fileno, None) is not None:
            self._turns = tuple(self._callbacks.values())

    def close(self) -> None:
        """See `Waiting.close`."""
        self._callbacks.clear()
        self._turns = ()

    def _spin(self) -> None:
        deadline = now() + SLICE_NS
        while self._turns:
            turns = self._turns
            for callback in turns:
                try:
                    callback()
                except Exception as error:  # noqa: BLE001 (handled as the loop handles a reader's)
                    self._loop.call_exception_handler({"message": "a socket's callback failed", "exception": error})
                if self._turns is not turns:
                    break
            if now() >= deadline:
                break
        self._scheduled = bool(self._turns)
        if self._scheduled:
            self._loop.call_soon(self._spin)
