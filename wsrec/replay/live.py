"""The synthetic market in real time, for every client that subscribes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from types import TracebackType
from typing import Self

from wsrec.replay.market import Event, Market
from wsrec.replay.message import Message
from wsrec.replay.server import BATCH_MESSAGES, Client

BACKLOG_BYTES = 32 << 20  # a client this far behind is disconnected, since the market does not wait for its clients

_EVENTS_A_TURN = 256  # before the clients get their turn
_LATE = 1.0  # s behind schedule before a warning

log = logging.getLogger("wsrec.replay")


class MarketExchange:
    """Runs a market while its context is open. Clients get the streams they are subscribed to, from then on."""

    def __init__(self, market: Market) -> None:
        self._market = market
        self._seats: list[_ClientQueue] = []
        self._wanted: dict[str, list[_ClientQueue]] = {}
        self._added = asyncio.Event()
        self._clock = asyncio.get_running_loop().time
        self._start = self._clock()

    async def __aenter__(self) -> Self:
        self._ticker = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ticker.cancel()
        await asyncio.gather(self._ticker, return_exceptions=True)

    async def play(self, client: Client) -> None:
        """Send a client its subscriptions, until it disconnects or is too far behind.

        Raises:
            websockets.exceptions.ConnectionClosed: the client has disconnected.

        """
        seat = _ClientQueue(client)
        self._seats.append(seat)
        self.subscribed(client)
        delivery = asyncio.create_task(seat.deliver())
        try:
            # the market ends before its clients only by an error, which must not leave them waiting
            await asyncio.wait([delivery, self._ticker], return_when=asyncio.FIRST_COMPLETED)
            if self._ticker.done() and not self._ticker.cancelled():
                self._ticker.result()
            if delivery.done():
                delivery.result()
        finally:
            delivery.cancel()
            await asyncio.gather(delivery, return_exceptions=True)
            self._seats.remove(seat)
            self.subscribed(client)

    def subscribed(self, client: Client) -> None:
        """Apply the clients' subscriptions; a stream keeps running when its last subscriber has left."""
        self._wanted = {}
        for seat in self._seats:
            for stream in seat.client.subscriptions.streams:
                self._wanted.setdefault(stream, []).append(seat)
        for stream in self._wanted:
            self._market.add(stream, self._clock() - self._start)
        self._added.set()

    async def _run(self) -> None:
        market, clock = self._market, self._clock
        warned = False
        while True:
            delay = self._start + market.next_time - clock()
            if delay > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if math.isinf(delay) else delay):
                        await self._added.wait()
                self._added.clear()
                continue
            if delay < -_LATE and not warned:
                warned = True
                log.warning("the market is more than %.0f s behind: this processor is too slow for the rate", _LATE)
            due, now_ms = clock() - self._start, time.time_ns() // 1_000_000
            for _ in range(_EVENTS_A_TURN):
                for event in market.step(now_ms):
                    for seat in self._wanted.get(event.stream, ()):
                        seat.put(event)
                if market.next_time > due:
                    break
            await asyncio.sleep(0)


class _ClientQueue:
    """The send queue of one client."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._outbox: list[Message] = []
        self._bytes = 0
        self._filled = asyncio.Event()

    def put(self, event: Event) -> None:
        if self._bytes > BACKLOG_BYTES:
            return  # already disconnected
        payload = event.bare if self.client.bare else event.payload
        self._outbox.append(Message(0, "text", payload, 0))
        self._bytes += len(payload)
        self._filled.set()
        if self._bytes > BACKLOG_BYTES:
            log.warning(
                "client %d disconnected: it is more than %d MiB behind", self.client.number, BACKLOG_BYTES >> 20
            )
            self.client.abort()

    async def deliver(self) -> None:
        while True:
            await self._filled.wait()
            self._filled.clear()
            outbox, self._outbox, self._bytes = self._outbox, [], 0
            for start in range(0, len(outbox), BATCH_MESSAGES):
                await self.client.send(outbox[start : start + BATCH_MESSAGES])
