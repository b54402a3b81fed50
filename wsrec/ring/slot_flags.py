"""The bits of a slot's `flags`, and the masks made of them, as plain integers: numpy and the hot path take those.

`slot_layout.pxd` has the same numbers for compiled code; they are compared when that is imported.
"""

from __future__ import annotations

from enum import IntFlag
from typing import Final


class Flag(IntFlag):
    """Bits of a slot's `flags`."""

    FIN = 0x01
    """The message ends with this slot. Without it the next data slot of the connection goes on."""
    RSV1 = 0x02
    """The frame's RSV1 bit: the message is compressed (RFC 7692)."""
    SENT = 0x04
    """wsrec sent it. The payload lies in the control ring."""
    EVENT = 0x08
    """Not a frame: an event (`wsrec.ring.events`). The payload lies in the control ring."""
    COARSE = 0x10
    """The three differences are in units of 1,024 ns."""
    LAST = 0x20
    """The last frame that its read completed."""
    REST = 0x40
    """Never in a ring: the writer's own slot in the journal, of a snapshot fetched over HTTP. `offset` is the number
    of the stream that it is of."""


# an operation on a member of `Flag` costs more than the rest of a frame
FLAG_FIN: Final = int(Flag.FIN)
FLAG_RSV1: Final = int(Flag.RSV1)
FLAG_SENT: Final = int(Flag.SENT)
FLAG_EVENT: Final = int(Flag.EVENT)
FLAG_COARSE: Final = int(Flag.COARSE)
FLAG_LAST: Final = int(Flag.LAST)
FLAG_REST: Final = int(Flag.REST)

CONTROL_RECORD: Final = FLAG_SENT | FLAG_EVENT
"""A frame that was sent, or an event: the payload lies in the control ring, not in a connection's."""
NOT_RECEIVED: Final = CONTROL_RECORD | FLAG_REST
"""None of these: a frame that a connection received."""
WHOLE_EVENT: Final = FLAG_EVENT | FLAG_FIN
"""Both: an event in one slot."""
WHOLE_SNAPSHOT: Final = FLAG_REST | FLAG_FIN
"""Both: a snapshot fetched over HTTP."""
OF_THE_READ: Final = FLAG_COARSE | FLAG_LAST
"""Say something of the read and nothing of the message."""
ALL_BUT_RSV1: Final = 0xFF ^ FLAG_RSV1
"""What is left of the flags of a message that was inflated."""
