"""The receiver process, as the supervisor starts it, against a real exchange."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from websockets.server import ServerProtocol

from tests.exchange import sends
from tests.receive.conftest import Reader, frame, text
from tests.receive.forks import Forks
from tests.rings import worker_options
from tests.subscriptions import named
from tests.subscriptions import request as subscription_request
from wsrec import ipc
from wsrec.options.record import TlsMode, WaitStrategy
from wsrec.plan.connections import ConnectionPlan, KeepAlive
from wsrec.plan.requests import SubscriptionRequest
from wsrec.receive import direct, ktls
from wsrec.receive.job import ReceiverJob
from wsrec.ring.bytering import ByteRing
from wsrec.ring.events import EventKind
from wsrec.ring.slot_flags import CONTROL_RECORD, Flag
from wsrec.ring.slotring import SlotRing
from wsrec.ring.status import StatusPage
from wsrec.segments.segment_ring import SegmentRing
from wsrec.segments.stream_map import StreamMap
from wsrec.stages import StampSource

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
SECRET = "s3cr3t-listen-key"

Value = TypeVar("Value")


FORKS = Forks()


class Receiver:
    """A receiver process, and the supervisor's and the writer's view of it.

    Args:
        command: arguments of Python, for a receiver with changes; else it is forked.
        segments: whether it captures segments, into `segments` and `stream_map`.

    """

    def __init__(
        self,
        *plans: ConnectionPlan,
        ring: int = 1 << 20,
        command: Sequence[str] = (),
        segments: bool = False,
        **options: Any,
    ) -> None:
        descriptors = [
            SlotRing.create("t"),
            ByteRing.create("t", 1 << 20),
            StatusPage.create("t", sum(plan.standby_of is None for plan in plans)),
        ]
        descriptors += [ByteRing.create("t", ring) for _ in plans]
        slots, control_ring, status, *rings = descriptors
        if segments:
            found = [SegmentRing.create("t"), StreamMap.create("t")]
            self.segments, self.stream_map = SegmentRing(found[0]), StreamMap(found[1])
            options |= {"segments": True, "shared": dict(zip(("segments", "stream_map"), found, strict=True))}
            descriptors += found
        self.rings = {plan.conn: ByteRing(fd) for plan, fd in zip(plans, rings, strict=True)}
        self.reader = Reader(SlotRing(slots), ByteRing(control_ring), self.rings)
        self.page = StatusPage(status)
        self.status = self.page.receiver
        self.process: Any = _start(command, descriptors) if command else FORKS.fork(descriptors)
        more = options.pop("shared", {}) | {**worker_options(options), **options}
        job = ReceiverJob(
            slots=slots, rings=tuple(rings), control_ring=control_ring, status=status, connections=plans, **more
        )
        self.process.stdin.write(ipc.encode_job(job))
        self.process.stdin.flush()
        for fd in descriptors:
            os.close(fd)
        self.output = b""
        self.errors = b""

    def until(self, found: Callable[[], Value], timeout: float = 60, *, take: bool = True) -> Value:
        """Take slots until `found` finds something; without `take` only wait for it."""
        deadline = time.monotonic() + timeout
        while True:
            if take:
                self.reader.take()
            if value := found():
                return value
            assert time.monotonic() < deadline, f"timed out: {self.reader.events()}"
            time.sleep(0.002)

    def event(self, kind: EventKind, count: int = 1) -> dict[str, Any]:
        """Wait for the `count`th event of a kind and return its detail."""
        return self.until(lambda: self.events(kind)[count - 1 :])[0]

    def events(self, kind: EventKind) -> list[dict[str, Any]]:
        return [event.detail or {"": None} for event in self.reader.events() if event.kind is kind]

    def order(self, order: ipc.Order) -> None:
        """Send it an order."""
        with suppress(BrokenPipeError):
            self.process.stdin.write(ipc.encode_order(order))
            self.process.stdin.flush()

    def stop(self) -> int:
        """Ask it to finish, and wait for it."""
        self.order(ipc.Stop())
        return self.ended()

    def ended(self) -> int:
        """Wait for its end, without asking for it, and take what is left."""
        self.until(lambda: self.process.poll() is not None, timeout=60)
        output, errors = self.process.communicate(timeout=120)
        self.output += output
        self.errors += errors
        self.reader.take()
        return self.process.returncode

    def lines(self) -> list[ipc.Line]:
        return [msgspec.json.decode(line, type=ipc.Line) for line in self.output.splitlines()]


def _start(command: Sequence[str], descriptors: Sequence[int]) -> subprocess.Popen[bytes]:
    """A receiver in a Python of its own."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-P", *command], stdin=pipe, stdout=pipe, stderr=pipe, pass_fds=descriptors
    )


