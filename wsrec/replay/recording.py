"""Replay of a recording at its own pace, from the beginning for each client that connects."""

from __future__ import annotations

import asyncio

from wsrec.replay.message import Message, SourceError
from wsrec.replay.server import BATCH_BYTES, BATCH_MESSAGES, Client
from wsrec.replay.source import Source


class RecordingExchange:
    """Plays a source. Subscriptions are acknowledged but have no effect: the recording is sent as it is.

    Args:
        source: the recording.
        speed: factor of the recorded pace; None: as fast as the client reads.
        loop: start over at the end.

    """

    def __init__(self, source: Source, *, speed: float | None = 1.0, loop: bool = False) -> None:
        self._source = source
        self._speed = speed
        self._loop = loop

    async def play(self, client: Client) -> None:
        """Send the recording to one client.

        Raises:
            SourceError: the recording is damaged.
            websockets.exceptions.ConnectionClosed: the client has disconnected.

        """
        while True:
            await self._once(client)
            if not self._loop:
                return

    def subscribed(self, client: Client) -> None:
        """Do nothing: a recording does not depend on subscriptions."""

    async def _once(self, client: Client) -> None:
        # Due times count from the first message, so that late timers and slow clients do not add up to drift
        clock = asyncio.get_running_loop().time
        now = start = clock()
        first: int | None = None
        batch: list[Message] = []
        size = 0
        try:
            for message in self._source:
                if self._speed is not None:
                    if first is None:
                        first = message.time_ns
                    due = start + (message.time_ns - first) / (self._speed * 1e9)
                    if due > now and due > (now := clock()):
                        if batch:
                            await client.send(batch)
                            batch, size = [], 0
                        while (now := clock()) < due:
                            await asyncio.sleep(due - now)
                batch.append(message)
                size += len(message.payload)
                if size >= BATCH_BYTES or len(batch) >= BATCH_MESSAGES:
                    await client.send(batch)
                    batch, size = [], 0
        except SourceError:
            if batch:
                await client.send(batch)  # the messages before the damage are good
            raise
        if batch:
            await client.send(batch)
