"""Names with several addresses, look-ups that hang, and addresses that never answer."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

REAL = socket.getaddrinfo


def names(addresses: Mapping[str, Sequence[str] | Callable[[], Sequence[str]]]) -> Callable[..., Any]:
    """A `getaddrinfo` of the system's that knows these names, and all literal addresses."""

    def getaddrinfo(host: str, port: int, *_: object, type: int = 0, flags: int = 0, **__: object) -> Any:  # noqa: A002
        if flags & socket.AI_NUMERICHOST or host not in addresses:
            return REAL(host, port, type=type, flags=flags)
        found = addresses[host]
        return [
            one for ip in (found() if callable(found) else found) for one in REAL(ip, port, type=socket.SOCK_STREAM)
        ]

    return getaddrinfo


@contextlib.contextmanager
def black_hole(ip: str, port: int = 0) -> Iterator[int]:
    """An address whose connections never come about: its backlog is full. Gives the port."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((ip, port))
        listening.listen(0)
        for _ in range(4):
            one = stack.enter_context(socket.socket(listening.family))
            one.setblocking(False)
            one.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]
