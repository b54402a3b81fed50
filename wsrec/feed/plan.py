"""What the receiver needs to know of a feed: the connections to open and what to say on each.

These structs cross a process border as JSON, so they hold plain data only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    # Only for the type checker: receivers import this module, and have no use for YAML or pydantic.
    from wsrec.feed.schema import Feed, Socket
    from wsrec.feed.target import Target


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """One message to send after connecting.

    Attributes:
        text: the message.
        topics: what it asks for.
        keys: what the answer calls each topic; empty where it calls them as they are.

    """

    text: str
    topics: tuple[str, ...]
    keys: tuple[str, ...] = ()


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
        compression: what the handshake offers.
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
    compression: Literal["deflate"] | None = None
    subscriptions: tuple[Subscription, ...] = ()
    send_interval: float = 0.0
    keep_alive: KeepAlive | None = None
    start_after: float = 0.0


def plan(targets: Sequence[Target], first_conn: int = 0) -> list[ConnectionPlan]:
    """Put every topic of `targets` onto connections, within what the exchanges allow.

    Args:
        targets: what to record.
        first_conn: number of the first connection.

    Raises:
        ConfigError: a secret that a feed takes from the environment is not there.

    """
    plans: list[ConnectionPlan] = []
    opened: dict[str, int] = {}
    for target in targets:
        feed = target.feed
        for socket, subscriptions in _connections(target):
            nth = opened.get(feed.name, 0)
            opened[feed.name] = nth + 1
            plans.append(
                ConnectionPlan(
                    conn=first_conn + len(plans),
                    feed=feed.name,
                    url=socket.resolved_url(),
                    public_url=socket.public().url,
                    headers=socket.resolved_headers(),
                    compression=socket.compression,
                    subscriptions=subscriptions,
                    send_interval=feed.limits.spacing if feed.limits else 0.0,
                    keep_alive=KeepAlive(every=feed.keep_alive.every, text=feed.keep_alive.text)
                    if feed.keep_alive
                    else None,
                    start_after=_start_after(feed, nth),
                )
            )
    return plans


def _connections(target: Target) -> Iterator[tuple[Socket, tuple[Subscription, ...]]]:
    """Each connection of a target: its socket and what to send on it."""
    feed = target.feed
    if not feed.channels or feed.limits is None or feed.subscribe is None:
        said = tuple(Subscription(text=text, topics=()) for text in target.subscribe)
        for socket in feed.sockets.values():
            yield socket, said
        return
    for key, socket in feed.sockets.items():
        topics = _topics(target, key)
        if not topics:
            continue
        # Even shares rather than full connections and a rest: none is busier than it has to be.
        connections = -(-len(topics) // feed.limits.streams_per_connection)
        for share in _batches(tuple(topics), -(-len(topics) // connections)):
            batches = _batches(share, feed.subscribe.batch)
            yield (
                socket,
                tuple(
                    Subscription(
                        text=_message(feed.subscribe.template, batch, number),
                        topics=batch,
                        keys=tuple(topics[topic] for topic in batch) if feed.ack and feed.ack.key else (),
                    )
                    for number, batch in enumerate(batches, 1)
                ),
            )


def _topics(target: Target, socket: str) -> dict[str, str]:
    """The topics on one of the feed's sockets, a symbol's together, and what answers call them."""
    feed = target.feed
    only = next(iter(feed.sockets))
    channels = [feed.channel_table[name] for name in target.channels]
    channels = [channel for channel in channels if (channel.socket or only) == socket]
    topics = {channel.topic: channel.ack_key or channel.topic for channel in channels if not channel.per_symbol}
    for symbol in target.symbols:
        written = feed.symbols.topic_case.apply(symbol) if feed.symbols else symbol
        for channel in channels:
            if channel.per_symbol:
                names = (channel.topic, channel.ack_key or channel.topic)
                topic, key = (name.replace("{symbol}", written) for name in names)
                topics.setdefault(topic, key)
    return topics


def _message(template: str, topics: tuple[str, ...], number: int) -> str:
    # The id first: a topic may hold the text {id}, a number holds no {topics}.
    array = json.dumps(topics, ensure_ascii=False, separators=(",", ":"))
    return template.replace("{id}", str(number)).replace("{topics}", array)


def _start_after(feed: Feed, nth: int) -> float:
    """Seconds to wait before the feed's `nth` connection."""
    if feed.limits is None:
        return 0.0
    # Half of what the exchange allows, so that reconnections have room beside it.
    at_once = max(1, feed.limits.connects // 2)
    return nth // at_once * feed.limits.connects_interval


def _batches(topics: tuple[str, ...], size: int) -> list[tuple[str, ...]]:
    return [topics[start : start + size] for start in range(0, len(topics), size)]
