"""Messages alone and in bursts, for comparing their segments' arrivals with libpcap's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from websockets.asyncio.server import ServerConnection


async def send_bursts(connection: ServerConnection, alone: Sequence[int], bursts: int, burst: int) -> None:
    """Send a message of each size of `alone` by itself, then `bursts` times `burst` shorter ones at once."""
    for size in alone:
        await asyncio.sleep(0.01)
        await connection.send("a" * size)
    for nth in range(bursts):
        await asyncio.sleep(0.01)
        for number in range(burst):
            await connection.send("b" * (200 + nth + number))