def plan(url: str, **options: Any) -> ConnectionPlan:
    public = url.partition("?")[0]
    return ConnectionPlan(**{"conn": 0, "feed": "test", "url": url, "public_url": public, **options})


def subscriptions(*texts: str) -> tuple[SubscriptionRequest, ...]:
    """A request each, with a topic, numbered from 1."""
    return tuple(
        subscription_request(text, *named(f"topic of {text}"), number=number) for number, text in enumerate(texts, 1)
    )


every_way_to_wait = pytest.mark.parametrize("receive", list(WaitStrategy), indirect=True)


# adaptive is both in turn
@pytest.fixture(params=[WaitStrategy.EPOLL, WaitStrategy.SPIN])
def receive(request: pytest.FixtureRequest) -> Iterator[Callable[..., Receiver]]:
    """Starts receivers that sleep, and receivers that spin."""
    running: list[Receiver] = []

    def start(*plans: ConnectionPlan, **options: Any) -> Receiver:
        running.append(Receiver(*plans, **{"wait": request.param, **options}))
        return running[-1]

    yield start
    for receiver in running:
        if receiver.process.poll() is None:
            receiver.process.kill()
            receiver.process.communicate()


async def forever(connection) -> None:
    await connection.wait_closed()


def in_force(tls: TlsMode) -> str:
    """What comes of a mode that depends on the system, on this one."""
    if tls in (TlsMode.DIRECT, TlsMode.AUTO) and direct.unable() is None:
        return "direct"
    return "ktls" if tls is TlsMode.KTLS and ktls.unable() is None else "stamped"


