"""Snapshots over HTTP, from a real server on loopback into the files."""

from __future__ import annotations

import asyncio
import itertools
import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.conftest import events_of, messages_of
from tests.http.drip import POINTS, Drip
from wsrec.writer.snapshots import SnapshotRequest, SnapshotThread

FEED = """
name: books
description: numbered books and where their whole state is
sockets: {{main: {{url: "{url}"}}}}
symbols: {{pattern: '[A-Z]+', words: capital letters, example: AB}}
default_symbols: [AB]
subscribe: {{message: '{{"topics":{{topics}},"id":{{id}}}}', batch: 100}}
limits: {{streams_per_connection: 100, messages_per_second: 100, connects: 100, connects_interval: 1}}
fields: {{channel: [c], symbol: [s]}}
channels:
  book:
    topic: "book.{{symbol}}"
    default: true
    exchange_seq: [n]
    sequence: next
    on_gap: snapshot
    snapshot: {{url: "{http}/depth?symbol={{symbol}}", at_start: true, interval: 0.05, exchange_seq: [lastUpdateId]}}
"""


@pytest.fixture
def web():
    """Starts an HTTP server that answers each path in turn; `requested` has the requests."""
    servers = []

    def start(answers, context=None):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.requested.append(self.path)
                status, headers, body = answers.pop(0) if len(answers) > 1 else answers[0]
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.requested = []
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        server.url = f"http{'s' if context else ''}://localhost:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def request(url: str, stream: int = 0, **options) -> SnapshotRequest:
    about = {"feed": "f", "conn": 0, "channel": "c", "symbol": "S", "interval": 0.0, "reason": "start"}
    return SnapshotRequest(**{**about, "url": url, "public_url": "shown", "stream": stream, **options})


@pytest.fixture
def work(ca_file):
    thread = SnapshotThread(str(ca_file))
    thread.start()
    yield thread
    thread.stop()


@pytest.fixture
def hangs(authority):
    """A host whose answer has no end."""
    server = Drip(*POINTS["chunk size"][:2], authority=authority)
    yield server
    server.stop()


def until(condition, within=30.0):
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.01)


def reported(work):
    return [(fetched.request.stream, fetched.event.kind, fetched.event.detail) for fetched in work.done]


class TestThread:
    def test_over_tls_with_the_ca_that_was_given_and_a_redirect_on_the_same_host(self, work, web, authority):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(context)
        server = web([(302, {"Location": "/there"}, b""), (200, {}, b"[1]")], context)
        work.request(request(f"{server.url}/here?a=b"))
        until(lambda: work.done)
        assert [fetched.body for fetched in work.done] == [b"[1]"]
        assert server.requested == ["/here?a=b", "/there"]

    def test_a_host_that_hangs_delays_its_own_alone(self, work, web, hangs):
        server = web([(200, {}, b"{}")])
        for stream in range(3):
            work.request(request(hangs.url, stream))
        until(lambda: hangs.requested)
        for stream in range(3, 6):
            work.request(request(server.url, stream))
        until(lambda: len(work.done) == 3)
        assert [stream for stream, _, _ in reported(work)] == [3, 4, 5]
        times = [fetched.time for fetched in work.done]
        assert times == sorted(times)
        assert len(hangs.requested) == 1

    def test_the_end_does_not_wait_and_says_what_did_not_come(self, work, hangs):
        work.request(request(hangs.url))
        until(lambda: hangs.requested)
        began = time.monotonic()
        work.stop()
        assert time.monotonic() - began < 1
        ((_, kind, detail),) = reported(work)
        assert (kind, detail["cause"], detail["retry_s"]) == ("snapshot_failed", "timeout", None)
        assert detail["message"] == f"localhost:{hangs.port} did not answer before the session's end"

    def test_the_end_says_what_was_waiting(self, work, hangs, capsys):
        for stream in range(3):
            work.request(request(hangs.url, stream))
        work.request(request(hangs.url, 3, wait=1000.0, feed="g", what="instrument listing"))
        until(lambda: hangs.requested)
        work.stop()
        assert [(stream, detail["cause"]) for stream, _, detail in reported(work)] == [
            *((0, "timeout"), (1, "session_end"), (2, "session_end"), (3, "session_end"))
        ]
        assert {kind for _, kind, _ in reported(work)} == {"snapshot_failed"}
        message = reported(work)[1][2]["message"]
        assert message == f"localhost:{hangs.port} was not asked before the session's end"
        said = capsys.readouterr().err
        assert "[f] 2 snapshots not fetched before the session's end" in said
        assert "[g] 1 instrument listing not fetched before the session's end" in said
        work.request(request(hangs.url, 9))
        assert "[f 0] no snapshot from shown: the session ended" in capsys.readouterr().err
        assert len(work.done) == 4

    @pytest.mark.parametrize(("body", "problem"), [(b"", "it is empty"), (b"<html>later", "it is not JSON")])
    def test_what_is_no_snapshot_is_stored_said_and_fetched_again(self, work, web, capsys, body, problem):
        server = web([(200, {}, body), (200, {}, b"{}")])
        work.request(request(f"{server.url}/secret"))
        until(lambda: len(work.done) == 2)
        (_, kind, detail), (_, _, good) = reported(work)
        assert (kind, detail["problem"], detail["bytes"]) == ("snapshot", problem, len(body))
        assert 0 < detail["retry_s"] < 1
        assert work.done[0].body == body
        assert "problem" not in good
        said = capsys.readouterr().err
        assert f"[f 0] no snapshot from shown: {problem}" in said
        assert "/secret" not in said

    @pytest.mark.parametrize(
        ("status", "headers", "least", "most"),
        [
            (429, {"Retry-After": "7"}, 7, 8),
            (418, {}, 60, 120),
            (429, {"Retry-After": "soon"}, 60, 120),
            (429, {"Retry-After": "0"}, 60, 120),
            (429, {"Retry-After": "999999"}, 3600, 3600),
            (500, {}, 0, 0.5),
        ],
    )
    def test_how_long_the_exchange_wants_to_be_left_alone(self, work, web, status, headers, least, most):
        server = web([(status, headers, b"")])
        work.request(request(server.url))
        until(lambda: work.done)
        _, kind, detail = reported(work)[0]
        assert kind == "snapshot_failed"
        assert f"localhost:{server.server_port} answered HTTP {status}" in detail["message"]
        assert detail["cause"] == ("http" if status == 500 else "limited")
        assert least <= detail["retry_s"] <= most

    def test_a_host_that_is_asked_too_often_is_left_alone_by_every_feed(self, work, web):
        server, other = web([(429, {}, b"")]), web([(200, {}, b"{}")])
        work.request(request(server.url, feed="one"))
        until(lambda: work.done)
        for stream in range(1, 4):
            work.request(request(server.url, stream, feed="two"))
        work.request(request(other.url, 4, feed="two"))
        until(lambda: len(work.done) == 2)
        assert reported(work)[1][0] == 4
        assert len(server.requested) == 1

    def test_the_feed_s_own_interval(self, work, web):
        server = web([(200, {}, b"{}")])
        for stream in range(3):
            work.request(request(server.url, stream, interval=0.3))
        until(lambda: len(work.done) == 3)
        assert [stream for stream, _, _ in reported(work)] == [0, 1, 2]
        times = [fetched.time for fetched in work.done]
        assert all(after - before >= 0.3e9 for before, after in itertools.pairwise(times))


