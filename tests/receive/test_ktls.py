"""wsrec.receive.ktls: TLS that the kernel decrypts, and what is done where it does not.

Few machines that run tests have the kernel's TLS module. Where it is missing and QEMU and a Debian kernel are there,
test_machine.py runs `TestKernel` and `TestRecords` in an emulated machine that has it, and records there.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import platform
import random
import socket
import ssl
import sys
import termios
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import trustme

from tests.conftest import events_of, messages_of, received
from tests.exchange import sends
from tests.receive.clock_in_machine import IN_FRAGMENTS, OVER_TLS
from tests.receive.conftest import frame, readable, tcp_pair, text
from tests.receive.test_connection import Life
from tests.receive.test_receiver import RawExchange, answer
from tests.receive.test_tls import VERSIONS, Client, Drip, Server, after_go, close_notify, good_then, talk
from tests.tls.records import OpensslServer
from wsrec.format.capture import message_files, metadata, open_messages
from wsrec.net.trust import tls_context
from wsrec.options.record import TlsMode
from wsrec.receive import backoff, ktls
from wsrec.receive.hotpath import MIN_ROOM
from wsrec.receive.ktls import KeysChangedError, KtlsRefused, KtlsTransport
from wsrec.receive.tls_choice import TlsPolicy
from wsrec.receive.transport import READ_MAX
from wsrec.ring.events import EventKind
from wsrec.stages import StampSource
from wsrec.tls.key_log import KeyLog
from wsrec.tls.keys import SUITES, tls13_keys

UNABLE = ktls.unable()
needs_kernel = pytest.mark.skipif(UNABLE is not None, reason=f"not on this machine: {UNABLE and UNABLE.reason}")
needs_none = pytest.mark.skipif(UNABLE is None, reason="this machine's kernel does decrypt TLS")

# linux/tls.h
SOL_TLS, TLS_TX, TLS_SET_RECORD_TYPE = 282, 1, 1
# kernels follow new keys since 6.14
FOLLOWS = tuple(int(part) for part in platform.release().split(".")[:2]) >= (6, 14)


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Every further attempt comes at once."""
    monkeypatch.setattr(backoff, "FIRST", 0.01)
    monkeypatch.setattr(backoff, "LONGEST", 0.01)


@pytest.fixture
def tls_server(authority):
    """Starts an exchange over one TLS version and cipher list; what it sends is that of `answer`."""
    running: list[RawExchange] = []

    def start(
        data: bytes, *, version: ssl.TLSVersion | None = None, ciphers: str | None = None, stay: bool = True
    ) -> RawExchange:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        if version is not None:
            context.minimum_version = context.maximum_version = version
        if ciphers is not None:
            context.set_ciphers(ciphers)

        def handler(sock: socket.socket) -> None:
            with context.wrap_socket(sock, server_side=True) as wrapped:
                answer(wrapped, data)
                if stay:
                    wrapped.recv(100)

        server = RawExchange(handler)
        server.__enter__()
        running.append(server)
        server.url = server.url.replace("ws:", "wss:")
        return server

    yield start
    for server in running:
        server.__exit__(None, None, None)


def record(server: RawExchange, ca_file, tls: TlsMode, **options) -> Life:
    """Receive until the server closes."""

    async def run() -> Life:
        life = Life(server.url, str(ca_file), tls=tls, **options)
        await asyncio.wait_for(life.task, 60)
        life.reader.take()
        return life

    return asyncio.run(run())


HELLO = text("hello") + frame(8, b"\x03\xe8")


