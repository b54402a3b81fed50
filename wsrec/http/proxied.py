"""HTTP through a proxy: the `Connect` that opens a tunnel."""

from __future__ import annotations

import functools
import socket

from wsrec.http.attempt import Attempt, Connect, direct
from wsrec.net.proxy import Proxy
from wsrec.net.tunnel import ProxyError, open_tunnel_blocking, proxy_errors


def connect_via(proxy: Proxy | None) -> Connect:
    """The `Connect` for `proxy`; a direct one for None."""
    return direct if proxy is None else functools.partial(_by, proxy)


def _by(proxy: Proxy, host: str, port: int, attempt: Attempt) -> socket.socket:
    attempt.proxy = proxy
    try:
        with proxy_errors(proxy):
            sock = direct(proxy.host, proxy.port, attempt)
            try:
                open_tunnel_blocking(sock, proxy, host, port, attempt.left)
            except BaseException:
                sock.close()
                raise
    except ProxyError as error:
        cause = "limited" if error.limited else "proxy"
        raise attempt.error(f": {error}; {error.hint}", cause, retry_after=error.retry_after) from error
    attempt.proxy, attempt.through = None, proxy
    return sock
