"""wsrec.verify.agreement: findings and events are matched whatever their order, and matched ones are not kept."""

from __future__ import annotations

import pickle
import random

import pytest

from wsrec.monitor.check import Finding
from wsrec.ring.events import EventKind
from wsrec.verify.agreement import Agreement


def finding(stage: int, expected: int) -> Finding:
    detail = {"missing": 1, "expected": expected, "found": expected + 1, "seq": stage}
    return Finding(kind=EventKind.GAP, time=stage, conn=0, channel="trade", symbol="A", detail=detail)


def take(agreement: Agreement, stage: int, expected: int, *, event: bool) -> None:
    one = finding(stage, expected)
    if event:
        # as it is read from a file
        agreement.reported("gap", 0, ("trade", "A"), stage, dict(one.detail))
    else:
        agreement.found([one])


def test_matched_ones_take_no_memory():
    agreement = Agreement()
    empty = len(pickle.dumps(agreement))
    for stage in range(1_000):
        take(agreement, stage, stage, event=bool(stage % 2))
        take(agreement, stage, stage, event=not stage % 2)
    assert len(pickle.dumps(agreement)) < empty + 20
    assert (agreement.findings, agreement.events) == (1_000, 1_000)
    assert not agreement.unrecorded
    assert not agreement.unfounded


@pytest.mark.parametrize("seed", range(20))
def test_any_order_gives_the_same_differences(seed):
    chance = random.Random(seed)
    both = [(chance.randrange(3), chance.randrange(3)) for _ in range(chance.randrange(20))]
    more = [(each, event) for each in ((0, 1), (1, 9)) for event in (True, False) if chance.random() < 0.5]
    steps = [(each, event) for each in both for event in (True, False)] + more
    chance.shuffle(steps)
    agreement = Agreement()
    for (stage, expected), event in steps:
        take(agreement, stage, expected, event=event)
    for left, wanted in ((agreement.unrecorded, False), (agreement.unfounded, True)):
        lone = {each for each, event in more if event is wanted and (each, not event) not in more}
        assert [each.stage for each in left] == sorted(stage for stage, _ in lone)


def test_a_detail_of_another_type_is_another_finding():
    agreement = Agreement()
    take(agreement, 1, 1, event=False)
    agreement.reported("gap", 0, ("trade", "A"), 1, {**finding(1, 1).detail, "missing": True})
    assert len(agreement.unrecorded) == len(agreement.unfounded) == 1


def test_of_the_same_moment_the_order_is_that_of_the_names():
    places = [(conn, channel, symbol) for conn in (None, 2) for channel in (None, "a", "b") for symbol in (None, "Z")]
    for seed in range(5):
        agreement = Agreement()
        random.Random(seed).shuffle(places)
        for conn, channel, symbol in places:
            stale = Finding(kind=EventKind.STALE, time=3, conn=conn, channel=channel, symbol=symbol)
            agreement.found([stale])
            agreement.reported("gap", conn, (channel, symbol), 3, {})
        for left in (agreement.unrecorded, agreement.unfounded):
            found = [(each.conn, each.channel, each.symbol) for each in left]
            assert found == sorted(places, key=lambda place: tuple((each is not None, each) for each in place))