@needs_none
class TestWithoutTheKernel:
    """What a user has whose kernel has no TLS module."""

    def test_the_reason_and_the_hint(self):
        assert UNABLE is not None
        assert "TLS" in UNABLE.reason
        assert "modprobe" in UNABLE.hint or "OpenSSL" in UNABLE.hint or "stamped" in UNABLE.hint

    def test_ktls_becomes_stamped_and_says_why(self, tls_server, ca_file):
        life = record(tls_server(HELLO), ca_file, TlsMode.KTLS)
        (detail,) = life.events(EventKind.TLS)
        assert (detail["mode"], detail["fallback"]) == ("stamped", UNABLE.reason)
        assert detail["kernel_rx"] is None
        assert detail["version"] == "TLSv1.3"
        assert life.reader.received()[0] == (1, b"hello")
        assert life.events(EventKind.STAMPING)[0]["reason"] is None

    def test_auto_without_stamps_becomes_openssl(self, tls_server, ca_file, monkeypatch):
        monkeypatch.setattr("wsrec.host.timestamping.enable", lambda _: False)
        life = record(tls_server(HELLO), ca_file, TlsMode.AUTO)
        (detail,) = life.events(EventKind.TLS)
        assert (detail["mode"], detail["fallback"]) == ("openssl", UNABLE.reason)

    def test_it_is_one_warning_and_stands_in_the_files(self, wsrec, exchange, ca_file, tmp_path):
        server = exchange(sends(["one", "two"]), tls=True)
        done = wsrec.run(
            "record", server.url, "--ca-file", ca_file, "--until-close", "--out", tmp_path, "--tls", "ktls"
        )
        assert done.returncode == 0, done.stderr
        (warning,) = [line for line in done.stderr.splitlines() if "--tls ktls is not possible" in line]
        assert UNABLE.reason in warning
        assert UNABLE.hint in warning
        assert [event["detail"]["fallback"] for event in events_of(tmp_path, "tls")] == [UNABLE.reason]
        (file,) = message_files([tmp_path])
        with open_messages(file) as parquet:
            tls = metadata(parquet)["connections"][0]["tls"]
        assert (tls["mode"], tls["fallback"]) == ("stamped", UNABLE.reason)


class TestAuto:
    def test_is_direct_where_the_system_gives_stamps(self, tls_server, ca_file):
        life = record(tls_server(HELLO), ca_file, TlsMode.AUTO)
        (detail,) = life.events(EventKind.TLS)
        assert (detail["mode"], detail["fallback"]) == ("direct", None)


class TestRefused:
    """What only shows at the handshake or after it. The server's part in it needs no kernel that decrypts."""

    @pytest.fixture(autouse=True)
    def believed_able(self, monkeypatch):
        monkeypatch.setattr(ktls, "unable", lambda: None)

    def test_a_server_of_other_ciphers_gets_stamped(self, tls_server, ca_file, capfd):
        server = tls_server(HELLO, version=ssl.TLSVersion.TLSv1_2, ciphers="ECDHE+AES256:!AESGCM:!AESCCM")
        life = record(server, ca_file, TlsMode.KTLS)
        (detail,) = life.events(EventKind.TLS)
        assert detail["mode"] == "stamped"
        assert detail["fallback"].startswith("the server rejected TLS with AES-GCM or ChaCha20 (")
        assert life.reader.received()[0] == (1, b"hello")
        assert capfd.readouterr().err.count("--tls ktls is not possible") == 1

    def test_one_broken_handshake_is_not_held_against_the_server(self, authority, ca_file):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)

        def handler(sock: socket.socket) -> None:
            if server.accepted == 1:
                return
            with context.wrap_socket(sock, server_side=True) as wrapped:
                answer(wrapped, text("hello"))

        async def run() -> list[str]:
            life = Life(server.url.replace("ws:", "wss:"), str(ca_file), tls=TlsMode.KTLS)
            await life.until(lambda: len(life.events(EventKind.TLS)) >= 2)
            await life.stop()
            return [str(detail["fallback"]) for detail in life.events(EventKind.TLS)][:2]

        with RawExchange(handler) as server:
            first, second = asyncio.run(run())
        assert "rejected TLS" in first
        # it was tried again, whatever came of it here
        assert "rejected TLS" not in second

    @needs_none
    def test_a_connection_that_the_kernel_did_not_take_over_is_never_called_ktls(self, tls_server, ca_file, capfd):
        server = tls_server(text("hello"), stay=False)

        async def run() -> Life:
            life = Life(server.url, str(ca_file), tls=TlsMode.KTLS)
            await life.until(lambda: len(life.events(EventKind.CONNECT)) == 3)
            await life.stop()
            return life

        life = asyncio.run(run())
        details = life.events(EventKind.TLS)
        assert {detail["mode"] for detail in details} == {"stamped"}
        assert all("the kernel has no TLS" in detail["fallback"] for detail in details)
        assert server.accepted <= 1 + len(details) + 1
        assert capfd.readouterr().err.count("--tls ktls is not possible") == 1


