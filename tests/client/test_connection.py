"""wsrec.connect, against real servers."""

from __future__ import annotations

import asyncio
import gc
import queue
import socket
import ssl
import struct
import threading
import time
import zlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme
import uvloop
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosedError
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.frames import Opcode

import wsrec
from tests.exchange import sends
from tests.receive.conftest import frame, text
from tests.receive.hosts import names
from tests.receive.test_receiver import PING, RawExchange, answer, request

pytestmark = pytest.mark.usefixtures("core")

CONT, TEXT, BINARY, CLOSE = 0, 1, 2, 8


class Client:
    """What a callback saw.

    Attributes:
        messages: opcode and payload of each message.
        stamps: of each message.
    """

    def __init__(self, also: Callable[[wsrec.Message], object] | None = None) -> None:
        self.messages: list[tuple[int, bytes]] = []
        self.stamps: list[wsrec.Stamps] = []
        self.sources: set[wsrec.StampSource] = set()
        self._also = also

    def __call__(self, message: wsrec.Message) -> None:
        self.messages.append((message.opcode, bytes(message)))
        self.stamps.append(message.stamps)
        self.sources.add(message.source)
        if self._also is not None:
            self._also(message)


def run(main: Awaitable[Any]) -> Any:
    async def limited() -> Any:
        async with asyncio.timeout(60):
            return await main

    return asyncio.run(limited())


async def until_closed(url: str, on_message: Callable[[wsrec.Message], object], **options: Any) -> wsrec.Connection:
    async with wsrec.connect(url, on_message=on_message, **options) as connection:
        await connection.wait_closed()
    return connection


async def forever(connection: ServerConnection) -> None:
    await connection.wait_closed()


def raw(*parts: bytes, ends: bool = True) -> RawExchange:
    """A server that sends these bytes behind its handshake, and `ends` the connection at the client's close frame."""

    def serve(client: socket.socket) -> None:
        protocol = request(client)
        client.sendall(b"".join(protocol.data_to_send()) + b"".join(parts))
        with suppress(OSError):
            while data := client.recv(65536):
                protocol.receive_data(data)
                if ends and any(frame.opcode is Opcode.CLOSE for frame in protocol.events_received()):
                    return

    return RawExchange(serve)


class TestMessages:
    @pytest.mark.parametrize("runner", [asyncio.run, uvloop.run])
    @pytest.mark.parametrize("tls", [None, "auto", "direct", "stamped", "openssl"])
    @pytest.mark.usefixtures("kernel_stamps")
    def test_every_message_in_order_and_stamped(self, exchange, ca_file, tls, runner):
        sent = [f"message {n} é" * (n % 50) for n in range(2000)]
        server = exchange(sends(sent), tls=tls is not None)
        client = Client()
        runner(until_closed(server.url, client, ca_file=ca_file, tls=tls or "direct"))
        assert client.messages == [(TEXT, message.encode()) for message in sent]
        for stamps in client.stamps:
            assert list(stamps[1:]) == sorted(stamps[1:])
        handoffs = [stamps.handoff for stamps in client.stamps]
        assert handoffs == sorted(handoffs)
        if tls == "openssl":
            assert {stamps.nic for stamps in client.stamps} == {None}
            assert "openssl" in client.sources.pop().reason
        else:
            offset = wsrec.anchor().offset
            assert client.sources == {wsrec.StampSource.KERNEL}
            assert all(abs(stamps.nic - stamps.recv_end - offset) < 5_000_000_000 for stamps in client.stamps)

    def test_fragments_and_messages_larger_than_the_ring_come_whole(self, exchange):
        sent = [b"x" * size for size in (1 << 14, 1 << 16, 1 << 20)] + [["a", "", "é" * 50_000], [b"\xff", b"\x00"]]
        client = Client()
        run(until_closed(exchange(sends(sent)).url, client, ring_size=1 << 16))
        whole = [(BINARY, message) for message in sent[:3]] + [(TEXT, "".join(sent[3]).encode()), (BINARY, b"\xff\x00")]
        assert client.messages == whole

    def test_reads_and_frames_are_reported(self):
        places = []

        def note(message: wsrec.Message) -> None:
            places.append((message.frame_in_read, message.frames_in_read, message.read_bytes, message.is_text))

        with raw(frame(Opcode.BINARY, b"abc"), text("de"), frame(CLOSE, b"\x03\xe8")) as server:
            run(until_closed(server.url, note))
        assert [place[0] for place in places] == [0, 1] or places[0][1] == 1
        assert [place[3] for place in places] == [False, True]
        assert all(bytes_ >= 4 for _, _, bytes_, _ in places)

    def test_data_is_where_it_lies_and_only_while_the_callback_runs(self, exchange):
        kept: list[Any] = []

        def keep(message: wsrec.Message) -> None:
            data = message.data
            assert data.readonly
            assert bytes(data) == b"hello"
            assert (message.text, len(message), repr(message)) == ("hello", 5, "<wsrec.Message text, 5 bytes>")
            kept.extend((message, data))

        run(until_closed(exchange(sends(["hello"])).url, keep))
        message, data = kept
        with pytest.raises(ValueError, match="released"):
            bytes(data)
        for late in (lambda: message.data, lambda: message.text, lambda: bytes(message), lambda: len(message)):
            with pytest.raises(RuntimeError, match="only during the callback"):
                late()
        assert message.stamps.event < message.stamps.handoff
        assert repr(message) == "<wsrec.Message text, gone>"

    def test_an_array_that_was_kept_breaks_nothing(self, exchange):
        arrays = []
        sent = [bytes([n]) * 1000 for n in range(100)]
        run(until_closed(exchange(sends(sent)).url, lambda message: arrays.append(np.frombuffer(message.data, "u1"))))
        assert len(arrays) == 100

    def test_what_lies_behind_the_close_is_not_handed_on(self):
        client = Client()
        with raw(text("before"), frame(CLOSE, b"\x03\xe8"), text("behind")) as server:
            run(until_closed(server.url, client))
        assert client.messages == [(TEXT, b"before")]


