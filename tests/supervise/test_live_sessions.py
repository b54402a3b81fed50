"""A session in progress is left alone, whatever became of the lock; and symbolic links are not followed."""

from __future__ import annotations

import json
import os
import signal

import msgspec
import pytest

from tests.rings import plan, writer_job
from tests.supervise.conftest import numbered
from tests.supervise.test_known_failures import messages
from wsrec.format import layout, manifest
from wsrec.format.ledger import Ledger
from wsrec.format.lock import OutputLock, is_held
from wsrec.format.version import FORMAT_VERSION
from wsrec.supervise.record import check_writable
from wsrec.verify.verify import verify
from wsrec.writer.journal import Journal
from wsrec.writer.journal_format import journal_path
from wsrec.writer.recovery import recover


@pytest.mark.long
def test_a_recorder_whose_lock_was_deleted_loses_nothing_to_another(recording, wsrec, exchange):
    work = recording("--rotate", "1s", "--json")
    (work.out / ".wsrec" / "lock").unlink()
    (work.out / ".wsrec" / "next").unlink()
    (session,) = [path.name for path in (work.out / ".wsrec").iterdir() if path.is_dir()]
    result = wsrec.run("recover", work.out)
    assert result.returncode == 1
    assert f"session {session} is being recorded" in result.stderr
    (capture,) = verify([work.out]).captures
    assert any("still being recorded" in finding.what for finding in capture.findings)

    async def other(connection):
        await connection.send(b"other")
        await connection.wait_closed()

    result = wsrec.run("record", exchange(other).url, "--out", work.out, "--duration", "1s")
    assert f"session {session} is being recorded" in result.stderr
    before = len(work.stream.times)
    work.until(lambda: len(work.stream.times) > before + 50)
    work.process.send_signal(signal.SIGINT)
    output, _ = work.end(0)
    assert json.loads(output)["finished"]
    found = messages(work.out, session)
    assert found == [b"message %d" % index for index in range(len(found))]
    assert len(found) >= before


@pytest.mark.long
def test_also_while_its_writer_is_started_again(recording, wsrec):
    work = recording()
    (work.out / ".wsrec" / "lock").unlink()
    os.kill(work.process.pid, signal.SIGSTOP)
    for pid in work.children():
        os.kill(pid, signal.SIGKILL)
    result = wsrec.run("recover", work.out)
    os.kill(work.process.pid, signal.SIGCONT)
    assert result.returncode == 1
    assert "is being recorded" in result.stderr
    work.process.send_signal(signal.SIGINT)
    work.process.communicate(timeout=120)
    assert numbered(work.out)


class TestLinks:
    """A folder that others may write to: a name that wsrec writes to may be a link to what is precious."""

    @pytest.fixture
    def victim(self, tmp_path):
        path = tmp_path / "victim"
        path.write_text("precious")
        yield path
        assert path.read_text() == "precious"

    @pytest.mark.parametrize("name", ["lock", "next"])
    def test_lock(self, tmp_path, victim, name):
        out = tmp_path / "out"
        (out / ".wsrec").mkdir(parents=True)
        (out / ".wsrec" / name).symlink_to(victim)
        with pytest.raises(OSError, match="symbolic link"), OutputLock(out):
            pass
        assert is_held(out) is None

    def test_manifest(self, tmp_path, victim):
        (tmp_path / ".wsrec").mkdir()
        layout.manifest_path(tmp_path).symlink_to(victim)
        with pytest.raises(OSError, match="symbolic links"):
            manifest.append(tmp_path, LINE)

    def test_the_folder_itself(self, tmp_path):
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / ".wsrec").symlink_to(elsewhere)
        with pytest.raises(OSError, match="symbolic link"), OutputLock(tmp_path / "out"):
            pass
        assert list(elsewhere.iterdir()) == []

    def test_a_session_elsewhere_is_not_recovered(self, tmp_path):
        elsewhere, out = tmp_path / "elsewhere", tmp_path / "out"
        (out / ".wsrec").mkdir(parents=True)
        elsewhere.mkdir()
        job = writer_job(out, (plan(),), {})
        Journal(journal_path(elsewhere, 1), 1, msgspec.json.encode(job)).close()
        (out / ".wsrec" / "s").symlink_to(elsewhere)
        errors: list[str] = []
        assert recover(out, errors.append) == []
        assert "symbolic link" in errors[0]
        assert journal_path(elsewhere, 1).exists()

    def test_the_probe(self, tmp_path, victim):
        (tmp_path / ".wsrec").mkdir()
        for pid in (os.getpid(), os.getppid()):
            (tmp_path / ".wsrec" / f"probe-{pid}").symlink_to(victim)
        check_writable(tmp_path)


LINE = manifest.ManifestLine(
    path=None,
    events_path=None,
    session="s",
    feed="f",
    number=1,
    rows=0,
    events=0,
    bytes=0,
    sha256=None,
    events_sha256=None,
    first_seq=None,
    last_seq=None,
    first_time=None,
    last_time=None,
    gaps_checked=False,
    format_version=FORMAT_VERSION,
    ledger=Ledger(),
)
