"""Recording through proxies: real ones, with hosts that only they can look up, and what becomes of their faults."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import events_of, messages_of, received
from tests.effort import thinned
from tests.proxies import HOST, PASSWORD, REAL, USER, RealProxy
from tests.supervise.test_secrets import children_of, everything_in, journalled

FEED = """
name: mine
description: a feed that asks for everything that there is
proxy: {proxy}
public_url_parts: [v1]
sockets:
  main:
    url: wss://{host}:{stream}/v1?t={{token}}
    token: {{url: "https://{host}:{https}/token", method: POST, token: token}}
symbols:
  pattern: "[A-Z]+"
  words: capital letters
  example: ABC
  listing: {{url: "https://{host}:{https}/symbols"}}
channels:
  trade:
    common: trades
    default: true
    topic: "trade.{{symbol}}"
    snapshot: {{url: "https://{host}:{https}/depth?symbol={{symbol}}", at_start: true}}
subscribe: {{message: '{{"subscribe":{{topics}}}}'}}
fields: {{channel: [e], symbol: [s]}}
limits: {{connects: 10, connects_interval: 1}}
"""
ANSWERS = {"/token": {"token": "T0KEN"}, "/symbols": ["ABC"], "/depth?symbol=ABC": {"bids": []}}


async def counts(connection: Any) -> None:
    with suppress(Exception):
        for number in range(1000):
            await connection.send(json.dumps({"e": "trade", "s": "ABC", "n": number}))
            await asyncio.sleep(0.02)


def port_of(server: Any) -> int:
    return int(server.url.partition("://")[2].partition("/")[0].rpartition(":")[2])


def clean_environment(**more: object) -> dict[str, str]:
    """This process's environment, with no proxy of its own in it."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return {**kept, **{name: str(value) for name, value in more.items()}}


def printed_by(process: subprocess.Popen[str], words: str, seconds: float = 120) -> str:
    """What a recorder says up to the line with these words."""
    assert process.stderr is not None
    stated = ""
    # where it says nothing more, its end is the end of what it says
    killing = threading.Timer(seconds, process.kill)
    killing.start()
    try:
        while words not in stated:
            line = process.stderr.readline()
            assert line, f"{words!r} is not in: {stated}"
            stated += line
    finally:
        killing.cancel()
        if words not in stated:
            process.kill()
    return stated


@pytest.fixture(params=thinned(REAL), ids=lambda proxy: proxy.program)
def real(request, tmp_path) -> Iterator[RealProxy]:
    proxy = request.param(tmp_path)
    proxy.start()
    yield proxy
    proxy.kill()


