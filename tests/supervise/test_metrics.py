"""`--metrics`: what a real recorder serves, on which address, and how its probes judge."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.supervise.test_health import CASES, changed, healthy  # noqa: F401 (a fixture)
from tests.supervise.test_state_sampler import PLANS, Recorder
from wsrec.histogram import BUCKETS, FLOOR, bucket_counts
from wsrec.ipc import LogLine
from wsrec.options.value_types import Listen, ListenType
from wsrec.supervise.health import BEAT_DEAD_NS, PAST, is_ready, unwell
from wsrec.supervise.metrics import BOUNDS, METRICS, Collector, buckets
from wsrec.supervise.metrics_server import Server, is_loopback, serve

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "monitoring.md"
PROMTOOL = shutil.which("promtool")


def metrics_table() -> str:
    """The table of docs/how-to/monitoring.md."""
    rows = ["| metric | type | labels | meaning |", "| --- | --- | --- | --- |"]
    for each in METRICS:
        labels = ", ".join(f"`{label}`" for label in each.labels)
        rows.append(f"| `{each.name}` | {each.kind} | {labels} | {each.help} |")
    return "\n".join(rows) + "\n"


def get(url: str, **headers: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def url_of(work: Any) -> str:
    """Where a recorder that was started with port 0 says that its metrics are."""
    for line in work.process.stderr:
        if found := re.search(r"metrics: (http://\S+)/metrics", line):
            return found[1]
    raise AssertionError


def said_of(where: Listen, folder: Path) -> list[LogLine]:
    """What the log has of metrics at an address, up to the first line."""
    lines: list[LogLine] = []

    async def served() -> None:
        task = asyncio.ensure_future(serve(where, Recorder(folder, PLANS).sampler, lines.append, lambda: False))
        while not lines:
            await asyncio.sleep(0.01)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(served())
    return lines


class TestServed:
    def test_of_a_recording(self, recording):
        work = recording("--metrics", "0")
        url = url_of(work)
        assert url.startswith("http://127.0.0.1:")
        assert work.until(lambda: get(f"{url}/readyz")) == (200, "ok\n")
        assert get(f"{url}/healthz") == (200, "ok\n")
        assert get(f"{url}/")[0] == 404
        of_one = frozenset({("feed", "localhost"), ("conn", "0")})

        def counted() -> str | None:
            text = get(f"{url}/metrics")[1]
            return text if samples(text)["wsrec_connection_messages_total", of_one] > 100 else None

        text = work.until(counted)
        found = samples(text)
        named = {name for name, _ in found}
        # it may not fill, and a step is a family of several
        everywhere = {each.name for each in METRICS} - {"wsrec_disk_full_in_seconds", "wsrec_step_latency_seconds"}
        assert everywhere <= named
        assert {name for name in named if not name.startswith("wsrec_step_latency")} <= {each.name for each in METRICS}
        assert found["wsrec_connection_up", of_one] == 1
        assert found["wsrec_step_latency_seconds_count", frozenset({("step", "total")})] > 100
        (_, later) = get(f"{url}/metrics")
        assert samples(later)["wsrec_messages_total", frozenset()] >= found["wsrec_messages_total", frozenset()]
        assert get(f"{url}/metrics", Accept="application/openmetrics-text")[1].endswith("# EOF\n")
        if PROMTOOL is not None:
            checked = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True, text=True)
            assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")

        os.kill(receiver := work.child("wsrec.receive"), signal.SIGSTOP)
        try:
            status, why = work.until(lambda: found if (found := get(f"{url}/readyz"))[0] != 200 else None)
        finally:
            os.kill(receiver, signal.SIGCONT)
        assert status == 503
        assert re.fullmatch(r"recording: connection 0 \(localhost, last message .+ ago\) is down\n", why)

    def test_a_port_in_use_is_waited_for(self, recording):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            # returns once it records
            work = recording("--metrics", port)
            line = next(line for line in work.process.stderr if "no metrics yet" in line)
        assert f"nothing can listen at 127.0.0.1:{port}: Address already in use" in line
        assert url_of(work) == f"http://127.0.0.1:{port}"
        assert work.until(lambda: get(f"http://127.0.0.1:{port}/healthz")) == (200, "ok\n")
        work.process.terminate()
        work.end(0)

    @pytest.mark.parametrize("address", ["203.0.113.5:19999", "no-such-host.invalid:19999", "a..b:1"])
    def test_an_address_that_cannot_be_used_is_said_and_tried_again(self, tmp_path, address):
        (line,) = said_of(ListenType().parse(address), tmp_path)
        assert line.level == "warning"
        assert line.message.startswith(f"no metrics yet: nothing can listen at {address}: ")

    def test_an_address_that_others_reach_is_said_without_a_warning(self, tmp_path):
        """Cron makes a mail of a warning; the address was named on purpose."""
        (line,) = said_of(Listen("0.0.0.0", 0), tmp_path)
        assert line.level == "info"
        assert line.message.endswith("; whoever reaches it can read them, without a password")

    @pytest.mark.long
    def test_a_takeover_takes_the_port(self, recording, wsrec):
        port = free_port()
        work = recording("--metrics", port)
        new = wsrec.start("record", work.stream.server.url, "--out", work.out, "--takeover", "--metrics", port)
        try:
            began = "wsrec_start_time_seconds"
            first = samples(get(f"http://127.0.0.1:{port}/metrics")[1])[began, frozenset()]

            def later() -> bool:
                try:
                    return samples(get(f"http://127.0.0.1:{port}/metrics")[1])[began, frozenset()] > first
                except OSError:
                    return False

            work.until(later)
            work.end(0)
        finally:
            new.send_signal(signal.SIGTERM)
            _, log = new.communicate(timeout=60)
        assert new.returncode == 0
        assert f"metrics: 127.0.0.1:{port} is taken over once the other recorder frees it" in log


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Server, list[LogLine]]]:
    """A server of a recording that does nothing, and what it logs."""
    lines: list[LogLine] = []
    server = Server(socket.create_server(("127.0.0.1", 0)), Recorder(tmp_path, PLANS).sampler, lines.append)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server, lines
    server.shutdown()
    thread.join()
    server.server_close()


class TestHostileReaders:
    def test_slow_ones_keep_nobody_from_an_answer(self, served):
        server, _ = served
        with contextlib.ExitStack() as stack:
            slow = [stack.enter_context(socket.create_connection(server.server_address, timeout=60)) for _ in range(40)]
            for one in slow:
                with contextlib.suppress(OSError):
                    one.send(b"G")
            assert get(server.url)[0] == 200
            # the oldest were dropped for those that came later
            assert slow[0].recv(1) == b""

    def test_one_has_so_long_and_no_longer_however_often_it_sends(self, served, monkeypatch):
        monkeypatch.setattr("wsrec.supervise.metrics_server._PATIENCE", 0.5)
        server, _ = served
        with socket.create_connection(server.server_address, timeout=0.1) as slow:
            slow.send(b"GET /metrics?")
            deadline = time.monotonic() + 60
            while True:
                assert time.monotonic() < deadline
                try:
                    slow.send(b"x")
                    assert slow.recv(1) == b""
                except TimeoutError:
                    continue
                except OSError:
                    pass
                break

    def test_a_version_that_is_no_number_gets_plain_text(self, served):
        server, lines = served
        status, text = get(server.url, Accept="application/openmetrics-text;version=1e999")
        assert (status, lines) == (200, [])
        assert "wsrec_build_info" in text
        assert "# EOF" not in text

    def test_a_failure_is_a_line_and_many_are_folded(self, served, monkeypatch, capfd):
        def broken(state: object) -> None:
            raise ValueError("broken")

        monkeypatch.setattr("wsrec.supervise.metrics_server.is_ready", broken)
        server, lines = served
        for _ in range(5):
            with pytest.raises(OSError):
                get(server.url.replace("/metrics", "/readyz"))
        assert [line.message for line in lines] == ["a request for metrics could not be answered: ValueError: broken"]
        assert capfd.readouterr().err == ""


class TestAddress:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("9464", Listen("127.0.0.1", 9464)),
            (":9464", Listen("127.0.0.1", 9464)),
            ("0.0.0.0:1", Listen("0.0.0.0", 1)),
            ("[::1]:9464", Listen("::1", 9464)),
            ("host-1.example:65535", Listen("host-1.example", 65535)),
        ],
    )
    def test_valid(self, text, expected):
        assert ListenType().parse(text) == expected
        assert ListenType().parse(str(expected)) == expected

    @pytest.mark.parametrize("text", ["", "x", "65536", "1.2.3.4", "::1:9464", "http://h:1", "h:1/x", "h h:1", "[]:1"])
    def test_not_valid(self, text):
        with pytest.raises(ValueError, match="expected a port of this machine"):
            ListenType().parse(text)

    def test_loopback(self):
        assert [is_loopback(host) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost")] == [True] * 4
        assert [is_loopback(host) for host in ("0.0.0.0", "::", "10.0.0.1", "example.org")] == [False] * 4


class TestValues:
    def test_hostile_names_are_escaped(self, tmp_path: Path):
        from prometheus_client import CollectorRegistry, generate_latest

        plans = [msgspec.structs.replace(PLANS[0], feed='evil"} 1\nwsrec_gaps_total 7')]
        registry = CollectorRegistry()
        registry.register(Collector(Recorder(tmp_path, plans).sampler))
        found = samples(generate_latest(registry).decode())
        assert found["wsrec_gaps_total", frozenset()] == 0
        assert ("wsrec_connection_up", frozenset({("feed", plans[0].feed), ("conn", "0")})) in found

    def test_buckets(self):
        ns = np.array([0, 999, 1000, 1001, 5_000_000, 20_000_000_000])
        found, total = buckets(bucket_counts(ns))
        counts = dict(found)
        assert [bound for bound, _ in found] == [*map(str, BOUNDS), "+Inf"]
        # each is counted below a bound that is at most one of the finer buckets away
        assert counts["1e-06"] in (1, 2, 3, 4)
        assert counts["2e-06"] == 4
        assert counts["0.01"] == 5
        assert counts["10.0"] == 5
        assert counts["+Inf"] == 6
        assert total == pytest.approx(ns.sum() / 1e9, rel=1 / 100)
        assert len(FLOOR) == BUCKETS + 1

    def test_they_are_documented(self):
        assert metrics_table() in PAGE.read_text(), "run scripts/update-docs"

    def test_none_is_named_twice(self):
        names = [each.name for each in METRICS]
        assert len({*names}) == len(names)
        assert all(each.name.endswith("_total") == (each.kind == "counter") for each in METRICS)


class TestProbes:
    @pytest.mark.parametrize("case", CASES)
    def test_ready(self, healthy, case):  # noqa: F811
        change, kind, _ = CASES[case]
        assert is_ready(healthy)
        assert is_ready(change(healthy)) is (kind in PAST)
        assert not is_ready(msgspec.structs.replace(healthy, phase="finishing"))

    def test_alive(self, healthy, monkeypatch):  # noqa: F811
        monkeypatch.setattr("wsrec.supervise.health.time.monotonic", lambda: 1000.0)
        assert unwell(healthy, 1000.0) is None
        assert unwell(healthy, 900.0) == "the supervisor has hung for 100 s"
        assert unwell(changed(healthy, 0, state="down"), 1000.0) is None
        dead = msgspec.structs.replace(healthy.processes[1], heartbeat_ns=BEAT_DEAD_NS + 1)
        hanging = msgspec.structs.replace(healthy, processes=(dead,))
        assert unwell(hanging, 1000.0) == "the writer has had no heartbeat for 90 s"
        assert unwell(msgspec.structs.replace(hanging, disk_trouble=True), 1000.0) is None
        assert unwell(msgspec.structs.replace(hanging, phase="finishing"), 1000.0) is None
