"""One question over HTTPS, asked with care: verified, bounded in time and size, never redirected."""

from __future__ import annotations

import http.client
import ssl
import time
import urllib.error
import urllib.request
from typing import Any

from wsrec import __version__

_PIECE = 64 << 10


class HttpsError(Exception):
    """No answer that can be used. The text names the host and the reason, and holds nothing of the answer's body.

    Attributes:
        retry_after: seconds that the server asked to wait.

    """

    def __init__(self, text: str, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.retry_after = retry_after


def fetch(
    url: str, *, context: ssl.SSLContext, method: str = "GET", body: bytes | None = None, limit: int, timeout: float
) -> bytes:
    """The body of the answer to a request.

    Args:
        url: `https://`.
        context: verifies certificates and host names.
        method: `GET` or `POST`.
        body: JSON to send.
        limit: bytes that the answer may have.
        timeout: seconds that all of it may take.

    Raises:
        HttpsError: there is no such answer.

    """
    headers = {"User-Agent": f"wsrec/{__version__}", "Accept": "application/json"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    elif method == "POST":
        body = b""
    request = urllib.request.Request(url, body, headers, method=method)  # noqa: S310 (https only, see the callers)
    host = request.host
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _NoRedirect())
    deadline = time.monotonic() + timeout
    try:
        with opener.open(request, timeout=timeout) as answer:
            return _read(answer, host, limit, deadline)
    except urllib.error.HTTPError as error:
        error.close()
        later = error.headers.get("Retry-After", "")
        raise HttpsError(f"{host} answered {error.code}", float(later) if later.isdecimal() else None) from None
    except urllib.error.URLError as error:
        raise HttpsError(f"{host}: {_reason(error.reason)}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise HttpsError(f"{host}: {_reason(error)}") from None


def _read(answer: Any, host: str, limit: int, deadline: float) -> bytes:
    data = bytearray()
    while piece := answer.read1(_PIECE):
        data += piece
        if len(data) > limit:
            raise HttpsError(f"{host} answered more than {limit} bytes")
        if time.monotonic() > deadline:
            raise HttpsError(f"{host} did not answer in time")
    return bytes(data)


def _reason(error: Any) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not verified: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "did not answer in time"
    return getattr(error, "strerror", None) or type(error).__name__


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """Follow none: an answer from elsewhere is none of this host's."""
        return
