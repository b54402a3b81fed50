"""From a host's addresses to a socket that stamps, is watched and is secured: what every connection begins with."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from collections.abc import Callable
from typing import Any

from wsrec.receive import timestamping
from wsrec.receive.job import TlsMode
from wsrec.receive.ktls import KtlsTransport
from wsrec.receive.tls import OpensslTransport, StampedTlsTransport, TlsDetails, TlsTransport

CONNECT_TIMEOUT = 10.0
# What an address that does not answer may take of it, so that the next one is still tried
ADDRESS_TIMEOUT = 3.0


async def connect(
    addresses: list[Any], prepare: Callable[[socket.socket], object] | None = None
) -> tuple[socket.socket, bool, Any]:
    """A connected socket, whether it stamps what it receives, and its address; the addresses are tried in order.

    Args:
        addresses: what `getaddrinfo` found.
        prepare: called with each socket before it connects.

    Raises:
        OSError: the last address did not answer, or there is none.

    """
    loop = asyncio.get_running_loop()
    # many addresses share the time; the last has what the others left
    share = min(ADDRESS_TIMEOUT, CONNECT_TIMEOUT / max(len(addresses), 1))
    for left, (family, kind, protocol, _, address) in zip(reversed(range(len(addresses))), addresses, strict=True):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            _notice_silence(sock)
            if prepare is not None:
                prepare(sock)
            stamped = timestamping.enable(sock)
            async with asyncio.timeout(share if left else None):
                await loop.sock_connect(sock, address)
        except OSError:
            sock.close()
            if not left:
                raise
        except BaseException:
            sock.close()
            raise
        else:
            return sock, stamped, address
    raise OSError("the host has no address")


async def start_tls(
    sock: socket.socket, *, stamped: bool, context: ssl.SSLContext, host: str, mode: TlsMode
) -> tuple[TlsTransport, TlsDetails]:
    """TLS on a connected socket, which is closed where that fails.

    Args:
        mode: any but `auto`; for `ktls` the context is one that `ktls.enable` made.

    Raises:
        KtlsRefused: `ktls` was tried in vain.
        ssl.SSLError: it failed; `ssl.SSLCertVerificationError` where the certificate is not to be trusted.
        OSError: the connection broke.

    """
    transport: TlsTransport
    try:
        if mode is TlsMode.KTLS:
            transport = KtlsTransport(sock, context=context, host=host)
        elif mode is TlsMode.STAMPED:
            transport = StampedTlsTransport(sock, stamped=stamped, context=context, host=host)
        else:
            transport = OpensslTransport(sock, context=context, host=host)
    except BaseException:
        sock.close()
        raise
    try:
        return transport, await transport.handshake()
    except BaseException:
        transport.close()
        raise


def _notice_silence(sock: socket.socket) -> None:
    """Have the kernel probe a silent peer, and give up one that has acknowledged nothing for 30 s (tcp(7))."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if sys.platform == "linux":
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000)
