"""`wsrec.connect(tls=...)`: each mode, and what takes the place of one that is not possible."""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection

import wsrec
from tests.exchange import sends
from wsrec.client import connecting
from wsrec.receive import ktls
from wsrec.receive.direct import UnknownToDirectError
from wsrec.receive.tls import Refusal
from wsrec.tls import libcrypto

pytestmark = pytest.mark.usefixtures("core")


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
                connection._on_end(UnknownToDirectError(1, "the server sent what only OpenSSL knows"))
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
