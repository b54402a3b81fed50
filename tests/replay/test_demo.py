"""The demo exchange as a child process."""

import asyncio
import itertools
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from wsrec.replay.demo import DemoError, demo_exchange


def children_of(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_market(pid):
    return b"wsrec.replay" in Path(f"/proc/{pid}/cmdline").read_bytes()


def wait_gone(pid):
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < deadline, "the demo exchange is still running"
        time.sleep(0.02)


def test_it_serves_over_tls_and_ends():
    async def first_trade(endpoint):
        context = ssl.create_default_context(cafile=endpoint.ca_file)
        url = endpoint.url + "/stream?streams=ethusdt@trade"
        async with asyncio.timeout(60), connect(url, ssl=context) as client:
            return json.loads(await client.recv())

    before = set(children_of(os.getpid()))
    with demo_exchange(print, rate=500, seed=4) as demo:
        endpoint = demo.endpoint
        (child,) = set(children_of(os.getpid())) - before
        assert endpoint.source == "demo"
        assert asyncio.run(first_trade(endpoint))["data"]["s"] == "ETHUSDT"
    assert not Path(f"/proc/{child}").exists()
    assert not Path(endpoint.ca_file).exists()


def test_it_ends_when_its_parent_is_killed():
    code = (
        "import time\nfrom wsrec.replay.demo import demo_exchange\n"
        "with demo_exchange(print):\n    print('ready', flush=True)\n    time.sleep(60)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert parent.stdout.readline() == b"ready\n"
        (child,) = children_of(parent.pid)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        parent.stdout.close()
    wait_gone(child)


def test_it_says_how_it_failed_to_start(monkeypatch):
    monkeypatch.setattr("wsrec.replay.demo.DEMO", "/nonexistent/source")
    lines = []
    with pytest.raises(DemoError, match="did not start: its process ended with status 1"), demo_exchange(lines.append):
        pass
    # its child's words are the caller's, who owns the terminal
    assert any("/nonexistent/source" in line for line in lines)


def test_one_that_is_too_slow_is_not_waited_for_without_end(monkeypatch):
    monkeypatch.setattr("wsrec.replay.demo._START_SECONDS", 0.001)
    with pytest.raises(DemoError, match=r"did not start within .* overloaded"), demo_exchange(print):
        pass


def test_its_end_is_noticed():
    async def its_end(demo):
        async with asyncio.timeout(30):
            return await demo.ended()

    before = set(children_of(os.getpid()))
    with demo_exchange(print) as demo:
        (child,) = set(children_of(os.getpid())) - before
        os.kill(child, signal.SIGKILL)
        assert asyncio.run(its_end(demo)) == "was killed by SIGKILL"


def test_a_recording_ends_with_its_market(wsrec, tmp_path):
    """Instead of trying to reconnect to it for ever."""
    with wsrec.start("record", "demo", "--out", tmp_path / "out") as process:
        begun = list(itertools.takewhile(lambda line: "connected to" not in line, process.stderr))
        (market,) = [pid for pid in children_of(process.pid) if is_market(pid)]
        os.kill(market, signal.SIGKILL)
        summary, errors = process.communicate(timeout=120)
    assert "[demo] starting a synthetic market on this machine, to record it until Ctrl-C" in begun[0]
    reason = "wsrec record: the synthetic market was killed by SIGKILL; what it had sent is kept; record again"
    assert (process.returncode, errors.splitlines()[-1]) == (1, reason)
    assert "ended: the market ended" in summary
