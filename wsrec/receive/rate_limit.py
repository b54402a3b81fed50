"""Per-host rate limiting of connection attempts: exchanges count them by address, and ban those who exceed the limit.

All attempts of a receiver share one limiter per host: first ones, retries and replacements.
"""

from __future__ import annotations

import asyncio

from wsrec.plan.connections import Pace

# For feeds that do not declare their exchange's limits
GENTLE = Pace(attempts=5, interval=1.0)


class RateLimiter:
    """A token bucket that can be blocked for a while.

    Args:
        pace: its size, and the time in which it refills.

    """

    def __init__(self, pace: Pace) -> None:
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        self._blocked_until = 0.0
        self._set(pace)
        self._tokens = self._size
        self._filled_at = self._loop.time()

    def tighten(self, pace: Pace) -> None:
        """Adopt `pace` if it is slower than the current one: several feeds can share a host."""
        if pace.attempts / pace.interval < self._rate:
            self._set(pace)

    def block(self, seconds: float) -> None:
        """Let no attempt through for so long."""
        self._blocked_until = max(self._blocked_until, self._loop.time() + seconds)

    async def enter(self) -> None:
        """Wait until the next attempt is allowed."""
        async with self._turn:
            while (wait := self._wait()) > 0:
                await asyncio.sleep(wait)
            self._tokens -= 1

    def _wait(self) -> float:
        moment = self._loop.time()
        self._tokens = min(self._tokens + (moment - self._filled_at) * self._rate, self._size)
        self._filled_at = moment
        return max(self._blocked_until - moment, (1 - self._tokens) / self._rate)

    def _set(self, pace: Pace) -> None:
        # a share of less than one attempt becomes one, at a lower rate
        self._size = max(pace.attempts, 1.0)
        self._rate = pace.attempts / pace.interval


class HostRateLimiters:
    """The rate limiters of one receiver, by host."""

    def __init__(self) -> None:
        self._limiters: dict[str, RateLimiter] = {}

    def of(self, host: str, pace: Pace | None) -> RateLimiter:
        """The host's limiter, no faster than `pace`."""
        pace = pace or GENTLE
        limiter = self._limiters.get(host)
        if limiter is None:
            limiter = self._limiters[host] = RateLimiter(pace)
        limiter.tighten(pace)
        return limiter
