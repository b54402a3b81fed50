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

    assert list(Ahead(threads).map(work, range(40))) == [item * item for item in range(40)]
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

    assert list(Ahead(1).map(work, range(3))) == [0, 1, 2]
    assert threading.current_thread() in by.values()
    assert len(set(by.values())) == 2


def test_few_more_than_there_are_threads_are_made_ahead():
    taken = []

    def items():
        for item in range(100):
            taken.append(item)
            yield item

    for result in Ahead(2).map(lambda item: item, items()):
        assert len(taken) - result <= 4


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_an_error_is_raised_after_the_results_before_it(threads):
    def work(item: int) -> int:
        if item == 5:
            raise ValueError("the sixth")
        return item

    seen = []
    with pytest.raises(ValueError, match="the sixth"):
        seen.extend(result for result in Ahead(threads).map(work, range(20)))
    assert seen == list(range(5))


def test_no_thread_is_left():
    before = threading.active_count()
    results = Ahead(2).map(str, range(50))
    assert next(results) == "0"
    results.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_an_error_of_the_items_is_raised_after_the_results_before_it(threads):
    def items():
        yield from range(5)
        raise ValueError("no more")

    seen = []
    with pytest.raises(ValueError, match="no more"):
        seen.extend(result for result in Ahead(threads).map(str, items()))
    assert seen == ["0", "1", "2", "3", "4"]
