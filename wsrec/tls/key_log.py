"""The secrets of a context's handshakes, by OpenSSL's key log, through memory alone.

OpenSSL hands over the secrets of a handshake as lines of text, which Python's `ssl` writes to a file with C's stdio
(`SSLContext.keylog_filename`). Here the file is a memfd, which has no name and no disk and is not inherited. What is
taken is wiped there at once.

stdio keeps the last line in its buffer, where Python cannot reach it. So a line that is worth nothing is put over it:
that of a handshake which never happens, the client's side of which is led just past the ServerHello.

Source: SSL_CTX_set_keylog_callback(3); the "NSS key log format"; RFC 8446 4.1.3, 4.2.8.
"""

from __future__ import annotations

import errno
import functools
import os
import ssl
import threading
from contextlib import suppress

from wsrec.net.trust import tls_context
from wsrec.tls.keys import CipherSuite, TrafficKeys, tls12_keys, tls13_keys
from wsrec.tls.libcrypto import wipe

CLIENT_SECRET, SERVER_SECRET = "CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"
"""Labels of the traffic secrets of TLS 1.3."""

MASTER_SECRET = "CLIENT_RANDOM"  # noqa: S105 (a label)
"""Label of the master secret of TLS 1.2."""

_LABELS = {label.encode(): label for label in (CLIENT_SECRET, SERVER_SECRET, MASTER_SECRET)}
# handshakes that have begun and of which nobody has asked for the secrets; a receiver has far fewer connections
_UNTAKEN_MAX = 4096
_DIGITS = {ord(digit): int(digit, 16) for digit in "0123456789abcdefABCDEF"}

# public keys for the ServerHello: any point will do, here the base points (RFC 7748 4.1, FIPS 186-4 D.1.2.3)
_SHARES = {
    29: bytes((9,)) + bytes(31),
    23: bytes.fromhex(
        "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
        "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
    ),
}
# the suite with the longest secrets first, as its line covers all others
_SUITES = (0x1302, 0x1301, 0x1303)
_SUPPORTED_VERSIONS, _KEY_SHARE = 43, 51


@functools.cache
def unavailable() -> str | None:
    """Why there can be no key log on this machine; None if there can. Found out by trying, in some 30 ms."""
    if not hasattr(os, "memfd_create"):
        return "this system has no files in memory (memfd_create)"
    try:
        KeyLog(tls_context()).close()
    except OSError as error:
        return str(error)
    return None


