"""wsrec.writer.stamping: the stamps of any slots, by the readable way and the compiled one alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import examples
from wsrec.ring.slot_flags import Flag
from wsrec.ring.slot_layout import SLOT_DTYPE
from wsrec.writer.implementation import compiled_fill_stamps, python_fill_stamps
from wsrec.writer.segment_slots import SEGMENT_SLOT_DTYPE
from wsrec.writer.stamping import STEPS, TIMES

NEEDS_COMPILED = pytest.mark.skipif(compiled_fill_stamps is None, reason="not compiled here")
WAYS = [
    pytest.param(python_fill_stamps, id="python"),
    pytest.param(compiled_fill_stamps, id="compiled", marks=NEEDS_COMPILED),
]
# also what only a damaged journal has: sums that overflow
WORD, HALF = st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 32) - 1)
STAMPS = st.fixed_dictionaries(
    {
        "nic": st.just(0) | WORD,
        "event": st.just(0) | WORD,
        "handoff": WORD,
        **dict.fromkeys(("recv_start", "recv_end", "parsed"), HALF),
        "flags": st.sampled_from([0, int(Flag.COARSE), int(Flag.SENT), int(Flag.REST), int(Flag.FIN | Flag.LAST)]),
    }
)


def filled(way, slots, offset):
    out = np.full((len(TIMES) + STEPS, len(slots)), -7, np.int64)
    received, stamped = np.zeros((2, len(slots)), np.bool_)
    way(slots, offset, out, received, stamped)
    return [*out.tolist(), received.tolist(), stamped.tolist()]


def slots_of(rows, dtype=SLOT_DTYPE):
    slots = np.zeros(len(rows), dtype)
    for slot, row in zip(slots, rows, strict=True):
        for name, value in row.items():
            slot[name] = value
    return slots


@pytest.mark.parametrize("way", WAYS)
def test_stamps_are_in_utc_and_steps_between_them(way):
    slots = slots_of(
        [
            {"nic": 900, "event": 50, "recv_start": 1, "recv_end": 2, "parsed": 3, "handoff": 60},
            {"event": 50, "recv_start": 1, "recv_end": 2, "parsed": 3, "handoff": 9_000, "flags": int(Flag.COARSE)},
            {"event": 40, "handoff": 60, "flags": int(Flag.SENT)},
            {"handoff": 60, "flags": int(Flag.REST)},
        ]
    )
    found = dict(zip((*TIMES, *"12345", "received", "stamped"), filled(way, slots, np.full(4, 1_000)), strict=True))
    assert found["recv_time"] == [900, 1_050 + 3 * 1_024, 1_040, 1_060]
    assert found["parsed"][:2] == [1_056, 1_050 + 6 * 1_024]
    assert (found["handoff"], found["stage"]) == ([1_060, 10_000, 1_060, 1_060], [60, 9_000, 60, 60])
    assert [found[step][0] for step in "12345"] == [150, 1, 2, 3, 4]
    assert [found[step][1] for step in "2345"] == [1_024, 2_048, 3_072, 10_000 - 7_194]
    assert (found["received"], found["stamped"]) == ([True, True, False, False], [True, False, False, False])


@NEEDS_COMPILED
@pytest.mark.parametrize("dtype", [SLOT_DTYPE, SEGMENT_SLOT_DTYPE], ids=["slots", "with segments"])
@settings(max_examples=examples(200))
@given(rows=st.lists(STAMPS, max_size=12), offsets=st.data())
def test_both_ways_fill_in_the_same(dtype, rows, offsets):
    signed = st.integers(-(1 << 63), (1 << 63) - 1)
    offset = np.array(offsets.draw(st.lists(signed, min_size=len(rows), max_size=len(rows))), np.int64)
    slots = slots_of(rows, dtype)
    assert filled(compiled_fill_stamps, slots, offset) == filled(python_fill_stamps, slots, offset)


@NEEDS_COMPILED
def test_arrays_that_do_not_fit_are_refused():
    slots, offset, flags = slots_of([{}, {}]), np.zeros(2, np.int64), np.zeros(2, np.bool_)
    rows = len(TIMES) + STEPS
    for given_ in (
        (slots, offset[:1], np.zeros((rows, 2), np.int64), flags, flags),
        (slots, offset, np.zeros((rows, 1), np.int64), flags, flags),
        (slots, offset, np.zeros((rows - 1, 2), np.int64), flags, flags),
        (slots, offset, np.zeros((rows, 2), np.int64), flags[:1], flags),
    ):
        with pytest.raises(ValueError, match="do not fit 2 slots"):
            compiled_fill_stamps(*given_)
