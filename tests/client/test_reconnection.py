"""`async for connection in wsrec.connect(...)`: another connection whenever one ends, against real servers."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import uvloop
from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

import wsrec
from wsrec.client import connecting, reconnection
from wsrec.host.privilege import Refusal

pytestmark = pytest.mark.usefixtures("core")
LOG = "wsrec.client"


def run(main: Any) -> Any:
    async def limited() -> Any:
        async with asyncio.timeout(60):
            return await main

    return asyncio.run(limited())


def scripted(*visits: Callable[[ServerConnection], Any]) -> Callable[[ServerConnection], Any]:
    """A handler that serves each client by the next of `visits`, and further ones by the last."""
    left = list(visits)

    async def serve(connection: ServerConnection) -> None:
        await (left.pop(0) if len(left) > 1 else left[0])(connection)

    return serve


def sending(*messages: str, code: int = 1000) -> Callable[[ServerConnection], Any]:
    async def serve(connection: ServerConnection) -> None:
        for message in messages:
            await connection.send(message)
        await connection.close(code)

    return serve


@pytest.fixture
def delays(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The delays before further attempts, which take no time here."""
    found: list[float] = []

    async def sleep(seconds: float) -> None:
        found.append(seconds)

    monkeypatch.setattr(reconnection, "_sleep", sleep)
    return found


class TestIteration:
    @pytest.mark.parametrize("runner", [asyncio.run, uvloop.run])
    def test_the_body_runs_once_for_each_connection(self, exchange, runner, delays):
        server = exchange(scripted(sending("a", code=1012), sending("b"), sending("c", "d", code=1006 + 5)))
        got: list[str] = []
        opened = 0

        async def main() -> None:
            nonlocal opened
            async for connection in wsrec.connect(server.url, on_message=lambda message: got.append(message.text)):
                opened += 1
                if opened == 4:
                    break
                with suppress(wsrec.ConnectionClosed):
                    connection.send("subscribe")

        runner(main())
        assert got[:4] == ["a", "b", "c", "d"]
        # the last one may not have reached the handler yet
        assert opened == 4
        assert server.connections >= 3
        # each had delivered messages: the next is opened at once
        assert len(delays) == 3
        assert max(delays) <= 0.1

    def test_the_body_may_wait_for_the_end_itself(self, exchange, delays):
        server = exchange(sending("a", code=1011))
        codes: list[int] = []

        async def main() -> None:
            async for connection in wsrec.connect(server.url, on_message=lambda message: None):
                try:
                    await connection.wait_closed()
                except wsrec.ConnectionClosed as closed:
                    codes.append(closed.code)
                if len(codes) == 3:
                    return

        run(main())
        assert codes == [1011] * 3

    def test_it_ends_when_the_body_closes(self, exchange, delays):
        async def forever(connection: ServerConnection) -> None:
            await connection.wait_closed()

        server = exchange(forever)

        async def main() -> int:
            opened = 0
            async for connection in wsrec.connect(server.url, on_message=lambda message: None):
                opened += 1
                await connection.close()
            return opened

        assert run(main()) == 1
        assert server.connections == 1

    def test_connections_that_bring_nothing_are_opened_ever_more_rarely(self, exchange, delays):
        server = exchange(sending())

        async def main() -> None:
            async for _ in wsrec.connect(server.url, on_message=lambda message: None):
                if len(delays) == 5:
                    break

        run(main())
        assert all(0.25 * 2**n <= delay <= 0.5 * 2**n for n, delay in enumerate(delays))

    def test_a_break_closes_the_connection(self, exchange):
        closed = asyncio.Event()

        async def forever(connection: ServerConnection) -> None:
            await connection.wait_closed()
            codes.append(connection.close_code)
            closed.set()

        codes: list[int | None] = []
        server = exchange(forever)

        async def main() -> None:
            async for _ in wsrec.connect(server.url, on_message=lambda message: None):
                break
            while not codes:
                await asyncio.sleep(0.01)

        run(main())
        assert codes == [1000]

    def test_an_exception_of_the_callback_ends_it(self, exchange, delays):
        server = exchange(sending("a"))

        def fails(message: wsrec.Message) -> None:
            raise ZeroDivisionError("mine")

        async def main() -> None:
            async for _ in wsrec.connect(server.url, on_message=fails):
                pass

        with pytest.raises(ZeroDivisionError, match="mine"):
            run(main())
        assert server.connections == 1