class TestSending:
    def test_text_and_bytes_of_every_kind(self, exchange):
        client = Client()

        async def main() -> None:
            server = exchange(echo)
            async with wsrec.connect(server.url, on_message=client) as connection:
                for message in ("é", b"b", bytearray(b"a"), memoryview(b"m"), "x" * 70_000):
                    connection.send(message)
                await connection.drain()
                await until(lambda: len(client.messages) == 5)

        run(main())
        assert client.messages == [
            (TEXT, "é".encode()),
            (BINARY, b"b"),
            (BINARY, b"a"),
            (BINARY, b"m"),
            (TEXT, b"x" * 70_000),
        ]

    def test_from_the_callback(self, exchange):
        got = []

        async def handler(connection: ServerConnection) -> None:
            await connection.send("ask")
            got.append(await connection.recv())

        run(until_closed(exchange(handler).url, lambda message: message.connection.send(f"{message.text}ed")))
        assert got == ["asked"]

    def test_what_the_server_does_not_read_waits_and_then_is_refused(self):
        async def main() -> None:
            with raw_silent() as server:
                connection = await wsrec.connect(server.url, on_message=print, max_unsent=1 << 20, close_timeout=0.05)
                with pytest.raises(BufferError, match="does not read"):
                    send_for_ever(connection)
                draining = asyncio.ensure_future(connection.drain())
                await asyncio.sleep(0.01)
                assert not draining.done()
                await connection.close()
                with pytest.raises(wsrec.ConnectionClosed):
                    await draining

        run(main())

    def test_pings(self, exchange):
        async def main() -> None:
            async with wsrec.connect(exchange(forever).url, on_message=print) as connection:
                assert 0 < await connection.ping() < 5_000_000_000
                first, second = connection.ping(b"a"), connection.ping(b"b")
                with pytest.raises(ValueError, match="same payload"):
                    connection.ping(b"a")
                assert min(await first, await second) > 0
                with pytest.raises(ValueError, match="125"):
                    connection.ping(bytes(126))

        run(main())

    def test_a_ping_that_was_never_answered(self):
        async def main() -> None:
            with raw(ends=False) as server:
                connection = await wsrec.connect(server.url, on_message=print, close_timeout=0.05)
                pong = connection.ping()
                await connection.close()
                with pytest.raises(wsrec.ConnectionClosed):
                    await pong

        run(main())

    def test_pings_of_the_server_are_answered_in_their_place(self, exchange):
        async def handler(connection: ServerConnection) -> None:
            await connection.send("one")
            await (await connection.ping(b"now"))

        client = Client()
        run(until_closed(exchange(handler).url, client))
        assert client.messages == [(TEXT, b"one")]


