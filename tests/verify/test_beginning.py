"""A session whose first files are gone: all from its beginning to its first row is missing, of each stream."""

from __future__ import annotations

import pytest

from tests.conftest import events_of
from tests.effort import thinned
from tests.verify.conftest import lines_of, message_paths, write_lines
from wsrec.format.layout import manifest_path
from wsrec.ring.events import EventKind
from wsrec.verify.model import State
from wsrec.verify.verify import verify


def files_gone(out):
    first, *others = lines_of(out)
    for path in (first["path"], first["events_path"]):
        (out / path).unlink()
    write_lines(out, others)


def files_damaged(out):
    first = lines_of(out)[0]
    for path in (first["path"], first["events_path"]):
        (out / path).write_bytes((out / path).read_bytes()[:-100])


@pytest.mark.parametrize("spoil", thinned([files_gone, files_damaged]))
def test_what_is_gone_with_the_first_files_counts_from_the_beginning_of_the_session(out, spoil):
    (began,) = events_of(out, EventKind.SESSION_START)
    spoil(out)
    (session,) = verify([out]).captures[0].sessions
    (loss,) = session.losses
    # the session's id contains the second
    assert began["time"] - 60e9 < loss.start <= began["time"]
    assert loss.monotonic_start <= began["monotonic"] < loss.monotonic_end
    assert (loss.start_evidence, loss.bound) == ("time in the session's id", "upper")
    assert len(session.streams) >= 4
    for stream in session.streams:
        assert stream.state is State.INCOMPLETE, stream
        assert stream.intervals[0].monotonic_start == loss.monotonic_start
        first = min(each.monotonic_start for each in stream.intervals if each.state is not State.INCOMPLETE)
        assert stream.incomplete >= first - loss.monotonic_start


def test_without_a_time_in_its_id_the_beginning_is_reported_as_unknown(out):
    files_gone(out)
    lines = lines_of(out)
    session = lines[0]["session"]
    for path in [*message_paths(out), *(out / "events").rglob("*.parquet")]:
        path.rename(path.with_name(path.name.replace(session, "other")))
    text = manifest_path(out).read_text().replace(session, "other")
    manifest_path(out).write_text(text)
    (found,) = verify([out]).captures[0].sessions
    assert any("since an unknown time" in loss.reason for loss in found.losses)
    assert all(stream.state is State.INCOMPLETE for stream in found.streams)
