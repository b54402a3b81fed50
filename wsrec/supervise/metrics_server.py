"""`--metrics`: an HTTP server of metrics and probes in the supervisor, on threads of its own.

    /metrics   Prometheus' text, or OpenMetrics if it is asked for
    /healthz   200 while the recorder and its processes live, else 503; one line
    /readyz    200 while every connection is up and the writer keeps up, else 503; one line

Whoever reaches the address can read it: there is no password. It neither takes nor reveals secrets.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import http.server
import ipaddress
import socket
import sys
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from wsrec.ipc import LogLine
from wsrec.log_folding import FoldedWarnings
from wsrec.options.value_types import Listen
from wsrec.supervise.health import is_ready, problems, unwell
from wsrec.version import __version__

if TYPE_CHECKING:
    from wsrec.supervise.state_sampler import StateSampler

# tries of an address that cannot be used: the one that a replaced recorder frees, and any other (s)
_RETRY_REPLACING, _RETRY = 0.5, 2.0
# of a request, from its connection to the last byte of the answer (s)
_PATIENCE = 5.0
_MOST_AT_ONCE = 16
# threads of those that were dropped, and have not ended yet, count here
_MOST_THREADS = 4 * _MOST_AT_ONCE
_POLL = 0.1
_TEXT = "text/plain; charset=utf-8"


async def serve(
    where: Listen, sampler: StateSampler, on_log: Callable[[LogLine], None], is_replacing: Callable[[], bool]
) -> None:
    """Serve until cancelled; an address that cannot be used yet is tried again, and the recording goes on without.

    Args:
        where: the address.
        sampler: the recording.
        on_log: called with each line for the operator, in another thread.
        is_replacing: whether this recorder waits for the end of another one, which may have the address.

    """
    serving = _Serving(where, sampler, on_log, is_replacing)
    serving.start()
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        # in a thread, because it waits for the server
        threading.Thread(target=serving.stop, daemon=True).start()


class _Serving(threading.Thread):
    """Binds, which may wait for DNS, and serves. A daemon: nothing waits for either when the recording ends."""

    def __init__(
        self,
        where: Listen,
        sampler: StateSampler,
        on_log: Callable[[LogLine], None],
        is_replacing: Callable[[], bool],
    ) -> None:
        super().__init__(name="metrics", daemon=True)
        self._where, self._sampler, self._on_log, self._is_replacing = where, sampler, on_log, is_replacing
        self._stopped = threading.Event()
        self._server: Server | None = None

    def run(self) -> None:
        listening = self._bound()
        if listening is None:
            return
        server = self._server = Server(listening, self._sampler, self._on_log)
        note = "" if is_loopback(self._where.host) else "; whoever reaches it can read them, without a password"
        self._on_log(LogLine(level="info", message=f"metrics: {server.url}{note}"))
        if self._stopped.is_set():
            server.server_close()
        else:
            server.serve_forever(_POLL)

    def stop(self) -> None:
        """Stop answering, and free the address."""
        self._stopped.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def _bound(self) -> socket.socket | None:
        """Listen at the address, once that is possible; None if stopped before."""
        said: set[str] = set()
        while not self._stopped.is_set():
            try:
                return _listening(self._where)
            except OSError as error:
                replacing = error.errno == errno.EADDRINUSE and self._is_replacing()
                line = self._waiting(error, replacing=replacing)
            if line.message not in said:
                said.add(line.message)
                self._on_log(line)
            self._stopped.wait(_RETRY_REPLACING if replacing else _RETRY)
        return None

    def _waiting(self, error: OSError, *, replacing: bool) -> LogLine:
        where = self._where
        if replacing:
            return LogLine(level="info", message=f"metrics: {where} is taken over once the other recorder frees it")
        message = f"no metrics yet: nothing can listen at {where}: {error.strerror or error}"
        hint = "it is recorded without, and the address is tried again; choose another --metrics if it stays so"
        return LogLine(level="warning", message=message, hint=hint)


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listening(where: Listen) -> socket.socket:
    """A socket that listens there.

    Raises:
        OSError: it cannot, for now.

    """
    try:
        found = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except UnicodeError as error:
        raise OSError(f"{where.host} cannot be a name of a host") from error
    family, kind, protocol, _, address = found[0]
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
    """The HTTP server; some requests at once, a thread each. The oldest gives way to a newcomer.

    So who is slow, on purpose or not, keeps nobody else from an answer, which takes milliseconds.

    Args:
        listening: a listening socket.
        sampler: the recording.
        on_log: called with each line for the operator.

    """

    daemon_threads = True

    def __init__(self, listening: socket.socket, sampler: StateSampler, on_log: Callable[[LogLine], None]) -> None:
        address: Any = listening.getsockname()
        super().__init__(address[:2], _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.sampler = sampler
        self._on_log = on_log
        self._folded = FoldedWarnings(self._warn, at_once=1)
        self._slots = threading.BoundedSemaphore(_MOST_THREADS)
        # of `_open` and `_folded`
        self._lock = threading.Lock()
        # the requests, the oldest first, with the monotonic time (s) by which each must have its answer
        self._open: dict[Any, float] = {}
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        self.url = f"http://{host}:{address[1]}/metrics"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread; if there are too many, hang up on the oldest."""
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        with self._lock:
            if len(self._open) >= _MOST_AT_ONCE:
                self._drop(next(iter(self._open)))
            self._open[request] = time.monotonic() + _PATIENCE
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer a request."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Hang up on those whose time is over; called every poll."""
        with self._lock:
            now = time.monotonic()
            for request in [request for request, until in self._open.items() if until <= now]:
                self._drop(request)
            self._folded.due()

    def _drop(self, request: Any) -> None:
        """Hang up: its thread, which waits for the client, ends then."""
        del self._open[request]
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that is gone is no news; anything else is, in a line."""
        error = sys.exception()
        if not isinstance(error, OSError):
            message = f"a request for metrics could not be answered: {type(error).__name__}: {error}"
            with self._lock:
                self._folded.warn("", "requests without an answer", message)

    def _warn(self, message: str, hint: str | None = None, *, count: int = 1, **_: Any) -> None:
        self._on_log(LogLine(level="warning", message=message, hint=hint, count=count))


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
        try:
            encode, kind = choose_encoder(self.headers.get("Accept", ""))
        except TypeError:
            # a version that is no number, such as 1e999
            encode, kind = choose_encoder("")
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
