"""Comparison coverage: whether each message was compared with its predecessor, and if not, why.

A rule proves only what was compared. A message without a number is passed over by every rule, so what
stands between its neighbours is known to nobody, whatever their own numbers say.
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
    """There is no rule."""
    COMPARED = 1
    """By its number and the one before; a gap was compared too."""
    FIRST = 2
    """Nothing of its stream came before it on this connection."""
    RESET = 3
    """Its numbers restart, as the feed allows."""
    UNNUMBERED = 4
    """It has no number that can be read."""
    UNLINKED = 5
    """It lacks the number that its rule compares: of its first update, of the message before, or its checksum."""
    AFTER_UNNUMBERED = 6
    """The message before it has no number."""
    NO_BOOK = 7
    """There is no book to hold its checksum against: no snapshot came, or none since it broke."""


REASONS = {
    Link.UNNUMBERED: "without a number",
    Link.UNLINKED: "without the number that the rule compares",
    Link.AFTER_UNNUMBERED: "behind one without a number",
    Link.NO_BOOK: "without a book to hold the checksum against",
}
"""Why a message that should have been compared was not; `Link.FIRST` and `Link.RESET` are as they should be."""

Links = npt.NDArray[np.uint8]
# as plain integers: an operation on an enum's member costs more than counting a hundred messages
_LINKS, _NONE, _SKIPPED = len(Link), int(Link.NONE), [int(link) for link in REASONS]


class Compared(NamedTuple):
    """What of a channel or stream was compared.

    Attributes:
        compared: successions that were.
        skipped: those that should have been and were not, by the words of `REASONS`.

    """

    compared: int
    skipped: dict[str, int]

    @property
    def missed(self) -> int:
        """How many should have been compared and were not."""
        return sum(self.skipped.values())

    def describe(self, rule: str) -> str:
        """It as text."""
        why = ", ".join(f"{number:,} {words}" for words, number in self.skipped.items())
        return f"the rule `{rule}` was applied to {self.compared:,} of {self.compared + self.missed:,} messages: {why}"


def count(links: Iterable[tuple[int, int]]) -> Compared:
    """Sum up links, given as pairs of one and how often."""
    counts: Counter[int] = Counter()
    for link, number in links:
        counts[link] += number
    skipped = {words: counts[link] for link, words in REASONS.items() if counts[link]}
    return Compared(counts[Link.COMPARED], skipped)


class Comparison:
    """Counts the links of messages by their channel.

    Attributes:
        skips: whether any should have been compared and was not.

    """

    def __init__(self) -> None:
        self.skips = False
        self._counts: dict[str | None, Counter[int]] = {}
        # of the channels of one dictionary, and of null behind them; then by channel and link
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
        """The channels with messages that should have been compared and were not."""
        self._settle()
        counted = {name: count(counts.items()) for name, counts in self._counts.items()}
        return {name: compared for name, compared in counted.items() if compared.missed}

    def _settle(self) -> None:
        """Count by name what was counted by place."""
        names = [*self._names.to_pylist(), None]
        for place in np.flatnonzero(self._of_names).tolist():
            code, link = divmod(place, _LINKS)
            if link != _NONE:
                self._counts.setdefault(names[code], Counter())[link] += int(self._of_names[place])
        self._of_names[:] = 0
