"""A disk that fails in the middle of a recording: nothing that can be read is lost, nothing is silent, nothing ends."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import events_of, messages_of, received
from tests.faults import disk as faults
from tests.faults.disk import FaultyDisk, Writer, fault, record, run, writing
from wsrec.store.recovery import recover
from wsrec.verify.model import VerifyStatus
from wsrec.verify.verify import verify

pytestmark = pytest.mark.skipif(faults.compiler() is None, reason="there is no C compiler")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return faults.build(tmp_path_factory.mktemp("library"))


@pytest.fixture
def disk(library: Path, tmp_path: Path) -> FaultyDisk:
    (tmp_path / "out").mkdir()
    return FaultyDisk(library, tmp_path / "out", tmp_path / "state")


@contextmanager
def killed(disk: FaultyDisk, *orders: str, **job: Any) -> Iterator[tuple[Writer, list[bytes]]]:
    """A writer that is killed after it has journalled messages in many batches; and what was put."""
    sent = [b"%06d " % index + b"x" * 300 for index in range(200)]
    with writing(disk, *orders, **job) as writer:
        for index, payload in enumerate(sent):
            assert writer.put(payload), writer.words
            if index % 10 == 9:
                assert writer.journalled(), writer.words
        yield writer, sent
        writer.process.kill()
        writer.process.wait()


def recovered(out: Path) -> list[bytes]:
    failures: list[str] = []
    recover(out, failures.append)
    assert failures == []
    return received(messages_of(out))


class TestShortWriteThatCannotBeCut:
    """ext4 that remounts itself read-only: a part of a batch is in the journal and stays there."""

    ORDERS = (fault("write", 12, "short", "journal-"), fault("write", 13, errno.EIO, "journal-"))

    def test_what_comes_after_it_is_recovered(self, disk: FaultyDisk):
        with killed(disk, *self.ORDERS, fault("ftruncate", 1, errno.EROFS)) as (_, sent):
            assert disk.happened == 3
        assert recovered(disk.folder) == sent
        assert verify([disk.folder]).status is not VerifyStatus.DAMAGED

    def test_the_recording_goes_on_and_says_so(self, disk: FaultyDisk):
        with writing(disk, *self.ORDERS, fault("ftruncate", 1, errno.EROFS)) as writer:
            sent = record(writer)
        assert disk.happened == 3
        assert received(messages_of(disk.folder)) == sent
        assert any("goes on in a new journal" in line for line in writer.words)
        assert events_of(disk.folder, "disk")
        assert [path for path in (disk.folder / ".wsrec").iterdir() if path.is_dir()] == []


class TestSyncThatFailed:
    """Linux says so once, and takes the pages that it could not write for written from then on."""

    def test_what_it_was_for_survives_a_power_cut(self, disk: FaultyDisk):
        with killed(disk, fault("fdatasync", 3, errno.EIO, "journal-")) as (writer, sent):
            assert writer.until(lambda: disk.happened)
            assert writer.until(lambda: "fdatasync /.wsrec/s/journal-000002" in (disk.state / "log").read_text())
        disk.cut_power()
        assert recovered(disk.folder) == sent

    def test_even_what_the_journal_begins_with(self, disk: FaultyDisk):
        with killed(disk, fault("fdatasync", 1, errno.EIO, "journal-")) as (writer, sent):
            assert writer.until(lambda: "fdatasync /.wsrec/s/journal-000002" in (disk.state / "log").read_text())
        disk.cut_power()
        assert recovered(disk.folder) == sent

    def test_it_is_said_and_leaves_nothing_behind(self, disk: FaultyDisk):
        with writing(disk, fault("fdatasync", 3, errno.EIO, "journal-")) as writer:
            sent = record(writer)
        assert disk.happened == 1
        assert received(messages_of(disk.folder)) == sent
        assert any("written anew" in line for line in writer.words)
        assert any("written anew" in event["detail"]["message"] for event in events_of(disk.folder, "disk"))
        assert [path for path in (disk.folder / ".wsrec").iterdir() if path.is_dir()] == []

    @pytest.mark.parametrize("part", ["messages-", "events-"])
    def test_a_file_is_not_believed_either(self, disk: FaultyDisk, part: str):
        with writing(disk, fault("fdatasync", 1, errno.EIO, part)) as writer:
            sent = record(writer)
        disk.cut_power()
        assert received(messages_of(disk.folder)) == sent
        assert verify([disk.folder]).status is VerifyStatus.HOLDS
        assert any("written anew" in line for line in writer.words)

    def test_nor_is_a_folder(self, disk: FaultyDisk):
        """After a sync of the folder that failed, the name is made once more before it is synced again."""
        with writing(disk, fault("fsync", 1, errno.EIO, "/messages/feed=f/date")) as writer:
            sent = record(writer)
        assert disk.happened == 1
        assert received(messages_of(disk.folder)) == sent
        calls = [call for call, path in disk.calls() if "hour=" in path or path.endswith(".partial")]
        failed = calls.index("fsync")
        assert {"link", "mkdir"} & set(calls[failed:])
        assert writer.words


class TestJournalThatCannotBeDeleted:
    def test_the_recording_goes_on_and_tries_again(self, disk: FaultyDisk):
        with writing(disk, fault("unlink", 1, errno.EIO, "journal-"), rotate_bytes=12_000) as writer:
            sent = record(writer)
        assert disk.happened == 1
        assert received(messages_of(disk.folder)) == sent
        assert any("journal-000001.arrows cannot be deleted" in line for line in writer.words)
        assert writer.process.returncode == 0
        assert [path for path in (disk.folder / ".wsrec").iterdir() if path.is_dir()] == []

    def test_one_that_stays_makes_no_rows_twice(self, disk: FaultyDisk):
        orders = [fault("unlink", 1, errno.EIO, f"journal-{number:06}") for number in (1, 1, 1, 1, 1, 1, 1, 1)]
        with writing(disk, *orders, rotate_bytes=12_000) as writer:
            sent = record(writer)
        assert writer.process.returncode == 0
        assert (disk.folder / ".wsrec" / "s" / "journal-000001.arrows").exists()
        assert recovered(disk.folder) == sent
        assert [path for path in (disk.folder / ".wsrec").iterdir() if path.is_dir()] == []
        assert verify([disk.folder]).status is VerifyStatus.HOLDS


@pytest.mark.parametrize(
    "orders",
    [
        (fault("write", 3, "short"), fault("unlink", 2, errno.EIO), fault("rmdir", 1, errno.EIO)),
        (fault("write", 40, errno.ENOSPC), fault("link", 2, errno.EIO)),
        (fault("fsync", 2, errno.EIO), fault("mkdir", 8, errno.EIO)),
        (fault("create", 4, errno.EIO),),
        (fault("write", 1, "short", "manifest"), fault("fsync", 1, errno.EIO, "manifest")),
    ],
    ids=lambda orders: "+".join(orders),
)
def test_calls_that_fail_once(library: Path, tmp_path: Path, orders: tuple[str, ...]):
    """A part of `scripts/disk-faults`, which has one fault a recording."""
    found = run(library, tmp_path, *orders)
    assert found.verdict == "holds", found
    assert FaultyDisk(library, tmp_path / "out", tmp_path / "state").happened
