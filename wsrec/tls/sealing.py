"""Records that are sealed here: only from the moment on when a server has asked for our next keys (TLS 1.3).

Until then OpenSSL seals what is sent. It cannot be told of the request, as it does not see what is received, so its
sealing is taken over where it stands: the records that it gave to send are counted.

Source: RFC 8446 4.6.3, 5.1, 5.2, 5.3.
"""

from __future__ import annotations

import ssl

from wsrec.tls.keys import SEQUENCE_MAX, TrafficKeys
from wsrec.tls.libcrypto import TAG_SIZE, Aead, wipe
from wsrec.tls.post_handshake import APPLICATION_DATA, HANDSHAKE, KEY_UPDATE

RECORD_HEADER_SIZE = 5
_PLAINTEXT_MAX = 1 << 14
_UPDATE_NOT_REQUESTED = bytes((KEY_UPDATE, 0, 0, 1, 0))


def count_records(data: bytes | bytearray | memoryview) -> int:
    """The number of records in `data`, which holds whole ones: what an `ssl.MemoryBIO` gave to send.

    Raises:
        ValueError: the last one is cut off.

    """
    count = place = 0
    while place < len(data):
        place += RECORD_HEADER_SIZE + int.from_bytes(data[place + 3 : place + RECORD_HEADER_SIZE])
        count += 1
    if place != len(data):
        raise ValueError("the last TLS record is cut off")
    return count


class Sending:
    """What a client sends: sealed by OpenSSL, and from a KeyUpdate on here.

    Args:
        tls, outgoing: OpenSSL's end, after the handshake and with nothing left to send.
        keys: the client's, of its first record after the handshake; taken over, and wiped by `wipe`. None under
            TLS 1.2, where no server can ask for new ones.

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
            ValueError: TLS 1.2 has no such thing, or `wipe` was called.
            LibcryptoError: libcrypto refused.

        """
        if self._sealer is None:
            if self._keys is None:
                raise ValueError("TLS 1.2 has no KeyUpdate")
            self._sealer = Sealer(self._keys)
        return self._sealer.key_update()

    def wipe(self) -> None:
        """Wipe the keys."""
        if self._sealer is not None:
            self._sealer.wipe()
        elif self._keys is not None:
            self._keys.wipe()


class Sealer:
    """Seals records with the client's keys.

    Args:
        keys: of TLS 1.3, at the number of the next record; taken over, and wiped by `wipe`.

    Raises:
        ValueError: keys of TLS 1.2, where no server can ask for new ones.
        LibcryptoError: libcrypto refused.

    """

    def __init__(self, keys: TrafficKeys) -> None:
        if keys.version != "TLSv1.3":
            raise ValueError(f"{keys.version} has no KeyUpdate")
        self._keys = keys
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
            ValueError: `wipe` was called.
            OverflowError: the record numbers are used up.

        """
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
        # TLSInnerPlaintext: the content's type behind it, and no padding (RFC 8446 5.2)
        inner = bytes(content) + bytes((content_type,))
        header = b"\x17\x03\x03" + (len(inner) + TAG_SIZE).to_bytes(2)
        # the first nonce is the IV itself
        nonce = keys.nonce()
        sealed = self._aead.seal(nonce, header, inner)
        wipe(nonce)
        keys.sequence += 1
        return header + sealed
