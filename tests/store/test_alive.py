"""wsrec.store.alive: until when a recorder that was killed can have received anything."""

from __future__ import annotations

import time

import msgspec
import pytest

from wsrec.store import alive
from wsrec.store.alive import Beat, Machine

NOW = 1_800_000_000_000_000_000
SECOND = 1_000_000_000
HERE = Machine("here", NOW - 1000 * SECOND)


def beat(folder, time: int, boot: str = "here") -> None:
    (folder / alive.FILE).write_bytes(msgspec.json.encode(Beat(time, boot)))


class TestEnded:
    def test_shortly_after_the_last_beat(self, tmp_path):
        beat(tmp_path, NOW - 100 * SECOND)
        assert alive.ended(tmp_path, NOW - 101 * SECOND, NOW, HERE) == (NOW - 98 * SECOND, "heartbeat of the recorder")

    def test_never_before_what_it_recorded_nor_after_now(self, tmp_path):
        beat(tmp_path, NOW - 100 * SECOND)
        assert alive.ended(tmp_path, NOW - 50 * SECOND, NOW, HERE).time == NOW - 50 * SECOND
        beat(tmp_path, NOW)
        assert alive.ended(tmp_path, NOW - 50 * SECOND, NOW, HERE).time == NOW

    def test_after_a_reboot_the_last_beats_may_not_have_reached_the_disk(self, tmp_path):
        beat(tmp_path, NOW - 5000 * SECOND, "another")
        found = alive.ended(tmp_path, NOW - 5001 * SECOND, NOW, HERE)
        assert found == (HERE.began, "start of the machine")

    @pytest.mark.parametrize("content", [b"", b"{", b"null", None])
    def test_without_a_beat_it_is_not_known(self, tmp_path, content):
        if content is not None:
            (tmp_path / alive.FILE).write_bytes(content)
        assert alive.ended(tmp_path, NOW - SECOND, NOW, HERE) == (NOW, "recovery")


def test_the_file_is_written_again_and_again_and_never_made_by_the_heart(tmp_path, monkeypatch):
    monkeypatch.setattr(alive, "PERIOD", 0.01)
    heart = alive.Heartbeat(tmp_path)
    heart.start()
    time.sleep(0.05)
    assert list(tmp_path.iterdir()) == []
    alive.begin(tmp_path)
    before = time.time_ns()
    deadline = time.monotonic() + 10
    while alive.ended(tmp_path, 0, before + SECOND * 100).time - 2 * SECOND < before and time.monotonic() < deadline:
        time.sleep(0.01)
    heart.stop()
    heart.join()
    found = alive.ended(tmp_path, 0, before + SECOND * 100)
    assert before <= found.time - 2 * SECOND <= time.time_ns()
    alive.end(tmp_path)
    assert list(tmp_path.iterdir()) == []
