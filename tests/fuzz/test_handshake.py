"""Answers of a hostile server to the opening handshake: refused with a reason, never followed elsewhere."""

from __future__ import annotations

import socket
import threading

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.effort import examples, thinned
from wsrec.wire.errors import HandshakeError, HandshakeRefused
from wsrec.wire.handshake import MAX_HEAD, Handshake

pieces = st.sampled_from(
    [
        b"HTTP/1.1 101 Switching Protocols\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: ws://elsewhere/\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.0 101 x\r\n",
        b"HTTP/1.1 429 \r\nRetry-After: 99999999999999999999\r\n",
        b"Upgrade: websocket\r\n",
        b"Connection: Upgrade\r\n",
        b"Sec-WebSocket-Accept: x\r\n",
        b"Sec-WebSocket-Extensions: permessage-deflate\r\n",
        b"Content-Length: 18446744073709551616\r\n",
        b"Content-Length: -1\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"ffffffffffffffff\r\n",
        b"\r\n",
        b"\r\n\r\n",
        b"\n",
        b"\0",
        b"X: " + b"a" * 9000 + b"\r\n",
    ]
)


def answer(parts: list[bytes]) -> Handshake:
    handshake = Handshake("ws://host/", {})
    handshake.request()
    for part in parts:
        taken = handshake.feed(memoryview(part))
        assert 0 <= taken <= len(part)
        if handshake.complete:
            return handshake
    handshake.eof()
    return handshake


class TestAnswers:
    @settings(deadline=None, max_examples=examples(400))
    @given(st.lists(pieces | st.binary(max_size=60), max_size=12))
    @example([b"HTTP/1.1 101 \xff\r\n\r\n"])
    @example([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", b"ab"])
    def test_any_answer_is_refused_with_a_reason(self, parts):
        with pytest.raises((HandshakeError, HandshakeRefused)) as caught:
            answer(parts)
        assert str(caught.value)

    @pytest.mark.parametrize("line", [b"X-Filler: " + b"a" * 100 + b"\r\n", b"a"])
    def test_headers_without_end(self, line):
        handshake = Handshake("ws://host/", {})
        handshake.request()
        handshake.feed(memoryview(b"HTTP/1.1 101 x\r\n"))
        for _ in range(MAX_HEAD // (50 * len(line)) - 1):
            handshake.feed(memoryview(line * 50))
        with pytest.raises(HandshakeError, match="larger than"):
            handshake.feed(memoryview(line * 100))

    @pytest.mark.parametrize("status", thinned([301, 302, 303, 307, 308]))
    def test_a_redirect_is_never_followed(self, wsrec, tmp_path, status):
        with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
            second.setblocking(False)
            where = f"ws://127.0.0.1:{second.getsockname()[1]}/"

            def redirect() -> None:
                client, _ = first.accept()
                with client:
                    client.recv(65536)
                    client.sendall(f"HTTP/1.1 {status} x\r\nLocation: {where}\r\nContent-Length: 0\r\n\r\n".encode())

            thread = threading.Thread(target=redirect)
            thread.start()
            url = f"ws://127.0.0.1:{first.getsockname()[1]}/"
            result = wsrec.run("record", url, "--duration", "5s", "--out", tmp_path, "--quiet")
            thread.join(10)
            with pytest.raises(BlockingIOError):
                second.accept()
        assert result.returncode == 1
        assert str(status) in result.stderr
