"""TLS decrypted by the kernel: the mode `ktls`.

OpenSSL performs the handshake in memory, and its key log says which keys it arrived at: they go to the kernel, which
decrypts from the first record behind the handshake on. The socket returns plain bytes then: one `recv` takes all
available TLS records and writes them straight into the ring, where a read through OpenSSL would return one record. What
is sent, OpenSSL encrypts.

During the handshake the socket is read record by record, so that everything behind it is still the kernel's to decrypt.
Records other than application data (alerts, and post-handshake messages of TLS 1.3) make such a `recv` fail with EIO;
the record stays, and `recvmsg` with room for its type reads it.

Source: Linux, Documentation/networking/tls.rst; linux/tls.h.
"""

from __future__ import annotations

import errno
import socket
import ssl
from struct import Struct

from wsrec.receive.tls import RECORD_MAX, NoTlsError, Refusal, TlsDetails, TlsTransport, details_of, framing_of
from wsrec.receive.transport import READ_MAX
from wsrec.ring.counter import Counter
from wsrec.segments.stream_map import MapKind
from wsrec.stages import StampSource
from wsrec.tls import key_log, libcrypto
from wsrec.tls.key_log import KeyLog
from wsrec.tls.keys import SUITES, TrafficKeys, hello_random
from wsrec.tls.libcrypto import Cipher, wipe
from wsrec.tls.post_handshake import Meaning, PostHandshake
from wsrec.tls.records import HEADER
from wsrec.tls.sealing import Sending

# linux/tcp.h and linux/tls.h; Python's socket module does not name them
_TCP_ULP = 31
_SOL_TLS = 282
_TLS_RX = 2
_TLS_GET_RECORD_TYPE = 2
# struct tls_crypto_info: version and cipher, which the keys follow
_CRYPTO_INFO = Struct("=HH")
_VERSIONS = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}
_CIPHERS: dict[Cipher, int] = {"aes-128-gcm": 51, "aes-256-gcm": 52, "chacha20-poly1305": 54}
_KERNEL_VERSIONS = {number: name for name, number in _VERSIONS.items()}
_KERNEL_CIPHERS = {number: name.upper() for name, number in _CIPHERS.items()}
# of a nonce with AES-GCM, what the kernel calls salt
_SALT_SIZE = 4

_TYPE_SIZE = socket.CMSG_SPACE(1)
_recvmsg_into = getattr(socket.socket, "recvmsg_into", None)


