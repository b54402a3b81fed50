"""Dialling: from a plan to a secured transport, by way of a token, the name's look-up, a proxy and TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from websockets.uri import WebSocketURI

from wsrec import ipc
from wsrec.host.clock import now
from wsrec.http.client import host_of
from wsrec.net.addresses import AddressHistory
from wsrec.net.proxy import Proxy
from wsrec.net.resolver import RESOLVER, Address, Found, LastWorkingAddress, NoAnswerError
from wsrec.net.tunnel import proxy_errors, through, unreachable
from wsrec.plan.connections import ConnectionPlan
from wsrec.receive import opening
from wsrec.receive.failure import StepTimeoutError
from wsrec.receive.ktls import KtlsRefused
from wsrec.receive.opening import ConnectedSocket
from wsrec.receive.security import Security
from wsrec.receive.segments import Attempt, Segments
from wsrec.receive.token import TokenError, secrets_of
from wsrec.receive.token import address as address_now
from wsrec.receive.transport import Transport
from wsrec.receive.waiting import Waiting
from wsrec.units import duration


class Step(StrEnum):
    """The step that an attempt to connect is waiting for; the text follows "did not answer"."""

    REQUEST = "the request for a token"
    LOOK_UP = "the look-up of its name"
    CONNECT = "the connection"
    PROXY = "the tunnel through the proxy"
    TLS = "the TLS handshake"
    HANDSHAKE = "the WebSocket handshake"


class Dialer:
    """Connects to the host of a plan, anew for each attempt.

    Args:
        plan: where to connect.
        waiting: the readiness strategy.
        security: makes a transport of a socket.
        context: TLS of the request for a token.
        history: which of the host's addresses have failed.
        segments: the receiver's capture; None without one.

    Attributes:
        address: the current or last address; None if the last attempt reached none.
        proxy: the current or last proxy, which `address` then belongs to; None for a direct connection.
        secrets: secrets of the last attempt's address.
        timings: durations (ns) of the last attempt's steps and the address reached, as in the event `connect`.

    """

    def __init__(
        self,
        plan: ConnectionPlan,
        waiting: Waiting,
        security: Security,
        context: ssl.SSLContext,
        history: AddressHistory,
        segments: Segments | None = None,
    ) -> None:
        self.address: Address | None = None
        self.proxy: Proxy | None = None
        self.secrets: frozenset[str] = frozenset()
        self.timings: dict[str, Any] = {}
        self._plan = plan
        self._waiting = waiting
        self._security = security
        self._context = context
        self._history = history
        self._segments = segments
        self._captured: Attempt | None = None
        # the host that the addresses belong to
        self._host = ""
        self._step = Step.REQUEST
        self._kept: LastWorkingAddress | None = None
        self._secured_at = 0

    @property
    def timeout_error(self) -> Exception:
        """The error that the attempt in progress would fail with if it timed out now."""
        if self._step is Step.REQUEST and self._plan.token is not None:
            by = self._plan.proxies.of(self._plan.token.url)
            way = "" if by is None else f" through the proxy {by.public}"
            return TokenError(f"{host_of(self._plan.token.url)} did not answer{way} in time")
        unfound = NoAnswerError(socket.EAI_AGAIN, "the name server has not answered")
        if self.proxy is not None and self._step in (Step.LOOK_UP, Step.CONNECT, Step.PROXY):
            return unreachable(self.proxy, unfound if self._step is Step.LOOK_UP else TimeoutError())
        if self._step is Step.LOOK_UP:
            return unfound
        if self.address is not None or self._step is Step.REQUEST:
            return StepTimeoutError(self._step.value)
        return TimeoutError()

    async def look_up(self, plan: ConnectionPlan) -> tuple[str, WebSocketURI]:
        """Get the address of the WebSocket, and look up where to connect; returns the address, as text and parsed.

        Raises:
            Exception: any failure of the request for a token, or of the look-up.

        """
        self._plan = plan
        self._step, self.address, self.proxy = Step.REQUEST, None, None
        self._history.begin()
        url, uri = await address_now(plan, self._context)
        self.secrets = secrets_of(plan, url)
        self.proxy = plan.proxies.of(url)
        self._step = Step.LOOK_UP
        began = now()
        found = await self._look_up(uri)
        # a proxy learns the destination, and possibly a password, before any certificate is verified
        self._kept = found.fallback(proved=uri.secure and self.proxy is None)
        self._history.begin(found.addresses, None if self._kept is None else self._kept.address)
        self._step = Step.CONNECT
        self.timings = {"resolve_ns": now() - began, "dns_age_s": found.age}
        return url, uri

    async def connect(self, uri: WebSocketURI, limit: asyncio.Timeout) -> Transport:
        """Connect to one of the addresses and secure the connection, within `limit`, which progress extends.

        Raises:
            Exception: any failure to do so.

        """
        if self._segments is None:
            return await self._connect(uri, limit)
        self._captured = self._segments.attempt(
            self._plan.conn,
            records=uri.secure and self._security.may_use_kernel,
            tunnel=self.proxy is not None,
        )
        try:
            transport = await self._connect(uri, limit)
            transport.flow = self._captured.claim()
            return transport
        finally:
            self._captured.close()
            self._captured = None

    async def _connect(self, uri: WebSocketURI, limit: asyncio.Timeout) -> Transport:
        resolved = now()
        reached = await self._reach(self._history.known, uri, limit)
        connected = now()
        self._step = Step.TLS
        try:
            transport = await self._security.secure(reached.sock, uri, reached.stamped)
        except KtlsRefused:
            # the refusal is remembered; the next mode needs a fresh connection
            reached = await self._reach((reached.address,), uri, limit)
            self._step = Step.TLS
            transport = await self._security.secure(reached.sock, uri, reached.stamped)
        self._secured_at = now()
        self._step = Step.HANDSHAKE
        self.timings |= {
            "address": reached.address.ip,
            "port": reached.address.port,
            "connect_ns": connected - resolved,
            "tls_ns": self._secured_at - connected,
        }
        return transport

    def opened(self) -> None:
        """Record that the WebSocket handshake is complete."""
        self.timings["handshake_ns"] = now() - self._secured_at
        if self._kept is not None and self.address == self._kept.address:
            self.timings["dns_age_s"] = self._kept.age
            self._report_outlived(self._kept)

    def worked(self) -> None:
        """Record that the current or last address has delivered what was requested."""
        if self.address is not None:
            RESOLVER.worked(self._host, self.address)

    async def _look_up(self, uri: WebSocketURI) -> Found:
        """The addresses to connect to: the host's, or the proxy's (which then resolves the host itself)."""
        proxy = self.proxy
        if proxy is None:
            self._host, found = uri.host, await RESOLVER.resolve(uri.host, uri.port)
        else:
            with proxy_errors(proxy):
                self._host, found = proxy.host, await RESOLVER.resolve(proxy.host, proxy.port)
        if found.news:
            self._report_kept(found)
        return found

    async def _reach(self, addresses: Sequence[Address], uri: WebSocketURI, limit: asyncio.Timeout) -> ConnectedSocket:
        """Connect to the host, directly or by a tunnel through the proxy."""
        self._step = Step.CONNECT
        proxy = self.proxy
        if proxy is None:
            reached = await opening.connect(addresses, self._prepare, self._history)
            self.address = reached.address
            opening.extend_limit(limit)
        else:
            with proxy_errors(proxy):
                reached = await opening.connect(addresses, self._prepare, self._history)
                self.address = reached.address
                opening.extend_limit(limit)
                self._step = Step.PROXY
                await through(reached.sock, proxy, uri.host, uri.port)
        if self._captured is not None:
            self._captured.reached(reached.sock)
        return reached

    def _prepare(self, sock: socket.socket, address: Address) -> None:
        self._waiting.prepare(sock)
        if self._captured is not None:
            self._captured.prepare(sock, address)

    def _report_kept(self, found: Found) -> None:
        """Warn that a kept answer of the name server is used."""
        age = duration(None if found.age is None else found.age * 1e9)
        what = f"cannot resolve {self._host!r}: {found.trouble}; using its addresses of {age} ago"
        ipc.warn(
            what,
            "check DNS: /etc/resolv.conf, and whether the name servers listed there can be reached",
            conn=self._plan.conn,
        )

    def _report_outlived(self, kept: LastWorkingAddress) -> None:
        """Warn that the address is not in the name server's current answer."""
        what = f"using {kept.address.ip} for {self._host!r}, which worked {duration(kept.ago * 1e9)} ago: "
        what += "the addresses that the name server returns now do not work"
        ipc.warn(what, "nothing to do if this is rare; otherwise check DNS", conn=self._plan.conn)
