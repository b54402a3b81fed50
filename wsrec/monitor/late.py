"""Numbers of a connection whose messages may arrive late: numbered when requested, received after higher numbers.

All messages of a connection arrive in order except those that the feed names (`sequence.late`). So a skipped number is
not missing yet. It is a hole, which a late message may fill until one of these:

- the numbers have advanced by `within` beyond it,
- the connection ends,
- the numbers restart.

Whatever is left of the hole then is missing. All holes but the oldest lie within the last `within` numbers, so there
are never more than `within` + 1 of them. The oldest may be larger; it is decided early once `_FILLED_MAX` of its
numbers have arrived.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

from wsrec.arrays import Int64s, Uint64s
from wsrec.monitor.sequence_gap import Break

# numbers of one hole that are remembered as arrived
_FILLED_MAX = 65_536


class Miss(NamedTuple):
    """Missing numbers, or a number that went back or restarted the sequence.

    Attributes:
        row: `seq` of the row that skipped the numbers, or that has the number.
        what: how the number fails to follow.
        expected: the number that should have come: the least one that is missing.
        found: the one that came in its place.
        missing: how many did not arrive; None where none is known to be missing.
        since: since when the numbers may have been missing: the time of the last message before them that cannot be
            late; 0 if there was none, None if nothing is missing. A message that can be late took its number when it
            was requested, so what is missing may have been sent before it arrived.

    """

    row: int
    what: Break
    expected: int
    found: int
    missing: int | None = None
    since: int | None = None


class Hole:
    """Skipped numbers: from `first` up to, but not including, `found`."""

    __slots__ = ("filled", "first", "found", "row", "since")

    def __init__(self, first: int, found: int, row: int, since: int) -> None:
        self.first, self.found, self.row, self.since = first, found, row, since
        self.filled: set[int] = set()

    def missing(self) -> Miss | None:
        """Its numbers that have not arrived; None if all have."""
        left = self.found - self.first - len(self.filled)
        if not left:
            return None
        least = self.first
        while least in self.filled:
            least += 1
        return Miss(self.row, Break.MISSING, least, self.found, left, self.since)


class LateSequence:
    """The numbers of one connection.

    Args:
        within: how far numbers may advance before a skipped one counts as missing.
        beginnings: numbers that legally restart the sequence.

    Attributes:
        holes: what was skipped and may still arrive, oldest first.
        whole: whether the last message had a number.
        run: the run of the last message (`wsrec.monitor.sequence_gap.Checked`); None before the first one.

    """

    def __init__(self, within: int, beginnings: frozenset[int] = frozenset()) -> None:
        self.holes: deque[Hole] = deque()
        self.whole = True
        self.run: int | None = None
        self._within = within
        self._beginnings = beginnings
        # the largest number, and the first one since the sequence began
        self._top: int | None = None
        self._first = 0
        # The time of the last message that advanced the numbers and cannot be late. Behind it: those that advanced them
        # since, and a function that says whether each can be late; it reads the payload, so it is called when needed.
        self._time = 0
        self._undecided: list[tuple[int, Callable[[], bool]]] = []

    def take_consecutive(self, numbers: Uint64s, times: Int64s, late: Iterable[bool]) -> bool:
        """Take consecutive messages at once if their numbers continue the sequence and no hole is open.

        Args:
            numbers: the numbers.
            times: the time of each.
            late: whether each may be late, from the last one back; read only as far as needed.

        Returns:
            whether they were taken.

        """
        if self.holes or self._top is None or int(numbers[0]) != self._top + 1:
            return False
        if len(numbers) > 1 and not (numbers[1:] - numbers[:-1] == 1).all():
            return False
        self._top = int(numbers[-1])
        self._time = next((int(time) for time, may_be in zip(times[::-1], late, strict=True) if not may_be), self._time)
        return True

    def add(self, number: int, row: int, time: int, restarts: bool, is_late: Callable[[], bool]) -> list[Miss]:
        """Take the next message.

        Args:
            number: its number.
            row: `seq` of its row.
            time: when it arrived.
            restarts: whether it says that the numbers restart.
            is_late: returns whether it is one of those that may be late; called only when needed.

        """
        before = self._top
        if before is None:
            self._begin(number)
            found = []
        elif number == before + 1:
            found = self._advance(number)
        elif restarts or number in self._beginnings:
            found = [*self.end(), Miss(row, Break.RESET, before + 1, number)]
            self._begin(number)
        elif number > before:
            self.holes.append(Hole(before + 1, number, row, self.in_turn()))
            found = self._advance(number)
        else:
            found = self._back(number, row, is_late())
        if self._top != before:
            # a late message says nothing about when the number above the largest one was due
            self._undecided.append((time, is_late))
        return found

    def in_turn(self) -> int:
        """When the last message arrived that advanced the numbers and cannot be late; releases the payloads."""
        while self._undecided:
            time, is_late = self._undecided.pop()
            if not is_late():
                self._time = time
                self._undecided.clear()
        return self._time

    def _back(self, number: int, row: int, late: bool) -> list[Miss]:
        """Take a number that is not above the largest one."""
        assert self._top is not None
        what = Break.REPEATED if number == self._top else Break.BACK
        disorder = Miss(row, what, self._top + 1, number)
        reported = [] if late else [disorder]
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
            reported = [disorder]
        return reported

    def _begin(self, number: int) -> None:
        self._top = self._first = number

    def _advance(self, number: int) -> list[Miss]:
        """Advance to a number: what is left of holes that are too far behind it is missing."""
        self._top = number
        found = []
        while self.holes and number - (self.holes[0].found - 1) > self._within:
            miss = self.holes.popleft().missing()
            if miss is not None:
                found.append(miss)
        return found

    def end(self) -> list[Miss]:
        """The skipped numbers that can no longer arrive: the connection ended, or its numbers restart."""
        found = [miss for hole in self.holes if (miss := hole.missing()) is not None]
        self.holes.clear()
        return found
