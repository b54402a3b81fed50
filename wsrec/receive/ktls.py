"""TLS decrypted by the kernel: the mode `ktls`.

OpenSSL performs the handshake and passes the keys to the kernel (SSL_OP_ENABLE_KTLS). From then on the socket returns
plain bytes: one `recv` takes all available TLS records and writes them straight into the ring, where a read through
OpenSSL would return one record, from the same kernel. OpenSSL is not involved in receiving any more.

Records other than application data (alerts, and post-handshake messages of TLS 1.3) make such a `recv` fail with EIO;
the record stays, and `recvmsg` with room for its type reads it.

Source: Linux, Documentation/networking/tls.rst; linux/tls.h; SSL_CTX_set_options(3).
"""

from __future__ import annotations

import errno
import socket
import ssl
from struct import Struct
from typing import NamedTuple

from wsrec.receive.tls import RECORD_MAX, OpensslTransport, TlsDetails
from wsrec.receive.transport import READ_MAX
from wsrec.stages import StampSource

# linux/tcp.h and linux/tls.h; Python's socket module does not name them
_TCP_ULP = 31
_SOL_TLS = 282
_TLS_TX = 1
_TLS_RX = 2
_TLS_GET_RECORD_TYPE = 2
# struct tls_crypto_info: version and cipher; the keys follow, and are not read here
_CRYPTO_INFO = Struct("=HH")
_KERNEL_VERSIONS = {0x0303: "TLSv1.2", 0x0304: "TLSv1.3"}
_AES_GCM_128 = 51
_KERNEL_CIPHERS = {_AES_GCM_128: "AES-GCM-128", 52: "AES-GCM-256", 53: "AES-CCM-128", 54: "CHACHA20-POLY1305"}
# the rest of struct tls12_crypto_info_aes_gcm_128: nonce, key, salt and sequence number
_AES_GCM_128_KEYS = bytes(8 + 16 + 4 + 8)

# ssl.OP_ENABLE_KTLS, named in Python since 3.12
_OP_ENABLE_KTLS = 1 << 3
# OpenSSL before 3.2 hands over the receive keys of TLS 1.2 only
_RECEIVES_TLS13 = ssl.OPENSSL_VERSION_INFO >= (3, 2)
_VERSION = ssl.TLSVersion.TLSv1_3 if _RECEIVES_TLS13 else ssl.TLSVersion.TLSv1_2

_TYPE_SIZE = socket.CMSG_SPACE(1)
# record types, alerts and handshake messages: RFC 8446 5.1, 6 and 4; RFC 5246 7.4.1.1
_ALERT, _HANDSHAKE = 21, 22
_WARNING, _CLOSE_NOTIFY = 1, 0
_HELLO_REQUEST, _NEW_SESSION_TICKET, _KEY_UPDATE = 0, 4, 24
_HANDSHAKE_HEADER = 4
_HANDSHAKE_MAX = 1 << 16

# SSLSocket rejects these methods of its own socket, because it cannot know that the kernel decrypts
_recv_into = socket.socket.recv_into
_recvmsg_into = getattr(socket.socket, "recvmsg_into", None)


class Refusal(NamedTuple):
    """Why the kernel does not decrypt.

    Attributes:
        reason: what is missing, or what happened.
        hint: what to do about it.
        lasting: whether the next connection would be refused too.

    """

    reason: str
    hint: str
    lasting: bool = True


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
    if ssl.OPENSSL_VERSION_INFO < (3,):
        return Refusal(f"{ssl.OPENSSL_VERSION} cannot hand TLS to the kernel", "use a Python with OpenSSL 3.0 or later")
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as client,
    ):
        try:
            client.setsockopt(socket.IPPROTO_TCP, _TCP_ULP, b"tls")
        except OSError as error:
            return Refusal(
                f"the kernel has no TLS (TCP_ULP: {error.strerror})",
                "load it as root with `modprobe tls`; a kernel without that module needs CONFIG_TLS",
            )
        try:
            client.setsockopt(_SOL_TLS, _TLS_RX, _CRYPTO_INFO.pack(_VERSION, _AES_GCM_128) + _AES_GCM_128_KEYS)
        except OSError as error:
            return Refusal(
                f"the kernel does not receive {_KERNEL_VERSIONS[_VERSION]} with AES-GCM (TLS_RX: {error.strerror})",
                "load its cipher as root with `modprobe gcm`, or use a later kernel",
            )
    return None


def enable(context: ssl.SSLContext) -> ssl.SSLContext:
    """Make `context` negotiate what the kernel can decrypt, and hand the keys over. Verification is unchanged."""
    context.options |= _OP_ENABLE_KTLS
    context.maximum_version = _VERSION
    # for TLS 1.2; the ciphers of TLS 1.3 cannot be chosen, so the negotiated one is checked
    context.set_ciphers("ECDHE+AESGCM")
    return context


