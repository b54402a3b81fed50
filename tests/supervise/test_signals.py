"""A signal ends `wsrec record` in order from the first thing that it does until it has printed what it came to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.supervise.conftest import Recording, Stream, gone

LISTED = """
name: listed
description: of a test
sockets: {{main: {{url: "ws://127.0.0.1:1/ws"}}}}
symbols:
  pattern: "[A-Z]+"
  words: letters
  example: ABC
  listing: {{url: "{url}/listing", symbol: name}}
limits: {{connects: 10, connects_interval: 1}}
subscribe: {{message: '{{"ask":{{topics}}}}'}}
fields: {{channel: [c], symbol: [s]}}
channels: {{trades: {{topic: "t.{{symbol}}", common: trades, default: true}}}}
"""


def until(condition, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.002)


def maps(process: subprocess.Popen[str], word: str) -> bool:
    return word in Path(f"/proc/{process.pid}/maps").read_text()


def catches(process: subprocess.Popen[str], number: int) -> bool:
    status = Path(f"/proc/{process.pid}/status").read_text()
    mask = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(mask, 16) >> (number - 1) & 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda number: number.name)
def test_while_it_is_still_being_imported(wsrec, tmp_path, number):
    out = tmp_path / "out"
    process = wsrec.start("record", "ws://127.0.0.1:1/", "--out", out, "--json")
    # before anything of the recorder's own
    until(lambda: maps(process, "msgspec"))
    process.send_signal(number)
    output, log = process.communicate(timeout=120)
    assert process.returncode == 3, (log, output)
    assert log.strip() == f"wsrec record: ended by {number.name} before anything was recorded"
    assert json.loads(output) == {"status": 3, "error": f"ended by {number.name} before anything was recorded"}
    assert not out.exists()


def test_while_it_waits_for_the_exchanges_list(wsrec, https, ca_file, tmp_path):
    requested, go_on = threading.Event(), threading.Event()

    def answer(_):
        requested.set()
        go_on.wait(60)
        return [{"name": "ABC"}]

    feed = tmp_path / "listed.yaml"
    feed.write_text(LISTED.format(url=https(answer).url))
    out = tmp_path / "out"
    environment = {**os.environ, "SSL_CERT_FILE": str(ca_file), "XDG_CACHE_HOME": str(tmp_path)}
    process = wsrec.start("record", feed, "--symbols", "all", "--out", out, env=environment)
    try:
        assert requested.wait(30), process.communicate(timeout=1)
        process.terminate()
        time.sleep(0.02)
        # a wrapper passes on what the terminal has sent already
        process.send_signal(signal.SIGINT)
        output, log = process.communicate(timeout=120)
    finally:
        go_on.set()
        process.kill()
    assert (process.returncode, output) == (3, "")
    # on a busy machine both are pending when the process runs: then Python handles the lower number first
    (line,) = log.splitlines()
    assert line in [f"wsrec record: ended by {name} before anything was recorded" for name in ("SIGTERM", "SIGINT")]
    assert not out.exists()


@pytest.mark.long
def test_while_the_demo_exchange_starts(wsrec, tmp_path):
    process = wsrec.start("record", "demo", "--out", tmp_path / "out")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    until(lambda: children.read_text())
    started = [int(pid) for pid in children.read_text().split()]
    process.terminate()
    _, log = process.communicate(timeout=120)
    *said, last = log.splitlines()
    assert (process.returncode, last) == (3, "wsrec record: ended by SIGTERM before anything was recorded")
    assert all("starting a synthetic market" in line for line in said)
    until(lambda: all(gone(pid) for pid in started))


@pytest.mark.long
def test_while_it_prints_what_it_came_to(wsrec, exchange, tmp_path):
    """The summary goes into a pipe that is not read yet."""
    stream = Stream()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    filled = 0
    try:
        while True:
            filled += os.write(writing, bytes(4096))
    except BlockingIOError:
        os.set_blocking(writing, True)
    command = wsrec.command("record", exchange(stream).url, "--out", tmp_path)
    process = subprocess.Popen(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    work = Recording(process, tmp_path, stream)
    try:
        work.until(lambda: len(work.journalled()) > 100)
        process.terminate()
        work.until(lambda: not work.children())
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            # also further apart than a repeated signal
            time.sleep(0.6)
            process.send_signal(number)
        with os.fdopen(reading, "rb") as pipe:
            output = pipe.read()[filled:].decode()
        _, log = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode == 0, log
    assert output.endswith("ended: SIGTERM; exit status 0\n")


@pytest.mark.parametrize("after", [0.2, 0.8])
def test_at_any_moment_of_the_start(wsrec, exchange, tmp_path, after):
    process = wsrec.start("record", exchange(Stream()).url, "--out", tmp_path)
    until(lambda: catches(process, signal.SIGTERM))
    time.sleep(after)
    process.terminate()
    output, log = process.communicate(timeout=120)
    # 1: it had not connected yet
    assert process.returncode in (0, 1, 3), (log, output)
    assert bool(process.returncode) == ("wsrec record: " in log), log
    assert output == "" or output.endswith(f"ended: SIGTERM; exit status {process.returncode}\n")
