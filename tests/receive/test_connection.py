"""wsrec.receive.connection: what surrounds the hot path, over several attempts."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.exchange import sends
from tests.receive.conftest import OWN_RECORDS, Reader, frame, text
from tests.receive.hosts import black_hole, names
from tests.receive.test_receiver import PING, RawExchange, answer, plan, request
from wsrec import log_folding
from wsrec.net import addresses
from wsrec.options.record import TlsMode
from wsrec.plan.connections import Pace
from wsrec.receive import (
    backoff,
    closing_handshake,
    garbage_collection,
    liveness,
    open_connection,
    opening,
    rate_limit,
    reconnector,
    transport,
)
from wsrec.receive.direct import DirectTransport
from wsrec.receive.producer import Producer
from wsrec.receive.rate_limit import HostRateLimiters
from wsrec.receive.reconnector import Reconnector
from wsrec.receive.sides import Side
from wsrec.receive.tls_choice import TlsPolicy
from wsrec.receive.transport import PlainTransport
from wsrec.receive.waiting import Adaptive, Epoll, Spin, Waiting
from wsrec.ring.bytering import MIN_RING, ByteRing
from wsrec.ring.events import EventKind
from wsrec.ring.slotring import SlotRing


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Every further attempt comes at once."""
    monkeypatch.setattr(backoff, "FIRST", 0.002)
    monkeypatch.setattr(backoff, "LONGEST", 0.002)
    monkeypatch.setattr(rate_limit, "GENTLE", Pace(attempts=1000, interval=1.0))


@pytest.fixture(autouse=True, params=[Epoll, Spin, Adaptive], ids=lambda kind: kind.name)
def waiting(request, monkeypatch) -> type[Waiting]:
    """Every way to wait."""
    monkeypatch.setattr(Life, "waiting", request.param)
    return request.param


class Life:
    """A connection within this process."""

    waiting: type[Waiting] = Epoll

    def __init__(
        self,
        url: str,
        ca_file: str | None = None,
        tls: TlsMode | None = TlsMode.DIRECT,
        *,
        idle_timeout: float | None = None,
        **options: Any,
    ) -> None:
        descriptors = SlotRing.create("t"), ByteRing.create("t", 1 << 20), ByteRing.create("t", MIN_RING)
        slots, control_ring, self.ring = SlotRing(descriptors[0]), ByteRing(descriptors[1]), ByteRing(descriptors[2])
        for fd in descriptors:
            os.close(fd)
        self.reader = Reader(slots, control_ring, {0: self.ring})
        self.stopping = asyncio.Event()
        settings: dict[str, Any] = {"max_message": 1 << 26, "until_close": True, **options}
        self.connection = Reconnector(
            [Side(plan(url, idle_timeout=idle_timeout), self.ring)],
            Producer(slots, control_ring),
            self.waiting(),
            HostRateLimiters(),
            tls=TlsPolicy(tls, ca_file),
            **settings,
        )
        self.task = asyncio.ensure_future(self.connection.run(self.stopping))

    async def until(self, found: Callable[[], Any], *, take: bool = True) -> Any:
        async with asyncio.timeout(60):
            while True:
                if take:
                    self.reader.take()
                if value := found():
                    return value
                await asyncio.sleep(0.001)

    async def stop(self) -> None:
        self.stopping.set()
        async with asyncio.timeout(60):
            while not self.task.done():
                self.reader.take()
                await asyncio.sleep(0.001)
        await self.task
        self.reader.take()

    def events(self, kind: EventKind) -> list[dict[str, Any]]:
        return [event.detail for event in self.reader.events() if event.kind is kind]


