"""wsrec.receive.tls: the same bytes out of every transport, from a real TLS server."""

from __future__ import annotations

import asyncio
import hashlib
import random
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import trustme

from tests.receive.conftest import readable, tcp_pair
from wsrec.host import timestamping
from wsrec.net.trust import tls_context
from wsrec.receive import ktls, transport
from wsrec.receive.direct import DirectTransport
from wsrec.receive.hotpath import MIN_ROOM
from wsrec.receive.ktls import KtlsTransport
from wsrec.receive.tls import OpensslTransport, StampedTlsTransport, TlsTransport
from wsrec.receive.transport import READ_MAX, Transport
from wsrec.stages import StampSource
from wsrec.tls.key_log import KeyLog

MODES = ["stamped", "direct", "openssl"]
VERSIONS = {"TLSv1.2": ssl.TLSVersion.TLSv1_2, "TLSv1.3": ssl.TLSVersion.TLSv1_3}

Serve = Callable[[ssl.SSLSocket], Any]


class Server:
    """One TLS connection, served in a thread; `result` is what `serve` returned."""

    def __init__(self, serve: Serve, authority: trustme.CA, version: ssl.TLSVersion | None = None) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("localhost").configure_cert(self.context)
        if version is not None:
            self.context.minimum_version = self.context.maximum_version = version
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = self._listening.getsockname()
        self.result: Any = None
        self._serve = serve
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        plain, _ = self._listening.accept()
        plain.settimeout(20)
        with suppress(OSError), plain, self.context.wrap_socket(plain, server_side=True) as connection:
            self.result = self._serve(connection)

    def join(self) -> Any:
        self._thread.join(20)
        assert not self._thread.is_alive()
        return self.result

    def close(self) -> None:
        self._listening.close()
        self._thread.join(20)


@pytest.fixture
def serve(authority) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(function: Serve, version: str | None = None, ca: trustme.CA = authority) -> Server:
        servers.append(Server(function, ca, VERSIONS[version] if version else None))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(params=MODES)
def mode(request) -> str:
    return request.param


def make(mode: str, sock: socket.socket, context: ssl.SSLContext, host: str, *, stamped: bool = False) -> TlsTransport:
    """A transport of this mode on a connected socket."""
    if mode == "stamped":
        return StampedTlsTransport(sock, stamped=stamped, context=context, host=host)
    if mode == "direct":
        return DirectTransport(sock, stamped=stamped, context=context, host=host, key_log=KeyLog(context))
    if mode == "ktls":
        return KtlsTransport(sock, context=ktls.enable(context), key_log=KeyLog(context), host=host)
    return OpensslTransport(sock, context=context, host=host)


class Client:
    """A transport and what it has read."""

    def __init__(self, server: Server, mode: str, context: ssl.SSLContext, host: str = "localhost") -> None:
        sock = socket.create_connection(server.address)
        sock.setblocking(False)
        stamped = timestamping.enable(sock)
        self.transport: Any = make(mode, sock, context, host, stamped=stamped)
        self.data = bytearray()
        self.ended = False
        self.room = READ_MAX
        self.reads: list[tuple[int, int, int, StampSource]] = []

    async def __aenter__(self) -> Client:
        try:
            self.details = await self.transport.handshake()
        except BaseException:
            self.transport.close()
            raise
        assert self.transport.by_record is isinstance(self.transport, DirectTransport)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.transport.close()

    async def read(self) -> int | None:
        """Wait for the socket and read once, into as much room as the hot path would give.

        Returns:
            The size of the last part of the read; 0 at the end of the stream.

        """
        if self.ended:
            return 0
        await readable(self.transport)
        into = memoryview(bytearray(self.room))
        got = size = self.transport.read(into)
        while size:
            got = size
            self.data += into[:size]
            self.reads.append((size, self.transport.read_bytes, self.transport.stamp, self.transport.source))
            into = into[size:]
            size = self.transport.more(into)
        self.ended = size == 0
        return got

    async def read_to_end(self) -> bytes:
        async with asyncio.timeout(60):
            while await self.read() != 0:
                pass
        return bytes(self.data)


