"""Pings that an exchange sends as messages, found beside the hot path and answered.

The hot path does not look into messages. So the slots that were published since the last look are looked at here, all
at once: those of the connections concerned that are short enough are read where they lie in the byte ring, if they
still do. What comes in several frames is joined, up to the length of a ping. A feed without such pings costs nothing.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from wsrec.feed.pings import find_ping
from wsrec.plan.connections import Answer
from wsrec.receive.producer import Producer
from wsrec.ring.bytering import ByteRing
from wsrec.ring.slotring import Flag
from wsrec.wire import frames

INTERVAL = 0.05
_OWN = int(Flag.SENT | Flag.EVENT)


class PingSource(NamedTuple):
    """A connection whose exchange pings.

    Attributes:
        answers: what it may send, and what to answer.
        ring: the connection's byte ring.
        answer: sends an answer with what is to stand for `{value}`, and is told how many frames the ping had.
        end: ends the connection, because of an error.

    """

    answers: tuple[Answer, ...]
    ring: ByteRing
    answer: Callable[[Answer, str, int], None]
    end: Callable[[Exception], None]


@dataclass
class _Begun:
    """A message of several frames, of which more is to come."""

    compressed: bool
    data: bytearray
    frames: int = 1


class PongResponder:
    """Looks for pings, and answers them.

    Args:
        producer: the receiver's slots.
        ping_sources: the connections concerned, by number.

    """

    def __init__(self, producer: Producer, ping_sources: Mapping[int, PingSource]) -> None:
        self._producer = producer
        self._pinged = ping_sources
        self._seen = producer.count
        # longest message worth a look, by connection
        self._longest = np.zeros(1 << 16, np.uint32)
        self._asked = np.zeros(1 << 16, np.bool_)
        for conn, one in ping_sources.items():
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
            if message is None:
                continue
            try:
                _answer(one, message)
            except Exception as error:  # noqa: BLE001 (whoever has it looked for pings has others served, too)
                one.end(error)

    def _message(self, one: PingSource, slot: np.void) -> _Begun | None:
        """What a slot holds; None where it is too long for a ping, or bytes received since lie over it."""
        offset, length = int(slot["offset"]), int(slot["length"])
        if length > self._longest[slot["conn"]] or offset < one.ring.head.read() - one.ring.capacity:
            return None
        return _Begun(bool(slot["flags"] & Flag.RSV1), bytearray(one.ring.slice(offset, length)))

    def _joined(self, one: PingSource, slot: np.void) -> _Begun | None:
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
            begun.frames += 1
        if slot["flags"] & Flag.FIN:
            return begun
        self._begun[conn] = begun
        return None


def _answer(one: PingSource, message: _Begun) -> None:
    payload = bytes(message.data)
    if message.compressed:
        payload = _inflated(payload, max(answer.max_bytes for answer in one.answers))
    found = find_ping(one.answers, payload)
    if found is not None:
        one.answer(*found, message.frames)


def _inflated(payload: bytes, limit: int) -> bytes:
    """A message out of permessage-deflate (RFC 7692); nothing where it is more than `limit` bytes, or damaged."""
    try:
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(payload + b"\0\0\xff\xff", limit + 1)
    except zlib.error:
        return b""
    return data if len(data) <= limit else b""
