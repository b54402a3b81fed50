"""Messages out of slots: fragments and parts of large frames joined, each message once, in order of hand-off."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from wsrec.ring.events import Event, EventKind
from wsrec.ring.slotring import Flag
from wsrec.store.batch import Batch, payload_list
from wsrec.store.gather import Slots

_FIN = int(Flag.FIN)
_RSV1 = int(Flag.RSV1)
_EVENT = int(Flag.EVENT)
_OWN_WORDS = int(Flag.SENT | Flag.EVENT | Flag.REST)
_FIRST_CONTROL = 8


class _Open(NamedTuple):
    opcode: int
    flags: int
    parts: list[bytes]


class Joiner:
    """Joins what belongs together, across batches.

    A joined message has the stamps of the slot that completed it, and opcode and RSV1 of the one that began it.
    """

    def __init__(self) -> None:
        self._open: dict[tuple[int, int], _Open] = {}

    @property
    def pending(self) -> bool:
        """Whether a message has begun and not ended."""
        return bool(self._open)

    def join(self, batch: Batch) -> tuple[Slots, pa.Array]:
        """The slots that complete a message or event, and their whole payloads (`large_binary`)."""
        flags, opcodes = batch.slots["flags"], batch.slots["opcode"]
        whole = flags & _FIN != 0
        if not self._open and bool(np.all(whole & ((opcodes != 0) | (flags & _EVENT != 0)))):
            return batch.slots, batch.payload

        slots = batch.slots.copy()
        payloads: list[bytes | memoryview] = []
        kept: list[int] = []
        for row, payload in enumerate(payload_list(batch.payload)):
            flag, opcode = int(flags[row]), int(opcodes[row])
            key = (int(slots["conn"][row]), flag & _OWN_WORDS)
            if 0 < opcode < _FIRST_CONTROL:
                # the beginning of a message: what is unfinished before it was left so by a connection that was lost
                self._open.pop(key, None)
            begun = None if opcode >= _FIRST_CONTROL else self._open.get(key)
            if not flag & _FIN:
                if begun is None:
                    self._open[key] = begun = _Open(opcode, flag & _RSV1, [])
                begun.parts.append(bytes(payload))
                continue
            if begun is not None:
                begun.parts.append(bytes(payload))
                payload = memoryview(b"".join(begun.parts))
                slots["opcode"][row] = begun.opcode
                slots["flags"][row] |= begun.flags
                del self._open[key]
            if flag & _EVENT and (event := Event.decode(payload)).kind is EventKind.DISCONNECT:
                self._open.pop((event.conn or 0, 0), None)
            kept.append(row)
            payloads.append(payload)
        return slots[kept], pa.array(payloads, pa.large_binary())
