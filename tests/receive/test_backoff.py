"""wsrec.receive.backoff: longer and longer, never all at once."""

from __future__ import annotations

import random

import pytest

from wsrec.receive.backoff import FIRST, LONGEST, Backoff


class TestBackoff:
    def test_doubles_up_to_the_longest(self):
        backoff = Backoff(random.Random(1))
        for attempt in range(20):
            most = min(FIRST * 2**attempt, LONGEST)
            assert most / 2 <= backoff.next() <= most
            assert backoff.attempts == attempt + 1

    def test_connections_do_not_come_back_at_once(self):
        waits = {Backoff().next() for _ in range(50)}
        assert len(waits) > 40
        assert max(waits) - min(waits) > FIRST / 10

    @pytest.mark.parametrize("at_least", [5.0, 120.0, 86_400.0])
    def test_never_shorter_than_the_server_asked_for(self, at_least):
        assert Backoff().next(at_least) == at_least

    @pytest.mark.parametrize("at_least", [None, 0.0])
    def test_a_server_that_asks_for_nothing_does_not_shorten_it(self, at_least):
        assert Backoff().next(at_least) >= FIRST / 2

    def test_begins_anew(self):
        backoff = Backoff()
        for _ in range(10):
            backoff.next()
        backoff.reset()
        assert backoff.attempts == 0
        assert backoff.next() <= FIRST


class TestCauses:
    def test_after_a_rate_limit_it_waits_a_minute_and_longer_each_time(self):
        backoff = Backoff()
        waits = [backoff.next(cause="limited") for _ in range(8)]
        assert waits[0] >= 60
        assert max(waits) <= 3600
        assert waits[-1] >= 1800

    def test_a_time_that_the_server_names_goes_before(self):
        assert Backoff().next(2.0, "limited") == 2.0

    def test_no_time_at_all_does_not(self):
        assert Backoff().next(0.0, "limited") >= 60

    def test_a_certificate_is_seldom_looked_at_again(self):
        assert Backoff().next(cause="certificate") >= 150

    def test_each_cause_has_its_own(self):
        backoff = Backoff()
        for _ in range(5):
            backoff.next(cause="limited")
        assert backoff.next(cause="refused") <= FIRST