class KtlsRefused(Exception):  # noqa: N818 (not an error: another mode is next)
    """The kernel cannot decrypt this connection."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.reason)
        self.refusal = refusal


class KeysChangedError(ConnectionError):
    """The server changed its keys (TLS 1.3 KeyUpdate), which only OpenSSL could follow."""


def unable() -> Refusal | None:
    """Why this machine cannot decrypt TLS in the kernel; None if it can.

    Tried on a loopback connection, since the kernel offers no other way to find out (about 0.2 ms).

    Raises:
        OSError: no loopback connection could be made.

    """
    reason = libcrypto.unavailable() or key_log.unavailable()
    if reason is not None:
        return Refusal(f"the keys are not to be had: {reason}", "use a Python with OpenSSL 1.1.1 or later")
    suite = SUITES["TLS_AES_128_GCM_SHA256"]
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as client,
    ):
        try:
            _enable_in_kernel(client)
        except OSError as error:
            return _no_kernel_tls(error)
        try:
            _give_keys(client, TrafficKeys(suite, bytearray(suite.key_size), bytearray(suite.iv_size)))
        except OSError as error:
            return Refusal(
                f"the kernel does not receive {suite.version} with AES-GCM (TLS_RX: {error.strerror})",
                "load its cipher as root with `modprobe gcm`, or use a later kernel",
            )
    return None


def enable(context: ssl.SSLContext) -> ssl.SSLContext:
    """Make `context` negotiate what a kernel can decrypt. Verification is unchanged."""
    # for TLS 1.2; the ciphers of TLS 1.3 cannot be chosen, so the negotiated one is tried
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM")
    return context


class KtlsTransport(TlsTransport):
    """`wss://` in mode `ktls`: received data is decrypted by the kernel straight into the ring, without a timestamp.

    Args:
        sock: connected.
        context: of `enable`.
        key_log: that of `context`.
        host: whose certificate it must be.

    """

    def __init__(self, sock: socket.socket, *, context: ssl.SSLContext, key_log: KeyLog, host: str) -> None:
        super().__init__(sock, stamped=False)
        self.source = StampSource.NONE_KTLS
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._key_log = key_log
        self._client_random = b""
        # the server's keys, for as long as they may be followed by others
        self._keys: TrafficKeys | None = None
        self._sending: Sending | None = None
        self._messages = PostHandshake("TLSv1.3")
        # bytes taken off the socket before the kernel decrypts
        self._taken = 0

    async def handshake(self) -> TlsDetails:
        """Perform the TLS handshake, and hand what follows over to the kernel.

        Raises:
            KtlsRefused: it does not take it, or the server did not cooperate; another mode may work.
            ssl.SSLCertVerificationError: the certificate is not trusted; another mode would fail too.
            OSError: the connection broke.

        """
        try:
            server_random = await self._shake_hands()
        except BaseException as error:
            if self._client_random:
                self._key_log.forget(self._client_random)
            if isinstance(error, ssl.SSLError | ConnectionError) and not isinstance(
                error, ssl.SSLCertVerificationError
            ):
                raise KtlsRefused(_handshake_refusal(error)) from None
            raise
        details = details_of(self._tls)
        suite = SUITES.get(details.cipher)
        if suite is None or suite.version != details.version or self._incoming.pending:
            self._key_log.forget(self._client_random)
            raise KtlsRefused(_not_decrypted(details))
        keys = self._key_log.keys(suite, self._client_random, server_random)
        if keys is None:
            raise KtlsRefused(Refusal(f"{ssl.OPENSSL_VERSION} logged no keys", "nothing to do if `stamped` will do"))
        client, self._keys = keys
        followed = suite.version == "TLSv1.3"
        if not followed:
            client.wipe()
        self._sending = Sending(self._tls, self._outgoing, client if followed else None)
        self._messages = PostHandshake(suite.version)
        try:
            _enable_in_kernel(self._sock)
        except OSError as error:
            raise KtlsRefused(_no_kernel_tls(error)) from None
        try:
            _give_keys(self._sock, self._keys)
            received = self._in_kernel()
        except OSError as error:
            raise KtlsRefused(_not_decrypted(details, error)) from None
        if not followed:
            self._keys.wipe()
        return details._replace(kernel_rx=received)

    def peer_certificate(self) -> dict[str, object]:
        """See `TlsTransport.peer_certificate`."""
        return dict(self._tls.getpeercert() or {})

    def begin_map(self, head: Counter) -> None:
        """See `Transport.begin_map`: the capture finds the records itself."""
        if self.flow is not None:
            self.flow.begin(MapKind.KERNEL, head, self.flow.offset + self._taken, framing_of(self._tls))

    def read(self, into: memoryview) -> int | None:
        """See `Transport.read`. Takes all available TLS records; `read_bytes` counts the decrypted bytes."""
        try:
            self.read_bytes = self._sock.recv_into(into[:READ_MAX])
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno == errno.EIO:
                return self._read_control()
            if error.errno in (errno.EBADMSG, errno.EMSGSIZE, errno.EINVAL):
                raise ssl.SSLError(error.errno, f"the kernel rejected a TLS record: {error.strerror}") from None
            raise
        return self.read_bytes

    def send(self, data: bytes) -> None:
        """See `Transport.send`."""
        assert self._sending is not None
        super().send(self._sending.seal(data))

    def close(self) -> None:
        """See `Transport.close`. The keys are wiped, the kernel's with the socket."""
        super().close()
        if self._sending is not None:
            self._sending.wipe()
        if self._keys is not None:
            self._keys.wipe()

    async def _shake_hands(self) -> bytes:
        """OpenSSL's handshake; what is behind its last record is left in the socket.

        Returns:
            The server's random.

        Raises:
            KtlsRefused: the handshake is not one of those that are known here.

        """
        received = bytearray()
        header, missing = b"", 0
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                # send the alert with the reason
                await self._flush()
                raise
            else:
                await self._flush()
                try:
                    return hello_random(received)
                except ValueError as error:
                    raise KtlsRefused(Refusal(str(error), "nothing to do if `stamped` will do")) from None
            await self._flush()
            data = await self._loop.sock_recv(self._sock, missing or HEADER - len(header))
            if not data:
                raise NoTlsError("the server closed the connection during the TLS handshake")
            if missing:
                missing -= len(data)
            else:
                header += data
                if len(header) == HEADER:
                    header, missing = b"", int.from_bytes(header[3:])
            received += data
            self._taken += len(data)
            self._incoming.write(data)

    async def _flush(self) -> None:
        if self._outgoing.pending:
            data = self._outgoing.read()
            if not self._client_random:
                self._client_random = hello_random(data)
            await self._loop.sock_sendall(self._sock, data)

    def _in_kernel(self) -> str:
        """The version and cipher with which the kernel says it decrypts.

        Raises:
            OSError: it does not.

        """
        version, cipher = _CRYPTO_INFO.unpack(self._sock.getsockopt(_SOL_TLS, _TLS_RX, _CRYPTO_INFO.size))
        return f"{_KERNEL_VERSIONS.get(version, hex(version))} {_KERNEL_CIPHERS.get(cipher, cipher)}"

    def _read_control(self) -> int | None:
        """Read one record other than application data.

        Returns:
            0 for the end of the stream, None for anything harmless.

        """
        assert _recvmsg_into is not None
        data = bytearray(RECORD_MAX)
        size, ancillary, _, _ = _recvmsg_into(self._sock, (data,), _TYPE_SIZE)
        record_type = next(
            (value[0] for level, kind, value in ancillary if (level, kind) == (_SOL_TLS, _TLS_GET_RECORD_TYPE)), 0
        )
        if self.flow is not None and self._tls.version() == "TLSv1.3":
            # on the wire it looks like data
            self.flow.control(size)
        meaning = self._messages.take(record_type, memoryview(data)[:size])
        if meaning is Meaning.END:
            return 0
        if meaning in (Meaning.KEYS_CHANGED, Meaning.KEYS_CHANGED_BOTH):
            self._change_keys(answer=meaning is Meaning.KEYS_CHANGED_BOTH)
        return None

    def _change_keys(self, *, answer: bool) -> None:
        """Follow a KeyUpdate, which kernels can since 6.14 (Documentation/networking/tls.rst, "TLS 1.3 Key Updates").

        Raises:
            KeysChangedError: this one cannot.

        """
        assert self._keys is not None
        assert self._sending is not None
        former, self._keys = self._keys, self._keys.next()
        former.wipe()
        try:
            _give_keys(self._sock, self._keys)
        except OSError:
            raise KeysChangedError("the server changed its TLS keys, which the kernel cannot follow") from None
        if answer:
            super().send(self._sending.key_update())


