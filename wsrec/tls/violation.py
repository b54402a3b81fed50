"""What a server did against TLS, and the alert that tells it so."""

from __future__ import annotations

import errno
import ssl
from ssl import AlertDescription


class TlsViolationError(ssl.SSLError):
    """The server broke a rule of TLS; the connection has to end.

    Attributes:
        alert: what it is to be told before that (RFC 8446 6.2, RFC 5246 7.2.2); None: nothing can be told.

    """

    def __init__(self, message: str, alert: AlertDescription | None, number: int = errno.EPROTO) -> None:
        super().__init__(number, message)
        self.alert = alert