class TestEnds:
    def test_theirs_counts_also_where_the_echo_cannot_be_sent(self):
        came, was_reset = threading.Event(), threading.Event()

        def serve(connection: socket.socket) -> None:
            answer(connection, text("last") + frame(CLOSE, b"\x0b\xb8enough"))
            # the same read has both; the connection is reset before the echo
            came.wait(10)
            reset(connection)
            was_reset.set()

        def take(message: wsrec.Message) -> None:
            came.set()
            was_reset.wait(10)

        async def main(url: str) -> None:
            connection = await wsrec.connect(url, on_message=take)
            with pytest.raises(wsrec.ConnectionClosed, match="enough") as raised:
                await connection.wait_closed()
            assert raised.value.code == 3000

        with RawExchange(serve) as server:
            run(main(server.url))

    @pytest.mark.parametrize("runner", [asyncio.run, uvloop.run])
    def test_a_reset_that_comes_with_a_message_in_one_wake_up(self, runner):
        taken, was_reset = threading.Event(), threading.Event()

        def serve(connection: socket.socket) -> None:
            answer(connection, text("first"))
            taken.wait(10)
            connection.sendall(text("second"))
            reset(connection)
            was_reset.set()

        came = []

        def take(message: wsrec.Message) -> None:
            came.append(bytes(message))
            taken.set()
            # then the rest is there when the loop looks again
            was_reset.wait(10)

        async def main(url: str) -> None:
            connection = await wsrec.connect(url, on_message=take)
            async with asyncio.timeout(10):
                with pytest.raises(wsrec.ConnectionClosed, match="1006"):
                    await connection.wait_closed()

        with RawExchange(serve) as server:
            runner(main(server.url))
        assert came == [b"first", b"second"]

    def test_what_was_made_of_a_view_and_kept_outlives_the_connection(self, exchange):
        kept: list[Any] = []

        def keep(message: wsrec.Message) -> None:
            kept.extend((message.data[1:5], np.frombuffer(message.data, np.uint8)))

        run(until_closed(exchange(sends([b"x" * 1000])).url, keep))
        gc.collect()
        assert bytes(kept[0]) == b"xxxx"
        assert kept[1].tobytes() == b"x" * 1000

    def test_a_close_of_ours_reaches_the_exchange(self, exchange):
        closes = []

        async def handler(connection: ServerConnection) -> None:
            await connection.wait_closed()
            closes.append((connection.close_code, connection.close_reason))

        async def main() -> None:
            connection = await wsrec.connect(exchange(handler).url, on_message=print)
            assert not connection.closed
            with pytest.raises(ValueError, match="1006"):
                await connection.close(1006)
            with pytest.raises(ValueError, match="123"):
                await connection.close(1000, "é" * 62)
            await connection.close(4000, "enough")
            await connection.close()
            await connection.wait_closed()
            assert connection.closed
            for call in (lambda: connection.send("x"), connection.ping):
                with pytest.raises(wsrec.ConnectionClosed, match="4000") as raised:
                    call()
                assert raised.value.code == 4000
            await until(lambda: closes)

        run(main())
        assert closes == [(4000, "enough")]

    def test_ours_without_an_answer(self):
        async def main() -> None:
            with raw(ends=False) as server:
                connection = await wsrec.connect(server.url, on_message=print, close_timeout=0.05)
                await connection.close()
                await connection.wait_closed()

        run(main())

    def test_messages_come_until_the_answer(self):
        def serve(client: Any) -> None:
            answer(client, b"")
            client.recv(1000)
            client.sendall(text("late") + frame(CLOSE, b"\x03\xe8"))

        client = Client()

        async def main() -> None:
            with RawExchange(serve) as server:
                async with wsrec.connect(server.url, on_message=client):
                    pass

        run(main())
        assert client.messages == [(TEXT, b"late")]

    @pytest.mark.parametrize("code", [1000, 1001])
    def test_the_servers_normal_one(self, exchange, code):
        async def handler(connection: ServerConnection) -> None:
            await connection.close(code, "bye")

        run(until_closed(exchange(handler).url, print))

    def test_the_servers_other_ones_say_why(self, exchange):
        async def handler(connection: ServerConnection) -> None:
            await connection.close(1008, "too many requests")

        with pytest.raises(wsrec.ConnectionClosed, match="1008 too many requests") as raised:
            run(until_closed(exchange(handler).url, print))
        assert (raised.value.code, raised.value.reason) == (1008, "too many requests")

    @pytest.mark.parametrize("how", [b"", b"\x81\x05ab"], ids=["between frames", "within one"])
    def test_a_connection_that_is_lost(self, how):
        def serve(client: Any) -> None:
            answer(client, how)

        with RawExchange(serve) as server, pytest.raises(wsrec.ConnectionClosed) as raised:
            run(until_closed(server.url, print))
        assert raised.value.code == 1006

    def test_what_the_callback_raises(self, exchange):
        closes: queue.Queue[int | None] = queue.Queue()

        async def handler(connection: ServerConnection) -> None:
            for _ in range(3):
                await connection.send("x")
            with suppress(ConnectionClosedError):
                await connection.recv()
            closes.put(connection.close_code)

        calls = []

        def fail(message: wsrec.Message) -> None:
            calls.append(message)
            # what `message.text` of a binary message raises is not taken for the server's fault
            str(b"\xff", "utf-8")

        with pytest.raises(UnicodeDecodeError):
            run(until_closed(exchange(handler).url, fail))
        assert closes.get(timeout=60) == 1011
        assert len(calls) == 1

    def test_answering_on_a_connection_that_closes_is_no_error(self, exchange):
        async def main() -> None:
            def answer_it(message: wsrec.Message) -> None:
                message.connection.send("answer")

            async def handler(connection: ServerConnection) -> None:
                await connection.recv()
                await connection.send("x")

            connection = await wsrec.connect(exchange(handler).url, on_message=answer_it)
            connection.send("go")
            await connection.close()
            await connection.wait_closed()

        run(main())

    @pytest.mark.parametrize(
        ("wire", "code"),
        [
            (b"\x83\x00", 1002),
            (frame(CONT, b"x"), 1002),
            (b"\x81\x81....a", 1002),
            (frame(Opcode.TEXT, b"x", rsv1=True), 1002),
            (frame(CLOSE, b"\x03\xee"), 1002),
            (text(b"\xff"), 1007),
            (text(b"ok") + text(b"a" * 100 + b"\xed\xa0\x80"), 1007),
            (frame(TEXT, b"\xce", fin=False) + frame(CONT, b"\x28", fin=False), 1007),
            (frame(TEXT, b"\xce", fin=False) + frame(CONT, b""), 1007),
            (frame(BINARY, bytes(1001)), 1009),
            (frame(BINARY, bytes(600), fin=False) + frame(CONT, bytes(600)), 1009),
        ],
    )
    def test_a_server_that_violates_the_protocol_is_closed_with_the_reason(self, wire, code):
        reported = []

        def serve(client: Any) -> None:
            answer(client, wire)
            data = b""
            while part := client.recv(65536):
                data += part
                if len(data) >= 8:
                    # masked: opcode and length, four bytes of mask, the code
                    reported.append((data[0] & 15, int.from_bytes(data[6:8]) ^ int.from_bytes(data[2:4])))
                    break

        with RawExchange(serve) as server, pytest.raises(wsrec.ConnectionClosed) as raised:
            run(until_closed(server.url, print, max_message=1000))
        assert raised.value.code == code
        assert reported == [(CLOSE, code)]

    def test_text_that_is_cut_within_a_character_is_valid(self):
        client = Client()
        parts = [frame(TEXT, b"\xce", fin=False), frame(CONT, b"\xba", fin=False), frame(CONT, b""), text("κ")]
        with raw(*parts, frame(CLOSE, b"\x03\xe8")) as server:
            run(until_closed(server.url, client))
        assert client.messages == [(TEXT, "κ".encode())] * 2


