"""Pings that an exchange sends as messages, found beside the hot path and answered.

The hot path does not look into messages. So the slots that were published since the last look are looked at here, all
at once: those of the connections concerned that are short enough are read where they lie in the byte ring, if they
still do. What comes in several frames is joined, up to the length of a ping. A feed without such pings costs nothing.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from wsrec.feed.packed import unpacked
from wsrec.feed.paths import first, steps
from wsrec.feed.plan import Answer
from wsrec.receive.producer import Producer
from wsrec.ring.bytering import ByteRing
from wsrec.ring.slotring import Flag
from wsrec.wire import frames

INTERVAL = 0.05
# a ping of a few hundred bytes does not become more than this
_INFLATED_MAX = 64 << 10
_OWN = int(Flag.SENT | Flag.EVENT)


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


@dataclass
class _Begun:
    """A message of several frames, of which more is to come."""

    compressed: bool
    data: bytearray


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
        self._asked = np.zeros(1 << 16, np.bool_)
        for conn, one in pinged.items():
            self._longest[conn] = max(answer.max_bytes for answer in one.answers)
            self._asked[conn] = True
        self._begun: dict[int, _Begun] = {}

    async def run(self) -> None:
        """Look again and again, until cancelled; at once over where there is nothing to look for."""
        while self._pinged:
            await asyncio.sleep(INTERVAL)
            self.look()

    def look(self) -> None:
        """Answer the pings among what was published since the last look."""
        ring, published = self._producer.slots, self._producer.count
        start = max(self._seen, published - ring.capacity)
        if start > self._seen:
            self._begun.clear()
        self._seen = published
        slots = ring.run(start, published)
        opcode = slots["opcode"]
        mine = self._asked[slots["conn"]] & (slots["flags"] & _OWN == 0) & (opcode < frames.CLOSE)
        whole = (slots["flags"] & Flag.FIN != 0) & (opcode > 0)
        # a long message costs no more than to be passed over
        wanted = mine & (~whole | (slots["length"] <= self._longest[slots["conn"]]))
        for row in np.flatnonzero(wanted).tolist():
            one, slot = self._pinged[int(slots["conn"][row])], slots[row]
            message = self._message(one, slot) if whole[row] else self._joined(one, slot)
            if message is not None:
                _answer(one, bytes(message.data), compressed=message.compressed)

    def _message(self, one: Pinged, slot: np.void) -> _Begun | None:
        """What a slot holds; None where it is too long for a ping, or bytes received since lie over it."""
        offset, length = int(slot["offset"]), int(slot["length"])
        if length > self._longest[slot["conn"]] or offset < one.ring.head.read() - one.ring.capacity:
            return None
        return _Begun(bool(slot["flags"] & Flag.RSV1), bytearray(one.ring.slice(offset, length)))

    def _joined(self, one: Pinged, slot: np.void) -> _Begun | None:
        """The message of several frames that a slot completes; None where it does not, or it is none that counts."""
        conn = int(slot["conn"])
        begun = self._begun.pop(conn, None)
        part = self._message(one, slot)
        if part is None:
            return None
        if slot["opcode"] > 0:
            # what was begun before it was left so by a connection that was lost
            begun = part
        elif begun is None or len(begun.data) + len(part.data) > self._longest[conn]:
            return None
        else:
            begun.data += part.data
        if slot["flags"] & Flag.FIN:
            return begun
        self._begun[conn] = begun
        return None


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
    """What a message says: as it came, or out of permessage-deflate (RFC 7692), or as the exchange packed it."""
    try:
        if compressed:
            payload = zlib.decompressobj(-zlib.MAX_WBITS).decompress(payload + b"\0\0\xff\xff", _INFLATED_MAX)
    except zlib.error:
        return b""
    return bytes(unpacked(payload, _INFLATED_MAX) or b"")


def _json(value: Any) -> str:
    return json.dumps(value if isinstance(value, str | int | float) else None, ensure_ascii=False)
