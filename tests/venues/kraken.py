"""Kraken: spot v2, with an answer for each symbol and pings as JSON; Futures, with WebSocket pings."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence

from websockets.asyncio.server import ServerConnection

from tests.venues.mock import Frame, Refusal, Venue

TIMES = {"time_in": "2023-09-25T09:04:31.742599Z", "time_out": "2023-09-25T09:04:31.742648Z"}
DEPTHS = (10, 25, 100, 500, 1000)
# what a request has beside its channel and symbols
MORE = {"book": {"depth"}, "ohlc": {"interval"}, "instrument": {"include_tokenized_assets"}}


class Kraken(Venue):
    """Spot, API v2; closes each connection normally after its second ping.

    Args:
        data: what a channel sends of a symbol; the channel's name is followed by its depth, trigger or interval.

    """

    idle_limit = 5.0

    def __init__(self, data: Mapping[tuple[str, str], Sequence[str]]) -> None:
        super().__init__()
        self.data = data
        self.symbols = {symbol for _, symbol in data}

    def greeting(self) -> Iterator[Frame]:
        state = {"api_version": "v2", "connection_id": 1, "system": "online", "version": "2.0.0"}
        yield json.dumps({"channel": "status", "type": "update", "data": [state]})

    def is_life(self, request: Frame) -> bool:
        return True

    def answer(self, request: Frame) -> Iterator[Frame]:
        requested = json.loads(request)
        if requested["method"] == "ping":
            assert requested.keys() == {"method", "req_id"}
            assert type(requested["req_id"]) is int
            yield json.dumps({"method": "pong", "req_id": requested["req_id"], **TIMES})
            # each connection counts its own: 1000000, 1000001, ...
            if requested["req_id"] % 10 == 1:
                raise Refusal(1000, "done")
            return
        assert requested.keys() == {"method", "params", "req_id"}
        assert requested["method"] == "subscribe"
        params = requested["params"]
        channel, symbols = params["channel"], params.get("symbol", [None])
        more = params.keys() - {"channel", "symbol"}
        assert more == MORE.get(channel, more & {"event_trigger"})
        assert params.get("depth", 10) in DEPTHS
        kind = "-".join([channel, *(str(params[key]) for key in more - {"include_tokenized_assets"})])
        for symbol in symbols:
            answer = {"method": "subscribe", "req_id": requested["req_id"], **TIMES}
            if symbol is not None and symbol not in self.symbols:
                stated = f"Currency pair not supported {symbol}"
                yield json.dumps({"error": stated, "success": False, "symbol": symbol, **answer})
                continue
            result = {**params, "symbol": symbol} if symbol else params
            yield json.dumps({"result": {**result, "snapshot": True}, "success": True, **answer})
            yield from self.data.get((kind, symbol or ""), ())

    async def beside(self, connection: ServerConnection) -> None:
        while True:
            await asyncio.sleep(0.2)
            await self.say(connection, '{"channel":"heartbeat"}')


class KrakenFutures(Venue):
    """Futures: drops a client whose WebSocket pings fail to come; closes normally after two.

    Args:
        data: what a feed sends of a product.

    """

    def __init__(self, data: Mapping[tuple[str, str], Sequence[str]], seconds: float = 2.0) -> None:
        super().__init__()
        self.data = data
        self.products = {product for _, product in data}
        self.seconds = seconds
        self.pings = 0

    def greeting(self) -> Iterator[Frame]:
        yield '{"event":"info","version":1}'

    def answer(self, request: Frame) -> Iterator[Frame]:
        requested = json.loads(request)
        assert requested["event"] == "subscribe"
        feed = requested["feed"]
        if feed not in {"trade", "book", "ticker", "ticker_lite", "heartbeat"}:
            yield json.dumps({"event": "error", "message": "Invalid feed"})
            return
        if feed == "heartbeat":
            assert requested.keys() == {"event", "feed"}
            yield json.dumps({"event": "subscribed", "feed": feed})
            yield '{"feed":"heartbeat","time":1534262350627}'
            return
        assert requested.keys() == {"event", "feed", "product_ids"}
        for product in requested["product_ids"]:
            if product not in self.products:
                yield json.dumps({"event": "error", "message": f"Invalid product id {product}"})
                continue
            yield json.dumps({"event": "subscribed", "feed": feed, "product_ids": [product]})
            yield from self.data.get((feed, product), ())

    async def beside(self, connection: ServerConnection) -> None:
        """Counts pings where the library keeps them to itself: in the frames that it takes."""
        loop = asyncio.get_running_loop()
        last_message, protocol = loop.time(), connection.protocol
        take, self.pings = protocol.recv_frame, 0

        def counting(frame):  # type: ignore[no-untyped-def]
            nonlocal last_message
            if frame.opcode == 9:
                self.pings += 1
                last_message = loop.time()
            take(frame)

        protocol.recv_frame = counting  # type: ignore[method-assign]
        while self.pings < 2:
            await asyncio.sleep(0.05)
            if loop.time() - last_message > self.seconds:
                self.dropped += 1
                await connection.close(1008, "no ping")
                return
        await connection.close(1000, "done")
