"""What can be wrong with the other side's words."""

from __future__ import annotations

from collections.abc import Collection

from websockets.frames import CloseCode

MASK = "***"
"""Stands for a line that repeats a secret."""
# so much of a secret's beginning gives it away; what is shown of a body may end in its middle
_TELLING = 8


class ProtocolError(Exception):
    """The server broke RFC 6455; the connection is to be failed (section 7.1.7) with `code`."""

    def __init__(self, code: CloseCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class HandshakeError(Exception):
    """The answer to the opening handshake is no valid one (RFC 6455 section 4.1).

    Attributes:
        hint: what to do about it, where the answer tells.

    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class NoAnswerError(HandshakeError):
    """The server closed the connection without a word."""


class CompressionRefused(HandshakeError):  # noqa: N818 (an answer, as below)
    """The server agreed to compress, but not in a way that was offered."""


class HandshakeRefused(HandshakeError):  # noqa: N818 (a refusal is an answer, not a fault of ours)
    """The server answered the opening handshake with another status than 101.

    Attributes:
        status: HTTP status code.
        retry_after: seconds to wait by the Retry-After header (RFC 9110 10.2.3), None without one that names a time.
        body: the answer's body as far as it was read, as text that is printable but for its line breaks.
        location: the host of the Location header, printable; None where it has none.

    """

    def __init__(
        self, status: int, reason: str, retry_after: float | None, body: str, location: str | None = None
    ) -> None:
        super().__init__(f"HTTP {status} {reason}".rstrip())
        self.status = status
        self.retry_after = retry_after
        self.body = body
        self.location = location

    def withhold(self, secrets: Collection[str]) -> None:
        """Leave out of the server's words each line that has one of `secrets`, or its beginning, in it."""
        heads = [secret[:_TELLING] for secret in secrets]
        if any(head in str(self) for head in heads):
            self.args = (f"HTTP {self.status}",)
        if any(head in (self.location or "") for head in heads):
            self.location = None
        lines = self.body.split("\n")
        self.body = "\n".join(MASK if any(head in line for head in heads) else line for line in lines)
