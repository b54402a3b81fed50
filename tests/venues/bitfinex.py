"""Bitfinex: a number for each channel, announced in the answer; arrays that end with a sequence number and a time."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from websockets.asyncio.server import ServerConnection

from tests.venues.mock import Frame, Venue

TIME = 1641343699596
BOOK = {"prec": {"P0", "P1", "P2", "P3", "P4", "R0"}, "freq": {"F0", "F1"}, "len": {"1", "25", "100", "250"}}


class Bitfinex(Venue):
    """Closes normally after `awaited` subscriptions, and a heartbeat on each channel.

    Args:
        symbols: those that exist, and the keys of `status`.
        bodies: what each channel sends, without number, sequence and time, to every symbol.
        lost: a sequence number that is passed over.
        awaited: see above.

    """

    def __init__(
        self, symbols: Sequence[str], bodies: Mapping[str, Sequence[list[Any]]], lost: int, awaited: int
    ) -> None:
        super().__init__()
        self.symbols, self.bodies, self.lost, self.awaited = symbols, bodies, lost, awaited
        self.sequence = itertools.count(1)
        self.channels: list[int] = []
        self.flags = self.answered = 0

    def greeting(self) -> Iterator[Frame]:
        yield '{"event":"info","version":2,"serverId":"x","platform":{"status":1}}'

    async def beside(self, connection: ServerConnection) -> None:
        while self.answered < self.awaited:
            await asyncio.sleep(0.05)
        for number in self.channels:
            await self.say(connection, self._data([number, "hb"]))
        await connection.close(1000)

    def answer(self, request: Frame) -> Iterator[Frame]:
        requested = json.loads(request)
        if requested["event"] == "conf":
            assert requested.keys() == {"event", "flags"}
            self.flags = requested["flags"]
            yield json.dumps({"event": "conf", "status": "OK", "flags": self.flags})
            return
        assert requested["event"] == "subscribe"
        right, code = self._is_right(requested), 10300
        if right and len(self.channels) == 25:
            right, code = False, 10305
        if not right:
            yield json.dumps({"event": "error", "code": code, "msg": "subscribe: invalid"})
            self.answered += 1
            return
        number = 17082 + len(self.channels)
        self.channels.append(number)
        yield json.dumps({**requested, "event": "subscribed", "chanId": number})
        for body in self.bodies.get(requested["channel"], ()):
            yield self._data([number, *body])
        self.answered += 1

    def _is_right(self, requested: dict[str, Any]) -> bool:
        keys = requested.keys() - {"event"}
        if requested["channel"] == "status":
            return keys == {"channel", "key"} and requested["key"] in self.symbols
        if requested["channel"] == "book":
            levels = keys == {"channel", "symbol", *BOOK} and all(requested[key] in BOOK[key] for key in BOOK)
            return levels and requested["symbol"] in self.symbols
        return (
            keys == {"channel", "symbol"}
            and requested["channel"] in ("trades", "ticker")
            and requested["symbol"] in self.symbols
        )

    def _data(self, array: list[Any]) -> str:
        sequence = next(self.sequence)
        if sequence == self.lost:
            sequence = next(self.sequence)
        return json.dumps(array + [sequence] * bool(self.flags & 65536) + [TIME] * bool(self.flags & 32768))
