"""A WebSocket server that acts as an exchange.

Each client has three parts: a reader that answers its requests, an exchange that plays to it, and `Client.send`,
    through which both reach the socket. At most one batch (64 KiB) and the transport's write buffer are held for a
    client: when it reads slowly, only its own `Client.send` waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Sequence
from typing import Protocol
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection
from websockets.asyncio.server import serve as websockets_serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.protocol import State

from wsrec.replay.message import Message, SourceError
from wsrec.replay.requests import Subscriptions
from wsrec.units import plural, system_error

BATCH_MESSAGES = 256
BATCH_BYTES = 64 << 10

_MAX_REQUEST = 64 << 10  # bytes; a subscription of 1024 streams fits
_WRITE_LIMIT = 64 << 10  # bytes buffered for a client before `send` waits
_CLOSE_TIMEOUT = 2.0  # s for a client to answer the close frame

log = logging.getLogger("wsrec.replay")
_library_log = logging.getLogger("wsrec.replay.websockets")
_library_log.setLevel(logging.CRITICAL)  # it logs a traceback, with the client's data, for every failed handshake


class ServeError(Exception):
    """The server cannot listen on the given address."""


class Exchange(Protocol):
    """The content played to the clients."""

    async def play(self, client: Client) -> None:
        """Send to one client until the end of the content; cancelled when the client disconnects."""

    def subscribed(self, client: Client) -> None:
        """The client's subscriptions have changed."""


