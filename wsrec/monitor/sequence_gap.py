"""Input and results of the gap rules: rows, the messages that break a rule, and how a batch was compared."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import msgspec
import pyarrow as pa

from wsrec.arrays import Int64s
from wsrec.feed.sequence_rules import SequenceRule, SequenceScope
from wsrec.monitor.comparison import Links


class Break(StrEnum):
    """How a message fails to follow the one before it."""

    MISSING = "missing"
    """Numbers were skipped."""
    REPEATED = "repeated"
    """It has the same number as the message before."""
    BACK = "back"
    """Its number is lower than expected."""
    RESET = "reset"
    """The numbers restart, as the feed allows: nothing is missing."""


class SequenceGap(msgspec.Struct, frozen=True):
    """A message that does not follow the one before it.

    Attributes:
        index: its place in the batch; below 0 where it was in an earlier one (`decided`).
        conn: its connection.
        channel: its channel; None where the numbers run over the connection.
        symbol: its symbol; None where the numbers run over more than a symbol.
        rule: the rule that it breaks.
        expected: the number that the rule requires (`increasing`: the least one; `checksum`: the book's CRC).
        found: the number in its place.
        missing: how many numbers were skipped; None where the rule cannot count them, or none were.
        what: how it fails to follow.
        scope: what the numbers run over.
        decided: with late messages, the place in the batch of the message that decided it; None where that is `index`,
            or where the end of the connection decided.
        since: with late messages, the time of the message before the missing ones; None otherwise.
        from_conn: at a handover, the old connection, whose last number it does not follow; None otherwise.

    """

    index: int
    conn: int
    channel: str | None
    symbol: str | None
    rule: SequenceRule
    expected: int
    found: int
    missing: int | None
    what: Break
    scope: SequenceScope = SequenceScope.SYMBOL
    decided: int | None = None
    since: int | None = None
    from_conn: int | None = None

    @property
    def at(self) -> int:
        """The place in the batch of the message that showed it."""
        return self.index if self.decided is None else self.decided


class Rows(NamedTuple):
    """The messages of a batch as rows.

    Attributes:
        first: `seq` of the first one.
        times: when each arrived (ns, on one clock for all batches).
        payload: `large_binary` array of them.

    """

    first: int
    times: Int64s
    payload: pa.Array


class Checked(NamedTuple):
    """Result of the gap rules for a batch of messages.

    Attributes:
        gaps: the messages that break their rule, in order, and those that restart the numbers as the feed allows.
        links: how each message was compared with its predecessor.
        runs: the run of each message. Two messages of one sequence (`SequenceScope`) have the same run, above 0, if
            every message between them was compared with its predecessor and none breaks the rule. 0: the message has no
            rule, or no number. Empty where the checker does not report runs.

    """

    gaps: list[SequenceGap]
    links: Links
    runs: Int64s