@every_way_to_wait
class TestRecording:
    @pytest.mark.usefixtures("kernel_stamps")
    @pytest.mark.parametrize("tls", [None, *TlsMode])
    def test_every_message_in_order(self, receive, exchange, ca_file, tls):
        sent = [f"message {n}" * (n % 50) for n in range(3000)]
        server = exchange(sends(sent), tls=tls is not None)
        receiver = receive(plan(server.url), until_close=True, ca_file=str(ca_file), tls=tls or TlsMode.STAMPED)
        receiver.until(lambda: len(receiver.reader.received()) > len(sent))
        assert receiver.ended() == 0
        messages = receiver.reader.received()
        assert [payload.decode() for opcode, payload in messages if opcode == TEXT] == sent
        assert messages[-1] == (CLOSE, b"\x03\xe8")
        assert receiver.errors == b""

        sources = {slot.source for slot in receiver.reader.taken if slot.opcode == TEXT}
        details = receiver.events(EventKind.TLS)
        assert len(details) == (tls is not None)
        mode = details[0]["mode"] if details else None
        assert mode == (tls if tls in (None, TlsMode.STAMPED, TlsMode.OPENSSL) else in_force(tls))
        if mode == "openssl":
            assert sources == {StampSource.NONE_OPENSSL}
        elif mode == "ktls":
            assert sources == {StampSource.NONE_KTLS}
        else:
            assert StampSource.KERNEL in sources
            assert not details or details[0]["version"] == "TLSv1.3"

    def test_what_it_reports_of_itself(self, receive, exchange):
        server = exchange(forever)
        receiver = receive(plan(server.url))
        connect = receiver.event(EventKind.CONNECT)
        assert connect["url"] == server.url
        assert (connect["address"], connect["port"]) == ("127.0.0.1", int(server.url.split(":")[2].split("/")[0]))
        assert all(connect[key] >= 0 for key in ("resolve_ns", "connect_ns", "tls_ns", "handshake_ns", "attempt"))
        assert receiver.event(EventKind.SCHEDULING)["process"] == "receiver"
        assert receiver.event(EventKind.STAMPING)["reason"] is None
        assert receiver.event(EventKind.ANCHOR, 2)["realtime"] > receiver.event(EventKind.ANCHOR)["realtime"]
        receiver.until(lambda: receiver.status["connected"] == 1)
        assert receiver.status["heartbeat"] <= time.monotonic_ns()
        assert receiver.stop() == 0
        message = f"connected to {server.url}"
        assert receiver.lines() == [ipc.LogLine(level="info", message=message, conn=0, kind="connect")]

    def test_counts_of_each_connection(self, receive, exchange):
        opened = []

        async def once(connection):
            opened.append(connection)
            await connection.send("x" * 1000)
            if len(opened) > 1:
                await forever(connection)

        quiet, ending = exchange(forever), exchange(once)
        receiver = receive(plan(quiet.url, conn=4), plan(ending.url, conn=7))
        rows = receiver.page.connections["receiver"]
        receiver.until(lambda: rows["reconnects"][1] == 1 and rows["connected"].tolist() == [1, 1])
        assert rows["active"].tolist() == [4, 7]
        assert rows["reconnects"].tolist() == [0, 1]
        assert (rows["opened"] <= time.monotonic_ns()).all()
        assert rows["opened"].all()
        receiver.until(lambda: rows["frames"][1] >= 3 and rows["bytes"][1] > 2000)
        assert rows["last_read"].all()
        assert receiver.stop() == 0
        assert rows["connected"].tolist() == [0, 0]
        assert rows["bytes"].sum() == receiver.status["bytes"]
        assert rows["frames"].sum() == receiver.status["frames"]

    def test_two_connections_keep_apart(self, receive, exchange):
        one, two = exchange(sends(["one"] * 100)), exchange(sends(["two"] * 100))
        receiver = receive(plan(one.url), plan(two.url, conn=1), until_close=True)
        assert receiver.ended() == 0
        texts = [(slot.conn, slot.payload) for slot in receiver.reader.taken if slot.opcode == TEXT]
        assert sorted(texts) == [(0, b"one")] * 100 + [(1, b"two")] * 100

    def test_the_command(self, receive, exchange):
        receiver = receive(plan(exchange(sends(["one"])).url), until_close=True, command=["-m", "wsrec.receive"])
        assert receiver.ended() == 0
        assert receiver.reader.received()[0] == (TEXT, b"one")

    def test_a_killed_receiver_leaves_what_it_received(self, receive, exchange):
        async def handler(connection):
            for n in range(1000):
                await connection.send(str(n))
            await forever(connection)

        receiver = receive(plan(exchange(handler).url))
        slots = receiver.reader.slots

        def frames() -> int:
            # not the events, of which a slow machine makes more beside them
            return int((slots.run(0, slots.published.read())["flags"] & CONTROL_RECORD == 0).sum())

        receiver.until(lambda: frames() >= 1000, take=False)
        receiver.process.kill()
        receiver.ended()
        assert [int(payload) for _, payload in receiver.reader.received()] == list(range(1000))


def sent_slots(receiver):
    return [slot for slot in receiver.reader.taken if slot.flags & Flag.SENT]


