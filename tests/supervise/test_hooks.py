"""Hooks: every finished file and every event reaches a user's command, and nothing that it does harms the recording."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.supervise.conftest import Stream, gone
from tests.supervise.test_words import Log
from wsrec.format import manifest
from wsrec.ipc import LogLine
from wsrec.supervise.event_hook import EventHook
from wsrec.supervise.file_hook import FileHook
from wsrec.supervise.hook_process import Command

# copies what it is given, and appends what it was told
COPY = """
import hashlib, json, os, shutil, sys
given = json.load(sys.stdin)
copies = sys.argv[1]
for key, digest in (("path", "sha256"), ("events_path", "events_sha256")):
    if given[key]:
        shutil.copy(given[key], copies)
        copied = os.path.join(copies, os.path.basename(given[key]))
        assert hashlib.sha256(open(copied, "rb").read()).hexdigest() == given["line"][digest]
with open(os.path.join(copies, "calls"), "a") as file:
    file.write(json.dumps({**given, "environment": dict(os.environ)}) + "\\n")
"""
APPEND = "cat >> {}"


@pytest.fixture
def copies(tmp_path):
    folder = tmp_path / "copies"
    folder.mkdir()
    (tmp_path / "copy.py").write_text(COPY)
    return folder


@pytest.fixture
def start(wsrec):
    """Starts commands, which end with the test."""
    with contextlib.ExitStack() as stack:

        def begin(*words: object) -> Log:
            process = wsrec.start(*words)
            stack.callback(process.kill)
            return Log(process)

        yield begin


def copying(copies: Path) -> str:
    return shlex.join([sys.executable, "-S", str(copies.parent / "copy.py"), str(copies)])


def calls(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def named(lines) -> list[str]:
    """The files of lines of the manifest, or of calls."""
    found = [call["line"] if isinstance(call, dict) else msgspec.to_builtins(call) for call in lines]
    return [line["path"] or line["events_path"] for line in found]


def recorded(wsrec, exchange, tmp_path, *arguments, status=0, **options):
    """A recording of two seconds, in a file a second."""
    url = exchange(Stream()).url
    words = ("record", url, "--out", tmp_path / "out", "--duration", "2s", "--rotate", "1s", *arguments)
    result = wsrec.run(*words, **options)
    assert result.returncode == status, result.stderr
    return result


class TestFiles:
    def test_each_finished_file_is_handed_over_whole(self, wsrec, exchange, tmp_path, copies):
        environment = {**os.environ, "OF_A_FEED": "s3cret", "MINE": "yes", "WSREC_PASS_ENV": "MINE"}
        recorded(wsrec, exchange, tmp_path, "--on-file", copying(copies), env=environment)
        lines = manifest.read(tmp_path / "out")
        made = calls(copies / "calls")
        assert len(lines) >= 2
        assert named(made) == named(lines)
        for call in made:
            path = call["path"] or call["events_path"]
            assert path == str(tmp_path / "out" / named([call])[0])
            assert (copies / Path(path).name).exists()
            assert call["environment"]["WSREC_HOOK"] == "file"
            assert call["environment"]["WSREC_OUT"] == str(tmp_path / "out")
            assert call["environment"]["MINE"] == "yes"
            assert "OF_A_FEED" not in call["environment"]

    def test_files_of_a_killed_recorder_are_done_by_the_next(self, wsrec, exchange, tmp_path, copies):
        """Both those that were finished, and those that recovery finishes."""
        url, out = exchange(Stream()).url, tmp_path / "out"
        words = ("record", url, "--out", out, "--rotate", "1s", "--on-file")
        killed = wsrec.start(*words, "sleep 1000", start_new_session=True)
        deadline = time.monotonic() + 60
        while not (out / ".wsrec" / "manifest.jsonl").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        children = [int(pid) for pid in Path(f"/proc/{killed.pid}/task/{killed.pid}/children").read_text().split()]
        for pid in (killed.pid, *children):
            os.kill(pid, signal.SIGKILL)
        killed.communicate()
        result = wsrec.run(*words, copying(copies), "--duration", "1s")
        assert "an interrupted session was recovered" in result.stderr
        lines = manifest.read(out)
        assert named(calls(copies / "calls")) == named(lines)
        assert len({line.session for line in lines}) == 2

    def test_a_takeover_hands_on_what_is_left(self, start, exchange, tmp_path, copies):
        url, out = exchange(Stream()).url, tmp_path / "out"
        words = ("record", url, "--out", out, "--rotate", "1s", "--on-file", copying(copies))
        old = start(*words)
        deadline = time.monotonic() + 60
        while not calls(copies / "calls"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        new = start(*words, "--takeover")
        new.wait_for("this recorder holds")
        assert old.process.wait(60) == 0, old.lines
        old.end(0)
        new.end(0)
        assert sorted(named(calls(copies / "calls"))) == sorted(named(manifest.read(out)))


class Followed:
    """A file hook that follows a manifest which the test writes."""

    def __init__(self, out: Path, command: str, timeout: float = 30.0) -> None:
        self.lines: list[LogLine] = []
        (out / ".wsrec").mkdir(parents=True, exist_ok=True)
        self.path = out / ".wsrec" / "manifest.jsonl"
        self.hook = FileHook(Command("file", command, out, timeout, print), self.warn, lambda: True)
        self.hook.start()

    def warn(self, message, hint=None, **about):
        self.lines.append(LogLine(level="warning", message=message, hint=hint, **about))

    def add(self, number: int, **changed: Any) -> str:
        name = f"messages/feed=f/date=2026-11-22/hour=13/s-{number:06}.parquet"
        line = {"path": name, "events_path": None, "feed": "f", "session": "s", **changed}
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        return name

    def end(self) -> None:
        self.hook.end()
        self.hook.join(60)
        assert not self.hook.is_alive()


class TestFollowing:
    def test_without_a_state_only_what_is_new(self, tmp_path):
        Followed(tmp_path, "false").end()
        (tmp_path / ".wsrec" / "on-file.json").unlink()
        (tmp_path / ".wsrec" / "manifest.jsonl").write_text('{"path": "old"}\n')
        followed = Followed(tmp_path, APPEND.format(tmp_path / "calls"))
        new = followed.add(1)
        followed.end()
        assert named(calls(tmp_path / "calls")) == [new]

    def test_only_recorded_lines_that_lie_in_the_folder(self, tmp_path):
        followed = Followed(tmp_path, APPEND.format(tmp_path / "calls"))
        followed.add(1, replaces="0" * 64)
        followed.add(1, removed=1)
        followed.add(1, path="../../etc/passwd")
        followed.add(1, path="/etc/passwd")
        with followed.path.open("a") as file:
            file.write("torn{\n[]\n")
        right = followed.add(2)
        followed.end()
        assert [call["line"]["path"] for call in calls(tmp_path / "calls")] == [right]
        assert not followed.lines

    def test_what_an_exchange_named_reaches_no_shell(self, tmp_path):
        """Only standard input has it; a file's name cannot have it, but the line can."""
        followed = Followed(tmp_path, APPEND.format(tmp_path / "calls"))
        followed.add(1, feed="$(touch here); `touch here`\n'")
        followed.end()
        assert calls(tmp_path / "calls")[0]["line"]["feed"] == "$(touch here); `touch here`\n'"
        assert not (tmp_path / "here").exists()

    def test_failures_are_folded_and_each_is_tried_again(self, tmp_path):
        followed = Followed(tmp_path, f"{APPEND.format(tmp_path / 'calls')}; exit 1")
        names = [followed.add(number) for number in range(10)]
        followed.end()
        failed = [line for line in followed.lines if line.message.startswith("--on-file ended")]
        assert [line.detail["path"] for line in failed] == names[:3]
        assert {line.kind for line in followed.lines} == {"hook_failed"}
        assert any("10 files left without a successful --on-file" in line.message for line in followed.lines)
        again = Followed(tmp_path, APPEND.format(tmp_path / "again"))
        again.end()
        assert [call["line"]["path"] for call in calls(tmp_path / "again")] == names
        assert not again.lines

    def test_a_state_may_say_anything(self, tmp_path):
        (tmp_path / ".wsrec").mkdir()
        state = {"until": 1 << 70, "failed": [-1, 1 << 70, 3]}
        (tmp_path / ".wsrec" / "on-file.json").write_text(json.dumps(state))
        followed = Followed(tmp_path, "true")
        followed.end()
        assert json.loads((tmp_path / ".wsrec" / "on-file.json").read_text()) == {"until": 0, "failed": []}

    def test_a_state_that_cannot_be_read_leaves_no_file_out(self, tmp_path):
        (tmp_path / ".wsrec").mkdir()
        (tmp_path / ".wsrec" / "on-file.json").write_text("{")
        name = "messages/feed=f/date=2026-11-22/hour=13/s-000001.parquet"
        line = {"path": name, "events_path": None, "feed": "f", "session": "s"}
        (tmp_path / ".wsrec" / "manifest.jsonl").write_text(json.dumps(line) + "\n")
        followed = Followed(tmp_path, APPEND.format(tmp_path / "calls"))
        followed.end()
        assert [call["line"]["path"] for call in calls(tmp_path / "calls")] == [name]
        assert "begins with the first file again" in followed.lines[0].message


