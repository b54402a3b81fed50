"""wsrec.writer.disk: a disk that refuses is waited for, a reserve is left alone, and a stop waits for a while only."""

from __future__ import annotations

import errno
import os
import threading
from types import SimpleNamespace

import pytest

from wsrec.writer import disk
from wsrec.writer.disk import JOURNAL_RESERVE, PARQUET_RESERVE, NewFile, RetryingDisk

MIB = 1 << 20


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(disk, "_RETRY_SECONDS", 0.01)


@pytest.fixture
def free(monkeypatch):
    """Free space of every file system, in MiB: to be changed."""
    state = SimpleNamespace(mib=100)
    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_bavail=state.mib * 256, f_frsize=4096))
    return state


class Reports(list[bool]):
    """The reports of a disk; frees space when it first waits."""

    def __init__(self, then=lambda: None) -> None:
        super().__init__()
        self.then = then

    def __call__(self, waiting: bool) -> None:
        self.append(waiting)
        if waiting:
            self.then()


class TestReserve:
    def test_with_less_than_the_reserve_a_write_waits_until_there_is_space(self, tmp_path, free):
        free.mib = 99
        stated = Reports(lambda: setattr(free, "mib", 101))
        disk = RetryingDisk(stated, tmp_path, 100 * MIB)
        file = NewFile(tmp_path / "a", disk)
        file.write(b"data")
        file.close()
        assert (tmp_path / "a").read_bytes() == b"data"
        assert stated == [True, False]
        (trouble,) = disk.over
        assert "--reserve" in trouble.message
        assert "100 MiB" in trouble.message or "105 MB" in trouble.message

    def test_the_journal_goes_on_to_half_of_it(self, tmp_path, free):
        disk = RetryingDisk(Reports(), tmp_path, 100 * MIB)
        disk.set_deadline(0)
        free.mib = 51
        assert disk.retry(lambda: "journalled", JOURNAL_RESERVE) == "journalled"
        with pytest.raises(OSError, match="reserve"):
            disk.retry(lambda: "encoded", PARQUET_RESERVE)
        free.mib = 49
        with pytest.raises(OSError, match="reserve"):
            disk.retry(lambda: "journalled", JOURNAL_RESERVE)

    def test_what_takes_no_room_is_not_kept_waiting(self, tmp_path, free):
        free.mib = 0
        assert RetryingDisk(Reports(), tmp_path, MIB).retry(lambda: "synced") == "synced"

    def test_without_a_reserve_free_space_is_not_checked(self, tmp_path, free):
        free.mib = 0
        assert RetryingDisk(Reports(), tmp_path).retry(lambda: "written", PARQUET_RESERVE) == "written"


class TestPatience:
    def test_a_refusal_that_outlasts_a_stop_is_given_on(self):
        def refuse() -> None:
            raise OSError(errno.EROFS, "Read-only file system")

        disk = RetryingDisk(Reports())
        disk.set_deadline(0.05)
        with pytest.raises(OSError, match="Read-only"):
            disk.retry(refuse)

    def test_a_stop_hurries_whoever_waits_already(self):
        stated = threading.Event()

        def refuse() -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        def wait() -> None:
            with pytest.raises(OSError, match="No space"):
                disk.retry(refuse)
            ended.set()

        ended = threading.Event()
        disk = RetryingDisk(lambda _waiting: stated.set())
        thread = threading.Thread(target=wait)
        thread.start()
        assert stated.wait(30)
        disk.set_deadline(0.05)
        assert ended.wait(30)
        thread.join()

    def test_it_is_in_trouble_for_as_long_as_anybody_waits(self):
        reported: list[bool] = []
        gates = [threading.Event(), threading.Event()]

        def behind(gate: threading.Event) -> None:
            if not gate.is_set():
                raise OSError(errno.ENOSPC, "No space left on device")

        disk = RetryingDisk(reported.append)
        threads = [threading.Thread(target=disk.retry, args=(lambda gate=gate: behind(gate),)) for gate in gates]
        for index, thread in enumerate(threads):
            thread.start()
            while len(disk.waiting) <= index:
                pass
        for gate, thread in zip(gates, threads, strict=True):
            gate.set()
            thread.join()
        assert reported[-1] is False
        assert len(disk.over) == 2
        assert not disk.waiting
