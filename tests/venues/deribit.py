"""Deribit: JSON-RPC, heartbeats that the client turns on and answers, a result that lists what was subscribed."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from websockets.asyncio.server import ServerConnection

from tests.venues.mock import Frame, Venue

RAW = re.compile(r"(book|trades|ticker)\..+\.raw")


class Deribit(Venue):
    """Closes normally after two answers to its test requests, and one subscription.

    Args:
        channels: what each channel sends; others are left out of the result.

    """

    idle_limit = 5.0

    def __init__(self, channels: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self.channels = channels
        self.beating = asyncio.Event()
        self.answered = self.subscribed = 0

    def is_life(self, request: Frame) -> bool:
        return json.loads(request)["method"] == "public/test"

    async def beside(self, connection: ServerConnection) -> None:
        await self.beating.wait()
        while self.answered < 2 or not self.subscribed:
            for kind in ("heartbeat", "test_request"):
                beat = {"jsonrpc": "2.0", "method": "heartbeat", "params": {"type": kind}}
                await self.say(connection, json.dumps(beat))
            await asyncio.sleep(0.2)
        await connection.close(1000)

    def answer(self, request: Frame) -> Iterator[Frame]:
        call = json.loads(request)
        assert call.keys() == {"jsonrpc", "id", "method", "params"}
        assert call["jsonrpc"] == "2.0"
        assert type(call["id"]) is int
        params = call["params"]
        if call["method"] == "public/test":
            self.answered += 1
            yield self._answer(call, result={"version": "1.2.26"})
        elif call["method"] == "public/set_heartbeat" and params.keys() == {"interval"} and params["interval"] >= 10:
            self.beating.set()
            yield self._answer(call, result="ok")
        elif call["method"] == "public/subscribe" and params.keys() == {"channels"} and len(params["channels"]) <= 500:
            yield from self._subscribe(call, params["channels"])
            self.subscribed += 1
        else:
            yield self._answer(call, error={"code": -32602, "message": "Invalid params"})

    def _subscribe(self, call: Any, channels: list[str]) -> Iterator[Frame]:
        if any(map(RAW.fullmatch, channels)):
            stated = "raw_subscriptions_not_available_for_unauthorized"
            yield self._answer(call, error={"code": 13778, "message": stated})
            return
        accepted = [channel for channel in channels if channel in self.channels]
        yield self._answer(call, result=accepted)
        for channel in accepted:
            yield from self.channels[channel]

    @staticmethod
    def _answer(call: Any, **rest: Any) -> str:
        times = {"testnet": False, "usIn": 1699999999000000, "usOut": 1699999999001000, "usDiff": 1000}
        return json.dumps({"jsonrpc": "2.0", "id": call["id"], **rest, **times})
