"""Comparison coverage: whether each message was compared with its predecessor, and if not, why.

A rule proves only what it compared. Every rule skips a message without a number, so it is unknown whether messages are
missing between its neighbours, even if their own numbers are consecutive.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wsrec.arrays import codes


class Link(IntEnum):
    """How a message was compared with its predecessor by the rule of its channel."""

    NONE = 0
    """Its channel has no rule."""
    COMPARED = 1
    """It was compared; so was a message that shows a gap."""
    FIRST = 2
    """It is the first of its stream on this connection."""
    RESET = 3
    """Its numbers restart, as the feed allows."""
    UNNUMBERED = 4
    """It has no readable number."""
    UNLINKED = 5
    """It lacks what its rule compares: `seq_first`, `seq_previous`, or the checksum."""
    AFTER_UNNUMBERED = 6
    """The message before it has no number."""
    NO_BOOK = 7
    """There is no book to compare its checksum with: no snapshot arrived, or none since the book became invalid."""


REASONS = {
    Link.UNNUMBERED: "without a number",
    Link.UNLINKED: "without the number that the rule compares",
    Link.AFTER_UNNUMBERED: "after one without a number",
    Link.NO_BOOK: "without a book to compare the checksum with",
}
"""Why a message that should have been compared was not; `Link.FIRST` and `Link.RESET` need no comparison."""

Links = npt.NDArray[np.uint8]
# as plain integers: an operation on an enum's member costs more than counting a hundred messages
_LINKS, _NONE, _SKIPPED = len(Link), int(Link.NONE), [int(link) for link in REASONS]


class Compared(NamedTuple):
    """How many messages of a channel or stream were compared with their predecessors.

    Attributes:
        compared: messages that were.
        skipped: messages that should have been and were not, by reason (`REASONS`).

    """

    compared: int
    skipped: dict[str, int]

    @property
    def missed(self) -> int:
        """How many messages should have been compared and were not."""
        return sum(self.skipped.values())

    def describe(self, rule: str) -> str:
        """One line of text; `rule` is the name of the rule."""
        why = ", ".join(f"{number:,} {words}" for words, number in self.skipped.items())
        return f"the rule `{rule}` was applied to {self.compared:,} of {self.compared + self.missed:,} messages: {why}"


def count(links: Iterable[tuple[int, int]]) -> Compared:
    """Sum up links, given as pairs of a link and its count."""
    counts: Counter[int] = Counter()
    for link, number in links:
        counts[link] += number
    skipped = {words: counts[link] for link, words in REASONS.items() if counts[link]}
    return Compared(counts[Link.COMPARED], skipped)


class Comparison:
    """Counts the links of messages by channel.

    Attributes:
        skips: whether any message should have been compared and was not.

    """

    def __init__(self) -> None:
        self.skips = False
        self._counts: dict[str | None, Counter[int]] = {}
        # the names of one dictionary; the counts by name, then null, and by link
        self._names = pa.array([], pa.string())
        self._of_names = np.zeros(_LINKS, np.int64)

    def add(self, channel: pa.DictionaryArray, links: Links) -> None:
        """Count a batch."""
        names = channel.dictionary
        if not names.equals(self._names):
            self._settle()
            self._names, self._of_names = names, np.zeros((len(names) + 1) * _LINKS, np.int64)
        places = np.multiply(codes(channel, len(names)), _LINKS, dtype=np.int64)
        places += links
        found = np.bincount(places, minlength=len(self._of_names))
        self._of_names += found
        if not self.skips:
            self.skips = bool(found.reshape(-1, _LINKS)[:, _SKIPPED].any())

    def skipped(self) -> dict[str | None, Compared]:
        """Counts of the channels with messages that should have been compared and were not."""
        self._settle()
        counted = {name: count(counts.items()) for name, counts in self._counts.items()}
        return {name: compared for name, compared in counted.items() if compared.missed}

    def _settle(self) -> None:
        """Add the counts by place to the counts by name."""
        names = [*self._names.to_pylist(), None]
        for place in np.flatnonzero(self._of_names).tolist():
            code, link = divmod(place, _LINKS)
            if link != _NONE:
                self._counts.setdefault(names[code], Counter())[link] += int(self._of_names[place])
        self._of_names[:] = 0
