"""What the receiver needs to know of a feed: the connections to open and what to say on each.

These structs cross a process border as JSON, so they hold plain data only.
"""

from __future__ import annotations

import msgspec


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """One message to send after connecting, and the topics that it asks for."""

    text: str
    topics: tuple[str, ...]


class KeepAlive(msgspec.Struct, frozen=True, kw_only=True):
    """What the client has to send, and how often (s), for the exchange not to close: a ping frame, or `text`."""

    every: float
    text: str | None = None


class ConnectionPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One connection: where to, and what to send on it.

    Attributes:
        conn: number of the connection in the session, from 0; the `conn` column.
        feed: name of the feed it belongs to.
        url: `ws://` or `wss://`, with whatever secrets the feed puts there.
        public_url: the same without secrets, for events, metadata and logs.
        headers: added to the handshake request.
        subscriptions: sent in this order once connected, and again after each reconnection.
        send_interval: least time (s) between two messages that we send, the exchange's limit.
        start_after: time (s) after the session's start to connect at, so that many connections stay within the
            exchange's limit of connection attempts.

    """

    conn: int
    feed: str
    url: str
    public_url: str
    headers: dict[str, str] = {}
    subscriptions: tuple[Subscription, ...] = ()
    send_interval: float = 0.0
    keep_alive: KeepAlive | None = None
    start_after: float = 0.0
