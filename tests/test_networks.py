"""Misbehaving networks and `wsrec record` as a user runs it: it continues with whatever works, and ends on request."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import events_of
from tests.faults.names import NameServer, Recording, may_mount
from tests.receive.conftest import text
from tests.receive.hosts import black_hole
from tests.receive.test_receiver import RawExchange, answer, request

# An end that waits for what hangs takes 10 s and more; on a machine that is not overloaded this takes less than 3
END = 9.0


own_files = pytest.mark.skipif(not may_mount(), reason="needs root, who may give a process an /etc of its own")


def until(found: Any, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def keep_silent(sock: socket.socket) -> None:
    sock.settimeout(60)
    while sock.recv(65536):
        pass


def never_closes(sock: socket.socket) -> None:
    answer(sock, text("hello"))
    keep_silent(sock)


@contextlib.contextmanager
def hanging() -> Iterator[list[str]]:
    """URLs of servers that hang at each step there is but the look-up."""
    with contextlib.ExitStack() as stack:
        hole = stack.enter_context(black_hole("127.0.0.1"))
        handlers = (keep_silent, keep_silent, never_closes)
        servers = [stack.enter_context(RawExchange(one, (f"127.0.0.{n}", 0))) for n, one in enumerate(handlers, 2)]
        secure, plain, endless = (server.url for server in servers)
        yield [f"ws://127.0.0.1:{hole}/", secure.replace("ws:", "wss:"), plain, endless]


class TestEnd:
    @pytest.mark.long
    def test_whatever_hangs_the_end_does_not(self, tmp_path):
        with hanging() as urls:
            recording = Recording(tmp_path, *urls)
            recording.until_printed("connected to")
            took, status = recording.stop()
        assert took < END
        assert status == 4
        assert {event["conn"] for event in events_of(recording.out, "lost_interval")} == {0, 1, 2}
        assert events_of(recording.out, "restart") == []

    @pytest.mark.long
    @own_files
    def test_nor_do_look_ups_and_no_other_exchange_waits_for_them(self, tmp_path):
        connected: list[float] = []

        def closes(sock: socket.socket) -> None:
            connected.append(time.monotonic())
            answer(sock, text("hello"))
            if len(connected) == 1:
                time.sleep(0.5)
                sock.sendall(b"\x88\x02\x03\xe9")
            else:
                keep_silent(sock)

        names = [f"wss://h{n}.exchange.test/ws" for n in range(6)]
        with NameServer(silent=True) as server, RawExchange(closes) as healthy:
            recording = Recording(tmp_path, healthy.url, *names, files=server.files)
            until(lambda: len(connected) == 2)
            took, status = recording.stop()
        assert connected[1] - connected[0] < 5, "a healthy exchange waits for a name server that does not answer"
        assert took < END
        assert status == 4
        assert {event["conn"] for event in events_of(recording.out, "lost_interval")} == set(range(7))


class TestNames:
    @pytest.mark.long
    @own_files
    def test_the_last_answer_of_the_name_server_is_used_once_it_is_dead(self, tmp_path):
        def closes(sock: socket.socket) -> None:
            answer(sock, text("hello"))
            if exchange.accepted == 1:
                server.silent = True
                sock.sendall(b"\x88\x02\x03\xe9")
            else:
                keep_silent(sock)

        with NameServer(silent=False) as server, RawExchange(closes) as exchange:
            recording = Recording(tmp_path, f"ws://x.exchange.test:{exchange.port}/ws", files=server.files)
            until(lambda: exchange.accepted == 2)
            took, status = recording.stop()
        assert took < END
        assert status == 4
        first, second = (event["detail"] for event in events_of(recording.out, "connect"))
        assert first["dns_age_s"] is None
        assert second["dns_age_s"] > 1
        assert "cannot resolve 'x.exchange.test': the name server has not answered" in recording.errors
        assert recording.errors.count("; using its addresses of ") == 1

    @pytest.mark.long
    @own_files
    @pytest.mark.parametrize("fault", ["silent", "403"])
    def test_the_second_address_is_tried_once_the_first_has_failed(self, tmp_path, fault):
        def first(sock: socket.socket) -> None:
            request(sock)
            if fault == "403":
                sock.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            else:
                keep_silent(sock)

        def second(sock: socket.socket) -> None:
            answer(sock, text("hello"))
            keep_silent(sock)

        hosts = {"/etc/hosts": "127.0.0.1 two.test\n127.0.0.2 two.test\n"}
        with RawExchange(first) as one, RawExchange(second, ("127.0.0.2", one.port)) as two:
            recording = Recording(tmp_path, f"ws://two.test:{one.port}/ws", files=hosts)
            until(lambda: two.accepted)
            until(lambda: list(recording.out.glob("**/*")) and time.sleep(0.3) is None)
            recording.stop()
        assert one.accepted == 1
        assert f"two.test:{one.port} (127.0.0.1)" in recording.errors
        (failed,) = (event["detail"] for event in events_of(recording.out, "connect_failed"))
        assert failed["address"] == "127.0.0.1"
        assert failed["retry_s"] < 2
        (connect,) = (event["detail"] for event in events_of(recording.out, "connect"))
        assert connect["address"] == "127.0.0.2"
