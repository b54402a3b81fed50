"""wsrec.receive.waiting: anyone who watches a socket learns what comes, and the loop's other work goes on meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import uvloop

from wsrec.receive import waiting as strategies
from wsrec.receive.waiting import Adaptive, Epoll, Spin, Waiting

Test = Callable[[Waiting], Awaitable[None]]


class StillSpinning(Adaptive):
    """It spins since before the test, and all through it; where `Adaptive` is meant, it had no data before."""


@pytest.fixture(params=[Epoll, Spin, Adaptive, StillSpinning], ids=lambda kind: kind.__name__)
def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[Test], None]:
    """Runs a test on the receiver's kind of loop, with every way to wait."""
    if request.param is StillSpinning:
        monkeypatch.setattr(strategies, "SPIN_NS", 60_000_000_000)
    return lambda test: run_with(request.param, test)


def run_with(kind: type[Waiting], test: Test) -> None:
    async def whole() -> None:
        waiting = kind()
        try:
            async with asyncio.timeout(60):
                await test(waiting)
        finally:
            waiting.close()

    uvloop.run(whole())


class Line:
    """A watched socket, what came over it, and how often it was tried."""

    def __init__(self, waiting: Waiting) -> None:
        self.waiting = waiting
        self.here, self.there = socket.socketpair()
        self.here.setblocking(False)
        self.came = b""
        self.polls = 0
        self.on_data: Callable[[], None] = lambda: None
        self.watch()

    def watch(self) -> None:
        self.waiting.watch(self.here.fileno(), self._read)

    def unwatch(self) -> None:
        self.waiting.unwatch(self.here.fileno())

    def _read(self) -> bool:
        self.polls += 1
        try:
            self.came += self.here.recv(100)
        except BlockingIOError:
            return False
        self.on_data()
        return True

    async def until(self, came: bytes) -> None:
        while self.came != came:
            await asyncio.sleep(0.001)

    def close(self) -> None:
        if self.here.fileno() >= 0:
            self.unwatch()
        self.here.close()
        self.there.close()


@contextlib.asynccontextmanager
async def lines(waiting: Waiting, count: int) -> AsyncIterator[list[Line]]:
    made = [Line(waiting) for _ in range(count)]
    try:
        for line in made if isinstance(waiting, StillSpinning) else ():
            line.there.send(b".")
            await line.until(b".")
            polls = line.polls
            while line.polls == polls:
                await asyncio.sleep(0.001)
            line.came = b""
        yield made
    finally:
        for line in made:
            line.close()


@pytest.mark.parametrize("size", [10, 100_000])
def test_what_came_before_a_reset_and_then_the_reset(run, size):
    """Also where both came in one wake-up: libuv stops to look at a socket with an error (uv__poll_io)."""

    async def test(waiting: Waiting) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            here = socket.create_connection(server.getsockname())
            there, _ = server.accept()
        here.setblocking(False)
        came, errors = bytearray(), []

        def read() -> bool:
            try:
                came.extend(here.recv(30_000))
            except BlockingIOError:
                return False
            except OSError as error:
                waiting.unwatch(here.fileno())
                errors.append(error)
                return False
            return True

        waiting.watch(here.fileno(), read)
        await asyncio.sleep(0.01)
        # nothing waits in between
        there.sendall(bytes(size))
        there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        there.close()
        while not errors:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        # once
        assert [type(error) for error in errors] == [ConnectionResetError]
        assert len(came) == size
        here.close()

    run(test)


