"""How long to wait before the next attempt to connect."""

from __future__ import annotations

import random

from wsrec.net.retry import LIMITED_WAIT
from wsrec.net.retry import LONGEST as LONGEST_LIMITED

FIRST = 0.5
LONGEST = 30.0
AT_ONCE = 0.1
# Before an address that has not been tried: how many attempts a host gets is the limiter's to say
_ELSEWHERE = (0.1, 0.25)
# What was refused for good (HTTP 403, a certificate) may be let in later, while others are recorded
REFUSED = 180.0
# By cause (`Failure.cause`): who says that we come too often is not asked again within a minute, and a certificate that
# has become invalid is not renewed within seconds
_BOUNDS = {"limited": (LIMITED_WAIT, LONGEST_LIMITED), "certificate": (300.0, 600.0)}


class Backoff:
    """Doubling waits (s), each cause's its own, each cut by up to a half at random so that not all come back at once.

    They go from 0.5 to 30; after `limited` from 120 to 3600, after `certificate` from 300 to 600. A connection that had
    proved itself is opened again within 0.1 (`at_once`), and an address that has not been tried is within 0.25
    (`elsewhere`).

    Args:
        chance: where the randomness comes from.

    """

    def __init__(self, chance: random.Random | None = None) -> None:
        self._chance = chance or random.Random()  # noqa: S311 (spreads load, guards nothing)
        self._waits: dict[str, float] = {}
        self.attempts = 0

    def next(self, at_least: float | None = None, cause: str = "") -> float:
        """The wait (s) before the next attempt, never shorter than the server asked for; 0 asks for nothing."""
        self.attempts += 1
        # a server that names a time knows better than the bounds
        kind = "" if at_least else cause
        first, longest = _BOUNDS.get(kind, (FIRST, LONGEST))
        most = self._waits.get(kind, first)
        self._waits[kind] = min(most * 2, longest)
        return max(most * self._chance.uniform(0.5, 1.0), at_least or 0.0)

    def at_once(self) -> float:
        """The wait (s) before the first attempt after a connection that had proved itself: every message is missed."""
        self.attempts += 1
        return self._chance.uniform(0.0, AT_ONCE)

    def elsewhere(self) -> float:
        """The wait (s) before the first attempt at another address: what that one does is not known yet."""
        self.attempts += 1
        return self._chance.uniform(*_ELSEWHERE)

    def refused(self, at_least: float | None = None) -> float:
        """The wait (s) before what was refused for good is tried again: always as long, a half of it at random."""
        self.attempts += 1
        return max(REFUSED * self._chance.uniform(0.5, 1.0), at_least or 0.0)

    def reset(self) -> None:
        """Begin anew, once a connection has proved itself."""
        self._waits.clear()
        self.attempts = 0