class TestCommands:
    """What a command may do."""

    def run(self, tmp_path, text: str, timeout: float = 30.0, given: bytes = b"{}\n") -> tuple[str | None, list[str]]:
        shown: list[str] = []
        return Command("file", text, tmp_path, timeout, shown.append).run(given, threading.Event()), shown

    def test_it_hangs(self, tmp_path):
        """It is killed with what it started, even if it ignores SIGTERM."""
        text = f"trap '' TERM; sleep 1000 & echo $! > {tmp_path}/pid; wait; wait"
        problem, _ = self.run(tmp_path, text, timeout=0.5)
        assert problem == "took longer than 500 ms (--hook-timeout) and was killed"
        child, deadline = int((tmp_path / "pid").read_text()), time.monotonic() + 60
        while not gone(child):
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def test_it_floods(self, tmp_path):
        problem, shown = self.run(tmp_path, "yes '\033[31mword' | head -c 5000000; echo oops >&2; exit 2")
        assert problem.startswith("ended with status 2: ")
        assert len(shown) <= 201
        assert "more lines were not shown" in shown[-1]

    def test_it_leaves_a_daemon_that_holds_its_pipes(self, tmp_path):
        began = time.monotonic()
        problem, shown = self.run(tmp_path, f"echo begun; setsid sleep 1000 & echo $! > {tmp_path}/pid")
        assert (problem, shown) == (None, ["begun"])
        assert time.monotonic() - began < 500
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)

    def test_it_reads_nothing_or_closes_everything(self, tmp_path):
        assert self.run(tmp_path, "true", given=b"x" * 10_000_000) == (None, [])
        assert self.run(tmp_path, "exec <&- >&- 2>&-; sleep 0.2; exit 4") == ("ended with status 4", [])

    def test_it_is_not_there_or_dies(self, tmp_path):
        problem, _ = self.run(tmp_path, "/nonexistent/hook")
        assert problem.startswith("ended with status 127: ")
        assert self.run(tmp_path, "kill -9 $$")[0] == "was killed by signal 9"