class TestWatching:
    def test_everything_comes_on_every_socket(self, run):
        async def test(waiting: Waiting) -> None:
            async with lines(waiting, 3) as three:
                for number in range(10):
                    for line in three:
                        line.there.send(b"%d" % number)
                    for line in three:
                        await line.until(b"0123456789"[: number + 1])

        run(test)

    def test_not_after_it_was_unwatched_and_again_after_it_was_watched(self, run):
        async def test(waiting: Waiting) -> None:
            async with lines(waiting, 1) as (line,):
                line.unwatch()
                line.there.send(b"a")
                await asyncio.sleep(0.02)
                assert line.came == b""
                line.watch()
                await line.until(b"a")
                line.unwatch()
                line.unwatch()

        run(test)

    def test_a_callback_may_unwatch_itself(self, run):
        async def test(waiting: Waiting) -> None:
            async with lines(waiting, 2) as (one, two):
                one.on_data = one.unwatch
                one.there.send(b"a")
                await one.until(b"a")
                one.there.send(b"b")
                two.there.send(b"a")
                await two.until(b"a")
                await asyncio.sleep(0.02)
                assert one.came == b"a"

        run(test)

    def test_a_callback_may_close_every_other(self, run):
        """As where one connection's end ends the others: none of them is called with its socket closed."""

        async def test(waiting: Waiting) -> None:
            async with lines(waiting, 3) as three:
                called: list[Line] = []

                def close_others(line: Line) -> None:
                    called.append(line)
                    for other in three:
                        if other is not line:
                            other.close()

                for line in three:
                    line.on_data = lambda line=line: close_others(line)
                for line in three:
                    line.there.send(b"a")
                await asyncio.sleep(0.02)
                assert len(called) == 1

        run(test)

    def test_a_callback_may_watch_a_new_one_with_the_number_of_its_own(self, run):
        """As a reconnection does it: the closed socket's number is the next one's."""

        async def test(waiting: Waiting) -> None:
            async with lines(waiting, 1) as made:
                first = made[0]

                def again() -> None:
                    number = first.here.fileno()
                    first.close()
                    made.append(Line(waiting))
                    assert number in (made[1].here.fileno(), made[1].there.fileno())

                first.on_data = again
                first.there.send(b"a")
                await first.until(b"a")
                made[1].there.send(b"b")
                await made[1].until(b"b")
                assert first.came == b"a"

        run(test)

    def test_a_callback_that_fails_is_reported_and_the_others_go_on(self, run):
        async def test(waiting: Waiting) -> None:
            reported: list[BaseException] = []
            asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
            async with lines(waiting, 2) as (bad, good):

                def fail() -> None:
                    bad.on_data = lambda: None
                    raise LookupError("broken")

                bad.on_data = fail
                bad.there.send(b"a")
                good.there.send(b"a")
                await good.until(b"a")
                bad.there.send(b"b")
                await bad.until(b"ab")
                assert [str(error) for error in reported] == ["broken"]

        run(test)

    def test_one_that_has_always_something_does_not_starve_the_others(self, run):
        async def test(waiting: Waiting) -> None:
            async with lines(waiting, 2) as (busy, quiet):
                busy.on_data = lambda: busy.there.send(b"x") and None
                busy.there.send(b"x")
                for number in range(20):
                    quiet.there.send(b"%c" % (65 + number))
                    await quiet.until(bytes(range(65, 66 + number)))
                busy.on_data = busy.unwatch
                await asyncio.sleep(0.01)
                assert len(busy.came) > 20

        run(test)


class TestTheLoopGoesOn:
    def test_timers_other_descriptors_writers_and_names(self, run):
        async def test(waiting: Waiting) -> None:
            loop = asyncio.get_running_loop()
            async with lines(waiting, 2) as (busy, _):
                busy.on_data = lambda: busy.there.send(b"x") and None
                busy.there.send(b"x")
                read, write = os.pipe()
                on_data = asyncio.Event()
                loop.add_reader(read, on_data.set)
                os.write(write, b".")
                await on_data.wait()
                loop.remove_reader(read)

                writable = asyncio.Event()
                loop.add_writer(write, writable.set)
                await writable.wait()
                loop.remove_writer(write)
                os.close(read)
                os.close(write)

                assert await loop.getaddrinfo("localhost", 80)
                # a loop that is kept waiting comes to none of them
                async with asyncio.timeout(60):
                    for _ in range(30):
                        await asyncio.sleep(0.01)
                assert len(busy.came) > 30

        run(test)

    def test_signals(self, run):
        async def test(waiting: Waiting) -> None:
            async with lines(waiting, 1):
                on_data = asyncio.Event()
                asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, on_data.set)
                os.kill(os.getpid(), signal.SIGUSR1)
                await on_data.wait()

        run(test)