def _enable_in_kernel(sock: socket.socket) -> None:
    sock.setsockopt(socket.IPPROTO_TCP, _TCP_ULP, b"tls")


def _give_keys(sock: socket.socket, keys: TrafficKeys) -> None:
    """Have the kernel decrypt with `keys` what is received (struct tls12_crypto_info_* in linux/tls.h).

    Raises:
        OSError: it cannot.

    """
    suite, number = keys.suite, keys.sequence.to_bytes(8)
    info = bytearray(_CRYPTO_INFO.pack(_VERSIONS[suite.version], _CIPHERS[suite.cipher]))
    parts: tuple[bytearray, ...]
    if suite.cipher == "chacha20-poly1305":
        parts = (keys.iv, keys.key)
    elif suite.explicit_nonce:
        # each record brings the rest of its nonce
        parts = (bytearray(8), keys.key, keys.iv)
    else:
        parts = (keys.iv[_SALT_SIZE:], keys.key, keys.iv[:_SALT_SIZE])
    # made at its full size: one that grows leaves copies behind
    size = len(info)
    info = info + bytes(sum(map(len, parts)) + len(number))
    for part in (*parts, number):
        info[size : size + len(part)] = part
        size += len(part)
    try:
        sock.setsockopt(_SOL_TLS, _TLS_RX, info)
    finally:
        wipe(info, *(part for part in parts if part is not keys.key and part is not keys.iv))


def _handshake_refusal(error: OSError) -> Refusal:
    """The refusal for a failed handshake. A broken connection may have other reasons, so it is not remembered."""
    what = getattr(error, "reason", None) or error.strerror or str(error)
    reported = isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError)
    return Refusal(
        f"the server rejected TLS with AES-GCM or ChaCha20 ({what})",
        "nothing to do if `stamped` is acceptable",
        lasting=reported,
    )


def _no_kernel_tls(error: OSError) -> Refusal:
    return Refusal(
        f"the kernel has no TLS (TCP_ULP: {error.strerror})",
        "load it as root with `modprobe tls`; a kernel without that module needs CONFIG_TLS",
    )


def _not_decrypted(details: TlsDetails, error: OSError | None = None) -> Refusal:
    why = "" if error is None else f" (TLS_RX: {error.strerror})"
    return Refusal(
        f"the kernel does not decrypt {details.version} {details.cipher}{why}",
        "nothing to do if `stamped` is acceptable; otherwise load the kernel's module for that cipher",
    )
