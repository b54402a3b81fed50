"""The record layer of received TLS records: one record in, its content out, or a refusal that stays.

Readable reference; `_records` is the same in C, called from the hot path without Python. Nothing of a record's content
is handed out before its tag is verified, and what a refused record left in the caller's memory is wiped.

Source: RFC 8446 5.1 to 5.5 (TLS 1.3); RFC 5246 6.2, RFC 5288 3, RFC 7905 2 (TLS 1.2).
"""

from __future__ import annotations

import errno
from enum import IntEnum
from ssl import AlertDescription
from typing import NamedTuple

from wsrec.tls.keys import SEQUENCE_MAX, TrafficKeys, Version
from wsrec.tls.libcrypto import NONCE_SIZE, TAG_SIZE, Aead, wipe
from wsrec.tls.violation import TlsViolationError

HEADER = 5
"""Bytes of a record's header: content type, version, length."""

PLAINTEXT_MAX = 1 << 14
"""Largest content of a record, bytes (RFC 8446 5.1, RFC 5246 6.2.1)."""

TLS13_MAX = PLAINTEXT_MAX + 256
"""Largest length in a header of TLS 1.3 (RFC 8446 5.2)."""

ROOM = TLS13_MAX
"""Bytes of room for which no record is too large."""

RECORD_MAX = HEADER + TLS13_MAX
"""Largest record, bytes: what a connection may have to keep of an incomplete one."""

EMPTY_MAX = 32
"""Successive records without content that are accepted, as by OpenSSL (MAX_EMPTY_RECORDS)."""

ALERTS_MAX = 4
"""Successive alerts that are accepted, with nothing but empty records between them; OpenSSL refuses the fifth, too
(MAX_WARN_ALERT_COUNT)."""

ALERT, HANDSHAKE, APPLICATION_DATA = 21, 22, 23
"""The content types that may come after a handshake (RFC 8446 5.1)."""

_VERSION = b"\x03\x03"
_EXPLICIT_NONCE = 8


class Refusal(IntEnum):
    """Why a record was refused; the numbers are those of `_records.h`."""

    TYPE = -3
    VERSION = -4
    TOO_LONG = -5
    TOO_SHORT = -6
    TAG = -7
    NO_CONTENT = -8
    INNER_TYPE = -9
    PLAINTEXT_TOO_LONG = -10
    EMPTY_MESSAGE = -11
    TOO_MANY_EMPTY = -12
    TOO_MANY_ALERTS = -13
    SEQUENCE_END = -14
    WIPED = -15


# what the server sent, and the sections of RFC 8446 and RFC 5246 that forbid it, if they do
_REASONS: dict[Refusal, tuple[str, str, str]] = {
    Refusal.TYPE: ("a TLS record of a type that is not allowed after the handshake", "5", "6"),
    Refusal.VERSION: ("a TLS record of another version", "5.2", "6.2.1"),
    Refusal.TOO_LONG: ("a TLS record that is longer than allowed", "5.2", "6.2.1"),
    Refusal.TOO_SHORT: ("a TLS record too short for its cipher", "5.2", "6.2.3.3"),
    Refusal.TAG: (
        "a TLS record with a wrong authentication tag: changed, repeated, left out or out of order on its way",
        "5.2",
        "6.2.3.3",
    ),
    Refusal.NO_CONTENT: ("a TLS record of nothing but padding", "5.4", ""),
    Refusal.INNER_TYPE: ("a TLS record with content of a type that is not allowed after the handshake", "5", ""),
    Refusal.PLAINTEXT_TOO_LONG: ("a TLS record with more content than allowed", "5.4", ""),
    Refusal.EMPTY_MESSAGE: ("an empty TLS record that is not application data", "5.4", "6.2.1"),
    Refusal.TOO_MANY_EMPTY: (f"more than {EMPTY_MAX} empty TLS records in succession", "", ""),
    Refusal.TOO_MANY_ALERTS: (f"more than {ALERTS_MAX} TLS alerts in succession", "", ""),
    Refusal.SEQUENCE_END: ("more TLS records than one key may have", "5.3", "6.1"),
}

