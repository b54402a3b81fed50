"""`wsrec.connect(tls="ktls")` where the kernel decrypts: run by tests/receive/test_machine.py on other machines."""

from __future__ import annotations

import asyncio

import pytest

import wsrec
from tests.client.test_tls_modes import received
from wsrec.receive import ktls

pytestmark = [
    pytest.mark.usefixtures("core"),
    pytest.mark.skipif((refusal := ktls.unable()) is not None, reason=refusal.reason if refusal else ""),
]
# one of a byte, some to a record, and those that take several
SIZES = [1, *(n * 37 % 500 + 1 for n in range(200)), 16_384, 40_000, 300_000]


def test_every_message_is_decrypted_by_the_kernel(exchange, ca_file):
    sent = [f"{n}" + "x" * size for n, size in enumerate(SIZES)]

    async def handler(connection):
        for message in sent:
            await connection.send(message)

    connection, got = received(exchange(handler, tls=True).url, tls="ktls", ca_file=ca_file)
    assert got == sent
    assert connection.tls_mode == "ktls"
    assert connection.tls is not None
    assert connection.tls.version == "TLSv1.3"
    assert (connection.tls.kernel_rx or "").startswith("TLSv1.3 AES-256-GCM")


def test_what_is_sent_arrives(exchange, ca_file):
    async def handler(connection):
        async for message in connection:
            await connection.send(message)

    got: list[str] = []

    async def main() -> None:
        async with asyncio.timeout(60):
            answered = asyncio.Event()

            def on_message(message: wsrec.Message) -> None:
                got.append(message.text)
                if len(got) == 3:
                    answered.set()

            url = exchange(handler, tls=True).url
            async with wsrec.connect(url, on_message=on_message, tls="ktls", ca_file=ca_file) as connection:
                for text in ("a", "b" * 70_000, "c"):
                    connection.send(text)
                assert await connection.ping() > 0
                await answered.wait()

    asyncio.run(main())
    assert got == ["a", "b" * 70_000, "c"]
