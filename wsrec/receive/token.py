"""The address of one attempt to connect, where the exchange wants a token in it: asked for anew each time.

Neither the token nor anything else of the answer gets into an event, a log or an error.
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
from wsrec.http.proxied import by
from wsrec.net.proxy import ProxyRules
from wsrec.net.tunnel import ProxyError
from wsrec.plan.connections import ConnectionPlan, TokenRequest

_LIMIT = 64 << 10
_TIMEOUT = 8.0
_TOKEN_MAX = 8192
# what separates the parts of a URL; and a part that is shorter guards nothing
_PARTS = re.compile(r"[/?&=#:@]+")
_SECRET_MIN = 4


class TokenError(Exception):
    """There is no token to connect with.

    Attributes:
        limited: whether the token's server says that it is asked too often.
        retry_after: seconds that it asked to wait.

    """

    def __init__(self, text: str, *, limited: bool = False, retry_after: float | None = None) -> None:
        super().__init__(f"no token: {text}")
        self.limited = limited
        self.retry_after = retry_after


async def address(plan: ConnectionPlan, context: ssl.SSLContext) -> tuple[str, WebSocketURI]:
    """Where to connect now: the plan's URL, for a feed with tokens with a new one in it.

    Raises:
        TokenError: there is no token.
        wsrec.net.tunnel.ProxyError: there is no way through the proxy to who gives it.
        websockets.exceptions.InvalidURI: the plan's URL is none.

    """
    if plan.token is None:
        url = fill_when_sent(plan.url)
        return url, parse_uri(url)
    url = await _ask(plan.url, plan.token, context, plan.proxies)
    try:
        return url, parse_uri(url)
    except (InvalidURI, ValueError):
        raise TokenError(f"the answer of {host_of(plan.token.url)} makes no WebSocket URL") from None


def secrets_of(plan: ConnectionPlan, url: str) -> frozenset[str]:
    """What of `url`, and of the plan's headers, nobody may read: a server that refuses may repeat it."""
    public = set(_PARTS.split(plan.public_url))
    parts = {part for part in _PARTS.split(url) if part not in public}
    found = {*parts, *map(unquote, parts), *plan.headers.values()}
    return frozenset(part for part in found if len(part) >= _SECRET_MIN)


async def _ask(url: str, request: TokenRequest, context: ssl.SSLContext, proxies: ProxyRules) -> str:
    try:
        data = await fetch_async(
            request.url,
            context=context,
            method=request.method,
            limit=_LIMIT,
            timeout=_TIMEOUT,
            connect=by(proxies.of(request.url)),
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
        raise TokenError(f"{answered} is no JSON") from None
    token = first(answer, request.token)
    if not isinstance(token, str) or not 0 < len(token) <= _TOKEN_MAX:
        raise TokenError(f"{answered} has no text at {request.token}")
    if request.endpoint is not None:
        url = _at(first(answer, request.endpoint), url, request.endpoint, answered)
    # escaped as a URL needs it, which leaves nothing that JSON's escaping would touch
    return fill_when_sent(fill(url, {"token": quote(token, safe="")}))


def _at(endpoint: object, url: str, path: str, answered: str) -> str:
    """`url` with everything before its query taken from `endpoint`, which must be no less secure."""
    scheme, _, _ = url.partition("://")
    if not isinstance(endpoint, str) or not endpoint.startswith(f"{scheme}://") or not endpoint.isprintable():
        raise TokenError(f"{answered} has no {scheme}:// address at {path}")
    if any(character in endpoint for character in "{}?#@ "):
        raise TokenError(f"{answered} has an address at {path} that is more than scheme, host, port and path")
    _, mark, query = url.partition("?")
    return f"{endpoint}{mark}{query}"
