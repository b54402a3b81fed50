"""Evidence for the ends of a lost interval: the values of its event's `from_evidence`, `to_evidence`, `bound`."""

from __future__ import annotations

from typing import NamedTuple

EXACT = "exact"
"""both ends were seen when they happened"""
UPPER = "upper"
"""an end was not seen: the interval reaches as far as it can have lasted"""

LAST_BYTE = "last byte read"
LAST_FRAME = "last frame handed over"
LAST_MESSAGE = "last message"
LAST_WORD = "receiver's last word"
WANTED = "connection first wanted"
NAMED = "time in the session's id"
OPENED = "connection opened"
CLOSED_UNREAD = "connection closed unread"
REPLACED = "first message of another connection"
FIRST_DATA = "first data"
SESSION_END = "session's end"
INTERRUPTED = "the recorder was interrupted"
"""the reason of a lost interval that lasts until everything of a session had been killed"""
LAST_ROW = "last journalled row"
NEXT_ROW = "next journalled row"
ARRIVED = "the message's arrival"
HANDED_OFF = "the message's hand-off"


class Since(NamedTuple):
    """Since when something is lost.

    Attributes:
        time: ns on the stage clock.
        evidence: what that is known from.
        bound: `EXACT`, or `UPPER` where it may be later.

    """

    time: int
    evidence: str
    bound: str = EXACT


class Until(NamedTuple):
    """Until when something is lost at most.

    Attributes:
        time: ns since the epoch.
        evidence: what that is known from.
        stage: ns on the stage clock; None where nothing tells.

    """

    time: int
    evidence: str
    stage: int | None = None


def since_death(complete_until: int, event: int, began: int) -> Since:
    """Since when a connection is lost whose receiver died (all ns on the stage clock).

    Args:
        complete_until: the last watermark (`ByteRing.complete_until`); 0 before the connection was open.
        event: the read of the last frame that it handed over; 0 where that is not known.
        began: when the first receiver was started.

    """
    if event and event >= complete_until:
        return Since(event, LAST_FRAME)
    if complete_until:
        # it is published ten times a second
        return Since(complete_until, LAST_WORD, UPPER)
    return Since(began, WANTED)
