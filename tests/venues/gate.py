"""Gate v4: requests with a time, answers that repeat the payload, pings as JSON."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.venues.mock import Frame, Refusal, Venue


class Gate(Venue):
    """Closes normally after two pings and `awaited` subscriptions.

    Args:
        market: `spot` or `futures`.
        streams: what each channel and payload (`spot.trades BTC_USDT`, `spot.order_book_update BTC_USDT 100ms`) sends;
            payloads with symbols that are in none of them are refused.
        awaited: see above.

    """

    idle_limit = 5.0

    def __init__(self, market: str, streams: Mapping[str, Sequence[str]], awaited: int) -> None:
        super().__init__()
        self.market, self.streams, self.awaited = market, streams, awaited
        self.symbols = set(re.findall(r"[A-Z0-9]+_[A-Z0-9]+", " ".join(streams)))
        self.taken: set[str] = set()
        self.pings = 0

    def is_life(self, request: Frame) -> bool:
        return json.loads(request)["channel"] == f"{self.market}.ping"

    def answer(self, request: Frame) -> Iterator[Frame]:
        requested = json.loads(request)
        assert type(requested["time"]) is int
        assert abs(requested["time"] - time.time()) < 60
        if self.is_life(request):
            assert requested.keys() == {"time", "channel"}
            self.pings += 1
            yield self._envelope(f"{self.market}.pong", "", result=None)
            if self.pings >= 2 and len(self.requests) - self.pings == self.awaited:
                raise Refusal(1000, "done")
            return
        assert requested.keys() == {"time", "channel", "event", "payload"}
        assert requested["event"] == "subscribe"
        channel, payload = requested["channel"], requested["payload"]
        stated = {"payload": payload, "error": None, "result": {"status": "success"}}
        stream = " ".join([channel, *payload])
        if stream in self.taken and ".obu " in stream:
            stated |= {"error": {"code": 2, "message": "Already subscribed"}, "result": None}
        elif wrong := self._wrong(channel, payload):
            stated |= {"error": {"code": 2, "message": wrong}, "result": None}
        yield self._envelope(channel, "subscribe", **stated)
        if stated["error"] is None:
            self.taken.add(stream)
            yield from self.streams.get(stream, ())

    def _wrong(self, channel: str, payload: list[str]) -> str | None:
        """What is wrong with a subscription."""
        market, _, kind = channel.partition(".")
        shapes = {
            "trades": ["symbol"],
            "tickers": ["symbol"],
            "book_ticker": ["symbol"],
            "obu": [r"ob\..+\.(400|50)"],
            "candlesticks": [r"\d+[mhd]", "symbol"],
            "order_book_update": ["symbol", "100ms|20ms"],
        }
        if market == "futures":
            shapes |= {"order_book_update": ["symbol", "100ms|20ms", r"\d+"], "order_book": ["symbol", r"\d+", "0"]}
        shape = shapes.get(kind)
        if market != self.market or shape is None:
            return f"unknown channel {channel}"
        if shape == ["symbol"]:
            shape *= len(payload)
        if len(payload) != len(shape):
            return f"invalid argument {payload}"
        for text, wanted in zip(payload, shape, strict=True):
            if wanted == "symbol":
                if text not in self.symbols:
                    return f"unknown currency pair {text}"
            elif not re.fullmatch(wanted, text):
                return f"invalid argument {text}"
            elif kind == "obu" and text.split(".")[1] not in self.symbols:
                return f"unknown currency pair {text}"
        return None

    @staticmethod
    def _envelope(channel: str, event: str, **rest: Any) -> str:
        head = {"time": 1764000000, "time_ms": 1764000000123, "conn_id": "a1b2", "channel": channel, "event": event}
        return json.dumps({**head, **rest})
