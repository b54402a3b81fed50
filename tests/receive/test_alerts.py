"""Alerts to a server that breaks TLS: OpenSSL is the server, and says what it was told."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.receive.conftest import text
from tests.receive.test_tls import Client
from tests.tls.records import issued
from tests.tls.sealed import TLS12, Sealing
from wsrec.net.trust import tls_context
from wsrec.tls.keys import SUITES, TrafficKeys, hello_random, tls12_keys, tls13_keys
from wsrec.tls.post_handshake import ALERT, HANDSHAKE

GOOD = text("good")
KEY_UPDATE_BOTH = b"\x18\0\0\x01\x01"
Wrong = Callable[[Sealing], bytes]


def _changed(sealing: Sealing) -> bytes:
    record = sealing.seal(text("never"))
    return record[:-1] + bytes((record[-1] ^ 1,))


# what is wrong in both versions, and in the name of which alert OpenSSL hears of it
WRONG: dict[str, tuple[Wrong, str]] = {
    "tag": (_changed, "BAD_RECORD_MAC"),
    "too short": (lambda _: b"\x17\x03\x03\0\x03abc", "BAD_RECORD_MAC"),
    "too long": (lambda _: b"\x17\x03\x03\xff\xff", "RECORD_OVERFLOW"),
    "type": (lambda _: b"\x14\x03\x03\0\x01\x01", "UNEXPECTED_MESSAGE"),
    "version": (lambda _: b"\x17\x03\x01\0\x20" + bytes(32), "PROTOCOL_VERSION"),
    "empty message": (lambda sealing: sealing.seal(b"", HANDSHAKE), "UNEXPECTED_MESSAGE"),
    "many empty": (lambda sealing: b"".join(sealing.seal() for _ in range(33)), "UNEXPECTED_MESSAGE"),
    "message": (lambda sealing: sealing.seal(b"\x0d\0\0\x01x", HANDSHAKE), "UNEXPECTED_MESSAGE"),
    "alert": (lambda sealing: sealing.seal(b"\x01\0\0", ALERT), "DECODE_ERROR"),
}
# TLS 1.3 only
WRONG13: dict[str, tuple[Wrong, str]] = {
    "padding": (lambda sealing: sealing.seal(inner=bytes(40)), "UNEXPECTED_MESSAGE"),
    "inner type": (lambda sealing: sealing.seal(b"x", 20), "UNEXPECTED_MESSAGE"),
    "content": (lambda sealing: sealing.seal(bytes((1 << 14) + 1)), "RECORD_OVERFLOW"),
    "update": (lambda sealing: sealing.seal(b"\x18\0\0\x01\x07", HANDSHAKE), "ILLEGAL_PARAMETER"),
    "length": (lambda sealing: sealing.seal(b"\x18\0\0\x02\0\0", HANDSHAKE), "DECODE_ERROR"),
}


class SealingServer:
    """OpenSSL's end of one connection, of which the test seals what is sent.

    Attributes:
        address: where it listens.
        told: what it received after that: data, and in the end OpenSSL's name of an alert, or another error.

    """

    def __init__(self, suite: str, authority: trustme.CA, folder: Path, say: Callable[[Sealing], bytes]) -> None:
        self._suite, self._say = SUITES[suite], say
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issued(authority, rsa="RSA" in suite).configure_cert(self._context)
        if self._suite.version == "TLSv1.2":
            self._context.maximum_version = ssl.TLSVersion.TLSv1_2
            self._context.set_ciphers(suite)
        # so that the numbers begin where the handshake ends
        self._context.num_tickets = 0
        self._key_log = folder / "server-keys"
        self._context.keylog_filename = str(self._key_log)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._received = self._sent = b""
        self.told: list[object] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = self._listening.getsockname()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def join(self) -> list[object]:
        """All that it was told, at the end."""
        self._thread.join(30)
        self._listening.close()
        assert not self._thread.is_alive()
        return self.told

    def _run(self) -> None:
        sock, _ = self._listening.accept()
        tls = self._context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        with sock:
            self._step(sock, tls.do_handshake)
            self._flush(sock)
            data = b""
            while not data.endswith(b"go"):
                data += self._step(sock, lambda: tls.read(100))
            sock.sendall(self._say(Sealing(self._keys())))
            try:
                while data := self._step(sock, lambda: tls.read(100)):
                    self.told.append(data)
            except ssl.SSLError as error:
                self.told.append(error.reason)
            except (OSError, EOFError) as error:
                self.told.append(error)

    def _step(self, sock: socket.socket, step: Callable[[], Any]) -> Any:
        while True:
            try:
                return step()
            except ssl.SSLWantReadError:
                self._flush(sock)
                data = sock.recv(1 << 16)
                if not data:
                    raise EOFError from None
                self._received += data
                self._incoming.write(data)

    def _flush(self, sock: socket.socket) -> None:
        data = self._outgoing.read()
        self._sent += data
        sock.sendall(data)

    def _keys(self) -> TrafficKeys:
        lines = [line.split() for line in self._key_log.read_text().splitlines() if not line.startswith("#")]
        secrets = {label: bytearray.fromhex(secret) for label, _, secret in lines}
        if self._suite.version == "TLSv1.2":
            randoms = hello_random(self._received), hello_random(self._sent)
            return tls12_keys(self._suite, secrets["CLIENT_RANDOM"], *randoms)[1]
        return tls13_keys(self._suite, secrets["SERVER_TRAFFIC_SECRET_0"])


def told(suite: str, authority: trustme.CA, ca_file: Path, folder: Path, mode: str, wrong: Wrong) -> list[object]:
    """What a server is told that sends "good" and then something wrong."""
    server = SealingServer(suite, authority, folder, lambda sealing: sealing.seal(GOOD) + wrong(sealing))

    async def run() -> None:
        context = tls_context(str(ca_file))
        async with asyncio.timeout(30), Client(server, mode, context) as client:
            client.transport.send(b"one")
            client.transport.send(b"go")
            with pytest.raises(ssl.SSLError):
                await client.read_to_end()
            assert bytes(client.data) == GOOD

    asyncio.run(run())
    return server.join()


# the one of TLS 1.3 that OpenSSL prefers; the others are in test_direct.py
SUITES_HERE = ["TLS_AES_256_GCM_SHA384", *TLS12]


@pytest.mark.parametrize(
    ("suite", "wrong"),
    [
        *((SUITES_HERE[0], wrong) for wrong in WRONG | WRONG13),
        *((TLS12[0], wrong) for wrong in WRONG),
        *((suite, "tag") for suite in TLS12[1:]),
    ],
)
def test_a_server_is_told_what_it_did_wrong(authority, ca_file, tmp_path, suite, wrong):
    say, name = (WRONG | WRONG13)[wrong]
    (end,) = told(suite, authority, ca_file, tmp_path, "direct", say)
    assert str(end).endswith(f"_ALERT_{name}")


def test_it_is_told_with_the_keys_that_it_asked_for(authority, ca_file, tmp_path):
    def say(sealing: Sealing) -> bytes:
        update = sealing.seal(KEY_UPDATE_BOTH, HANDSHAKE)
        sealing.change_keys()
        return update + _changed(sealing)

    assert told(SUITES_HERE[0], authority, ca_file, tmp_path, "direct", say) == ["SSLV3_ALERT_BAD_RECORD_MAC"]


@pytest.mark.parametrize("suite", SUITES_HERE[:2])
def test_openssls_own_alerts_are_sent_too(authority, ca_file, tmp_path, suite):
    assert told(suite, authority, ca_file, tmp_path, "stamped", _changed) == ["SSLV3_ALERT_BAD_RECORD_MAC"]


@pytest.mark.parametrize("suite", SUITES_HERE[:2])
def test_an_alert_is_not_answered(authority, ca_file, tmp_path, suite):
    (end,) = told(suite, authority, ca_file, tmp_path, "direct", lambda sealing: sealing.seal(b"\x02\x28", ALERT))
    assert isinstance(end, EOFError)
