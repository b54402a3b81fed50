"""`--metrics`: an HTTP server of metrics and probes in the supervisor, on threads of its own.

    /metrics   Prometheus' text, or OpenMetrics if it is asked for
    /healthz   200 while the recorder and its processes live, else 503; one line
    /readyz    200 while every connection is up and the writer keeps up, else 503; one line

Whoever reaches the address can read it: there is no password. It neither takes nor reveals secrets.
"""

from __future__ import annotations

import asyncio
import errno
import http.server
import ipaddress
import socket
import sys
import threading
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from wsrec.feed.errors import OptionError
from wsrec.ipc import LogLine
from wsrec.options.value_types import Listen
from wsrec.supervise.health import is_ready, problems, unwell
from wsrec.version import __version__

if TYPE_CHECKING:
    from wsrec.supervise.state_sampler import StateSampler

_RETRY = 0.5
# of a request that does not come, or of a reader that takes nothing (s)
_PATIENCE = 5.0
_MOST_AT_ONCE = 16
_TEXT = "text/plain; charset=utf-8"


def bind(where: Listen, *, wait: bool) -> socket.socket | None:
    """Listen at an address; None if it is in use and this recorder may wait until the one that it replaces frees it.

    Raises:
        OptionError: it cannot be used.

    """
    try:
        return _listening(where)
    except OSError as error:
        if wait and error.errno == errno.EADDRINUSE:
            return None
        problem = f"found {where}, where nothing can listen: {error.strerror or error}; choose another port or address"
        raise OptionError("metrics", problem) from error


async def serve(
    where: Listen, listening: socket.socket | None, sampler: StateSampler, on_log: Callable[[LogLine], None]
) -> None:
    """Serve until cancelled.

    Args:
        where: the address.
        listening: bound to it; None to bind as soon as it is free.
        sampler: the recording.
        on_log: called with each line for the operator.

    """
    if listening is None:
        on_log(LogLine(level="info", message=f"metrics: {where} is taken over once the other recorder frees it"))
        while listening is None:
            await asyncio.sleep(_RETRY)
            try:
                listening = bind(where, wait=True)
            except OptionError as error:
                on_log(LogLine(level="error", message=f"no metrics: {error.problem}"))
                return
    server = Server(listening, sampler)
    on_log(LogLine(level="info", message=f"metrics: {server.url}"))
    if not is_loopback(where.host):
        message = f"metrics: whoever reaches {where} can read them, without a password"
        hint = "bind 127.0.0.1 unless a firewall or a proxy with authentication is in front of it"
        on_log(LogLine(level="warning", message=message, hint=hint))
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="metrics", daemon=True)
    thread.start()
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        # in a thread, because it waits for the loop
        threading.Thread(target=server.stop, daemon=True).start()


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listening(where: Listen) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        where.host, where.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
        made.listen(_MOST_AT_ONCE)
    except OSError:
        made.close()
        raise
    return made


class Server(http.server.ThreadingHTTPServer):
    """The HTTP server; at most some requests at once, a thread each.

    Args:
        listening: a listening socket.
        sampler: the recording.

    """

    daemon_threads = True

    def __init__(self, listening: socket.socket, sampler: StateSampler) -> None:
        address: Any = listening.getsockname()
        super().__init__(address[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.sampler = sampler
        self._free = threading.BoundedSemaphore(_MOST_AT_ONCE)
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        self.url = f"http://{host}:{address[1]}/metrics"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, or hang up if there are too many."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer a request."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that is gone is no news; anything else is in the log, as what is written to standard error is."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def stop(self) -> None:
        """Stop answering, and free the address."""
        self.shutdown()
        self.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    timeout = _PATIENCE
    server_version, sys_version = f"wsrec/{__version__}", ""

    def do_GET(self) -> None:
        """Answer."""
        match self.path.partition("?")[0]:
            case "/metrics":
                self._answer(HTTPStatus.OK, *self._metrics())
            case "/healthz":
                self._probe(unwell(self.server.sampler.state(), self.server.sampler.ticked))
            case "/readyz":
                state = self.server.sampler.state()
                self._probe(None if is_ready(state) else _not_ready(state))
            case _:
                self._answer(HTTPStatus.NOT_FOUND, b"/metrics, /healthz and /readyz are here\n", _TEXT)

    do_HEAD = do_GET  # noqa: N815 (the name of http.server)

    def _metrics(self) -> tuple[bytes, str]:
        from prometheus_client import CollectorRegistry
        from prometheus_client.exposition import choose_encoder

        from wsrec.supervise.metrics import Collector

        registry = CollectorRegistry(auto_describe=False)
        registry.register(Collector(self.server.sampler))
        encode, kind = choose_encoder(self.headers.get("Accept", ""))
        return encode(registry), kind

    def _probe(self, problem: str | None) -> None:
        status = HTTPStatus.OK if problem is None else HTTPStatus.SERVICE_UNAVAILABLE
        self._answer(status, f"{problem or 'ok'}\n".encode(), _TEXT)

    def _answer(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the name of http.server)
        """Requests are no news."""


def _not_ready(state: Any) -> str:
    found = [each.text for each in problems(state)]
    return f"{state.phase}: {'; '.join(found)}" if found else str(state.phase)
