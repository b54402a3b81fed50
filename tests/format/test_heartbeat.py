"""wsrec.format.heartbeat: until when a recorder that was killed can have received anything."""

from __future__ import annotations

import time

import msgspec
import pytest

from wsrec.format import heartbeat
from wsrec.format.heartbeat import Beat, Machine
from wsrec.format.moment import Moment

NOW = 1_800_000_000_000_000_000
SECOND = 1_000_000_000
HOUR = 3_600 * SECOND
HERE = Machine("here", NOW - 1000 * SECOND)


def at(seconds: int, ahead: int = NOW) -> Moment:
    """A moment before (below 0) or after now, on a clock that is ahead of the monotonic clock by so much."""
    return Moment(ahead + seconds * SECOND, 10_000 * SECOND + seconds * SECOND)


def beat(folder, when: Moment, boot: str = "here") -> None:
    (folder / heartbeat.FILE).write_bytes(msgspec.json.encode(Beat(when.utc, boot, when.stage)))


class TestEnded:
    def test_shortly_after_the_last_beat(self, tmp_path):
        beat(tmp_path, at(-100))
        assert heartbeat.ended(tmp_path, at(-101), at(0), HERE) == (
            at(-98).utc,
            "heartbeat of the recorder",
            at(-98).stage,
        )

    def test_never_before_what_it_recorded_nor_after_now(self, tmp_path):
        beat(tmp_path, at(-100))
        assert heartbeat.ended(tmp_path, at(-50), at(0), HERE).time == at(-50).utc
        beat(tmp_path, at(0))
        assert heartbeat.ended(tmp_path, at(-50), at(0), HERE).time == NOW

    def test_after_a_reboot_the_last_beats_may_not_have_reached_the_disk(self, tmp_path):
        beat(tmp_path, at(-5000), "another")
        found = heartbeat.ended(tmp_path, at(-5001), at(0), HERE)
        assert found == (HERE.began, "start of the machine", at(-1000).stage)

    @pytest.mark.parametrize("set_by", [-HOUR, HOUR])
    def test_a_clock_that_was_set_meanwhile_makes_it_neither_shorter_nor_longer(self, tmp_path, set_by):
        beat(tmp_path, at(-100, NOW + set_by))
        found = heartbeat.ended(tmp_path, at(-130), at(0, NOW + set_by), HERE)
        assert (found.time, found.stage) == at(-98, NOW + set_by)

    def test_nor_does_one_that_is_behind_when_it_is_recovered(self, tmp_path):
        beat(tmp_path, at(-100), "another")
        late = Machine("here", NOW - 9 * HOUR)
        assert heartbeat.ended(tmp_path, at(-130), Moment(NOW - 8 * HOUR, 5), late).stage == at(-98).stage

    def test_what_landed_before_the_last_journal_is_known_on_utc_only(self, tmp_path):
        beat(tmp_path, at(-100))
        found = heartbeat.ended(tmp_path, Moment(at(-101).utc, None), at(0), HERE)
        assert (found.time, found.stage) == (at(-98).utc, None)

    @pytest.mark.parametrize("content", [b"", b"{", b"null", None])
    def test_without_a_beat_it_is_not_known(self, tmp_path, content):
        if content is not None:
            (tmp_path / heartbeat.FILE).write_bytes(content)
        assert heartbeat.ended(tmp_path, at(-1), at(0), HERE) == (NOW, "recovery", None)


def test_the_file_is_written_again_and_again_and_never_made_by_the_heart(tmp_path, monkeypatch):
    monkeypatch.setattr(heartbeat, "PERIOD", 0.01)
    heart = heartbeat.Heartbeat(tmp_path)
    heart.start()
    time.sleep(0.05)
    assert list(tmp_path.iterdir()) == []
    heartbeat.begin(tmp_path)
    before = time.time_ns()
    deadline = time.monotonic() + 10
    now = Moment(before + SECOND * 100, time.monotonic_ns() + SECOND * 100)
    while heartbeat.ended(tmp_path, None, now).time - 2 * SECOND < before and time.monotonic() < deadline:
        time.sleep(0.01)
    heart.stop()
    heart.join()
    found = heartbeat.ended(tmp_path, None, now)
    assert before <= found.time - 2 * SECOND <= time.time_ns()
    heartbeat.end(tmp_path)
    assert list(tmp_path.iterdir()) == []
