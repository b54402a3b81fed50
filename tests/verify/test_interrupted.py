"""Without an events file its events are unknown: no epoch of a connection continues across it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import events_of
from tests.effort import thinned
from tests.verify.conftest import BOOT, Numbered, lines_of, write_capture, write_lines
from tests.verify.world import FEED
from wsrec.feed.schema import Feed
from wsrec.ring.events import EventKind
from wsrec.verify.model import State
from wsrec.verify.verify import verify


@pytest.fixture(scope="module")
def broken(record) -> Path:
    """A capture of several files, in the middle of which the connection broke off."""
    return record(
        *(Numbered(300, pause=0.002, breaks=1, padding=300), "--rotate", "4kB", "--batch", "20ms"),
        *("--ring-size", "64KiB"),
        status=4,
    )


def damaged(path: Path, out: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def unlisted(path: Path, out: Path) -> None:
    write_lines(out, [line for line in lines_of(out) if line["events_path"] != str(path.relative_to(out))])


@pytest.mark.long
@pytest.mark.parametrize("spoil", thinned([damaged, unlisted]))
def test_the_time_around_a_break_is_covered_by_nothing_whatever_is_not_read(broken, tmp_path, spoil):
    (lost, *_) = events_of(broken, EventKind.LOST_INTERVAL)
    files = sorted(path.relative_to(broken) for path in (broken / "events").rglob("*.parquet"))
    assert len(files) > 1
    for number, file in enumerate(files):
        out = Path(shutil.copytree(broken, tmp_path / str(number)))
        spoil(out / file, out)
        (session,) = verify([out]).captures[0].sessions
        middle = (lost["detail"]["monotonic_from"] + lost["detail"]["monotonic_to"]) // 2
        good = [
            (stream.channel, each)
            for stream in session.streams
            for each in stream.intervals
            if each.state is not State.INCOMPLETE and each.monotonic_start < middle < each.monotonic_end
        ]
        assert good == [], file


def test_the_first_row_behind_a_part_of_the_journal_that_is_lost_is_of_what_comes_behind_it(tmp_path):
    messages = [json.dumps({"c": "nx", "s": "A", "n": n}).encode() for n in range(100)]
    write_capture(tmp_path, Feed.model_validate(FEED | {"name": "f"}), messages, lost=range(40, 60))
    (stream,) = verify([tmp_path]).captures[0].sessions[0].streams
    came = [BOOT + 1_000_000 * (n + 3) for n in range(100)]
    stated = [(each.state, each.monotonic_start, each.monotonic_end) for each in stream.intervals]
    assert stated[:3] == [
        (State.PROVED, came[0], came[39]),
        (State.INCOMPLETE, came[39], came[60]),
        (State.PROVED, came[60], came[99]),
    ]
