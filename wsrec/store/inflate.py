"""Compressed messages inflated (RFC 7692), in the writer: the hot path only says which they are.

They were negotiated without context takeover, so each inflates by itself: from a journal that begins in the middle of a
connection, and after a loss.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from wsrec.ring.slotring import Flag
from wsrec.store.batch import payload_list
from wsrec.store.gather import Slots
from wsrec.wire.deflate import Inflater
from wsrec.wire.errors import ProtocolError

_RSV1 = np.uint8(Flag.RSV1)
# what the messages of a batch may inflate to together, where the largest message does not take more: a few bytes can
# become a thousand times as many, and a batch has many messages
_BATCH_LIMIT = 256 << 20


class Refused(NamedTuple):
    """A message that stays compressed: its row in the batch, and why."""

    row: int
    message: str


def inflate(slots: Slots, payload: pa.Array, max_message: int) -> tuple[Slots, pa.Array, list[Refused]]:
    """Replace what is compressed by what it inflates to, its RSV1 flag taken away.

    Args:
        slots: of whole messages.
        payload: their payloads (`large_binary`).
        max_message: bytes that a message may inflate to.

    Returns:
        The same slots and payloads where nothing is compressed. A message that does not inflate keeps its bytes and its
        flag, and is told.

    """
    compressed = np.flatnonzero(slots["flags"] & _RSV1)
    if not len(compressed):
        return slots, payload, []
    inflater = Inflater(context_takeover=False)
    slots = slots.copy()
    payloads: list[bytes | memoryview] = list(payload_list(payload))
    refused: list[Refused] = []
    left = max(_BATCH_LIMIT, max_message)
    for row in compressed.tolist():
        try:
            message = inflater.inflate(payloads[row], min(left, max_message))
        except ProtocolError as error:
            refused.append(Refused(row, str(error)))
            continue
        left -= len(message)
        payloads[row] = message
        slots["flags"][row] &= ~_RSV1
    return slots, pa.array(payloads, pa.large_binary()), refused