def talk(server: Server, mode: str, ca_file, first: bytes = b"go", room: int = READ_MAX) -> Client:
    """Connect, send `first` as a WebSocket client would, and read to the end."""

    async def run() -> Client:
        async with Client(server, mode, tls_context(str(ca_file))) as client:
            client.room = room
            client.transport.send(first)
            await client.read_to_end()
            return client

    return asyncio.run(run())


def after_go(data: bytes, *, notify: bool = False) -> Serve:
    def serve(connection: ssl.SSLSocket) -> None:
        assert connection.recv(2) == b"go"
        connection.sendall(data)
        if notify:
            # the client has it all before the close_notify
            with suppress(OSError):
                connection.settimeout(1)
                connection.unwrap()

    return serve


class TestTls:
    @pytest.mark.parametrize("version", VERSIONS)
    @pytest.mark.parametrize("size", [1, 16_384, 16_385, 5_000_000])
    def test_the_data_is_identical(self, serve, mode, ca_file, version, size):
        data = random.Random(size).randbytes(size)
        client = talk(serve(after_go(data), version), mode, ca_file)
        assert hashlib.sha256(client.data).digest() == hashlib.sha256(data).digest()
        assert client.details.version == version
        assert client.details.bits >= 128

    @pytest.mark.parametrize("version", VERSIONS)
    @pytest.mark.parametrize("room", [MIN_ROOM, MIN_ROOM + 1, 50_000])
    def test_into_a_ring_that_is_nearly_full(self, serve, mode, ca_file, version, room):
        """OpenSSL keeps most of a record to itself: what it holds and what is read must fit the room together."""
        data = random.Random(room).randbytes(5_000_000)
        client = talk(serve(after_go(data), version), mode, ca_file, room=room)
        assert hashlib.sha256(client.data).digest() == hashlib.sha256(data).digest()

    @pytest.mark.parametrize("version", VERSIONS)
    def test_many_small_records(self, serve, mode, ca_file, version):
        def small(connection: ssl.SSLSocket) -> None:
            connection.recv(2)
            for n in range(2000):
                connection.sendall(b"%4d" % n)

        assert talk(serve(small, version), mode, ca_file).data == b"".join(b"%4d" % n for n in range(2000))

    @pytest.mark.parametrize("version", VERSIONS)
    def test_close_notify_is_the_end(self, serve, mode, ca_file, version):
        def polite(connection: ssl.SSLSocket) -> None:
            connection.recv(2)
            with suppress(OSError):
                connection.settimeout(10)
                connection.unwrap()

        assert talk(serve(polite, version), mode, ca_file).data == b""

    @pytest.mark.parametrize("version", VERSIONS)
    def test_an_end_without_close_notify_is_the_end_too(self, serve, mode, ca_file, version):
        assert talk(serve(after_go(b"last words"), version), mode, ca_file).data == b"last words"

    def test_the_certificate_is_there_to_be_reported(self, serve, mode, ca_file):
        async def run():
            async with Client(serve(lambda connection: connection.recv(1)), mode, tls_context(str(ca_file))) as client:
                return client.transport.peer_certificate()

        assert ("DNS", "localhost") in asyncio.run(run())["subjectAltName"]

    def test_a_record_cut_anywhere_brings_nothing_and_then_all(self, authority, mode, ca_file):
        # a proxy that hands ciphertext on in single bytes
        data = b"x" * 300
        server = Server(after_go(data), authority)
        with Drip(server.address) as drip:
            server.address = drip.address
            client = talk(server, mode, ca_file)
            assert client.data == data
            assert len(client.reads) == 1
        server.close()


