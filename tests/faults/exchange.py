"""An exchange that fails on order: it counts for all its clients alike, over TLS, behind a proxy that can stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

import trustme
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.protocol import State

# A fatal alert (handshake_failure) as a record in the clear, RFC 8446 section 6
ALERT = bytes.fromhex("15030300020228")


class FaultyExchange:
    """Counts `period` seconds apart and sends each number to every client.

    Args:
        authority: issues its certificate.
        period: seconds between two numbers.
        lifetime: seconds after which every connection is cut; None for never.
        host: the address to listen on.
        name: the host of its URL, and of its certificate.

    Attributes:
        sent_at: when each number was sent (ns since the epoch), by the number.
        clients: every client that was ever accepted, in order.
        requested: number of handshake requests that were answered, refusals included.

    """

    def __init__(
        self,
        authority: trustme.CA,
        *,
        period: float = 0.005,
        lifetime: float | None = None,
        host: str = "127.0.0.1",
        name: str = "localhost",
    ) -> None:
        self.url = ""
        self.sent_at: list[int] = []
        self.clients: list[ServerConnection] = []
        self.requested: list[float] = []
        self._period = period
        self._lifetime = lifetime
        self._host = host
        self._name = name
        self._muted: set[ServerConnection] = set()
        self._mute_next = False
        self._refusals = 0
        self._pipes: list[tuple[asyncio.StreamWriter, list[bool]]] = []
        self._backs: list[asyncio.StreamWriter] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(self._context)
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def __enter__(self) -> FaultyExchange:
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(10)

    def inject(self, fault: Callable[[FaultyExchange], None]) -> int:
        """Have a fault happen; when it did (ns since the epoch)."""
        done = threading.Event()
        moments: list[int] = []

        def act() -> None:
            moments.append(time.time_ns())
            fault(self)
            done.set()

        self._loop.call_soon_threadsafe(act)
        assert done.wait(10)
        return moments[0]

    # the faults, of the client that came last

    def reset(self) -> None:
        """RST (SO_LINGER of 0)."""
        self._abort(self.clients[-1])

    def finish_in_a_frame(self) -> None:
        """FIN, after half a frame."""
        transport = self.clients[-1].transport
        transport.write(b"\x81\x7e\x01\x00half of it")
        transport.close()

    def stand_still(self) -> None:
        """Forward nothing more, in either direction, and close nothing: the peer's kernel goes on to acknowledge."""
        self._pipes[-1][1].append(True)

    def alert(self) -> None:
        """A fatal TLS alert among the records."""
        self._pipes[-1][0].write(ALERT)

    def go_silent(self) -> None:
        """Send no more data; pings are answered."""
        self._muted.add(self.clients[-1])

    def refuse_next(self) -> None:
        """RST, and 429 with Retry-After: 2 for the next two attempts."""
        self._refusals = 2
        self.reset()

    def announce(self) -> None:
        """Announce that the connection will be closed, and close it 10 s later."""
        last = self.clients[-1]
        self._sending = asyncio.ensure_future(last.send(json.dumps({"e": "serverShutdown"})))
        self._loop.call_later(10.0, self._abort, last)

    def deafen(self) -> None:
        """Announce that the connection will be closed in 4 s; the next one is silent, and closed 2 s after that."""
        last = self.clients[-1]
        self._mute_next = True
        self._sending = asyncio.ensure_future(last.send(json.dumps({"e": "serverShutdown"})))
        self._loop.call_later(4.0, self._abort, last)
        self._loop.call_later(6.0, lambda: self._abort(self.clients[-1]))

    def close(self) -> None:
        """A closing handshake with 1001, as before a restart."""
        self._sending = asyncio.ensure_future(self.clients[-1].close(1001, "restart"))

    def nothing(self) -> None:
        """What fails does so by itself."""

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        options: dict[str, Any] = {"compression": None, "ping_interval": None, "close_timeout": 1}
        async with serve(
            self._accept, "127.0.0.1", 0, ssl=self._context, process_request=self._on_request, **options
        ) as server:
            self._port = next(iter(server.sockets)).getsockname()[1]
            proxy = await asyncio.start_server(self._forward, self._host, 0)
            self.url = f"wss://{self._name}:{proxy.sockets[0].getsockname()[1]}/stream"
            counting = asyncio.ensure_future(self._count())
            self._started.set()
            await self._stopping.wait()
            counting.cancel()
            proxy.close()
            for writer in [*(pipe[0] for pipe in self._pipes), *self._backs]:
                writer.transport.abort()
            # until the transports are gone
            await asyncio.sleep(0.05)

    def _on_request(self, connection: ServerConnection, request: Request) -> Response | None:
        self.requested.append(time.monotonic())
        if not self._refusals:
            return None
        self._refusals -= 1
        response = connection.respond(429, "slow down")
        response.headers["Retry-After"] = "2"
        return response

    async def _accept(self, connection: ServerConnection) -> None:
        self.clients.append(connection)
        if self._mute_next:
            self._mute_next = False
            self._muted.add(connection)
        if self._lifetime is not None:
            self._loop.call_later(self._lifetime, self._abort, connection)
        with contextlib.suppress(ConnectionClosed):
            async for message in connection:
                requested = json.loads(message)
                await connection.send(json.dumps({"result": None, "id": requested["id"]}))

    async def _count(self) -> None:
        due = self._loop.time()
        while True:
            due += self._period
            await asyncio.sleep(due - self._loop.time())
            text = json.dumps({"stream": "x@n", "data": {"s": "X", "n": len(self.sent_at)}})
            self.sent_at.append(time.time_ns())
            for client in self.clients:
                if client.state is State.OPEN and client not in self._muted:
                    with contextlib.suppress(ConnectionClosed):
                        await client.send(text)

    def _abort(self, connection: ServerConnection) -> None:
        # the proxy's end is what the recorder sees
        sock = connection.transport.get_extra_info("socket")
        if sock is not None and sock.fileno() >= 0:
            port = connection.transport.get_extra_info("peername")[1]
            for writer, _ in self._pipes:
                if getattr(writer, "behind", None) == port:
                    client = writer.get_extra_info("socket")
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    writer.transport.abort()
            connection.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frozen: list[bool] = []
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        writer.behind = back.get_extra_info("sockname")[1]  # type: ignore[attr-defined]
        self._pipes.append((writer, frozen))
        self._backs.append(back)

        async def pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while data := await source.read(65536):
                    if frozen:
                        await self._stopping.wait()
                        return
                    sink.write(data)
                    await sink.drain()
                if not frozen:
                    sink.close()

        await asyncio.gather(pipe(reader, back), pipe(there, writer))
