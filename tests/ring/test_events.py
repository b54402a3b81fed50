"""wsrec.ring.events: an event survives its way through the ring."""

from __future__ import annotations

import json
import subprocess
import sys

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsrec.ring.events import Event, EventKind

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


class TestJson:
    @given(
        st.builds(
            Event,
            st.sampled_from(EventKind),
            conn=st.none() | st.integers(0, 65535),
            channel=st.none() | st.text(),
            symbol=st.none() | st.text(),
            detail=st.dictionaries(st.text(), values, max_size=4),
        )
    )
    def test_round_trip(self, event):
        assert Event.decode(event.encode()) == event
        assert Event.decode(memoryview(event.encode())) == event

    def test_a_stamp_keeps_every_nanosecond(self):
        event = Event(EventKind.ANCHOR, detail={"realtime": 1_793_000_000_123_456_789})
        assert Event.decode(event.encode()).detail["realtime"] == 1_793_000_000_123_456_789

    def test_the_word_of_the_kind_is_what_is_written(self):
        assert json.loads(Event(EventKind.LOST_INTERVAL, 3).encode()) == {"kind": "lost_interval", "conn": 3}

    @pytest.mark.parametrize("data", [b"{}", b"[]", b'{"kind":"nonsense"}', b'{"kind":"connect","conn":"x"}'])
    def test_what_is_no_event_is_refused(self, data):
        with pytest.raises(msgspec.ValidationError):
            Event.decode(data)

    def test_events_do_not_share_their_detail(self):
        one, two = Event(EventKind.CONNECT), Event(EventKind.CONNECT)
        one.detail["x"] = 1
        assert two.detail == {}


# msgspec makes up its mind about a type at the first decoding, and runs Python code meanwhile: here another thread
FIRST_TWO_AT_ONCE = """
import enum, threading
from wsrec.ring.events import Event, EventKind
data = Event(EventKind.ANCHOR, detail={"a": 1}).encode()
keep = enum.EnumType.__setattr__
def slow(kind, name, value):
    enum.EnumType.__setattr__ = keep
    other = threading.Thread(target=Event.decode, args=(data,))
    other.start()
    other.join(10)
    keep(kind, name, value)
enum.EnumType.__setattr__ = slow
assert Event.decode(data).detail == {"a": 1}
"""


def test_two_threads_may_decode_the_first():
    done = subprocess.run([sys.executable, "-c", FIRST_TWO_AT_ONCE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
