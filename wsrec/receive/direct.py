"""TLS records that are decrypted straight into the ring: the mode `direct`.

OpenSSL performs the handshake, verifies the certificate and encrypts what is sent, as in mode `stamped`. What is
received never reaches it: the keys of the server's direction are taken from the handshake (`wsrec.tls.key_log`), and
libcrypto opens each record from the receive buffer into the ring, where it is stamped, parsed and handed off before the
next. The compiled hot path does the same as `read` and `more` here, without Python for a record of data.

Nothing of a record is seen before its tag is verified (`wsrec.tls.records`). Whatever a server sends that is not known
here ends the connection with the reason, and the next one is made in mode `stamped`.
"""

from __future__ import annotations

import socket
import ssl
from array import array
from contextlib import suppress
from ssl import AlertDescription

from wsrec.net.trust import tls_context
from wsrec.receive.tls import CIPHERTEXT_MAX, Refusal, StampedTlsTransport, TlsDetails, framing_of
from wsrec.receive.transport import Transport
from wsrec.ring.counter import Counter
from wsrec.segments.stream_map import MapKind
from wsrec.tls import key_log, libcrypto, records
from wsrec.tls.key_log import KeyLog
from wsrec.tls.keys import SUITES, TrafficKeys, hello_random
from wsrec.tls.libcrypto import LibcryptoError, wipe
from wsrec.tls.post_handshake import HANDSHAKE, Meaning, PostHandshake
from wsrec.tls.records import APPLICATION_DATA, RECORD_MAX
from wsrec.tls.records_implementation import RecordReader
from wsrec.tls.sealing import Sending
from wsrec.tls.violation import TlsViolationError

HINT = "nothing to do if `stamped` is acceptable"
KEY_UPDATES_MAX = 32
"""Successive KeyUpdates that are followed, as by OpenSSL (MAX_KEY_UPDATE_MESSAGES)."""


class UnknownToDirectError(TlsViolationError):
    """The server sent what only OpenSSL can follow, if anyone: the next connection is for it to read."""


def key_log_of(context: ssl.SSLContext) -> KeyLog | Refusal:
    """A key log for the transports of `context`, or why there is none on this machine; takes about 1 ms."""
    reason = libcrypto.unavailable() or key_log.unavailable()
    if reason is None:
        try:
            return KeyLog(context)
        except OSError as error:
            reason = f"the keys of TLS connections cannot be had here ({error.strerror or error})"
    return Refusal(reason, "use a Python whose ssl module is linked with OpenSSL 1.1.1 or later")


def unable() -> Refusal | None:
    """Why this machine cannot decrypt records by itself; None if it can."""
    found = key_log_of(tls_context())
    if isinstance(found, Refusal):
        return found
    found.close()
    return None