class TestSending:
    def test_subscriptions_are_sent_in_order_and_spaced(self, receive, exchange):
        on_data: list[tuple[float, str]] = []

        async def handler(connection):
            async for message in connection:
                on_data.append((time.monotonic(), message))

        texts = ["one", "two", "three", "four"]
        receiver = receive(plan(exchange(handler).url, requests=subscriptions(*texts), send_interval=0.1))
        receiver.until(lambda: len(on_data) == 4)
        assert [message for _, message in on_data] == texts
        # the server may hear one late, but never all of them early
        assert on_data[-1][0] - on_data[0][0] > 0.25

        # the server may have heard the last one before its slot was published
        sent = receiver.until(lambda: found if len(found := sent_slots(receiver)) == 4 else None)
        assert [(slot.opcode, slot.payload.decode()) for slot in sent] == [(TEXT, text) for text in texts]
        assert all(after.handoff - before.handoff >= 90_000_000 for before, after in itertools.pairwise(sent))
        assert [detail["topics"] for detail in receiver.events(EventKind.SUBSCRIBE)] == [
            [f"topic of {text}"] for text in texts
        ]
        assert receiver.stop() == 0

    def test_a_ping_is_answered_and_both_are_recorded(self, receive, exchange):
        async def handler(connection):
            await (await connection.ping(b"are you there?"))
            await connection.send("pong came")

        receiver = receive(plan(exchange(handler).url), until_close=True)
        assert receiver.ended() == 0
        assert receiver.reader.received()[:2] == [(PING, b"are you there?"), (TEXT, b"pong came")]
        assert receiver.reader.sent() == [(PONG, b"are you there?"), (CLOSE, b"\x03\xe8")]

    @pytest.mark.parametrize("message", [None, '{"op":"ping"}'])
    def test_keep_alive(self, receive, exchange, message):
        receiver = receive(plan(exchange(forever).url, keep_alive=KeepAlive(every=0.05, text=message)))
        expected = (PING, b"") if message is None else (TEXT, message.encode())
        receiver.until(lambda: receiver.reader.sent()[2:])
        assert set(receiver.reader.sent()) == {expected}
        if message is None:
            receiver.until(lambda: (PONG, b"") in receiver.reader.received())
        assert receiver.stop() == 0

    def test_headers_of_the_plan_are_sent(self, receive, exchange):
        seen: list[Any] = []

        async def handler(connection):
            seen.append(connection.request.headers)

        receiver = receive(plan(exchange(handler).url, headers={"X-Key": "k"}), until_close=True)
        assert receiver.ended() == 0
        assert seen[0]["X-Key"] == "k"
        assert seen[0].get_all("User-Agent")[0].startswith("wsrec/")


def used_so_far(receiver: Receiver) -> int:
    """CPU time of the receiver, ns."""
    return int(Path(f"/proc/{receiver.process.pid}/schedstat").read_text().split()[0])


@every_way_to_wait
class TestCpu:
    def share(self, receiver: Receiver) -> float:
        """CPU time of the receiver as a part of the time."""
        before, began = used_so_far(receiver), time.monotonic_ns()
        time.sleep(0.5)
        return (used_so_far(receiver) - before) / (time.monotonic_ns() - began)

    def test_without_a_connection_nothing_spins(self, receive):
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            receiver = receive(plan(f"ws://127.0.0.1:{closed.getsockname()[1]}/"))
            receiver.event(EventKind.CONNECT_FAILED)
            assert self.share(receiver) < 0.2
            assert receiver.stop() == 1

    def test_with_one_that_says_nothing_only_spin_does(self, receive, exchange):
        receiver = receive(plan(exchange(forever).url))
        receiver.event(EventKind.CONNECT)
        if receiver.event(EventKind.SCHEDULING)["waiting"] != "spin":
            assert self.share(receiver) < 0.2
        else:
            before = used_so_far(receiver)
            receiver.until(lambda: used_so_far(receiver) - before > 100_000_000)
        assert receiver.stop() == 0


