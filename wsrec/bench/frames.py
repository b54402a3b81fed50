"""The frames to send, as a server writes them, in shared memory so that no process copies them."""

from __future__ import annotations

import mmap
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from websockets.frames import Frame, Opcode

from wsrec.replay import text
from wsrec.replay.market import Market
from wsrec.replay.message import SourceError
from wsrec.ring.mirror import create_shared

_DEMO_MESSAGES = 20_000
_DEMO_TIME_MS = 1_700_000_000_000
_OPCODES = {"text": Opcode.TEXT, "binary": Opcode.BINARY}


def recorded(recording: Path) -> list[tuple[Opcode, bytes]]:
    """The messages of a text recording (docs/how-to/replay.md), as opcode and payload.

    Raises:
        wsrec.replay.message.SourceError: it cannot be read, or has no messages.

    """
    messages = [(_OPCODES[message.opcode], message.payload) for message in text.read(recording)]
    if not messages:
        raise SourceError(f"{recording}: has no messages")
    return messages


def generated(count: int = _DEMO_MESSAGES) -> list[tuple[Opcode, bytes]]:
    """Messages of the demo market: one symbol's trades, best prices and book changes, a thousand per second."""
    market = Market(seed=1)
    for kind in ("trade", "bookTicker", "depth@0ms"):
        market.add(f"btcusdt@{kind}", 0.0)
    payloads: list[bytes] = []
    while len(payloads) < count:
        payloads += [event.payload for event in market.step(_DEMO_TIME_MS + len(payloads))]
    return [(Opcode.TEXT, payload) for payload in payloads[:count]]


def share(messages: list[tuple[Opcode, bytes]]) -> int:
    """Write `messages` as unmasked frames into shared memory and return its descriptor.

    It holds the end of each frame (int64, from the first frame's first byte), followed by the frames.
    """
    wire = [Frame(opcode, payload).serialize(mask=False) for opcode, payload in messages]
    ends = np.cumsum([len(frame) for frame in wire], dtype=np.int64)
    fd = create_shared("wsrec-bench-frames", ends.nbytes + int(ends[-1]))
    with mmap.mmap(fd, 0) as memory:
        memory.write(ends.tobytes() + b"".join(wire))
    return fd


class Frames:
    """Frames in shared memory, which are sent over and over.

    Args:
        fd: shared memory made by `share`.
        count: number of frames.

    """

    def __init__(self, fd: int, count: int) -> None:
        memory = mmap.mmap(fd, 0, prot=mmap.PROT_READ)
        self._ends: list[int] = np.frombuffer(memory, np.int64, count).tolist()
        self._data = memoryview(memory)[8 * count :]

    def __len__(self) -> int:
        return len(self._ends)

    def run(self, start: int, stop: int) -> memoryview:
        """The frames from `start` up to `stop`, contiguous."""
        return self._data[self._ends[start - 1] if start else 0 : self._ends[stop - 1]]

    def pieces(self, size: int) -> Iterator[tuple[int, int]]:
        """All frames once, as runs (start, stop) of about `size` bytes, at least one frame each."""
        start = 0
        while start < len(self):
            limit = (self._ends[start - 1] if start else 0) + size
            stop = max(bisect_right(self._ends, limit, start), start + 1)
            yield start, stop
            start = stop