# all others are of what came at the wrong time
_ALERTS = {
    Refusal.VERSION: AlertDescription.ALERT_DESCRIPTION_PROTOCOL_VERSION,
    Refusal.TOO_LONG: AlertDescription.ALERT_DESCRIPTION_RECORD_OVERFLOW,
    Refusal.PLAINTEXT_TOO_LONG: AlertDescription.ALERT_DESCRIPTION_RECORD_OVERFLOW,
    # one that cannot be decrypted, for whatever reason, is of one kind
    Refusal.TOO_SHORT: AlertDescription.ALERT_DESCRIPTION_BAD_RECORD_MAC,
    Refusal.TAG: AlertDescription.ALERT_DESCRIPTION_BAD_RECORD_MAC,
    Refusal.SEQUENCE_END: AlertDescription.ALERT_DESCRIPTION_INTERNAL_ERROR,
}


class RecordError(TlsViolationError):
    """The server sent a record that TLS forbids; the connection has to end.

    Attributes:
        refusal: which rule.

    """

    def __init__(self, refusal: Refusal, version: Version) -> None:
        if refusal == Refusal.WIPED:
            super().__init__("the keys of this TLS connection are wiped", None, errno.EPIPE)
        else:
            what, of_tls13, of_tls12 = _REASONS[refusal]
            rfc, section = ("RFC 8446", of_tls13) if version == "TLSv1.3" else ("RFC 5246", of_tls12)
            super().__init__(
                f"the server sent {what}" + (f" ({rfc}, section {section})" if section else ""),
                _ALERTS.get(refusal, AlertDescription.ALERT_DESCRIPTION_UNEXPECTED_MESSAGE),
            )
        self.refusal = refusal


class Opened(NamedTuple):
    """A record that was opened.

    Attributes:
        consumed: its size, bytes.
        size: that of its content, now at the beginning of `into`.
        content_type: `APPLICATION_DATA`, `HANDSHAKE` or `ALERT`.

    """

    consumed: int
    size: int
    content_type: int


def is_whole(data: memoryview) -> bool:
    """Whether `data` begins with a whole record."""
    return len(data) >= HEADER and len(data) - HEADER >= int.from_bytes(data[3:HEADER])