class TestRecorded:
    @pytest.mark.long
    def test_at_the_start_and_after_a_gap_beside_the_live_rows(self, wsrec, exchange, web, tmp_path):
        body = b'{"lastUpdateId":41,"bids":[]}'
        server = web([(503, {"Retry-After": "0"}, b""), (200, {}, body)])

        async def handler(connection):
            await connection.recv()
            for number in [1, 2, 5, 6]:
                await connection.send(json.dumps({"c": "book", "s": "AB", "n": number}))
            deadline = time.monotonic() + 30
            while len(server.requested) < 2 and time.monotonic() < deadline:
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.5)
            await connection.send(json.dumps({"c": "book", "s": "AB", "n": 7}))

        live = exchange(handler)
        (tmp_path / "books.yaml").write_text(FEED.format(url=live.url, http=server.url))
        result = wsrec.run("record", tmp_path / "books.yaml", "--until-close", "--json", "--out", tmp_path / "out")
        assert result.returncode == 4, result.stderr
        stated = json.loads(result.stdout)
        assert (stated["messages"], stated["gaps"]) == (5, 1)
        assert set(server.requested) == {"/depth?symbol=AB"}
        columns = ["seq", "direction", "conn", "channel", "symbol", "exchange_seq", "text"]
        rows = messages_of(tmp_path / "out").select(columns).to_pylist()
        assert [row["seq"] for row in rows] == list(range(len(rows)))
        fetched = [row for row in rows if row["direction"] == "rest"]
        assert {(r["conn"], r["channel"], r["symbol"], r["exchange_seq"], r["text"]) for r in fetched} == {
            (0, "book", "AB", 41, body.decode())
        }
        (failed,) = events_of(tmp_path / "out", "snapshot_failed")
        assert (failed["channel"], failed["symbol"], failed["detail"]["cause"]) == ("book", "AB", "http")
        assert failed["detail"]["message"] == f"localhost:{server.server_port} answered HTTP 503 Service Unavailable"
        reported = events_of(tmp_path / "out", "snapshot")
        assert len(reported) == len(fetched)
        assert all(row["detail"]["bytes"] == len(body) for row in reported)
        for command in (["verify"], ["report"]):
            checked = wsrec.run(*command, tmp_path / "out", "--json")
            assert checked.returncode in (0, 4), checked.stdout + checked.stderr
            assert "contradiction" not in checked.stdout, checked.stdout

    def test_one_that_hangs_does_not_delay_the_end(self, wsrec, exchange, hangs, ca_file, tmp_path):
        async def handler(connection):
            await connection.recv()
            await connection.send(json.dumps({"c": "book", "s": "AB", "n": 1}))
            await connection.wait_closed()

        feed = tmp_path / "books.yaml"
        feed.write_text(FEED.format(url=exchange(handler).url, http=hangs.url.partition("/secret")[0]))
        process = wsrec.start("record", feed, "--out", tmp_path / "out", "--ca-file", ca_file)
        until(lambda: hangs.requested or process.poll() is not None, 60)
        time.sleep(0.5)
        began = time.monotonic()
        process.terminate()
        _, log = process.communicate(timeout=120)
        # by itself it would end after 30 s
        assert time.monotonic() - began < 20, log
        (failed,) = events_of(tmp_path / "out", "snapshot_failed")
        assert failed["detail"]["message"] == f"localhost:{hangs.port} did not answer before the session's end"
