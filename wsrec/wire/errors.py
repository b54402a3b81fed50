"""Errors of the handshake and the protocol."""

from __future__ import annotations

from collections.abc import Collection

from websockets.frames import CloseCode

MASK = "***"
"""Replaces a line that contains a secret."""
# this many leading characters identify a secret; an excerpt of a body may end in the middle of one
_TELLING = 8


class ProtocolError(Exception):
    """The server violated RFC 6455; the connection must be failed (section 7.1.7) with `code`."""

    def __init__(self, code: CloseCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class HandshakeError(Exception):
    """An invalid answer to the opening handshake (RFC 6455 section 4.1).

    Attributes:
        hint: what to do about it, if the answer gives a clue.

    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class NoAnswerError(HandshakeError):
    """The server closed the connection without sending anything."""


class CompressionRefused(HandshakeError):  # noqa: N818 (not a fault of ours, as below)
    """The server accepted compression with parameters that were not offered."""


class HandshakeRefused(HandshakeError):  # noqa: N818 (a refusal is an answer, not a fault of ours)
    """The server answered the opening handshake with a status other than 101.

    Attributes:
        status: HTTP status code.
        retry_after: seconds to wait by the Retry-After header (RFC 9110 section 10.2.3); None if absent or
            unusable.
        body: the part of the body that was read, as printable text with line breaks.
        location: host of the Location header, printable; None without the header.

    """

    def __init__(
        self, status: int, reason: str, retry_after: float | None, body: str, location: str | None = None
    ) -> None:
        super().__init__(f"HTTP {status} {reason}".rstrip())
        self.status = status
        self.retry_after = retry_after
        self.body = body
        self.location = location

    def mask_secrets(self, secrets: Collection[str]) -> None:
        """Mask each line of the server's text that contains one of `secrets`, or the beginning of one."""
        heads = [secret[:_TELLING] for secret in secrets]
        if any(head in str(self) for head in heads):
            self.args = (f"HTTP {self.status}",)
        if any(head in (self.location or "") for head in heads):
            self.location = None
        lines = self.body.split("\n")
        self.body = "\n".join(MASK if any(head in line for head in heads) else line for line in lines)
