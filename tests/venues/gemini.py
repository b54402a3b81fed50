"""Gemini: data without a name of their stream, the whole book first if the address asks for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from websockets.asyncio.server import ServerConnection

from tests.venues.mock import Frame, Refusal, Venue

SYMBOLS = {"btcusd"}
STREAMS = {"trade", "depth@100ms", "bookTicker"}


class Gemini(Venue):
    """Closes normally with the second ping or a later one, once it refused every wrong topic alone."""

    idle_limit = 5.0

    def __init__(self) -> None:
        super().__init__()
        self.pings = 0

    async def __call__(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        assert connection.request.path == "/?snapshot=-1"
        await super().__call__(connection)

    def is_life(self, request: Frame) -> bool:
        return json.loads(request)["method"] == "ping"

    def answer(self, request: Frame) -> Iterator[Frame]:
        requested = json.loads(request)
        assert type(requested["id"]) is str
        if requested["method"] == "ping":
            assert requested.keys() == {"id", "method"}
            self.pings += 1
            yield json.dumps({"id": requested["id"], "status": 200, "result": {}})
            if self.pings >= 2 and not self.disputed:
                raise Refusal(1000, "done")
            return
        assert requested.keys() == {"id", "method", "params"}
        assert requested["method"] == "subscribe"
        wanted = [topic.partition("@")[::2] for topic in requested["params"]]
        if wrong := [symbol for symbol, stream in wanted if symbol not in SYMBOLS or stream not in STREAMS]:
            self.refuse(requested["params"])
            error = {"code": -1013, "msg": f"Invalid symbol: {wrong[0]}"}
            yield json.dumps({"id": requested["id"], "status": 400, "error": error})
            return
        self.disputed.difference_update(requested["params"])
        yield json.dumps({"id": requested["id"], "status": 200, "result": None})
        for symbol, stream in wanted:
            for data in self.data(stream):
                yield json.dumps({"E": 1759873803503023900, "s": symbol, **data})

    def data(self, stream: str) -> Iterator[dict[str, Any]]:
        if stream == "trade":
            yield {"t": 2840140956529623, "p": "123.45", "q": "0.1", "m": True}
        elif stream == "bookTicker":
            yield {"u": 1751, "b": "123.4", "B": "1", "a": "123.5", "A": "2", "c": "123.45", "C": "0.1"}
        else:
            for first, last in ((1700, 1700), (1701, 1702), (1702, 1705)):
                yield {"e": "depthUpdate", "U": first, "u": last, "b": [["123.4", "1"]], "a": []}
