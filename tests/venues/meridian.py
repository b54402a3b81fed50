"""Meridian Exchange, by unlisted/facts.md: as strict as that page says."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from tests.venues.mock import Frame, Refusal, Venue

INSTRUMENTS = ("BTC_EUR", "ETH_EUR", "SOL_EUR", "XRP_EUR")
_RATE = 10
_STREAMS = 6


class Meridian(Venue):
    """All connections of it; each has a `_Conversation` of its own.

    Attributes:
        data: data messages that it sent, in order.
        probes: pings that were answered in time.
        subscriptions: how often each stream was subscribed to.
        faults: what clients were closed for.

    """

    def __init__(self, *, idle_limit: float = 15, ping_timeout: float = 2, gap_in: str = "") -> None:
        super().__init__()
        self.idle_limit = idle_limit
        self.ping_timeout = ping_timeout
        self.gap_in = gap_in
        self.data: list[str] = []
        self.probes = 0
        self.subscriptions: Counter[str] = Counter()
        self.faults: list[str] = []

    async def __call__(self, connection: ServerConnection) -> None:
        conversation = _Conversation(self)
        conversation.idle_limit = self.idle_limit
        conversation.requests = self.requests
        await conversation(connection)


class _Conversation(Venue):
    def __init__(self, venue: Meridian) -> None:
        super().__init__()
        self._venue = venue
        self._open = False
        self._streams: set[str] = set()
        self._times: deque[float] = deque(maxlen=_RATE + 1)
        self._nonces: set[int] = set()

    def drop(self) -> None:
        self._venue.drop()

    def is_life(self, request: Frame) -> bool:
        return json.loads(request).get("cmd") == "beat"

    def answer(self, request: Frame) -> Iterator[Frame]:
        now = time.monotonic()
        self._times.append(now)
        if len(self._times) > _RATE and now - self._times[0] < 1:
            raise self._fault(4029, "too many messages")
        stated = json.loads(request)
        if not self._open:
            if stated != {"cmd": "open", "proto": 2}:
                raise self._fault(4000, "open first")
            self._open = True
            yield '{"type":"opened","proto":2}'
        elif stated["cmd"] == "beat":
            if set(stated) != {"cmd", "at"} or abs(stated["at"] / 1000 - time.time()) > 60:
                raise self._fault(4000, "no beat")
        elif stated["cmd"] == "probe":
            if stated["nonce"] not in self._nonces:
                raise self._fault(4000, "not requested")
            self._nonces.remove(stated["nonce"])
            self._venue.probes += 1
        elif stated["cmd"] in ("sub", "unsub"):
            yield from self._subscription(stated)
        else:
            raise self._fault(4000, "no such command")

    def _subscription(self, stated: dict[str, Any]) -> Iterator[Frame]:
        streams = [f"{stated['chan']}:{instrument}" for instrument in stated["inst"]]
        reply = {"type": "reply", "rid": stated["rid"]}
        refusal = self._refusal(stated, streams)
        if refusal is not None or not isinstance(stated["rid"], str):
            code, text = refusal or (400, "rid is no string")
            yield json.dumps({**reply, "status": "error", "code": code, "text": text})
            return
        yield json.dumps({**reply, "status": "ok"})
        if stated["cmd"] == "unsub":
            self._streams.difference_update(streams)
            return
        self._streams.update(streams)
        for instrument in stated["inst"]:
            for text in self._data(stated["chan"], instrument):
                self._venue.data.append(text)
                yield text

    def _refusal(self, stated: dict[str, Any], streams: list[str]) -> tuple[int, str] | None:
        if stated["chan"] not in ("depth", "deal") or not 1 <= len(streams) <= 3:
            return 400, "one channel, and one to three instruments"
        for instrument in stated["inst"]:
            if instrument not in INSTRUMENTS:
                return 404, f"no such instrument: {instrument}"
        if stated["cmd"] == "unsub":
            return None if self._streams.issuperset(streams) else (409, "not subscribed")
        if self._streams.intersection(streams):
            return 409, "subscribed already"
        return (413, "too many streams") if len(self._streams) + len(streams) > _STREAMS else None

    def _data(self, channel: str, instrument: str) -> Iterator[str]:
        stream = f"{channel}:{instrument}"
        self._venue.subscriptions[stream] += 1
        head = {"type": "data", "chan": channel, "inst": instrument}
        if channel == "deal":
            for first, last in ((41, 41), (42, 44), (45, 46)):
                deals = [{"n": n, "us": 1795342800000123 + n, "p": "9.1", "q": "2"} for n in range(first, last + 1)]
                yield json.dumps({**head, "deals": deals})
            return
        first = 100 * self._venue.subscriptions[stream]
        steps = [(first + 1, first + 3), (first + 4, first + 4), (first + 5, first + 9)]
        if instrument == self._venue.gap_in and self._venue.subscriptions[stream] == 1:
            del steps[1]
        for kind, (begin, end) in (("full", (first, first)), *(("step", step) for step in steps)):
            when = f"2026-11-22T10:00:00.{begin:06}Z"
            yield json.dumps({**head, "kind": kind, "time": when, "from": begin, "to": end, "bids": [], "asks": []})

    async def beside(self, connection: ServerConnection) -> None:
        nonce = 0
        with contextlib.suppress(ConnectionClosed):
            while True:
                await asyncio.sleep(0.5)
                if self._open:
                    nonce += 1
                    self._nonces.add(nonce)
                    await connection.send(json.dumps({"type": "probe", "nonce": nonce}))
                    asyncio.get_running_loop().call_later(self._venue.ping_timeout, self._expect, connection, nonce)

    def _expect(self, connection: ServerConnection, nonce: int) -> None:
        if nonce in self._nonces and connection.state.name == "OPEN":
            self._fault(4002, "no answer")
            connection.transport.abort()

    def _fault(self, code: int, reason: str) -> Refusal:
        self._venue.faults.append(reason)
        return Refusal(code, reason)
