"""Securing of the recorder's connections: events and warnings about the TLS mode that each one has."""

from __future__ import annotations

import socket
from typing import Any

from websockets.uri import WebSocketURI

from wsrec import ipc
from wsrec.receive.producer import Producer
from wsrec.receive.tls import Refusal
from wsrec.receive.tls_choice import TlsChoice, TlsPolicy
from wsrec.receive.transport import PlainTransport, Transport
from wsrec.ring.events import EventKind


class Security:
    """Secures one connection each time that it is opened, and reports how.

    Args:
        conn: number of the connection.
        policy: the shared settings.
        producer: takes the event.

    """

    def __init__(self, conn: int, policy: TlsPolicy, producer: Producer) -> None:
        self._conn = conn
        self._policy = policy
        self._choice = TlsChoice(policy)
        self._producer = producer
        self._reported: Refusal | None = None

    @property
    def may_use_kernel(self) -> bool:
        """See `TlsChoice.may_use_kernel`."""
        return self._choice.may_use_kernel

    async def secure(self, sock: socket.socket, uri: WebSocketURI, stamped: bool) -> Transport:
        """Make a transport of a socket connected to `uri`; see `TlsChoice.secure`."""
        if not uri.secure:
            return PlainTransport(sock, stamped=stamped)
        transport, details, mode, refusal = await self._choice.secure(sock, uri.host, stamped=stamped)
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
        """See `TlsChoice.learn`."""
        self._choice.learn(error)

    def _warn(self, refusal: Refusal | None) -> None:
        # limits of the machine are reported once for all connections
        policy = self._policy
        if policy.named is None or refusal in (None, policy.unable, policy.not_direct, self._reported):
            return
        assert refusal is not None
        self._reported = refusal
        what = f"--tls {policy.named} is not possible, using stamped: {refusal.reason}"
        ipc.warn(what, refusal.hint, conn=self._conn)


def _common_name(name: Any) -> str | None:
    for part in name or ():
        for key, value in part:
            if key == "commonName":
                return str(value)
    return None
