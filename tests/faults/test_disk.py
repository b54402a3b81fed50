"""A disk that fails in the middle of a recording: nothing that can be read is lost, nothing is silent, nothing ends."""

from __future__ import annotations

import errno
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import events_of, messages_of, received
from tests.faults import disk as faults
from tests.faults.disk import FaultyDisk, Writer, fault, record, writing
from tests.faults.disk_matrix import Matrix, Place
from tests.faults.forks import Forks
from wsrec.options.value_types import Rotation
from wsrec.verify.model import VerifyStatus
from wsrec.verify.verify import verify
from wsrec.writer.recovery import recover

pytestmark = pytest.mark.skipif(faults.compiler() is None, reason="there is no C compiler")


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    forks = Forks(faults.build(tmp_path_factory.mktemp("library")))
    yield forks
    forks.close()


@pytest.fixture
def disk(forks: Forks, tmp_path: Path) -> FaultyDisk:
    (tmp_path / "out").mkdir()
    return FaultyDisk(forks, tmp_path / "out", tmp_path / "state")


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
        writer.kill()


def recovered(out: Path) -> list[bytes]:
    failures: list[str] = []
    recover(out, failures.append)
    assert failures == []
    return received(messages_of(out))


class TestShortWriteThatCannotBeCut:
    """ext4 that remounts itself read-only: a part of a batch is in the journal and stays there."""

    ORDERS = (fault("write", 12, "short", "journal-"), fault("write", 13, errno.EIO, "journal-"))

    @pytest.mark.long
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
        assert any("continues in a new journal" in line for line in writer.words)
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

    def test_it_is_reported_and_leaves_nothing_behind(self, disk: FaultyDisk):
        with writing(disk, fault("fdatasync", 3, errno.EIO, "journal-")) as writer:
            sent = record(writer)
        assert disk.happened == 1
        assert received(messages_of(disk.folder)) == sent
        assert any("written again" in line for line in writer.words)
        assert any("written again" in event["detail"]["message"] for event in events_of(disk.folder, "disk"))
        assert [path for path in (disk.folder / ".wsrec").iterdir() if path.is_dir()] == []

    @pytest.mark.parametrize("part", ["messages-", "events-"])
    def test_a_file_is_not_believed_either(self, disk: FaultyDisk, part: str):
        with writing(disk, fault("fdatasync", 1, errno.EIO, part)) as writer:
            sent = record(writer)
        disk.cut_power()
        assert received(messages_of(disk.folder)) == sent
        assert verify([disk.folder]).status is VerifyStatus.HOLDS
        assert any("written again" in line for line in writer.words)

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
        with writing(disk, fault("unlink", 1, errno.EIO, "journal-"), rotate=Rotation(bytes=12_000)) as writer:
            sent = record(writer)
        assert disk.happened == 1
        assert received(messages_of(disk.folder)) == sent
        assert any("journal-000001.arrows cannot be deleted" in line for line in writer.words)
        assert writer.process.returncode == 0
        assert [path for path in (disk.folder / ".wsrec").iterdir() if path.is_dir()] == []

    def test_one_that_stays_makes_no_rows_twice(self, disk: FaultyDisk):
        orders = [fault("unlink", 1, errno.EIO, f"journal-{number:06}") for number in (1, 1, 1, 1, 1, 1, 1, 1)]
        with writing(disk, *orders, rotate=Rotation(bytes=12_000)) as writer:
            sent = record(writer)
        assert writer.process.returncode == 0
        assert (disk.folder / ".wsrec" / "s" / "journal-000001.arrows").exists()
        assert recovered(disk.folder) == sent
        assert [path for path in (disk.folder / ".wsrec").iterdir() if path.is_dir()] == []
        assert verify([disk.folder]).status is VerifyStatus.HOLDS


class TestMarkThatCannotBeWritten:
    """Which batch rows are being made of (`.wsrec/SESSION/taking`): needed only by who comes after a death."""

    def test_it_is_reported_once_and_the_recording_goes_on(self, disk: FaultyDisk):
        with writing(disk, fault("write", 3, f"{errno.EIO}x3", "/taking")) as writer:
            sent = record(writer)
        assert disk.happened == 3
        assert received(messages_of(disk.folder)) == sent
        (stated,) = (line for line in writer.words if "taking" in line)
        assert "Input/output error" in stated
        assert len(events_of(disk.folder, "disk")) == 1

    def test_one_that_cannot_be_made_is_waited_for(self, disk: FaultyDisk):
        with writing(disk, fault("create", 1, errno.EIO, "/taking")) as writer:
            sent = record(writer)
        assert disk.happened == 1
        assert writer.process.returncode == 0, writer.words
        assert received(messages_of(disk.folder)) == sent


# What no disk may do: it says that it wrote, or gave a name, and did not.
LIES = [
    fault("write", 1, "lie", "messages-"),
    fault("write", 1, "lie", "events-"),
    fault("link", 1, "lie", "messages-"),
]


@pytest.fixture
def matrix(tmp_path: Path) -> Iterator[Matrix]:
    matrix = Matrix(tmp_path)
    yield matrix
    matrix.close()


class TestMatrix:
    """A part of `scripts/disk-faults`, and what it must be able to see."""

    PLACES = (
        ("writer", "write", 3, ("short",)),
        ("writer", "write", 40, (str(errno.ENOSPC),)),
        ("writer", "write", 20, ("torn", fault("ftruncate", 1, errno.EROFS))),
        ("writer", "grow", 60, (f"{errno.ENOSPC}~300",)),
        ("writer", "create", 4, (str(errno.EIO),)),
        ("writer", "fsync", 2, (f"{errno.EIO}x3",)),
        ("writer", "link", 2, (str(errno.EIO),)),
        ("writer", "unlink", 2, (str(errno.EIO),)),
        ("writer", "rmdir", 1, (str(errno.EIO),)),
        ("killed", "write", 12, ("torn", fault("ftruncate", 1, errno.EIO))),
        ("killed", "fdatasync", 1, (f"{errno.EIO}x3",)),
        ("recover", "write", 9, (str(errno.EIO),)),
        ("recover", "link", 1, (str(errno.EIO),)),
        ("recover", "unlink", 3, (str(errno.EIO),)),
        # what it leaves does not go on to write
        ("recover", "none", 1, ("0", fault("write", 1, f"{errno.ENOSPC}x9", "events-"))),
    )

    @pytest.mark.long
    def test_a_part_of_it(self, matrix: Matrix):
        matrix.prepare(["recover"])
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(matrix.run, itertools.starmap(Place, self.PLACES)))
        assert [one for one in found if one.wrong] == []
        assert [one.place for one in found if not one.path] == []

    @pytest.mark.long
    def test_it_sees_what_a_disk_loses_that_lies(self, matrix: Matrix):
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda lie: matrix.run(Place("writer", "none", 1, ("0", lie))), LIES))
        assert all(one.path for one in found)
        assert [one for one in found if not one.wrong] == []

    def test_a_journal_that_did_not_grow_is_noticed_by_the_recorder_itself(self, matrix: Matrix):
        found = matrix.run(Place("writer", "none", 1, ("0", fault("write", 3, "lie", "journal-"))))
        assert (found.wrong, found.lost) == ([], 0)
        assert any("was truncated while being written" in words for words in found.stated)
