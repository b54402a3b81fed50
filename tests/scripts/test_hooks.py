"""scripts/hooks: each recipe against an endpoint on loopback."""

from __future__ import annotations

import email
import hashlib
import json
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
import time
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

HOOKS = Path(__file__).parents[2] / "scripts" / "hooks"
EVENT = {
    "hook": "event",
    "out": "/data",
    "time": "2026-11-22T13:00:00.000Z",
    "kind": "gap",
    "level": "warning",
    "feed": "okx",
    "conn": 3,
    "message": "gap in <!channel> & more",
    "hint": None,
}
CLEAN_END = {**EVENT, "kind": "end", "level": "info"}


def run(name: str, *words: object, given: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, HOOKS / name, *map(str, words)],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def finished(tmp_path):
    """A pair of finished files, as `--on-file` is told of it."""
    line = {"feed": "okx", "session": "s", "number": 1}
    given = {"hook": "file", "out": str(tmp_path / "out"), "line": line}
    for key, digest, content in (("path", "sha256", b"rows"), ("events_path", "events_sha256", b"events")):
        line[key] = f"{key}/feed=okx/s-000001.parquet"
        path = tmp_path / "out" / line[key]
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        line[digest], given[key] = hashlib.sha256(content).hexdigest(), str(path)
    return given


class TestUpload:
    def test_to_webdav_by_rclone(self, tmp_path, finished):
        if shutil.which("rclone") is None:
            pytest.skip("rclone is not installed")
        remote = tmp_path / "remote"
        remote.mkdir()
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        config = ("--config", tmp_path / "none")
        server = subprocess.Popen(
            ["rclone", *config, "serve", "webdav", remote, "--addr", f"127.0.0.1:{port}"], stderr=subprocess.DEVNULL
        )
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    assert time.monotonic() < deadline
                    time.sleep(0.05)
            destination = f":webdav,url='http://127.0.0.1:{port}':captures"
            for _ in range(2):
                result = run("upload", destination, "rclone", *config, "copyto", given=finished)
                assert result.returncode == 0, result.stderr
        finally:
            server.terminate()
            server.wait()
        line = finished["line"]
        assert (remote / "captures" / line["path"]).read_bytes() == b"rows"
        assert (remote / "captures" / line["events_path"]).read_bytes() == b"events"
        assert json.loads((remote / "captures" / "manifest" / "okx-s-000001.json").read_text()) == line

    def test_what_is_not_the_manifests_file_is_not_uploaded(self, tmp_path, finished):
        Path(finished["events_path"]).write_bytes(b"other")
        result = run("upload", tmp_path / "remote", "install", "-D", given=finished)
        assert result.returncode == 1
        assert "is not the file of its manifest line" in result.stderr
        assert not (tmp_path / "remote" / "manifest").exists()

    def test_a_pair_without_messages_and_a_command_that_fails(self, tmp_path, finished):
        finished["path"] = finished["line"]["path"] = None
        assert run("upload", tmp_path / "remote", "install", "-D", given=finished).returncode == 0
        assert (tmp_path / "remote" / "manifest" / "okx-s-000001.json").exists()
        failed = run("upload", tmp_path / "remote", "false", given=finished)
        assert (failed.returncode, failed.stderr.count("false ended with status 1")) == (1, 1)


class Webhook(ThreadingHTTPServer):
    """Takes what is posted."""

    def __init__(self, status: int = 200) -> None:
        posted = self.posted = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                posted.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/services/s3cret"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()


class TestSlack:
    def test_an_event_is_posted_and_a_clean_end_is_not(self, tmp_path):
        with Webhook() as server:
            (tmp_path / "url").write_text(f"{server.url}\n")
            for event in (EVENT, CLEAN_END):
                result = run("slack", tmp_path / "url", given=event)
                assert result.returncode == 0, result.stderr
            server.shutdown()
        ((path, body),) = server.posted
        assert path == "/services/s3cret"
        text = "warning gap okx 3: gap in &lt;!channel&gt; &amp; more (/data, 2026-11-22T13:00:00.000Z)"
        assert body == {"text": text}

    def test_a_failure_does_not_name_the_secret(self, tmp_path):
        with Webhook(status=403) as server:
            (tmp_path / "url").write_text(server.url)
            refused = run("slack", tmp_path / "url", given=EVENT)
            server.shutdown()
        unreachable = run("slack", tmp_path / "url", given=EVENT)
        (tmp_path / "url").write_text("s3cret")
        wrong = run("slack", tmp_path / "url", given=EVENT)
        assert [refused.returncode, unreachable.returncode, wrong.returncode] == [1, 1, 1]
        assert "HTTP 403" in refused.stderr
        assert "cannot be reached" in unreachable.stderr
        assert "s3cret" not in refused.stderr + unreachable.stderr + wrong.stderr


class MailServer(socketserver.ThreadingTCPServer):
    """As much of SMTP (RFC 5321) as it takes to get a mail."""

    def __init__(self) -> None:
        mails = self.mails = []

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.wfile.write(b"220 here\r\n")
                while line := self.rfile.readline():
                    match line.split()[0].upper():
                        case b"DATA":
                            self.wfile.write(b"354 go on\r\n")
                            mails.append(b"".join(iter(self.rfile.readline, b".\r\n")))
                            self.wfile.write(b"250 taken\r\n")
                        case b"QUIT":
                            self.wfile.write(b"221 bye\r\n")
                            return
                        case _:
                            self.wfile.write(b"250 fine\r\n")

        super().__init__(("127.0.0.1", 0), Handler)
        self.daemon_threads = True
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()


class TestMail:
    def test_an_event_is_mailed_and_a_clean_end_is_not(self):
        with MailServer() as server:
            address = f"127.0.0.1:{server.server_address[1]}"
            for event in (EVENT, CLEAN_END):
                result = run("mail", "ops@example.com", address, given=event)
                assert result.returncode == 0, result.stderr
            server.shutdown()
        (data,) = server.mails
        mail = email.message_from_bytes(data, policy=default)
        assert mail["To"] == "ops@example.com"
        assert mail["Subject"].startswith("wsrec: warning: gap okx on ")
        assert mail.get_content().startswith(EVENT["message"])

    def test_without_a_server(self):
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        result = run("mail", "ops@example.com", f"127.0.0.1:{port}", given=EVENT)
        assert result.returncode == 1
        assert "takes no mail" in result.stderr


def test_each_says_how_it_is_used():
    for name in ("upload", "slack", "mail"):
        result = subprocess.run([sys.executable, HOOKS / name], capture_output=True, text=True, check=False)
        assert result.returncode == 1
        assert f"    {name} " in result.stderr
