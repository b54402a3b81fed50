"""What a receiver sends, as exchanges demand it: each exchange here disconnects a client that does not."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gzip
import itertools
import json
import math
import re
import socket
import statistics
import textwrap
import threading
import time
import zlib

import msgspec
import pytest
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory

from tests.receive.conftest import text
from tests.receive.test_receiver import (
    CLOSE,
    SECRET,
    TEXT,
    RawExchange,
    Receiver,
    forever,
    plan,
    receive,
    request,
    subscriptions,
)
from tests.subscriptions import named
from tests.subscriptions import request as subscription_request
from wsrec import ipc
from wsrec.options.record import WaitStrategy
from wsrec.plan.connections import Answer, KeepAlive, TokenRequest
from wsrec.ring.events import EventKind
from wsrec.ring.slot_flags import Flag

__all__ = ["receive"]


class TestTokens:
    def answer(self, url, token=SECRET):
        return {"data": {"token": token, "servers": [{"endpoint": url.replace("/stream", "/endpoint")}]}}

    def planned(self, server, https, **options):
        host = server.url.partition("/stream")[0]
        return plan(
            f"{host}/?token={{token}}&connectId={{uuid}}",
            token=TokenRequest(url=https.url, method="POST", token="data.token", endpoint="data.servers[0].endpoint"),
            **options,
        )

    def test_a_new_one_for_every_connection(self, receive, exchange, https, ca_file):
        seen = []

        async def handler(connection):
            seen.append(connection.request.path)
            if len(seen) < 2:
                await connection.close(1012)
            await connection.wait_closed()

        server = exchange(handler, tls=True)
        tokens = iter(["a&b#", SECRET])
        api = https(lambda path: self.answer(server.url, next(tokens)))
        receiver = receive(self.planned(server, api), ca_file=str(ca_file))
        receiver.event(EventKind.CONNECT, 2)
        assert receiver.stop() == 0
        pattern = r"/endpoint\?token={}&connectId=[0-9a-f-]{{36}}"
        assert re.fullmatch(pattern.format(re.escape("a%26b%23")), seen[0])
        assert re.fullmatch(pattern.format(SECRET), seen[1])
        assert [method for method, _, _ in api.requested] == ["POST", "POST"]
        reported = receiver.output + receiver.errors + b"".join(slot.payload for slot in receiver.reader.taken)
        assert SECRET.encode() not in reported

    @pytest.mark.parametrize(
        ("answer", "expected"),
        [
            ((500, {}, SECRET.encode()), "answered HTTP 500"),
            ({"data": {"token": 5}}, "no text at data.token"),
            ({"data": {"token": SECRET, "servers": []}}, "no wss:// address at"),
            ({"data": {"token": SECRET, "servers": [{"endpoint": "ws://localhost/"}]}}, "no wss:// address at"),
            ({"data": {"token": SECRET, "servers": [{"endpoint": "wss://u:p@h/"}]}}, "more than scheme, host"),
            ((200, {}, b"<" + SECRET.encode()), "is not JSON"),
            ((200, {}, b"x" * (65 << 10)), "answered more than"),
        ],
    )
    def test_none_is_a_failure_of_its_own_kind(self, receive, exchange, https, ca_file, answer, expected):
        server = exchange(forever, tls=True)
        receiver = receive(self.planned(server, https(lambda path: answer)), ca_file=str(ca_file))
        failure = receiver.event(EventKind.CONNECT_FAILED)
        assert failure["cause"] == "token"
        assert expected in failure["message"]
        receiver.stop()
        assert SECRET not in str(receiver.reader.events())
        assert SECRET.encode() not in receiver.output + receiver.errors

    def test_a_certificate_that_is_not_to_be_trusted(self, receive, exchange, https):
        receiver = receive(self.planned(exchange(forever, tls=True), https(lambda path: {})))
        assert "certificate not verified" in receiver.event(EventKind.CONNECT_FAILED)["message"]


def pings(encode, wanted, reply):
    """An exchange that sends data and pings, and disconnects a client that does not answer."""

    async def handler(connection):
        for number in range(3):
            for _ in range(20):
                await connection.send(encode({"data": "x" * 500}))
            await connection.send(encode(wanted(number)))
            async with asyncio.timeout(60):
                assert json.loads(await connection.recv()) == reply(number)
        await connection.send(encode({"done": True}))
        await connection.wait_closed()

    return handler


class TestAnswers:
    @pytest.mark.parametrize(
        ("answer", "encode", "wanted", "reply"),
        [
            (
                Answer(path="ping", text='{"pong":{value}}', value="ping"),
                lambda message: gzip.compress(json.dumps(message).encode()),
                lambda number: {"ping": 10**20 + number},
                lambda number: {"pong": 10**20 + number},
            ),
            (
                Answer(
                    path="method",
                    match="public/heartbeat",
                    value="id",
                    text='{"id":{value},"method":"public/respond-heartbeat"}',
                ),
                json.dumps,
                lambda number: {"id": number, "method": "public/heartbeat"},
                lambda number: {"id": number, "method": "public/respond-heartbeat"},
            ),
            (
                Answer(path="params.type", match="test_request", text='{"id":{id},"method":"public/test"}'),
                json.dumps,
                lambda number: {"method": "heartbeat", "params": {"type": "test_request"}},
                lambda number: {"id": 1_000_000 + number, "method": "public/test"},
            ),
            (
                Answer(path="op", match="ping", text='{"op":"pong","ts":{value}}', value="ts"),
                json.dumps,
                lambda number: {"op": "ping", "ts": 'a"{id}\\'},
                lambda number: {"op": "pong", "ts": 'a"{id}\\'},
            ),
        ],
        ids=["gzip", "id", "without value", "text"],
    )
    @pytest.mark.parametrize("compression", [None, "deflate"])
    def test_who_answers_stays(self, receive, exchange, answer, encode, wanted, reply, compression):
        factory = ServerPerMessageDeflateFactory(server_no_context_takeover=True)
        server = exchange(pings(encode, wanted, reply), extensions=[factory] if compression else None)
        receiver = receive(plan(server.url, answers=(answer,), compression=compression))
        receiver.until(lambda: len(receiver.reader.received()) == 64)
        assert len(receiver.reader.sent()) == 3
        assert receiver.stop() == 0
        assert server.connections == 1

    @pytest.mark.parametrize("compression", [None, "deflate"])
    def test_pings_in_several_frames(self, receive, exchange, compression):
        def parts(number):
            packed = gzip.compress(json.dumps({"ping": number}).encode())
            return [packed[:9], packed[9:12], b"", packed[12:]]

        async def handler(connection):
            # the end of a message that is too long for a ping, and one that never ends, are no part of the next
            await connection.send(['{"x":"', "".join(map(str, range(2000))), '","ping":1}'])
            await connection.send(parts(2))
            await connection.send(['{"pi', 'ng":3}'])
            await connection.send('{"ping":4}')
            await connection.wait_closed()

        factory = ServerPerMessageDeflateFactory(server_no_context_takeover=True)
        server = exchange(handler, extensions=[factory] if compression else None)
        answers = (Answer(path="ping", text="{value}", value="ping", max_bytes=100),)
        receiver = receive(plan(server.url, answers=answers, compression=compression))
        receiver.until(lambda: len(receiver.reader.sent()) == 3)
        assert [text for _, text in receiver.reader.sent()] == [b"2", b"3", b"4"]

    def test_a_ping_between_whose_frames_a_connection_is_lost_is_none(self, receive, exchange):
        async def handler(connection):
            if server.connections == 1:
                begun = connection.protocol
                begun.send_text(b'{"ping":1', fin=False)
                for data in begun.data_to_send():
                    connection.transport.write(data)
                connection.transport.close()
                return
            await connection.send('{"ping":2}')
            await connection.wait_closed()

        server = exchange(handler)
        receiver = receive(plan(server.url, answers=(Answer(path="ping", text="{value}", value="ping"),)))
        assert receiver.until(receiver.reader.sent) == [(TEXT, b"2")]

    @pytest.mark.parametrize("compression", [None, "deflate"])
    def test_pings_that_are_no_json(self, receive, exchange, compression):
        answers = (
            Answer(message="Ping", text="Pong"),
            Answer(message="ping {value} end", text="pong {value} {id}"),
            Answer(message="packed", text="{value}", encoding="gzip"),
            Answer(message="raw", text="bytes", encoding="binary"),
            Answer(path="ping", text='{"pong":{value}}', value="ping"),
        )
        took, of_protocol, replies = [], [], []

        async def handler(connection):
            for ping in (
                "Ping",
                b"Ping",
                gzip.compress(b"Ping"),
                zlib.compress(b"Ping"),
                ["Pi", "", "ng"],
                [gzip.compress(b"Ping")[:5], gzip.compress(b"Ping")[5:]],
                "ping 123 end",
                "ping 12x{id} end",
                gzip.compress(b"packed"),
                "raw",
                '{"ping":7}',
            ):
                for other in ("ping", "Pinge", "Ping\n", "ping 12 endx", "p" * 300, '{"Ping":1}', b"\x1f\x8bPing"):
                    await connection.send(other)
                began = time.monotonic()
                await connection.send(ping)
                async with asyncio.timeout(60):
                    replies.append(await connection.recv())
                took.append(time.monotonic() - began)
                began = time.monotonic()
                await (await connection.ping())
                of_protocol.append(time.monotonic() - began)
            await connection.send("done")
            await connection.wait_closed()

        factory = ServerPerMessageDeflateFactory(server_no_context_takeover=True)
        server = exchange(handler, extensions=[factory] if compression else None)
        receiver = receive(plan(server.url, answers=answers, compression=compression))
        receiver.until(lambda: any(payload == b"done" for _, payload in receiver.reader.received()) or len(took) == 11)
        assert replies[:8] == ["Pong"] * 6 + ["pong 123 1000006", "pong 12x{id} 1000007"]
        assert gzip.decompress(replies[8]) == b""
        assert replies[9:] == [b"bytes", '{"pong":7}']
        # at once, and not with the next batch or look: pings of the protocol share how busy this machine is
        assert statistics.median(took) < 0.1 + 3 * statistics.median(of_protocol)

    @pytest.mark.parametrize("fragments", [False, True])
    def test_pings_alone_are_no_data(self, receive, exchange, fragments):
        async def handler(connection):
            while True:
                await connection.send(["Pi", "ng"] if fragments else "Ping")
                await connection.send('{"ping":1}')
                await asyncio.sleep(0.05)

        answers = (Answer(message="Ping", text="Pong"), Answer(path="ping", text="pong"))
        receiver = receive(plan(exchange(handler).url, answers=answers, idle_timeout=0.5))
        assert receiver.event(EventKind.STALE)["idle_s"] == 0.5
        receiver.stop()

    def test_other_messages_are_not_answered(self, receive, exchange):
        async def handler(connection):
            for message in ['{"ping":1', "ping", '{"x":{"ping":1}}', '["ping"]', b"\x1f\x8bping", "[" * 200 + '"ping"']:
                await connection.send(message)
            await connection.send(json.dumps({"ping": 1, "x": "x" * 300}))
            await connection.send('{"ping":2}')
            await connection.wait_closed()

        receiver = receive(plan(exchange(handler).url, answers=(Answer(path="ping", text="{value}", value="ping"),)))
        assert receiver.until(receiver.reader.sent) == [(TEXT, b"2")]


@pytest.mark.parametrize("receive", [WaitStrategy.EPOLL], indirect=True)
class TestClosing:
    """What happens on one connection while it closes does not affect the others."""

    def test_its_pings_are_ignored_and_the_others_live(self, receive):
        answers = (Answer(message="Ping", text="Pong"),)
        with RawExchange(pings_while_it_closes) as theirs, RawExchange(pings_while_it_closes) as ours:
            ping_sources = plan(theirs.url, conn=0, answers=answers)
            receiver = receive(
                ping_sources,
                msgspec.structs.replace(ping_sources, conn=1, standby_of=0),
                plan(ours.url, conn=2, feed="bystander", answers=answers),
            )
            receiver.event(EventKind.CONNECT, 2)
            receiver.order(ipc.Renew(conn=0, reason="it is old"))
            receiver.event(EventKind.CONNECT, 3)
            receiver.until(functools.partial(replaced_once_settled, receiver, 1))
            for conn in (1, 2):
                answered = len(opcodes_sent(receiver, conn))
                receiver.until(functools.partial(sends_more, receiver, conn, answered))
            assert receiver.stop() == 0
            assert receiver.events(EventKind.LOST_INTERVAL) == receiver.events(EventKind.CONNECT_FAILED) == []
            assert (theirs.accepted, ours.accepted) == (2, 1)
            for conn in range(3):
                assert opcodes_sent(receiver, conn).index(CLOSE) == len(opcodes_sent(receiver, conn)) - 1

    def test_a_ping_that_no_text_can_repeat(self, receive, exchange):
        async def handler(connection):
            await connection.send('{"ping":"\\ud800"}')
            async with asyncio.timeout(60):
                await connection.send(await connection.recv())
            await connection.wait_closed()

        server = exchange(handler)
        receiver = receive(plan(server.url, answers=(Answer(path="ping", text='{"pong":{value}}', value="ping"),)))
        receiver.until(lambda: len(receiver.reader.received()) == 2)
        assert receiver.reader.received()[1] == (TEXT, b'{"pong":"\\ud800"}')
        assert server.connections == 1


def opcodes_sent(receiver: Receiver, conn: int) -> list[int]:
    """The opcodes of what was sent on one connection."""
    return [slot.opcode for slot in receiver.reader.taken if slot.flags & Flag.SENT and slot.conn == conn]


def replaced_once_settled(receiver: Receiver, conn: int) -> bool:
    # an order that comes before the proof has begun has no effect
    receiver.order(ipc.Settled(conn=conn, since=time.monotonic_ns()))
    time.sleep(0.1)
    return bool(receiver.events(EventKind.REPLACED))


def sends_more(receiver: Receiver, conn: int, than: int) -> bool:
    return len(opcodes_sent(receiver, conn)) > than


def pings_while_it_closes(connection: socket.socket) -> None:
    """Sends data and pings all the time, and answers a close late."""
    threading.Thread(target=_ping_while_it_closes, args=(connection.dup(),), daemon=True).start()


def _ping_while_it_closes(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        protocol = request(connection)
        connection.sendall(b"".join(protocol.data_to_send()))
        connection.settimeout(0.02)
        answer_at = math.inf
        while time.monotonic() < answer_at:
            connection.sendall(text("data") + text("Ping"))
            with contextlib.suppress(TimeoutError):
                protocol.receive_data(connection.recv(4096))
            if any(frame.opcode == CLOSE for frame in protocol.events_received()):
                answer_at = time.monotonic() + 0.4
        connection.sendall(b"\x88\x02\x03\xe8")


class TestTasksOfTheReceiver:
    """A task that fails leaves the receiver useless, so the receiver exits."""

    @pytest.mark.parametrize(
        "broken", ["pong_responder.PongResponder.look", "process.anchor"], ids=["a task", "a callback"]
    )
    def test_its_error_is_reported_and_another_receiver_may_take_over(self, exchange, broken, tmp_path):
        code = f"""
            import os, sys
            from wsrec.receive import pong_responder, process
            real = {broken}
            def broken(*args):
                if os.path.exists(sys.argv[1]):
                    raise RuntimeError("this is broken")
                return real(*args)
            {broken} = broken
            sys.exit(process.main())
        """
        server, breaks = exchange(forever), tmp_path / "breaks"
        planned = plan(server.url, answers=(Answer(path="ping", text="pong"),))
        receiver = Receiver(planned, command=["-c", textwrap.dedent(code), str(breaks)])
        try:
            # not while it starts, however long that takes
            receiver.event(EventKind.CONNECT)
            receiver.event(EventKind.ANCHOR, 2)
            breaks.touch()
            receiver.until(lambda: receiver.process.poll() is not None)
            assert receiver.ended() == 1
        finally:
            receiver.process.kill()
        *stated, failed = receiver.lines()
        assert isinstance(failed, ipc.FailedLine)
        assert (failed.message, failed.again) == ("the receiver failed: RuntimeError: this is broken", True)
        assert any("in broken" in line.message for line in stated if isinstance(line, ipc.LogLine))


class TestSubscriber:
    def test_what_comes_first(self, receive, exchange):
        server = exchange(forever)
        stated = subscriptions("one", "two")
        receiver = receive(
            plan(server.url, wait=0.3, first=('{"id":{id},"conf":1}',), requests=stated, send_interval=0.1)
        )
        receiver.until(lambda: len(receiver.reader.sent()) == 3)
        assert [payload.decode() for _, payload in receiver.reader.sent()] == ['{"id":1000000,"conf":1}', "one", "two"]
        # not sooner; how much later is the machine's
        moments = [slot.handoff for slot in receiver.reader.taken if slot.flags & Flag.SENT]
        (connected,) = (slot.handoff for slot in receiver.reader.taken if b'"connect"' in slot.payload)
        waited = [after - before for before, after in itertools.pairwise([connected, *moments])]
        assert all(took >= least for took, least in zip(waited, (290_000_000, 90_000_000, 90_000_000), strict=True))

    def test_what_is_requested_again_is_unsubscribed_first(self, receive, exchange):
        stated = subscription_request('{"sub":1}', *named("t"), undo='{"unsub":{id}}')
        receiver = receive(plan(exchange(forever).url, requests=(stated,)))
        receiver.until(receiver.reader.sent)
        receiver.order(ipc.Resubscribe(conn=0, topics=("t",), reason="a gap"))
        receiver.until(lambda: len(receiver.reader.sent()) == 3)
        assert [text for _, text in receiver.reader.sent()] == [b'{"sub":1}', b'{"unsub":1000000}', b'{"sub":1}']

    def test_time_is_that_of_sending(self, receive, exchange):
        before = time.time_ns() // 1_000_000
        stated = (subscription_request('{"nonce":{time_ms},"ticket":"{uuid}"}', *named("t")),)
        receiver = receive(plan(exchange(forever).url, requests=stated))
        ((_, payload),) = receiver.until(receiver.reader.sent)
        message = json.loads(payload)
        assert before <= message["nonce"] <= time.time_ns() // 1_000_000
        assert len(message["ticket"]) == 36

    def test_keep_alive_counts_up(self, receive, exchange):
        receiver = receive(plan(exchange(forever).url, keep_alive=KeepAlive(every=0.05, text='{"ping":{id}}')))
        sent = receiver.until(lambda: receiver.reader.sent()[1:])
        assert receiver.reader.sent()[0] == (TEXT, b'{"ping":1000000}')
        assert sent[0] == (TEXT, b'{"ping":1000001}')

    def test_topics_of_the_address_are_reported(self, receive, exchange):
        receiver = receive(plan(f"{exchange(forever).url}?streams=a/b", requested_by_url=named("a", "b")))
        assert receiver.event(EventKind.SUBSCRIBE) == {"topics": ["a", "b"]}
        assert receiver.reader.sent() == []