@needs_kernel
class TestKernel:
    """Against real TLS servers."""

    @pytest.mark.parametrize("version", VERSIONS)
    @pytest.mark.parametrize(("size", "room"), [(1, READ_MAX), (16_385, READ_MAX), (1_000_000, MIN_ROOM)])
    def test_the_data_is_identical(self, authority, ca_file, version, size, room):
        data = random.Random(size).randbytes(size)
        server = Server(after_go(data), authority, VERSIONS[version])
        client = talk(server, "ktls", ca_file, room=room)
        assert hashlib.sha256(client.data).digest() == hashlib.sha256(data).digest()
        assert client.details.version == version
        assert client.details.kernel_rx == f"{version} AES-256-GCM"
        assert {(stamp, source) for _, _, stamp, source in client.reads} == {(0, StampSource.NONE_KTLS)}
        assert sum(taken for _, taken, _, _ in client.reads) == size
        server.close()

    @pytest.mark.parametrize(
        "suite",
        [
            "TLS_AES_128_GCM_SHA256",
            "TLS_CHACHA20_POLY1305_SHA256",
            "ECDHE-RSA-AES128-GCM-SHA256",
            "ECDHE-ECDSA-CHACHA20-POLY1305",
        ],
    )
    def test_of_every_suite_and_through_new_keys(self, suite, authority, ca_file, tmp_path):
        """The session tickets of TLS 1.3 and KeyUpdates are among it."""

        async def line(transport: KtlsTransport) -> bytes:
            into, data = memoryview(bytearray(READ_MAX)), b""
            while not data.endswith(b"\n"):
                await readable(transport)
                size = transport.read(into)
                assert size != 0
                data += into[: size or 0]
            return data

        async def run() -> None:
            sock = socket.create_connection(("127.0.0.1", server.port))
            sock.setblocking(False)
            context = ktls.enable(tls_context(str(ca_file)))
            transport = KtlsTransport(sock, context=context, key_log=KeyLog(context), host="localhost")
            try:
                details = await transport.handshake()
                assert details.cipher == suite
                assert details.kernel_rx == f"{details.version} {SUITES[suite].cipher.upper()}"
                for command in (b"", b"", *((b"K\n", b"k\n") if details.version == "TLSv1.3" else ())):
                    if command:
                        server.say(command)
                        await readable(transport)
                        if not FOLLOWS:
                            with pytest.raises(KeysChangedError, match="cannot follow"):
                                transport.read(memoryview(bytearray(READ_MAX)))
                            return
                        assert transport.read(memoryview(bytearray(READ_MAX))) is None
                    server.say(b"from the server\n")
                    assert await line(transport) == b"from the server\n"
                    transport.send(b"to the server\n")
                    assert server.line(b"to ") == b"to the server"
            finally:
                transport.close()

        with OpensslServer(suite, authority, tmp_path) as server:
            asyncio.run(run())

    @pytest.mark.parametrize("version", VERSIONS)
    def test_what_came_before_the_kernel_took_over_is_the_kernels_to_decrypt(
        self, authority, ca_file, version, monkeypatch
    ):
        # which the socket holds, whatever its buffers
        data = random.Random(0).randbytes(20_000)
        server = Server(lambda connection: (connection.sendall(data), connection.recv(2)), authority, VERSIONS[version])
        enable_in_kernel = ktls._enable_in_kernel

        def enable_late(sock: socket.socket) -> None:
            until = time.monotonic() + 60
            while int.from_bytes(fcntl.ioctl(sock, termios.FIONREAD, bytes(4)), sys.byteorder) < len(data):
                assert time.monotonic() < until
                time.sleep(0.01)
            enable_in_kernel(sock)

        monkeypatch.setattr(ktls, "_enable_in_kernel", enable_late)
        assert talk(server, "ktls", ca_file).data == data
        server.close()

    def test_one_read_takes_many_records(self, authority, ca_file):
        def small(connection: ssl.SSLSocket) -> None:
            connection.recv(2)
            for n in range(3000):
                connection.sendall(b"%4d" % n)

        server = Server(small, authority)
        client = talk(server, "ktls", ca_file)
        assert client.data == b"".join(b"%4d" % n for n in range(3000))
        assert len(client.reads) < 3000
        server.close()

    def test_a_record_cut_anywhere_brings_nothing_and_then_all(self, authority, ca_file):
        data = b"x" * 300
        server = Server(after_go(data), authority)
        with Drip(server.address) as drip:
            server.address = drip.address
            client = talk(server, "ktls", ca_file)
            assert client.data == data
            assert len(client.reads) == 1
        server.close()

    def test_an_end_without_close_notify_is_the_end_too(self, authority, ca_file):
        server = Server(after_go(b"last words"), authority)
        assert talk(server, "ktls", ca_file).data == b"last words"
        server.close()

    def test_a_broken_record_is_an_ssl_error_after_what_came_before(self, authority, ca_file):
        bad = b"\x17\x03\x03\x00\x30" + bytes(48)
        with pytest.raises(ssl.SSLError, match="the kernel rejected a TLS record"):
            self.read_to_end(authority, ca_file, lambda tls, outgoing: outgoing.read() + bad)

    def test_close_notify_is_the_end_after_what_came_before(self, authority, ca_file):
        self.read_to_end(authority, ca_file, close_notify)

    @staticmethod
    def read_to_end(authority, ca_file, last_words):
        async def run():
            listening = socket.create_server(("127.0.0.1", 0))
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert("localhost").configure_cert(context)
            thread = threading.Thread(target=good_then, args=(listening, context, last_words), daemon=True)
            thread.start()
            sock = socket.create_connection(listening.getsockname())
            sock.setblocking(False)
            client_context = ktls.enable(tls_context(str(ca_file)))
            transport = KtlsTransport(sock, context=client_context, key_log=KeyLog(client_context), host="localhost")
            try:
                await transport.handshake()
                transport.send(b"go")
                into = memoryview(bytearray(READ_MAX))
                size = None
                while size is None:
                    # session tickets come first
                    await readable(transport)
                    size = transport.read(into)
                assert bytes(into[:size]) == b"good"
                # the server does not close the connection, and still the end is noticed
                await readable(transport)
                assert transport.read(into) == 0
            finally:
                transport.close()
                thread.join(20)
                listening.close()

        asyncio.run(run())

    @pytest.mark.parametrize(("ca", "host"), [(False, "localhost"), (True, "exchange.test")])
    def test_certificate_and_host_name_are_verified(self, authority, ca_file, ca, host):
        server = Server(after_go(b""), authority if ca else trustme.CA())

        async def run():
            async with Client(server, "ktls", tls_context(str(ca_file)), host=host):
                pass

        with pytest.raises(ssl.SSLCertVerificationError):
            asyncio.run(run())
        server.close()

    def test_a_cipher_that_the_kernel_has_not_is_seen_after_the_handshake(self, authority, ca_file):
        server, others = Server(lambda connection: connection.recv(2), authority), "ECDHE+AES256:!AESGCM:!AESCCM"
        server.context.maximum_version = ssl.TLSVersion.TLSv1_2
        server.context.set_ciphers(others)
        context = tls_context(str(ca_file))

        async def run():
            client = Client(server, "ktls", context)
            context.set_ciphers(others)
            async with client:
                pass

        with pytest.raises(KtlsRefused, match=r"does not decrypt TLSv1\.2 ECDHE-ECDSA-AES256-SHA384"):
            asyncio.run(run())
        server.close()

    def test_auto_without_stamps_is_ktls(self, tls_server, ca_file, monkeypatch):
        monkeypatch.setattr("wsrec.host.timestamping.enable", lambda _: False)
        life = record(tls_server(HELLO), ca_file, TlsMode.AUTO)
        (detail,) = life.events(EventKind.TLS)
        assert (detail["mode"], detail["fallback"]) == ("ktls", None)

    def test_a_whole_recording(self, wsrec, exchange, ca_file, tmp_path):
        async def handler(connection):
            for message in OVER_TLS:
                await connection.send(message)
            await connection.send(IN_FRAGMENTS)

        server = exchange(handler, tls=True)
        command = ["record", server.url, "--ca-file", ca_file, "--until-close", "--out", tmp_path, "--tls", "ktls"]
        done = wsrec.run(*command)
        assert done.returncode == 0, done.stderr
        assert "not possible" not in done.stderr
        check_recording(tmp_path, messages_of(tmp_path), ["TLSv1.3"])


