"""`wsrec.connect(tls=...)`: each mode, and what takes the place of one that is not possible."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

import wsrec
from tests.exchange import sends
from tests.receive.conftest import frame
from tests.receive.test_receiver import RawExchange, answer
from wsrec.client import connecting
from wsrec.receive import ktls
from wsrec.receive.direct import UnknownToDirectError
from wsrec.receive.tls import Refusal
from wsrec.tls import libcrypto

pytestmark = pytest.mark.usefixtures("core")


class BufferedTls:
    """A server's end of TLS that sends nothing before `flush`: each `sendall` is a record of its own."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._sock, self._in, self._out = sock, ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)
        self._wait(self._tls.do_handshake)
        self.flush()

    def sendall(self, data: bytes) -> None:
        self._tls.write(data)

    def flush(self) -> None:
        self._sock.sendall(self._out.read())

    def recv(self, size: int) -> bytes:
        return self._wait(lambda: self._tls.read(size))

    def _wait(self, step: Callable[[], Any]) -> Any:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self.flush()
                self._in.write(self._sock.recv(1 << 16))


def received(url: str, **options: Any) -> tuple[wsrec.Connection, list[str]]:
    got: list[str] = []

    async def main() -> wsrec.Connection:
        async with (
            asyncio.timeout(60),
            wsrec.connect(url, on_message=lambda message: got.append(message.text), **options) as connection,
        ):
            await connection.wait_closed()
        return connection

    return asyncio.run(main()), got


@pytest.mark.parametrize("mode", ["auto", "direct", "stamped", "openssl"])
def test_the_mode_is_the_one_that_was_asked_for(exchange, ca_file, mode):
    connection, got = received(exchange(sends(["a", "b"]), tls=True).url, tls=mode, ca_file=ca_file)
    assert got == ["a", "b"]
    assert connection.tls_mode == ("direct" if mode == "auto" and libcrypto.unavailable() is None else mode)


@pytest.mark.parametrize("mode", ["direct", "stamped"])
def test_the_connection_lingers_after_the_callbacks_error_whatever_the_server_goes_on_to_send(authority, ca_file, mode):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    seen: list[object] = []

    def serve(sock: socket.socket) -> None:
        stream = BufferedTls(sock, context)
        answer(stream, frame(1, b"data"))
        stream.flush()
        close = stream.recv(100)
        try:
            for _ in range(50):
                # many records to a read
                for _ in range(20):
                    stream.sendall(frame(1, b"more"))
                stream.flush()
                time.sleep(0.001)
            sock.shutdown(socket.SHUT_WR)
            seen.append((len(close), sock.recv(100)))
        except OSError as error:
            seen.append(error)

    def fail(message: wsrec.Message) -> None:
        raise ZeroDivisionError

    async def main(url: str) -> None:
        async with asyncio.timeout(60):
            connection = await wsrec.connect(url, on_message=fail, tls=mode, ca_file=ca_file, close_timeout=50)
            with pytest.raises(ZeroDivisionError):
                await connection.wait_closed()

    with RawExchange(serve) as server:
        asyncio.run(main(server.url.replace("ws:", "wss:")))
    # our close frame, 1011 without a reason, and then the end that followed the server's
    assert seen == [(8, b"")]


def test_without_tls_there_is_no_mode(exchange):
    connection, _ = received(exchange(sends(["a"])).url, tls="direct")
    assert connection.tls_mode is None


def test_what_the_kernel_cannot_do_is_replaced_and_logged(exchange, ca_file, caplog, monkeypatch):
    monkeypatch.setattr(ktls, "unable", lambda: Refusal("the kernel has no TLS", "load it"))
    caplog.set_level(logging.INFO, "wsrec.client")
    connection, got = received(exchange(sends(["a"]), tls=True).url, tls="ktls", ca_file=ca_file)
    assert got == ["a"]
    assert connection.tls_mode == "stamped"
    assert caplog.messages[0] == "tls=ktls is not possible, using stamped: the kernel has no TLS"


def test_a_server_that_sends_what_direct_does_not_know_is_read_by_openssl_from_then_on(exchange, ca_file, monkeypatch):
    async def waits(connection: ServerConnection) -> None:
        await connection.wait_closed()

    server = exchange(waits, tls=True)
    modes: list[str | None] = []

    async def main() -> None:
        async for connection in wsrec.connect(
            server.url, on_message=lambda message: None, tls="direct", ca_file=ca_file
        ):
            modes.append(connection.tls_mode)
            if len(modes) == 1:
                connection._on_end(UnknownToDirectError("the server sent what only OpenSSL knows", None))
            elif len(modes) == 2:
                break

    async def limited() -> None:
        async with asyncio.timeout(60):
            await main()

    asyncio.run(limited())
    assert modes == ["direct", "stamped"]


def test_a_ca_file_that_is_none_fails_when_awaited(tmp_path):
    with pytest.raises(OSError, match=r"none\.pem"):
        received("wss://localhost:1/", ca_file=tmp_path / "none.pem")


def test_the_key_logs_are_closed_with_the_last_use(exchange, ca_file):
    server = exchange(sends(["a"]), tls=True)

    async def main() -> ssl.SSLContext:
        made = wsrec.connect(server.url, on_message=lambda message: None, tls="direct", ca_file=ca_file)
        assert isinstance(made, connecting.Connecting)
        async with made as connection:
            await connection.wait_closed()
        assert made._choice is not None
        return made._choice._policy.direct_context

    context = asyncio.run(main())
    assert context.keylog_filename is None
