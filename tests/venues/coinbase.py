"""Coinbase: answers that list all that is subscribed, heartbeats as a channel; Exchange and Advanced Trade."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Mapping, Sequence

from websockets.asyncio.server import ServerConnection

from tests.venues.mock import Frame, Venue

OPEN_CHANNELS = {"matches", "level2_batch", "ticker", "heartbeat", "status"}


class CoinbaseExchange(Venue):
    """The first subscription has to come soon; sends three heartbeats a product and closes normally.

    Args:
        data: what a product's channel sends, by channel and product.

    """

    idle_limit = 5.0

    def __init__(self, data: Mapping[tuple[str, str], Sequence[str]]) -> None:
        super().__init__()
        self.data = data
        self.products = {product for _, product in data}
        self.subscribed: dict[str, list[str]] = {}

    def is_life(self, request: Frame) -> bool:
        self.idle_limit = None
        return True

    def answer(self, request: Frame) -> Iterator[Frame]:
        requested = json.loads(request)
        assert requested.keys() == {"type", "product_ids", "channels"}
        assert requested["type"] == "subscribe"
        (channel,) = requested["channels"]
        reason = "" if channel in OPEN_CHANNELS else f"{channel} requires authentication"
        for product in requested["product_ids"]:
            reason = reason or ("" if product in self.products else f"{product} is not a valid product")
        if reason:
            yield json.dumps({"type": "error", "message": "Failed to subscribe", "reason": reason})
            return
        self.subscribed.setdefault(channel, []).extend(requested["product_ids"])
        listed = [{"name": name, "product_ids": products} for name, products in self.subscribed.items()]
        yield json.dumps({"type": "subscriptions", "channels": listed})
        for product in requested["product_ids"]:
            yield from self.data.get((channel, product), ())

    async def beside(self, connection: ServerConnection) -> None:
        for nth in range(5):
            await asyncio.sleep(0.2)
            for product in self.subscribed.get("heartbeat", ()):
                beat = {"type": "heartbeat", "sequence": 90 + nth, "last_trade_id": 20, "product_id": product}
                await self.say(connection, json.dumps({**beat, "time": "2014-11-07T08:19:28.464459Z"}))
        await connection.close(1000, "done")


class CoinbaseAdvanced(Venue):
    """Numbers all messages of the connection, and closes those that do not subscribe heartbeats.

    Args:
        data: what a product's channel sends, by channel and product; `sequence_num` is filled in.
        left_out: numbers that are never sent.
        beat: a heartbeat.

    """

    idle_limit = 5.0

    def __init__(
        self, data: Mapping[tuple[str, str], Sequence[str]], left_out: Sequence[int] = (), beat: str = ""
    ) -> None:
        super().__init__()
        self.beat = beat
        self.data = data
        self.products = {product for _, product in data}
        self.left_out = left_out
        self.number = 0
        self.subscribed: dict[str, list[str]] = {}

    def is_life(self, request: Frame) -> bool:
        if json.loads(request)["channel"] == "heartbeats":
            self.idle_limit = None
        return False

    def answer(self, request: Frame) -> Iterator[Frame]:
        requested = json.loads(request)
        channel, products = requested["channel"], requested.get("product_ids", [])
        assert requested.keys() - {"product_ids"} == {"type", "channel"}
        assert requested["type"] == "subscribe"
        wrong = [product for product in products if product not in self.products]
        if wrong or channel not in {*(channel for channel, _ in self.data), "heartbeats"}:
            yield json.dumps({"type": "error", "message": f"{wrong[0]} is not a valid product" if wrong else channel})
            return
        self.subscribed.setdefault(channel, []).extend(products or [channel])
        events = [{"subscriptions": self.subscribed}]
        answer = {"channel": "subscriptions", "client_id": "", "timestamp": "2026-04-07T14:30:00.000000Z"}
        yield self.numbered(json.dumps({**answer, "sequence_num": 0, "events": events}))
        for product in products:
            yield from map(self.numbered, self.data.get((channel, product), ()))

    def numbered(self, message: str) -> str:
        while self.number in self.left_out:
            self.number += 1
        text = re.sub(r'"sequence_num": *\d+', f'"sequence_num": {self.number}', message, count=1)
        self.number += 1
        return text

    async def beside(self, connection: ServerConnection) -> None:
        for _ in range(5):
            await asyncio.sleep(0.2)
            if "heartbeats" in self.subscribed:
                await self.say(connection, self.numbered(self.beat))
        await connection.close(1000, "done")
