"""Exchange responses to clients' requests: acknowledgements and errors, without I/O.

Binance's requests (`SUBSCRIBE`, `UNSUBSCRIBE`, `LIST_SUBSCRIPTIONS`) get Binance's responses. Any other JSON object is
treated as another exchange's request and returned with `"success":true` in front, which is how BitMEX and Bybit
acknowledge. The bare text `ping` (OKX, Bitget) gets `pong`.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec

MAX_STREAMS = 1024  # a connection, as Binance has it

_METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS")
_STREAM = re.compile(r"[^@\s]+@[A-Za-z][A-Za-z0-9_]*(@\w+)?|![A-Za-z]+(@\w+)*")
_UNKNOWN_METHOD = f"Invalid request: unknown variant, expected one of {', '.join(_METHODS)}"


class Answer(NamedTuple):
    """The reply to a request, and whether the request was a subscription."""

    reply: bytes
    subscribed: bool


class Subscriptions:
    """One client's subscriptions; `streams` keeps their order."""

    def __init__(self) -> None:
        self.streams: dict[str, None] = {}

    def answer(self, request: bytes) -> Answer:
        """Apply a client's message and return the reply."""
        if request == b"ping":
            return Answer(b"pong", subscribed=False)
        try:
            document = msgspec.json.decode(request)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return _error(3, "Invalid JSON: expected value", None)
        if not isinstance(document, dict):
            return _error(2, "Invalid request: expected an object", None)
        method = document.get("method")
        if not isinstance(method, str) or not method.isupper():
            reply = msgspec.json.encode({"success": True} | document)
            return Answer(reply, subscribed="ping" not in (document.get("op"), document.get("event"), method))
        return self._binance(method, document)

    def _binance(self, method: str, document: dict[str, Any]) -> Answer:
        ident = document.get("id")
        if isinstance(ident, bool) or not (
            ident is None or isinstance(ident, int) or (isinstance(ident, str) and len(ident) <= 36)
        ):
            return _error(2, "Invalid request: request ID must be an integer, null or at most 36 characters", None)
        if method == "LIST_SUBSCRIPTIONS":
            return Answer(msgspec.json.encode({"result": list(self.streams), "id": ident}), subscribed=False)
        if method not in _METHODS:
            return _error(2, _UNKNOWN_METHOD, ident)
        streams = document.get("params")
        if not isinstance(streams, list) or not all(
            isinstance(stream, str) and _STREAM.fullmatch(stream) for stream in streams
        ):
            return _error(2, "Invalid request: params must be a list of stream names", ident)
        if method == "UNSUBSCRIBE":
            for stream in streams:
                self.streams.pop(stream, None)
        elif len(self.streams.keys() | set(streams)) > MAX_STREAMS:
            return _error(2, "Invalid request: too many parameters", ident)
        else:
            self.streams.update(dict.fromkeys(streams))
        reply = msgspec.json.encode({"result": None, "id": ident})
        return Answer(reply, subscribed=method == "SUBSCRIBE" and bool(streams))


def _error(code: int, message: str, ident: int | str | None) -> Answer:
    return Answer(msgspec.json.encode({"code": code, "msg": message, "id": ident}), subscribed=False)