def check_recording(out: Path, table: pa.Table, versions: list[str]) -> None:
    """Hold a recording over kTLS, of servers of these versions that sent `OVER_TLS`, against what it has to say."""
    for conn in set(table["conn"].to_pylist()):
        payloads = received(table.filter(pc.equal(table["conn"], conn)))
        assert [payload.decode() for payload in payloads] == [*OVER_TLS, "".join(IN_FRAGMENTS)]
    assert table["nic_time"].null_count == len(table)
    assert set(table["recv_source"].to_pylist()) == {"user"}
    found = [event["detail"] for event in events_of(out, "tls")]
    assert [(tls["mode"], tls["fallback"]) for tls in found] == [("ktls", None)] * len(versions)
    assert sorted(tls["version"] for tls in found) == versions
    assert sorted(tls["kernel_rx"] for tls in found) == [f"{version} AES-256-GCM" for version in versions]
    abouts = []
    for file in message_files([out]):
        with open_messages(file) as parquet:
            abouts.append(metadata(parquet))
    connections = [(about, each["tls"]) for about in abouts for each in about["connections"] if each.get("tls")]
    assert {tls["mode"] for _, tls in connections} == {"ktls"}
    reasons = [reason for about, _ in connections for reason in about["stage1"] if "sent" not in reason]
    assert set(reasons) == {f"none: {StampSource.NONE_KTLS.reason}"}


