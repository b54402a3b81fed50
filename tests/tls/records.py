"""Records opened in the plainest way, and connections to `openssl s_server`: it has every suite, and KeyUpdate."""

from __future__ import annotations

import functools
import queue
import shutil
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import pytest
import trustme

from wsrec.net.trust import tls_context
from wsrec.tls.keys import SUITES, TrafficKeys, hello_random, tls12_keys, tls13_keys
from wsrec.tls.libcrypto import Aead

DEADLINE = 30.0


def nonce_of(keys: TrafficKeys, sequence: int) -> bytes:
    """RFC 8446 5.3, RFC 7905 2."""
    return (int.from_bytes(keys.iv) ^ sequence).to_bytes(12)


def opened(keys: TrafficKeys, record: bytes) -> tuple[int, bytes]:
    """The content's type and the content of one record, which must be the next."""
    sequence, body, suite = keys.sequence, record[5:], keys.suite
    if suite.version == "TLSv1.3":
        nonce, aad = nonce_of(keys, sequence), record[:5]
    else:
        # RFC 5246 6.2.3.3, RFC 5288 3, RFC 7905 2
        if suite.explicit_nonce:
            nonce, body = bytes(keys.iv) + body[:8], body[8:]
        else:
            nonce = nonce_of(keys, sequence)
        aad = sequence.to_bytes(8) + record[:3] + (len(body) - 16).to_bytes(2)
    into = bytearray(len(body) - 16)
    assert Aead(suite.cipher, keys.key).open(nonce, aad, body[:-16], body[-16:], into), f"record {sequence}"
    keys.sequence += 1
    if suite.version == "TLSv1.2":
        return record[0], bytes(into)
    content = bytes(into).rstrip(b"\0")
    return content[-1], content[:-1]


def split(data: bytes) -> list[bytes]:
    """The records of whole records."""
    found = []
    while data:
        size = 5 + int.from_bytes(data[3:5])
        assert len(data) >= size
        found.append(data[:size])
        data = data[size:]
    return found


@functools.cache
def issued(authority: trustme.CA, *, rsa: bool) -> trustme.LeafCert:
    """A certificate; making an RSA key takes a second."""
    return authority.issue_cert("localhost", key_type=trustme.KeyType.RSA if rsa else trustme.KeyType.ECDSA)


class OpensslServer:
    """`openssl s_server` with one cipher suite: what is written to its standard input it sends, unless it is a command.

    `K` on a line of its own is a KeyUpdate that asks for the client's, `k` one that does not, `q` the end of the
    connection.

    Attributes:
        port: where it listens, on 127.0.0.1.

    """

    def __init__(self, suite: str, authority: trustme.CA, folder: Path, *options: object) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("openssl is not installed")
        certificate = folder / "certificate.pem"
        issued(authority, rsa="RSA" in suite).private_key_and_cert_chain_pem.write_to_path(str(certificate))
        old = SUITES[suite].version == "TLSv1.2"
        which = ("-tls1_2", "-cipher", suite) if old else ("-tls1_3", "-ciphersuites", suite)
        self._process = subprocess.Popen(
            ["openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", certificate, *which, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._lines: queue.Queue[bytes] = queue.Queue()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        self.port = int(self.line(b"ACCEPT ").rpartition(b":")[2])

    def __enter__(self) -> OpensslServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def say(self, text: bytes) -> None:
        """Have it send `text`, which must end with a line feed, or obey it."""
        assert self._process.stdin is not None
        self._process.stdin.write(text)
        self._process.stdin.flush()

    def line(self, beginning: bytes) -> bytes:
        """The next line of its output that begins so: what it received is among them."""
        until = time.monotonic() + DEADLINE
        while not (found := self._lines.get(timeout=until - time.monotonic())).startswith(beginning):
            pass
        return found.rstrip(b"\n")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)


class OpensslConnection:
    """A client's connection to `OpensslServer` with OpenSSL's handshake over memory, as `stamped` and `direct` do it.

    Attributes:
        tls, outgoing: OpenSSL's end, and what it wants sent.
        sent: all that was sent.
        client_random, server_random: of the hello messages.

    """

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port))
        self._sock.settimeout(DEADLINE)
        incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(incoming, self.outgoing, server_hostname="localhost")
        self.sent = b""
        try:
            received = self._handshake(incoming)
        except BaseException:
            self._sock.close()
            raise
        self._rest = incoming.read()
        self.client_random, self.server_random = hello_random(self.sent), hello_random(received)

    def _handshake(self, incoming: ssl.MemoryBIO) -> bytes:
        received = b""
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.flush()
                data = self._sock.recv(65_536)
                assert data
                received += data
                incoming.write(data)
        self.flush()
        return received

    def __enter__(self) -> OpensslConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def flush(self) -> list[bytes]:
        """Send what OpenSSL wants sent, and return its records."""
        return self.send(self.outgoing.read())

    def send(self, data: bytes) -> list[bytes]:
        """Send records."""
        self._sock.sendall(data)
        self.sent += data
        return split(data)

    def record(self) -> bytes:
        """The next record that the server sent."""
        while len(self._rest) < 5 or len(self._rest) < 5 + int.from_bytes(self._rest[3:5]):
            data = self._sock.recv(65_536)
            assert data, "the server has closed the connection"
            self._rest += data
        size = 5 + int.from_bytes(self._rest[3:5])
        found, self._rest = self._rest[:size], self._rest[size:]
        return found


def client_context(ca_file: Path) -> ssl.SSLContext:
    """A client of every cipher suite."""
    context = tls_context(str(ca_file))
    context.set_ciphers("ALL")
    return context


def keys_of(connection: OpensslConnection, suite: str, key_log: Path) -> tuple[TrafficKeys, TrafficKeys]:
    """The client's and the server's keys, by the lines of a key log."""
    found: dict[str, bytearray] = {}
    for line in key_log.read_text().splitlines():
        label, random, secret = line.split() if not line.startswith("#") else ("", "", "")
        if random == connection.client_random.hex():
            found[label] = bytearray.fromhex(secret)
    chosen = SUITES[suite]
    if chosen.version == "TLSv1.2":
        return tls12_keys(chosen, found["CLIENT_RANDOM"], connection.client_random, connection.server_random)
    return (
        tls13_keys(chosen, found["CLIENT_TRAFFIC_SECRET_0"]),
        tls13_keys(chosen, found["SERVER_TRAFFIC_SECRET_0"]),
    )
