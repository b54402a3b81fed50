"""Tunnels through a proxy: HTTP CONNECT (RFC 9110 section 9.3.6) and SOCKS5 by name (RFC 1928, 1929).

Written once, as coroutines over a socket that either waits on the loop or blocks. Nothing behind the proxy's answer is
read from the socket: those bytes are the exchange's, and so are their kernel timestamps (which are of the segments that
the proxy sent).

A proxy's own error text is shown only if it repeats nothing of what was sent to it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import errno
import ipaddress
import re
import socket
from collections.abc import Callable, Iterator
from typing import Protocol

from wsrec.net.proxy import Proxy, host_and_port
from wsrec.net.retry import LIMITED, retry_after
from wsrec.version import __version__

MAX_HEAD = 64 << 10
"""Largest head (bytes) of a proxy's answer, including informational (1xx) ones."""

_PEEK = 16 << 10
_HEAD_END = re.compile(rb"\r?\n\r?\n")
_STATUS = re.compile(rb"HTTP/1\.[0-9] ([1-9][0-9]{2})(?: ([^\r\n]*))?\r?\n")
_RETRY_AFTER = re.compile(rb"\nretry-after:([^\r\n]*)", re.IGNORECASE)
_REASON_SHOWN = 100
# a shorter user name occurs in too many ordinary words to be filtered out
_TELLING = 4
# 407 is the standard, 401 is what tinyproxy sends
_UNAUTHENTICATED = frozenset({401, 407})
_LATER = frozenset({408, 425})

# errors of this machine, not of the proxy
_OWN = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL, errno.EPERM, errno.EACCES}
)

_VERSION = 5
_NO_METHOD = 0xFF
_BY_PASSWORD = 2
# RFC 1928 section 6
_FORBIDDEN = 2
_REPLIES = {
    1: "general failure",
    2: "not allowed by its rules",
    3: "network unreachable",
    4: "host unreachable",
    5: "connection refused",
    6: "TTL expired",
    7: "command not supported",
    8: "address type not supported",
}
_NAME_MOST = 255
_ADDRESS_SIZES = {1: 4, 4: 16}