class KtlsTransport(OpensslTransport):
    """`wss://` in mode `ktls`: received data is decrypted by the kernel straight into the ring, without a timestamp."""

    def __init__(self, sock: socket.socket, *, context: ssl.SSLContext, host: str) -> None:
        super().__init__(sock, context=context, host=host)
        self.source = StampSource.NONE_KTLS
        self._handshake_rest = b""

    async def handshake(self) -> TlsDetails:
        """Perform the TLS handshake, and check that the kernel has taken over.

        Raises:
            KtlsRefused: it has not, or the server did not cooperate; another mode may work.
            ssl.SSLCertVerificationError: the certificate is not trusted; another mode would fail too.
            OSError: the connection broke.

        """
        try:
            details = await super().handshake()
        except ssl.SSLCertVerificationError:
            raise
        except (ssl.SSLError, ConnectionError) as error:
            raise KtlsRefused(_handshake_refusal(error)) from None
        try:
            received = self._in_kernel(_TLS_RX)
        except OSError as error:
            raise KtlsRefused(_not_handed_over(error, details)) from None
        try:
            sent = self._in_kernel(_TLS_TX)
        except OSError:
            # OpenSSL encrypts the little that is sent
            sent = None
        return details._replace(kernel_rx=received, kernel_tx=sent)

    def read(self, into: memoryview) -> int | None:
        """See `Transport.read`. Takes all available TLS records; `read_bytes` counts the decrypted bytes."""
        try:
            self.read_bytes = _recv_into(self._sock, into[:READ_MAX])
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno == errno.EIO:
                return self._read_control()
            if error.errno in (errno.EBADMSG, errno.EMSGSIZE, errno.EINVAL):
                raise ssl.SSLError(error.errno, f"the kernel rejected a TLS record: {error.strerror}") from None
            raise
        return self.read_bytes

    def _in_kernel(self, direction: int) -> str:
        """The kernel's version and cipher for one direction.

        Raises:
            OSError: it does not handle that direction.

        """
        version, cipher = _CRYPTO_INFO.unpack(self._sock.getsockopt(_SOL_TLS, direction, _CRYPTO_INFO.size))
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
            (value[0] for level, kind, value in ancillary if (level, kind) == (_SOL_TLS, _TLS_GET_RECORD_TYPE)), None
        )
        content = bytes(data[:size])
        if record_type == _ALERT and len(content) == 2:
            return self._on_alert(*content)
        if record_type == _HANDSHAKE:
            self._on_handshake(content)
            return None
        raise ssl.SSLError(
            errno.EPROTO, f"the server sent a TLS record of type {record_type}, which is not allowed here"
        )

    @staticmethod
    def _on_alert(level: int, description: int) -> int | None:
        if description == _CLOSE_NOTIFY:
            return 0
        if level == _WARNING:
            return None
        raise ssl.SSLError(errno.EPROTO, f"the server ended TLS with alert {description}")

    def _on_handshake(self, content: bytes) -> None:
        """Process post-handshake messages: they may be split anywhere, and several may share a record."""
        rest = self._handshake_rest + content
        while len(rest) >= _HANDSHAKE_HEADER:
            kind, size = rest[0], _HANDSHAKE_HEADER + int.from_bytes(rest[1:_HANDSHAKE_HEADER])
            if kind == _KEY_UPDATE:
                raise KeysChangedError("the server changed its TLS keys, which the kernel cannot follow")
            # a ticket is for session resumption, which is not used; a renegotiation may be ignored
            if kind not in (_HELLO_REQUEST, _NEW_SESSION_TICKET) or size > _HANDSHAKE_MAX:
                raise ssl.SSLError(errno.EPROTO, f"the server sent a TLS handshake message {kind} of {size} bytes")
            if len(rest) < size:
                break
            rest = rest[size:]
        self._handshake_rest = rest


def _handshake_refusal(error: OSError) -> Refusal:
    """The refusal for a failed handshake. A broken connection may have other reasons, so it is not remembered."""
    what = getattr(error, "reason", None) or error.strerror or str(error)
    offered = "TLS 1.3" if _RECEIVES_TLS13 else "TLS 1.2"
    hint = "nothing to do if `stamped` is acceptable" if _RECEIVES_TLS13 else "use a Python with OpenSSL 3.2 or later"
    reported = isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError)
    return Refusal(f"the server rejected {offered} with AES-GCM ({what})", hint, lasting=reported)


def _not_handed_over(error: OSError, details: TlsDetails) -> Refusal:
    if error.errno == errno.EBUSY:
        # the connection is set to kernel TLS, but without a key
        return Refusal(
            f"the kernel or {ssl.OPENSSL_VERSION} does not decrypt {details.version} {details.cipher}",
            "nothing to do if `stamped` is acceptable; otherwise load the kernel's module for that cipher",
        )
    return Refusal(
        f"{ssl.OPENSSL_VERSION} was built without kTLS", "use a Python with an OpenSSL built with enable-ktls"
    )
