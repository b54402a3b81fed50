"""Upbit, and Bithumb that speaks alike: one request that holds everything, JSON in binary messages, no confirmation."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame as WebSocketFrame
from websockets.frames import Opcode
from websockets.protocol import Event

from tests.venues.mock import Frame, Venue

CODES = {"KRW-BTC", "KRW-ETH"}
NUMBERS = {"trade": {"sequential_id": 1, "trade_price": 97.0}, "orderbook": {"orderbook_units": []}, "ticker": {}}


class PingCounter(ServerConnection):
    """A connection that counts the pings of the other side."""

    pings = 0
    pinged = 0.0

    def process_event(self, event: Event) -> None:
        if isinstance(event, WebSocketFrame) and event.opcode is Opcode.PING:
            self.pings += 1
            self.pinged = asyncio.get_running_loop().time()
        super().process_event(event)


class Upbit(Venue):
    """Drops a client that does not ping for `idle` seconds; closes normally after two pings and a request."""

    idle = 2.0
    answered = False

    async def __call__(self, connection: ServerConnection) -> None:
        # with this header only one handshake in 10 s
        assert connection.request is not None
        assert "Origin" not in connection.request.headers
        await super().__call__(connection)

    async def beside(self, connection: ServerConnection) -> None:
        assert isinstance(connection, PingCounter)
        connection.pinged = asyncio.get_running_loop().time()
        while connection.pings < 2 or not self.answered:
            await asyncio.sleep(0.02)
            if asyncio.get_running_loop().time() > connection.pinged + self.idle:
                self.dropped += 1
                await connection.close(1001, "idle")
                return
        await connection.close(1000, "done")

    def answer(self, request: Frame) -> Iterator[Frame]:
        ticket, *types, form = json.loads(request)
        assert ticket.keys() == {"ticket"}
        uuid.UUID(ticket["ticket"])
        assert form == {"format": "DEFAULT"}
        for each in types:
            assert each.keys() == {"type", "codes"}
            if each["type"] not in NUMBERS:
                yield _binary({"error": {"name": "WRONG_FORMAT", "message": f"no such type: {each['type']}"}})
                continue
            for code in each["codes"]:
                if code not in CODES:
                    yield _binary({"error": {"name": "INVALID_PARAM", "message": f"no such code: {code}"}})
                    continue
                for number, stream_type in enumerate(("SNAPSHOT", "REALTIME")):
                    own = {"type": each["type"], "code": code, "timestamp": 1760000000000 + number}
                    yield _binary({**own, **NUMBERS[each["type"]], "stream_type": stream_type})
        self.answered = True


def _binary(message: Any) -> bytes:
    return json.dumps(message).encode()
