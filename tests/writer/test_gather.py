"""wsrec.writer.gather: the payloads of any slots in any rings, by the readable way and the compiled one alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import examples
from tests.rings import slot
from wsrec.ring.bytering import ByteRing
from wsrec.ring.mirror import PAGE
from wsrec.ring.slot_flags import Flag
from wsrec.ring.slot_layout import SLOT_DTYPE
from wsrec.writer import implementation
from wsrec.writer.implementation import compiled_gather, python_gather

CONNS = (3, 700)
UNTOUCHED = -7

WAYS = [
    pytest.param(python_gather, id="python"),
    pytest.param(
        compiled_gather, id="compiled", marks=pytest.mark.skipif(compiled_gather is None, reason="not compiled here")
    ),
]


@pytest.fixture(scope="module")
def rings():
    """The control ring and the rings of two connections, filled with bytes that identify ring and position."""
    made = []
    for index, capacity in enumerate((PAGE, 2 * PAGE, 4 * PAGE)):
        ring = ByteRing(ByteRing.create("test-gather", capacity))
        ring.slice(0, capacity)[:] = np.random.default_rng(index).bytes(capacity)
        made.append(ring)
    return made


def frames(conn, flags):
    """A slot anywhere in its ring, also across the end of it, and however often the ring has gone round."""
    offset = st.one_of(st.integers(0, 5 * PAGE), st.integers(1 << 40, (1 << 40) + 5 * PAGE))
    length = st.one_of(st.integers(0, 40), st.integers(0, PAGE))
    return st.builds(lambda o, n: slot(offset=o, length=n, conn=conn, flags=int(flags)), offset, length)


SLOTS = st.lists(
    st.one_of(
        *(frames(conn, Flag.FIN) for conn in CONNS),
        frames(CONNS[0], Flag.FIN | Flag.SENT),
        frames(0, Flag.FIN | Flag.EVENT),
    ),
    max_size=30,
)


def ring_of():
    table = np.zeros(1 << 16, np.int32)
    for index, conn in enumerate(CONNS, 1):
        table[conn] = index
    return table


@pytest.mark.parametrize("gather", WAYS)
class TestGather:
    @settings(max_examples=examples(150), deadline=None)
    @given(rows=SLOTS)
    def test_each_payload_from_its_ring_one_behind_the_other(self, rings, gather, rows):
        slots = np.array(rows, SLOT_DTYPE)
        into = np.zeros(int(slots["length"].sum()) + 5, np.uint8)
        ends = np.full(len(rings), UNTOUCHED, np.int64)
        gather(slots, [ring.view for ring in rings], ring_of(), into, ends)

        expected, last = b"", [UNTOUCHED] * len(rings)
        for row in rows:
            own = int(row["flags"]) & (Flag.SENT | Flag.EVENT)
            index = 0 if own else CONNS.index(int(row["conn"])) + 1
            expected += bytes(rings[index].slice(int(row["offset"]), int(row["length"])))
            last[index] = int(row["offset"]) + int(row["length"])
        assert into.tobytes() == expected + bytes(5)
        assert ends.tolist() == last

    def test_what_does_not_fit_is_refused(self, rings, gather):
        slots = np.array([slot(offset=0, length=10, conn=CONNS[0], flags=1)] * 2, SLOT_DTYPE)
        memory = np.zeros(30, np.uint8)
        with pytest.raises(ValueError):
            gather(slots, [ring.view for ring in rings], ring_of(), memory[:19], np.zeros(len(rings), np.int64))
        assert not memory[19:].any()


def test_the_compiled_one_runs_where_it_was_built():
    assert implementation.gather is (compiled_gather if implementation.COMPILED else python_gather)
