"""The keys of a connection's two directions: derived from the secrets that the handshake left, changed, and wiped.

Source: RFC 8446 7.1 to 7.3 (TLS 1.3); RFC 5246 5 and 6.3, RFC 5288 3, RFC 7905 2 (TLS 1.2).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from wsrec.tls.libcrypto import HASH_SIZES, KEY_SIZES, NONCE_SIZE, Cipher, HashName, hmac, wipe

Version = Literal["TLSv1.2", "TLSv1.3"]

SEQUENCE_MAX = (1 << 64) - 1
"""The last record number: "sequence numbers MUST NOT be allowed to wrap" (RFC 8446 5.3, RFC 5246 6.1)."""

_ALERT, _HANDSHAKE = 21, 22
_HEADER_SIZE = 5
# ClientHello and ServerHello
_HELLOS = (1, 2)
# type of the message, its size, version, random
_RANDOM_END = 4 + 2 + 32


class CipherSuite(NamedTuple):
    """What a cipher suite says of the records.

    Attributes:
        name: as `ssl.SSLObject.cipher` gives it.
        version: the only version that has it.
        cipher: that of the records.
        hash_name: that of the key derivation.
        explicit_nonce: whether each record carries 8 bytes of its nonce (RFC 5288 3).

    """

    name: str
    version: Version
    cipher: Cipher
    hash_name: HashName
    explicit_nonce: bool = False

    @property
    def key_size(self) -> int:
        """Bytes of a key."""
        return KEY_SIZES[self.cipher]

    @property
    def iv_size(self) -> int:
        """Bytes of the derived part of a nonce: all of it, or the salt (4) before an explicit one."""
        return 4 if self.explicit_nonce else NONCE_SIZE


def _suites() -> dict[str, CipherSuite]:
    """Those whose records can be opened; the key exchange and the certificate's kind are the handshake's affair."""
    found = [
        CipherSuite("TLS_AES_128_GCM_SHA256", "TLSv1.3", "aes-128-gcm", "sha256"),
        CipherSuite("TLS_AES_256_GCM_SHA384", "TLSv1.3", "aes-256-gcm", "sha384"),
        CipherSuite("TLS_CHACHA20_POLY1305_SHA256", "TLSv1.3", "chacha20-poly1305", "sha256"),
    ]
    for exchange in ("ECDHE-ECDSA", "ECDHE-RSA", "DHE-RSA"):
        found += [
            CipherSuite(f"{exchange}-AES128-GCM-SHA256", "TLSv1.2", "aes-128-gcm", "sha256", explicit_nonce=True),
            CipherSuite(f"{exchange}-AES256-GCM-SHA384", "TLSv1.2", "aes-256-gcm", "sha384", explicit_nonce=True),
            CipherSuite(f"{exchange}-CHACHA20-POLY1305", "TLSv1.2", "chacha20-poly1305", "sha256"),
        ]
    return {suite.name: suite for suite in found}


SUITES = _suites()
"""The cipher suites that are known here, by name."""


class TrafficKeys:
    """The keys of one direction.

    Args:
        suite: the negotiated one.
        key, iv: taken over, and wiped by `wipe`.
        sequence: number of the next record.
        secret: the traffic secret (TLS 1.3), from which the next keys come; taken over too.

    """

    __slots__ = ("iv", "key", "secret", "sequence", "suite")

    def __init__(
        self, suite: CipherSuite, key: bytearray, iv: bytearray, sequence: int = 0, secret: bytearray | None = None
    ) -> None:
        self.suite = suite
        self.key = key
        self.iv = iv
        self.sequence = sequence
        self.secret = secret

    def __repr__(self) -> str:
        return f"<keys of {self.suite.name}, record {self.sequence}>"

    @property
    def version(self) -> Version:
        """The version of TLS."""
        return self.suite.version

    def nonce(self) -> bytearray:
        """The nonce of the next record, where all of it is derived (RFC 8446 5.3, RFC 7905 2).

        Raises:
            ValueError: the keys were wiped.

        """
        if not self.iv:
            raise ValueError("the keys were wiped")
        nonce = bytearray(self.iv)
        for place, byte in enumerate(self.sequence.to_bytes(len(nonce))):
            nonce[place] ^= byte
        return nonce

    def next(self) -> TrafficKeys:
        """The keys after a KeyUpdate (RFC 8446 7.2); these are left as they are.

        Raises:
            ValueError: TLS 1.2 has no such thing, or the keys were wiped.
            LibcryptoError: libcrypto refused.

        """
        if not self.secret or self.suite.version != "TLSv1.3":
            raise ValueError("only keys of TLS 1.3 have successors")
        size = HASH_SIZES[self.suite.hash_name]
        return tls13_keys(self.suite, expand_label(self.suite.hash_name, self.secret, b"traffic upd", size))

    def wipe(self) -> None:
        """Overwrite them."""
        wipe(self.key, self.iv)
        if self.secret is not None:
            wipe(self.secret)
        self.key, self.iv, self.secret = bytearray(), bytearray(), None


def hello_random(data: bytes | bytearray | memoryview) -> bytes:
    """The random of the ClientHello or ServerHello that a direction begins with (RFC 8446 4.1.2, RFC 5246 7.4.1).

    The message may be spread over several records (5.1), and a warning may come before it (RFC 6066 3).

    Raises:
        ValueError: something else, or less of it.

    """
    message = bytearray()
    place = 0
    while len(message) < _RANDOM_END and place + _HEADER_SIZE <= len(data):
        start, size = place + _HEADER_SIZE, int.from_bytes(data[place + 3 : place + _HEADER_SIZE])
        if data[place] == _HANDSHAKE:
            message += data[start : start + size]
        elif data[place] != _ALERT:
            break
        place = start + size
    if len(message) < _RANDOM_END or message[0] not in _HELLOS:
        raise ValueError("the TLS connection does not begin with a hello message")
    return bytes(message[_RANDOM_END - 32 : _RANDOM_END])


def tls13_keys(suite: CipherSuite, secret: bytearray) -> TrafficKeys:
    """The keys of a traffic secret (RFC 8446 7.3), which is taken over. Records are numbered from 0 with each.

    Raises:
        ValueError: the secret's size is not that of the suite's hash.
        LibcryptoError: libcrypto refused.

    """
    if len(secret) != HASH_SIZES[suite.hash_name]:
        raise ValueError(f"a secret of {suite.name} has {HASH_SIZES[suite.hash_name]} bytes, not {len(secret)}")
    return TrafficKeys(
        suite,
        expand_label(suite.hash_name, secret, b"key", suite.key_size),
        expand_label(suite.hash_name, secret, b"iv", suite.iv_size),
        secret=secret,
    )


def tls12_keys(
    suite: CipherSuite, master: bytearray, client_random: bytes, server_random: bytes
) -> tuple[TrafficKeys, TrafficKeys]:
    """The client's keys and the server's (RFC 5246 6.3), numbered from the first record after their Finished: 1.

    Ciphers that are authenticated have no MAC keys, so the block is both keys and then both IVs (RFC 5288 3).

    Args:
        suite: the negotiated one.
        master: the master secret, 48 bytes; left as it is.
        client_random, server_random: of the two hello messages, 32 bytes each.

    Raises:
        ValueError: a wrong size.
        LibcryptoError: libcrypto refused.

    """
    if (len(master), len(client_random), len(server_random)) != (48, 32, 32):
        raise ValueError("a master secret has 48 bytes, and a random 32")
    key, iv = suite.key_size, suite.iv_size
    block = prf(suite.hash_name, master, b"key expansion" + server_random + client_random, 2 * (key + iv))
    # each slice of a bytearray is a copy of its own
    client = TrafficKeys(suite, block[:key], block[2 * key : 2 * key + iv], 1)
    server = TrafficKeys(suite, block[key : 2 * key], block[2 * key + iv :], 1)
    wipe(block)
    return client, server


def expand_label(hash_name: HashName, secret: bytearray, label: bytes, size: int, context: bytes = b"") -> bytearray:
    """HKDF-Expand-Label (RFC 8446 7.1).

    Raises:
        ValueError: more than one hash is asked for, which TLS never does for keys.
        LibcryptoError: libcrypto refused.

    """
    if size > HASH_SIZES[hash_name]:
        raise ValueError(f"{size} bytes are more than one {hash_name}")
    full = b"tls13 " + label
    info = size.to_bytes(2) + bytes((len(full),)) + full + bytes((len(context),)) + context
    # HKDF-Expand (RFC 5869 2.3): T(1) = HMAC(secret, info | 0x01)
    block = hmac(hash_name, secret, info + b"\x01")
    result = block[:size]
    wipe(block)
    return result


def prf(hash_name: HashName, secret: bytearray, seed: bytes, size: int) -> bytearray:
    """The PRF of TLS 1.2, P_hash (RFC 5246 5).

    Args:
        hash_name: the suite's.
        secret: left as it is.
        seed: the label and the seed.
        size: bytes wanted.

    Raises:
        LibcryptoError: libcrypto refused.

    """
    width = HASH_SIZES[hash_name]
    result = bytearray(size)
    # A(i) and the seed behind it, in one buffer: nothing secret is copied on the way
    buffer = bytearray(width) + seed
    chained = hmac(hash_name, secret, seed)
    for start in range(0, size, width):
        buffer[:width] = chained
        block = hmac(hash_name, secret, buffer)
        end = min(start + width, size)
        with memoryview(block) as part:
            result[start:end] = part[: end - start]
        after = hmac(hash_name, secret, chained)
        wipe(block, chained)
        chained = after
    wipe(buffer, chained)
    return result
