"""`wsrec.connect(wait=...)`: several connections in one loop, by each strategy."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest
import uvloop
from websockets.asyncio.server import ServerConnection

import wsrec
from tests.exchange import sends
from wsrec.client import loop_waiting

pytestmark = pytest.mark.usefixtures("core")
STRATEGIES = ("epoll", "spin", "adaptive")


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run])
@pytest.mark.parametrize("wait", STRATEGIES)
def test_connections_of_a_loop_take_turns(exchange, ca_file, wait, runner):
    sent = [f"message {number}" for number in range(200)]
    plain, secure = exchange(sends(sent)), exchange(sends(sent), tls=True)
    got: dict[int, list[str]] = {}
    shared: set[int] = set()

    def on_message(message: wsrec.Message) -> None:
        got.setdefault(id(message.connection), []).append(message.text)

    async def follow(url: str) -> wsrec.Connection:
        async with wsrec.connect(url, on_message=on_message, ca_file=ca_file, wait=wait) as connection:
            shared.add(id(connection._waiting))
            await connection.wait_closed()
        return connection

    async def main() -> list[wsrec.Connection]:
        ticks = asyncio.ensure_future(asyncio.sleep(0))
        async with asyncio.timeout(60):
            found = await asyncio.gather(*(follow(server.url) for server in [plain, secure] * 5))
        await ticks
        assert not loop_waiting._OF_LOOP[asyncio.get_running_loop()]
        return found

    connections = runner(main())
    assert [got[id(connection)] for connection in connections] == [sent] * 10
    assert len(shared) == 1


@pytest.mark.parametrize("wait", STRATEGIES)
def test_one_that_ends_leaves_the_others_running(exchange, wait):
    async def first(connection: ServerConnection) -> None:
        await connection.close(1011)

    async def second(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    short, long = exchange(first), exchange(second)
    got: list[str] = []

    async def main() -> None:
        async with (
            asyncio.timeout(60),
            wsrec.connect(long.url, on_message=lambda message: got.append(message.text), wait=wait) as echo,
        ):
            for number in range(3):
                async with wsrec.connect(short.url, on_message=lambda message: None, wait=wait) as ends:
                    with pytest.raises(wsrec.ConnectionClosed):
                        await ends.wait_closed()
                with pytest.raises(OSError, match="refused"):
                    await wsrec.connect("ws://127.0.0.1:1/", on_message=lambda message: None, wait=wait)
                echo.send(str(number))
                while len(got) <= number:
                    await asyncio.sleep(0.01)

    asyncio.run(main())
    assert got == ["0", "1", "2"]


def test_a_loop_that_is_gone_is_forgotten(exchange):
    server = exchange(sends(["a"]))

    async def main() -> weakref.ref[asyncio.AbstractEventLoop]:
        async with wsrec.connect(server.url, on_message=lambda message: None, wait="adaptive") as connection:
            await connection.wait_closed()
        return weakref.ref(asyncio.get_running_loop())

    loop = asyncio.run(main())
    gc.collect()
    assert loop() is None


def test_an_unknown_strategy_is_refused():
    with pytest.raises(ValueError, match="busy"):
        wsrec.connect("ws://localhost", on_message=print, wait="busy")
