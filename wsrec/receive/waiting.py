"""Readiness strategies: how the receiver waits for its sockets (in epoll, spinning, or both)."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import select
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from wsrec.host import privilege
from wsrec.host.clock import now
from wsrec.options.record import WaitStrategy

# How long spinning keeps the event loop waiting: timers, signals, standard input and writes are late by as much. An
# iteration of the loop takes about 2 us, an empty read 1 to 2: longer slices delivered no message any sooner
SLICE_NS = 20_000
# How long `Adaptive` reads a socket without waiting after its last data: of what exchanges send, the part that comes
# between 200 and 500 us after the message before it is hardly ever worth the CPU time (docs/explanation/performance.md)
SPIN_NS = 200_000
_FOR_EVER = 1 << 62

Callback = Callable[[], bool]
"""Reads a socket once, without blocking; tolerates that there is nothing, and returns whether there was data."""


class Waiting(ABC):
    """A readiness strategy: calls back when a socket has, or may have, something to read.

    Attributes:
        name: the strategy's name in events and metadata.

    """

    name: ClassVar[WaitStrategy]

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def prepare(self, sock: socket.socket) -> privilege.Refusal | None:
        """Set socket options that help the strategy; a refusal makes it slower, not wrong."""
        return None

    @abstractmethod
    def watch(self, fileno: int, callback: Callback) -> None:
        """Call `callback` from now on whenever the socket may have something to read.

        It may watch and unwatch any socket.
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

    name = WaitStrategy.EPOLL

    def __init__(self) -> None:
        super().__init__()
        self._callbacks: dict[int, Callback] = {}
        self._errors = select.epoll() if hasattr(select, "epoll") else None
        if self._errors is not None:
            self._loop.add_reader(self._errors.fileno(), self._on_errors)

    def watch(self, fileno: int, callback: Callback) -> None:
        """See `Waiting.watch`."""
        self._loop.add_reader(fileno, callback)
        if self._callbacks.pop(fileno, None) is not None:
            self._forget(fileno)
        self._callbacks[fileno] = callback
        if self._errors is not None:
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
        if self._errors is not None:
            # a socket closed meanwhile is already gone
            with contextlib.suppress(OSError):
                self._errors.unregister(fileno)

    def _on_errors(self) -> None:
        """Call back each socket with an error until it has been read; the epoll stays readable until then."""
        assert self._errors is not None
        for fileno, _ in self._errors.poll(0):
            if (callback := self._callbacks.get(fileno)) is not None:
                callback()


class Spin(Waiting):
    """Reads every watched socket in turn, without pause: no wake-up, at the price of a whole processor.

    The read itself is the poll. After each `SLICE_NS` the event loop runs one iteration without waiting, so timers,
    signals, other descriptors and tasks are served. While no socket is watched the loop waits as usual.
    """

    name = WaitStrategy.SPIN

    def __init__(self) -> None:
        super().__init__()
        self._turns = _Turns(self._loop, _FOR_EVER)

    def prepare(self, sock: socket.socket) -> privilege.Refusal | None:
        """Make each read poll the NIC's queue too (SO_BUSY_POLL)."""
        return privilege.busy_poll(sock, prefer=True)

    def watch(self, fileno: int, callback: Callback) -> None:
        """See `Waiting.watch`."""
        self._turns.add(fileno, callback)

    def unwatch(self, fileno: int) -> None:
        """See `Waiting.unwatch`."""
        self._turns.remove(fileno)

    def close(self) -> None:
        """See `Waiting.close`."""
        self._turns.clear()


class Adaptive(Epoll):
    """Waits in epoll, and reads a socket without pause for `SPIN_NS` after its data.

    Messages come in bursts: most of a burst is read without a wake-up, and while idle this takes no CPU time. A socket
    that has brought nothing for so long costs no reads: between two slices the loop asks epoll about all of them.
    """

    name = WaitStrategy.ADAPTIVE

    def __init__(self) -> None:
        super().__init__()
        self._turns = _Turns(self._loop, SPIN_NS)

    def prepare(self, sock: socket.socket) -> privilege.Refusal | None:
        """Make each read poll the NIC's queue too (SO_BUSY_POLL)."""
        return privilege.busy_poll(sock, prefer=False)

    def watch(self, fileno: int, callback: Callback) -> None:
        """See `Waiting.watch`."""
        self._turns.remove(fileno)
        super().watch(fileno, functools.partial(self._on_ready, fileno, callback))

    def unwatch(self, fileno: int) -> None:
        """See `Waiting.unwatch`."""
        self._turns.remove(fileno)
        super().unwatch(fileno)

    def _on_ready(self, fileno: int, callback: Callback) -> bool:
        watched = self._callbacks.get(fileno)
        read = callback()
        # it may have unwatched its socket, and even watched another one with the same number
        if read and watched is not None and self._callbacks.get(fileno) is watched:
            self._turns.add(fileno, callback)
        return read


class _Turns:
    """Reads sockets in turn without pause, in slices of `SLICE_NS`, each one until `stay` ns after its last data."""

    def __init__(self, loop: asyncio.AbstractEventLoop, stay: int) -> None:
        self._loop = loop
        self._stay = stay
        self._callbacks: dict[int, Callback] = {}
        # when each leaves (monotonic, ns)
        self._until: dict[int, int] = {}
        # the callbacks as an immutable copy to iterate over; replaced on each change, so that an iteration notices
        self._order: tuple[tuple[int, Callback], ...] = ()
        self._scheduled = False

    def add(self, fileno: int, callback: Callback) -> None:
        self._until[fileno] = now() + self._stay
        if self._callbacks.get(fileno) != callback:
            self._callbacks[fileno] = callback
            self._order = tuple(self._callbacks.items())
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._slice)

    def remove(self, fileno: int) -> None:
        if self._callbacks.pop(fileno, None) is not None:
            del self._until[fileno]
            self._order = tuple(self._callbacks.items())

    def clear(self) -> None:
        for fileno in list(self._callbacks):
            self.remove(fileno)

    def _slice(self) -> None:
        at = now()
        deadline = at + SLICE_NS
        while at < deadline and self._order:
            order = self._order
            for fileno, callback in order:
                read = False
                try:
                    read = callback()
                except Exception as error:  # noqa: BLE001 (handled as the loop handles a reader's)
                    self._loop.call_exception_handler({"message": "a socket's callback failed", "exception": error})
                if self._order is not order:
                    break
                if read:
                    self._until[fileno] = at + self._stay
            at = now()
        for fileno in [fileno for fileno, until in self._until.items() if until <= at]:
            self.remove(fileno)
        self._scheduled = bool(self._order)
        if self._scheduled:
            self._loop.call_soon(self._slice)


STRATEGIES: dict[WaitStrategy, type[Waiting]] = {kind.name: kind for kind in (Epoll, Spin, Adaptive)}
"""The strategies by the name that the option `wait` has for them."""
