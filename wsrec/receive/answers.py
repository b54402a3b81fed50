"""Pings that an exchange sends as messages, found beside the hot path and answered.

The hot path does not look into messages. So the slots that were published since the last look are looked at here, all
at once: those of the connections concerned that are short enough are read where they lie in the byte ring, if they
still do. A feed without such pings costs nothing.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from wsrec.feed.paths import first, steps
from wsrec.feed.plan import Answer
from wsrec.receive.producer import Producer
from wsrec.ring.bytering import ByteRing
from wsrec.ring.slotring import Flag
from wsrec.wire import frames

INTERVAL = 0.05
# a ping of a few hundred bytes does not become more than this
_INFLATED_MAX = 64 << 10
_GZIP = b"\x1f\x8b"
_WHOLE = int(Flag.FIN)
_KIND = int(Flag.FIN | Flag.SENT | Flag.EVENT)


class Pinged(NamedTuple):
    """A connection whose exchange pings.

    Attributes:
        answers: what it may send, and what to answer.
        ring: the connection's byte ring.
        answer: sends a text, in which `{value}` is to be replaced by the JSON given.

    """

    answers: tuple[Answer, ...]
    ring: ByteRing
    answer: Callable[[str, str], None]


class Answers:
    """Looks for pings, and answers them.

    Args:
        producer: the receiver's slots.
        pinged: the connections concerned, by number.

    """

    def __init__(self, producer: Producer, pinged: Mapping[int, Pinged]) -> None:
        self._producer = producer
        self._pinged = pinged
        self._seen = producer.count
        # longest message worth a look, by connection
        self._longest = np.zeros(1 << 16, np.uint32)
        for conn, one in pinged.items():
            self._longest[conn] = max(answer.max_bytes for answer in one.answers)

    async def run(self) -> None:
        """Look again and again, until cancelled; at once over where there is nothing to look for."""
        while self._pinged:
            await asyncio.sleep(INTERVAL)
            self.look()

    def look(self) -> None:
        """Answer the pings among what was published since the last look."""
        ring, published = self._producer.slots, self._producer.count
        start, self._seen = max(self._seen, published - ring.capacity), published
        slots = ring.run(start, published)
        opcode = slots["opcode"]
        short = (slots["flags"] & _KIND == _WHOLE) & (opcode > 0) & (opcode < frames.CLOSE)
        short &= slots["length"] <= self._longest[slots["conn"]]
        for row in np.flatnonzero(short).tolist():
            one = self._pinged.get(int(slots["conn"][row]))
            if one is not None:
                offset, length = int(slots["offset"][row]), int(slots["length"][row])
                # received since, bytes may lie over it
                if offset >= one.ring.head.read() - one.ring.capacity:
                    compressed = bool(slots["flags"][row] & Flag.RSV1)
                    _answer(one, bytes(one.ring.slice(offset, length)), compressed=compressed)


def _answer(one: Pinged, payload: bytes, *, compressed: bool) -> None:
    rules = [answer for answer in one.answers if len(payload) <= answer.max_bytes]
    data = _inflated(payload, compressed=compressed)
    rules = [answer for answer in rules if _may_hold(data, answer.path)]
    if not rules:
        return
    try:
        message = json.loads(data)
    except (ValueError, RecursionError):
        return
    for rule in rules:
        found = first(message, rule.path)
        if found is not None and (rule.match is None or found == rule.match):
            one.answer(rule.text, _json(first(message, rule.value) if rule.value else None))
            return


def _may_hold(data: bytes, path: str) -> bool:
    """Whether the last key of a path is in a message, which is found out quicker than all that it says."""
    last = steps(path)[-1]
    return not isinstance(last, str) or f'"{last}"'.encode() in data


def _inflated(payload: bytes, *, compressed: bool) -> bytes:
    """What a message says: as it came, or out of permessage-deflate (RFC 7692), or out of gzip."""
    try:
        if compressed:
            payload = zlib.decompressobj(-zlib.MAX_WBITS).decompress(payload + b"\0\0\xff\xff", _INFLATED_MAX)
        if payload.startswith(_GZIP):
            payload = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(payload, _INFLATED_MAX)
    except zlib.error:
        return b""
    return payload


def _json(value: Any) -> str:
    return json.dumps(value if isinstance(value, str | int | float) else None, ensure_ascii=False)
