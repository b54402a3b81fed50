"""Crypto.com: a pause before the first request, JSON heartbeats, a book that is requested again after a gap."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from websockets.asyncio.server import ServerConnection

from tests.venues.mock import Frame, Refusal, Venue

SYMBOLS = {"BTC_USDT", "BTCUSD-PERP"}
BOOK = {"book_subscription_type": "SNAPSHOT_AND_UPDATE", "book_update_frequency": 10}


class CryptoCom(Venue):
    """Closes normally after two heartbeats and the book's second coming."""

    idle_limit = 5.0
    pause = 0.2

    def __init__(self) -> None:
        super().__init__()
        self.heartbeats: list[int] = []
        self.taken: Counter[str] = Counter()
        self._connected = 0.0

    def greeting(self) -> Iterator[Frame]:
        self._connected = asyncio.get_running_loop().time()
        yield from ()

    def is_life(self, request: Frame) -> bool:
        return json.loads(request)["method"] == "public/respond-heartbeat"

    async def beside(self, connection: ServerConnection) -> None:
        for number in range(1587523073344, 1587523073444):
            await asyncio.sleep(0.3)
            await self.say(connection, json.dumps({"id": number, "method": "public/heartbeat", "code": 0}))

    def answer(self, request: Frame) -> Iterator[Frame]:
        if not self.heartbeats and not self.taken and asyncio.get_running_loop().time() < self._connected + self.pause:
            raise Refusal(1008, "too soon")
        requested = json.loads(request)
        number, method = requested["id"], requested["method"]
        if method == "public/respond-heartbeat":
            assert requested.keys() == {"id", "method"}
            self.heartbeats.append(number)
            if len(self.heartbeats) > 1 and self.taken["book.BTC_USDT.50"] > 1:
                raise Refusal(1000, "done")
            return
        assert requested.keys() == {"id", "method", "params", "nonce"}
        channels = requested["params"].pop("channels")
        if method == "unsubscribe":
            yield json.dumps({"id": number, "method": method, "code": 0})
            return
        assert method == "subscribe"
        assert requested["params"] in ({}, BOOK)
        if wrong := [channel for channel in channels if channel.split(".")[1] not in SYMBOLS]:
            yield json.dumps({"id": number, "method": method, "code": 40004, "message": f"Unknown: {wrong}"})
            return
        yield json.dumps({"id": number, "method": method, "code": 0})
        for channel in channels:
            self.taken[channel] += 1
            yield from map(json.dumps, self.data(channel))

    def data(self, topic: str) -> Iterator[dict[str, Any]]:
        channel, symbol, *depth = topic.split(".")
        result = {"instrument_name": symbol, "subscription": topic, "channel": channel}
        if channel == "trade":
            # the newest first
            rows = [
                {"d": "4611686018428454042", "t": 1670327930000 - n, "p": "1.5", "q": "2", "s": "BUY"} for n in (0, 7)
            ]
            yield _data({**result, "data": rows})
        elif channel == "ticker":
            yield _data({**result, "data": [{"b": "1.4", "bs": "2", "k": "1.6", "ks": "3", "t": 1613580710}]})
        else:
            assert depth == ["50"]
            levels: dict[str, Any] = {"bids": [["1.4", "2", "1"]], "asks": []}
            times = {"t": 1655893451000, "tt": 1655893451002}
            yield _data({**result, "depth": 50, "data": [{**levels, **times, "u": 11, "cs": 1}]})
            # the first time one is left out
            for before, last in ((11, 14), (14 if self.taken[topic] > 1 else 15, 16)):
                update = {"update": levels, **times, "u": last, "pu": before, "cs": 1}
                yield _data({**result, "channel": "book.update", "depth": 50, "data": [update]})


def _data(result: dict[str, Any]) -> dict[str, Any]:
    return {"id": -1, "method": "subscribe", "code": 0, "result": result}
