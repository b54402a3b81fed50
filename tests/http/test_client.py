"""One request over HTTP ends at its deadline wherever its server stops answering, and names the host."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.http.drip import CHUNKED, POINTS, Drip
from tests.receive.hosts import names
from wsrec.http import attempt
from wsrec.http.attempt import HttpError
from wsrec.http.client import fetch, fetch_async
from wsrec.net.resolver import Resolver
from wsrec.net.trust import tls_context

DEADLINE = 1.0
# what a machine under load may add; a server that drips is endless
LATE = 20.0


@pytest.fixture
def drip(authority):
    """Starts servers that stop answering; all are stopped at the end."""
    servers: list[Drip] = []

    def start(*what: Any, tls: bool = True, **options: Any) -> Drip:
        servers.append(Drip(*what, authority=authority if tls else None, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def context(ca_file) -> ssl.SSLContext:
    return tls_context(str(ca_file))


def until(condition: Callable[[], object], within: float = LATE) -> bool:
    deadline = time.monotonic() + within
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(condition())


def requests() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("request to")]


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@contextmanager
def nothing_left():
    """No thread of a request is there at the end, and no descriptor that was not there at the beginning."""
    before = open_files()
    yield
    assert until(lambda: not requests()), requests()
    assert until(lambda: open_files() <= before)


def waited_for(ask: Callable[[], object]) -> tuple[float, HttpError]:
    began = time.monotonic()
    with pytest.raises(HttpError) as caught:
        ask()
    return time.monotonic() - began, caught.value


def in_time(ask: Callable[[], object]) -> HttpError:
    """What it raised at its deadline; one that waits twice as long is late each time, however busy this machine is."""
    times = []
    for _ in range(3):
        took, error = waited_for(ask)
        times.append(took)
        if took < 2 * DEADLINE:
            return error
    pytest.fail(f"took {times} s each time, expected {DEADLINE} s")


def both(server: Drip, context: ssl.SSLContext) -> list[tuple[float, HttpError]]:
    """How long the function and the coroutine took, at the same time, and what they raised."""
    found: list[tuple[float, HttpError]] = []
    options: dict[str, Any] = {"context": context, "limit": 1 << 20, "timeout": DEADLINE}
    ways = (lambda: fetch(server.url, **options), lambda: asyncio.run(fetch_async(server.url, **options)))
    threads = [threading.Thread(target=lambda way=way: found.append(waited_for(way))) for way in ways]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(found) == 2
    return found


def check(found: list[tuple[float, HttpError]], server: Drip, words: str) -> None:
    # each waits as long if a deadline is set anew on the way; the other may have been held up by this machine
    assert min(took for took, _ in found) < 2 * DEADLINE
    for took, error in found:
        assert took + 0.05 >= DEADLINE
        assert took < DEADLINE + LATE
        assert error.cause == "timeout"
        assert str(error).startswith(f"localhost:{server.port} ")
        assert str(error).endswith(f"within {DEADLINE:g} s")
        assert words in str(error)
        assert "secret" not in str(error)


class TestDeadline:
    @pytest.mark.parametrize("point", POINTS)
    def test_a_server_that_stops_or_drips(self, drip, context, point):
        at_once, again, words = POINTS[point]
        dripping, silent = drip(at_once, again), drip(at_once + again)
        with nothing_left():
            found: dict[Drip, list[tuple[float, HttpError]]] = {}
            threads = [
                threading.Thread(target=lambda server=server: found.update({server: both(server, context)}))
                for server in (dripping, silent)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            check(found[dripping], dripping, words)
            check(found[silent], silent, "of its answer's")
            assert until(lambda: dripping.left == silent.left == 2), "a connection was left open"

    @pytest.mark.parametrize("stated", [b"", b"\x16\x03\x03\x20\x00"], ids=["nothing", "a record"])
    def test_in_the_tls_handshake(self, drip, context, stated):
        server = drip(stated, b"\x02" if stated else b"", tls=False)
        check(both(server, context), server, "did not finish the TLS handshake")
        assert until(lambda: server.left == 2)

    def test_while_connecting(self, context):
        # a queue of one that is full: further connections are not answered
        with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
            port = listening.getsockname()[1]
            fill = [socket.socket() for _ in range(4)]
            for sock in fill:
                sock.setblocking(False)
                sock.connect_ex(("127.0.0.1", port))
            error = in_time(lambda: fetch(f"https://127.0.0.1:{port}", context=context, limit=1, timeout=DEADLINE))
            assert str(error) == f"127.0.0.1:{port} did not accept the connection within {DEADLINE:g} s"
            for sock in fill:
                sock.close()

    def test_after_one_address_that_hung_another_is_asked(self, drip, context, monkeypatch):
        good = drip(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", at=("127.0.0.2", 0))
        hangs = drip(*POINTS["header"][:2], at=("127.0.0.1", good.port))
        monkeypatch.setattr(socket, "getaddrinfo", names({"localhost": ["127.0.0.1", "127.0.0.2"]}))
        monkeypatch.setattr(attempt, "_histories", {})
        waited_for(lambda: fetch(good.url, context=context, limit=10, timeout=DEADLINE))
        assert (len(hangs.requested), len(good.requested)) == (1, 0)
        assert fetch(good.url, context=context, limit=10, timeout=30) == b"[]"
        assert len(hangs.requested) == 1

    def test_the_address_that_worked_is_asked_where_the_name_server_gives_a_dead_one(self, drip, context, monkeypatch):
        known = ["127.0.0.1"]
        good = drip(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", at=("127.0.0.1", 0))
        monkeypatch.setattr(socket, "getaddrinfo", names({"localhost": lambda: known}))
        monkeypatch.setattr(attempt, "_histories", {})
        monkeypatch.setattr(attempt, "RESOLVER", Resolver())
        for known[:] in (["127.0.0.1"], ["127.0.0.9"]):
            assert fetch(good.url, context=context, limit=10, timeout=30) == b"[]"
        assert len(good.requested) == 2

    def test_a_look_up_that_hangs(self, context, monkeypatch):
        go_on = threading.Event()
        monkeypatch.setattr(socket, "getaddrinfo", names({"hangs.test": lambda: go_on.wait(60) and ["127.0.0.1"]}))
        error = in_time(lambda: fetch("https://hangs.test/", context=context, limit=1, timeout=DEADLINE))
        go_on.set()
        assert str(error).startswith("hangs.test cannot be resolved: the name server has not answered")
        assert error.cause == "dns"

    def test_it_holds_for_all_redirects_together(self, drip, context):
        at_once = b"HTTP/1.1 302 Found\r\nLocation: /again\r\nContent-Length: 0\r\nX: "
        server = drip(at_once, b"x" * 20 + b"\r\n\r\n", every=0.1)
        options: dict[str, Any] = {"context": context, "limit": 1, "timeout": DEADLINE, "redirects": 10_000}
        error = in_time(lambda: fetch(server.url, **options))
        assert error.cause == "timeout"
        assert len(server.requested) > 1

    def test_an_answer_in_time_behind_those_that_announce_it(self, drip, context):
        head = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"
        server = drip(head + b"Content-Length: 2\r\n\r\n[]")
        assert fetch(server.url, context=context, limit=10, timeout=30) == b"[]"

    def test_cancelled_it_ends_at_once(self, drip, context):
        server = drip(*POINTS["chunk"][:2])

        async def run() -> float:
            task = asyncio.create_task(fetch_async(server.url, context=context, limit=1 << 20, timeout=600))
            while not server.requested:
                await asyncio.sleep(0.01)
            began = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return time.monotonic() - began

        began = time.monotonic()
        assert asyncio.run(run()) < LATE
        assert time.monotonic() - began < 2 * LATE
        assert until(lambda: server.left == 1)
        assert until(lambda: not requests())

    def test_an_interpreter_that_ends_does_not_wait_for_it(self, drip, ca_file):
        server = drip(*POINTS["header"][:2])
        code = (
            "import sys, threading, time\n"
            "from wsrec.http.client import fetch\n"
            "from wsrec.net.trust import tls_context\n"
            "options = dict(context=tls_context(sys.argv[2]), limit=1, timeout=600)\n"
            "threading.Thread(target=fetch, args=(sys.argv[1],), kwargs=options, daemon=True).start()\n"
            "sys.stdin.read()"
        )
        with subprocess.Popen([sys.executable, "-c", code, server.url, ca_file], stdin=subprocess.PIPE) as process:
            assert until(lambda: server.requested, 30)
            process.stdin.close()
            assert process.wait(LATE) == 0


class TestAnswers:
    """What is taken, and what is refused before it does harm."""

    def ask(self, server: Drip, context: ssl.SSLContext, **options: Any) -> bytes:
        return fetch(server.url, **{"context": context, "limit": 1 << 10, "timeout": 30.0, **options})

    def refused(self, *arguments: Any, **options: Any) -> HttpError:
        with pytest.raises(HttpError) as caught:
            self.ask(*arguments, **options)
        assert "secret" not in str(caught.value)
        assert "localhost:" in str(caught.value)
        return caught.value

    @pytest.mark.parametrize(
        "headers", [b"Content-Length: 99999999999999999999\r\n", b"Content-Length: 2000\r\n", b""], ids=repr
    )
    def test_larger_than_the_limit(self, drip, context, headers):
        server = drip(b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n" + (b"" if headers else b"x" * 2000))
        error = self.refused(server, context)
        assert str(error).endswith("answered more than 1024 bytes")

    def test_packed_although_not_asked(self, drip, context):
        body = gzip.compress(b"[1, 2]")
        server = drip(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert self.ask(server, context) == b"[1, 2]"

    def test_packed_and_cut_short(self, drip, context):
        body = gzip.compress(b"[1, 2]")[:-9]
        server = drip(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert "in the middle" in str(self.refused(server, context))

    def test_a_bomb_is_unpacked_no_further_than_the_limit(self, drip, context):
        body = gzip.compress(bytes(80 << 20), 1)
        server = drip(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert "answered more than 64 MiB" in str(self.refused(server, context, limit=64 << 20))
        assert "answered more than 1024 bytes" in str(self.refused(server, context))

    def test_an_endless_line_is_not_kept(self, drip, context):
        server = drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * (1 << 20))
        assert self.refused(server, context).cause == "answer"

    @pytest.mark.parametrize(
        ("at_once", "endless"),
        [
            (b"HTTP/1.1 200 OK\r\n", b"X: " + b"y" * 2000 + b"\r\n"),
            (b"HTTP/1.1 200 OK\r\nX: ", b"y"),
            (b"HTTP/1.1 100 Continue\r\n", b"X: y\r\n"),
            (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
            (CHUNKED + b"2\r\n{}\r\n0\r\n", b"X: y\r\n"),
            (CHUNKED, b"1;" + b"x" * 2000 + b"\r\n{\r\n"),
            (CHUNKED, b"0"),
        ],
        ids=["head", "a line", "head before", "heads before", "trailer", "chunk extensions", "chunk size"],
    )
    def test_more_than_64_kib_beside_the_body_are_refused_at_once(self, drip, context, at_once, endless):
        server = drip(at_once + endless * (100_000 // len(endless)), endless)
        error = self.refused(server, context)
        assert "more than 64 KiB of headers, trailers and chunk sizes" in str(error)
        assert error.cause == "answer"

    @pytest.mark.parametrize("size", [1, 20])
    def test_a_body_of_tiny_chunks_is_as_large_as_any_other(self, drip, context, size):
        chunks = b"".join(b"%x\r\n%b\r\n" % (size, b"1" * size) for _ in range(30_000 // size))
        whole = drip(CHUNKED + chunks + b"0\r\n\r\n")
        assert len(self.ask(whole, context, limit=30_000)) == 30_000
        endless = drip(CHUNKED + chunks, chunks)
        assert "answered more than 1024 bytes" in str(self.refused(endless, context))

    @pytest.mark.parametrize("packed", [gzip.compress(b"[]") + bytes(3000), b"\x78\x9c" + b"\0\0\0\xff\xff" * 600])
    def test_what_unpacks_to_nothing_counts_too(self, drip, context, packed):
        server = drip(b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\n\r\n" + packed, b"x")
        assert "answered more than 1024 bytes" in str(self.refused(server, context, timeout=2.0))

    def test_no_http(self, drip, context):
        assert "not valid HTTP" in str(self.refused(drip(b"SSH-2.0-OpenSSH\r\n\r\n"), context))

    def test_a_status_and_when_to_come_again(self, drip, context):
        error = self.refused(drip(b"HTTP/1.1 429 secret words\r\nRetry-After: 17\r\n\r\nsecret"), context)
        assert (error.cause, error.status, error.retry_after) == ("limited", 429, 17.0)
        assert str(error).endswith("answered HTTP 429 Too Many Requests")

    def test_a_redirect_is_followed_where_it_may_be_and_to_the_same_host_only(self, drip, context):
        moved = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: %s\r\n\r\n"
        assert "redirect" in str(self.refused(drip(moved % b"/here"), context))
        away = drip(moved % b"https://127.0.0.1/")
        assert "another host" in str(self.refused(away, context, redirects=3))
        plain = drip(moved % b"http://localhost/secret")
        assert "another host" in str(self.refused(plain, context, redirects=3))
        for_ever = drip(moved % b"/secret")
        assert "too many redirects" in str(self.refused(for_ever, context, redirects=3))
        assert len(for_ever.requested) == 4

    def test_no_server(self, context, refusing_port):
        port = refusing_port
        with pytest.raises(HttpError) as caught:
            fetch(f"https://127.0.0.1:{port}/secret", context=context, limit=1, timeout=30)
        assert str(caught.value) == f"127.0.0.1:{port} refused the connection"

    def test_a_name_that_is_none(self, context):
        with pytest.raises(HttpError) as caught:
            fetch("https://no-such-host.invalid/secret", context=context, limit=1, timeout=30)
        assert caught.value.cause == "dns"
        assert str(caught.value).startswith("no-such-host.invalid cannot be resolved")

    def test_a_certificate_that_is_not_to_be_trusted(self, drip):
        error = self.refused(drip(b""), tls_context())
        assert error.cause == "certificate"
        assert "certificate not verified" in str(error)
