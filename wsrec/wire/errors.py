"""What can be wrong with the other side's words."""

from __future__ import annotations

from collections.abc import Collection

from websockets.frames import CloseCode

# so much of a secret's beginning gives it away; what is shown of a body may end in its middle
_TELLING = 8


class ProtocolError(Exception):
    """The server broke RFC 6455; the connection is to be failed (section 7.1.7) with `code`."""

    def __init__(self, code: CloseCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class HandshakeError(Exception):
    """The answer to the opening handshake is no valid one (RFC 6455 section 4.1)."""


class CompressionRefused(HandshakeError):  # noqa: N818 (an answer, as below)
    """The server agreed to compress, but not in a way that was offered."""


class HandshakeRefused(HandshakeError):  # noqa: N818 (a refusal is an answer, not a fault of ours)
    """The server answered the opening handshake with another status than 101.

    Attributes:
        status: HTTP status code.
        retry_after: seconds to wait by the Retry-After header (RFC 9110 10.2.3), None without one to be read.
        body: the beginning of the answer's body, as printable text.
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
        """Leave out the server's words where they have one of `secrets`, or its beginning, in them."""
        heads = [secret[:_TELLING] for secret in secrets]
        if any(head in text for head in heads for text in (str(self), self.body, self.location or "")):
            self.args = (f"HTTP {self.status}",)
            self.body, self.location = "", None
