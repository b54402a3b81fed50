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

ASK_AFTER, ANSWER_WITHIN = 20.0, 10.0


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """One message to send after connecting, and the topics that it asks for."""

    text: str
    topics: tuple[str, ...]


class KeepAlive(msgspec.Struct, frozen=True, kw_only=True):
    """What the client has to send, and how often (s), for the exchange not to close: a ping frame, or `text`."""

    every: float
    text: str | None = None


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """Most connection attempts to a host, of all connections of a receiver together, within `interval` (s)."""

    attempts: float
    interval: float

    def share(self, receivers: int) -> Pace:
        """What one of several receivers may make of it."""
        return Pace(attempts=self.attempts / receivers, interval=self.interval)


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
        pace: what bounds all attempts, the first, further ones and replacements; a gentle default where None.
        replaceable: whether another connection takes its place before it ends, and so has to stand by.
        stands_for: of a connection that stands by: the `conn` of the one that it takes turns with.
        lifetime: time (s) after which the exchange cuts the connection; it is replaced before.
        quiet: time (s) without a message after which the connection counts as silent and is replaced.
        ask_after: time (s) without a byte after which a WebSocket ping asks whether anybody is there.
        answer_within: time (s) that the answer may take before the connection counts as dead.

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
    pace: Pace | None = None
    replaceable: bool = False
    stands_for: int | None = None
    lifetime: float | None = None
    quiet: float | None = None
    ask_after: float = ASK_AFTER
    answer_within: float = ANSWER_WITHIN


def standbys(plans: Sequence[ConnectionPlan]) -> list[ConnectionPlan]:
    """The connections that stand by for `plans`, numbered behind the last of them."""
    first = max((plan.conn for plan in plans), default=-1) + 1
    replaceable = [plan for plan in plans if plan.replaceable]
    return [
        msgspec.structs.replace(plan, conn=first + nth, stands_for=plan.conn) for nth, plan in enumerate(replaceable)
    ]


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
        limits, keep_alive = feed.limits, feed.keep_alive
        for socket, subscriptions, quiet in _connections(target):
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
                    send_interval=limits.spacing if limits else 0.0,
                    keep_alive=KeepAlive(every=keep_alive.every, text=keep_alive.text)
                    if keep_alive and keep_alive.every
                    else None,
                    start_after=_start_after(feed, nth),
                    # half of what the exchange allows: a full bucket gives twice its size in the first interval
                    pace=Pace(attempts=max(1, limits.connects // 2), interval=limits.connects_interval)
                    if limits
                    else None,
                    replaceable=bool(quiet or feed.closing_notice or (limits and limits.lifetime)),
                    lifetime=limits.lifetime if limits else None,
                    quiet=quiet,
                    ask_after=keep_alive.ask_after if keep_alive else ASK_AFTER,
                    answer_within=keep_alive.answer_within if keep_alive else ANSWER_WITHIN,
                )
            )
    return plans


def _connections(target: Target) -> Iterator[tuple[Socket, tuple[Subscription, ...], float | None]]:
    """Each connection of a target: its socket, what to send on it, and how long (s) it may be silent."""
    feed = target.feed
    if not feed.channels or feed.limits is None or feed.subscribe is None:
        said = tuple(Subscription(text=text, topics=()) for text in target.subscribe)
        for socket in feed.sockets.values():
            yield socket, said, None
        return
    for key, socket in feed.sockets.items():
        topics = _topics(target, key)
        if not topics:
            continue
        # Even shares rather than full connections and a rest: none is busier than it has to be.
        connections = -(-len(topics) // feed.limits.streams_per_connection)
        for share in _batches(tuple(topics), -(-len(topics) // connections)):
            batches = _batches(share, feed.subscribe.batch)
            said = tuple(
                Subscription(text=_message(feed.subscribe.template, batch, number), topics=batch)
                for number, batch in enumerate(batches, 1)
            )
            yield socket, said, min((quiet for topic in share if (quiet := topics[topic]) is not None), default=None)


def _topics(target: Target, socket: str) -> dict[str, float | None]:
    """The topics on one of the feed's sockets, a symbol's together, and how long (s) each may be silent."""
    feed = target.feed
    only = next(iter(feed.sockets))
    channels = [feed.channel_table[name] for name in target.channels]
    channels = [channel for channel in channels if (channel.socket or only) == socket]
    topics = [(channel.topic, channel.quiet) for channel in channels if not channel.per_symbol]
    for symbol in target.symbols:
        written = feed.symbols.topic_case.apply(symbol) if feed.symbols else symbol
        topics += [(c.topic.replace("{symbol}", written), c.quiet) for c in channels if c.per_symbol]
    return dict(topics)


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