class DirectTransport(StampedTlsTransport):
    """`wss://` in mode `direct`; in mode `stamped` from the handshake on if that negotiated what is not known here.

    Args:
        key_log: the key log of `context`.

    Attributes:
        by_record: whether records are decrypted here.
        refusal: after the handshake, why they are not.
        reader: opens them.
        rest: the beginning of a record that has not come in full, or what came with the handshake; `held` has the
            number of its bytes, at most `RECORD_MAX`.

    """

    reader: records.RecordReader

    def __init__(
        self, sock: socket.socket, *, stamped: bool, context: ssl.SSLContext, host: str, key_log: KeyLog
    ) -> None:
        super().__init__(sock, stamped=stamped, context=context, host=host)
        self.by_record = False
        self.refusal: Refusal | None = None
        self.rest = memoryview(bytearray(RECORD_MAX))
        self.held = memoryview(array("Q", [0]))
        self._key_log = key_log
        self._keys: TrafficKeys | None = None
        self._sending: Sending | None = None
        self._key_updates = 0
        # what of the ciphertext of the read in progress is not decrypted yet
        self._left = self.ciphertext[:0]
        # bytes behind the end of the stream
        self._behind = 0

    @property
    def forbids_data(self) -> bool:
        """Whether a record of data is not allowed now, and so one for `on_record`."""
        return self._post_handshake.forbids_data

    @property
    def taken(self) -> int:
        """Bytes taken off the socket up to the handshake's end, and since then by `read`."""
        return self._taken

    @property
    def undecrypted(self) -> int:
        """See `Transport.undecrypted`."""
        return self.held[0] + self._behind

    async def handshake(self) -> TlsDetails:
        """See `TlsTransport.handshake`."""
        try:
            details = await super().handshake()
        except BaseException:
            self._forget_secrets()
            raise
        try:
            self._take_over(details)
        except (ValueError, OSError) as error:
            self._forget_secrets()
            self.refusal = Refusal(str(error), HINT)
        return details

    def _forget_secrets(self) -> None:
        """Wipe what the handshake left in the key log."""
        # neither a hello that was never sent nor a log that is closed must hide why this is called
        with suppress(ValueError, OSError):
            self._key_log.forget(hello_random(self._first_sent))

    def _take_over(self, details: TlsDetails) -> None:
        """Decrypt what comes behind the handshake.

        Raises:
            ValueError: the handshake was not as expected, or negotiated what is not known here.
            LibcryptoError: libcrypto refused.

        """
        suite = SUITES.get(details.cipher)
        if suite is None or suite.version != details.version:
            raise ValueError(f"the server chose {details.version} {details.cipher}, which OpenSSL decrypts")
        keys = self._key_log.keys(suite, hello_random(self._first_sent), hello_random(self._first_received))
        if keys is None:
            raise ValueError(f"{ssl.OPENSSL_VERSION} did not log the keys of this connection")
        ours, theirs = keys
        self.begin(theirs, Sending(self._tls, self._outgoing, ours))

    def begin(self, keys: TrafficKeys, sending: Sending) -> None:
        """Decrypt from now on with the server's `keys`; both are taken over.

        Raises:
            ValueError: more has come behind the handshake than is kept here; OpenSSL still has it.
            LibcryptoError: libcrypto refused.

        """
        if self._incoming.pending > RECORD_MAX:
            keys.wipe()
            sending.wipe()
            raise ValueError(f"the server sent {self._incoming.pending} bytes together with its handshake")
        try:
            self.reader = RecordReader(keys)
        except BaseException:
            keys.wipe()
            sending.wipe()
            raise
        self._keys, self._sending = keys, sending
        self._post_handshake = PostHandshake(keys.version)
        # what came with the server's last handshake message: OpenSSL has not looked at it
        early = self._incoming.read()
        self.rest[: len(early)] = early
        self.held[0] = len(early)
        self.by_record = True

    def begin_map(self, head: Counter) -> None:
        """See `Transport.begin_map`."""
        if not self.by_record:
            super().begin_map(head)
        elif self.flow is not None:
            self.flow.begin(MapKind.TLS, head, self.flow.offset + self._taken - self.held[0], framing_of(self._tls))

    def read(self, into: memoryview) -> int | None:
        """See `Transport.read`; the first record of what was taken off the socket."""
        if not self.by_record:
            return super().read(into)
        if self._broken is not None:
            raise self._broken
        if self._closed:
            return 0
        held = self.held[0]
        self.ciphertext[:held] = self.rest[:held]
        size = self._receive(self.ciphertext[held : min(len(into), CIPHERTEXT_MAX)])
        if not size and not records.is_whole(self.rest[:held]):
            # a record cut off by the end of the stream stays in `held`
            self._closed = size == 0
            return size
        # without new bytes what is whole came with the handshake; the end of the stream is found again behind it
        self._taken += size or 0
        self._left = self.ciphertext[: held + (size or 0)]
        return self.more(into)

    def more(self, into: memoryview) -> int | None:
        """See `Transport.more`: the next record."""
        if not self.by_record:
            return None
        try:
            while (opened := self.reader.open(self._left, into)) is not None:
                self._left = self._left[opened.consumed :]
                if opened.content_type == APPLICATION_DATA and not self.forbids_data:
                    if opened.size:
                        if self.flow is not None:
                            offset = self.flow.offset + self._taken - len(self._left)
                            self.flow.record(opened.size, opened.size, offset)
                        return opened.size
                elif not self.on_record(opened.content_type, into[: opened.size]):
                    self.hold(len(self._left))
                    return 0
        except OSError as error:
            self.hold(len(self._left), error)
            raise
        self.held[0] = len(self._left)
        self.rest[: len(self._left)] = self._left
        return None

    def hold(self, left: int, error: OSError | None = None) -> None:
        """The stream has ended, with `error` or in order; `left` bytes behind that are not decrypted."""
        self.held[0], self._behind = 0, left
        self._closed, self._broken = True, error

    def break_off(self, error: OSError) -> None:
        """See `Transport.break_off`."""
        self.hold(len(self._left), error)

    def on_record(self, content_type: int, content: memoryview) -> bool:
        """Take a record that is not data; `content` is wiped.

        Returns:
            False at the end of the stream.

        Raises:
            UnknownToDirectError: it is not known what to do with it.
            ssl.SSLError: it ends the connection; a `TlsViolationError` if the server did wrong.
            ConnectionAbortedError: the server asks for new keys and does not read the answers.

        """
        try:
            meaning = self._post_handshake.take(content_type, content)
            if meaning in (Meaning.KEYS_CHANGED, Meaning.KEYS_CHANGED_BOTH):
                self._change_keys(ours_too=meaning is Meaning.KEYS_CHANGED_BOTH)
        except LibcryptoError as error:
            raise UnknownToDirectError(str(error), AlertDescription.ALERT_DESCRIPTION_INTERNAL_ERROR) from None
        except TlsViolationError as error:
            if content_type != HANDSHAKE:
                raise
            raise UnknownToDirectError(str(error), error.alert) from None
        finally:
            wipe(content)
        return meaning is not Meaning.END

    def _change_keys(self, *, ours_too: bool) -> None:
        """The server has changed its keys (RFC 8446 4.6.3)."""
        assert self._keys is not None
        assert self._sending is not None
        # each costs as much as many records: counted are those with nothing else between them
        self._key_updates = self._key_updates + 1 if self.reader.sequence == 1 else 1
        if self._key_updates > KEY_UPDATES_MAX:
            raise TlsViolationError(
                f"the server sent more than {KEY_UPDATES_MAX} TLS KeyUpdates without data",
                AlertDescription.ALERT_DESCRIPTION_UNEXPECTED_MESSAGE,
            )
        former, self._keys = self._keys, self._keys.next()
        former.wipe()
        self.reader.change_keys(self._keys)
        if ours_too:
            answer = self._sending.key_update()
            try:
                Transport.send(self, answer)
            except ConnectionAbortedError:
                raise
            except OSError:
                # a broken socket is reported by the next read; what was received is handed off first
                pass

    def close(self) -> None:
        """See `StampedTlsTransport.close`; wipes the keys."""
        super().close()
        if self._keys is not None and self._sending is not None:
            self._keys.wipe()
            self._sending.wipe()
            self.reader.wipe()

    def _alert(self) -> bytes:
        """See `StampedTlsTransport._alert`; OpenSSL does not know what was received."""
        if not self.by_record:
            return super()._alert()
        if self._sending is None or not isinstance(self._broken, TlsViolationError) or self._broken.alert is None:
            return b""
        try:
            return self._sending.alert(self._broken.alert)
        except (OSError, ValueError, OverflowError):
            # the connection ends anyway, and for a reason that is known
            return b""

    def _seal(self, data: bytes) -> bytes:
        return super()._seal(data) if self._sending is None else self._sending.seal(data)
