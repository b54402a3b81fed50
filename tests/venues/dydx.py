"""dYdX v4: WebSocket pings that want a pong, answers that are the first data, real messages with new numbers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from tests.venues.mock import Frame, Venue

IDS = {
    "v4_trades": ("BTC-USD",),
    "v4_orderbook": ("BTC-USD",),
    "v4_candles": ("BTC-USD/1MIN",),
    "v4_markets": (None,),
    "v4_block_height": (None,),
}
UPDATES = {"v4_markets": ["update", "status_update"]}
MOST = 32


class Dydx(Venue):
    """Closes normally after two pongs and the last of `awaited` subscriptions.

    Args:
        messages: the folder of real messages.
        awaited: how many subscriptions are to come.

    """

    def __init__(self, messages: Path, awaited: int) -> None:
        super().__init__()
        self.messages, self.awaited = messages, awaited
        self.taken: list[tuple[str, str | None]] = []
        self.numbers = iter(range(1, 10_000))
        self.pongs = self.answered = 0

    def greeting(self) -> Iterator[Frame]:
        yield json.dumps({"type": "connected", "connection_id": "conn-abc123-def456-ghi789", "message_id": 0})

    async def beside(self, connection: ServerConnection) -> None:
        while self.pongs < 2 or self.answered < self.awaited:
            try:
                await asyncio.wait_for(await connection.ping(), 2)
            except TimeoutError:
                self.dropped += 1
                await connection.close(1011, "no pong")
                return
            except ConnectionClosed:
                return
            self.pongs += 1
            await asyncio.sleep(0.2)
        await connection.close(1000, "done")

    def answer(self, request: Frame) -> Iterator[Frame]:
        requested = json.loads(request)
        channel, of = requested["channel"], requested.get("id")
        assert requested == {"type": "subscribe", "channel": channel, "batched": False} | ({"id": of} if of else {})
        number = next(self.numbers)
        known = of in IDS.get(channel, ()) and (channel, of) not in self.taken
        if not known or [name for name, _ in self.taken].count(channel) == MOST:
            yield json.dumps({**self.kept("error"), "message_id": number})
            self.answered += 1
            return
        self.taken.append((channel, of))
        name = channel.removeprefix("v4_")
        # What came for others meanwhile has higher numbers than the answer that is on its way.
        if ("v4_trades", "BTC-USD") in self.taken and channel != "v4_trades":
            yield json.dumps({**self.kept("trades_update"), "message_id": next(self.numbers)})
        yield json.dumps({**self.kept(f"{name}_subscribed"), "message_id": number})
        for update in UPDATES.get(channel, ["update"]):
            yield json.dumps({**self.kept(f"{name}_{update}"), "message_id": next(self.numbers)})
        self.answered += 1

    def kept(self, name: str) -> dict[str, Any]:
        message: dict[str, Any] = json.loads((self.messages / f"ws_{name}.json").read_text())
        return message
