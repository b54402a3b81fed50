"""`wsrec status` against real recorders: healthy, degraded, stopped, dead, in a takeover, and none."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from tests.supervise.conftest import gone
from tests.supervise.test_state_sampler import PLANS, Recorder
from wsrec.format.errors import NoCaptureError
from wsrec.format.lock import OutputLock
from wsrec.ipc import LogLine
from wsrec.supervise import status_query, status_server
from wsrec.supervise.status_query import RecorderReport, StatusExit, StatusReport, ask
from wsrec.supervise.status_socket import FORM, Header, address
from wsrec.supervise.status_view import line_of, print_report


class TestRunning:
    def test_healthy(self, recording, wsrec):
        work = recording()
        shown = wsrec.run("status", work.out, "--json")
        assert (shown.returncode, shown.stderr) == (0, "")
        report = msgspec.json.decode(shown.stdout, type=StatusReport)
        (recorder,) = report.recorders
        state = recorder.state
        assert recorder.problems == ()
        assert (state.pid, state.phase, state.holds_folder) == (work.process.pid, "recording", True)
        assert state.counts.messages > 100
        assert state.rate > 0
        (connection,) = state.connections
        assert connection.state == "open"
        # counted a moment apart
        assert connection.messages > 100
        assert connection.age_ns is not None
        assert connection.latency.p50 is not None
        assert {each.name: each.pid for each in state.processes} == {
            "receiver": work.child("wsrec.receive"),
            "writer": work.child("wsrec.writer"),
        }
        assert state.disk is not None
        head, row = wsrec.run("status", work.out, "--format", "csv").stdout.splitlines()
        assert head.startswith("feed,conn,state,age_ns,")
        assert row.startswith(f"{connection.feed},0,open,")
        shown = wsrec.run("status", work.out)
        assert (shown.returncode, shown.stderr) == (0, "")
        assert re.match(r"healthy: recording: .* 1/1 connected, ", shown.stdout)
        lines = shown.stdout.splitlines()
        assert any("open" in line and "localhost" in line for line in lines)

    def test_degraded(self, recording, wsrec):
        work = recording()
        receiver = work.child("wsrec.receive")
        os.kill(receiver, signal.SIGSTOP)
        try:
            work.until(lambda: ask(work.out).status == StatusExit.DEGRADED)
            shown = wsrec.run("status", work.out)
        finally:
            os.kill(receiver, signal.SIGCONT)
        assert shown.returncode == 4
        assert "connection 0 (localhost, last message " in shown.stderr
        assert "is down" in shown.stderr
        assert re.match(r"DEGRADED: recording: .* 0/1 connected, ", shown.stdout)

    def test_a_stopped_recorder_does_not_answer(self, recording, wsrec):
        work = recording()
        os.kill(work.process.pid, signal.SIGSTOP)
        report = ask(work.out, timeout=0.2)
        assert report.status == StatusExit.UNREACHABLE
        assert report.summary == (
            f"process {work.process.pid} holds the folder, but does not answer: it is stopped (Ctrl-Z, SIGSTOP, "
            f"a debugger); `kill -CONT {work.process.pid}` lets it go on"
        )
        shown = wsrec.run("status", work.out)
        assert shown.returncode == 69
        assert shown.stderr.startswith(f"wsrec status: NO ANSWER: process {work.process.pid} holds the folder")
        os.kill(work.process.pid, signal.SIGCONT)
        work.until(lambda: ask(work.out).status == StatusExit.HEALTHY)

    def test_in_a_takeover_there_are_two(self, recording, wsrec):
        work = recording()
        new = wsrec.start("record", work.stream.server.url, "--out", work.out, "--takeover")
        try:
            report = work.until(lambda: found if len((found := ask(work.out)).recorders) == 2 else None)
            assert [each.state.pid for each in report.recorders] == [work.process.pid, new.pid]
            assert [each.state.holds_folder for each in report.recorders] == [True, False]
            assert report.status == StatusExit.HEALTHY
            report = work.until(lambda: found if (found := ask(work.out)).recorders[0].state.pid == new.pid else None)
            work.end(0)
            report = work.until(lambda: found if len((found := ask(work.out)).recorders) == 1 else None)
            assert report.recorders[0].state.holds_folder
        finally:
            new.send_signal(signal.SIGTERM)
            assert new.wait(60) == 0
            new.communicate()


class TestNotRunning:
    def test_killed(self, recording, wsrec):
        work = recording()
        children = work.children()
        for pid in (work.process.pid, *children):
            os.kill(pid, signal.SIGKILL)
        work.until(lambda: work.process.poll() is not None and all(map(gone, children)))
        shown = wsrec.run("status", work.out, "--json")
        report = msgspec.json.decode(shown.stdout, type=StatusReport)
        assert (shown.returncode, report.status) == (1, 1)
        assert report.summary.startswith("not running: a recorder was killed and left 1 session; `wsrec recover ")
        assert wsrec.run("recover", work.out).returncode == 0
        shown = wsrec.run("status", work.out)
        line = "not recording: no recorder is at work here, and none left anything to recover\n"
        assert (shown.returncode, shown.stdout, shown.stderr) == (3, line, f"wsrec status: {line}")
        # where both are one file, it is said once
        both = subprocess.run(
            wsrec.command("status", work.out), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        assert both.stdout == line

    def test_a_writer_that_outlives_its_recorder(self, recording):
        work = recording()
        writer = work.child("wsrec.writer")
        os.kill(writer, signal.SIGSTOP)
        work.process.kill()
        work.until(lambda: work.process.poll() is not None)
        report = ask(work.out)
        assert report.status == StatusExit.DIED
        assert "a writer still holds the folder" in report.summary
        os.kill(writer, signal.SIGKILL)

    def test_one_that_has_only_begun(self, tmp_path):
        with OutputLock(tmp_path):
            report = ask(tmp_path)
        assert report.status == StatusExit.DEGRADED
        assert report.summary.startswith(f"process {os.getpid()} holds the folder, but is not recording yet")

    def test_no_capture(self, tmp_path, wsrec):
        with pytest.raises(NoCaptureError):
            ask(tmp_path)
        shown = wsrec.run("status", tmp_path, "--json")
        assert (shown.returncode, json.loads(shown.stdout)["status"]) == (3, 3)
        (tmp_path / "messages").mkdir()
        assert wsrec.run("status", tmp_path).returncode == 2
        assert wsrec.run("status", tmp_path / "none").returncode == 2


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Callable[[bytes], None]]:
    """Something that answers for the recorder that holds the folder."""
    with OutputLock(tmp_path), socket.socket(socket.AF_UNIX) as listening:
        listening.bind(address(tmp_path, os.getpid()))
        listening.listen()

        def start(answer: bytes) -> None:
            def serve() -> None:
                # a reader that does not believe it may be gone, and so may the listening socket
                with contextlib.suppress(OSError), listening.accept()[0] as connection:
                    connection.sendall(answer)

            threading.Thread(target=serve, daemon=True).start()

        yield start


class TestAnswers:
    def test_of_another_version(self, tmp_path, answering):
        answering(msgspec.json.encode({"form": FORM + 1, "version": "9.9\x1b[2J", "state": "of another form"}))
        report = ask(tmp_path)
        assert report.status == StatusExit.UNREADABLE
        assert report.summary == f"process {os.getpid()} is wsrec 9.9\\x1b[2J: ask it with that version"

    @pytest.mark.parametrize("answer", [b"", b"{", b"[]", msgspec.json.encode({"form": FORM, "version": "1"})])
    def test_that_are_none(self, tmp_path, answering, answer):
        answering(answer)
        report = ask(tmp_path)
        assert report.status == StatusExit.UNREACHABLE
        assert "gave an answer that cannot be read" in report.summary

    def test_of_another_user(self, tmp_path, answering, monkeypatch):
        answering(b"{}")
        monkeypatch.setattr(status_query.os, "getuid", lambda: 1000)
        monkeypatch.setattr(status_query, "peer", lambda _: (7, 4711))
        report = ask(tmp_path)
        assert report.status == StatusExit.UNREACHABLE
        assert report.summary == "process 7 answers for the recorder, but belongs to user 4711"

    def test_to_another_user(self, tmp_path, monkeypatch):
        monkeypatch.setattr(status_server, "peer", lambda _: (7, 4711))

        def no_state() -> None:
            raise AssertionError

        async def run() -> StatusReport:
            async with status_server.serving(tmp_path, no_state):
                return await asyncio.to_thread(ask, tmp_path)

        with OutputLock(tmp_path):
            report = asyncio.run(run())
        assert report.status == StatusExit.UNREACHABLE
        assert f"belongs to user {os.getuid()}, not to user 4711" in report.summary

    def test_the_header_is_part_of_every_answer(self):
        assert set(Header.__struct_fields__) <= {*status_server.Answer.__struct_fields__}


class TestWatch:
    def test_in_a_pipe(self, recording, wsrec):
        work = recording()
        watching = wsrec.start("status", work.out, "--watch")
        lines = [watching.stdout.readline() for _ in range(2)]
        assert all(re.match(r"healthy: recording: .* 1/1 connected, ", line) for line in lines)
        watching.send_signal(signal.SIGINT)
        assert watching.wait(60) == 0
        assert watching.stderr.read() == ""
        watching.communicate()

    def test_on_a_terminal(self, recording, wsrec):
        work = recording()
        ours, theirs = pty.openpty()
        try:
            environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
            watching = subprocess.Popen(
                wsrec.command("status", work.out, "--watch"), stdout=theirs, stderr=theirs, env=environment
            )
            os.close(theirs)
            output = _read_until(ours, lambda text: text.count("connected, ") >= 2)
            watching.send_signal(signal.SIGINT)
            output += _read_until(ours, lambda text: "\x1b[?1049l" in text)
            assert watching.wait(60) == 0
        finally:
            os.close(ours)
        assert output.startswith("\x1b[?1049h")


def _read_until(fd: int, found: Callable[[str], bool]) -> str:
    text, deadline = "", time.monotonic() + 60
    while not found(text):
        assert time.monotonic() < deadline, text
        if select.select([fd], [], [], 1)[0]:
            text += os.read(fd, 1 << 16).decode(errors="replace")
    return text


def _report(recorder: Recorder, status: int = 0) -> StatusReport:
    state = recorder.state()
    recorders = (RecorderReport(state=state, problems=status_query.problems(state)),)
    return StatusReport(status=status, out="/x", summary="s", recorders=recorders)


class TestView:
    def test_texts_from_exchanges_are_cleaned(self, tmp_path):
        recorder = Recorder(tmp_path, PLANS)
        recorder.log.note(LogLine(level="warning", message="evil \x1b[2J\u202e [red]text", hint="\x07", conn=1))
        output = io.StringIO()
        print_report(_report(recorder), Console(file=output, width=100))
        assert "evil \\x1b[2J\\u202e [red]text" in output.getvalue()
        assert not {"\x1b", "\x07", "\u202e"} & set(output.getvalue())

    def test_a_row_a_line_in_a_pipe(self, tmp_path):
        recorder = Recorder(tmp_path, PLANS)
        output = io.StringIO()
        print_report(_report(recorder), Console(file=output, width=40))
        rows = [line for line in output.getvalue().splitlines() if line.startswith(("0 ", "1 ", "2 "))]
        assert [row.split()[:4] for row in rows] == [
            ["0", "one", "h", "connecting"],
            ["1", "two", "host:99", "connecting"],
            ["2", "two", "h", "waiting"],
        ]
        assert "\n" not in line_of(_report(recorder, 4))


def test_without_what_is_slow_to_import(tmp_path):
    code = "import sys, wsrec.cli.status; print(sorted({'pyarrow', 'numpy', 'pydantic', 'uvloop'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"[]\n"