class TestFailures:
    def test_a_server_that_is_down_is_tried_again(self, exchange, delays, caplog):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            url = f"ws://127.0.0.1:{taken.getsockname()[1]}/key/hunter22?token=hunter22"

            async def main() -> None:
                async for _ in wsrec.connect(url, on_message=lambda message: None):
                    raise AssertionError("connected")

            async def until_tried() -> None:
                task = asyncio.ensure_future(main())
                while len(delays) < 4 and not task.done():
                    await asyncio.sleep(0.01)
                task.cancel()

            caplog.set_level(logging.INFO, LOG)
            run(until_tried())
        assert all(0.25 * 2**n <= delay <= 0.5 * 2**n for n, delay in enumerate(delays[:4]))
        assert "refused" in caplog.messages[0]
        assert "connecting again in" in caplog.messages[0]
        assert "hunter22" not in caplog.text

    def test_what_retrying_cannot_help_is_raised(self, exchange, delays):
        def refuse(connection: ServerConnection, request: Request) -> Response:
            return connection.respond(404, f"no such path: {request.path}")

        async def never(connection: ServerConnection) -> None:
            raise AssertionError("opened")

        server = exchange(never, process_request=refuse)

        async def main() -> None:
            async for _ in wsrec.connect(server.url, on_message=lambda message: None):
                pass

        with pytest.raises(wsrec.HandshakeRefused) as refused:
            run(main())
        assert refused.value.status == 404
        assert delays == []

    def test_a_limit_of_the_rate_is_kept(self, exchange, delays, caplog):
        refusals = iter([True])

        def refuse(connection: ServerConnection, request: Request) -> Response | None:
            if not next(refusals, False):
                return None
            response = connection.respond(429, f"too many: {request.path}")
            response.headers["Retry-After"] = "77"
            return response

        server = exchange(sending("a"), process_request=refuse)

        async def main() -> None:
            async for _ in wsrec.connect(f"{server.url}?key=hunter22", on_message=lambda message: None):
                break

        caplog.set_level(logging.INFO, LOG)
        run(main())
        assert delays[0] >= 77
        assert "429" in caplog.messages[0]
        assert "hunter22" not in caplog.text

    def test_an_untrusted_certificate_is_raised(self, exchange, delays):
        server = exchange(sending("a"), tls=True)

        async def main() -> None:
            async for _ in wsrec.connect(server.url, on_message=lambda message: None):
                pass

        with pytest.raises(OSError, match="certificate"):
            run(main())
        assert delays == []


class TestOptions:
    def test_a_logger_of_the_callers_own(self, exchange):
        lines: list[str] = []

        class Handler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                lines.append(record.getMessage())

        logger = logging.Logger("mine", logging.INFO)
        logger.addHandler(Handler())
        server = exchange(sending("a"))

        async def main() -> None:
            async with wsrec.connect(server.url, on_message=lambda message: None, logger=logger) as connection:
                await connection.wait_closed()

        run(main())
        assert lines[0].startswith("connected to ws://localhost:")
        assert "/stream" not in lines[0]

    def test_cpu_is_that_of_the_thread_that_runs_the_loop(self, exchange):
        before = os.sched_getaffinity(0)
        cpu = min(before)
        server = exchange(sending("a"))
        seen: list[set[int]] = []

        async def main() -> None:
            async with wsrec.connect(
                server.url, on_message=lambda message: seen.append(os.sched_getaffinity(0)), cpu=cpu
            ) as connection:
                await connection.wait_closed()

        try:
            run(main())
        finally:
            os.sched_setaffinity(0, before)
        assert seen == [{cpu}]

    def test_what_the_system_refuses_is_logged(self, exchange, caplog, monkeypatch):
        monkeypatch.setattr(connecting.privilege, "realtime", lambda priority: Refusal("FIFO", "not allowed", "ask"))
        server = exchange(sending("a"))

        async def main() -> None:
            async with wsrec.connect(
                server.url, on_message=lambda message: None, cpu=1 << 20, rt_priority=5
            ) as connection:
                await connection.wait_closed()

        run(main())
        assert caplog.messages[0].startswith(f"running on processor {1 << 20} only was refused: ")
        assert caplog.messages[1] == "FIFO was refused: not allowed; ask"
