"""A recording waits for no terminal and no log: they may take nothing (Ctrl-S, `| less`) or go away (`| head`)."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import json
import os
import pty
import signal
import string
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import messages_of, received
from tests.supervise.conftest import Recording, Stream, finished

RESTLESS = ["".join(pair) for pair in itertools.product(string.ascii_uppercase[:12], repeat=2)]
F_SETPIPE_SZ = 1031
FEED = """
name: market
description: a symbol a connection
sockets: {{main: {{url: "{url}"}}}}
symbols: {{pattern: '[A-Z]+', words: letters, example: A}}
default_symbols: [STEADY]
subscribe: {{message: '{{"ask":{{topics}}}}'}}
limits: {{streams_per_connection: 1, connects: 300, connects_interval: 1}}
fields: {{channel: [c], symbol: [s]}}
channels: {{trade: {{topic: "{{symbol}}", default: true}}}}
"""


class Market(Stream):
    """Numbered messages for who asks for STEADY; all others are turned away again and again."""

    async def __call__(self, connection) -> None:
        if json.loads(await connection.recv())["ask"] == ["STEADY"]:
            await super().__call__(connection)
        await connection.send("not now")
        await asyncio.sleep(0.05)


def small_pipe() -> tuple[int, int]:
    """A pipe that holds one page, and so fills up soon."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, F_SETPIPE_SZ, 4096)
    return reading, writing


@pytest.fixture
def chatty(wsrec, exchange, tmp_path) -> Iterator[Any]:
    """Starts a recorder that has much to say, and whose steady connection is complete."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: object, restless: int = 36, **options: Any) -> Recording:
            stream, feed, out = Market(), tmp_path / "market.yaml", tmp_path / "out"
            feed.write_text(FEED.format(url=exchange(stream).url))
            symbols = ",".join(["STEADY", *RESTLESS[:restless]])
            command = wsrec.command("record", feed, "--symbols", symbols, "--out", out, *arguments)
            process = subprocess.Popen(command, **options)
            stack.callback(process.wait)
            stack.callback(process.kill)
            started = Recording(process, out, stream)
            started.until(lambda: len(started.journalled()) > 100)
            return started

        yield start


def goes_on(work: Recording, seconds: float) -> None:
    """Messages reach the disk for so long, and not only those that were under way."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sent = len(work.stream.times)
        work.until(lambda sent=sent: len(work.journalled()) > sent, 10)


def ends(work: Recording, status: int, seconds: float = 60) -> None:
    """SIGTERM ends it, all files finished; of the steady messages none is missing."""
    sent = len(work.stream.times)
    work.process.terminate()
    assert work.process.wait(seconds) == status
    finished(work.out)
    steady = [message for message in received(messages_of(work.out)) if message.startswith(b"message")]
    assert steady == [b"message %d" % number for number in range(len(steady))]
    assert len(steady) > sent - 1000


class Reader:
    """Reads a descriptor to its end in a thread, once started."""

    def __init__(self, fd: int) -> None:
        self.text = ""
        self._fd = fd
        self.thread = threading.Thread(target=self._read, daemon=True)

    def start(self) -> Reader:
        self.thread.start()
        return self

    def _read(self) -> None:
        # a terminal whose last process has ended: EIO
        with contextlib.suppress(OSError):
            while data := os.read(self._fd, 1 << 16):
                self.text += data.decode()


@pytest.mark.long
def test_a_log_without_a_reader(chatty) -> None:
    reading, writing = small_pipe()
    work = chatty("--json", stdout=subprocess.PIPE, stderr=writing)
    os.close(writing)
    goes_on(work, 1)
    ends(work, 4)
    with work.process.stdout as output:
        assert json.loads(output.read())["status"] == 4
    os.close(reading)


@pytest.mark.long
def test_a_terminal_that_is_stopped(chatty) -> None:
    """Ctrl-S, Ctrl-Q and Ctrl-S again; the live view is on it."""
    master, slave = pty.openpty()
    screen = Reader(master).start()
    termios.tcflow(slave, termios.TCOOFF)
    work = chatty(stdin=slave, stdout=slave, stderr=slave)
    goes_on(work, 1)
    assert screen.text == ""
    termios.tcflow(slave, termios.TCOON)
    # what is logged meanwhile is kept until the view ends
    work.until(lambda: " open " in screen.text and "Ctrl-C to finish" in screen.text)
    termios.tcflow(slave, termios.TCOOFF)
    goes_on(work, 1)
    ends(work, 4)
    os.close(slave)
    screen.thread.join(10)
    os.close(master)
    assert "lines were not shown" not in screen.text


@pytest.mark.long
def test_a_log_whose_reader_goes_away(chatty) -> None:
    """`2>&1 | head -1`."""
    reading, writing = os.pipe()
    work = chatty(stdout=writing, stderr=writing)
    os.close(writing)
    assert b"connected to" in os.read(reading, 100)
    os.close(reading)
    goes_on(work, 1)
    ends(work, 4)


@pytest.mark.long
def test_a_supervisor_that_is_stopped(chatty) -> None:
    """Ctrl-Z: the pipes to it fill up, and the pending lines are shown when it continues."""
    reading, writing = os.pipe()
    log = Reader(reading).start()
    work = chatty("--json", restless=len(RESTLESS), stdout=subprocess.PIPE, stderr=writing)
    os.close(writing)
    output = Reader(work.process.stdout.fileno()).start()
    work.process.send_signal(signal.SIGSTOP)
    goes_on(work, 4)
    before = len(log.text)
    work.process.send_signal(signal.SIGCONT)
    work.until(lambda: "connected to" in log.text[before:])
    ends(work, 4)
    for reader in (log, output):
        reader.thread.join(10)
    os.close(reading)
    work.process.stdout.close()
    outcome = json.loads(output.text)
    assert (outcome["status"], outcome["restarts"]) == (4, 0)
    assert "wsrec record: recorded" in log.text


def test_a_start_that_fails(wsrec, tmp_path) -> None:
    reading, writing = small_pipe()
    os.write(writing, bytes(4096))
    process = subprocess.Popen(
        wsrec.command("record", "no-such-feed", "--out", tmp_path), stdout=writing, stderr=writing
    )
    try:
        assert process.wait(20) == 2
    finally:
        process.kill()
        process.wait()
    os.close(reading)
    os.close(writing)