class TestARealProxy:
    @pytest.mark.long
    def test_takes_all_four_kinds_of_request(self, real, wsrec, exchange, https, ca_file, tmp_path):
        server = https(ANSWERS.get)
        stream = exchange(counts, tls=True)
        proxy = f'"{real.scheme}://{USER}:${{PROXY_PASSWORD}}@127.0.0.1:{real.port}"'
        feed = tmp_path / "feed.yaml"
        feed.write_text(FEED.format(proxy=proxy, host=HOST, stream=port_of(stream), https=port_of(server)))
        out = tmp_path / "out"
        environment = clean_environment(
            SSL_CERT_FILE=ca_file, XDG_CACHE_HOME=tmp_path / "cache", PROXY_PASSWORD=PASSWORD
        )
        words = ("--symbols", "all", "--duration", "2s", "--out", out, "--ca-file", ca_file, "--json")
        process = wsrec.start("record", feed, *words, env=environment)
        stated = printed_by(process, "connected to")
        seen = {
            f"{name} of a child": Path(f"/proc/{child}/{name}").read_bytes()
            for child in children_of(process.pid)
            for name in ("cmdline", "environ")
        }
        seen |= everything_in(out)
        seen["the journals"] = journalled(out)
        printed, more = process.communicate(timeout=120)
        assert process.returncode == 0, stated + more
        assert f"through the proxy {real.public}" in stated
        table = messages_of(out)
        assert len(received(table)) > 10
        assert set(table["recv_source"].to_pylist()) <= {"kernel", "nic", "user"}
        assert "kernel" in table["recv_source"].to_pylist(), "the proxy's segments have their stamps"
        (connected,) = events_of(out, "connect")
        assert connected["detail"]["proxy"] == real.public
        assert (connected["detail"]["address"], connected["detail"]["port"]) == ("127.0.0.1", real.port)
        assert events_of(out, "snapshot")
        assert sorted({path for _, path, _ in server.requested}) == sorted(ANSWERS)
        assert real.stated.count(HOST) >= 4
        seen |= {"stdout": printed.encode(), "stderr": (stated + more).encode(), **everything_in(out)}
        assert seen
        assert not [name for name, data in seen.items() if PASSWORD.encode() in data]

    def test_that_does_not_take_the_password_is_named(self, real, wsrec, exchange, ca_file, tmp_path):
        stream = exchange(counts, tls=True)
        url = f"wss://{HOST}:{port_of(stream)}/x"
        environment = clean_environment(WSREC_RECORD_PROXY=real.url("S3CR3Twrong"))
        result = wsrec.run("record", url, "--out", tmp_path / "out", "--ca-file", ca_file, env=environment)
        assert result.returncode == 1, result.stderr
        assert f"the proxy {real.public} rejects this user name and password" in result.stderr
        assert "check them in" in result.stderr
        (failed,) = events_of(tmp_path / "out", "connect_failed")
        assert failed["detail"]["cause"] == "proxy"
        assert failed["detail"]["retry_s"] is None
        assert "S3CR3T" not in result.stderr + result.stdout + json.dumps(failed["detail"])
        assert stream.connections == 0

    @pytest.mark.long
    def test_a_dying_proxy_is_distinguished_from_the_exchange(self, real, wsrec, exchange, ca_file, tmp_path):
        stream = exchange(counts, tls=True)
        url = f"wss://{HOST}:{port_of(stream)}/x"
        environment = clean_environment(WSREC_RECORD_PROXY=real.url())
        out = tmp_path / "out"
        process = wsrec.start("record", url, "--out", out, "--ca-file", ca_file, env=environment)
        printed_by(process, "connected to")
        real.kill()
        stated = printed_by(process, f"the proxy {real.public} refused the connection")
        assert f"through the proxy {real.public}" in stated
        real.start()
        printed_by(process, "connected to")
        time.sleep(0.3)
        process.terminate()
        _, stated = process.communicate(timeout=120)
        assert process.returncode == 4, stated
        causes = [event["detail"]["cause"] for event in events_of(out, "connect_failed")]
        assert causes[0] == "lost"
        assert set(causes[1:]) == {"proxy"}
        assert len(events_of(out, "lost_interval")) == 1
        assert len(events_of(out, "connect")) == 2
        assert stream.connections == 2


class TestTheEnvironment:
    def test_names_the_proxy_as_it_does_for_curl(self, scripted_proxy, wsrec, exchange, ca_file, tmp_path):
        proxy = scripted_proxy(names={"other.test": "127.0.0.1"})
        stream = exchange(counts, tls=True)
        url = f"wss://{HOST}:{port_of(stream)}/x"
        words = ("record", url, "--out", tmp_path / "out", "--ca-file", ca_file, "--duration", "300ms")
        environment = clean_environment(HTTPS_PROXY=proxy.url, NO_PROXY="other.test")
        result = wsrec.run(*words, env=environment)
        assert result.returncode == 0, result.stderr
        assert proxy.hosts == [HOST]

    @pytest.mark.long
    def test_for_this_machine_it_is_not_used_and_that_is_reported(self, scripted_proxy, wsrec, exchange, tmp_path):
        proxy = scripted_proxy()
        url = exchange(counts).url
        words = ("record", url, "--out", tmp_path / "out", "--duration", "300ms")
        result = wsrec.run(*words, env=clean_environment(ALL_PROXY=proxy.url))
        assert result.returncode == 0, result.stderr
        assert "localhost is this machine: ALL_PROXY does not apply to it, --proxy would" in result.stderr
        assert proxy.requested == []
