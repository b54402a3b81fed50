"""Exceptions of `wsrec.connect`."""

from __future__ import annotations


class ConnectionClosed(Exception):  # noqa: N818 (the usual name for it)
    """The connection is closed.

    Attributes:
        code: RFC 6455 section 7.4.1: the server's close code; ours if we closed first and got no answer; 1006 if the
            connection broke without a closing handshake.
        reason: the close reason.

    `__cause__` is the error that broke it: an `OSError`, a `ProtocolError`, or None.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code} {reason}".rstrip())
        self.code = code
        self.reason = reason
