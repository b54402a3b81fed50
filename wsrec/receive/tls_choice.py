"""TLS mode selection: the requested mode, or the next best with the reason."""

from __future__ import annotations

import functools
import socket
import ssl
from typing import NamedTuple

from wsrec.net.trust import tls_context
from wsrec.options.record import TlsMode
from wsrec.receive import direct, ktls
from wsrec.receive.direct import DirectTransport, UnknownToDirectError
from wsrec.receive.ktls import KeysChangedError, KtlsRefused
from wsrec.receive.opening import start_tls
from wsrec.receive.tls import Refusal, TlsDetails, TlsTransport
from wsrec.tls import records
from wsrec.tls.key_log import KeyLog
from wsrec.tls.records import RecordError


class TlsPolicy:
    """TLS settings that connections share; `close` wipes the key logs.

    Args:
        mode: the requested mode; None: `direct`, which nobody asked for by name.
        ca_file: PEM file trusted in addition to the system's certificates.

    Attributes:
        mode: the requested mode.
        named: that mode, if somebody who asked for it is to be told where it is not used.
        context: verifies certificates and host names.
        direct_context: the same for `direct`; None if not requested or not possible.
        direct_key_log: its key log.
        not_direct: why this machine cannot do `direct`; None if it can or was not asked to.
        kernel_context: the same for `ktls`; None if not requested or not possible.
        kernel_key_log: its key log.
        unable: why this machine cannot do `ktls`; None if it can or was not asked to.

    Raises:
        OSError: the CA file cannot be read or holds no certificate.

    """

    def __init__(self, mode: TlsMode | None, ca_file: str | None) -> None:
        # `auto` asks for nothing specific, and the others are always possible
        self.named = mode if mode in (TlsMode.DIRECT, TlsMode.KTLS) else None
        self.mode = mode = mode or TlsMode.DIRECT
        self.context = tls_context(ca_file)
        self._ca_file = ca_file
        self.direct_key_log: KeyLog | None = None
        self.direct_context: ssl.SSLContext | None = None
        self.not_direct: Refusal | None = None
        if mode in (TlsMode.DIRECT, TlsMode.AUTO):
            context = tls_context(ca_file)
            found = direct.key_log_of(context)
            if isinstance(found, Refusal):
                self.not_direct = found
            else:
                self.direct_key_log, self.direct_context = found, context
        self.kernel_context: ssl.SSLContext | None = None
        self.kernel_key_log: KeyLog | None = None
        self.unable: Refusal | None = None
        if mode in (TlsMode.KTLS, TlsMode.AUTO):
            self.unable = ktls.unable()
            if self.unable is None:
                self.kernel_context = ktls.enable(tls_context(ca_file))
                self.kernel_key_log = KeyLog(self.kernel_context)

    @functools.cached_property
    def requests(self) -> ssl.SSLContext:
        """A separate context for HTTP requests, which set ALPN on theirs."""
        return tls_context(self._ca_file)

    def close(self) -> None:
        """Wipe and close the key logs; no connection can be secured any more."""
        for key_log in (self.direct_key_log, self.kernel_key_log):
            if key_log is not None:
                key_log.close()


class Secured(NamedTuple):
    """A connection secured.

    Attributes:
        transport: ready to read and send.
        details: what was negotiated.
        mode: how it decrypts.
        refusal: why that is not the preferred mode; None if it is.

    """

    transport: TlsTransport
    details: TlsDetails
    mode: TlsMode
    refusal: Refusal | None


class TlsChoice:
    """Chooses the mode each time that one connection is opened, by what earlier times have shown.

    If `direct` or `ktls` was requested and is not possible, `stamped` is used. `auto` means `direct` if the system
    provides timestamps, else `ktls`, else `openssl`. A server that refused `ktls` is not asked again while the other
    mode works, and one that sent what `direct` does not know is read by `stamped` from then on; after a record with a
    wrong tag only the next connection is.

    Args:
        policy: the shared settings.

    """

    def __init__(self, policy: TlsPolicy) -> None:
        self._policy = policy
        self._refusal: Refusal | None = None
        self._not_direct: Refusal | None = None

    @property
    def may_use_kernel(self) -> bool:
        """Whether the kernel may decrypt the next connection."""
        return self._policy.mode is TlsMode.KTLS and self._policy.unable is None and self._refusal is None

    async def secure(self, sock: socket.socket, host: str, *, stamped: bool) -> Secured:
        """Secure a socket connected to `host`; takes ownership of the socket.

        Raises:
            KtlsRefused: `ktls` was refused and the socket is closed; another socket will use the next mode.
            ssl.SSLError: TLS failed; `ssl.SSLCertVerificationError` if the certificate is not trusted.
            OSError: the connection broke.

        """
        mode, refusal = self._choose(stamped)
        policy = self._policy
        context, key_log = policy.context, None
        if mode is TlsMode.DIRECT:
            assert policy.direct_context is not None
            context, key_log = policy.direct_context, policy.direct_key_log
        elif mode is TlsMode.KTLS:
            assert policy.kernel_context is not None
            context, key_log = policy.kernel_context, policy.kernel_key_log
        try:
            transport, details = await start_tls(
                sock, stamped=stamped, context=context, host=host, mode=mode, key_log=key_log
            )
        except KtlsRefused as error:
            self._refusal = error.refusal
            raise
        except BaseException:
            # if the fallback fails too, the remembered refusal may be wrong
            self._refusal = None
            raise
        if isinstance(transport, DirectTransport) and transport.refusal is not None:
            mode, refusal = TlsMode.STAMPED, transport.refusal
        return Secured(transport, details, mode, refusal)

    def learn(self, error: BaseException) -> None:
        """Remember a failure that would also end the next connection, and forget a temporary refusal."""
        if isinstance(error, UnknownToDirectError):
            self._not_direct = Refusal(str(error), direct.HINT)
        elif isinstance(error, RecordError):
            # OpenSSL is no less strict about tags, so nobody gains by it; what else it refuses is not all the same
            self._not_direct = Refusal(str(error), direct.HINT, lasting=error.refusal is not records.Refusal.TAG)
        elif isinstance(error, KeysChangedError):
            self._refusal = Refusal(str(error), "nothing to do if `stamped` is acceptable")
        else:
            self._refusal = _if_lasting(self._refusal)
            self._not_direct = _if_lasting(self._not_direct)

    def _choose(self, stamped: bool) -> tuple[TlsMode, Refusal | None]:
        """The mode to use, and why it is not `direct` or `ktls` if that was preferred."""
        requested = self._policy.mode
        if requested in (TlsMode.STAMPED, TlsMode.OPENSSL):
            return requested, None
        if requested is TlsMode.DIRECT or (requested is TlsMode.AUTO and stamped):
            refusal = self._policy.not_direct or self._not_direct
            return TlsMode.DIRECT if refusal is None else TlsMode.STAMPED, refusal
        refusal = self._policy.unable or self._refusal
        if refusal is None:
            return TlsMode.KTLS, None
        return TlsMode.STAMPED if requested is TlsMode.KTLS else TlsMode.OPENSSL, refusal


def _if_lasting(refusal: Refusal | None) -> Refusal | None:
    return refusal if refusal is not None and refusal.lasting else None
