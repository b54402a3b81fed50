"""The URL of a connection attempt, with a fresh token if the exchange requires one.

Neither the token nor anything else of the answer is written to events, logs or errors.
"""

from __future__ import annotations

import json
import re
import ssl
from urllib.parse import quote, unquote

from websockets.exceptions import InvalidURI
from websockets.uri import WebSocketURI, parse_uri

from wsrec.feed.paths import first
from wsrec.feed.placeholders import fill, fill_when_sent
from wsrec.http.attempt import HttpError
from wsrec.http.client import fetch_async, host_of
from wsrec.http.proxied import connect_via
from wsrec.net.proxy import ProxyRules
from wsrec.net.tunnel import ProxyError
from wsrec.plan.connections import ConnectionPlan, TokenRequest

_LIMIT = 64 << 10
_TIMEOUT = 8.0
_TOKEN_MAX = 8192
# separators of a URL's parts; shorter parts are not treated as secrets
_PARTS = re.compile(r"[/?&=#:@]+")
_SECRET_MIN = 4


class TokenError(Exception):
    """No token could be obtained.

    Attributes:
        limited: whether the token's server reports too many requests.
        retry_after: seconds that it asked to wait.

    """

    def __init__(self, text: str, *, limited: bool = False, retry_after: float | None = None) -> None:
        super().__init__(f"no token: {text}")
        self.limited = limited
        self.retry_after = retry_after


async def address(plan: ConnectionPlan, context: ssl.SSLContext) -> tuple[str, WebSocketURI]:
    """The URL to connect to now: the plan's, with a new token if the feed uses tokens.

    Raises:
        TokenError: no token could be obtained.
        wsrec.net.tunnel.ProxyError: no tunnel to the token's server.
        websockets.exceptions.InvalidURI: the plan's URL is invalid.

    """
    if plan.token is None:
        url = fill_when_sent(plan.url)
        return url, parse_uri(url)
    url = await _request_url(plan.url, plan.token, context, plan.proxies)
    try:
        return url, parse_uri(url)
    except (InvalidURI, ValueError):
        raise TokenError(f"the answer of {host_of(plan.token.url)} does not form a WebSocket URL") from None


def secrets_of(plan: ConnectionPlan, url: str) -> frozenset[str]:
    """The parts of `url` and of the plan's headers to mask in a refusal, which may repeat them."""
    public = set(_PARTS.split(plan.public_url))
    parts = {part for part in _PARTS.split(url) if part not in public}
    found = {*parts, *map(unquote, parts), *plan.headers.values()}
    return frozenset(part for part in found if len(part) >= _SECRET_MIN)


async def _request_url(url: str, request: TokenRequest, context: ssl.SSLContext, proxies: ProxyRules) -> str:
    try:
        data = await fetch_async(
            request.url,
            context=context,
            method=request.method,
            limit=_LIMIT,
            timeout=_TIMEOUT,
            connect=connect_via(proxies.of(request.url)),
        )
    except HttpError as error:
        if isinstance(error.__cause__, ProxyError):
            raise error.__cause__ from None
        limited = error.cause == "limited"
        raise TokenError(str(error), limited=limited, retry_after=error.retry_after) from None
    answered = f"the answer of {host_of(request.url)}"
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError):
        raise TokenError(f"{answered} is not JSON") from None
    token = first(answer, request.token)
    if not isinstance(token, str) or not 0 < len(token) <= _TOKEN_MAX:
        raise TokenError(f"{answered} has no text at {request.token}")
    if request.endpoint is not None:
        url = _at(first(answer, request.endpoint), url, request.endpoint, answered)
    # percent-encoded, which leaves nothing for JSON to escape
    return fill_when_sent(fill(url, {"token": quote(token, safe="")}))


def _at(endpoint: object, url: str, path: str, answered: str) -> str:
    """`url` with everything before its query replaced by `endpoint`, which must have the same scheme."""
    scheme, _, _ = url.partition("://")
    if not isinstance(endpoint, str) or not endpoint.startswith(f"{scheme}://") or not endpoint.isprintable():
        raise TokenError(f"{answered} has no {scheme}:// address at {path}")
    if any(character in endpoint for character in "{}?#@ "):
        raise TokenError(f"{answered} has an address at {path} with more than scheme, host, port and path")
    _, mark, query = url.partition("?")
    return f"{endpoint}{mark}{query}"
