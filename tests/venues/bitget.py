"""Bitget: an answer for each argument, `ping` as text, a book whose changes name the one before."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tests.venues.mock import Frame, Refusal, Venue

SYMBOLS = {"BTCUSDT", "ETHUSDT"}


class Bitget(Venue):
    """v2 or v3, by what its arguments are called; closes normally after two pings."""

    idle_limit = 5.0

    def __init__(self, arguments: tuple[str, str, str], product: str, channels: set[str]) -> None:
        super().__init__()
        self.arguments, self.product, self.channels = arguments, product, channels
        self.pings = 0

    def is_life(self, request: Frame) -> bool:
        return request == "ping"

    def answer(self, request: Frame) -> Iterator[Frame]:
        if request == "ping":
            self.pings += 1
            yield "pong"
            if self.pings == 2:
                raise Refusal(1000, "done")
            return
        requested = json.loads(request)
        assert requested.keys() == {"op", "args"}
        assert requested["op"] == "subscribe"
        if len(requested["args"]) >= 25:
            raise Refusal(1006, "too many arguments")
        for argument in requested["args"]:
            assert argument.keys() == set(self.arguments)
            product, channel, symbol = (argument[name] for name in self.arguments)
            if product != self.product or channel not in self.channels or symbol not in SYMBOLS:
                stated = f"{self.arguments[1]}:{channel},{self.arguments[2]}:{symbol} doesn't exist"
                yield json.dumps({"event": "error", "arg": argument, "code": 30001, "msg": stated})
                continue
            yield json.dumps({"event": "subscribe", "arg": argument})
            yield from map(json.dumps, self.data(argument, channel, symbol))

    def data(self, argument: dict[str, str], channel: str, symbol: str) -> Iterator[dict[str, Any]]:
        if "rade" in channel:
            for action, number in (("snapshot", 1), ("update", 2)):
                trade = {"ts": "1695709835822", "price": "26293.4", "size": "0.0013", "side": "buy", "tradeId": "9"}
                yield {"action": action, "arg": argument, "data": [trade], "ts": 1695709835000 + number}
        elif channel == "books":
            # A change is left out, and one starts over.
            numbers = [(5, 0), (9, 5), (2**53 + 1, 9), (2**53 + 9, 2**53 + 7), (7, 0), (8, 7)]
            for place, (number, before) in enumerate(numbers):
                book: dict[str, Any] = {"asks": [["26274.9", "0.0009"]], "bids": [["26274.8", "0.0009"]], "checksum": 0}
                book |= {"seq": number, "pseq": before, "ts": "1695710946294"}
                action = "update" if place else "snapshot"
                yield {"action": action, "arg": argument, "data": [book], "ts": 1695710946000 + number % 1000}
        else:
            data = {"instId": symbol, "lastPr": "2.87", "ts": "1695702438018"}
            yield {"action": "snapshot", "arg": argument, "data": [data], "ts": 1695702438029}
