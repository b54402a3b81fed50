"""Records as a server seals them, valid ones and such as no server would send."""

from __future__ import annotations

from wsrec.tls.keys import SUITES, TrafficKeys, tls12_keys, tls13_keys
from wsrec.tls.libcrypto import HASH_SIZES, Aead

TLS13 = [name for name, suite in SUITES.items() if suite.version == "TLSv1.3"]
TLS12 = [name for name in SUITES if name.startswith("ECDHE-RSA-")]
APPLICATION_DATA = 23


class Sealing:
    """The sealing side of one direction, whose numbers go on with each record.

    Attributes:
        keys: its keys; their `sequence` is the next record's.

    """

    def __init__(self, keys: TrafficKeys) -> None:
        self.keys = keys

    def seal(
        self,
        content: bytes = b"",
        content_type: int = APPLICATION_DATA,
        *,
        padding: int = 0,
        outer: int | None = None,
        version: bytes = b"\x03\x03",
        inner: bytes | None = None,
    ) -> bytes:
        """A record.

        Args:
            content, content_type: what it says.
            padding: zeros behind it (TLS 1.3).
            outer: the header's type, if it is another than the version's.
            version: the header's.
            inner: all that is encrypted, in place of content, type and padding.

        """
        keys, suite = self.keys, self.keys.suite
        number = keys.sequence
        if suite.version == "TLSv1.3":
            plaintext = content + bytes((content_type,)) + bytes(padding) if inner is None else inner
            start = bytes((APPLICATION_DATA if outer is None else outer,)) + version
            aad = start + (len(plaintext) + 16).to_bytes(2)
        else:
            plaintext = content if inner is None else inner
            start = bytes((content_type if outer is None else outer,)) + version
            aad = number.to_bytes(8) + start + len(plaintext).to_bytes(2)
        if suite.explicit_nonce:
            # any that does not repeat; a server may count from anywhere
            explicit = (number ^ 0x0123456789ABCDEF).to_bytes(8)
            nonce = bytes(keys.iv) + explicit
        else:
            explicit = b""
            nonce = bytes(a ^ b for a, b in zip(keys.iv, number.to_bytes(12), strict=True))
        body = explicit + Aead(suite.cipher, keys.key).seal(nonce, aad, plaintext)
        keys.sequence = (number + 1) % (1 << 64)
        return start + len(body).to_bytes(2) + body

    def change_keys(self) -> TrafficKeys:
        """Go on with the next keys (RFC 8446 7.2); returns them for the other side."""
        following = self.keys.next()
        self.keys = self.keys.next()
        return following


class Sealed(Sealing):
    """One with keys that are made up, for which there can be a receiving side."""

    def __init__(self, suite: str, sequence: int | None = None, fill: int = 7) -> None:
        self._suite, self._fill = suite, fill
        super().__init__(self._made())
        if sequence is not None:
            self.keys.sequence = sequence
        self._started = self.keys.sequence

    def receiving(self) -> TrafficKeys:
        """The keys that open it from the first record on."""
        keys = self._made()
        keys.sequence = self._started
        return keys

    def _made(self) -> TrafficKeys:
        suite = SUITES[self._suite]
        if suite.version == "TLSv1.3":
            return tls13_keys(suite, bytearray([self._fill]) * HASH_SIZES[suite.hash_name])
        return tls12_keys(suite, bytearray([self._fill]) * 48, bytes([1]) * 32, bytes([2]) * 32)[1]
