"""The closing handshake of a connection: reads what the exchange had sent before its reply, as far as time allows."""

from __future__ import annotations

import asyncio

from wsrec import shutdown
from wsrec.receive.open_connection import OpenConnection
from wsrec.receive.stall import Stalls

CLOSE_TIMEOUT = shutdown.CLOSE_REPLY.seconds
BACKLOG_TIMEOUT = shutdown.BACKLOG.seconds
# More consecutive reads than data can arrive for meanwhile: what is then left in the socket is a backlog
_LAST_READS = 64
# How often the wait for the reply checks whether its limits have changed (s)
_POLL = 0.1


async def close(current: OpenConnection, stalls: Stalls, timeout: float | None = None) -> int | None:
    """Start the closing handshake; data that arrives before the reply is recorded, and nothing after it.

    The reply follows everything that the exchange had sent before. So while a ring is full the wait is extended, to at
    most `timeout` seconds, or `BACKLOG_TIMEOUT`.

    Returns:
        The monotonic time (ns) of the last byte read if data was left unread; else None.

    """
    current.begin_close()
    loop = asyncio.get_running_loop()
    began, count = loop.time(), stalls.count
    limit = began + (BACKLOG_TIMEOUT if timeout is None else timeout)
    was_full, left = stalls.is_stalled, False
    while not current.ended:
        until = limit if stalls.is_stalled else min(limit, max(began, stalls.resumed_at) + CLOSE_TIMEOUT)
        if (wait := until - loop.time()) > 0:
            await current.wait_ended(min(wait, _POLL))
            continue
        left = _leave_unread(current, stalls)
        if not stalls.is_stalled or loop.time() >= limit:
            break
    if current.ended:
        # data behind an error of the socket is lost with it
        left = current.failed and (was_full or stalls.count > count)
    current.end(None)
    return current.hot.last_event if left else None


def _leave_unread(current: OpenConnection, stalls: Stalls) -> bool:
    """Read what is in the socket without waiting for more; returns True if data remains unread."""
    current.stop_reading()
    for _ in range(_LAST_READS):
        reads = current.hot.reads
        if not stalls.is_stalled:
            current.hot.on_readable()
        if stalls.is_stalled or current.ended:
            break
        if current.hot.reads == reads:
            return False
    return not current.ended and current.transport.unread > 0