class TestEnd:
    @pytest.mark.parametrize("how", ["stop", "end of stdin"])
    def test_closes_with_1000(self, receive, exchange, how):
        codes: list[int] = []

        async def handler(connection):
            await connection.wait_closed()
            codes.append(connection.close_code)

        receiver = receive(plan(exchange(handler).url))
        receiver.event(EventKind.CONNECT)
        if how == "stop":
            assert receiver.stop() == 0
        else:
            receiver.process.stdin.close()
            receiver.process.stdin = None
            assert receiver.ended() == 0
        receiver.until(lambda: codes)
        assert codes == [1000]
        assert receiver.reader.sent() == [(CLOSE, b"\x03\xe8")]
        assert receiver.reader.received() == [(CLOSE, b"\x03\xe8")]
        assert receiver.events(EventKind.CLOSE)[0] == {"code": 1000, "reason": "", "by": "wsrec"}
        assert receiver.events(EventKind.LOST_INTERVAL) == []
        assert receiver.errors == b""

    def test_until_close_ends_it(self, receive, exchange):
        receiver = receive(plan(exchange(sends(["only"])).url), until_close=True)
        assert receiver.ended() == 0
        assert receiver.events(EventKind.CLOSE) == [{"code": 1000, "reason": "", "by": "exchange"}]

    def test_a_close_counts_also_where_the_echo_cannot_be_sent(self, receive):
        def serve(connection: socket.socket) -> None:
            answer(connection, b"")
            # the subscription stays unread, so closing resets the connection right behind the close frame
            time.sleep(0.3)
            connection.sendall(text("last") + b"\x88\x08" + b"\x0f\xa0enough")

        with RawExchange(serve) as server:
            receiver = receive(plan(server.url, requests=subscriptions("all")))
            assert receiver.event(EventKind.CLOSE) == {"code": 4000, "reason": "enough", "by": "exchange"}
            receiver.stop()

    def test_without_until_close_a_normal_close_is_no_end(self, receive, exchange):
        receiver = receive(plan(exchange(sends(["again"])).url))
        receiver.event(EventKind.CONNECT, 2)
        receiver.until(lambda: receiver.reader.received().count((TEXT, b"again")) == 2)
        assert receiver.stop() == 0

    def test_a_whole_session_in_one_segment(self, receive):
        def handler(connection: socket.socket) -> None:
            answer(connection, text("hello") + b"\x88\x02\x03\xe8")

        with RawExchange(handler) as server:
            receiver = receive(plan(server.url), until_close=True)
            assert receiver.ended() == 0
        assert receiver.reader.received() == [(TEXT, b"hello"), (CLOSE, b"\x03\xe8")]
        assert server.accepted == 1
        assert receiver.events(EventKind.CONNECT)

    def test_stopping_among_subscriptions_sends_no_more_of_them(self, receive):
        stopping = threading.Event()

        def handler(connection: socket.socket) -> None:
            answer(connection, b"")
            stopping.wait(10)
            # never answers the close, and holds the connection for longer than the next subscription takes
            time.sleep(0.5)

        with RawExchange(handler) as server:
            many = subscriptions(*map(str, range(100)))
            receiver = receive(plan(server.url, requests=many, send_interval=0.1))
            receiver.until(lambda: len(receiver.reader.sent()) > 1)
            stopping.set()
            assert receiver.stop() == 0
        assert receiver.reader.sent()[-1] == (CLOSE, b"\x03\xe8")
        assert len(receiver.events(EventKind.SUBSCRIBE)) == len(receiver.reader.sent()) - 1
        assert receiver.errors == b""

    def test_without_a_job_it_says_so(self):
        result = subprocess.run(
            [sys.executable, "-P", "-m", "wsrec.receive"], input=b"", capture_output=True, timeout=120, check=False
        )
        assert result.returncode == 1
        line = msgspec.json.decode(result.stdout, type=ipc.Line)
        assert isinstance(line, ipc.FailedLine)
        assert "job cannot be read" in line.message