class TestCompression:
    @pytest.mark.parametrize("takeover", [True, False])
    def test_messages_come_inflated_and_go_compressed(self, exchange, takeover):
        factory = ServerPerMessageDeflateFactory(server_no_context_takeover=not takeover)
        server = exchange(echo, compression=None, extensions=[factory])
        client = Client()
        sent = [f"message {n} " * 100 for n in range(50)] + [b"\x00\xff" * 1000, ""]

        async def main() -> wsrec.Connection:
            async with wsrec.connect(server.url, on_message=client, compression="deflate") as connection:
                for message in sent:
                    connection.send(message)
                await until(lambda: len(client.messages) == len(sent))
            return connection

        connection = run(main())
        assert [payload for _, payload in client.messages] == [m.encode() if isinstance(m, str) else m for m in sent]
        assert ("server_no_context_takeover" in connection.compression) is not takeover

    def test_a_server_that_declines_sends_as_it_is(self, exchange):
        client = Client()
        connection = run(until_closed(exchange(sends(["x" * 1000])).url, client, compression="deflate"))
        assert connection.compression is None
        assert client.messages == [(TEXT, b"x" * 1000)]

    def test_a_bomb_closes_with_1009(self, exchange):
        server = exchange(sends([bytes(1 << 20)]), compression="deflate")
        with pytest.raises(wsrec.ConnectionClosed, match="1009"):
            run(until_closed(server.url, print, compression="deflate", max_message=1 << 16))

    @pytest.mark.parametrize("offered", [None, "deflate"])
    def test_a_server_that_compresses_unasked_behind_an_early_hint_byte_by_byte(self, offered):
        stream = zlib.compressobj(wbits=-15)
        sent = [b"one and the same words", b"one and the same words", b"the same words"]

        def serve(client: Any) -> None:
            accepted = b"".join(request(client).data_to_send())[:-2]
            data = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + accepted
            data += b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
            for message in sent:
                packed = stream.compress(message) + stream.flush(zlib.Z_SYNC_FLUSH)[:-4]
                data += frame(TEXT, packed, rsv1=True)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in data + frame(CLOSE, b"\x03\xe8"):
                client.sendall(bytes((byte,)))

        client = Client()
        with RawExchange(serve) as server:
            run(until_closed(server.url, client, compression=offered))
        assert client.messages == [(TEXT, message) for message in sent]

    def test_compressed_text_is_validated(self):
        stream = zlib.compressobj(wbits=-15)
        packed = stream.compress(b"\xff") + stream.flush(zlib.Z_SYNC_FLUSH)[:-4]

        def serve(client: Any) -> None:
            head = (
                b"".join(request(client).data_to_send())[:-2] + b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
            )
            client.sendall(head + frame(TEXT, packed, rsv1=True))
            client.recv(65536)

        with RawExchange(serve) as server, pytest.raises(wsrec.ConnectionClosed, match="1007"):
            run(until_closed(server.url, print, compression="deflate"))