class TestRingSpace:
    def test_a_server_that_answers_503_for_long_does_not_fill_the_ring(self):
        def handler(sock: socket.socket) -> None:
            request(sock)
            if server.accepted <= 10:
                sock.sendall(b"HTTP/1.1 503 Down\r\nContent-Length: 20000\r\n\r\n" + b"x" * 20_000)
            else:
                sock.sendall(b"HTTP/1.1 403 Enough\r\nContent-Length: 0\r\n\r\n")

        async def run() -> None:
            life = Life(server.url)
            await asyncio.wait_for(life.task, 60)
            life.reader.take()
            failed = life.events(EventKind.CONNECT_FAILED)
            assert ["HTTP 503" in detail["message"] for detail in failed] == [True] * 10 + [False]
            assert life.ring.room(life.ring.head.read()) == MIN_RING

        with RawExchange(handler) as server:
            asyncio.run(run())

    def test_neither_do_frames_that_never_end(self):
        def handler(sock: socket.socket) -> None:
            half = text(bytes(MIN_RING // 4 - 4))[:-1]
            answer(sock, half if server.accepted <= 10 else text("at last") + b"\x88\x02\x03\xe8")

        async def run() -> None:
            life = Life(server.url)
            await asyncio.wait_for(life.task, 60)
            life.reader.take()
            assert life.reader.received()[0] == (1, b"at last")
            assert len(life.events(EventKind.DISCONNECT)) == 10

        with RawExchange(handler) as server:
            asyncio.run(run())


class TestPages:
    def test_are_whole_in_one_event_until_a_connection_opens_and_their_lines_are_folded(self, capfd):
        """Page and reason of a refusal are others each time by its request's number, as those of real ones are."""
        opens = 9

        def page() -> bytes:
            return b"<html><title>Down %d</title>\n%s</html>" % (server.accepted, b"p" * 3000)

        def handler(sock: socket.socket) -> None:
            if server.accepted == opens:
                answer(sock, b"\x88\x02\x03\xf4")
            elif server.accepted < 12:
                request(sock)
                status = 502 if server.accepted == 5 else 503
                head = b"HTTP/1.1 %d Down %d\r\nContent-Length: %d\r\n\r\n" % (status, server.accepted, len(page()))
                sock.sendall(head + page())
            else:
                answer(sock, b"\x88\x02\x03\xe8")

        async def run() -> None:
            life = Life(server.url)
            await asyncio.wait_for(life.task, 60)
            life.reader.take()
            failed = life.events(EventKind.CONNECT_FAILED)
            assert [detail["cause"] for detail in failed] == ["http"] * 8 + ["closed"] + ["http"] * 2
            bodies = {number: detail["body"] for number, detail in enumerate(failed, 1) if "body" in detail}
            assert list(bodies) == [1, 5, 10]
            assert all(f"Down {number}</title>\n{'p' * 3000}</html>" in body for number, body in bodies.items())

        with RawExchange(handler) as server:
            asyncio.run(run())
        stated = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error")]
        assert len(stated) == log_folding.AT_ONCE + 2
        assert all(len(line) < 400 and "ppp" not in line for line in stated)


class TestReset:
    def test_a_plain_port_that_resets_may_want_tls(self):
        def handler(sock: socket.socket) -> None:
            request(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        async def run() -> None:
            life = Life(server.url)
            await life.until(lambda: life.events(EventKind.CONNECT_FAILED))
            await life.stop()
            failed = life.events(EventKind.CONNECT_FAILED)[0]
            assert failed["cause"] == "lost"
            assert "use wss://" in failed["hint"]

        with RawExchange(handler) as server:
            asyncio.run(run())


class TestBackoff:
    def test_attempts_that_time_out_are_not_taken_for_a_connection_that_lasted(self, monkeypatch):
        monkeypatch.setattr(opening, "CONNECT_TIMEOUT", 0.02)
        monkeypatch.setattr(reconnector, "_PROVEN", 0.01)

        async def run() -> None:
            with socket.create_server(("127.0.0.1", 0)) as silent:
                life = Life(f"ws://127.0.0.1:{silent.getsockname()[1]}/")
                await life.until(lambda: len(life.events(EventKind.CONNECT_FAILED)) >= 4)
                await life.stop()
            failed = life.events(EventKind.CONNECT_FAILED)
            assert {detail["cause"] for detail in failed} == {"timeout"}
            assert [detail["attempt"] for detail in failed][:4] == [1, 2, 3, 4]

        asyncio.run(run())

    def test_a_connection_that_lasted_begins_anew(self, monkeypatch):
        monkeypatch.setattr(reconnector, "_PROVEN", 0.01)

        def handler(sock: socket.socket) -> None:
            answer(sock, b"")
            time.sleep(0.05)

        async def run() -> None:
            with RawExchange(handler) as server:
                life = Life(server.url)
                await life.until(lambda: len(life.events(EventKind.CONNECT_FAILED)) >= 3)
                await life.stop()
            assert {detail["attempt"] for detail in life.events(EventKind.CONNECT_FAILED)} == {1}

        asyncio.run(run())


class TestStall:
    def test_a_full_ring_is_reported_with_its_duration_and_nothing_is_lost(self, exchange):
        sent = [f"{n:06d}" * 100 for n in range(2000)]

        async def run() -> None:
            life = Life(exchange(sends(sent)).url)
            await life.until(lambda: life.connection.sides.stalls, take=False)
            await asyncio.sleep(0.05)
            await life.until(life.task.done)
            life.reader.take()
            assert [payload.decode() for opcode, payload in life.reader.received() if opcode == 1] == sent
            stalls = life.events(EventKind.STALL)
            assert len(stalls) == life.connection.sides.stalls
            assert stalls[0]["duration_ns"] >= 50_000_000

        asyncio.run(run())

    def test_a_stall_that_the_end_cut_short_is_reported_too(self, exchange, monkeypatch):
        monkeypatch.setattr(closing_handshake, "CLOSE_TIMEOUT", 0.05)
        monkeypatch.setattr(closing_handshake, "BACKLOG_TIMEOUT", 0.05)

        async def run() -> None:
            life = Life(exchange(sends(["x" * 1000] * 2000), close_timeout=0.1).url)
            await life.until(lambda: life.connection.sides.stalls, take=False)
            life.stopping.set()
            await asyncio.wait_for(life.task, 60)
            life.reader.take()
            assert len(life.events(EventKind.STALL)) == life.connection.sides.stalls == 1

        asyncio.run(run())


class TestEndBehind:
    """A stop while the receiver is behind: the ring is full, and more waits in the socket."""

    SENT = tuple(f"{n:06d}" * 100 for n in range(2000))

    @pytest.fixture
    def behind(self, monkeypatch, ca_file):
        """Runs a test with an exchange whose ring is full, and which has the rest of what it sends in its queue."""
        monkeypatch.setattr(closing_handshake, "CLOSE_TIMEOUT", 0.2)

        def serve(sock: socket.socket) -> None:
            answer(sock, b"".join(map(text, self.SENT)))
            # the client's close frame, and its echo behind all that was in the queue
            with contextlib.suppress(OSError):
                sock.recv(1 << 16)
                sock.sendall(b"\x88\x02\x03\xe8")
                sock.recv(1 << 16)

        def go(test: Callable[[Life], Any]) -> None:
            async def run() -> None:
                life = Life(server.url, until_close=False)
                await life.until(lambda: life.connection.sides.stalls, take=False)
                life.stopping.set()
                await test(life)
                assert life.task.done()

            with RawExchange(serve) as server:
                asyncio.run(run())

        return go

    def test_it_reads_on_until_the_backlog_is_empty(self, behind):
        async def test(life: Life) -> None:
            # the writer takes nothing for longer than the wait for a close frame
            await asyncio.sleep(2 * closing_handshake.CLOSE_TIMEOUT)
            await life.stop()
            assert [payload.decode() for opcode, payload in life.reader.received() if opcode == 1] == list(self.SENT)
            assert life.events(EventKind.LOST_INTERVAL) == []

        behind(test)

    def test_what_is_still_unread_after_the_bound_is_a_lost_interval(self, behind, monkeypatch):
        monkeypatch.setattr(closing_handshake, "BACKLOG_TIMEOUT", 0.5, raising=False)

        async def test(life: Life) -> None:
            async with asyncio.timeout(60):
                await life.task
            life.reader.take()
            assert len([1 for opcode, _ in life.reader.received() if opcode == 1]) < len(self.SENT)
            (lost,) = life.events(EventKind.LOST_INTERVAL)
            last = max(slot.event for slot in life.reader.taken if not slot.flags & OWN_RECORDS)
            assert lost["monotonic_from"] == last
            assert lost["monotonic_to"] - last > 0.4e9
            assert (lost["from_evidence"], lost["to_evidence"]) == ("last byte read", "connection closed unread")
            assert lost["bound"] == "exact"

        behind(test)

    @pytest.mark.parametrize("tls", [None, *TlsMode])
    def test_a_server_that_ignores_the_close_and_sends_on_is_no_backlog(self, exchange, ca_file, monkeypatch, tls):
        monkeypatch.setattr(closing_handshake, "CLOSE_TIMEOUT", 0.2)

        async def never_reads(ws: Any) -> None:
            ws.transport.pause_reading()
            while not ws.transport.is_closing():
                ws.transport.write(text("x" * 100) * 20)
                await asyncio.sleep(0.001)

        async def run() -> None:
            server = exchange(never_reads, tls=tls is not None, close_timeout=0.1)
            life = Life(server.url, str(ca_file), tls=tls or TlsMode.DIRECT, until_close=False)
            await life.until(life.reader.received)
            await life.stop()
            assert life.events(EventKind.LOST_INTERVAL) == []

        asyncio.run(run())

    def test_a_connection_that_breaks_at_the_very_end_is_lost_from_its_last_byte(self, monkeypatch):
        """The error and the order to stop come together: no connection follows, and nothing else shows it."""
        broken = threading.Event()

        def serve(sock: socket.socket) -> None:
            answer(sock, text("last"))
            broken.wait(10)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        async def run() -> None:
            life = Life(server.url, until_close=False)
            await life.until(life.reader.received)
            active = await life.until(lambda: life.connection.sides.active)
            active.end(ConnectionResetError("broken"))
            await life.stop()
            (lost,) = life.events(EventKind.LOST_INTERVAL)
            (slot,) = [slot for slot in life.reader.taken if not slot.flags & OWN_RECORDS]
            assert lost["monotonic_from"] == slot.event
            broken.set()

        with RawExchange(serve) as server:
            asyncio.run(run())


class TestAddress:
    @pytest.mark.parametrize("tls", TlsMode)
    def test_the_one_that_answered_is_reported(self, exchange, ca_file, tls, monkeypatch):
        server = exchange(sends(["x"]), tls=True)

        async def run() -> None:
            # as where a host has an address that does not answer, and one that does
            monkeypatch.setattr(socket, "getaddrinfo", names({"localhost": ["127.0.0.2", "127.0.0.1"]}))
            life = Life(server.url, str(ca_file), tls=tls)
            await asyncio.wait_for(life.task, 60)
            life.reader.take()
            assert [detail["address"] for detail in life.events(EventKind.CONNECT)] == ["127.0.0.1"]

        asyncio.run(run())

    def test_one_that_never_answers_does_not_hold_up_the_next(self, exchange, monkeypatch):
        server = exchange(sends(["x"]))
        port = int(server.url.split(":")[2].split("/")[0])

        async def run() -> None:
            monkeypatch.setattr(socket, "getaddrinfo", names({"localhost": ["127.0.0.2", "127.0.0.1"]}))
            life = Life(server.url)
            await asyncio.wait_for(life.task, 60)
            life.reader.take()
            assert [detail["address"] for detail in life.events(EventKind.CONNECT)] == ["127.0.0.1"]
            assert life.events(EventKind.CONNECT_FAILED) == []

        with black_hole("127.0.0.2", port):
            asyncio.run(run())

    @pytest.mark.parametrize("fault", ["silent", "403", "garbage", "hangs up", "breaks soon"])
    def test_one_that_fails_above_tcp_is_not_asked_again_before_the_next(self, exchange, monkeypatch, fault):
        monkeypatch.setattr(opening, "CONNECT_TIMEOUT", 0.6)
        server = exchange(sends(["x"]))
        port = int(server.url.split(":")[2].split("/")[0])

        def handler(sock: socket.socket) -> None:
            if fault == "breaks soon":
                answer(sock, text("something"))
                return
            request(sock)
            if fault == "403":
                sock.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            elif fault == "garbage":
                sock.sendall(b"\x00\x01\r\n\r\n")
            elif fault == "silent":
                sock.recv(100)

        async def run() -> None:
            monkeypatch.setattr(socket, "getaddrinfo", names({"localhost": ["127.0.0.2", "127.0.0.1"]}))
            life = Life(server.url)
            await asyncio.wait_for(life.task, 60)
            life.reader.take()
            assert life.events(EventKind.CONNECT)[-1]["address"] == "127.0.0.1"
            (failed,) = life.events(EventKind.CONNECT_FAILED)[:1]
            assert failed["address"] == "127.0.0.2"
            assert failed["retry_s"] is not None
            assert f"localhost:{port} (127.0.0.2)" in failed["message"]

        with RawExchange(handler, ("127.0.0.2", port)) as other:
            asyncio.run(run())
        assert other.accepted == 1

    def test_a_refusal_is_permanent_once_each_address_has_refused(self, monkeypatch):
        def handler(sock: socket.socket) -> None:
            request(sock)
            sock.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

        async def run(url: str) -> None:
            monkeypatch.setattr(socket, "getaddrinfo", names({"localhost": ["127.0.0.1", "127.0.0.2"]}))
            life = Life(url)
            await asyncio.wait_for(life.task, 60)
            life.reader.take()
            failed = life.events(EventKind.CONNECT_FAILED)
            assert [(one["address"], one["retry_s"] is None) for one in failed] == [
                ("127.0.0.1", False),
                ("127.0.0.2", True),
            ]

        with RawExchange(handler) as one, RawExchange(handler, ("127.0.0.2", one.port)):
            asyncio.run(run(f"ws://localhost:{one.port}/ws"))

    @pytest.mark.parametrize("paused", [False, True], ids=["", "after a pause"])
    @pytest.mark.parametrize("idle_timeout", [0.2, None], ids=["planned", "never a message"])
    def test_the_successor_of_a_silent_connection_goes_to_another(self, monkeypatch, idle_timeout, paused):
        monkeypatch.setattr(liveness, "FIRST_MESSAGE", 0.2)

        def silent(sock: socket.socket) -> None:
            answer(sock, b"")
            sock.recv(100)

        def lively(sock: socket.socket) -> None:
            answer(sock, text("at last"))
            sock.recv(100)

        async def run(url: str) -> None:
            monkeypatch.setattr(socket, "getaddrinfo", names({"localhost": ["127.0.0.1", "127.0.0.2"]}))
            life = Life(url, idle_timeout=idle_timeout)
            if paused:
                # as on a busy machine: the silence is then measured from here
                await life.until(lambda: life.events(EventKind.CONNECT))
                time.sleep(0.1)
            await life.until(life.reader.received)
            await life.stop()
            assert [one["address"] for one in life.events(EventKind.CONNECT)][:2] == ["127.0.0.1", "127.0.0.2"]
            lost = life.events(EventKind.LOST_INTERVAL)[0]
            # it was connected, and silent
            assert lost["reason"] == "silent: no message for 0.2 s"

        with RawExchange(silent) as one, RawExchange(lively, ("127.0.0.2", one.port)):
            asyncio.run(run(f"ws://localhost:{one.port}/ws"))

    @pytest.mark.parametrize("fault", ["403", "hangs up", "breaks soon"])
    def test_while_one_is_untried_none_is_waited_for(self, monkeypatch, fault):
        monkeypatch.setattr(backoff, "FIRST", 60.0)
        bad, good = [f"127.0.2.{n}" for n in range(1, 10)], "127.0.2.10"
        accepted: list[str] = []

        def fails(sock: socket.socket) -> None:
            accepted.append(sock.getsockname()[0])
            if fault == "breaks soon":
                answer(sock, text("something"))
                return
            request(sock)
            if fault == "403":
                sock.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

        def works(sock: socket.socket) -> None:
            answer(sock, text("at last") + b"\x88\x02\x03\xe8")

        async def run(url: str) -> None:
            monkeypatch.setattr(socket, "getaddrinfo", names({"many.test": [*bad, good]}))
            life = Life(url)
            await asyncio.wait_for(life.task, 60)
            life.reader.take()
            assert accepted == bad
            assert life.events(EventKind.CONNECT)[-1]["address"] == good
            waits = [failed["retry_s"] for failed in life.events(EventKind.CONNECT_FAILED)]
            assert [wait is not None and wait < 0.3 for wait in waits] == [True] * len(bad)

        with RawExchange(works, (good, 0)) as server, contextlib.ExitStack() as stack:
            for ip in bad:
                stack.enter_context(RawExchange(fails, (ip, server.port)))
            asyncio.run(run(f"ws://many.test:{server.port}/ws"))

    def test_once_all_have_failed_the_waits_grow(self, monkeypatch):
        monkeypatch.setattr(backoff, "FIRST", 60.0)

        async def run(url: str) -> None:
            monkeypatch.setattr(socket, "getaddrinfo", names({"two.test": ["127.0.0.1", "127.0.0.2"]}))
            life = Life(url)
            await life.until(lambda: life.events(EventKind.CONNECT_FAILED)[1:])
            await life.stop()
            first, second = (failed["retry_s"] for failed in life.events(EventKind.CONNECT_FAILED))
            assert first < 0.3
            assert second >= 30

        with RawExchange(closes) as one, RawExchange(closes, ("127.0.0.2", one.port)):
            asyncio.run(run(f"ws://two.test:{one.port}/ws"))

    def test_what_comes_after_tcp_has_time_of_its_own(self, monkeypatch):
        # half of it is TCP's while there are others; the second address is tried late, and answers later than that
        monkeypatch.setattr(opening, "CONNECT_TIMEOUT", 3.0)
        monkeypatch.setattr(addresses, "ATTEMPT_DELAY", 0.8)

        def slow(sock: socket.socket) -> None:
            time.sleep(0.8)
            answer(sock, text("at last") + b"\x88\x02\x03\xe8")

        async def run(url: str) -> None:
            monkeypatch.setattr(socket, "getaddrinfo", names({"two.test": ["127.0.0.2", "127.0.0.1"]}))
            life = Life(url)
            await asyncio.wait_for(life.task, 60)
            life.reader.take()
            assert life.events(EventKind.CONNECT_FAILED) == []

        with RawExchange(slow) as server, black_hole("127.0.0.2", server.port):
            asyncio.run(run(f"ws://two.test:{server.port}/ws"))

    @pytest.mark.parametrize("then", ["a dead one", "a dead one, and then nothing"])
    def test_the_one_that_worked_is_used_where_the_name_server_gives_a_dead_one(self, monkeypatch, then):
        monkeypatch.setattr(reconnector, "_PROVEN", 0.1)
        host = f"{then.count(',')}.flip.test"
        known = ["127.0.0.1"]

        def found() -> list[str]:
            if not known:
                raise socket.gaierror(socket.EAI_AGAIN, "broken")
            return list(known)

        def handler(sock: socket.socket) -> None:
            if server.accepted == 3:
                answer(sock, text("again") + b"\x88\x02\x03\xe8")
                return
            answer(sock, text("something") * 2)
            time.sleep(0.3)
            if server.accepted == 1:
                known[:] = ["127.0.0.9"]
            elif "nothing" in then:
                known.clear()
            sock.sendall(b"\x88\x02\x03\xe9")

        async def run(url: str) -> None:
            monkeypatch.setattr(socket, "getaddrinfo", names({host: found}))
            life = Life(url)
            await asyncio.wait_for(life.task, 60)
            life.reader.take()
            connects = life.events(EventKind.CONNECT)
            assert [one["address"] for one in connects] == ["127.0.0.1"] * 3
            assert [one["dns_age_s"] is None for one in connects] == [True, False, False]
            # the end of the connections before, and nothing that could not be connected to
            assert [one["cause"] for one in life.events(EventKind.CONNECT_FAILED)] == ["closed"] * 2

        with RawExchange(handler) as server:
            asyncio.run(run(f"ws://{host}:{server.port}/ws"))

    def test_one_that_brought_something_may_be_silent_for_ever(self, monkeypatch):
        monkeypatch.setattr(liveness, "FIRST_MESSAGE", 0.1)

        def handler(sock: socket.socket) -> None:
            answer(sock, text("subscribed"))
            sock.recv(100)

        async def run(url: str) -> None:
            monkeypatch.setattr(socket, "getaddrinfo", names({"localhost": ["127.0.0.1", "127.0.0.2"]}))
            life = Life(url)
            await life.until(life.reader.received)
            await asyncio.sleep(0.5)
            await life.stop()
            assert life.events(EventKind.STALE) == []

        with RawExchange(handler) as one, RawExchange(handler, ("127.0.0.2", one.port)):
            asyncio.run(run(f"ws://localhost:{one.port}/ws"))


class TestServerThatNeverReads:
    def test_one_that_pings_and_never_reads_is_left(self, monkeypatch):
        monkeypatch.setattr(backoff, "FIRST", 60.0)
        # small buffers, so that a few pings fill them
        monkeypatch.setattr(transport, "UNSENT_MAX", 1 << 16)
        monkeypatch.setattr(
            opening, "_enable_keepalive", lambda sock: sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        )

        def handler(sock: socket.socket) -> None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            answer(sock, b"")
            pings = frame(PING, bytes(125)) * 500
            while True:
                sock.sendall(pings)

        async def run() -> None:
            with RawExchange(handler) as server:
                life = Life(server.url)
                await life.until(lambda: life.connection.failure)
                await life.stop()
            failed = life.events(EventKind.CONNECT_FAILED)[0]
            assert failed["cause"] == "lost"
            assert failed["message"].endswith(": the server does not read what is sent to it")

        asyncio.run(run())


def closes(sock: socket.socket) -> None:
    """Close at once."""


def refuses(sock: socket.socket) -> None:
    request(sock)
    sock.sendall(b"HTTP/1.1 503 Down\r\nContent-Length: 0\r\n\r\n")


def hangs_up(sock: socket.socket) -> None:
    request(sock)


def breaks_rules(sock: socket.socket) -> None:
    answer(sock, b"\xff\x00")


class TestGarbage:
    @pytest.fixture(autouse=True)
    def uncollected(self) -> Iterator[None]:
        """The collector is off, as in the receiver."""
        gc.collect()
        gc.disable()
        yield
        gc.enable()

    # where the socket breaks under it, asyncio's own sock_recv leaves a cycle, which only the collector ends
    @pytest.mark.parametrize(
        ("handler", "collects"),
        [(closes, True), *itertools.product([None, refuses, hangs_up, breaks_rules], [True, False])],
    )
    @pytest.mark.parametrize("secure", [True, False])
    def test_failed_attempts_leave_nothing_behind(self, authority, ca_file, monkeypatch, handler, secure, collects):
        if not collects:
            # then no attempt may leave a cycle
            monkeypatch.setattr(gc, "collect", int)
        monkeypatch.setattr(garbage_collection, "DELAY", 0.0)
        monkeypatch.setattr(opening, "CONNECT_TIMEOUT", 10.0 if handler else 0.05)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)

        def served(sock: socket.socket) -> None:
            if handler is None:
                sock.recv(1)
                time.sleep(0.1)
            elif secure and handler is not closes:
                with context.wrap_socket(sock, server_side=True) as wrapped:
                    handler(wrapped)
            else:
                handler(sock)

        def existing() -> int:
            kinds = DirectTransport, PlainTransport, open_connection.HotPath, open_connection.Handshake
            return sum(type(found) in {*kinds, socket.socket} for found in gc.get_objects())

        async def run() -> None:
            with RawExchange(served) as server:
                life = Life(server.url.replace("ws:", "wss:") if secure else server.url, str(ca_file))
                await life.until(lambda: life.events(EventKind.CONNECT_FAILED)[1:])
                before = existing()
                await life.until(lambda: life.events(EventKind.CONNECT_FAILED)[11:])
                # an attempt or two may be under way, in this thread and in the server's, which may be behind
                await life.until(lambda: existing() - before < 9)
                await life.stop()

        asyncio.run(run())


async def waits(connection):
    await connection.wait_closed()


class TestNicClock:
    def test_a_nic_that_is_not_on_utc_is_reported_once(self, exchange, capfd):
        async def run() -> None:
            life = Life(exchange(waits).url)
            await life.until(lambda: life.connection.sides.connected)
            life.connection.sides.all[0]._current.transport.stamps.choose(1_700_000_000_000_000_000, 5_000_000_000)
            life.connection.sides.check_stamps()
            life.connection.sides.check_stamps()
            life.stopping.set()
            await asyncio.wait_for(life.task, 60)
            life.reader.take()
            reported = [event["reason"] for event in life.events(EventKind.STAMPING) if event["reason"]]
            assert len(reported) == 1
            assert "from the system's" in reported[0]

        asyncio.run(run())
        assert "phc2sys" in capfd.readouterr().err


class TestClosedByTheExchange:
    def test_what_is_lost_begins_at_its_close_frame_however_late_that_is_dealt_with(self):
        def handler(sock: socket.socket) -> None:
            if server.accepted == 1:
                answer(sock, text("at last") + b"\x88\x02\x03\xe9")
            else:
                answer(sock, text("again"))
            sock.recv(100)

        async def held_up(life: Life) -> None:
            # from the moment when it has read the close frame, as on a busy machine
            while not life.connection.sides.all[0].ended:
                await asyncio.sleep(0)
            assert server.accepted == 1
            time.sleep(0.3)

        async def run() -> None:
            life = Life(server.url)
            await asyncio.gather(held_up(life), life.until(lambda: life.events(EventKind.LOST_INTERVAL)))
            await life.stop()
            (lost,) = life.events(EventKind.LOST_INTERVAL)
            (closed,) = (slot for slot in life.reader.taken if not slot.flags & OWN_RECORDS and slot.opcode == 8)
            assert lost["monotonic_from"] == closed.event
            assert (lost["from_evidence"], lost["to_evidence"]) == ("last byte read", "connection opened")

        with RawExchange(handler) as server:
            asyncio.run(run())
