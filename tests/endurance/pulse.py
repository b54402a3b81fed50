"""An exchange whose every message is known beforehand, so that missing messages of a recording have known numbers.

It runs as a process of its own, so that it goes on while others are killed: `python -m tests.endurance.pulse RATE
[CERTIFICATE]` (a PEM file with the key, for TLS) prints a JSON line with its URL and its beginning, and then takes a
word a line on standard input, which strikes all clients that are connected: `rst`, `fin` (in the middle of a frame),
`silent` (nothing more, not even a pong, and no end), `close`, `notice` (a message that announces the end), or `hold
SECONDS`, which delays the handshakes from then on.

Message k of symbol s is number k * len(SYMBOLS) + s, and due at `began` + number / rate: to every client that is there
then, as a stream that goes on whether somebody listens or not.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

SYMBOLS = ("AAA", "BBB", "CCC", "DDD", "EEE")
TICK = 0.005
# from the notice of the end to the end, s
_NOTICE = 8.0
# a client that takes this much behind is cut off, as exchanges do
_BEHIND_MAX = 64 << 20
_PADDING = "0123456789" * 18

FEED = """\
name: pulse
description: the test's own exchange
sockets: {{stream: {{url: "{url}"}}}}
symbols: {{pattern: '[A-Z]{{3}}', words: three letters, example: AAA}}
default_symbols: [AAA, BBB, CCC, DDD, EEE]
subscribe: {{message: '{{"method":"SUBSCRIBE","params":{{topics}},"id":{{id}}}}', batch: 100}}
limits: {{streams_per_connection: 100, messages_per_second: 100, connects: 1000, connects_interval: 10{limits}}}
ack: {{id: id, error_code: [error.code], error_message: [error.msg]}}
fields: {{channel: [e], symbol: [s], exchange_time: [T], time_unit: ns}}
channels:
  trade: {{topic: "{{symbol}}@trade", default: true, exchange_seq: [n], sequence: next{channel}}}
{more}"""


def payload(number: int, began: int, rate: int) -> bytes:
    """The message of this number (`began`: ns since the epoch)."""
    symbol, count = SYMBOLS[number % len(SYMBOLS)], number // len(SYMBOLS)
    when = began + number * 1_000_000_000 // rate
    return b'{"e":"trade","s":"%s","n":%d,"T":%d,"x":"%s"}' % (symbol.encode(), count, when, _PADDING.encode())


def frame(data: bytes) -> bytes:
    return struct.pack(">BBH", 0x81, 126, len(data)) + data


class Pulse:
    """The exchange, in its process."""

    def __init__(self, rate: int, certificate: str | None = None) -> None:
        self._rate = rate
        self._context: ssl.SSLContext | None = None
        if certificate is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(certificate)
        self._clients: dict[ServerConnection, str] = {}
        self._hold = 0.0
        self._began = time.time_ns()
        self._origin = time.monotonic_ns()

    async def run(self) -> None:
        async with serve(
            self._serve,
            "127.0.0.1",
            0,
            ssl=self._context,
            compression=None,
            ping_interval=None,
            close_timeout=1,
            process_request=self._delay,
        ) as server:
            self._send(server)
            reader = asyncio.StreamReader()
            await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
            while line := await reader.readline():
                await self._strike(*line.decode().split())
            os._exit(0)

    def _send(self, server: Server) -> None:
        port = next(iter(server.sockets)).getsockname()[1]
        scheme = "ws" if self._context is None else "wss"
        print(json.dumps({"url": f"{scheme}://localhost:{port}/stream", "began": self._began}), flush=True)

    def _due(self) -> int:
        return (time.monotonic_ns() - self._origin) * self._rate // 1_000_000_000

    async def _delay(self, _connection: object, _request: object) -> None:
        await asyncio.sleep(self._hold)

    async def _serve(self, connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            requested = json.loads(await connection.recv())
            # a client with a confirmed subscription gets all messages from then on, however busy the machine is
            number = self._due()
            await connection.send(json.dumps({"result": None, "id": requested["id"]}))
            self._clients[connection] = ""
            print(json.dumps({"opened": time.time_ns()}), flush=True)
            listening = asyncio.ensure_future(self._listen(connection))
            try:
                await self._pulse(connection, number)
            finally:
                listening.cancel()
                self._clients.pop(connection, None)

    @staticmethod
    async def _listen(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for requested in connection:
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    await connection.send(json.dumps({"result": None, "id": json.loads(requested)["id"]}))

    async def _pulse(self, connection: ServerConnection, number: int) -> None:
        transport = connection.transport
        while not transport.is_closing():
            due = self._due()
            if not self._clients.get(connection):
                try:
                    transport.write(b"".join(frame(payload(n, self._began, self._rate)) for n in range(number, due)))
                except RuntimeError:
                    # the client has left meanwhile
                    return
            number = due
            if transport.get_write_buffer_size() > _BEHIND_MAX:
                transport.abort()
            await asyncio.sleep(TICK)

    async def _strike(self, word: str, *arguments: str) -> None:
        if word == "hold":
            self._hold = float(arguments[0])
        for connection in list(self._clients):
            transport = connection.transport
            if word == "rst":
                transport.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
                transport.abort()
            elif word == "fin":
                self._clients[connection] = "fin"
                transport.write(frame(b"x" * 1000)[:500])
                transport.close()
            elif word == "silent":
                self._clients[connection] = "silent"
                transport.pause_reading()
            elif word == "close":
                asyncio.ensure_future(self._close(connection))  # noqa: RUF006 (ends with its client)
            elif word == "notice":
                await connection.send('{"event":"serverShutdown"}')
                asyncio.get_running_loop().call_later(_NOTICE, transport.abort)

    async def _close(self, connection: ServerConnection) -> None:
        # nothing more at the moment of the close frame: what is due before it must be sent before it
        self._clients[connection] = "close"
        await connection.close(1012, "service restart")


class PulseExchange:
    """The same, as the process that starts and strikes it sees it.

    Args:
        rate: messages a second.
        certificate: PEM file with the key, for TLS.

    Attributes:
        url: where it is.
        began: ns since the epoch at which number 0 was due.
        rate: messages a second.
        opened: when it began to send to each client, ns since the epoch.

    """

    def __init__(self, rate: int, certificate: Path | None = None) -> None:
        self.rate = rate
        self.opened: list[int] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.endurance.pulse", str(rate), *([] if certificate is None else [certificate])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert self._process.stdout is not None
        reported = json.loads(self._process.stdout.readline())
        self.url: str = reported["url"]
        self.began: int = reported["began"]
        threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True).start()

    def _listen(self, lines: IO[str]) -> None:
        for line in lines:
            self.opened.append(json.loads(line)["opened"])

    def strike(self, word: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(word + "\n")
        self._process.stdin.flush()

    def number_at(self, when: int) -> int:
        """The first number that is due at this time or later (ns since the epoch)."""
        return -(-(when - self.began) * self.rate // 1_000_000_000)

    def due(self, number: int) -> int:
        """When a number is due (ns since the epoch)."""
        return self.began + number * 1_000_000_000 // self.rate

    def feed(self, *, limits: str = "", channel: str = "", more: str = "") -> str:
        """The feed's YAML."""
        return FEED.format(url=self.url, limits=limits, channel=channel, more=more)

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()


if __name__ == "__main__":
    asyncio.run(Pulse(int(sys.argv[1]), *sys.argv[2:]).run())
