"""Closing handshakes of one reconnector's connections, which the end of the session may have to wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from wsrec import shutdown
from wsrec.receive.connection import Connection


class ClosingHandshakes:
    """Closes connections, and keeps those handshakes that may outlive what started them."""

    def __init__(self) -> None:
        self._running: dict[Connection, asyncio.Task[int | None]] = {}

    async def candidate(self, new: Connection) -> None:
        """Close a connection that does not take over; an end meanwhile waits for it."""
        self._running[new] = closing = asyncio.ensure_future(new.close())
        await asyncio.shield(closing)
        del self._running[new]
        new.tear_down()

    async def replaced(self, stop: asyncio.Future[Any], old: Connection, new: Connection) -> int | None:
        """Close the old one (see `Connection.close`); if the end arrives meanwhile, close the new one too."""
        closing = asyncio.ensure_future(old.close(shutdown.REPLACED_BACKLOG.seconds))
        await asyncio.wait((stop, closing), return_when=asyncio.FIRST_COMPLETED)
        if not closing.done() and new.connected and not new.ended:
            self._running[new] = asyncio.ensure_future(new.close())
        return await closing

    async def all(self, sides: Sequence[Connection]) -> dict[Connection, int | None]:
        """Close those that are open, at the session's end; returns what `Connection.close` does, by connection."""
        open_sides = [side for side in sides if side in self._running or (side.connected and not side.ended)]
        closing = (self._running.get(side) or side.close() for side in open_sides)
        return dict(zip(open_sides, await asyncio.gather(*closing), strict=True))