class TestEvents:
    def test_many_events_start_few_processes_and_what_was_left_out_is_counted(self, tmp_path):
        lines: list[LogLine] = []
        go = tmp_path / "go"

        def warn(message, hint=None, **about):
            lines.append(LogLine(level="warning", message=message, hint=hint, **about))

        text = f"while [ ! -e {go} ]; do sleep 0.02; done; {APPEND.format(tmp_path / 'calls')}"
        hook = EventHook(Command("event", text, tmp_path, 30.0, print), warn, most=50)
        hook.start()
        for number in range(10_000):
            hook.put(LogLine(level="warning", message=f"gap {number}", kind="gap"))
        hook.put(LogLine(level="info", message="no event", kind="connect"))
        go.touch()
        hook.end()
        hook.join(100)
        made = calls(tmp_path / "calls")
        assert not hook.is_alive()
        overflow = next(call for call in made if call["kind"] == "hook_overflow")
        assert len(made) - 1 + overflow["count"] == 10_000
        assert len(made) <= 52
        assert "no event" not in (tmp_path / "calls").read_text()
        assert any("not passed to --on-event" in line.message for line in lines)

    def test_a_recording_with_a_gap_and_a_file_that_fails(self, wsrec, exchange, tmp_path):
        """Folded as in the log, and the end with its status is the last one."""

        async def handler(connection):
            async for text in connection:
                await connection.send(json.dumps({"id": json.loads(text)["id"]}))
                for n in range(1, 2001, 2):
                    await connection.send(json.dumps({"c": "trade", "s": "A$(touch x)", "n": n}))

        feed = tmp_path / "gappy.yaml"
        feed.write_text(
            f"""
name: gappy
description: an exchange that leaves out every second message
sockets: {{main: {{url: "{exchange(handler).url}"}}}}
symbols: {{pattern: '[A-Z]+', words: letters, example: A}}
default_symbols: [A]
subscribe: {{message: '{{"op":"sub","args":{{topics}},"id":{{id}}}}'}}
limits: {{streams_per_connection: 100, messages_per_second: 50, connects: 60, connects_interval: 60}}
ack: {{id: id, timeout: 5}}
fields: {{channel: [c], symbol: [s]}}
channels: {{trade: {{topic: "trade.{{symbol}}", exchange_seq: [n], sequence: next, default: true}}}}
"""
        )
        events, out = tmp_path / "events", tmp_path / "out"
        hooks = ("--on-event", APPEND.format(events), "--on-file", "echo no such bucket >&2; exit 9")
        result = wsrec.run("record", feed, "--out", out, "--duration", "2s", "--quiet", *hooks)
        assert result.returncode == 4, result.stderr
        made = calls(events)
        gaps = [event for event in made if event["kind"] == "gap"]
        assert sum(event["count"] for event in gaps) == 999
        assert len(gaps) == 4
        first = gaps[0]
        assert (first["feed"], first["conn"], first["channel"], first["symbol"]) == ("gappy", 0, "trade", "A$(touch x)")
        assert (first["detail"]["expected"], first["detail"]["found"]) == (2, 3)
        assert first["session"] == manifest.read(out)[0].session
        assert first["out"] == str(out)
        failed = [event for event in made if event["kind"] == "hook_failed"]
        assert failed[0]["detail"]["path"] == named(manifest.read(out))[0]
        assert "--on-file ended with status 9: no such bucket" in result.stderr
        assert made[-1]["kind"] == "end"
        assert made[-1]["detail"]["status"] == 4

    def test_a_hook_that_hangs_ends_with_a_second_signal(self, start, exchange, tmp_path):
        url, begun = exchange(Stream()).url, tmp_path / "begun"
        text = f"touch {begun}; exec sleep 1000"
        words = ("record", url, "--out", tmp_path / "out", "--rotate", "1s", "--on-file", text)
        log = start(*words)
        log.wait_for("connected to")
        deadline = time.monotonic() + 60
        while not begun.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        log.process.send_signal(signal.SIGINT)
        log.wait_for("waiting for --on-file to finish")
        lines = log.end(0)
        assert any("a second SIGTERM: the hooks are ended" in line for line in lines)
        assert any("left without a successful --on-file" in line for line in lines)
