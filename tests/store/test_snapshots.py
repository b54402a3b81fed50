"""Snapshots over HTTP, from a real server on loopback into the files."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.conftest import events_of, messages_of
from wsrec.store import snapshots
from wsrec.store.snapshots import SnapshotError, fetch
from wsrec.trust import tls_context

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
    """Starts an HTTP server that answers each path in turn; `asked` has what came."""
    servers = []

    def start(answers, context=None):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.asked.append(self.path)
                status, headers, body = answers.pop(0) if len(answers) > 1 else answers[0]
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.asked = []
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


class TestFetch:
    def test_over_tls_with_the_ca_that_was_given(self, web, authority, ca_file):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(context)
        server = web([(200, {}, b"{}")], context)
        assert fetch(f"{server.url}/x?a=b", tls_context(str(ca_file))) == b"{}"
        assert server.asked == ["/x?a=b"]
        with pytest.raises(SnapshotError, match="certificate verify failed"):
            fetch(server.url, tls_context(None))

    def test_a_redirect_is_followed_on_the_same_host_only(self, web):
        server = web([(302, {"Location": "/there"}, b""), (200, {}, b"[1]")])
        assert fetch(f"{server.url}/here", tls_context(None)) == b"[1]"
        away = web([(302, {"Location": f"{server.url}/there"}, b"")])
        with pytest.raises(SnapshotError, match="another host"):
            fetch(away.url, tls_context(None))
        assert server.asked == ["/here", "/there"]

    def test_a_body_without_end_is_refused(self, web, monkeypatch):
        monkeypatch.setattr(snapshots, "BODY_MAX", 1 << 20)
        server = web([(200, {}, bytes(2 << 20))])
        with pytest.raises(SnapshotError, match="larger than 1 MiB"):
            fetch(server.url, tls_context(None))

    @pytest.mark.parametrize(
        ("status", "headers", "wait"),
        [(429, {"Retry-After": "7"}, 7), (418, {}, 60), (500, {}, None), (429, {"Retry-After": "soon"}, 60)],
    )
    def test_how_long_the_exchange_wants_to_be_left_alone(self, web, status, headers, wait):
        with pytest.raises(SnapshotError, match=str(status)) as caught:
            fetch(web([(status, headers, b"")]).url, tls_context(None))
        assert caught.value.wait == wait


class TestRecorded:
    def test_at_the_start_and_after_a_gap_beside_the_live_rows(self, wsrec, exchange, web, tmp_path):
        body = b'{"lastUpdateId":41,"bids":[]}'
        server = web([(503, {"Retry-After": "0"}, b""), (200, {}, body)])

        async def handler(connection):
            await connection.recv()
            for number in [1, 2, 5, 6]:
                await connection.send(json.dumps({"c": "book", "s": "AB", "n": number}))
            deadline = time.monotonic() + 30
            while len(server.asked) < 2 and time.monotonic() < deadline:
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.5)
            await connection.send(json.dumps({"c": "book", "s": "AB", "n": 7}))

        live = exchange(handler)
        (tmp_path / "books.yaml").write_text(FEED.format(url=live.url, http=server.url))
        result = wsrec.run("record", tmp_path / "books.yaml", "--until-close", "--json", "--out", tmp_path / "out")
        assert result.returncode == 4, result.stderr
        said = json.loads(result.stdout)
        assert (said["messages"], said["gaps"]) == (5, 1)
        assert set(server.asked) == {"/depth?symbol=AB"}
        columns = ["seq", "direction", "conn", "channel", "symbol", "exchange_seq", "text"]
        rows = messages_of(tmp_path / "out").select(columns).to_pylist()
        assert [row["seq"] for row in rows] == list(range(len(rows)))
        fetched = [row for row in rows if row["direction"] == "rest"]
        assert {(r["conn"], r["channel"], r["symbol"], r["exchange_seq"], r["text"]) for r in fetched} == {
            (0, "book", "AB", 41, body.decode())
        }
        (failed,) = events_of(tmp_path / "out", "snapshot_failed")
        assert (failed["channel"], failed["symbol"], failed["detail"]["message"]) == ("book", "AB", "HTTP status 503")
        told = events_of(tmp_path / "out", "snapshot")
        assert len(told) == len(fetched)
        assert all(row["detail"]["bytes"] == len(body) for row in told)
        for command in (["verify"], ["report"]):
            checked = wsrec.run(*command, tmp_path / "out", "--json")
            assert checked.returncode in (0, 4), checked.stdout + checked.stderr
            assert "contradiction" not in checked.stdout, checked.stdout
