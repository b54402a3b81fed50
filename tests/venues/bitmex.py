"""BitMEX: a welcome, an answer a topic, tables that begin with a partial; pings of a client that hears nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame as WireFrame
from websockets.frames import Opcode

from tests.venues.mock import Frame, Venue


class Bitmex(Venue):
    """Closes normally after two pings.

    Args:
        topics: what each topic sends; others are refused.

    """

    def __init__(self, topics: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self.topics = topics
        self.pings = 0

    def greeting(self) -> Iterator[Frame]:
        yield json.dumps(
            {
                "info": "Welcome to the BitMEX Realtime API.",
                "version": "2021-07-14T01:26:29.000Z",
                "timestamp": "2021-07-22T22:36:07.865Z",
                "docs": "https://www.bitmex.com/app/wsAPI",
                "limit": {"remaining": 39},
            }
        )

    async def beside(self, connection: ServerConnection) -> None:
        heard = connection.process_event

        def hear(event: Any) -> None:
            self.pings += isinstance(event, WireFrame) and event.opcode is Opcode.PING
            heard(event)

        connection.process_event = hear  # type: ignore[method-assign]
        while self.pings < 2:
            await asyncio.sleep(0.05)
        await connection.close(1000)

    def answer(self, request: Frame) -> Iterator[Frame]:
        requested = json.loads(request)
        assert requested.keys() == {"op", "args"}
        assert requested["op"] == "subscribe"
        for topic in requested["args"]:
            if topic not in self.topics:
                error = {"status": 400, "error": f"Unknown or expired symbol: {topic}", "meta": {}}
                yield json.dumps({**error, "request": requested})
                continue
            yield json.dumps({"success": True, "subscribe": topic, "request": requested})
            yield from self.topics[topic]
