"""The demo exchange as a child process."""

import asyncio
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
    with demo_exchange(rate=500, seed=4) as endpoint:
        (child,) = set(children_of(os.getpid())) - before
        assert endpoint.source == "demo"
        assert asyncio.run(first_trade(endpoint))["data"]["s"] == "ETHUSDT"
    assert not Path(f"/proc/{child}").exists()
    assert not Path(endpoint.ca_file).exists()


def test_it_ends_when_its_parent_is_killed():
    code = (
        "import time\nfrom wsrec.replay.demo import demo_exchange\n"
        "with demo_exchange():\n    print('ready', flush=True)\n    time.sleep(60)\n"
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


def test_it_says_when_it_cannot_start(monkeypatch):
    monkeypatch.setattr("wsrec.replay.demo.DEMO", "/nonexistent/source")
    with pytest.raises(DemoError), demo_exchange():
        pass
