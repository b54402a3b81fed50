"""wsrec.receive.transport: a plain socket."""

from __future__ import annotations

import asyncio
import socket

from tests.receive.conftest import readable, tcp_pair
from wsrec.receive.transport import PlainTransport
from wsrec.stages import StampSource


class TestPlain:
    def test_reads_into_what_it_is_given(self):
        server, client = tcp_pair()
        client.setblocking(False)

        async def run():
            transport = PlainTransport(client, stamped=False)
            into = memoryview(bytearray(1 << 16))
            try:
                assert transport.read(into) is None
                server.sendall(b"hello")
                await readable(transport)
                assert transport.read(into) == 5
                assert (bytes(into[:5]), transport.read_bytes) == (b"hello", 5)
                assert transport.source is StampSource.NONE_UNSUPPORTED
                server.shutdown(socket.SHUT_WR)
                await readable(transport)
                assert transport.read(into) == 0
            finally:
                transport.close()
                transport.close()

        with server:
            asyncio.run(run())