class ProxyError(OSError):
    """A tunnel could not be opened. The message names the proxy, and whether the proxy or the host behind it failed.

    Attributes:
        hint: what to do about it.
        permanent: True if retrying cannot help.
        limited: True if the proxy reports too many requests.
        retry_after: seconds that the proxy asked to wait.

    """

    def __init__(
        self,
        text: str,
        hint: str,
        *,
        permanent: bool = False,
        limited: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(text)
        self.hint = hint
        self.permanent = permanent
        self.limited = limited
        self.retry_after = retry_after


def unreachable(proxy: Proxy, error: OSError) -> ProxyError:
    """The error for a failed connection to the proxy itself, or for one that broke before the tunnel was open."""
    hint = f"check that the proxy runs, and its address: {proxy.source}"
    match error:
        case ProxyError():
            return error
        case socket.gaierror():
            what = f"cannot be resolved: {error.strerror}"
            hint = f"check its spelling in {proxy.source}, and DNS"
            if error.errno == socket.EAI_AGAIN:
                hint = "check DNS: /etc/resolv.conf, and whether the name servers listed there can be reached"
        case ConnectionRefusedError():
            what = "refused the connection"
        case TimeoutError():
            what = "did not answer in time"
        case _:
            what = f"cannot be used: {error.strerror or error}"
    return ProxyError(f"the proxy {proxy.public} {what}", hint)


@contextlib.contextmanager
def proxy_errors(proxy: Proxy) -> Iterator[None]:
    """Attribute errors raised inside the block to the proxy.

    Raises:
        ProxyError: in place of any OSError except for a local resource limit or permission.

    """
    try:
        yield
    except OSError as error:
        if error.errno in _OWN:
            raise
        raise unreachable(proxy, error) from None


async def through(sock: socket.socket, proxy: Proxy, host: str, port: int) -> None:
    """Open a tunnel through `proxy` to `host`, on a non-blocking socket connected to the proxy; closed on failure.

    Raises:
        ProxyError: the tunnel could not be opened.

    """
    await _through(_OnLoop(sock), sock, proxy, host, port)


def open_tunnel_blocking(sock: socket.socket, proxy: Proxy, host: str, port: int, left: Callable[[], float]) -> None:
    """`through` on a blocking socket; `left` returns the remaining seconds, or raises TimeoutError.

    Raises:
        ProxyError: the tunnel could not be opened.

    """
    try:
        _through(_Blocking(sock, left), sock, proxy, host, port).send(None)
    except StopIteration:
        return
    raise AssertionError("a blocking stream never suspends")


class _Stream(Protocol):
    async def send(self, data: bytes) -> None: ...

    async def receive(self, size: int, flags: int = 0) -> bytes: ...


class _OnLoop:
    """A non-blocking socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._sock, data)

    async def receive(self, size: int, flags: int = 0) -> bytes:
        while True:
            with contextlib.suppress(BlockingIOError, InterruptedError):
                return self._sock.recv(size, flags)
            await self._readable()

    async def _readable(self) -> None:
        ready = self._loop.create_future()
        self._loop.add_reader(self._sock, lambda: None if ready.done() else ready.set_result(None))
        try:
            await ready
        finally:
            self._loop.remove_reader(self._sock)


class _Blocking:
    """A blocking socket: its coroutines never suspend."""

    def __init__(self, sock: socket.socket, left: Callable[[], float]) -> None:
        self._sock = sock
        self._left = left

    async def send(self, data: bytes) -> None:
        self._sock.settimeout(self._left())
        self._sock.sendall(data)

    async def receive(self, size: int, flags: int = 0) -> bytes:
        self._sock.settimeout(self._left())
        return self._sock.recv(size, flags)


async def _through(stream: _Stream, sock: socket.socket, proxy: Proxy, host: str, port: int) -> None:
    if not host.isascii():
        host = host.encode("idna").decode()
    try:
        with proxy_errors(proxy):
            await (_connect if proxy.scheme == "http" else _socks)(stream, proxy, host, port)
    except BaseException:
        sock.close()
        raise


async def _connect(stream: _Stream, proxy: Proxy, host: str, port: int) -> None:
    where = host_and_port(host, port)
    lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}", f"User-Agent: wsrec/{__version__}"]
    secrets: list[str] = []
    if proxy.username is not None and proxy.password is not None:
        credentials = base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {credentials}")
        secrets = [credentials, proxy.password, *([proxy.username] if len(proxy.username) >= _TELLING else [])]
    await stream.send("\r\n".join([*lines, "", ""]).encode())
    room, status, reason, head = MAX_HEAD, 100, b"", b""
    while status < 200:
        head = await _head(stream, proxy, room)
        room -= len(head)
        found = _STATUS.match(head)
        if found is None:
            raise _not_a_proxy(proxy, "HTTP")
        status, reason = int(found[1]), found[2] or b""
    if status >= 300:
        later = _RETRY_AFTER.search(head)
        wait = None if later is None else retry_after(later[1].decode("latin-1"))
        raise _refused(proxy, host, port, status, _words(reason, secrets), wait)


async def _head(stream: _Stream, proxy: Proxy, most: int) -> bytes:
    """The next head, without reading past its end."""
    head = bytearray()
    while True:
        came = await stream.receive(_PEEK, socket.MSG_PEEK)
        if not came:
            raise _ended(proxy)
        before = len(head)
        head += came
        end = _HEAD_END.search(head, max(before - 3, 0))
        size = len(head) if end is None else end.end()
        # the peeked bytes are there, so this does not wait
        await stream.receive(size - before)
        del head[size:]
        if len(head) > most:
            raise ProxyError(
                f"the proxy {proxy.public} answered with a head of more than {MAX_HEAD} bytes", _check(proxy)
            )
        # fail at once instead of waiting for an end of the head
        if not b"HTTP/1.".startswith(head[:7]):
            raise _not_a_proxy(proxy, "HTTP")
        if end is not None:
            return bytes(head)


def _refused(
    proxy: Proxy, host: str, port: int, status: int, reason: str, retry_after: float | None = None
) -> ProxyError:
    where = host_and_port(host, port)
    stated = f"{status} {reason}".rstrip()
    if status in _UNAUTHENTICATED:
        return _unauthenticated(proxy, stated)
    if status in LIMITED:
        text = f"the proxy {proxy.public} reports too many requests: {stated}"
        hint = f"open fewer connections through it, wait, or use another proxy: {proxy.source}"
        return ProxyError(text, hint, limited=True, retry_after=retry_after)
    if status >= 500:
        return _unreachable_host(proxy, where, stated, retry_after)
    hint = f"allow CONNECT to {where} in the proxy's configuration, or use another proxy: {proxy.source}"
    text = f"the proxy {proxy.public} does not allow a connection to {where}: {stated}"
    return ProxyError(text, hint, permanent=status not in _LATER, retry_after=retry_after)


def _unauthenticated(proxy: Proxy, stated: str) -> ProxyError:
    if proxy.username is None:
        text = f"the proxy {proxy.public} requires a user name and a password: {stated}"
        hint = f"put USER:PASSWORD@ before the host in {proxy.source}"
    else:
        text = f"the proxy {proxy.public} rejects this user name and password: {stated}"
        hint = f"check them in {proxy.source}"
    return ProxyError(text, hint, permanent=True)


def _unreachable_host(proxy: Proxy, where: str, stated: str, retry_after: float | None = None) -> ProxyError:
    return ProxyError(
        f"the proxy {proxy.public} cannot reach {where}: {stated}",
        "the proxy itself works: check the host name behind it, and whether that host is up",
        retry_after=retry_after,
    )


def _ended(proxy: Proxy) -> ProxyError:
    return ProxyError(f"the proxy {proxy.public} closed the connection without an answer", _check(proxy))


def _not_a_proxy(proxy: Proxy, kind: str) -> ProxyError:
    return ProxyError(f"the server at {proxy.public} is not a {kind} proxy", _check(proxy))


def _check(proxy: Proxy) -> str:
    return f"check scheme, host and port of the proxy: {proxy.source}"


def _words(reason: bytes, secrets: list[str]) -> str:
    text = "".join(
        char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in reason.decode("utf-8", "replace")
    )
    return "" if any(secret and secret in text for secret in secrets) else text[:_REASON_SHOWN].strip()


async def _socks(stream: _Stream, proxy: Proxy, host: str, port: int) -> None:
    methods = bytes([0]) if proxy.username is None else bytes([0, _BY_PASSWORD])
    await stream.send(bytes([_VERSION, len(methods)]) + methods)
    version, method = await _exactly(stream, proxy, 2)
    if version != _VERSION or method not in (*methods, _NO_METHOD):
        raise _not_a_proxy(proxy, "SOCKS5")
    if method == _NO_METHOD:
        raise _unauthenticated(proxy, "no authentication method in common")
    if method == _BY_PASSWORD:
        words = [(part or "").encode() for part in (proxy.username, proxy.password)]
        await stream.send(b"\1" + b"".join(bytes([len(word)]) + word for word in words))
        _, status = await _exactly(stream, proxy, 2)
        if status:
            raise _unauthenticated(proxy, f"status {status}")
    destination = _destination(host)
    if destination is None:
        raise _unreachable_host(proxy, host_and_port(host[:_NAME_MOST], port), "its name is longer than SOCKS5 allows")
    await stream.send(bytes([_VERSION, 1, 0]) + destination + port.to_bytes(2, "big"))
    # a refusal may end right after its code
    version, reply = await _exactly(stream, proxy, 2)
    if version != _VERSION:
        raise _not_a_proxy(proxy, "SOCKS5")
    if reply == _FORBIDDEN:
        raise _refused(proxy, host, port, reply, _REPLIES[reply])
    if reply:
        raise _unreachable_host(proxy, host_and_port(host, port), _REPLIES.get(reply, f"code {reply}"))
    _, kind = await _exactly(stream, proxy, 2)
    size = _ADDRESS_SIZES.get(kind)
    if size is None:
        size = (await _exactly(stream, proxy, 1))[0]
    await _exactly(stream, proxy, size + 2)


def _destination(host: str) -> bytes | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = host.encode()
        return bytes([3, len(name)]) + name if len(name) <= _NAME_MOST else None
    return bytes([1 if address.version == 4 else 4]) + address.packed


async def _exactly(stream: _Stream, proxy: Proxy, size: int) -> bytes:
    data = b""
    while len(data) < size:
        came = await stream.receive(size - len(data))
        if not came:
            raise _ended(proxy)
        data += came
    return data
