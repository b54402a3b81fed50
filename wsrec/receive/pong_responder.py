"""Application-level pong responder: finds pings that an exchange sends as messages, and answers them.

The hot path does not inspect messages. So the slots published since the last check are examined here, all at once:
those of the connections concerned that are short enough are read in place from the byte ring, if they are still there.
Fragmented messages are reassembled up to the length of a ping. A feed without such pings costs nothing.
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
from wsrec.ring.slot_flags import CONTROL_RECORD, FLAG_FIN, FLAG_RSV1
from wsrec.wire import frames

INTERVAL = 0.05


class PingSource(NamedTuple):
    """A connection whose exchange sends application-level pings.

    Attributes:
        answers: the pings to expect, and their answers.
        ring: the connection's byte ring.
        answer: sends an answer with the value for `{value}`, and receives the number of frames of the ping.
        end: ends the connection with an error.

    """

    answers: tuple[Answer, ...]
    ring: ByteRing
    answer: Callable[[Answer, str, int], None]
    end: Callable[[Exception], None]


@dataclass
class _Begun:
    """A fragmented message that is not complete."""

    compressed: bool
    data: bytearray
    frames: int = 1


class PongResponder:
    """Finds pings and answers them.

    Args:
        producer: the receiver's slots.
        ping_sources: the connections concerned, by number.

    """

    def __init__(self, producer: Producer, ping_sources: Mapping[int, PingSource]) -> None:
        self._producer = producer
        self._sources = ping_sources
        self._seen = producer.count
        # longest message that may be a ping, by connection
        self._longest = np.zeros(1 << 16, np.uint32)
        self._has_pings = np.zeros(1 << 16, np.bool_)
        for conn, one in ping_sources.items():
            self._longest[conn] = max(answer.max_bytes for answer in one.answers)
            self._has_pings[conn] = True
        self._begun: dict[int, _Begun] = {}

    async def run(self) -> None:
        """Check periodically, until cancelled; returns at once if no connection is concerned."""
        while self._sources:
            await asyncio.sleep(INTERVAL)
            self.look()

    def look(self) -> None:
        """Answer the pings published since the last check."""
        ring, published = self._producer.slots, self._producer.count
        start = max(self._seen, published - ring.capacity)
        if start > self._seen:
            self._begun.clear()
        self._seen = published
        slots = ring.run(start, published)
        opcode = slots["opcode"]
        mine = self._has_pings[slots["conn"]] & (slots["flags"] & CONTROL_RECORD == 0) & (opcode < frames.CLOSE)
        whole = (slots["flags"] & FLAG_FIN != 0) & (opcode > 0)
        # a long message is skipped without being read
        wanted = mine & (~whole | (slots["length"] <= self._longest[slots["conn"]]))
        for row in np.flatnonzero(wanted).tolist():
            one, slot = self._sources[int(slots["conn"][row])], slots[row]
            message = self._message(one, slot) if whole[row] else self._joined(one, slot)
            if message is None:
                continue
            try:
                _answer(one, message)
            except Exception as error:  # noqa: BLE001 (a failure must not affect the other connections)
                one.end(error)

    def _message(self, one: PingSource, slot: np.void) -> _Begun | None:
        """The payload of a slot; None if it is too long for a ping, or overwritten by later data."""
        offset, length = int(slot["offset"]), int(slot["length"])
        if length > self._longest[slot["conn"]] or offset < one.ring.head.read() - one.ring.capacity:
            return None
        return _Begun(bool(slot["flags"] & FLAG_RSV1), bytearray(one.ring.slice(offset, length)))

    def _joined(self, one: PingSource, slot: np.void) -> _Begun | None:
        """The reassembled message that a slot completes; None if it completes none, or none that may be a ping."""
        conn = int(slot["conn"])
        begun = self._begun.pop(conn, None)
        part = self._message(one, slot)
        if part is None:
            return None
        if slot["opcode"] > 0:
            # an earlier unfinished one belongs to a lost connection
            begun = part
        elif begun is None or len(begun.data) + len(part.data) > self._longest[conn]:
            return None
        else:
            begun.data += part.data
            begun.frames += 1
        if slot["flags"] & FLAG_FIN:
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
    """Inflate a permessage-deflate message (RFC 7692); empty if it is more than `limit` bytes, or damaged."""
    try:
        data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(payload + b"\0\0\xff\xff", limit + 1)
    except zlib.error:
        return b""
    return data if len(data) <= limit else b""
