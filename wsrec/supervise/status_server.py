"""The recorder's side of `wsrec status` (`wsrec.supervise.status_socket`): answers on the supervisor's event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import cast

import msgspec

from wsrec.supervise.state import RecorderState
from wsrec.supervise.status_socket import FORM, Answer, Header, address, peer
from wsrec.version import __version__

_MOST_AT_ONCE = 32
# a reader that takes nothing is dropped (s)
_PATIENCE = 5.0


class _Reader(asyncio.Protocol):
    def __init__(self, answer: Callable[[], bytes], connected: set[_Reader]) -> None:
        self._answer = answer
        self._connected = connected
        self._transport: asyncio.Transport | None = None
        self._limit: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if len(self._connected) >= _MOST_AT_ONCE:
            self._transport.abort()
            return
        self._connected.add(self)
        self._limit = asyncio.get_running_loop().call_later(_PATIENCE, self.abort)
        _, user = peer(transport.get_extra_info("socket"))
        if user in (os.getuid(), 0):
            self._transport.write(self._answer())
        else:
            refused = f"the recorder belongs to user {os.getuid()}, not to user {user}"
            self._transport.write(msgspec.json.encode(Header(form=FORM, version=__version__, refused=refused)))
        self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connected.discard(self)
        if self._limit is not None:
            self._limit.cancel()

    def abort(self) -> None:
        """Drop the reader."""
        if self._transport is not None:
            self._transport.abort()


@contextlib.asynccontextmanager
async def serving(out: Path, state: Callable[[], RecorderState]) -> AsyncIterator[None]:
    """Answer on the event loop while the context is open.

    Args:
        out: the output folder.
        state: returns the state now.

    Raises:
        OSError: no socket can be made.

    """

    def answer() -> bytes:
        return msgspec.json.encode(Answer(form=FORM, version=__version__, state=state()))

    connected = set[_Reader]()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(address(out, os.getpid()))
        listening.listen(_MOST_AT_ONCE)
        listening.setblocking(False)
        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(lambda: _Reader(answer, connected), sock=listening)
        try:
            yield
        finally:
            server.close()
            for each in list(connected):
                each.abort()
            # in which they close
            await asyncio.sleep(0)