@needs_kernel
class TestRecords:
    """Records of every type, made by the kernel's own other end under TLS 1.3, whatever OpenSSL can do."""

    TICKET = b"\x04\x00\x00\x20" + bytes(32)

    def talk(self, *records: tuple[int, bytes]) -> list[bytes | None]:
        """What each read brings, None where it brought nothing."""
        keys = tls13_keys(SUITES["TLS_AES_128_GCM_SHA256"], bytearray(range(32)))
        # struct tls12_crypto_info_aes_gcm_128: version, cipher, iv, key, salt, number
        theirs = b"\x04\x03\x33\x00" + bytes(keys.iv[4:] + keys.key + keys.iv[:4]) + bytes(8)

        async def run():
            server, sock = tcp_pair()
            sock.setblocking(False)
            context = ktls.enable(tls_context(None))
            transport = KtlsTransport(sock, context=context, key_log=KeyLog(context), host="localhost")
            for end in (server, sock):
                end.setsockopt(socket.IPPROTO_TCP, 31, b"tls")
            server.setsockopt(SOL_TLS, TLS_TX, theirs)
            ktls._give_keys(sock, keys)
            transport._keys = keys
            into, found = memoryview(bytearray(READ_MAX)), []
            with server:
                try:
                    for kind, content in records:
                        server.sendmsg([content], [(SOL_TLS, TLS_SET_RECORD_TYPE, bytes((kind,)))])
                        await readable(transport)
                        size = transport.read(into)
                        found.append(None if size is None else bytes(into[:size]))
                finally:
                    transport.close()
            return found

        return asyncio.run(run())

    def test_tickets_are_of_no_concern_however_they_are_cut(self):
        records = [(23, b"one"), (22, self.TICKET * 2), (22, self.TICKET[:3]), (22, self.TICKET[3:]), (23, b"two")]
        assert self.talk(*records) == [b"one", None, None, None, b"two"]

    def test_close_notify_is_the_end(self):
        assert self.talk((23, b"one"), (21, b"\x01\x00")) == [b"one", b""]

    def test_a_warning_is_not(self):
        assert self.talk((21, b"\x01\x5a"), (23, b"one")) == [None, b"one"]

    @pytest.mark.parametrize("content", [b"\x02\x28", b"\x02\x14"])
    def test_an_alert_is_reported_by_its_number(self, content):
        with pytest.raises(ssl.SSLError, match=f"alert {content[1]}"):
            self.talk((21, content))

    @pytest.mark.parametrize(("kind", "content"), [(22, b"\x01\x00\x00\x00"), (22, b"\x04\xff\xff\xff"), (24, b"x")])
    def test_anything_else_is_an_error(self, kind, content):
        with pytest.raises(ssl.SSLError, match="the server sent a TLS"):
            self.talk((kind, content))

    def test_new_keys_mean_stamped_from_then_on(self, tls_server, ca_file):
        server = tls_server(text("hello"))

        async def run() -> list[str]:
            life = Life(server.url, str(ca_file), tls=TlsMode.KTLS)
            await life.until(lambda: life.connection.sides.active is not None)
            active = life.connection.sides.active
            assert active is not None
            active.end(KeysChangedError("the server changed its TLS keys"))
            await life.until(lambda: len(life.events(EventKind.TLS)) == 2)
            await life.stop()
            assert "changed its TLS keys" in life.events(EventKind.CONNECT_FAILED)[0]["message"]
            return [detail["mode"] for detail in life.events(EventKind.TLS)]

        assert asyncio.run(run())[:2] == ["ktls", "stamped"]


def test_a_policy_verifies_in_every_mode(ca_file):
    for mode in TlsMode:
        policy = TlsPolicy(mode, str(ca_file))
        for context in (policy.context, policy.kernel_context or policy.context, ktls.enable(tls_context(None))):
            assert context.verify_mode is ssl.CERT_REQUIRED
            assert context.check_hostname
