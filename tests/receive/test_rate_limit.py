"""wsrec.receive.rate_limit: all attempts at a host share one limiter."""

from __future__ import annotations

import asyncio

import pytest

from wsrec.plan.connections import Pace
from wsrec.receive import rate_limit
from wsrec.receive.rate_limit import HostRateLimiters, RateLimiter


class Clock:
    """The loop's clock, which only waiting moves."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.time = 100.0
        monkeypatch.setattr(rate_limit.asyncio, "sleep", self.sleep)
        monkeypatch.setattr(
            rate_limit.asyncio, "get_running_loop", lambda: type("Loop", (), {"time": lambda _: self.time})()
        )

    async def sleep(self, seconds: float) -> None:
        self.time += seconds


@pytest.fixture
def clock(monkeypatch) -> Clock:
    return Clock(monkeypatch)


def entries(clock: Clock, limiter: RateLimiter, count: int) -> list[float]:
    """When each of so many attempts was let through, s."""

    async def enter() -> list[float]:
        moments = []
        for _ in range(count):
            await limiter.enter()
            moments.append(clock.time - 100.0)
        return moments

    coroutine = enter()
    try:
        coroutine.send(None)
    except StopIteration as done:
        return [round(moment, 6) for moment in done.value]
    raise AssertionError("the clock stood still")


class TestGate:
    def test_lets_the_first_through_at_once_and_the_rest_at_its_pace(self, clock):
        assert entries(clock, RateLimiter(Pace(attempts=3, interval=6)), 6) == [0, 0, 0, 2, 4, 6]

    def test_never_more_than_twice_its_size_in_an_interval(self, clock):
        moments = entries(clock, RateLimiter(Pace(attempts=10, interval=5)), 100)
        assert max(sum(start <= moment < start + 5 for moment in moments) for start in moments) <= 20

    def test_shut_it_waits_for_all(self, clock):
        limiter = RateLimiter(Pace(attempts=3, interval=6))
        limiter.block(60)
        limiter.block(30)
        assert entries(clock, limiter, 2) == [60, 60]

    def test_a_share_of_less_than_one_is_one_more_seldom(self, clock):
        pace = Pace(attempts=1, interval=10).share(4)
        assert entries(clock, RateLimiter(pace), 3) == [0, 40, 80]


class TestGates:
    def test_a_host_has_one_with_the_slowest_pace_of_its_feeds(self, clock):
        limiters = HostRateLimiters()
        limiter = limiters.of("a", Pace(attempts=10, interval=1))
        assert limiters.of("a", Pace(attempts=1, interval=5)) is limiter
        assert limiters.of("b", None) is not limiter
        assert entries(clock, limiter, 3)[1:] != [0, 0]


def test_attempts_wait_in_turn():
    async def run() -> list[int]:
        limiter, passed = RateLimiter(Pace(attempts=1, interval=0.05)), []

        async def enter(number: int) -> None:
            await limiter.enter()
            passed.append(number)

        await asyncio.gather(*(enter(number) for number in range(4)))
        return passed

    assert asyncio.run(run()) == [0, 1, 2, 3]
