"""Late messages: numbered when requested and received after higher numbers (the feed's `sequence.late`).

The messages of a connection come in order, but those that are named: they took their number when they were asked for.
So a number that is passed over is not missing yet. It is a hole, which a late comer may fill until numbers have gone on
by `within` beyond it, or the connection has ended, or its numbers begin anew; then what is left of it is missing.
Between the largest number and that many numbers before it lie all holes but the oldest, so there are never more than
`within` + 1 of them. The oldest may be larger than that; it is settled where more than `_FILLED_MAX` numbers filled it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

# numbers of one hole that are remembered as come
_FILLED_MAX = 65_536


class Miss(NamedTuple):
    """What a connection's numbers show.

    Attributes:
        row: `seq` of the row that passed numbers over, or whose number went back or began anew.
        what: a word of `wsrec.monitor.sequence.Break`.
        expected: the number that should have come, the least one that is missing.
        found: the one that came in its place.
        missing: how many did not come; None where none is known to be missing.
        since: time of the last message before them that may not be late, as those that may took their number early, and
            what is missing may have been sent before one; 0 without one, None for what is not missing.

    """

    row: int
    what: str
    expected: int
    found: int
    missing: int | None = None
    since: int | None = None


class Hole:
    """Numbers that were passed over: from `first` up to, and without, `found`."""

    __slots__ = ("filled", "first", "found", "row", "since")

    def __init__(self, first: int, found: int, row: int, since: int) -> None:
        self.first, self.found, self.row, self.since = first, found, row, since
        self.filled: set[int] = set()

    def missing(self) -> Miss | None:
        """What is left of it."""
        left = self.found - self.first - len(self.filled)
        if not left:
            return None
        least = self.first
        while least in self.filled:
            least += 1
        return Miss(self.row, "missing", least, self.found, left, self.since)


class LateSequence:
    """The numbers of one connection.

    Args:
        within: how far numbers may advance before a skipped one counts as missing.
        beginnings: legal start values.

    Attributes:
        holes: what was passed over and may still come, oldest first.
        whole: whether the last message had a number.
        run: of its last message (`wsrec.monitor.sequence.Checked`); None before the first one.

    """

    def __init__(self, within: int, beginnings: frozenset[int] = frozenset()) -> None:
        self.holes: deque[Hole] = deque()
        self.whole = True
        self.run: int | None = None
        self._within = within
        self._beginnings = beginnings
        self._top: int | None = None
        self._first = 0
        # when the last message came that led the numbers on and may not be late; behind it those that led them on too
        # and were not asked yet: to ask means to read the payload
        self._time = 0
        self._unasked: list[tuple[int, Callable[[], bool]]] = []

    def goes_on(self, numbers: npt.NDArray[np.uint64], times: npt.NDArray[np.int64], late: Iterable[bool]) -> bool:
        """Whether these are the next ones, one after the other, and nothing is open: then they are taken.

        Args:
            numbers: of consecutive messages.
            times: of each of them.
            late: whether each may be late, from the last one back; asked only as far as that matters.

        """
        if self.holes or self._top is None or int(numbers[0]) != self._top + 1:
            return False
        if len(numbers) > 1 and not (numbers[1:] - numbers[:-1] == 1).all():
            return False
        self._top = int(numbers[-1])
        self._time = next((int(time) for time, may_be in zip(times[::-1], late, strict=True) if not may_be), self._time)
        return True

    def add(self, number: int, row: int, time: int, anew: bool, is_late: Callable[[], bool]) -> list[Miss]:
        """Take the number of the next message.

        Args:
            number: it.
            row: `seq` of its row.
            time: when it came.
            anew: whether it restarts the numbers.
            is_late: tells whether it is one of those that may be late; asked only where that matters.

        """
        before = self._top
        if before is None:
            self._begin(number)
            found = []
        elif number == before + 1:
            found = self._advance(number)
        elif anew or number in self._beginnings:
            found = [*self.end(), Miss(row, "reset", before + 1, number)]
            self._begin(number)
        elif number > before:
            self.holes.append(Hole(before + 1, number, row, self.in_turn()))
            found = self._advance(number)
        else:
            found = self._back(number, row, is_late())
        if self._top != before:
            # what comes late says nothing of when the number above the largest one was due
            self._unasked.append((time, is_late))
        return found

    def in_turn(self) -> int:
        """When the last message came that led the numbers on and may not be late; asks, and lets go of the payloads."""
        while self._unasked:
            time, is_late = self._unasked.pop()
            if not is_late():
                self._time = time
                self._unasked.clear()
        return self._time

    def _back(self, number: int, row: int, late: bool) -> list[Miss]:
        assert self._top is not None
        reported = [] if late else [Miss(row, "repeated" if number == self._top else "back", self._top + 1, number)]
        for hole in self.holes:
            if hole.first <= number < hole.found and number not in hole.filled:
                hole.filled.add(number)
                if len(hole.filled) in (hole.found - hole.first, _FILLED_MAX):
                    self.holes.remove(hole)
                    reported += [miss for miss in (hole.missing(),) if miss is not None]
                return reported
        if not late:
            reported = self.end() + reported
            self._begin(number)
        elif number >= self._first:
            reported = [Miss(row, "repeated" if number == self._top else "back", self._top + 1, number)]
        return reported

    def _begin(self, number: int) -> None:
        self._top = self._first = number

    def _advance(self, number: int) -> list[Miss]:
        """Numbers advance to this one: what is left of holes too far behind it is missing."""
        self._top = number
        found = []
        while self.holes and number - (self.holes[0].found - 1) > self._within:
            miss = self.holes.popleft().missing()
            if miss is not None:
                found.append(miss)
        return found

    def end(self) -> list[Miss]:
        """Skipped numbers that can no longer arrive: the connection ended, or its numbers restart."""
        found = [miss for hole in self.holes if (miss := hole.missing()) is not None]
        self.holes.clear()
        return found