class Drip:
    """A TCP proxy that passes what the server sends on in small pieces."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = self._listening.getsockname()
        self._target = target
        self._threads = [threading.Thread(target=self._run, daemon=True)]
        self._threads[0].start()

    def _run(self) -> None:
        client, _ = self._listening.accept()
        with client, socket.create_connection(self._target) as server:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            up = threading.Thread(target=self._up, args=(client, server), daemon=True)
            up.start()
            with suppress(OSError):
                while data := server.recv(7):
                    client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            up.join(10)

    @staticmethod
    def _up(client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)

    def __enter__(self) -> Drip:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads[0].join(10)
        self._listening.close()


class TestTrust:
    def test_another_ca_is_refused(self, serve, mode, ca_file):
        async def run():
            async with Client(serve(after_go(b""), ca=trustme.CA()), mode, tls_context(str(ca_file))):
                pass

        with pytest.raises(ssl.SSLCertVerificationError):
            asyncio.run(run())

    def test_the_system_s_cas_alone_do_not_know_ours(self, serve, mode):
        async def run():
            async with Client(serve(after_go(b"")), mode, tls_context(None)):
                pass

        with pytest.raises(ssl.SSLCertVerificationError):
            asyncio.run(run())

    def test_another_host_name_is_refused(self, serve, mode, ca_file):
        async def run():
            async with Client(serve(after_go(b"")), mode, tls_context(str(ca_file)), host="exchange.test"):
                pass

        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            asyncio.run(run())

    def test_what_is_no_tls_is_an_ssl_error(self, mode, ca_file):
        server, client = tcp_pair()
        client.setblocking(False)

        async def run():
            transport = make(mode, client, tls_context(str(ca_file)), "localhost")
            try:
                server.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                await transport.handshake()
            finally:
                transport.close()

        with server, pytest.raises(ssl.SSLError, match=r"(?i)wrong.version.number"):
            asyncio.run(run())

    def test_an_end_within_the_handshake_is_an_os_error(self, mode, ca_file):
        server, client = tcp_pair()
        client.setblocking(False)

        async def run():
            transport = make(mode, client, tls_context(str(ca_file)), "localhost")
            server.shutdown(socket.SHUT_WR)
            try:
                await transport.handshake()
            finally:
                transport.close()

        with server, pytest.raises(OSError):
            asyncio.run(run())

    def test_a_ca_file_without_a_certificate_is_refused(self, tmp_path):
        path = tmp_path / "empty.pem"
        path.touch()
        with pytest.raises(ssl.SSLError):
            tls_context(str(path))


class TestBroken:
    BAD_RECORD = b"\x17\x03\x03\x00\x30" + bytes(48)

    @pytest.fixture(params=["stamped", "direct"])
    def mode(self, request) -> str:
        return request.param

    def test_what_came_before_a_broken_record_is_read_first(self, mode, authority, ca_file):
        self.check(mode, authority, ca_file, lambda tls, outgoing: outgoing.read() + self.BAD_RECORD, ssl.SSLError)

    def test_what_came_before_a_close_notify_is_read_first(self, mode, authority, ca_file):
        self.check(mode, authority, ca_file, close_notify, None)

    def test_bytes_behind_a_close_notify_are_no_endless_loop(self, mode, authority, ca_file):
        self.check(mode, authority, ca_file, lambda *tls: close_notify(*tls) + self.BAD_RECORD, None)

    @staticmethod
    def check(mode, authority, ca_file, last_words, error):
        async def run():
            listening = socket.create_server(("127.0.0.1", 0))
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert("localhost").configure_cert(context)
            thread = threading.Thread(target=good_then, args=(listening, context, last_words), daemon=True)
            thread.start()
            sock = socket.create_connection(listening.getsockname())
            sock.setblocking(False)
            transport = make(mode, sock, tls_context(str(ca_file)), "localhost")
            try:
                await transport.handshake()
                transport.send(b"go")
                into = memoryview(bytearray(READ_MAX))
                while (size := transport.read(into)) is None:
                    await readable(transport)
                assert bytes(into[:size]) == b"good"
                # the server does not close the connection, and still the end is noticed
                if mode == "direct":
                    read = transport.more
                else:
                    await readable(transport)
                    read = transport.read
                if error is None:
                    assert read(into) == 0
                else:
                    with pytest.raises(error):
                        read(into)
                    with pytest.raises(error):
                        transport.read(into)
            finally:
                transport.close()
                thread.join(10)
                listening.close()

        asyncio.run(run())


def close_notify(tls: ssl.SSLObject, outgoing: ssl.MemoryBIO) -> bytes:
    with suppress(ssl.SSLWantReadError):
        tls.unwrap()
    return outgoing.read()


def good_then(listening: socket.socket, context: ssl.SSLContext, last_words: Callable[..., bytes]) -> None:
    connection, _ = listening.accept()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_side=True)
    with connection, suppress(OSError):
        for step in (tls.do_handshake, lambda: tls.read(2)):
            while True:
                try:
                    step()
                    break
                except ssl.SSLWantReadError:
                    if outgoing.pending:
                        connection.sendall(outgoing.read())
                    incoming.write(connection.recv(65536))
            if outgoing.pending:
                connection.sendall(outgoing.read())
        tls.write(b"good")
        connection.sendall(last_words(tls, outgoing))
        connection.recv(65536)


class TestSend:
    def test_more_than_the_socket_takes_is_sent_later_and_in_order(self, serve, mode, ca_file, monkeypatch):
        monkeypatch.setattr(transport, "UNSENT_MAX", 1 << 24)
        release = threading.Event()
        parts = [random.Random(n).randbytes(300_000) for n in range(20)]
        whole = b"".join(parts)

        def slow(connection: ssl.SSLSocket) -> str:
            release.wait(20)
            data = bytearray()
            while len(data) < len(whole):
                data += connection.recv(65536)
            connection.sendall(b"done")
            return hashlib.sha256(data).hexdigest()

        server = serve(slow)

        async def run():
            async with Client(server, mode, tls_context(str(ca_file))) as client:
                for part in parts:
                    client.transport.send(part)
                release.set()
                return await client.read_to_end()

        assert asyncio.run(run()) == b"done"
        assert server.join() == hashlib.sha256(whole).hexdigest()

    def test_to_a_server_that_never_reads_is_bounded(self, mode, serve, ca_file):
        release = threading.Event()
        server = serve(lambda _: release.wait(20))

        async def run():
            async with Client(server, mode, tls_context(str(ca_file))) as client:
                with pytest.raises(ConnectionAbortedError, match="does not read"):
                    send_much(client.transport)
                assert transport.UNSENT_MAX <= len(client.transport._unsent) < transport.UNSENT_MAX + 20_000

        try:
            asyncio.run(run())
        finally:
            release.set()

    def test_to_a_server_that_is_gone(self, mode, serve, ca_file):
        async def run():
            async with Client(serve(after_go(b"")), mode, tls_context(str(ca_file))) as client:
                client.transport.send(b"go")
                await client.read_to_end()
                with pytest.raises(OSError):
                    await send_for_ever(client.transport)

        asyncio.run(run())


def send_much(transport: Transport) -> None:
    for _ in range(6400):
        transport.send(bytes(10_000))


async def send_for_ever(transport: Transport) -> None:
    async with asyncio.timeout(60):
        while True:
            transport.send(b"x")
            await asyncio.sleep(0)


class TestStamps:
    @pytest.mark.usefixtures("kernel_stamps")
    @pytest.mark.parametrize("mode", ["stamped", "direct"])
    def test_modes_that_read_ciphertext_have_the_kernel_s(self, mode, serve, ca_file):
        def chat(connection: ssl.SSLSocket) -> None:
            for _ in range(30):
                connection.sendall(connection.recv(2))

        async def run():
            async with Client(serve(chat), mode, tls_context(str(ca_file))) as client:
                for _ in range(30):
                    client.transport.send(b"go")
                    while not await client.read():
                        pass
            return client

        client = asyncio.run(run())
        size, taken, _, source = client.reads[-1]
        assert size == 2
        assert taken > 2 + 16  # the ciphertext: header, tag and payload
        assert source is StampSource.KERNEL
        stamps = [stamp for _, _, stamp, _ in client.reads]
        assert stamps == sorted(stamps)
        assert len(set(stamps)) == len(stamps)

    def test_openssl_has_none_and_says_why(self, serve, ca_file):
        client = talk(serve(after_go(bytes(40_000))), "openssl", ca_file)
        assert {(stamp, source) for _, _, stamp, source in client.reads} == {(0, StampSource.NONE_OPENSSL)}
        assert sum(taken for _, taken, _, _ in client.reads) == 40_000
