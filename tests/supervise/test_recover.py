"""wsrec recover: what a killed recorder left comes home, whenever recovery itself is killed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

from tests.conftest import Wsrec, events_of, messages_of, received
from tests.exchange import Exchange
from tests.rings import payloads
from tests.supervise.conftest import Recording, Stream, free
from wsrec.format import layout, manifest
from wsrec.format.lock import OutputLock
from wsrec.format.reading import open_capture
from wsrec.verify.model import Kind, VerifyStatus
from wsrec.verify.verify import verify
from wsrec.writer.journal_reader import JournalReader


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    """The output folder of a recording whose three processes were killed at once, its last journal torn."""
    out = tmp_path_factory.mktemp("killed") / "out"
    stream = Stream()
    server = Exchange(stream)
    server.start()
    command = Wsrec().command("record", server.url, "--out", out, "--rotate", "6kB", "--quiet")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        work = Recording(process, out, stream)
        work.until(lambda: next((out / "messages").rglob("*.parquet"), None) and in_last_journal(out) > 50)
        os.kill(process.pid, signal.SIGSTOP)
        for pid in [*work.children(), process.pid]:
            os.kill(pid, signal.SIGKILL)
        (out / "killed").touch()
        process.wait()
        work.until(lambda: free(out))
    finally:
        process.kill()
        process.communicate()
        server.stop()
    with OutputLock(out):
        pass
    last = sorted((out / ".wsrec").glob("*/journal-*.arrows"))[-1]
    last.write_bytes(last.read_bytes()[:-7])
    return out


def in_last_journal(out: Path) -> int:
    try:
        *_, last = sorted(out.glob(".wsrec/*/journal-*.arrows"))
        batches = [payloads(batch) for batch in JournalReader(last)]
    except (ValueError, OSError):
        return 0
    return sum(payload.startswith(b"message") for batch in batches[:-1] for payload in batch)


@pytest.fixture
def interrupted(killed, tmp_path) -> Path:
    return Path(shutil.copytree(killed, tmp_path / "out"))


def numbered(out: Path) -> list[bytes]:
    found = received(messages_of(out))
    assert found == [b"message %d" % index for index in range(len(found))]
    assert messages_of(out)["seq"].to_pylist() == list(range(len(messages_of(out))))
    return found


@pytest.fixture(scope="module")
def reference(killed, tmp_path_factory) -> list[bytes]:
    """The messages of an undisturbed recovery."""
    out = Path(shutil.copytree(killed, tmp_path_factory.mktemp("reference") / "out"))
    assert Wsrec().run("recover", out).returncode == 0
    assert len(numbered(out)) > 200
    return numbered(out)


class TestRecover:
    def test_what_was_journalled_comes_home(self, wsrec, interrupted, reference):
        before = len(manifest.read(interrupted))
        result = wsrec.run("recover", interrupted)
        assert (result.returncode, result.stderr) == (0, "")
        (session,) = {line.session for line in manifest.read(interrupted)}
        assert f"recovered {session}: " in result.stdout
        assert "ended in the middle of a batch" in result.stdout
        assert "not recorded: " in result.stdout
        assert len(manifest.read(interrupted)) > before
        assert numbered(interrupted) == reference

    def test_its_times_go_on_where_those_of_the_files_before_end(self, wsrec, interrupted):
        wsrec.run("recover", interrupted)
        times = messages_of(interrupted)["handoff_time"].cast("int64").to_numpy()
        assert times[-1] - times[0] < 60e9
        assert (times[1:] - times[:-1] > -1e6).all()

    def test_json(self, wsrec, interrupted, reference):
        result = wsrec.run("recover", interrupted, "--json")
        stated = json.loads(result.stdout)
        assert (stated["status"], stated["failures"]) == (0, [])
        (session,) = stated["sessions"]
        assert session["rows"] == sum(line["rows"] for line in session["files"]) > 0
        assert len(session["torn"]) == 1
        assert session["lost"]["start"] < session["lost"]["end"]

    def test_the_lost_interval_ends_with_the_recorder_and_not_with_the_recovery(self, wsrec, killed, interrupted):
        killed_at = (killed / "killed").stat().st_mtime_ns
        time.sleep(max(killed_at / 1e9 + 5 - time.time(), 0))
        stated = json.loads(wsrec.run("recover", interrupted, "--json").stdout)
        (lost,) = events_of(interrupted, "lost_interval")
        detail = lost["detail"]
        assert killed_at - 1e9 < detail["to"] < killed_at + 2.5e9
        known = {"from_evidence": "last journalled row", "to_evidence": "heartbeat of the recorder", "bound": "upper"}
        assert {key: detail[key] for key in known} == known
        (session,) = stated["sessions"]
        stated = {"start_evidence": known["from_evidence"], "end_evidence": known["to_evidence"], "bound": "upper"}
        assert session["lost"] == {"start": detail["from"], "end": detail["to"], **stated}

    def test_again_there_is_nothing_to_do(self, wsrec, interrupted, reference):
        wsrec.run("recover", interrupted)
        result = wsrec.run("recover", interrupted)
        assert (result.returncode, result.stdout) == (0, "nothing to recover\n")
        assert numbered(interrupted) == reference

    def test_a_recorder_at_work_is_left_alone(self, wsrec, interrupted):
        with OutputLock(interrupted):
            result = wsrec.run("recover", interrupted, "--json")
        assert result.returncode == 75
        assert "held by another recorder" in json.loads(result.stdout)["error"]
        assert list(interrupted.glob(".wsrec/*/journal-*"))

    def test_a_folder_that_nothing_was_recorded_into(self, wsrec, tmp_path):
        result = wsrec.run("recover", tmp_path)
        assert result.returncode == 3
        assert "holds no capture" in result.stderr
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_a_folder_that_cannot_be_written(self, wsrec, interrupted):
        (interrupted / ".wsrec").chmod(0o500)
        assert wsrec.run("recover", interrupted).returncode == 1

    def test_one_that_was_killed_before_its_first_line_in_the_manifest_is_no_contradiction(self, interrupted):
        first, *others = sorted((interrupted / "messages").rglob("*.parquet"))
        assert first.stem.endswith("-000001")
        for path in [*others, *(interrupted / "events").rglob("*-00000[2-9].parquet")]:
            path.unlink(missing_ok=True)
        layout.manifest_path(interrupted).unlink(missing_ok=True)
        (capture,) = verify([interrupted]).captures
        assert capture.status is VerifyStatus.INCOMPLETE
        assert any("has no line in the manifest yet" in finding.what for finding in capture.findings)

    def test_verify_says_so_before_and_after(self, interrupted):
        (before,) = verify([interrupted]).captures
        assert before.status is VerifyStatus.INCOMPLETE
        assert any("wsrec recover" in finding.what for finding in before.findings)
        Wsrec().run("recover", interrupted)
        (after,) = verify([interrupted]).captures
        assert after.status is VerifyStatus.INCOMPLETE
        (session,) = after.sessions
        assert (session.state, session.missing, session.duplicates) == ("interrupted", 0, 0)
        (loss,) = session.losses
        assert loss.reason == "the recorder was interrupted"
        assert any("its journals were recovered" in f.what for f in after.findings if f.kind is Kind.INCOMPLETE)


@pytest.mark.long
class TestKilledRecovery:
    def test_before_every_single_operation_on_the_disk(self, killed, reference, tmp_path):
        command = [sys.executable, "-m", "tests.supervise.killed_recovery", str(killed), str(tmp_path)]
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=150)
        assert result.returncode == 0, result.stderr
        assert int(result.stdout) > 10
        for out in sorted(tmp_path.iterdir()):
            assert numbered(out) == reference
            assert not [path for path in out.glob(".wsrec/*/journal-*") if path.parent.name != "aside"]
            assert verify([out]).status == VerifyStatus.INCOMPLETE
            assert len(events_of(out, "lost_interval")) == 1

    def test_at_random_moments(self, killed, reference, tmp_path):
        random.seed(time.time_ns())
        out = Path(shutil.copytree(killed, tmp_path / "out"))
        began = time.monotonic()
        Wsrec().run("recover", Path(shutil.copytree(killed, tmp_path / "timed")))
        takes = time.monotonic() - began
        for _ in range(6):
            process = Wsrec().start("recover", out)
            time.sleep(random.uniform(0.4, 1.1) * takes)
            process.kill()
            process.communicate()
        assert Wsrec().run("recover", out).returncode == 0
        assert numbered(out) == reference
        assert verify([out]).status == VerifyStatus.INCOMPLETE


class TestBeforeIt:
    def test_readers_have_the_rows_that_it_will_finish(self, interrupted, wsrec):
        def rows() -> pa.Table:
            return open_capture(interrupted).messages().read_all().sort_by("seq")

        before = {path: path.stat() for path in interrupted.rglob("*")}
        capture = open_capture(interrupted)
        assert [each.recording for each in capture.unfinished] == [False]
        found = rows()
        assert {path: path.stat() for path in interrupted.rglob("*")}.keys() == before.keys()
        wsrec.run("recover", interrupted)
        assert open_capture(interrupted).unfinished == []
        assert rows().equals(found)