async def cpu_share(seconds: float) -> float:
    """CPU time of this thread while it has nothing to do, as a part of the time."""
    began, cpu = time.monotonic(), time.thread_time()
    await asyncio.sleep(seconds)
    return (time.thread_time() - cpu) / (time.monotonic() - began)


class TestCpu:
    def test_epoll_sleeps_while_nothing_comes(self):
        async def test(waiting: Waiting) -> None:
            async with lines(waiting, 1) as (line,):
                assert await cpu_share(0.3) < 0.1
                assert line.polls == 0

        run_with(Epoll, test)

    def test_spin_reads_while_a_socket_is_watched_and_only_then(self):
        async def test(waiting: Waiting) -> None:
            assert await cpu_share(0.3) < 0.1
            async with lines(waiting, 1) as (line,):
                await asyncio.sleep(0.3)
                assert line.polls > 1000
                line.unwatch()
                assert await cpu_share(0.3) < 0.1
                polls = line.polls
                line.watch()
                await asyncio.sleep(0.05)
                assert line.polls > polls

        run_with(Spin, test)

    def test_adaptive_reads_a_while_after_data_and_then_sleeps(self, monkeypatch):
        monkeypatch.setattr(strategies, "SPIN_NS", 20_000_000)

        async def test(waiting: Waiting) -> None:
            async with lines(waiting, 2) as (line, idle):
                for number in range(1, 4):
                    polls = line.polls
                    line.there.send(b"a")
                    await line.until(b"a" * number)
                    await asyncio.sleep(0.1)
                    assert line.polls > polls + 10
                    polls = line.polls
                    assert await cpu_share(0.3) < 0.1
                    assert line.polls == polls
                # epoll tells of those without data
                assert idle.polls == 0

        run_with(Adaptive, test)

    def test_adaptive_reads_without_a_wake_up_what_comes_soon(self, monkeypatch):
        """Another one that keeps still is not read meanwhile, and is heard all the same."""
        monkeypatch.setattr(strategies, "SPIN_NS", 60_000_000_000)

        async def test(waiting: Waiting) -> None:
            async with lines(waiting, 2) as (busy, quiet):
                busy.there.send(b"a")
                while busy.polls < 1000:
                    await asyncio.sleep(0.001)
                assert quiet.polls == 0
                quiet.there.send(b"a")
                await quiet.until(b"a")
                # it is read from now on
                while quiet.polls < 1000:
                    await asyncio.sleep(0.001)

        run_with(Adaptive, test)


class TestPrepare:
    def test_epoll_asks_for_nothing(self):
        async def test(waiting: Waiting) -> None:
            with socket.socket() as plain, socket.socket() as sock:
                assert waiting.prepare(sock) is None
                assert value(sock) == value(plain)

        run_with(Epoll, test)

    @pytest.mark.parametrize("kind", [Spin, Adaptive], ids=lambda kind: kind.name)
    def test_those_that_spin_ask_the_kernel_or_say_why_not(self, kind):
        async def test(waiting: Waiting) -> None:
            with socket.socket() as sock:
                refusal = waiting.prepare(sock)
                if refusal is None:
                    assert value(sock) > 0
                else:
                    assert "CAP_NET_ADMIN" in refusal.hint

        run_with(kind, test)


def value(sock: socket.socket) -> int:
    """SO_BUSY_POLL, us."""
    return sock.getsockopt(socket.SOL_SOCKET, 46)
