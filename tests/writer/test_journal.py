"""wsrec.writer.journal and journalreader: what was appended comes back, up to the last whole batch."""

from __future__ import annotations

import itertools
import os
import resource
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.effort import examples
from tests.rings import payloads
from wsrec.format.errors import OtherVersionError
from wsrec.writer import journal as journal_module
from wsrec.writer import journal_reader as reader_module
from wsrec.writer.journal import Journal
from wsrec.writer.journal_format import journal_path
from wsrec.writer.journal_reader import JournalReader, JournalTail

JOB = b'{"session": "s"}'


@pytest.fixture
def batches(rings):
    """Three batches of different sizes, from one ring."""
    ends = rings(capacity=16 * 4096)
    made = []
    for sizes in ((0, 5, 300), (12, 13), (5000, 1)):
        for size in sizes:
            ends.put(bytes(i & 0xFF for i in range(size)))
        drain = ends.drain()
        made.append(drain.take())
        drain.release()
    return made


def write(path, batches, *, close=True):
    """The journal, and its size after the beginning and after each batch."""
    journal = Journal(path, 1, JOB)
    sizes = [path.stat().st_size]
    for batch in batches:
        span = journal.append(batch)
        sizes.append(path.stat().st_size)
        assert span == (*sizes[-2:], batch.first, batch.next, batch.checksum())
    if close:
        journal.close()
    return sizes


def content(batches):
    return [(batch.first, batch.slots.tolist(), payloads(batch)) for batch in batches]


