"""Journals and manifests after a crash or disk error: intact parts are read, the rest is reported, nothing crashes."""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.effort import examples
from tests.rings import Rings, payloads, plan, writer_job
from wsrec.format import layout, manifest
from wsrec.format.errors import OtherVersionError
from wsrec.format.ledger import Ledger
from wsrec.format.version import FORMAT_VERSION
from wsrec.ring.events import EventKind
from wsrec.writer.journal import Journal
from wsrec.writer.journal_format import journal_path
from wsrec.writer.journal_reader import JournalReader
from wsrec.writer.recovery import recover

once = settings(deadline=None, max_examples=examples(100), suppress_health_check=[HealthCheck.function_scoped_fixture])
LINE = manifest.ManifestLine(
    path="messages/a",
    events_path=None,
    session="s",
    feed="f",
    number=1,
    rows=1,
    events=0,
    bytes=1,
    sha256="0",
    events_sha256=None,
    first_seq=0,
    last_seq=0,
    first_time=1,
    last_time=1,
    gaps_checked=False,
    format_version=FORMAT_VERSION,
    ledger=Ledger(),
)


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A journal of three batches, each of some messages longer and shorter than an inline view."""
    folder = tmp_path_factory.mktemp("journal")
    rings = Rings()
    job = writer_job(folder, (plan(0),), {"f": {"name": "f", "description": "", "sockets": {"m": {"url": "ws://h/"}}}})
    written = Journal(journal_path(folder, 1), 1, msgspec.json.encode(job))
    clock = {"monotonic": time.monotonic_ns(), "realtime": time.time_ns()}
    rings.event(EventKind.ANCHOR, **clock, width_ns=1, clock="TSC", drift_ns=0)
    drain = rings.drain()
    for number in range(3):
        rings.put(b"short %d" % number, handoff=time.monotonic_ns())
        rings.put(b"a message that is longer than a view %d" % number, handoff=time.monotonic_ns())
        batch = drain.take()
        assert batch is not None
        written.append(batch)
        drain.release()
    written.close()
    rings.close()
    return journal_path(folder, 1).read_bytes()


def read(path: Path) -> list[list[bytes]]:
    return [payloads(batch) for batch in JournalReader(path)]


class TestJournal:
    @once
    @given(data=st.data())
    def test_torn_anywhere_it_gives_its_whole_batches(self, journal, tmp_path, data):
        path = tmp_path / "journal-000001.arrows"
        path.write_bytes(journal)
        whole = read(path)
        path.write_bytes(journal[: data.draw(st.integers(0, len(journal)))])
        try:
            reader = JournalReader(path)
        except (OSError, ValueError):
            return
        found = [payloads(batch) for batch in reader]
        assert found == whole[: len(found)]

    @once
    @given(data=st.data())
    def test_any_byte_changed_gives_batches_that_can_be_read(self, journal, tmp_path, data):
        path = tmp_path / "journal-000001.arrows"
        content = bytearray(journal)
        for _ in range(data.draw(st.integers(1, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        path.write_bytes(content)
        with contextlib.suppress(OSError, ValueError):
            assert len(read(path)) <= 4

    @once
    @given(data=st.data())
    def test_recovery_of_it_makes_files_or_says_why_not_and_keeps_it(self, journal, tmp_path, data):
        shutil.rmtree(tmp_path, ignore_errors=True)
        folder = tmp_path / ".wsrec" / "s"
        folder.mkdir(parents=True)
        content = bytearray(journal)
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
        journal_path(folder, 1).write_bytes(content)
        errors: list[str] = []
        recover(tmp_path, errors.append)
        assert journal_path(folder, 1).exists() == bool(errors)

    def test_zeros_at_the_end_as_a_power_cut_leaves_them(self, journal, tmp_path):
        path = tmp_path / "journal-000001.arrows"
        path.write_bytes(journal)
        whole = read(path)
        path.write_bytes(journal[:-9] + bytes(4096))
        found = read(path)
        assert found == whole[: len(found)]
        assert len(found) >= len(whole) - 1


class TestManifest:
    @once
    @given(data=st.data())
    def test_any_byte_changed_gives_lines_or_an_error_that_names_it(self, tmp_path, data):
        (tmp_path / ".wsrec").mkdir(exist_ok=True)
        path = layout.manifest_path(tmp_path)
        content = bytearray(b"".join(msgspec.json.encode(LINE) + b"\n" for _ in range(3)))
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
        # a byte of the version's own key or digits makes it another version's
        with contextlib.suppress(msgspec.ValidationError, OtherVersionError):
            assert len(manifest.read(tmp_path)) <= 3