class TestOpening:
    @pytest.mark.parametrize(
        ("url", "options", "words"),
        [
            ("https://h/p", {}, "not a WebSocket URL"),
            ("wss://user:secret@/p", {}, "not a WebSocket URL"),
            ("wss://h/p", {"ring_size": 1000}, "power of two"),
            ("wss://h/p", {"ring_size": 4096}, "ring_size must be at least 65536"),
            ("wss://h/p", {"compression": "gzip"}, "'gzip'"),
            ("wss://h/p", {"tls": "none"}, "none"),
        ],
    )
    def test_wrong_arguments(self, url, options, words):
        with pytest.raises(ValueError, match=words) as raised:
            wsrec.connect(url, on_message=print, **options)
        assert "secret" not in str(raised.value)

    def test_a_refusal(self, exchange):
        server = exchange(forever, process_request=lambda connection, request: connection.respond(429, "slow down"))
        with pytest.raises(wsrec.HandshakeRefused, match="429") as raised:
            run(until_closed(server.url, print))
        assert (raised.value.status, raised.value.body) == (429, "slow down")

    def test_what_is_no_websocket(self):
        def serve(client: Any) -> None:
            client.recv(1000)
            client.sendall(b"SSH-2.0-x\r\n")

        with RawExchange(serve) as server, pytest.raises(wsrec.HandshakeError, match="not HTTP"):
            run(until_closed(server.url, print))

    def test_a_server_that_closes_at_once(self):
        with (
            RawExchange(lambda client: client.recv(1000)) as server,
            pytest.raises(wsrec.HandshakeError, match="closed"),
        ):
            run(until_closed(server.url, print))

    def test_certificates_are_verified(self, exchange, tmp_path: Path):
        other = tmp_path / "ca.pem"
        trustme.CA().cert_pem.write_to_path(str(other))
        with pytest.raises(ssl.SSLCertVerificationError):
            run(until_closed(exchange(forever, tls=True).url, print, ca_file=other))

    def test_no_server(self):
        with raw() as server:
            url = server.url
        with pytest.raises(ConnectionRefusedError):
            run(until_closed(url, print))

    def test_no_answer_in_time(self):
        with (
            RawExchange(lambda client: client.recv(1000) and client.recv(1)) as server,
            pytest.raises(TimeoutError, match=r"did not answer within 0\.05 s"),
        ):
            run(until_closed(server.url, print, open_timeout=0.05))

    def test_a_name_server_that_does_not_answer_is_named(self, monkeypatch):
        # a name of its own: the process's resolver goes on with what another test has left
        name, over = f"n{time.monotonic_ns()}.test", threading.Event()
        monkeypatch.setattr(socket, "getaddrinfo", names({name: lambda: ["127.0.0.1"] * over.wait(30)}))
        with pytest.raises(socket.gaierror, match=rf"did not answer for {name} within 0\.05 s"):
            run(until_closed(f"ws://{name}:1/", print, open_timeout=0.05))
        over.set()

    def test_an_address_that_did_not_answer_is_not_the_next_one_s_first(self, exchange, monkeypatch):
        server = exchange(sends(["x"]))
        port = int(server.url.split(":")[2].split("/")[0])
        monkeypatch.setattr(socket, "getaddrinfo", names({"localhost": ["127.0.0.2", "127.0.0.1"]}))
        with RawExchange(lambda client: client.recv(1000) and client.recv(1), ("127.0.0.2", port)):
            with pytest.raises(TimeoutError):
                run(until_closed(server.url, print, open_timeout=0.2))
            assert run(until_closed(server.url, print)).address[0] == "127.0.0.1"

    def test_headers(self, exchange):
        async def handler(connection: ServerConnection) -> None:
            await connection.send(connection.request.headers["X-Key"])
            await connection.send(connection.request.headers["User-Agent"])

        client = Client()
        run(until_closed(exchange(handler).url, client, headers={"X-Key": "k"}))
        assert client.messages == [(TEXT, b"k"), (TEXT, f"wsrec/{wsrec.__version__}".encode())]

    def test_address_and_tls_are_reported(self, exchange, ca_file):
        connection = run(until_closed(exchange(sends([]), tls=True).url, print, ca_file=ca_file))
        assert connection.address[0] in ("127.0.0.1", "::1")
        assert connection.tls.version.startswith("TLS")

    def test_nothing_is_left_behind(self, exchange):
        """Neither descriptors nor the rings' memory, also without the garbage collector."""
        server = exchange(sends(["x"]))

        async def main() -> None:
            for _ in range(3):
                await until_closed(server.url, print)
            gc.collect()
            gc.disable()
            before = left()
            for _ in range(5):
                await until_closed(server.url, lambda message: None)
                with suppress(ConnectionRefusedError):
                    await wsrec.connect("ws://127.0.0.1:1/", on_message=print)
            # the server, which is in this process, closes its side of a connection a little later, also of one before
            deadline = time.monotonic() + 10
            while grown(before) and time.monotonic() < deadline:
                await asyncio.sleep(0.01)
            gc.enable()
            after = left()
            assert not grown(before), (before, after)

        run(main())


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def until(found: Callable[[], Any]) -> None:
    while not found():
        await asyncio.sleep(0.002)


def reset(connection: socket.socket) -> None:
    """Close a connection by a reset."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def raw_silent() -> RawExchange:
    """A server that reads nothing once it is open."""

    def serve(client: Any) -> None:
        answer(client, b"")
        with suppress(OSError):
            while True:
                client.sendall(frame(PING, b""))
                time.sleep(0.02)

    return RawExchange(serve)


def send_for_ever(connection: wsrec.Connection) -> None:
    while True:
        connection.send(bytes(1 << 20))


def grown(before: tuple[int, int]) -> bool:
    return any(now > then for now, then in zip(left(), before, strict=True))


def left() -> tuple[int, int]:
    """How many descriptors this process has, and how many mappings of rings."""
    return len(list(Path("/proc/self/fd").iterdir())), Path("/proc/self/maps").read_text().count("memfd:wsrec")
