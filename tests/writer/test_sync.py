"""wsrec.writer.sync: what is appended reaches the disk, without anyone who appends waiting for it."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tests.rings import Rings, payloads
from wsrec.writer.disk import NO_RETRY, RetryingDisk
from wsrec.writer.journal import Journal
from wsrec.writer.journal_format import delete
from wsrec.writer.journal_reader import JournalReader
from wsrec.writer.sync import SyncThread

JOB = b"{}"


@pytest.fixture
def batch(rings):
    ends: Rings = rings()
    ends.put(b"payload")
    return ends.drain().take()


def until(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture
def synced(monkeypatch):
    """The inode of the file of each fdatasync(2)."""
    done: list[int] = []
    real = os.fdatasync

    def fdatasync(fd: int) -> None:
        real(fd)
        done.append(os.fstat(fd).st_ino)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    return done


class TestSyncThread:
    def test_what_is_appended_is_synced_again_and_again(self, tmp_path, batch, synced):
        journal = Journal(tmp_path / "j", 1, JOB)
        thread = SyncThread(journal, 0.01, NO_RETRY)
        thread.start()
        for count in range(1, 4):
            until(lambda count=count: len(synced) >= count)
            journal.append(batch)
        thread.stop()
        assert thread.failed is None
        assert len(list(JournalReader(tmp_path / "j"))) == 3

    def test_a_journal_that_is_done_is_closed_whole(self, tmp_path, batch, synced):
        journals = [Journal(tmp_path / f"{number}", number, JOB) for number in (1, 2, 3)]
        thread = SyncThread(journals[0], 1000.0, NO_RETRY)
        thread.start()
        journals[0].append(batch)
        thread.change(journals[1])
        until(lambda: (tmp_path / "1").stat().st_ino in synced)
        thread.change(journals[2])
        journals[2].append(batch)
        thread.stop()
        assert [len(list(JournalReader(journal.path))) for journal in journals] == [1, 0, 1]
        assert {journal.path.stat().st_ino for journal in journals} <= set(synced)

    def test_appending_does_not_wait_for_a_slow_disk(self, tmp_path, batch, monkeypatch):
        began, goes_on = threading.Event(), threading.Event()

        def slow(fd: int) -> None:
            began.set()
            assert goes_on.wait(30)

        monkeypatch.setattr(os, "fdatasync", slow)
        journal = Journal(tmp_path / "1", 1, JOB)
        thread = SyncThread(journal, 0.01, NO_RETRY)
        thread.start()
        assert began.wait(30)
        for _ in range(10):
            journal.append(batch)
        following = Journal(tmp_path / "2", 2, JOB)
        thread.change(following)
        following.append(batch)
        goes_on.set()
        thread.stop()
        assert [len(list(JournalReader(tmp_path / name))) for name in ("1", "2")] == [10, 1]

    def test_after_a_sync_that_failed_all_since_the_last_good_one_is_written_anew(self, tmp_path, batch, monkeypatch):
        """However often that fails, and never by calling the sync of a file again that failed."""
        monkeypatch.setattr("wsrec.writer.disk._RETRY_SECONDS", 0.01)
        # by name: the number of a file that was deleted may be the next one's
        refused: list[str] = []
        real = os.fdatasync

        def refusing(fd: int) -> None:
            file = str(Path(f"/proc/self/fd/{fd}").readlink())
            assert file not in refused
            if good and len(refused) < 3:
                refused.append(file)
                raise OSError(5, "Input/output error")
            real(fd)
            good.append(file)

        good: list[str] = []
        monkeypatch.setattr(os, "fdatasync", refusing)
        stated: list[bool] = []
        disk = RetryingDisk(stated.append)
        journal, following = (Journal(tmp_path / f"journal-00000{n}.arrows", n, JOB) for n in (1, 2))
        thread = SyncThread(journal, 0.01, disk)
        thread.start()
        until(lambda: journal.synced)
        spans = [journal.append(batch) for _ in range(3)]
        until(lambda: journal.sync_failed)
        assert not journal.usable
        thread.change(following)
        until(lambda: journal.moved or thread.failed)
        thread.stop()
        assert thread.failed is None
        assert list(journal.moved) == [span.start for span in spans]
        # as if the disk had never had it
        os.truncate(journal.path, journal.synced)
        assert [payloads(each) for each in JournalReader(journal.path)] == [[b"payload"]] * 3
        assert "written again" in disk.over[0].message
        assert stated[-1] is False

    def test_what_ends_it_is_kept_for_the_main_thread(self, tmp_path, monkeypatch):
        def gone(fd: int) -> None:
            raise FileNotFoundError(2, "gone")

        monkeypatch.setattr(os, "fdatasync", gone)
        thread = SyncThread(Journal(tmp_path / "j", 1, JOB), 0.01, RetryingDisk(lambda trouble: None))
        thread.start()
        thread.join(30)
        assert isinstance(thread.failed, FileNotFoundError)

    @pytest.mark.parametrize("fails", [True, False])
    def test_one_that_is_deleted_meanwhile_is_not_written_anew(self, tmp_path, batch, monkeypatch, fails):
        """All of it is in files: it goes while a disk that refuses holds the copy of it up, or just before its end."""
        monkeypatch.setattr("wsrec.writer.disk._RETRY_SECONDS", 0.01)
        journal = Journal(tmp_path / "journal-000001.arrows", 1, JOB)
        journal.append(batch)
        real, calls = os.fdatasync, list[int]()

        def refusing(fd: int) -> None:
            calls.append(fd)
            if len(calls) == 2:
                delete(journal.path)
            if len(calls) == 1 or (len(calls) == 2 and fails):
                raise OSError(5, "Input/output error")
            real(fd)

        monkeypatch.setattr(os, "fdatasync", refusing)
        thread = SyncThread(journal, 1000.0, RetryingDisk(lambda _trouble: None))
        thread.start()
        thread.stop()
        assert thread.failed is None
        assert len(calls) >= 2
        assert list(tmp_path.iterdir()) == []
