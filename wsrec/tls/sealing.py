"""Records that are sealed here: once a server has asked for our next keys (TLS 1.3), and a fatal alert.

Until then OpenSSL seals what is sent. It cannot be told of the request or of the server's mistake, as it does not see
what is received, so its sealing is taken over where it stands: the records that it gave to send are counted.

Source: RFC 8446 4.6.3, 5.1 to 5.3, 6.2; RFC 5246 6.2, 7.2.2, RFC 5288 3.
"""

from __future__ import annotations

import errno
import ssl
from contextlib import suppress

from wsrec.tls.keys import SEQUENCE_MAX, TrafficKeys
from wsrec.tls.libcrypto import TAG_SIZE, Aead, wipe
from wsrec.tls.post_handshake import ALERT, APPLICATION_DATA, HANDSHAKE, KEY_UPDATE
from wsrec.tls.records import HEADER

_EXPLICIT_NONCE = 8
_FATAL = 2
_PLAINTEXT_MAX = 1 << 14
_UPDATE_NOT_REQUESTED = bytes((KEY_UPDATE, 0, 0, 1, 0))


def count_records(data: bytes | bytearray | memoryview) -> int:
    """The number of records in `data`, which holds whole ones: what an `ssl.MemoryBIO` gave to send.

    Raises:
        ValueError: the last one is cut off.

    """
    count = place = 0
    while place < len(data):
        place += HEADER + int.from_bytes(data[place + 3 : place + HEADER])
        count += 1
    if place != len(data):
        raise ValueError("the last TLS record is cut off")
    return count


class Sending:
    """What a client sends: sealed by OpenSSL, and from a KeyUpdate on here.

    Args:
        tls, outgoing: OpenSSL's end, after the handshake and with nothing left to send.
        keys: the client's, of its first record after the handshake; taken over, and wiped by `wipe`. None if neither
            `alert` nor `key_update` will be called.

    """

    def __init__(self, tls: ssl.SSLObject, outgoing: ssl.MemoryBIO, keys: TrafficKeys | None) -> None:
        self._tls = tls
        self._outgoing = outgoing
        self._keys = keys
        self._sealer: Sealer | None = None

    def seal(self, data: bytes) -> bytes:
        """The records of `data`.

        Raises:
            ssl.SSLError: OpenSSL refused.
            LibcryptoError: libcrypto refused.
            ValueError: `wipe` was called.

        """
        if self._sealer is not None:
            return self._sealer.seal(data)
        self._tls.write(data)
        records = self._outgoing.read()
        if self._keys is not None:
            self._keys.sequence += count_records(records)
        return records

    def key_update(self) -> bytes:
        """The answer to a server that asked for a KeyUpdate; everything later is sealed with the next keys.

        Raises:
            ValueError: TLS 1.2 has no such thing, there are no keys, or `wipe` was called.
            LibcryptoError: libcrypto refused.

        """
        return self._taken_over().key_update()

    def alert(self, description: ssl.AlertDescription) -> bytes:
        """The record of a fatal alert, behind which nothing may be sent.

        Raises:
            ValueError: there are no keys, or `wipe` was called.
            ssl.SSLError: OpenSSL refused.
            LibcryptoError: libcrypto refused.
            OverflowError: the record numbers are used up.

        """
        return self._taken_over().seal(bytes((_FATAL, description)), ALERT)

    def wipe(self) -> None:
        """Wipe the keys."""
        if self._sealer is not None:
            self._sealer.wipe()
        elif self._keys is not None:
            self._keys.wipe()

    def _taken_over(self) -> Sealer:
        """What seals from now on, in place of OpenSSL."""
        if self._sealer is None:
            if self._keys is None:
                raise ValueError("there are no keys to seal with")
            explicit = self._explicit_nonce() if self._keys.suite.explicit_nonce else 0
            self._sealer = Sealer(self._keys, explicit)
        return self._sealer

    def _explicit_nonce(self) -> int:
        """The next part of a nonce that OpenSSL would choose: a nonce of its own must not be used again.

        OpenSSL seals a close_notify to tell it, which is not sent.

        Raises:
            ssl.SSLError: OpenSSL refused.

        """
        # it goes on to wait for the server's
        with suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        explicit = self._outgoing.read()[HEADER : HEADER + _EXPLICIT_NONCE]
        if len(explicit) < _EXPLICIT_NONCE:
            raise ssl.SSLError(errno.EPROTO, "OpenSSL did not seal a close_notify")
        return int.from_bytes(explicit) + 1


class Sealer:
    """Seals records with the client's keys.

    Args:
        keys: at the number of the next record; taken over, and wiped by `wipe`.
        explicit: the part of the nonce that the next record carries (RFC 5288 3), from which they are counted.

    Raises:
        LibcryptoError: libcrypto refused.

    """

    def __init__(self, keys: TrafficKeys, explicit: int = 0) -> None:
        self._keys = keys
        self._explicit = explicit
        self._aead = Aead(keys.suite.cipher, keys.key)

    def seal(self, content: bytes | bytearray | memoryview, content_type: int = APPLICATION_DATA) -> bytes:
        """The records of `content`, as many as it needs.

        Raises:
            LibcryptoError: libcrypto refused.
            ValueError: `wipe` was called.
            OverflowError: the record numbers are used up.

        """
        return b"".join(
            self._record(content[start : start + _PLAINTEXT_MAX], content_type)
            for start in range(0, len(content), _PLAINTEXT_MAX)
        )

    def key_update(self) -> bytes:
        """The record of a KeyUpdate that asks for nothing; what is sealed afterwards is sealed with the next keys.

        Raises:
            LibcryptoError: libcrypto refused.
            ValueError: TLS 1.2 has no such thing, or `wipe` was called.
            OverflowError: the record numbers are used up.

        """
        if self._keys.version != "TLSv1.3":
            raise ValueError(f"{self._keys.version} has no KeyUpdate")
        record = self.seal(_UPDATE_NOT_REQUESTED, HANDSHAKE)
        former, self._keys = self._keys, self._keys.next()
        former.wipe()
        self._aead.wipe()
        self._aead = Aead(self._keys.suite.cipher, self._keys.key)
        return record

    def wipe(self) -> None:
        """Wipe the keys."""
        self._aead.wipe()
        self._keys.wipe()

    def _record(self, content: bytes | bytearray | memoryview, content_type: int) -> bytes:
        keys = self._keys
        if keys.sequence == SEQUENCE_MAX:
            raise OverflowError("the TLS record numbers are used up")
        version, explicit = b"\x03\x03", b""
        if keys.version == "TLSv1.3":
            # TLSInnerPlaintext: the content's type behind it, and no padding (RFC 8446 5.2)
            inner = bytes(content) + bytes((content_type,))
            start = bytes((APPLICATION_DATA,)) + version
            aad = start + (len(inner) + TAG_SIZE).to_bytes(2)
        else:
            # RFC 5246 6.2.3.3
            inner = bytes(content)
            start = bytes((content_type,)) + version
            aad = keys.sequence.to_bytes(8) + start + len(inner).to_bytes(2)
        if keys.suite.explicit_nonce:
            explicit = (self._explicit % (1 << 64)).to_bytes(_EXPLICIT_NONCE)
            nonce = keys.iv + explicit
            self._explicit += 1
        else:
            # the first is the IV itself
            nonce = keys.nonce()
        body = explicit + self._aead.seal(nonce, aad, inner)
        wipe(nonce)
        keys.sequence += 1
        return start + len(body).to_bytes(2) + body
