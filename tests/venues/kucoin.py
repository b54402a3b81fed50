"""KuCoin: a token over HTTPS for the address, a welcome before anything is taken, pings as JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection

from tests.venues.mock import Frame, Refusal, Venue


class Kucoin(Venue):
    """One of its markets; closes normally after three pings and `awaited` subscriptions.

    Args:
        topics: what each topic (`/market/match:BTC-USDT`) sends; others are refused.
        awaited: see above.

    Attributes:
        token: what the address has to have.
        ids: the `connectId` of each connection.

    """

    idle_limit = 5.0
    token = "2neAiuYvAU61ZDXANAGAsiL4-iAExhsBXZxftpOeh"

    def __init__(self, topics: Mapping[str, Sequence[str]], awaited: int) -> None:
        super().__init__()
        self.topics, self.awaited = topics, awaited
        self.ids: list[str] = []
        self.welcomed = False
        self.pings = 0

    def bullet(self, endpoint: str) -> dict[str, Any]:
        """What `/api/v1/bullet-public` answers."""
        server = {"endpoint": endpoint, "encrypt": True, "protocol": "websocket"}
        times = {"pingInterval": 18000, "pingTimeout": 10000}
        return {"code": "200000", "data": {"token": self.token, "instanceServers": [{**server, **times}]}}

    async def beside(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        requested = parse_qs(urlsplit(connection.request.path).query)
        if requested.get("token") != [self.token] or requested.keys() != {"token", "connectId"}:
            await connection.close(4000, "token is invalid")
            return
        self.ids += requested["connectId"]
        await asyncio.sleep(0.2)
        self.welcomed = True
        await self.say(connection, json.dumps({"id": requested["connectId"][0], "type": "welcome"}))

    def is_life(self, request: Frame) -> bool:
        return json.loads(request)["type"] == "ping"

    def answer(self, request: Frame) -> Iterator[Frame]:
        requested = json.loads(request)
        assert isinstance(requested["id"], str)
        if self.is_life(request):
            assert requested.keys() == {"id", "type"}
            self.pings += 1
            yield json.dumps({"id": requested["id"], "type": "pong"})
            if self.pings >= 3 and len(self.requests) - self.pings == self.awaited:
                raise Refusal(1000, "done")
            return
        assert requested.keys() == {"id", "type", "topic", "privateChannel", "response"}
        assert (requested["type"], requested["privateChannel"], requested["response"]) == ("subscribe", False, True)
        kind, _, symbols = requested["topic"].partition(":")
        topics = [f"{kind}:{symbol}" for symbol in symbols.split(",")]
        if not self.welcomed or len(topics) > 100 or not self.topics.keys() >= set(topics):
            error = {"code": 404, "data": f"topic {requested['topic']} is not found"}
            yield json.dumps({"id": requested["id"], "type": "error", **error})
            return
        yield json.dumps({"id": requested["id"], "type": "ack"})
        for topic in topics:
            yield from self.topics[topic]