class TestReconnection:
    def test_after_an_abnormal_close_with_the_interval_that_was_lost(self, receive, exchange):
        async def handler(connection):
            message = await connection.recv()
            await connection.send(f"got {message}")
            if server.connections == 1:
                connection.transport.abort()
            else:
                await forever(connection)

        server = exchange(handler)
        receiver = receive(plan(server.url, requests=subscriptions("hello")))
        lost = receiver.event(EventKind.LOST_INTERVAL)
        assert 0.2e9 < lost["monotonic_to"] - lost["monotonic_from"] < 60e9
        receiver.until(lambda: receiver.reader.received() == [(TEXT, b"got hello")] * 2)
        assert receiver.reader.sent() == [(TEXT, b"hello")] * 2
        assert len(receiver.events(EventKind.DISCONNECT)) == 1
        receiver.until(lambda: receiver.status["reconnects"] == 1)
        assert receiver.stop() == 0
        assert len(receiver.events(EventKind.LOST_INTERVAL)) == 1

    def test_a_frame_that_never_ended_is_counted_and_the_next_connection_begins_clean(self, receive):
        def handler(connection: socket.socket) -> None:
            answer(connection, text("whole") + text("never whole")[:5] if server.accepted == 1 else text("clean"))
            if server.accepted > 1:
                connection.recv(1000)

        with RawExchange(handler) as server:
            receiver = receive(plan(server.url))
            assert receiver.event(EventKind.DISCONNECT)["discarded_bytes"] == 5
            receiver.until(lambda: len(receiver.reader.received()) == 2)
            assert receiver.reader.received() == [(TEXT, b"whole"), (TEXT, b"clean")]
            assert receiver.stop() == 0

    def test_a_message_too_large_closes_with_1009_and_names_the_setting(self, receive, exchange):
        codes: list[int] = []

        async def handler(connection):
            await connection.send("x" * 1001)
            await connection.wait_closed()
            codes.append(connection.close_code)

        receiver = receive(plan(exchange(handler).url), max_message=1000)
        failed = receiver.event(EventKind.CONNECT_FAILED)
        assert "--max-message" in failed["message"]
        receiver.until(lambda: codes)
        assert codes[0] == 1009
        receiver.stop()

    def test_the_time_before_the_first_connection_is_lost_too(self, receive, refusing_port):
        receiver = receive(plan(f"ws://127.0.0.1:{refusing_port}/"))
        assert receiver.event(EventKind.CONNECT_FAILED)["cause"] == "refused"
        assert receiver.stop() == 1
        (lost,) = receiver.events(EventKind.LOST_INTERVAL)
        assert lost["reason"] == "not connected before the session's end"
        failed = receiver.lines()[-1]
        assert isinstance(failed, ipc.FailedLine)
        assert failed.message.startswith("not connected before the end: ")
        assert "refused" in failed.message
        assert failed.hint

    def test_a_server_that_did_not_answer_by_the_end_is_a_failure(self, receive):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            where = f"127.0.0.1:{silent.getsockname()[1]}"
            receiver = receive(plan(f"ws://{where}/?listenKey={SECRET}"))
            receiver.event(EventKind.STAMPING)
            assert receiver.stop() == 1
        assert receiver.events(EventKind.CONNECT_FAILED) == []
        (failed,) = receiver.lines()
        assert isinstance(failed, ipc.FailedLine)
        reported = f"not connected before the end: {where} did not answer the WebSocket handshake in time (tried for "
        assert failed.message.startswith(reported)
        assert "the server on this machine" in failed.hint


class TestRefused:
    @staticmethod
    def refuse(connection, request):
        return connection.respond(403, "Service unavailable from a restricted location")

    def test_a_403_is_permanent_and_named(self, receive, exchange):
        server = exchange(forever, process_request=self.refuse)
        receiver = receive(plan(server.url))
        assert receiver.ended() == 1
        failed = receiver.lines()[-1]
        assert isinstance(failed, ipc.FailedLine)
        assert "HTTP 403" in failed.message
        assert "restricted location" in failed.message
        # no exchange is on this machine
        assert "the server on this machine refuses it" in failed.hint
        (event,) = receiver.events(EventKind.CONNECT_FAILED)
        assert (event["cause"], event["retry_s"]) == ("http", None)

    @pytest.mark.parametrize("tls", TlsMode)
    def test_an_untrusted_certificate_is_permanent(self, receive, exchange, tls):
        receiver = receive(plan(exchange(forever, tls=True).url), tls=tls)
        assert receiver.ended() == 1
        failed = receiver.lines()[-1]
        assert isinstance(failed, ipc.FailedLine)
        assert "certificate" in failed.message
        assert "--ca-file" in failed.hint
        assert receiver.errors == b""

    def test_beside_one_that_works_it_is_tried_again_and_lost_until_the_end(self, receive, exchange):
        good, bad = exchange(forever), exchange(forever, process_request=self.refuse)
        receiver = receive(plan(bad.url), plan(good.url, conn=1))
        receiver.event(EventKind.CONNECT)
        failed = receiver.event(EventKind.CONNECT_FAILED)
        assert 60 <= failed["retry_s"] <= 600
        time.sleep(0.5)
        before = time.monotonic_ns()
        assert receiver.stop() == 0
        (lost,) = receiver.events(EventKind.LOST_INTERVAL)
        assert lost["monotonic_to"] >= before
        assert (lost["from_evidence"], lost["to_evidence"]) == ("connection first wanted", "session's end")

    def test_one_of_two_does_not_end_the_other(self, receive, exchange):
        good, bad = exchange(sends(["x"] * 10)), exchange(forever, process_request=self.refuse)
        receiver = receive(plan(bad.url), plan(good.url, conn=1), until_close=True)
        assert receiver.ended() == 0
        assert len([slot for slot in receiver.reader.taken if slot.opcode == TEXT]) == 10


