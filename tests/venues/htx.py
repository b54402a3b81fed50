"""HTX: every message gzip of JSON, pings that want their number back, a request a topic."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from websockets.asyncio.server import ServerConnection

from tests.venues.mock import Frame, Venue


def packed(message: Any) -> bytes:
    """As it goes over the wire."""
    return gzip.compress(message.encode() if isinstance(message, str) else json.dumps(message).encode(), mtime=0)


class Htx(Venue):
    """One address; closes normally after three pongs and `awaited` subscriptions.

    Args:
        topics: what each topic sends; others are refused.
        max_unanswered: how many pings may be without an answer (two on spot, five elsewhere).
        awaited: see above.

    """

    def __init__(self, topics: Mapping[str, Sequence[str]], max_unanswered: int, awaited: int = 0) -> None:
        super().__init__()
        self.topics, self.max_unanswered, self.awaited = topics, max_unanswered, awaited
        self.open: list[int] = []
        self.pongs = self.answered = 0

    async def beside(self, connection: ServerConnection) -> None:
        for number in range(1618678073643, 1618678073743):
            if self.pongs >= 3 and self.answered == self.awaited:
                await connection.close(1000)
                return
            if len(self.open) == self.max_unanswered:
                self.dropped += 1
                await connection.close(1003, "no pong")
                return
            self.open.append(number)
            await self.say(connection, packed({"ping": number}))
            await asyncio.sleep(0.4)

    def answer(self, request: Frame) -> Iterator[Frame]:
        assert isinstance(request, str)
        requested = json.loads(request)
        if "pong" in requested:
            assert requested.keys() == {"pong"}
            self.open.remove(requested["pong"])
            self.pongs += 1
            return
        topic = requested["sub"]
        incremental = topic.endswith(".high_freq")
        assert requested.keys() == ({"sub", "id", "data_type"} if incremental else {"sub", "id"})
        assert requested.get("data_type") == ("incremental" if incremental else None)
        if topic not in self.topics:
            stated = {"status": "error", "err-code": "bad-request", "err-msg": f"invalid topic {topic}"}
            yield packed({**stated, "ts": 1618678070653})
            self.answered += 1
            return
        yield packed({"id": requested["id"], "status": "ok", "subbed": topic, "ts": 1618678070653})
        yield from map(packed, self.topics[topic])
        self.answered += 1
