"""What a simulated recorder has before it: the true time line, a clock that is set, and an exchange that sends.

All moments are ns on the true time line, which is what CLOCK_MONOTONIC shows. Nothing here is computed by wsrec.
"""

from __future__ import annotations

import json
import random
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any, NamedTuple

SECOND = 1_000_000_000
HOUR = 3_600 * SECOND
BOOT = 1_000 * SECOND
END = BOOT + 10 * SECOND

_CHANNELS: dict[str, dict[str, Any]] = {
    "nx": {"exchange_seq": ["n"], "sequence": "next"},
    "pv": {"exchange_seq": ["n"], "seq_previous": ["p"], "sequence": "previous"},
    "tc": {"exchange_seq": ["n"], "seq_first": ["f"], "sequence": "touching"},
    "ov": {"exchange_seq": ["n"], "seq_first": ["f"], "sequence": "touching", "overlap": True},
    "rp": {"exchange_seq": ["n"], "sequence": "next", "repeats": True},
    "ch": {"exchange_seq": ["n"], "sequence": "next", "sequence_scope": "channel", "resets": {"numbers": [0]}},
    "up": {"exchange_seq": ["n"], "sequence": "increasing", "idle_timeout": 1},
    "pl": {"idle_timeout": 0.5},
}
"""A channel for every rule, and one without."""
_NUMBERED = frozenset({"nx", "pv", "tc", "ov", "rp", "ch"})
# as many numbers as a late comer may be behind, less some
_LATE_AT_ONCE = 15
_UNREADABLE = (None, "", "x", 1.5, {})
FEED: dict[str, Any] = {
    "description": "every rule",
    "sockets": {"main": {"url": "wss://h/s"}},
    "symbols": {"pattern": "[A-Z]+", "words": "capital letters", "example": "AB"},
    "default_symbols": ["A"],
    "subscribe": {"message": '{"topics":{topics},"id":{id}}', "batch": 3},
    "limits": {"streams_per_connection": 100, "messages_per_second": 100, "connects": 100, "connects_interval": 1},
    "fields": {"channel": ["c"], "symbol": ["s"]},
    "channels": {name: {"topic": f"{name}.{{symbol}}", **rule} for name, rule in _CHANNELS.items()},
}
COUNTED: dict[str, Any] = FEED | {
    "description": "numbers of a connection, and some that come late",
    "channels": {name: {"topic": f"{name}.{{symbol}}"} for name in _CHANNELS},
    "sequence": {"exchange_seq": ["n"], "late": {"where": {"type": ["late"]}, "within": 20}},
}
ACK = {"id": "id", "error_code": ["error"], "error_message": ["message"], "timeout": 2}


class Clock:
    """UTC as the machine shows it.

    Args:
        ahead: how far it is ahead of the true time line at first (ns).

    Attributes:
        steps: when it was set, and by how much, in order.
        anchors: when a receiver compared it with the true time line, in order.

    """

    def __init__(self, ahead: int) -> None:
        self.ahead = ahead
        self.steps: list[tuple[int, int]] = []
        self.anchors: list[int] = []

    def utc(self, time: int) -> int:
        """What it shows at a moment."""
        return time + self.ahead + sum(by for at, by in self.steps if at <= time)

    def shown(self, time: int) -> tuple[int, int]:
        """The least and the most that a recorder may hold for it: it learns of a step with the next anchor only."""
        at = bisect_left(self.anchors, time)
        around = [*self.anchors[max(at - 1, 0) : at + 1], time]
        ahead = [self.utc(each) - each for each in around]
        return time + min(ahead), time + max(ahead)


class Sent(NamedTuple):
    """A message of the exchange.

    Attributes:
        time: when.
        body: its JSON.
        removed: whether the exchange itself lost it and sent it to no client.

    """

    time: int
    body: dict[str, Any]
    removed: bool

    @property
    def payload(self) -> bytes:
        """As it comes."""
        return json.dumps(self.body).encode()