class KeyLog:
    """The key log of one context, for as long as that makes connections.

    Handshakes of several threads with the same context need their turns: what they log would be cut off.
    A file that the context logs to already (SSLKEYLOGFILE) goes on getting the lines.

    Args:
        context: of clients, and not limited to TLS 1.2.

    Raises:
        OSError: no file in memory, or no /proc; `ssl.SSLError` if the context allows no TLS 1.3.

    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._lock = threading.Lock()
        # by client random and label
        self._untaken: dict[bytes, dict[str, bytearray]] = {}
        self._former: str | None = context.keylog_filename
        self._forward = -1
        if self._former is not None:
            self._forward = os.open(self._former, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._file = os.memfd_create("", os.MFD_CLOEXEC)
        try:
            # appending: after it was made empty, OpenSSL's next line is its first
            context.keylog_filename = f"/proc/self/fd/{self._file}"
            self._read(forward=False)
            if not self._cover():
                raise ssl.SSLError(errno.EPROTO, f"{ssl.OPENSSL_VERSION} is set to log no secrets of TLS 1.3")
        except BaseException:
            self._end()
            raise

    def take(self, client_random: bytes) -> dict[str, bytearray]:
        """The secrets of the handshake with this ClientHello, by label: those of this module.

        They are the caller's to wipe, and are here no more. Empty if there were none.
        """
        with self._lock:
            self._read(forward=True)
            found = self._untaken.pop(client_random, {})
            self._cover()
        return found

    def keys(
        self, suite: CipherSuite, client_random: bytes, server_random: bytes
    ) -> tuple[TrafficKeys, TrafficKeys] | None:
        """The client's keys and the server's, each of the first record after the handshake.

        Args:
            suite: the negotiated one.
            client_random, server_random: of the two hello messages (`keys.hello_random`).

        Returns:
            Both, for the caller to wipe; None if the handshake's secrets are not there.

        Raises:
            ValueError: they do not fit the suite.
            LibcryptoError: libcrypto refused.

        """
        secrets = self.take(client_random)
        try:
            if suite.version == "TLSv1.2":
                master = secrets.get(MASTER_SECRET)
                return None if master is None else tls12_keys(suite, master, client_random, server_random)
            if not secrets.keys() >= {CLIENT_SECRET, SERVER_SECRET}:
                return None
            client = tls13_keys(suite, secrets.pop(CLIENT_SECRET))
            return client, tls13_keys(suite, secrets.pop(SERVER_SECRET))
        finally:
            wipe(*secrets.values())

    def forget(self, client_random: bytes) -> None:
        """Wipe the secrets of a handshake that failed."""
        wipe(*self.take(client_random).values())

    def close(self) -> None:
        """Wipe everything; the context logs to its former file again, if it had one."""
        with self._lock:
            if self._file < 0:
                return
            self._cover()
            for secrets in self._untaken.values():
                wipe(*secrets.values())
            self._untaken.clear()
            self._end()

    def _end(self) -> None:
        self._context.keylog_filename = self._former  # type: ignore[assignment]  # None is allowed
        for file in (self._file, self._forward):
            if file >= 0:
                os.close(file)
        self._file = self._forward = -1

    def _read(self, *, forward: bool) -> None:
        """Take the lines out of the file."""
        size = os.fstat(self._file).st_size
        if not size:
            return
        buffer = bytearray(size)
        os.preadv(self._file, [buffer], 0)
        os.pwrite(self._file, bytes(size), 0)
        os.ftruncate(self._file, 0)
        if forward and self._forward >= 0:
            os.write(self._forward, buffer)
        start = 0
        while (end := buffer.find(b"\n", start)) >= 0:
            self._keep(buffer, start, end)
            start = end + 1
        wipe(buffer)

    def _keep(self, buffer: bytearray, start: int, end: int) -> None:
        """Keep the secret of the line from `start` to `end`, if it is one that may be asked for."""
        first = buffer.find(b" ", start, end)
        second = buffer.find(b" ", first + 1, end)
        label = _LABELS.get(bytes(buffer[start:first])) if first >= 0 else None
        if label is None or second < 0:
            return
        of_handshake = self._untaken.setdefault(bytes(_from_hex(buffer, first + 1, second)), {})
        of_handshake[label] = _from_hex(buffer, second + 1, end)
        while len(self._untaken) > _UNTAKEN_MAX:
            oldest = next(iter(self._untaken))
            wipe(*self._untaken.pop(oldest).values())

    def _cover(self) -> bool:
        """Put a worthless line over the last one, in every buffer on the way to the file; False if there was none."""
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self._context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            incoming.write(_server_hello(outgoing.read()))
        # it waits for more, which never comes
        with suppress(ssl.SSLError):
            tls.do_handshake()
        logged = os.fstat(self._file).st_size > 0
        self._read(forward=False)
        return logged


def _from_hex(buffer: bytearray, start: int, end: int) -> bytearray:
    """The bytes that these digits stand for, without `bytes` or `str` on the way, which could not be wiped."""
    # made at its full size: one that grows leaves copies behind
    found = bytearray((end - start) // 2)
    for place in range(len(found)):
        found[place] = _DIGITS[buffer[start + 2 * place]] << 4 | _DIGITS[buffer[start + 2 * place + 1]]
    return found


def _server_hello(record: bytes) -> bytes:
    """A ServerHello of TLS 1.3 (RFC 8446 4.1.3) that fits the ClientHello in `record`."""
    # headers of record and message, version, random
    place = 5 + 4 + 2 + 32
    session = record[place : place + 1 + record[place]]
    place += len(session)
    suites = record[place + 2 : place + 2 + int.from_bytes(record[place : place + 2])]
    place += 2 + len(suites)
    # compression methods, and the length of the extensions
    place += 1 + record[place] + 2
    groups: set[int] = set()
    while place < len(record):
        kind, size = int.from_bytes(record[place : place + 2]), int.from_bytes(record[place + 2 : place + 4])
        body = record[place + 4 : place + 4 + size]
        place += 4 + size
        if kind == _KEY_SHARE:
            entries = body[2:]
            while entries:
                groups.add(int.from_bytes(entries[:2]))
                entries = entries[4 + int.from_bytes(entries[2:4]) :]
    offered = {int.from_bytes(suites[at : at + 2]) for at in range(0, len(suites), 2)}
    suite = next((known for known in _SUITES if known in offered), _SUITES[0])
    group = next((known for known in _SHARES if known in groups), 29)
    share = group.to_bytes(2) + len(_SHARES[group]).to_bytes(2) + _SHARES[group]
    extensions = _extension(_SUPPORTED_VERSIONS, b"\x03\x04") + _extension(_KEY_SHARE, share)
    # any random but that of a HelloRetryRequest
    body = b"\x03\x03" + bytes(32) + session + suite.to_bytes(2) + b"\0" + len(extensions).to_bytes(2) + extensions
    message = b"\x02" + len(body).to_bytes(3) + body
    return b"\x16\x03\x03" + len(message).to_bytes(2) + message


def _extension(kind: int, body: bytes) -> bytes:
    return kind.to_bytes(2) + len(body).to_bytes(2) + body
