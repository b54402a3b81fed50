"""Breaks: the places in a session where messages may be missing, and what else its events say about rows.

`wsrec.tables.session_events` reads them. `wsrec.tables.trust` gives rows their states by them, `wsrec.tables.gaps`
lists them as a table, and `wsrec.order_books.books` ends books with them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

AFTERWARDS = (1 << 63) - 1
"""Place of what recovery found out: after all rows."""


class BreakKind(StrEnum):
    """Kind of a break; all but `RESUMED` and `END` are kinds of the table `gaps`."""

    GAP = "gap"
    """The exchange's numbers show that messages are missing."""
    LOST_INTERVAL = "lost_interval"
    """Nothing could be received or recorded."""
    DISCONNECT = "disconnect"
    """A connection broke."""
    RESET = "reset"
    """The numbers restart as the feed allows: nothing is missing."""
    CHECKSUM = "checksum"
    """The book's checksum is not the message's."""
    UNJOINED = "unjoined"
    """A fetched snapshot does not join its stream."""
    RESUMED = "resumed"
    """A writer died while one connection replaced another, whose numbers the next one could not compare."""
    END = "end"
    """A connection was closed in order: nothing is missing, but its books end."""


class Break(NamedTuple):
    """A break.

    Attributes:
        kind: its kind.
        time: when it was noticed (ns since the epoch).
        since, until: the interval of what is missing (ns since the epoch), as far as it is known.
        start, place: the same on the stage clock: rows handed off at or after `place` come after it, and messages are
            missing at or after `start`.
        noticed: when it was noticed, on the stage clock; its place among the events.
        seq: of the row after it, where the exchange's numbers or a checksum show it; else None.
        conn: the connection; None: all.
        conns: the connections that it concerns: also the one that takes turns with `conn`; None: all.
        channels: names of the channels that it concerns, as messages have them; None: all.
        channel, symbol: as in the event; None: all.
        missing: how many messages are missing, where numbers say so.
        detail: the reason in words.
        is_late: whether the messages that are missing may have been due at any time from the row `seq` until `noticed`.

    """

    kind: BreakKind
    time: int
    since: int | None
    until: int | None
    start: int
    place: int
    noticed: int
    seq: int | None
    conn: int | None
    conns: frozenset[int] | None
    channels: frozenset[str] | None
    channel: str | None
    symbol: str | None
    missing: int | None
    detail: str
    is_late: bool = False

    @property
    def loses(self) -> bool:
        """Whether messages may be missing in any table."""
        return self.kind not in (BreakKind.RESET, BreakKind.RESUMED, BreakKind.END, BreakKind.UNJOINED)

    @property
    def ends_books(self) -> bool:
        """Whether a book is unknown from here on, until its next snapshot, which may be what restarts the numbers."""
        return self.kind not in (BreakKind.RESUMED, BreakKind.UNJOINED)


class Join(NamedTuple):
    """A fetched snapshot that joins its stream.

    Attributes:
        place: when it was decided (ns on the stage clock).
        conn: the connection.
        channels: names of the channel, as messages have them.
        symbol: the symbol.
        number: the snapshot's number: changes with higher numbers apply to it.
        file: the number of the file that says so.

    """

    place: int
    conn: int
    channels: frozenset[str]
    symbol: str | None
    number: int
    file: int


class Overlap(NamedTuple):
    """An interval in which a connection and its replacement were both open (ns on the stage clock).

    Attributes:
        old, new: the connections.
        start: when both were open first.
        taken: when the new one took over.
        end: when the old one was closed.

    """

    old: int
    new: int
    start: int
    taken: int
    end: int


class Begin(NamedTuple):
    """A connection was opened, or topics were requested on it.

    Attributes:
        place: when (ns on the stage clock).
        time: when (ns since the epoch).
        conn: the connection.
        streams: (channel, symbol) of the topics; None: those of its URL.
        file: the number of the file that says so.

    """

    place: int
    time: int
    conn: int
    streams: frozenset[tuple[str, str | None]] | None
    file: int


class Answered(NamedTuple):
    """Topics were confirmed on a connection; or they were refused, or not confirmed in time.

    Attributes:
        place: when (ns on the stage clock).
        conn: the connection.
        streams: (channel, symbol) of the topics.

    """

    place: int
    conn: int
    streams: frozenset[tuple[str, str | None]]


class Undecided(NamedTuple):
    """Where numbers that were passed over may still arrive late: the end of a session that has not ended in order.

    Attributes:
        seq: from this row on.
        conns: on these connections.

    """

    seq: int
    conns: frozenset[int]


class Unchecked(NamedTuple):
    """A channel of a file whose rule was not applied to all of its messages.

    Attributes:
        file: the file's number in its session.
        channel: the channel.

    """

    file: int
    channel: str
