"""MEXC: spot, with data as protobuf and answers as text; futures, as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from tests.venues.mock import Frame, Refusal, Venue

BLOCKED = "Not Subscribed successfully! [%s].  Reason： Blocked! "  # noqa: RUF001 (its own colon)
TOPIC = re.compile(
    r"spot@public\.(aggre\.(deals|depth|bookTicker)\.v3\.api\.pb@(100|10)ms@(?P<symbol>\w+)"
    r"|limit\.depth\.v3\.api\.pb@(?P<limited>\w+)@(5|10|20)|miniTicker\.v3\.api\.pb@(?P<mini>\w+)@UTC\+8)"
)


class Spot(Venue):
    """Confirms by the stream's name, sends protobuf; closes normally after two pings."""

    idle_limit = 5.0
    symbols = frozenset({"BTCUSDT"})

    def __init__(self) -> None:
        super().__init__()
        self.pings = 0
        self.taken: set[str] = set()

    def is_life(self, request: Frame) -> bool:
        return request == '{"method":"PING"}'

    def answer(self, request: Frame) -> Iterator[Frame]:
        requested = json.loads(request)
        if requested == {"method": "PING"}:
            self.pings += 1
            yield _stated(0, "PONG")
            if self.pings == 2:
                raise Refusal(1000, "done")
            return
        assert requested.keys() == {"method", "params"}
        assert requested["method"] == "SUBSCRIPTION"
        for topic in requested["params"]:
            found = TOPIC.fullmatch(topic)
            if found is None or len(self.taken) == 30:
                yield _stated(1, f"wrong topic: {topic}")
            elif (symbol := next(filter(None, found.group("symbol", "limited", "mini")))) not in self.symbols:
                yield _stated(0, BLOCKED % topic)
            else:
                self.taken.add(topic)
                yield _stated(0, topic)
                yield from (pushed(topic, symbol, 1_731_000_000_000, number) for number in range(2))


class Futures(Venue):
    """Confirms by the method alone; closes normally after two pings."""

    idle_limit = 5.0
    symbols = frozenset({"BTC_USDT"})
    silent = "NONE_USDT"

    def __init__(self) -> None:
        super().__init__()
        self.pings = 0

    def is_life(self, request: Frame) -> bool:
        return request == '{"method":"ping"}'

    def answer(self, request: Frame) -> Iterator[Frame]:
        requested = json.loads(request)
        if requested == {"method": "ping"}:
            self.pings += 1
            yield json.dumps({"channel": "pong", "data": 1587453241453})
            if self.pings == 2:
                raise Refusal(1000, "done")
            return
        assert requested.keys() == {"method", "param", "gzip"}
        assert requested["gzip"] is False
        channel = requested["method"].removeprefix("sub.")
        wanted = {"symbol", "limit"} if channel == "depth.full" else {"symbol"}
        symbol = requested["param"]["symbol"]
        known = channel in ("deal", "depth", "depth.full", "ticker") and requested["param"].keys() == wanted
        if not known or symbol not in (*self.symbols, self.silent):
            yield json.dumps({"channel": "rs.error", "data": f"Contract [{symbol}] not exists", "ts": 1587442022003})
            return
        yield json.dumps({"channel": f"rs.sub.{channel}", "data": "success", "ts": 1587442022003})
        if symbol == self.silent:
            return
        data: list[object] = [{"asks": [], "bids": [["6859.5", 3251, 1]], "version": 7}]
        if channel == "deal":
            data = [[{"p": "115309.8", "v": 55, "T": 2, "O": 3, "M": 1, "i": "10", "t": 1755487578276}]]
        elif channel == "depth":
            ranges = [(5, 5), (6, 9), (10, 10), (14, 15)]  # 11 to 13 are left out
            data = [
                {"asks": [["6859.5", 3251, 1]], "bids": [], "version": last, "begin": first, "end": last, "cts": 1}
                for first, last in ranges
            ]
        elif channel == "ticker":
            data = [{"symbol": symbol, "lastPrice": 6865.5, "bid1": 6865, "ask1": 6866.5, "timestamp": 1587442022003}]
        for number, each in enumerate(data):
            pushed = {"symbol": symbol, "data": each, "channel": f"push.{channel}", "ts": 1755487578000 + number}
            yield json.dumps(pushed)


def pushed(channel: str, symbol: str, time_ms: int, count: int) -> bytes:
    """A PushDataV3ApiWrapper: channel 1, symbol 3, createTime 5, sendTime 6, and a body; of books 10, then 12."""
    version, level = str(10 + 2 * count).encode(), _message((1, b"99.9"), (2, b"0.5"))
    number, body = next(body for kind, body in _bodies(version, level, time_ms).items() if kind in channel)
    return _message(
        (1, channel.encode()), (3, symbol.encode()), (5, time_ms + count), (6, time_ms + count + 3), (number, body)
    )


def _bodies(version: bytes, level: bytes, time_ms: int) -> dict[str, tuple[int, bytes]]:
    deal = _message((1, b"100.1"), (2, b"0.2"), (3, 2), (4, time_ms), (5, b"1X0"))
    best = ((1, b"99.9"), (2, b"1.2"), (3, b"100.1"), (4, b"2.3"), (5, version), (6, time_ms))
    return {
        "aggre.deals": (314, _message((1, deal), (2, b"deals"))),
        "aggre.depth": (313, _message((2, level), (4, version), (5, version))),
        "aggre.bookTicker": (315, _message(*best)),
        "limit.depth": (303, _message((1, level), (2, level), (4, version))),
        "miniTicker": (309, _message((1, b"BTCUSDT"), (2, b"100"), (5, b"101"), (6, b"99"))),
    }


def _message(*fields: tuple[int, bytes | int]) -> bytes:
    return b"".join(_field(number, value) for number, value in fields)


def _field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _stated(code: int, text: str) -> str:
    return json.dumps({"id": 0, "code": code, "msg": text}, ensure_ascii=False)
