"""What a server sends on an open connection besides application data: alerts and handshake messages.

Nothing of it is kept: session tickets are skipped as they come, since no session is resumed.

Source: RFC 8446 4.6, 5.1, 6; RFC 5246 7.2, 7.4.1.1.
"""

from __future__ import annotations

import errno
import ssl
from enum import Enum
from ssl import AlertDescription
from typing import NoReturn

from wsrec.tls.keys import Version
from wsrec.tls.violation import TlsViolationError

ALERT, HANDSHAKE, APPLICATION_DATA = 21, 22, 23
"""Content types of records (RFC 8446 5.1)."""

KEY_UPDATE = 24
"""A handshake message (RFC 8446 4.6.3)."""

_HELLO_REQUEST, _NEW_SESSION_TICKET = 0, 4
_HEADER_SIZE = 4
# a ticket's nonce, the ticket and its extensions, each of the largest size (RFC 8446 4.6.1)
_TICKET_MAX = 4 + 4 + 1 + 255 + 2 + 65_535 + 2 + 65_534

_WARNING, _FATAL = 1, 2
_CLOSE_NOTIFY, _USER_CANCELED, _NO_RENEGOTIATION = 0, 90, 100
_UNEXPECTED = AlertDescription.ALERT_DESCRIPTION_UNEXPECTED_MESSAGE


class Meaning(Enum):
    """What is to be done about a record that is not application data."""

    NOTHING = "nothing"
    END = "end"
    """The end of the stream (close_notify): what comes after it is ignored."""
    KEYS_CHANGED = "keys changed"
    """The next record is sealed with the server's next keys."""
    KEYS_CHANGED_BOTH = "keys changed, ours too"
    """The same, and before anything else is sent, a KeyUpdate is to be, and then our next keys used."""


class PostHandshake:
    """Takes the records of one connection that are not application data, in order.

    Args:
        version: of TLS.

    Attributes:
        partial: whether a handshake message has begun that is not there in full.

    """

    def __init__(self, version: Version) -> None:
        self._tls13 = version == "TLSv1.3"
        self._version = version
        self.partial = False
        self._header = b""
        # bytes of the message's body that are still to come
        self._missing = 0

    @property
    def forbids_data(self) -> bool:
        """Whether no application data may come now (RFC 8446 5.1): `take` refuses it. Under TLS 1.2 it always may."""
        return self.partial and self._tls13

    def take(self, content_type: int, content: bytes | bytearray | memoryview) -> Meaning:
        """Take the content of a record.

        Raises:
            TlsViolationError: a record or message that is not allowed here.
            ssl.SSLError: an alert that ends the connection.

        """
        if self.forbids_data and content_type != HANDSHAKE:
            _refuse(f"a record of type {content_type} in the middle of a TLS handshake message")
        if content_type == APPLICATION_DATA:
            return Meaning.NOTHING
        if content_type == ALERT:
            return self._alert(bytes(content))
        if content_type == HANDSHAKE:
            return self._handshake(content)
        return _refuse(f"a TLS record of type {content_type}, which is not allowed here")

    def _alert(self, content: bytes) -> Meaning:
        # neither split nor several in a record (RFC 8446 5.1); OpenSSL asks the same of TLS 1.2
        if len(content) != 2:
            _refuse(f"a TLS alert of {len(content)} bytes", AlertDescription.ALERT_DESCRIPTION_DECODE_ERROR)
        level, description = content
        if self._tls13 or level == _WARNING:
            if description == _CLOSE_NOTIFY:
                return Meaning.END
            # TLS 1.3 has no warnings but this one, whatever an alert's level says (RFC 8446 6). TLS 1.2 has others; one
            # that declines a renegotiation answers nothing that was asked here, and is fatal to OpenSSL, too
            if description == _USER_CANCELED if self._tls13 else description != _NO_RENEGOTIATION:
                return Meaning.NOTHING
        elif level != _FATAL:
            _refuse(f"a TLS alert of level {level}", AlertDescription.ALERT_DESCRIPTION_ILLEGAL_PARAMETER)
        try:
            name = ssl.AlertDescription(description).name.removeprefix("ALERT_DESCRIPTION_").lower()
        except ValueError:
            name = "unknown"
        raise ssl.SSLError(errno.EPROTO, f"the server ended TLS with alert {description} ({name})")

    def _handshake(self, content: bytes | bytearray | memoryview) -> Meaning:
        size, place = len(content), 0
        if not size:
            # RFC 8446 5.1, RFC 5246 6.2.1
            _refuse("an empty TLS handshake record")
        while place < size:
            if self._missing:
                skipped = min(self._missing, size - place)
                self._missing -= skipped
                place += skipped
                continue
            taken = content[place : place + _HEADER_SIZE - len(self._header)]
            self._header += bytes(taken)
            place += len(taken)
            if len(self._header) < _HEADER_SIZE:
                break
            kind, length = self._header[0], int.from_bytes(self._header[1:])
            self._check(kind, length)
            if kind == KEY_UPDATE:
                if place == size:
                    # its only byte is still to come
                    break
                return self._key_update(content[place], last=place + 1 == size)
            self._header = b""
            self._missing = length
        self.partial = bool(self._header or self._missing)
        return Meaning.NOTHING

    def _check(self, kind: int, length: int) -> None:
        """Refuse a message that has no place here, by its header."""
        if self._tls13:
            allowed = (kind == _NEW_SESSION_TICKET and length <= _TICKET_MAX) or (kind == KEY_UPDATE and length == 1)
        else:
            # a renegotiation is declined by silence (RFC 5246 7.4.1.1)
            allowed = kind == _HELLO_REQUEST and length == 0
        if not allowed:
            known = kind in ((_NEW_SESSION_TICKET, KEY_UPDATE) if self._tls13 else (_HELLO_REQUEST,))
            _refuse(
                f"a TLS handshake message {kind} of {length} bytes, which {self._version} does not allow here",
                AlertDescription.ALERT_DESCRIPTION_DECODE_ERROR if known else _UNEXPECTED,
            )

    def _key_update(self, request: int, *, last: bool) -> Meaning:
        if request not in (0, 1):
            # RFC 8446 4.6.3
            _refuse(f"a TLS KeyUpdate of value {request}", AlertDescription.ALERT_DESCRIPTION_ILLEGAL_PARAMETER)
        if not last:
            # what follows would be sealed with the old keys (RFC 8446 5.1)
            _refuse("a TLS KeyUpdate that does not end its record")
        self._header = b""
        self.partial = False
        return Meaning.KEYS_CHANGED_BOTH if request else Meaning.KEYS_CHANGED


def _refuse(what: str, alert: AlertDescription = _UNEXPECTED) -> NoReturn:
    raise TlsViolationError(f"the server sent {what}", alert)
