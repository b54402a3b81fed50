"""The address of one attempt to connect, where the exchange wants a token in it: asked for anew each time.

Neither the token nor anything else of the answer gets into an event, a log or an error.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from urllib.parse import quote, unquote

from websockets.exceptions import InvalidURI
from websockets.uri import WebSocketURI, parse_uri

from wsrec.feed.https import HttpsError, fetch
from wsrec.feed.paths import first
from wsrec.feed.plan import ConnectionPlan, TokenRequest
from wsrec.feed.template import fill, fill_when_sent

_LIMIT = 64 << 10
_TIMEOUT = 8.0
_TOKEN_MAX = 8192
# what separates the parts of a URL; and a part that is shorter guards nothing
_PARTS = re.compile(r"[/?&=#:@]+")
_SECRET_MIN = 4


class TokenError(Exception):
    """There is no token to connect with.

    Attributes:
        retry_after: seconds that the server asked to wait.

    """

    def __init__(self, text: str, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.retry_after = retry_after


async def address(plan: ConnectionPlan, context: ssl.SSLContext) -> tuple[str, WebSocketURI]:
    """Where to connect now: the plan's URL, for a feed with tokens with a new one in it.

    Raises:
        TokenError: there is no token.
        websockets.exceptions.InvalidURI: the plan's URL is none.

    """
    if plan.token is None:
        url = fill_when_sent(plan.url)
        return url, parse_uri(url)
    # a thread: the loop goes on reading the other connections
    url = await asyncio.to_thread(_ask, plan.url, plan.token, context)
    try:
        return url, parse_uri(url)
    except (InvalidURI, ValueError):
        raise TokenError("the token's answer makes no WebSocket URL") from None


def secrets_of(plan: ConnectionPlan, url: str) -> frozenset[str]:
    """What of `url`, and of the plan's headers, nobody may read: a server that refuses may repeat it."""
    public = set(_PARTS.split(plan.public_url))
    parts = {part for part in _PARTS.split(url) if part not in public}
    found = {*parts, *map(unquote, parts), *plan.headers.values()}
    return frozenset(part for part in found if len(part) >= _SECRET_MIN)


def _ask(url: str, request: TokenRequest, context: ssl.SSLContext) -> str:
    try:
        data = fetch(request.url, context=context, method=request.method, limit=_LIMIT, timeout=_TIMEOUT)
    except HttpsError as error:
        raise TokenError(f"no token: {error}", error.retry_after) from None
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError):
        raise TokenError("no token: the answer is no JSON") from None
    token = first(answer, request.token)
    if not isinstance(token, str) or not 0 < len(token) <= _TOKEN_MAX:
        raise TokenError(f"no token: the answer has no text at {request.token}")
    if request.endpoint is not None:
        url = _at(first(answer, request.endpoint), url, request.endpoint)
    # escaped as a URL needs it, which leaves nothing that JSON's escaping would touch
    return fill_when_sent(fill(url, {"token": quote(token, safe="")}))


def _at(endpoint: object, url: str, path: str) -> str:
    """`url` with everything before its query taken from `endpoint`, which must be no less secure."""
    scheme, _, _ = url.partition("://")
    if not isinstance(endpoint, str) or not endpoint.startswith(f"{scheme}://") or not endpoint.isprintable():
        raise TokenError(f"no token: the answer has no {scheme}:// address at {path}")
    if any(character in endpoint for character in "{}?#@ "):
        raise TokenError(f"no token: the address at {path} is more than scheme, host, port and path")
    _, mark, query = url.partition("?")
    return f"{endpoint}{mark}{query}"