class Client:
    """One connected client.

    Attributes:
        number: from 1, in order of connecting.
        bare: whether it requested payloads without the combined-stream envelope (`/ws/...`).
        messages: messages sent.
        acks: replies sent; logged separately, so that tests can distinguish them.
        seconds: from connecting to the last message (without the closing handshake).

    """

    def __init__(self, number: int, connection: ServerConnection) -> None:
        self.number = number
        self.subscriptions = Subscriptions()
        self.first_subscription = asyncio.Event()
        self.messages = 0
        self.payload_bytes = 0
        self.acks = 0
        self.seconds = 0.0
        self._clock = asyncio.get_running_loop().time
        self._start = self._clock()
        self._connection = connection
        assert connection.request is not None
        url = urlsplit(connection.request.path)
        folders = url.path.strip("/").split("/")
        self.bare = "ws" in folders
        streams = parse_qs(url.query).get("streams", [""])[0].split("/")
        if self.bare:
            streams += folders[folders.index("ws") + 1 :]
        self.subscriptions.streams.update(dict.fromkeys(filter(None, streams)))
        if self.subscriptions.streams:
            self.first_subscription.set()

    @property
    def buffered(self) -> int:
        """Bytes in the transport's buffer that the client has not read."""
        return self._connection.transport.get_write_buffer_size()

    async def send(self, batch: Sequence[Message]) -> None:
        """Send messages in order, a frame each, and wait until the client has room for more.

        Raises:
            websockets.exceptions.ConnectionClosed: the client has disconnected.

        """
        *most, last = batch
        protocol = self._connection.protocol
        if most and protocol.state is State.OPEN:
            for message in most:
                (protocol.send_text if message.opcode == "text" else protocol.send_binary)(message.payload)
            # one write for the batch: one system call, and one TLS record per 16 KiB instead of one per message
            self._connection.transport.write(b"".join(protocol.data_to_send()))
        await self._connection.send(last.payload, text=last.opcode == "text")
        self.messages += len(batch)
        self.payload_bytes += sum(len(message.payload) for message in batch)
        self.seconds = self._clock() - self._start
        await asyncio.sleep(0)  # a fast client must not starve the others

    async def close(self, code: CloseCode, reason: str) -> None:
        """Close the connection, waiting a short time for the client's reply."""
        await self._connection.close(code, reason)

    def abort(self) -> None:
        """Abort the connection: a client that reads nothing would not read a close frame either."""
        self._connection.transport.abort()

    async def answer_requests(self, exchange: Exchange) -> None:
        """Answer the client's requests, until the connection is closed."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                answer = self.subscriptions.answer(await self._connection.recv(decode=False))
                await self._connection.send(answer.reply, text=True)
                self.acks += 1
                exchange.subscribed(self)
                if answer.subscribed:
                    self.first_subscription.set()


class ReplayServer:
    """A running server.

    Attributes:
        url: base URL without a path (any path is served).
        clients: the connected clients.
        failed: completed with the exception when the exchange cannot go on.

    """

    def __init__(self, exchange: Exchange, *, wait_subscribe: bool) -> None:
        self.url = ""
        self.clients: list[Client] = []
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._exchange = exchange
        self._wait_subscribe = wait_subscribe
        self._count = 0

    async def handle(self, connection: ServerConnection) -> None:
        """Serve one client until it or the exchange ends."""
        self._count += 1
        client = Client(self._count, connection)
        self.clients.append(client)
        log.info("client %d connected", client.number)
        reader = asyncio.create_task(client.answer_requests(self._exchange))
        player = asyncio.create_task(self._play(client))
        try:
            await asyncio.wait([reader, player], return_when=asyncio.FIRST_COMPLETED)
        finally:
            player.cancel()
            reader.cancel()
            await asyncio.gather(reader, player, return_exceptions=True)
            self.clients.remove(client)
            seconds = client.seconds
            log.info(
                "client %d done: %s (%.1f MB) in %.2f s, %.0f messages/s; %s",
                client.number,
                plural(client.messages, "message"),
                client.payload_bytes / 1e6,
                seconds,
                client.messages / seconds if seconds else 0,
                plural(client.acks, "acknowledgement"),
            )

    async def _play(self, client: Client) -> None:
        try:
            if self._wait_subscribe:
                await client.first_subscription.wait()
            await self._exchange.play(client)
            await client.close(CloseCode.NORMAL_CLOSURE, "end of the recording")
        except ConnectionClosed:
            pass
        except Exception as error:  # noqa: BLE001 - reported to the owner of the server
            if not self.failed.done():
                self.failed.set_exception(error)
            reason = "the recording is damaged" if isinstance(error, SourceError) else "internal error"
            await client.close(CloseCode.INTERNAL_ERROR, reason)


@contextlib.asynccontextmanager
async def serve(
    exchange: Exchange,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    tls: ssl.SSLContext | None = None,
    wait_subscribe: bool = False,
    ping_interval: float | None = None,
) -> AsyncIterator[ReplayServer]:
    """Serve an exchange until the context ends; then every client is closed with 1001.

    Args:
        exchange: what to play.
        host: address to listen on.
        port: 0 for a free one.
        tls: serve `wss://` with this context.
        wait_subscribe: play to a client only after its first subscription.
        ping_interval: s between protocol pings; None: none.

    Raises:
        ServeError: cannot listen on the address.

    """
    server = ReplayServer(exchange, wait_subscribe=wait_subscribe)
    try:
        listener: Server = await websockets_serve(
            server.handle,
            host,
            port,
            ssl=tls,
            compression=None,
            ping_interval=ping_interval,
            close_timeout=_CLOSE_TIMEOUT,
            max_size=_MAX_REQUEST,
            write_limit=_WRITE_LIMIT,
            logger=_library_log,
        )
    except (OSError, OverflowError) as error:
        raise ServeError(f"cannot listen on {host} port {port}: {system_error(error)}") from error
    async with listener:
        name = f"[{host}]" if ":" in host else host
        server.url = f"{'wss' if tls else 'ws'}://{name}:{listener.sockets[0].getsockname()[1]}"
        try:
            yield server
        finally:
            listener.close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(listener.wait_closed(), 2 * _CLOSE_TIMEOUT)
            for client in server.clients:  # clients that read nothing, not even the close frame
                client.abort()
            if server.failed.done():
                server.failed.exception()  # mark it as retrieved, to avoid asyncio's warning
