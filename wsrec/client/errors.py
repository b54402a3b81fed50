"""How a connection can end, as an exception."""

from __future__ import annotations


class ConnectionClosed(Exception):  # noqa: N818 (the name that this has everywhere)
    """The connection is closed.

    Attributes:
        code: RFC 6455 section 7.4.1: the server's close code, ours where we closed first and got no answer, or 1006
            where the connection broke without a closing handshake.
        reason: the words beside it.

    `__cause__` is what broke it: an `OSError`, a `ProtocolError`, or None.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}".rstrip())
        self.code = code
        self.reason = reason
