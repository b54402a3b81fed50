"""Binance: streams by name on one of several paths, WebSocket pings, at most so many messages a second, 24 h."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence

from websockets.asyncio.server import ServerConnection

from tests.venues.mock import Frame, Refusal, Venue

STREAM = re.compile(r"[a-z0-9_]+@\w+(@\w+)?|![a-zA-Z]+(@arr(@1s)?)?")


class Binance(Venue):
    """One path of a market.

    Args:
        streams: what each stream of this path sends.
        per_second: messages that a client may send in a second; more of them close the connection.
        says_so: whether it announces the end of the first connection, and waits for the client to replace it.

    """

    def __init__(self, streams: Mapping[str, Sequence[str]], per_second: int = 5, *, says_so: bool = False) -> None:
        super().__init__()
        self.streams = streams
        self.per_second = per_second
        self.says_so = says_so
        self.ending: ServerConnection | None = None
        self.pongs = 0
        self.came: deque[float] = deque(maxlen=per_second + 1)

    def answer(self, request: Frame) -> Iterator[Frame]:
        self.came.append(time.monotonic())
        if len(self.came) > self.per_second and self.came[-1] - self.came[0] < 1:
            raise Refusal(1008, "Too many requests")
        requested = json.loads(request)
        assert requested.keys() == {"method", "params", "id"}
        assert requested["method"] == "SUBSCRIBE"
        if not all(STREAM.fullmatch(stream) for stream in requested["params"]):
            yield json.dumps({"code": 2, "msg": "Invalid request: invalid stream", "id": requested["id"]})
            return
        yield json.dumps({"result": None, "id": requested["id"]})
        # A stream that does not exist here is confirmed, and stays silent.
        for stream in requested["params"]:
            for data in self.streams.get(stream, ()):
                yield f'{{"stream":"{stream}","data":{data}}}'

    async def beside(self, connection: ServerConnection) -> None:
        for nth in range(3):
            await asyncio.sleep(0.15)
            await asyncio.wait_for(await connection.ping(str(nth)), 5)
            self.pongs += 1
        if self.ending is None and self.says_so:
            self.ending = connection
            await self.say(connection, '{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1778200000000}}')
            return
        if self.ending is not None:
            await self.ending.wait_closed()
        await connection.close(1000, "done")