class TestSecrets:
    def everything(self, receiver: Receiver) -> bytes:
        records = [slot.payload for slot in receiver.reader.taken if slot.flags & (Flag.EVENT | Flag.SENT)]
        return b"".join([receiver.output, receiver.errors, *records])

    def test_do_not_appear_while_it_records(self, receive, exchange):
        server = exchange(sends(["x"]))
        receiver = receive(plan(f"{server.url}?listenKey={SECRET}", headers={"X-Key": SECRET}), until_close=True)
        assert receiver.ended() == 0
        assert server.url.encode() in self.everything(receiver)
        assert SECRET.encode() not in self.everything(receiver)

    def test_do_not_appear_in_a_refusal(self, receive, exchange):
        server = exchange(forever, process_request=TestRefused.refuse)
        receiver = receive(plan(f"{server.url}?listenKey={SECRET}"))
        assert receiver.ended() == 1
        assert b"403" in self.everything(receiver)
        assert SECRET.encode() not in self.everything(receiver)

    def test_do_not_appear_where_the_refusal_repeats_them(self, receive, exchange):
        def refuse(connection, request):
            key = request.headers["X-Key"]
            return connection.respond(403, f"no such place: {request.path}, and no such key: {key}\n")

        server = exchange(forever, process_request=refuse)
        receiver = receive(plan(f"{server.url}?listenKey={SECRET}", headers={"X-Key": "an0ther-secret"}))
        assert receiver.ended() == 1
        assert b"HTTP 403" in self.everything(receiver)
        assert SECRET.encode() not in self.everything(receiver)
        assert b"an0ther" not in self.everything(receiver)

    def test_do_not_appear_when_the_url_is_wrong(self, receive):
        receiver = receive(plan(f"http://localhost/?listenKey={SECRET}"))
        assert receiver.ended() == 1
        (failed,) = receiver.lines()
        assert isinstance(failed, ipc.FailedLine)
        assert failed.hint == "use the form wss://host:port/path"
        assert SECRET.encode() not in self.everything(receiver)


class RawExchange:
    """A server whose handler has the bare socket; each connection is closed after it.

    Attributes:
        url: where it is.
        port: the same.
        accepted: how many connections there were.
    """

    def __init__(self, handler: Callable[[socket.socket], None], at: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self._listening = socket.create_server(at)
        self.port = self._listening.getsockname()[1]
        self.url = f"ws://{at[0]}:{self.port}/"
        self.accepted = 0
        self._handler = handler
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self.accepted += 1
                with connection, suppress(OSError):
                    connection.settimeout(20)
                    self._handler(connection)

    def __enter__(self) -> RawExchange:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(20)


def request(connection: socket.socket) -> ServerProtocol:
    """Read a handshake request."""
    protocol = ServerProtocol()
    while not (events := protocol.events_received()):
        data = connection.recv(65536)
        if not data:
            raise ConnectionResetError("the client sent nothing")
        protocol.receive_data(data)
    protocol.send_response(protocol.accept(events[0]))
    return protocol


def answer(connection: socket.socket, behind: bytes) -> None:
    """Accept a handshake, with frames in the same segment."""
    connection.sendall(b"".join(request(connection).data_to_send()) + behind)


class TestUnsolicitedCompression:
    def test_of_a_server_that_insists_is_recorded_as_it_comes(self, receive):
        stream = zlib.compressobj(wbits=-15)
        sent = [stream.compress(b"same words") + stream.flush(zlib.Z_SYNC_FLUSH)[:-4] for _ in range(2)]

        def serve(sock: socket.socket) -> None:
            accepted = b"".join(request(sock).data_to_send())[:-2]
            sock.sendall(accepted + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
            sock.sendall(b"".join(frame(TEXT, data, rsv1=True) for data in sent))
            while sock.recv(65536):
                pass

        with RawExchange(serve) as server:
            receiver = receive(plan(server.url, compression="deflate"))
            receiver.until(lambda: receiver.reader.received()[1:])
            assert receiver.reader.received() == [(TEXT, data) for data in sent]
            assert receiver.event(EventKind.CONNECT)["compression"] == "permessage-deflate"
            assert receiver.stop() == 0
        assert server.accepted == 2
        (warning,) = (line for line in receiver.lines() if isinstance(line, ipc.LogLine) and line.level == "warning")
        assert "compression was not negotiated" in warning.message
