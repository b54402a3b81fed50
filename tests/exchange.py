"""An exchange for tests: a real WebSocket server, by the `websockets` package, on loopback in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import trustme
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.extensions.base import ServerExtensionFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from tests.proxies import HOST

Handler = Callable[[ServerConnection], Awaitable[None]]


class Exchange:
    """Serves `handler` on a free port.

    Attributes:
        url: where it is, after `start`.
        connections: how many clients were accepted.
    """

    def __init__(self, handler: Handler, *, authority: trustme.CA | None = None, **options: Any) -> None:
        self.url = ""
        self.connections = 0
        self._handler = handler
        self._context = None
        if authority is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert("localhost", "127.0.0.1", HOST).configure_cert(self._context)
        self._options = {"compression": None, "ping_interval": None, "max_size": None, "close_timeout": 2, **options}
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    def start(self) -> None:
        self._thread.start()
        assert self._started.wait(60)

    def stop(self) -> None:
        assert self._loop is not None
        assert self._stopping is not None
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        async with serve(self._accept, "127.0.0.1", 0, ssl=self._context, **self._options) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            self.url = f"{'wss' if self._context else 'ws'}://localhost:{port}/stream"
            self._started.set()
            await self._stopping.wait()

    async def _accept(self, connection: ServerConnection) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionClosed):
            await self._handler(connection)


def sends(messages: list[Any]) -> Handler:
    """A handler that sends all of `messages` and closes with 1000."""

    async def handler(connection: ServerConnection) -> None:
        for message in messages:
            await connection.send(message)

    return handler


class Blast:
    """Sends ready-made bytes to one client as fast as it takes them, and waits for its answer to the close.

    Attributes:
        url: where it is.
    """

    def __init__(
        self, data: bytes, authority: trustme.CA, extensions: Sequence[ServerExtensionFactory] | None = None
    ) -> None:
        self._data = data
        self._extensions = extensions
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(self._context)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"wss://localhost:{self._listening.getsockname()[1]}/stream"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        plain, _ = self._listening.accept()
        with self._context.wrap_socket(plain, server_side=True) as client:
            protocol = ServerProtocol(extensions=self._extensions)
            while not (events := protocol.events_received()):
                protocol.receive_data(client.recv(65536))
            request = events[0]
            assert isinstance(request, Request)
            protocol.send_response(protocol.accept(request))
            client.sendall(b"".join(protocol.data_to_send()) + self._data)
            client.sendall(Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=False))
            client.recv(65536)

    def close(self) -> None:
        self._listening.close()
        self._thread.join(10)
