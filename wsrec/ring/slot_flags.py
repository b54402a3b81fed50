"""The bits of a slot's `flags`, and masks of several, as plain integers for numpy and the hot path.

`slot_layout.pxd` has the same numbers for compiled code; its import compares them.
"""

from __future__ import annotations

from enum import IntFlag
from typing import Final


class Flag(IntFlag):
    """Bits of a slot's `flags`."""

    FIN = 0x01
    """The message ends with this slot; otherwise the connection's next data slot continues it."""
    RSV1 = 0x02
    """The frame's RSV1 bit: the message is compressed (RFC 7692)."""
    SENT = 0x04
    """The frame was sent by wsrec. The payload is in the control ring."""
    EVENT = 0x08
    """Not a frame, but an event (`wsrec.ring.events`). The payload is in the control ring."""
    COARSE = 0x10
    """The three differences are in units of 1,024 ns."""
    LAST = 0x20
    """The last frame that its read completed."""
    REST = 0x40
    """Never in a ring: the writer's own slot in the journal for a snapshot fetched over HTTP. `offset` is the number of
    its stream."""


# an operation on a `Flag` member takes longer than the rest of a frame's processing
FLAG_FIN: Final = int(Flag.FIN)
FLAG_RSV1: Final = int(Flag.RSV1)
FLAG_SENT: Final = int(Flag.SENT)
FLAG_EVENT: Final = int(Flag.EVENT)
FLAG_COARSE: Final = int(Flag.COARSE)
FLAG_LAST: Final = int(Flag.LAST)
FLAG_REST: Final = int(Flag.REST)

CONTROL_RECORD: Final = FLAG_SENT | FLAG_EVENT
"""A sent frame or an event: the payload is in the control ring, not in a connection's ring."""
NOT_RECEIVED: Final = CONTROL_RECORD | FLAG_REST
"""A received frame has none of these."""
WHOLE_EVENT: Final = FLAG_EVENT | FLAG_FIN
"""An event in one slot has both."""
WHOLE_SNAPSHOT: Final = FLAG_REST | FLAG_FIN
"""A snapshot fetched over HTTP has both."""
OF_THE_READ: Final = FLAG_COARSE | FLAG_LAST
"""Flags about the read, not about the message."""
ALL_BUT_RSV1: Final = 0xFF ^ FLAG_RSV1
"""Flags that remain for an inflated message."""
