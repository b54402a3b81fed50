"""wsrec.format.stage_histograms against plain lists."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsrec.format.stage_histograms import FRAMES, LIVE, StageHistograms
from wsrec.histogram import BUCKETS, Histogram
from wsrec.stages import STEPS, TOTAL, TOTAL_WITHOUT_NIC

_NS = st.one_of(st.integers(0, 300), st.integers(-(10**12), 10**12))
# position in its read, received, the step from stage 1 if there is such a stamp, the four others
ROWS = st.lists(
    st.tuples(st.integers(0, 2), st.booleans(), st.one_of(st.none(), _NS), st.tuples(_NS, _NS, _NS, _NS)), max_size=12
)
Row = tuple[int, bool, int | None, tuple[int, ...]]


def counted(batches: list[list[Row]], live: Any = None) -> StageHistograms:
    found = StageHistograms(live)
    for rows in batches:
        stamped = np.array([nic is not None for _, _, nic, _ in rows], np.bool_)
        received = np.array([received for _, received, _, _ in rows], np.bool_)
        own = [(np.array([others[at] for *_, others in rows], np.int64), None) for at in range(4)]
        from_nic = np.array([nic if nic is not None else -7 for _, _, nic, _ in rows], np.int64)
        place = np.array([place for place, *_ in rows], np.uint16)
        steps = [(from_nic, None if stamped.all() else stamped), *own]
        found.add(place, steps, None if received.all() else received)
    return found


def expected(rows: list[Row], key: str, is_behind: int) -> Histogram:
    histogram = Histogram()
    of_group = [(nic, others) for place, received, nic, others in rows if received and (place > 0) == is_behind]
    numbers = {
        **{step.key: [others[at] for _, others in of_group] for at, step in enumerate(STEPS[1:])},
        STEPS[0].key: [nic for nic, _ in of_group if nic is not None],
        TOTAL.key: [nic + sum(others) for nic, others in of_group if nic is not None],
        TOTAL_WITHOUT_NIC.key: [sum(others) for nic, others in of_group if nic is None],
    }
    histogram.add(np.array(numbers[key], np.int64))
    return histogram


@given(st.lists(ROWS, max_size=3))
def test_each_step_by_place_in_the_read(batches: list[list[Row]]) -> None:
    live = np.zeros((len(LIVE), BUCKETS), np.int64)
    found = counted(batches, live)
    rows = [row for batch in batches for row in batch]
    for key, pair in found.steps.items():
        for is_behind, histogram in enumerate(pair):
            assert histogram.to_json() == expected(rows, key, is_behind).to_json(), (key, FRAMES[is_behind])
    for step, row in zip(LIVE, live, strict=True):
        assert (row == sum(each.counts for each in found.steps[step.key])).all()
    received = [(nic, others) for _, received, nic, others in rows if received]
    assert found.rows == len(received)
    late = [nic + others[0] + others[1] for nic, others in received if nic is not None and nic < 0]
    after = [ns for ns in late if ns < 0]
    assert (found.after_read, found.latest) == (len(after), -min(after) if after else None)
    assert found.after_event == len(late) - len(after)


@given(ROWS, ROWS)
def test_merged_or_stored_they_are_those_of_all_rows(one: list[Row], other: list[Row]) -> None:
    merged = StageHistograms.from_json(json.loads(json.dumps(counted([one]).to_json())))
    merged.merge(counted([other]))
    assert merged.to_json() == counted([one, other]).to_json()


@pytest.mark.parametrize(
    "change",
    [
        {"first": None},
        {"first": {"total": {}}},
        {"first": {"sundial": counted([[(0, True, 1, (1, 1, 1, 1))]]).to_json()["first"]["total"]}},
        {"behind": {"total": {**Histogram().to_json(), "buckets": [BUCKETS, 1]}}},
        {"behind": {"total": {**Histogram().to_json(), "buckets": [1]}}},
        {"behind": {"total": {**Histogram().to_json(), "sub_bucket_bits": 3}}},
        {"behind": []},
        {"after_read": "many"},
        {"after_read": -5},
        {"after_read": True},
        {"after_read": 0.0},
        {"after_read": 3, "latest": 5},
        {"latest": "x"},
        {"latest": [1]},
        {"latest": 1.5},
        {"latest": 7},
    ],
)
def test_what_is_not_of_this_form_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        StageHistograms.from_json({**StageHistograms().to_json(), **change})
    with pytest.raises(ValueError):
        StageHistograms.from_json({})


# one of the rows has no stage 1, one has it after RECV_END, by 100 ns; the shortest steps are -130, 1 and 2 ns
_ROWS: list[Row] = [(0, True, 5, (10, 20, 30, 40)), (0, True, None, (1, 2, 3, 4)), (0, True, -130, (10, 20, 30, 40))]


@pytest.mark.parametrize(
    "change", [{"latest": 128}, {"latest": None}, {"after_read": 2}, {"after_read": 0}, {"latest": 2**64}]
)
def test_stamps_after_the_read_that_the_steps_do_not_allow_are_refused(change: dict[str, Any]) -> None:
    stored = counted([_ROWS]).to_json()
    assert (stored["after_read"], stored["latest"]) == (1, 100)
    with pytest.raises(ValueError):
        StageHistograms.from_json({**stored, **change})


@given(ROWS)
def test_they_fit_the_rows_that_they_are_of(rows: list[Row]) -> None:
    received = [nic for _, received, nic, _ in rows if received]
    stamped = sum(nic is not None for nic in received)
    found = counted([rows])
    assert found.fits(len(received), stamped)
    assert not found.fits(len(received) + 1, stamped)
    assert not found.fits(len(received), stamped + 1)


@pytest.mark.parametrize("key", [*(step.key for step in STEPS), TOTAL.key, TOTAL_WITHOUT_NIC.key])
def test_a_step_with_other_rows_or_another_sum_does_not_fit(key: str) -> None:
    found, longer = counted([_ROWS]), counted([_ROWS])
    found.steps[key][0].add(np.array([0]))
    assert not found.fits(3, 2)
    longer.steps[key][0].sum += 1
    assert not longer.fits(3, 2)
    moved = counted([_ROWS])
    moved.steps[key] = moved.steps[key][::-1]
    assert not moved.fits(3, 2)
