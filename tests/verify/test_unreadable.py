"""What cannot be read is neither damaged nor lost, and what was not read is not praised."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import Wsrec
from tests.effort import thinned
from tests.verify.conftest import message_paths
from wsrec.verify.model import Kind, VerifyStatus
from wsrec.verify.verify import verify

UNREADABLE = 66
# The command without the power of root to read what it has no permission for (CAP_DAC_OVERRIDE,
# CAP_DAC_READ_SEARCH): a process that gave it up and imported everything once, and a child of it for each command.
POWERLESS = """
import ctypes, json, os, sys
prctl = ctypes.CDLL(None).prctl
prctl(24, 1, 0, 0, 0)
prctl(24, 2, 0, 0, 0)
if len(sys.argv) == 1:
    os.execv(sys.executable, [sys.executable, "-P", "-c", sys.orig_argv[-1], "again"])
from wsrec.cli import recover, replay, report, verify
from wsrec.cli.main import main
for line in sys.stdin:
    arguments, output, errors = json.loads(line)
    child = os.fork()
    if child == 0:
        for number, path in ((1, output), (2, errors)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        main.main(arguments, prog_name="wsrec")
    _, status = os.waitpid(child, 0)
    os.write(1, b"%d\\n" % os.waitstatus_to_exitcode(status))
"""
Powerless = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def powerless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Powerless]:
    """Runs a command."""
    folder = tmp_path_factory.mktemp("report")
    output, errors = folder / "stdout", folder / "stderr"
    server = subprocess.Popen(
        [sys.executable, "-P", "-c", POWERLESS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "400"},
    )

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [*map(str, arguments)]
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps([command, str(output), str(errors)]) + "\n")
        server.stdin.flush()
        status = int(server.stdout.readline())
        return subprocess.CompletedProcess(command, status, output.read_text(), errors.read_text())

    yield run
    server.communicate()


@pytest.fixture
def locked(out):
    """Takes the permission to read away, and gives it back in the end."""
    taken = []

    def lock(path: Path) -> Path:
        taken.append((path, path.stat().st_mode))
        path.chmod(0)
        return path

    yield lock
    for path, mode in taken:
        path.chmod(mode)


def places(out: Path) -> dict[str, Path]:
    return {
        "message file": message_paths(out)[1],
        "events file": sorted((out / "events").rglob("*.parquet"))[0],
        "folder": out / "messages",
        "hour": message_paths(out)[0].parent,
        "manifest": out / ".wsrec" / "manifest.jsonl",
        "own folder": out / ".wsrec",
        "capture": out,
    }


@pytest.mark.parametrize(
    "what", thinned(["message file", "manifest", "events file", "folder", "own folder", "capture"], keep=2)
)
def test_no_permission_is_a_status_of_its_own(out, locked, powerless, what):
    path = locked(places(out)[what])
    result = powerless("verify", out)
    stated = " ".join((result.stdout + result.stderr).split())
    assert (result.returncode, "annot be read: Permission denied" in stated) == (UNREADABLE, True), stated
    assert path.name in stated
    # the statement that a stall lost nothing only concerns the events that were read
    stated = stated.replace("TCP pushed back, nothing lost", "")
    praise_and_blame = r"(?i:damaged)|is gone|\blost\b(?! intervals)|balanced|none missing|contradiction"
    assert re.search(praise_and_blame, stated) is None, stated


@pytest.mark.parametrize("what", thinned(["message file", "hour", "capture"]))
@pytest.mark.parametrize("command", ["report", "replay"])
def test_the_same_in_every_command_that_reads(out, locked, powerless, command, what):
    locked(places(out)[what])
    result = powerless(command, out, *(() if command == "report" else ("--port", "0")))
    assert result.returncode == UNREADABLE, result.stderr
    assert "cannot be read: Permission denied" in result.stderr
    assert "damaged" not in result.stderr
    assert "set the file aside" not in result.stderr


def test_recovery_that_cannot_read_says_so(out, locked, powerless):
    locked(out / ".wsrec")
    result = powerless("recover", out)
    assert (result.returncode, "cannot be read: Permission denied" in result.stderr) == (UNREADABLE, True), (
        result.stderr
    )


class TestJournals:
    """What a recorder left is not nothing because it cannot be read."""

    @pytest.fixture
    def left(self, out):
        folder = out / ".wsrec" / "20261127T000000Z-1e57ed"
        folder.mkdir()
        journal = folder / "journal-000001.arrows"
        journal.write_bytes(b"whatever it may hold")
        return {"session": folder, "journal": journal}

    @pytest.mark.parametrize(
        ("command", "what"), thinned([("recover", "journal"), ("verify", "session"), ("recover", "session")])
    )
    def test_no_permission_is_a_status_of_its_own(self, out, left, locked, powerless, command, what):
        path = locked(left[what])
        result = powerless(command, out)
        stated = result.stdout + result.stderr
        assert (result.returncode, f"{path.name}: cannot be read: Permission denied" in stated) == (UNREADABLE, True), (
            stated
        )
        assert re.search("nothing to recover|0 journals|recovered", stated) is None, stated
        path.chmod(0o700)
        assert left["journal"].read_bytes() == b"whatever it may hold"

    @pytest.mark.long
    @pytest.mark.parametrize(("what", "mode"), [("session", 0), ("own folder", 0o300)])
    def test_a_recorder_that_starts_says_so(self, out, left, powerless, what, mode):
        path = {**left, "own folder": out / ".wsrec"}[what]
        path.chmod(mode)
        try:
            result = powerless("record", "ws://127.0.0.1:1/", "--duration", "1s", "--quiet", "--out", out)
        finally:
            path.chmod(0o700)
        assert result.returncode != 0
        assert f"{path}: cannot be read: Permission denied" in result.stderr, result.stderr


class TestDamaged:
    @pytest.mark.parametrize(
        ("content", "cause"),
        [
            (lambda data: b"", "is empty"),
            (lambda data: data[: len(data) // 2], "is truncated at byte {half:,} of {size:,}"),
            (lambda data: b"a letter to my aunt" * 50, "is not a Parquet file: another program wrote"),
            (lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:], "its SHA-256 is not the manifest's"),
        ],
        ids=["empty", "cut", "foreign", "flipped"],
    )
    @pytest.mark.parametrize("kind", ["messages", "events"])
    def test_the_cause_is_named_and_nothing_is_praised(self, out, powerless, kind, content, cause):
        path = sorted((out / kind).rglob("*.parquet"))[0]
        data = path.read_bytes()
        path.write_bytes(content(data))
        (capture,) = verify([out]).captures
        assert capture.status is VerifyStatus.DAMAGED
        (finding,) = [each for each in capture.findings if each.kind is Kind.DAMAGED]
        expected = cause.format(half=len(data) // 2, size=len(data))
        if kind == "events":
            expected = expected.partition(" of ")[0]
        assert expected in finding.what
        (session,) = capture.sessions
        assert (session.unread, session.balance) == (1, None)
        stated = " ".join(powerless("verify", out).stdout.split())
        assert "1 not read" in stated
        for word in ("none missing", "balanced", " = "):
            assert word not in stated, stated

    def test_a_file_that_is_gone(self, out, powerless):
        message_paths(out)[0].unlink()
        stated = " ".join(powerless("verify", out).stdout.split())
        assert "the file is gone" in stated
        assert "balanced" not in stated


def test_a_report_of_a_feed_that_brought_nothing(untouched, tmp_path, powerless):
    out = Path(shutil.copytree(untouched, tmp_path / "out"))
    shutil.rmtree(out / "messages")
    result = powerless("report", out, "--details")
    assert (result.returncode, result.stderr) == (0, "")
    assert "0 received" in result.stdout
    assert "mine on" in result.stdout
    beside = len(list((out / "events").rglob("*.parquet")))
    assert f"no message file, {beside} event file{'s' if beside > 1 else ''}" in result.stdout
    assert "unknown: no message file was read" in result.stdout
    assert "declares no sequence rule" not in result.stdout


def test_a_report_praises_no_events_that_it_could_not_read(out, locked, powerless):
    locked(sorted((out / "events").rglob("*.parquet"))[0])
    result = powerless("report", out)
    assert result.returncode == UNREADABLE, result.stderr
    assert "not all events could be read" in result.stdout
    assert "quiet" not in result.stdout
    assert "no step seen" not in result.stdout


class TestNoRegularFile:
    """A pipe, a device or a folder in place of a file is none of wsrec's: opening it may wait for ever."""

    @pytest.mark.parametrize(
        ("command", "what", "status"),
        thinned(
            [
                ("report", "messages", 1),
                ("report", "events", 1),
                ("verify", "messages", 1),
                ("verify", "events", 1),
                ("verify", "manifest", UNREADABLE),
                ("verify", "lock", 4),
                ("replay", "messages", 1),
            ],
            keep=3,
        ),
    )
    def test_a_pipe_is_reported_at_once(self, out, command, what, status):
        if what == "lock":
            # looked at only where a session seems to be recorded
            (out / ".wsrec" / "20261127T000000Z-1e57ed").mkdir()
        where = {"manifest": out / ".wsrec" / "manifest.jsonl", "lock": out / ".wsrec" / "lock"}
        path = where.get(what) or sorted((out / what).rglob("*.parquet"))[0]
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        result = Wsrec().run(command, out, timeout=120, env={**os.environ, "COLUMNS": "400"})
        stated = result.stdout + result.stderr
        assert result.returncode == status, stated
        assert "Traceback" not in stated
        assert what == "lock" or "not a regular file" in stated, stated

    @pytest.mark.long
    def test_recovery_neither(self, out):
        path = out / ".wsrec" / "manifest.jsonl"
        path.unlink()
        os.mkfifo(path)
        (out / ".wsrec" / "20261127T000000Z-1e57ed").mkdir()
        result = Wsrec().run("recover", out, timeout=120)
        assert (result.returncode, "not a regular file" in result.stderr) == (UNREADABLE, True), result.stderr