class Exchange:
    """An exchange that sends what it has, anyone who listens.

    Args:
        chance: where its dice come from.
        calm: whether it loses nothing.
        counts: whether its numbers count the messages of a connection (`COUNTED`).

    Attributes:
        sent: by topic, in order of time.

    """

    def __init__(self, chance: random.Random, *, calm: bool, counts: bool) -> None:
        self._chance = chance
        self._calm = calm
        self.counts = counts
        self.sent: dict[str, list[Sent]] = {}

    def open(self, symbols: str) -> list[str]:
        """Some topics of some symbols, and their messages; returns the topics."""
        # of numbers that are shared, some are those of topics that are not confirmed yet
        known = sorted(_CHANNELS.keys() - ({"ch"} if self._calm else set()))
        channels = self._chance.sample(known, self._chance.randint(2, 4))
        for channel in channels:
            for symbol in symbols:
                self.sent[f"{channel}.{symbol}"] = []
            self._make_messages(channel, symbols)
        return [f"{channel}.{symbol}" for channel in channels for symbol in symbols]

    def _make_messages(self, channel: str, symbols: str) -> None:
        chance = self._chance
        if chance.random() < 0.1:
            return
        gap = chance.choice([50, 150, 500]) * 1_000_000
        spoiled = 0 if self._calm else chance.choice([0, 0, 0, 1, 2])
        unread = [sorted(chance.sample(range(100), 2)) for _ in range(spoiled)]
        loses = self.counts or channel in _NUMBERED
        rare = 0.0 if self._calm or not loses else chance.choice([0.0, 0.0, 0.01, 0.05])
        numbers = _Numbers(chance, channel, symbols)
        time = BOOT
        while (time := time + chance.randint(1, 2 * gap)) < END:
            symbol = chance.choice(symbols)
            removed = chance.random() < rare
            body = {"c": channel, "s": symbol, "t": time}
            if not self.counts:
                body |= numbers.next(symbol, removed=removed)
            part = (time - BOOT) * 100 // (END - BOOT)
            if any(first <= part < last for first, last in unread) and chance.random() < 0.7:
                spoil(body, chance)
            self.sent[f"{channel}.{symbol}"].append(Sent(time, body, removed))

    def number(self, messages: list[Sent]) -> list[Sent]:
        """The messages of one life of a connection, numbered where numbers are those of the connection.

        Some take their number early, and come behind those that took higher ones.
        """
        if not self.counts:
            return messages
        chance = self._chance
        late = {n for n in range(len(messages)) if chance.random() < 0.03}
        # not all of them come within what the feed allows; where one does not come at all no number can show it then,
        # nor where it took its number before the first that came
        late -= {n for n in late if messages[n].removed and n < _LATE_AT_ONCE * 2}
        most = {n: _LATE_AT_ONCE if self._calm or messages[n].removed else 4 * _LATE_AT_ONCE for n in late}
        early = {n: n - chance.randint(1, most[n]) - 0.5 if n in late else n for n in range(len(messages))}
        numbers = {n: number for number, n in enumerate(sorted(early, key=early.__getitem__), 1)}
        numbered = []
        for n, each in enumerate(messages):
            kind = {"type": "late"} if n in late else {}
            broken = "n" in each.body or "nn" in each.body
            numbered.append(each._replace(body=each.body | kind | ({} if broken else {"n": numbers[n]})))
        return numbered


class _Numbers:
    """The numbers of a channel's messages."""

    def __init__(self, chance: random.Random, channel: str, symbols: str) -> None:
        self._chance, self._channel = chance, channel
        self._last = dict.fromkeys(symbols, chance.randint(1, 5))
        # what is lost shows only where nothing that came says the same once more
        self._removed = dict.fromkeys(symbols, True)
        self._shared = symbols[0] if channel == "ch" else None

    def next(self, symbol: str, *, removed: bool) -> dict[str, int]:
        """Those of the next message."""
        chance, channel = self._chance, self._channel
        counter = self._shared or symbol
        before = self._last[counter]
        number = before + (chance.randint(1, 3) if channel in ("up", "pv", "ov") else 1)
        first = before + 1
        again = not removed and not self._removed[counter]
        if channel == "ch" and chance.random() < 0.01:
            number = 0
        if channel == "rp" and again and chance.random() < 0.2:
            number = before
        if channel == "ov" and again and chance.random() < 0.3:
            first -= chance.randint(0, 2)
        self._last[counter], self._removed[counter] = number, removed
        return {"n": number, "p": before, "f": first}


def spoil(body: dict[str, Any], chance: random.Random) -> None:
    """Make one of a message's numbers one that cannot be read."""
    key = chance.choice([key for key in "npf" if key in body] or ["n"])
    number = body.pop(key, None)
    if chance.random() < 0.5:
        body[key] = chance.choice(_UNREADABLE)
    else:
        body["nn"] = number


def parts(topics: list[str]) -> Iterator[list[str]]:
    """The topics of each request."""
    for start in range(0, len(topics), 3):
        yield topics[start : start + 3]
