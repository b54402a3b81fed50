"""Dialling for `wsrec.connect`: from a URL to a connected transport, by way of the look-up, a proxy and TLS."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable

from websockets.uri import WebSocketURI

from wsrec.net.addresses import AddressHistory
from wsrec.net.proxy import Proxy
from wsrec.net.resolver import RESOLVER, Address, NoAnswerError
from wsrec.net.tunnel import ProxyError, proxy_errors, through
from wsrec.options.record import TlsMode
from wsrec.receive import opening
from wsrec.receive.ktls import KtlsRefused
from wsrec.receive.opening import ConnectedSocket
from wsrec.receive.segments import Attempt
from wsrec.receive.tls import Refusal, TlsDetails
from wsrec.receive.tls_choice import TlsChoice
from wsrec.receive.transport import PlainTransport, Transport

_HISTORIES: dict[tuple[str, int], AddressHistory] = {}
_HISTORIES_MOST = 1024


class Dialing:
    """One attempt to connect.

    Args:
        uri: the server.
        choice: chooses how TLS is decrypted; None for `ws://`.
        proxy: the proxy to connect through; None for none.
        prepare: called with each socket before it connects.
        captured: captures it; None if segments are not captured.

    Attributes:
        address: IP address and port of the server, or of the proxy; empty before it is reached.
        tls: TLS version and cipher, None for `ws://`.
        tls_mode: how it is decrypted, None for `ws://`.
        tls_refusal: why that is not the requested mode; None if it is.

    """

    def __init__(
        self,
        uri: WebSocketURI,
        choice: TlsChoice | None,
        proxy: Proxy | None,
        prepare: Callable[[socket.socket], object],
        captured: Attempt | None,
    ) -> None:
        self.address: tuple[str, int] = ("", 0)
        self.tls: TlsDetails | None = None
        self.tls_mode: TlsMode | None = None
        self.tls_refusal: Refusal | None = None
        self._uri = uri
        self._choice = choice
        self._proxy = proxy
        self._prepare_socket = prepare
        self._captured = captured
        self._resolving = False
        self._in_tunnel = False
        self._history: AddressHistory | None = None
        self._reached: Address | None = None
        self._transport: Transport | None = None

    async def connect(self) -> Transport:
        """Connect to the server; `close` closes the transport, if there is one by then.

        Raises:
            OSError: any failure to do so, `ProxyError` and `ssl.SSLError` included.

        """
        captured = self._captured
        try:
            self._transport = await self._secured()
            if captured is not None:
                self._transport.flow = captured.claim()
        finally:
            if captured is not None:
                captured.close()
        # `Connection` has a limit of its own
        self._transport.unsent_max = sys.maxsize
        return self._transport

    async def _secured(self) -> Transport:
        uri = self._uri
        choice = self._choice
        sock, stamped = await self._connected()
        if choice is None:
            return PlainTransport(sock, stamped=stamped)
        try:
            secured = await choice.secure(sock, uri.host, stamped=stamped)
        except KtlsRefused:
            # the refusal is remembered; the next mode needs a fresh connection
            sock, stamped = await self._connected()
            secured = await choice.secure(sock, uri.host, stamped=stamped)
        transport, self.tls, self.tls_mode, self.tls_refusal = secured
        return transport

    def close(self) -> None:
        """Close the transport."""
        if self._transport is not None:
            self._transport.close()

    def blame(self) -> None:
        """Record a failure of the address in use: the next connection starts with another one."""
        if self._history is not None and self._reached is not None:
            self._history.failed(self._reached, "")

    def timeout_error(self, seconds: float) -> OSError:
        """The error for an attempt that took longer than `seconds`."""
        uri, proxy = self._uri, self._proxy
        if proxy is not None and not self._in_tunnel:
            return ProxyError(
                f"the proxy {proxy.public} did not answer within {seconds} s", "check that the proxy is running"
            )
        if self._resolving:
            return NoAnswerError(socket.EAI_AGAIN, f"the name server did not answer for {uri.host} within {seconds} s")
        return TimeoutError(f"{uri.host}:{uri.port} did not answer within {seconds} s")

    async def _connected(self) -> tuple[socket.socket, bool]:
        """A socket connected to the server, maybe by a tunnel, and whether it timestamps received data."""
        uri, proxy = self._uri, self._proxy
        if proxy is None:
            sock, stamped, _ = await self._reach(uri.host, uri.port)
        else:
            self._in_tunnel = False
            with proxy_errors(proxy):
                sock, stamped, _ = await self._reach(proxy.host, proxy.port)
                await through(sock, proxy, uri.host, uri.port)
            self._in_tunnel = True
        if self._captured is not None:
            self._captured.reached(sock)
        return sock, stamped

    async def _reach(self, host: str, port: int) -> ConnectedSocket:
        """Connect a socket to a host."""
        self._resolving = True
        found = await RESOLVER.resolve(host, port, timeout=None)
        self._resolving = False
        self._history = _history(host, port)
        reached = await opening.connect(found.addresses, self._prepare, self._history)
        self._reached = reached.address
        self.address = reached.address.ip, reached.address.port
        return reached

    def _prepare(self, sock: socket.socket, address: Address) -> None:
        self._prepare_socket(sock)
        if self._captured is not None:
            self._captured.prepare(sock, address)


def _history(host: str, port: int) -> AddressHistory:
    """The address history of a host, shared by all connections of this process."""
    history = _HISTORIES.pop((host, port), None) or AddressHistory()
    _HISTORIES[host, port] = history
    if len(_HISTORIES) > _HISTORIES_MOST:
        del _HISTORIES[next(iter(_HISTORIES))]
    return history