class RecordReader:
    """Opens the records of one direction, in their order.

    Args:
        keys: of that direction; copied, so the caller wipes its own.

    Attributes:
        sequence: number of the next record.

    Raises:
        LibcryptoError: libcrypto refuses the cipher.

    """

    def __init__(self, keys: TrafficKeys) -> None:
        self._refused: RecordError | None = None
        # in succession
        self._empty = self._alerts = 0
        self._take(keys)

    def open(self, data: memoryview, into: memoryview) -> Opened | None:
        """Open the record that `data` begins with.

        Args:
            data: what was received and not opened yet; only its first record is looked at.
            into: writable and apart from `data`. During the call it may hold what is not verified yet, and after it
                zeros instead of that. What lies beyond the content has no meaning.

        Returns:
            None if the record is incomplete.

        Raises:
            RecordError: the record is refused, as is everything after it.
            ValueError: `into` has no room for it (`ROOM` suffices always); it can be opened again.

        """
        if self._refused is not None:
            raise self._refused.with_traceback(None)
        # section numbers without an RFC are those of RFC 8446
        if len(data) < HEADER:
            return None
        outer, length = data[0], int.from_bytes(data[3:HEADER])
        # 5.2: the outer type of everything is application data, so a plaintext alert is nobody's; and a
        # change_cipher_spec is only allowed during the handshake (5)
        if outer != APPLICATION_DATA if self._tls13 else not ALERT <= outer <= APPLICATION_DATA:
            raise self._refuse(Refusal.TYPE)
        if data[1:3] != _VERSION:
            raise self._refuse(Refusal.VERSION)
        # refused before the rest of it has come. The limit of TLS 1.2 follows from that of its content, as a cipher
        # adds the same to every record: it is below the 2^14 + 2,048 of RFC 5246 6.2.3
        if length > (TLS13_MAX if self._tls13 else PLAINTEXT_MAX + self._overhead):
            raise self._refuse(Refusal.TOO_LONG)
        if length < self._overhead + self._tls13:
            raise self._refuse(Refusal.TOO_SHORT)
        if len(data) - HEADER < length:
            return None
        # 5.3: "Sequence numbers MUST NOT wrap". As in OpenSSL, the last number is not used
        if self.sequence == SEQUENCE_MAX:
            raise self._refuse(Refusal.SEQUENCE_END)
        size = length - self._overhead
        if len(into) < size:
            raise ValueError(f"a TLS record needs {size} bytes of room, not {len(into)}")
        body = data[HEADER : HEADER + length]
        explicit, ciphertext, tag = body[: self._explicit], body[self._explicit : -TAG_SIZE], body[-TAG_SIZE:]
        nonce = self._nonce(explicit)
        is_right = self._aead.open(nonce, self._aad(data, size), ciphertext, tag, into)
        # the first is the IV itself
        wipe(nonce)
        if not is_right:
            raise self._refuse(Refusal.TAG)
        content_type = outer
        if self._tls13:
            # 5.4: padding is zeros behind the type, and there is a type
            size = len(bytes(into[:size]).rstrip(b"\0")) - 1
            if size < 0:
                raise self._refuse(Refusal.NO_CONTENT)
            content_type = into[size]
            if not ALERT <= content_type <= APPLICATION_DATA:
                raise self._refuse(Refusal.INNER_TYPE, into[: length - self._overhead])
            if size > PLAINTEXT_MAX:
                raise self._refuse(Refusal.PLAINTEXT_TOO_LONG, into[: length - self._overhead])
        if size:
            self._empty = 0
        else:
            # 5.4, RFC 5246 6.2.1: only application data may be empty, which is for protection against traffic analysis
            if content_type != APPLICATION_DATA:
                raise self._refuse(Refusal.EMPTY_MESSAGE, into[: length - self._overhead])
            self._empty += 1
            if self._empty > EMPTY_MAX:
                raise self._refuse(Refusal.TOO_MANY_EMPTY, into[: length - self._overhead])
        if content_type == ALERT:
            self._alerts += 1
            if self._alerts > ALERTS_MAX:
                raise self._refuse(Refusal.TOO_MANY_ALERTS, into[: length - self._overhead])
        elif size:
            self._alerts = 0
        self.sequence += 1
        return Opened(HEADER + length, size, content_type)

    def change_keys(self, keys: TrafficKeys) -> None:
        """Open what follows with other keys (RFC 8446 4.6.3).

        Raises:
            RecordError: a record was refused before.
            LibcryptoError: libcrypto refuses the cipher.

        """
        if self._refused is not None:
            raise self._refused.with_traceback(None)
        self._aead.wipe()
        wipe(self._iv)
        self._take(keys)

    def wipe(self) -> None:
        """Wipe the keys; everything is refused from then on."""
        self._aead.wipe()
        wipe(self._iv)
        if self._refused is None:
            self._refused = RecordError(Refusal.WIPED, self._version)

    def _take(self, keys: TrafficKeys) -> None:
        self._version = keys.version
        self._tls13 = keys.version == "TLSv1.3"
        self._explicit = _EXPLICIT_NONCE if keys.suite.explicit_nonce else 0
        self._overhead = self._explicit + TAG_SIZE
        self._iv = bytearray(keys.iv)
        self._aead = Aead(keys.suite.cipher, keys.key)
        self.sequence = keys.sequence

    def _nonce(self, explicit: memoryview) -> bytearray:
        """RFC 8446 5.3, RFC 7905 2: the IV, XORed with the record's number."""
        if explicit:
            # RFC 5288 3: a salt, and the part that each record has
            return self._iv + explicit
        nonce = bytearray(self._iv)
        for place, byte in enumerate(self.sequence.to_bytes(NONCE_SIZE)):
            nonce[place] ^= byte
        return nonce

    def _aad(self, data: memoryview, size: int) -> bytes:
        """RFC 8446 5.2: the header; RFC 5246 6.2.3.3: number, type, version, and the plaintext's length."""
        if self._tls13:
            return bytes(data[:HEADER])
        return self.sequence.to_bytes(8) + bytes(data[:3]) + size.to_bytes(2)

    def _refuse(self, refusal: Refusal, written: memoryview | None = None) -> RecordError:
        if written is not None:
            wipe(written)
        self._refused = RecordError(refusal, self._version)
        return self._refused
