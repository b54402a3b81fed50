"""wsrec.receive.opening: which of several addresses is connected to, how soon, and what happens to the others."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from tests.receive.hosts import black_hole
from wsrec.net import addresses as order
from wsrec.net.addresses import AddressHistory
from wsrec.net.resolver import Address
from wsrec.receive import opening


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[..., object]:
    def run(coroutine: object) -> object:
        with asyncio.Runner(loop_factory=request.param) as runner:
            return runner.run(coroutine)  # type: ignore[arg-type]

    # the first loop of a process opens descriptors that libuv keeps (uv__signal_global_init)
    run(asyncio.sleep(0))
    return run


@pytest.fixture
def port() -> Iterator[int]:
    """A port that is listened to at 127.0.0.1 alone."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def at(ip: str, port: int) -> Address:
    return Address(socket.AF_INET6 if ":" in ip else socket.AF_INET, (ip, port, 0, 0) if ":" in ip else (ip, port))


def no_way(port: int) -> Address:
    """An address that this machine has no way to: link-local, and on no link."""
    return at("fe80::1", port)


async def reach(addresses: list[Address], history: AddressHistory | None = None) -> tuple[str, float]:
    began = time.monotonic()
    reached = await opening.connect(addresses, None, history)
    took = time.monotonic() - began
    assert reached.sock.getpeername()[:2] == reached.address.sockaddr[:2]
    reached.sock.close()
    return reached.address.ip, took


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


class TestOneAddress:
    def test_it_is_connected_without_any_thread(self, run, port, monkeypatch):
        monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "run_in_executor", lambda *_: pytest.fail("a thread"))
        assert run(reach([at("127.0.0.1", port)]))[0] == "127.0.0.1"

    def test_a_refusal_is_the_system_s_error(self, run, port):
        with pytest.raises(ConnectionRefusedError) as caught:
            run(reach([at("127.0.0.2", port)]))
        assert caught.value.errno == errno.ECONNREFUSED

    def test_none_is_an_error(self, run):
        with pytest.raises(OSError, match="no address"):
            run(reach([]))

    def test_one_that_does_not_answer_is_left_with_nothing_behind(self, run):
        async def leave() -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await opening.connect([at("127.0.0.1", hole)], None, history)

        history = AddressHistory()
        with black_hole("127.0.0.1") as hole:
            # what earlier tests left is not to be collected meanwhile
            gc.collect()
            before = descriptors()
            run(leave())
            assert descriptors() == before
        assert history.tried == {"127.0.0.1": "timeout"}


class TestSeveral:
    def test_the_next_is_tried_at_once_where_one_refuses(self, run, port, monkeypatch):
        monkeypatch.setattr(order, "ATTEMPT_DELAY", 30.0)
        assert run(reach([at("127.0.0.2", port), at("127.0.0.3", port), at("127.0.0.1", port)]))[0] == "127.0.0.1"

    def test_and_soon_where_one_does_not_answer(self, run, port):
        history = AddressHistory()
        with black_hole("127.0.0.2", port):
            before = descriptors()
            ip, took = run(reach([at("127.0.0.2", port), at("127.0.0.1", port)], history))
            assert descriptors() <= before
        assert ip == "127.0.0.1"
        assert order.ATTEMPT_DELAY * 0.9 <= took < 5
        # it may answer yet: only slower than the other
        assert history.tried == {}

    def test_a_family_that_this_machine_has_not_costs_nothing(self, run, port):
        ip, took = run(reach([no_way(port), at("127.0.0.1", port)]))
        assert ip == "127.0.0.1"
        assert took < 5

    def test_what_says_most_is_the_error_where_all_fail(self, run, port):
        history = AddressHistory()
        with pytest.raises(ConnectionRefusedError):
            run(reach([no_way(port), at("127.0.0.2", port)], history))
        assert history.tried == {"fe80::1": "unreachable", "127.0.0.2": "refused"}

    def test_one_that_failed_before_does_not_win_by_being_near(self, run, port):
        history = AddressHistory()
        history.failed(at("127.0.0.1", port), "http")
        with black_hole("127.0.0.2", port):

            async def wait() -> None:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(2 * order.ATTEMPT_DELAY):
                        await opening.connect([at("127.0.0.1", port), at("127.0.0.2", port)], None, history)

            run(wait())

    def test_many_at_once_leave_no_descriptor(self, run, port):
        async def many() -> None:
            found = [at("127.0.0.2", port), no_way(port), at("127.0.0.1", port)]
            assert {ip for ip, _ in await asyncio.gather(*(reach(found) for _ in range(50)))} == {"127.0.0.1"}

        run(reach([at("127.0.0.1", port)]))
        before = descriptors()
        run(many())
        assert descriptors() <= before

    def test_one_that_had_hardly_any_time_has_not_failed(self, run):
        history = AddressHistory()
        with black_hole("127.0.0.2") as hole, black_hole("127.0.0.3", hole):

            async def wait() -> None:
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(1.5 * order.ATTEMPT_DELAY):
                        await opening.connect([at("127.0.0.2", hole), at("127.0.0.3", hole)], None, history)

            run(wait())
        assert history.tried == {"127.0.0.2": "timeout"}

    def test_the_time_is_shared_while_another_has_not_failed(self, port):
        history = AddressHistory()
        both = at("127.0.0.1", port), at("127.0.0.2", port)
        history.begin(both)
        assert opening.time_limit(history) == opening.CONNECT_TIMEOUT * opening.SHARE
        history.failed(both[0], "timeout")
        assert opening.time_limit(history) == opening.CONNECT_TIMEOUT
