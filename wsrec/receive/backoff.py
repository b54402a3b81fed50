"""How long to wait before the next attempt to connect."""

from __future__ import annotations

import random

FIRST = 0.5
LONGEST = 30.0


class Backoff:
    """Doubling waits (s) from 0.5 to 30, each cut by up to a half at random: connections do not come back at once.

    Args:
        chance: where the randomness comes from.

    """

    def __init__(self, chance: random.Random | None = None) -> None:
        self._chance = chance or random.Random()  # noqa: S311 (spreads load, guards nothing)
        self._wait = FIRST
        self.attempts = 0

    def next(self, at_least: float | None = None) -> float:
        """The wait (s) before the next attempt, never shorter than the server asked for."""
        self.attempts += 1
        wait = self._wait * self._chance.uniform(0.5, 1.0)
        self._wait = min(self._wait * 2, LONGEST)
        return max(wait, at_least or 0.0)

    def reset(self) -> None:
        """Begin anew, once a connection has proved itself."""
        self._wait = FIRST
        self.attempts = 0
