"""The baselines: blocking reads into one buffer; and the same with each TLS record opened by EVP and nothing else."""

from __future__ import annotations

import socket
import ssl
import time

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from wsrec.bench.client_job import ClientJob, Measured, Meter, context_for, times_of
from wsrec.bench.limits import compiled
from wsrec.tls.key_log import KeyLog
from wsrec.tls.keys import SUITES, hello_random

_BUFFER = 128 << 10
_CLOSE = Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=False)


def _request(url: str) -> bytes:
    protocol = ClientProtocol(parse_uri(url))
    protocol.send_request(protocol.connect())
    return b"".join(protocol.data_to_send())


def _connected(url: str) -> tuple[socket.socket, str]:
    parsed = parse_uri(url)
    return socket.create_connection((parsed.host, parsed.port)), parsed.host


async def bare_saturated(job: ClientJob) -> Measured:
    """Blocking reads into one buffer, nothing parsed, until the server's close."""
    sock, host = _connected(job.url)
    context = context_for(job.ca_file)
    client = context.wrap_socket(sock, server_hostname=host) if context else sock
    client.sendall(_request(job.url))
    buffer = bytearray(_BUFFER)
    # the response to the handshake arrives alone, because the sender pauses after it
    client.recv_into(buffer)
    size = client.recv_into(buffer)
    meter = Meter()
    while size and buffer[max(size - len(_CLOSE), 0) : size] != _CLOSE:
        size = client.recv_into(buffer)
    measured = meter.read()
    client.close()
    return measured


async def bare_evp_saturated(job: ClientJob) -> Measured:
    """Blocking reads of ciphertext, each record opened by EVP in C, nothing parsed, until the server's close."""
    client = _Opened(job)
    client.read()
    meter = Meter()
    while client.read():
        pass
    return meter.read()


async def bare_evp_paced(job: ClientJob) -> Measured:
    """The same, noting the time behind each read, when all of its records are open."""
    client, times, now, index = _Opened(job), times_of(job), time.monotonic_ns, 0
    meter: Meter | None = None
    while records := client.read():
        moment = now()
        for _ in range(records):
            times[index] = moment
            index += 1
        if meter is None:
            meter = Meter()
    assert meter is not None
    return meter.read()


class _Opened:
    """A connection whose received records are opened by `_limits.Opener`, the WebSocket handshake done.

    Args:
        job: the client's job.

    """

    def __init__(self, job: ClientJob) -> None:
        self._sock, host = _connected(job.url)
        context = context_for(job.ca_file)
        assert context is not None
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        log = KeyLog(context)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname=host)
        client_random = None
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                hello = outgoing.read()
                client_random = client_random or hello_random(hello)
                self._sock.sendall(hello)
                incoming.write(self._sock.recv(_BUFFER))
        assert client_random is not None
        cipher = tls.cipher()
        assert cipher is not None
        suite = SUITES[cipher[0]]
        keys = log.keys(suite, client_random, b"")
        assert keys is not None
        log.close()
        self._opener = compiled.Opener(suite.cipher, bytes(keys[1].key), bytes(keys[1].iv))
        self._ciphertext, self._into = bytearray(_BUFFER), bytearray(_BUFFER)
        self._view = memoryview(self._ciphertext)
        # OpenSSL does not read ahead: what is behind the handshake is still as it came
        rest = incoming.read()
        self._have = len(rest)
        self._ciphertext[: self._have] = rest
        tls.write(_request(job.url))
        self._sock.sendall(outgoing.read())
        # tickets of the session, and the response, which comes alone
        while not self._into.startswith(b"HTTP/1.1 101"):
            self.read()

    def read(self) -> int:
        """Open what the next read brings; how many records it completed, 0 once the close is among them."""
        opened = 0
        while not opened:
            size = self._sock.recv_into(self._view[self._have :])
            if not size:
                return 0
            have = self._have + size
            used, opened, last = self._opener.open_all(self._ciphertext, have, self._into)
            self._have = have - used
            if self._have:
                self._ciphertext[: self._have] = self._view[used:have]
        # behind its content is its type
        closed = self._into[max(last - 1 - len(_CLOSE), 0) : last - 1] == _CLOSE
        return 0 if closed else opened
