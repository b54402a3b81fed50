"""Inflates compressed messages (RFC 7692) in the writer: the hot path only marks them.

They are negotiated without context takeover, so that each inflates by itself: from a journal that begins in
mid-connection, and after a loss.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pyarrow as pa

from wsrec.arrays import large_binary, where_set
from wsrec.ring.slot_flags import ALL_BUT_RSV1, FLAG_RSV1
from wsrec.wire.deflate import Inflater
from wsrec.wire.errors import ProtocolError
from wsrec.writer.batch import payload_list
from wsrec.writer.gather import Slots

# Total inflated size of a piece, not counting its last message: a few bytes can inflate a thousandfold, and a batch has
# many messages
_PIECE_BYTES = 8 << 20


class Refused(NamedTuple):
    """A message that stays compressed: its row in the batch, and the reason."""

    row: int
    message: str


class Piece(NamedTuple):
    """Some consecutive messages, inflated.

    Attributes:
        before: their slots and payloads as received.
        slots, payload: the same with the compressed ones inflated; not copied if none was compressed.
        refused: those that stay compressed.

    """

    before: tuple[Slots, pa.Array]
    slots: Slots
    payload: pa.Array
    refused: list[Refused]


def inflate(slots: Slots, payload: pa.Array, max_message: int) -> Iterator[Piece]:
    """Inflate the compressed messages and clear their RSV1 flag, in pieces of a limited size.

    Args:
        slots: slots of complete messages.
        payload: their payloads (`large_binary`).
        max_message: largest inflated size in bytes. A message that does not inflate keeps its payload and its flag.

    """
    compressed = where_set(slots["flags"] & FLAG_RSV1)
    if not len(compressed):
        yield Piece((slots, payload), slots, payload, [])
        return
    inflater = Inflater(context_takeover=False)
    payloads: list[bytes | memoryview] = []
    refused: list[Refused] = []
    flags = slots["flags"].copy()
    start = size = 0
    marked = set(compressed.tolist())
    for row, data in enumerate(payload_list(payload)):
        message: bytes | memoryview = data
        if row in marked:
            try:
                message = inflater.inflate(data, max_message)
                flags[row] &= ALL_BUT_RSV1
            except ProtocolError as error:
                refused.append(Refused(row - start, str(error)))
        size += len(message)
        payloads.append(message)
        if size >= _PIECE_BYTES or row == len(slots) - 1:
            made = slots[start : row + 1].copy()
            made["flags"] = flags[start : row + 1]
            before = slots[start : row + 1], payload[start : row + 1]
            del message
            yield Piece(before, made, large_binary(payloads), refused)
            payloads, refused, start, size = [], [], row + 1, 0