class TestJournal:
    @pytest.mark.parametrize("close", [True, False], ids=["closed", "left behind"])
    def test_batches_come_back_with_their_job(self, tmp_path, batches, close):
        path = journal_path(tmp_path, 1)
        write(path, batches, close=close)
        reader = JournalReader(path)
        assert content(reader) == content(batches)
        assert (reader.job, reader.torn) == (JOB, False)

    def test_a_part_of_a_batch_comes_back(self, tmp_path, batches):
        write(tmp_path / "j", [batches[0].part(1, 3)])
        assert content(JournalReader(tmp_path / "j")) == content([batches[0].part(1, 3)])

    @pytest.mark.parametrize("key", [b"wsrec.format_version", b"wsrec.job"])
    def test_one_whose_beginning_a_bit_flipped_in_is_a_damaged_one(self, tmp_path, batches, key):
        write(tmp_path / "j", batches)
        data = (tmp_path / "j").read_bytes()
        (tmp_path / "j").write_bytes(data.replace(key, key[:-1] + bytes([key[-1] ^ 1])))
        with pytest.raises(pa.ArrowInvalid):
            JournalReader(tmp_path / "j")

    def test_a_journal_of_another_version_is_not_taken_for_a_damaged_one(self, tmp_path, batches, monkeypatch):
        monkeypatch.setattr(journal_module, "FORMAT_VERSION", 1)
        write(tmp_path / "j", batches)
        monkeypatch.undo()
        with pytest.raises(OtherVersionError, match="has format version 1, this wsrec reads"):
            JournalReader(tmp_path / "j")

    def test_a_torn_tail_is_cut_at_the_last_whole_batch(self, tmp_path, batches):
        sizes = write(tmp_path / "whole", batches, close=False)
        data = (tmp_path / "whole").read_bytes()
        for size in sorted({*range(sizes[0], len(data), 97), *sizes, *(size - 1 for size in sizes[1:])}):
            (tmp_path / "torn").write_bytes(data[:size])
            reader = JournalReader(tmp_path / "torn")
            whole = sum(end <= size for end in sizes[1:])
            assert content(reader) == content(batches[:whole])
            assert reader.torn == (size not in sizes)

    def test_a_damaged_batch_is_left_out_and_those_behind_it_are_read(self, tmp_path, batches):
        sizes = write(tmp_path / "whole", batches)
        data = (tmp_path / "whole").read_bytes()
        for at in range(sizes[1] + 8, sizes[2]):
            (tmp_path / "bad").write_bytes(data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :])
            reader = JournalReader(tmp_path / "bad")
            match content(reader):
                case found if found == content(batches):  # padding between buffers says nothing
                    assert (reader.torn, reader.skipped) == (False, 0)
                case found if found == content([batches[0], batches[2]]):
                    assert (reader.damaged, reader.torn) == (1, False)
                case found:
                    pytest.fail(f"byte {at}: {len(found)} batches")

    def test_zeros_in_the_middle_are_not_taken_for_the_end(self, tmp_path, batches):
        sizes = write(tmp_path / "j", batches)
        data = (tmp_path / "j").read_bytes()
        (tmp_path / "j").write_bytes(data[: sizes[1]] + bytes(sizes[2] - sizes[1]) + data[sizes[2] :])
        reader = JournalReader(tmp_path / "j")
        assert content(reader) == content([batches[0], batches[2]])
        assert (reader.damaged, reader.torn, reader.skipped) == (1, False, sizes[2] - sizes[1])

    @pytest.mark.parametrize("search", [1 << 20, 64], ids=["at once", "piece by piece"])
    @settings(deadline=None, max_examples=examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(data=st.data())
    def test_what_stands_behind_anything_is_found(self, tmp_path, batches, monkeypatch, search, data):
        """Garbage of any length between any batches, a part of a batch and markers of Arrow's in it."""
        monkeypatch.setattr(reader_module, "_SEARCH_BYTES", search)
        path = tmp_path / "j"
        path.unlink(missing_ok=True)
        sizes = write(path, batches)
        whole = path.read_bytes()
        pieces, garbage = [whole[: sizes[0]]], 0
        for start, stop in itertools.pairwise(sizes):
            # what pads a batch at its end says nothing
            cut = data.draw(st.integers(0, stop - start - 65))
            marker = st.sampled_from([b"\xff\xff\xff\xff", b"\xff\xff\xff\xff\x40\x01\x00\x00", b"\xff"])
            noise = b"".join(data.draw(st.lists(st.binary(max_size=40) | marker, max_size=4)))
            pieces += [whole[start : start + cut], noise, whole[start:stop]]
            garbage += cut + len(noise)
        path.write_bytes(b"".join(pieces))
        reader = JournalReader(path)
        assert content(reader) == content(batches)
        assert (reader.torn, reader.skipped) == (False, garbage)

    def test_a_batch_of_another_journal_is_not_believed(self, tmp_path, batches):
        """As an exchange may send it, or as an old block of the disk may hold it."""
        sizes = write(tmp_path / "other", batches)
        other = (tmp_path / "other").read_bytes()[sizes[0] : sizes[1]]
        sizes = write(tmp_path / "j", batches)
        data = (tmp_path / "j").read_bytes()
        (tmp_path / "j").write_bytes(data[: sizes[1]] + other + data[sizes[1] :])
        reader = JournalReader(tmp_path / "j")
        assert content(reader) == content(batches)
        assert (reader.damaged, reader.skipped) == (1, len(other))

    def test_a_payload_that_changed_on_the_disk_is_not_believed(self, tmp_path, batches):
        sizes = write(tmp_path / "j", batches)
        data = (tmp_path / "j").read_bytes()
        place = data.index(payloads(batches[1])[1], sizes[1])
        (tmp_path / "j").write_bytes(data[:place] + b"!" + data[place + 1 :])
        reader = JournalReader(tmp_path / "j")
        assert content(reader) == content([batches[0], batches[2]])
        assert (reader.damaged, reader.torn) == (1, False)

    def test_a_file_is_never_overwritten(self, tmp_path):
        path = tmp_path / "j"
        path.write_bytes(b"precious")
        with pytest.raises(FileExistsError):
            Journal(path, 1, JOB)
        assert path.read_bytes() == b"precious"

    def test_a_full_disk_leaves_no_half_batch_and_the_batch_can_be_tried_again(self, tmp_path, batches):
        journal = Journal(tmp_path / "j", 1, JOB)
        journal.append(batches[0])
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        before = (tmp_path / "j").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (before + 1000, hard))
        try:
            with pytest.raises(OSError, match="large"):
                journal.append(batches[2])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert (tmp_path / "j").stat().st_size == before
        journal.append(batches[1])
        journal.append(batches[2])
        journal.close()
        assert content(JournalReader(tmp_path / "j")) == content(batches)

    def test_a_disk_that_is_full_from_the_start_leaves_a_journal_that_can_be_read(self, tmp_path, batches):
        journal = Journal(tmp_path / "j", 1, JOB)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "j").stat().st_size + 10, hard))
        try:
            with pytest.raises(OSError, match="large"):
                journal.append(batches[0])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert content(JournalReader(tmp_path / "j")) == []
        journal.append(batches[0])
        assert content(JournalReader(tmp_path / "j")) == content(batches[:1])

    def test_no_room_for_even_the_beginning_leaves_no_file(self, tmp_path):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
        try:
            with pytest.raises(OSError, match="large"):
                Journal(tmp_path / "j", 1, JOB)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert list(tmp_path.iterdir()) == []

    def test_only_what_is_new_is_synced(self, tmp_path, batches, monkeypatch):
        synced = []
        monkeypatch.setattr(os, "fdatasync", synced.append)
        journal = Journal(tmp_path / "j", 1, JOB)
        for count, batch in enumerate(batches, 1):
            journal.append(batch)
            journal.sync()
            journal.sync()
            assert len(synced) == count

    def test_its_name_is_made_durable(self, tmp_path, monkeypatch):
        folders = []
        monkeypatch.setattr("wsrec.writer.journal.sync_folder", lambda folder: folders.append(folder))
        Journal(tmp_path / "j", 1, JOB)
        assert folders == [tmp_path]


