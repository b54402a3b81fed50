"""Which way a connection is secured: the mode that was asked for, or the next best with the reason."""

from __future__ import annotations

import functools
import socket
import ssl
from typing import Any

from websockets.uri import WebSocketURI

from wsrec import ipc
from wsrec.net.trust import tls_context
from wsrec.receive import ktls
from wsrec.receive.job import TlsMode
from wsrec.receive.ktls import KeysChangedError, KtlsRefused, Refusal
from wsrec.receive.opening import start_tls
from wsrec.receive.producer import Producer
from wsrec.receive.transport import PlainTransport, Transport
from wsrec.ring.events import EventKind


class TlsPolicy:
    """What all connections of a receiver have in common.

    Args:
        mode: the mode asked for.
        ca_file: PEM file trusted besides the system's certificates.

    Attributes:
        context: verifies certificates and host names.
        kernel_context: the same for `ktls`; None where that was not asked for or cannot be.
        unable: why this machine cannot do `ktls`; None where it can or was not asked to.

    Raises:
        OSError: the CA file cannot be read or holds no certificate.

    """

    def __init__(self, mode: TlsMode, ca_file: str | None) -> None:
        self.mode = mode
        self.context = tls_context(ca_file)
        self._ca_file = ca_file
        self.kernel_context: ssl.SSLContext | None = None
        self.unable: Refusal | None = None
        if mode in (TlsMode.KTLS, TlsMode.AUTO):
            self.unable = ktls.unable()
            if self.unable is None:
                self.kernel_context = ktls.enable(tls_context(ca_file))

    @functools.cached_property
    def requests(self) -> ssl.SSLContext:
        """`context` for requests over HTTP, which offer a protocol with theirs."""
        return tls_context(self._ca_file)


class Security:
    """Secures one connection each time that it is made.

    Where `ktls` was asked for and cannot be had, `stamped` is used. `auto` means `stamped` where the system gives
    stamps, else `ktls`, else `openssl`. A server that turned `ktls` down is not asked again while the other mode works.

    Args:
        conn: number of the connection.
        policy: what was asked for.
        producer: takes the event.

    """

    def __init__(self, conn: int, policy: TlsPolicy, producer: Producer) -> None:
        self._conn = conn
        self._policy = policy
        self._producer = producer
        self._refusal: Refusal | None = None
        self._told: Refusal | None = None

    async def secure(self, sock: socket.socket, uri: WebSocketURI, stamped: bool) -> Transport:
        """Make a transport of a socket connected to `uri`, which is its own from now on.

        Raises:
            KtlsRefused: `ktls` was tried in vain and the socket is closed; with another one it will not be tried.
            ssl.SSLError: TLS failed; `ssl.SSLCertVerificationError` where the certificate is not to be trusted.
            OSError: the connection broke.

        """
        if not uri.secure:
            return PlainTransport(sock, stamped=stamped)
        mode, refusal = self._choose(stamped)
        context = self._policy.kernel_context if mode is TlsMode.KTLS else self._policy.context
        assert context is not None
        try:
            transport, details = await start_tls(sock, stamped=stamped, context=context, host=uri.host, mode=mode)
        except KtlsRefused as error:
            self._refusal = error.refusal
            raise
        except BaseException:
            # where nothing works, what was learnt before may be wrong
            self._refusal = None
            raise
        self._warn(refusal)
        certificate = transport.peer_certificate()
        self._producer.event(
            EventKind.TLS,
            conn=self._conn,
            mode=mode.value,
            fallback=None if refusal is None else refusal.reason,
            **details._asdict(),
            subject=_common_name(certificate.get("subject")),
            issuer=_common_name(certificate.get("issuer")),
            not_after=certificate.get("notAfter"),
        )
        return transport

    def learn(self, error: Exception) -> None:
        """Remember of what ended a connection, or an attempt, what would end the next one too; and nothing else."""
        if isinstance(error, KeysChangedError):
            self._refusal = Refusal(str(error), "nothing, if stamped is welcome")
        elif self._refusal is not None and not self._refusal.lasting:
            self._refusal = None

    def _warn(self, refusal: Refusal | None) -> None:
        # what the machine cannot do is told once for all connections, and `auto` asked for nothing
        if refusal in (None, self._policy.unable, self._told) or self._policy.mode is not TlsMode.KTLS:
            return
        assert refusal is not None
        self._told = refusal
        ipc.warn(f"--tls ktls is not possible, stamped is used: {refusal.reason}", refusal.hint, conn=self._conn)

    def _choose(self, stamped: bool) -> tuple[TlsMode, Refusal | None]:
        """The mode to use, and why it is not `ktls` where that would have been it."""
        asked = self._policy.mode
        if asked is TlsMode.AUTO and stamped:
            return TlsMode.STAMPED, None
        if asked not in (TlsMode.AUTO, TlsMode.KTLS):
            return asked, None
        refusal = self._policy.unable or self._refusal
        if refusal is None:
            return TlsMode.KTLS, None
        return TlsMode.STAMPED if asked is TlsMode.KTLS else TlsMode.OPENSSL, refusal


def _common_name(name: Any) -> str | None:
    for part in name or ():
        for key, value in part:
            if key == "commonName":
                return str(value)
    return None
