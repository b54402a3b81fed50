"""An HTTPS server for tests, on loopback in a thread of its own."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import trustme

from tests.proxies import HOST

Answer = tuple[int, dict[str, str], bytes]


class Https:
    """Answers every request with what `answer` gives for it.

    Attributes:
        url: where it is.
        requested: method, path and body of every request.
    """

    def __init__(self, authority: trustme.CA, answer: Callable[[str], Any]) -> None:
        self.requested: list[tuple[str, str, bytes]] = []
        requested = self.requested

        class Handler(BaseHTTPRequestHandler):
            def respond(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                requested.append((self.command, self.path, body))
                found = answer(self.path)
                status, headers, data = found if isinstance(found, tuple) else (200, {}, json.dumps(found).encode())
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = respond  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost", HOST).configure_cert(context)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://localhost:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)
