"""wsrec.verify.ahead: results in their order, whoever makes them, and errors where their result is due."""

from __future__ import annotations

import threading
import time

import pytest

from wsrec.verify.ahead import Ahead


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_results_come_in_order_and_are_made_once(threads):
    made = []

    def work(item: int) -> int:
        # later ones are done sooner
        time.sleep((item % 3 == 0) * 0.002)
        made.append(item)
        return item * item

    with Ahead(threads) as ahead:
        assert list(ahead.map(work, range(40))) == [item * item for item in range(40)]
    assert sorted(made) == list(range(40))


def test_who_waits_works_too():
    others_run = threading.Event()
    by = {}

    def work(item: int) -> int:
        by[item] = threading.current_thread()
        if item == 0:
            assert others_run.wait(10)
        else:
            others_run.set()
        return item

    with Ahead(1) as ahead:
        assert list(ahead.map(work, range(3))) == [0, 1, 2]
    assert threading.current_thread() in by.values()
    assert len(set(by.values())) == 2


def test_few_more_than_there_are_threads_are_made_ahead():
    taken = []

    def items():
        for item in range(100):
            taken.append(item)
            yield item

    with Ahead(2) as ahead:
        results = ahead.map(lambda item: item, items())
        for result in results:
            assert len(taken) - result <= 5


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_an_error_is_raised_after_the_results_before_it(threads):
    def work(item: int) -> int:
        if item == 5:
            raise ValueError("the sixth")
        return item

    seen = []
    with Ahead(threads) as ahead, pytest.raises(ValueError, match="the sixth"):
        seen.extend(result for result in ahead.map(work, range(20)))
    assert seen == list(range(5))


def test_no_thread_is_left():
    before = threading.active_count()
    with Ahead(2) as ahead:
        results = ahead.map(str, range(50))
        assert next(results) == "0"
        results.close()
    assert threading.active_count() == before
