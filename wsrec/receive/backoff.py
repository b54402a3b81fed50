"""Reconnection backoff: exponential with jitter, by cause of failure."""

from __future__ import annotations

import random

from wsrec.net.retry import LIMITED_WAIT
from wsrec.net.retry import LONGEST as LONGEST_LIMITED

FIRST = 0.5
LONGEST = 30.0
REOPEN_DELAY = 0.1
# Before trying another address (s); the rate limiter bounds the attempts per host
_ELSEWHERE = (0.1, 0.25)
# After a permanent refusal (HTTP 403, a certificate): it may be lifted later, while other connections are recorded
REFUSED = 180.0
# By cause (`Failure.cause`): a rate-limited client should stay away for a minute or more, and an invalid certificate is
# not renewed within seconds
_BOUNDS = {"limited": (LIMITED_WAIT, LONGEST_LIMITED), "certificate": (300.0, 600.0)}


class Backoff:
    """Doubling delays (s), separate for each cause; up to half of each is cut at random, to spread the clients.

    They range from 0.5 to 30; after `limited` from 120 to 3600, after `certificate` from 300 to 600. A connection that
    had proved itself is reopened within 0.1 (`at_once`), and an untried address is tried within 0.25 (`other_address`).

    Args:
        chance: source of randomness.

    """

    def __init__(self, chance: random.Random | None = None) -> None:
        self._chance = chance or random.Random()  # noqa: S311 (spreads load, guards nothing)
        self._waits: dict[str, float] = {}
        self.attempts = 0

    def next(self, at_least: float | None = None, cause: str = "") -> float:
        """The delay (s) before the next attempt, at least what the server asked for (`at_least`; 0 for no request)."""
        self.attempts += 1
        # a delay requested by the server overrides the bounds
        kind = "" if at_least else cause
        first, longest = _BOUNDS.get(kind, (FIRST, LONGEST))
        most = self._waits.get(kind, first)
        self._waits[kind] = min(most * 2, longest)
        return max(most * self._chance.uniform(0.5, 1.0), at_least or 0.0)

    def at_once(self) -> float:
        """The delay (s) before reopening a connection that had proved itself: every message is being missed."""
        self.attempts += 1
        return self._chance.uniform(0.0, REOPEN_DELAY)

    def other_address(self) -> float:
        """The delay (s) before the first attempt at another address, whose state is unknown."""
        self.attempts += 1
        return self._chance.uniform(*_ELSEWHERE)

    def refused(self, at_least: float | None = None) -> float:
        """The delay (s) after a permanent refusal: constant, up to half of it cut at random."""
        self.attempts += 1
        return max(REFUSED * self._chance.uniform(0.5, 1.0), at_least or 0.0)

    def reset(self) -> None:
        """Start over, once a connection has proved itself."""
        self._waits.clear()
        self.attempts = 0