class TestTail:
    """A journal read behind its end, while it goes on being written."""

    @pytest.fixture(autouse=True, params=[0, 1 << 40], ids=["mapped", "read"])
    def map_bytes(self, request, monkeypatch):
        monkeypatch.setattr(reader_module, "_MAP_BYTES", request.param)

    @pytest.mark.parametrize("drop", [1, 1 << 40], ids=["forgotten by the kernel at once", "kept"])
    def test_each_batch_as_soon_as_it_is_appended(self, tmp_path, batches, monkeypatch, drop):
        monkeypatch.setattr(reader_module, "_DROP_BYTES", drop)
        journal, read = Journal(tmp_path / "j", 1, JOB), []
        tail = JournalTail(tmp_path / "j")
        for batch in batches:
            read.append(tail.read(journal.append(batch)))
            journal.sync()
        assert content(read) == content(batches)
        tail.close()
        journal.close()
        (tmp_path / "j").unlink()
        assert content(read) == content(batches)

    def test_small_batches_that_wait_for_their_row_group_take_no_descriptors(self, tmp_path, batches, monkeypatch):
        monkeypatch.undo()
        journal = Journal(tmp_path / "j", 1, JOB)
        spans = [journal.append(batch) for batch in batches * 20]
        tail = JournalTail(tmp_path / "j")
        before = len(list(Path("/proc/self/fd").iterdir()))
        waiting = [tail.read(span) for span in spans]
        assert len(list(Path("/proc/self/fd").iterdir())) == before
        assert content(waiting) == content(batches * 20)
        tail.close()
        journal.close()

    def test_far_behind_and_in_any_order(self, tmp_path, batches):
        journal = Journal(tmp_path / "j", 1, JOB)
        spans = [journal.append(batch) for batch in batches]
        journal.close()
        tail = JournalTail(tmp_path / "j")
        assert content(tail.read(span) for span in reversed(spans)) == content(reversed(batches))
        assert content(JournalReader(tmp_path / "j")) == content(batches)
        tail.close()
