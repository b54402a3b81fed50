"""wsrec.verify.frozen_state: a state in the middle of a session, and bytes that are none."""

from __future__ import annotations

import io
import os
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.effort import thinned
from tests.real_messages import DATA
from tests.verify.real_sessions import FEEDS, RealSession
from wsrec.verify.ahead import Ahead
from wsrec.verify.frozen_state import FrozenStateError, freeze, thaw
from wsrec.verify.inventory import take
from wsrec.verify.meter import Meter
from wsrec.verify.session import SessionReading

METER = Meter(0, None)
# those with books, fetched snapshots and repeated answers
FIRST = ("coinbase", "gateio", "kraken")


# first those with books, fetched snapshots and repeated answers
@pytest.mark.parametrize(
    "name", thinned(sorted(FEEDS, key=lambda name: name not in ("coinbase", "gateio", "kraken")), keep=3)
)
def test_a_reading_of_a_real_session_goes_on_from_its_state_after_each_file(name, tmp_path):
    path = DATA / "sessions" / f"{name}.txt.gz"
    if not path.exists():
        pytest.skip(f"real messages are not beside the project: {path}")
    RealSession(path).record(tmp_path, 97)
    (task,) = take(tmp_path, None).tasks()
    assert len(task.pairs) > 1
    at_once, in_parts = SessionReading(task, METER, Ahead(0)), SessionReading(task, METER, Ahead(0))
    for pair in task.pairs:
        at_once.read(pair)
        in_parts = thaw(freeze(in_parts), task, METER, Ahead(0))
        in_parts.read(pair)
    assert in_parts.result() == at_once.result()


class _Command:
    def __reduce__(self):
        return os.system, ("true",)


class _Function:
    def __reduce__(self):
        from wsrec.format.manifest import names_by_digest

        return names_by_digest, ("/",)


@pytest.mark.parametrize("found", [_Command(), _Function(), os.getcwd, {"a": 1}])
def test_what_is_no_state_is_refused_and_not_run(found):
    file = io.BytesIO()
    file.write((4).to_bytes(8, "little") + b"null")
    pickle.dump(found, file, 4)
    with pytest.raises(FrozenStateError):
        thaw(file.getvalue(), None, METER, Ahead(0))


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data):
    with pytest.raises(FrozenStateError):
        thaw(data, None, METER, Ahead(0))
