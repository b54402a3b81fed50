"""What a recording says on standard error: nothing at status 0, the reason at every other, also with `--quiet`."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import threading
import time

import pytest

from wsrec.format.lock import OutputLock

FEED = """
name: curt
description: an exchange of few words
sockets: {{main: {{url: "{url}?apikey=${{CURT_KEY}}"}}}}
symbols: {{pattern: '[A-Z]+', words: letters, example: A}}
default_symbols: [A]
subscribe: {{message: '{{"op":"sub","args":{{topics}},"id":{{id}}}}', batch: 1}}
limits: {{streams_per_connection: 100, messages_per_second: 50, connects: 60, connects_interval: 60}}
ack: {{id: id, error_code: [code], error_message: [msg], timeout: 1}}
fields: {{channel: [c], symbol: [s]}}
channels: {{trade: {{topic: "trade.{{symbol}}", exchange_seq: [n], sequence: next, default: true}}}}
"""
KEY = "k3y-0f-n0b0dy"


class Log:
    """The output of a running recorder so far."""

    def __init__(self, process) -> None:
        self.process, self.lines = process, []
        self.thread = threading.Thread(target=lambda: self.lines.extend(iter(process.stderr.readline, "")), daemon=True)
        self.thread.start()

    def wait_for(self, *words: str, seconds: float = 120) -> str:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = next((line for line in list(self.lines) if all(word in line for word in words)), None)
            if found is not None:
                return found
            assert self.process.poll() is None, self.lines
            time.sleep(0.02)
        raise AssertionError(f"{words} timed out: {self.lines}")

    def end(self, status: int) -> list[str]:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == status, self.lines
        self.thread.join(10)
        self.process.communicate()
        return [line for line in self.lines if "was refused: " not in line]


@pytest.fixture
def curt(wsrec, exchange, tmp_path):
    """Starts a recorder of an exchange that answers each subscription as a function of its topic says."""
    running = []

    def start(answer, *arguments):
        async def handler(connection):
            async def read():
                async for text in connection:
                    requested = json.loads(text)
                    for message in answer(requested["args"][0], requested["id"]):
                        await connection.send(json.dumps(message))

            await asyncio.gather(read(), connection.wait_closed())

        feed = tmp_path / "curt.yaml"
        feed.write_text(FEED.format(url=exchange(handler).url))
        environment = {**os.environ, "CURT_KEY": KEY}
        words = ("record", feed, "--out", tmp_path / "out", "--quiet", *arguments)
        process = wsrec.start(*words, env=environment)
        running.append(process)
        return Log(process)

    yield start
    for process in running:
        process.kill()
        process.wait()


class TestWhileRecording:
    def test_refusals_silence_and_gaps_at_once(self, curt):
        """In the exchange's words, made harmless, with the feed and the topic; a thousand gaps are a few lines."""

        def answer(topic, number):
            if topic == "trade.BAD":
                words = f"no such stream of /ws \x1b[31mthing\u202e {KEY} " + "x" * 5000
                yield {"id": number, "code": 7, "msg": words}
            elif topic == "trade.A":
                yield {"id": number}
                for n in range(1, 2001, 2):
                    yield {"c": "trade", "s": "A", "n": n}

        log = curt(answer, "--symbols", "A,BAD,SILENT")
        log.wait_for("[curt 0] gap in trade A", "expected 2, found 3")
        refused = log.wait_for("curt", "trade.BAD", "7: no such stream of /ws")
        log.wait_for("curt", "trade.SILENT", "no answer")
        assert "\x1b" not in refused
        assert "\u202e" not in refused
        assert KEY not in refused
        assert len(refused) < 1000
        lines = log.end(4)
        assert len(lines) < 12
        assert "sequence gaps: 996 more within" in "".join(lines)
        assert "999 sequence gaps, 2 refused, unanswered or late subscriptions" in lines[-1]

    def test_a_connection_that_was_lost_says_how_long(self, wsrec, exchange, tmp_path):
        opened = []

        async def handler(connection):
            opened.append(connection)
            await connection.send("x")
            if len(opened) > 1:
                await connection.wait_closed()

        url = exchange(handler).url
        log = Log(wsrec.start("record", url, "--out", tmp_path, "--quiet"))
        log.wait_for("nothing was recorded for")
        assert "1 lost interval" in log.end(4)[-1]


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="setpriv is not installed, or no root")
@pytest.mark.parametrize("quiet", [True, False])
def test_a_user_who_may_not_lock_memory_gets_no_mail_about_it(wsrec, exchange, tmp_path, quiet):
    """As most may not. Nobody asked for it, so it is no warning."""

    async def handler(connection):
        await connection.send("hello")

    words = ("record", exchange(handler).url, "--until-close", "--out", tmp_path, *(["--quiet"] if quiet else []))
    user = ["setpriv", "--bounding-set", "-ipc_lock", "--", "prlimit", "--memlock=65536:65536", "--"]
    result = subprocess.run([*user, *wsrec.command(*words)], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    assert ("locking memory was refused" in result.stderr) == (not quiet)
    if quiet:
        assert result.stderr == ""


class TestAtTheEnd:
    def test_nothing_received(self, wsrec, exchange, tmp_path):
        async def handler(connection):
            await asyncio.sleep(0.2)

        words = ("record", exchange(handler).url, "--until-close", "--quiet", "--out", tmp_path)
        result = wsrec.run(*words)
        assert (result.returncode, result.stdout) == (3, "")
        assert "nothing was received" in result.stderr

    @pytest.mark.long
    def test_a_folder_that_another_one_holds(self, wsrec, tmp_path):
        with OutputLock(tmp_path):
            held = wsrec.run("record", "demo", "--out", tmp_path, "--quiet")
            free = wsrec.run("record", "demo", "--out", tmp_path, "--quiet", "--if-free")
        assert (held.returncode, held.stdout) == (75, "")
        assert f"process {os.getpid()}" in held.stderr
        assert "--if-free" in held.stderr
        assert (free.returncode, free.stdout, free.stderr) == (0, "", "")
        both = wsrec.run("record", "demo", "--out", tmp_path, "--takeover", "--if-free")
        assert both.returncode == 2
        assert "--takeover" in both.stderr

    @pytest.mark.long
    def test_silent_at_status_0_however_long_the_writer_takes(self, recording):
        running = recording("--quiet")
        writer = running.child("wsrec.writer")
        os.kill(writer, signal.SIGSTOP)
        try:
            running.process.send_signal(signal.SIGTERM)
            time.sleep(6)
        finally:
            os.kill(writer, signal.SIGCONT)
        output, log = running.end(0)
        assert output == ""
        assert [line for line in log.splitlines() if "was refused" not in line] == []
