"""Evidence for the ends of a lost interval: the values of its event's `from_evidence`, `to_evidence`, `bound`."""

from __future__ import annotations

from typing import NamedTuple

EXACT = "exact"
"""both ends were seen when they happened"""
UPPER = "upper"
"""an end was not seen: the interval is as long as it can have been"""

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
"""the reason of a lost interval up to the kill of all of a session's processes"""
LAST_ROW = "last journalled row"
NEXT_ROW = "next journalled row"
ARRIVED = "the message's arrival"
HANDED_OFF = "the message's hand-off"


class Since(NamedTuple):
    """The beginning of a loss.

    Attributes:
        time: ns on the stage clock.
        evidence: the source of this knowledge.
        bound: `EXACT`, or `UPPER` if it may be later.

    """

    time: int
    evidence: str
    bound: str = EXACT


class Until(NamedTuple):
    """The latest possible end of a loss.

    Attributes:
        time: ns since the epoch.
        evidence: the source of this knowledge.
        stage: ns on the stage clock; None if unknown.

    """

    time: int
    evidence: str
    stage: int | None = None


def since_death(complete_until: int, event: int, began: int) -> Since:
    """Since when a connection is lost after the death of its receiver (all ns on the stage clock).

    Args:
        complete_until: the last watermark (`ByteRing.complete_until`); 0 before the connection was open.
        event: the read of the last frame that it handed off; 0 if unknown.
        began: when the first receiver was started.

    """
    if event and event >= complete_until:
        return Since(event, LAST_FRAME)
    if complete_until:
        # the watermark is published ten times a second
        return Since(complete_until, LAST_WORD, UPPER)
    return Since(began, WANTED)
