"""Connection plans: the connections to open for a feed, and what to send on each.

These structs are passed between processes as JSON, so they hold plain data only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

from wsrec.feed.masking import ENVIRONMENT, MASK, mask_url
from wsrec.feed.ping_defaults import PING_INTERVAL, PING_TIMEOUT
from wsrec.feed.placeholders import PLACEHOLDER
from wsrec.net.proxy import DIRECT, Proxy, ProxyRules
from wsrec.plan.balance import LimitExceededError, spread
from wsrec.plan.requests import (
    PlannedTopic,
    RequestedTopic,
    SubscriptionRequest,
    address,
    planned_topic,
    public_address,
    subscription_requests,
)

if TYPE_CHECKING:
    # only for the type checker: receivers import this module, but neither YAML nor pydantic
    from wsrec.feed.schema import Feed
    from wsrec.feed.sockets import Socket, Token
    from wsrec.plan.target import Target


class KeepAlive(msgspec.Struct, frozen=True, kw_only=True):
    """A keep-alive that the exchange requires: a ping frame, or `text`, every so often (s)."""

    every: float
    text: str | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An exchange's message that must be answered: see `wsrec.feed.keep_alive.Answer`."""

    text: str
    path: str | None = None
    message: str | None = None
    match: str | None = None
    value: str | None = None
    encoding: Literal["text", "binary", "gzip"] = "text"
    max_bytes: int = 256


class TokenRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The request for a token before each connection: see `wsrec.feed.sockets.Token`."""

    url: str
    method: Literal["GET", "POST"]
    token: str
    endpoint: str | None = None
    public_url: str = MASK


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """Limit of a receiver's connection attempts to a host within `interval` (s)."""

    attempts: float
    interval: float

    def share(self, receivers: int) -> Pace:
        """The share of one of several receivers."""
        return Pace(attempts=self.attempts / receivers, interval=self.interval)


class ConnectionPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One connection: its address, and the messages to send on it.

    Attributes:
        conn: number of the connection in the session, from 0; the `conn` column.
        feed: name of the feed it belongs to.
        url: `ws://` or `wss://`, with the feed's secrets if any; may contain `{token}` and `{uuid}`.
        public_url: the URL without secrets, for events, metadata and logs.
        headers: added to the handshake request.
        compression: the compression offered in the handshake.
        token: how to get the value of `{token}`.
        proxies: proxy selection for the connection and the token request.
        requested_by_url: the topics that the URL requests.
        wait: time (s) between the opening handshake and the first message.
        first: messages to send before the subscriptions.
        requests: sent in this order once connected, and again after each reconnection.
        answers: the exchange's messages that must be answered.
        send_interval: minimum time (s) between two sent messages, the exchange's limit.
        start_after: delay (s) after the session's start, so that many connections stay within the
            exchange's limit of connection attempts.
        pace: limit of all attempts: first ones, reconnections and replacements; None for a low default.
        replaceable: whether a standby connection takes its place before it ends.
        standby_of: for a standby connection, the `conn` of the one that it alternates with.
        lifetime: time (s) after which the exchange cuts the connection; it is replaced before.
        idle_timeout: time (s) without a message after which the connection counts as silent and is replaced.
        ping_interval: time (s) without a byte after which a WebSocket ping is sent.
        ping_timeout: time (s) to wait for the pong before the connection counts as dead.

    """

    conn: int
    feed: str
    url: str
    public_url: str
    headers: dict[str, str] = {}
    compression: Literal["deflate"] | None = None
    token: TokenRequest | None = None
    proxies: ProxyRules = DIRECT
    requested_by_url: tuple[RequestedTopic, ...] = ()
    wait: float = 0.0
    first: tuple[str, ...] = ()
    requests: tuple[SubscriptionRequest, ...] = ()
    answers: tuple[Answer, ...] = ()
    send_interval: float = 0.0
    keep_alive: KeepAlive | None = None
    start_after: float = 0.0
    pace: Pace | None = None
    replaceable: bool = False
    standby_of: int | None = None
    lifetime: float | None = None
    idle_timeout: float | None = None
    ping_interval: float = PING_INTERVAL
    ping_timeout: float = PING_TIMEOUT

    def public(self) -> ConnectionPlan:
        """A copy without secrets, for storage; it cannot connect."""
        return msgspec.structs.replace(self, url=self.public_url, headers={}, token=None, proxies=DIRECT)

    @property
    def proxy(self) -> Proxy | None:
        """The proxy of the connection; a token may lead to a host with another proxy."""
        return self.proxies.of(self.url)

    @property
    def answers_due(self) -> int:
        """The most answers to messages sent before the first keep-alive: one per topic, or per request."""
        return len(self.first) + sum(max(len(request.topics), 1) for request in self.requests)

    @property
    def topics(self) -> tuple[RequestedTopic, ...]:
        """All topics requested on it."""
        return (*self.requested_by_url, *(topic for request in self.requests for topic in request.topics))

    @property
    def subscribed_after(self) -> float:
        """Time (s) after the session's start at which its last subscription is sent, without handshakes."""
        messages = len(self.first) + len(self.requests)
        return self.start_after + self.wait + max(messages - 1, 0) * self.send_interval


def divided(plan: ConnectionPlan, topics: Sequence[str], parts: tuple[SubscriptionRequest, ...]) -> ConnectionPlan:
    """The plan with `parts` in place of the requests that only request `topics`."""
    whole = frozenset(topics)
    places = [place for place, one in enumerate(plan.requests) if one.topics and whole.issuperset(one.topic_names)]
    if not places:
        return plan
    kept = [one for place, one in enumerate(plan.requests) if place not in places]
    at = places[0]
    return msgspec.structs.replace(plan, requests=(*kept[:at], *parts, *kept[at:]))


def standbys(plans: Sequence[ConnectionPlan]) -> list[ConnectionPlan]:
    """The standby connections of `plans`, with the next numbers."""
    first = max((plan.conn for plan in plans), default=-1) + 1
    replaceable = [plan for plan in plans if plan.replaceable]
    return [
        msgspec.structs.replace(plan, conn=first + nth, standby_of=plan.conn) for nth, plan in enumerate(replaceable)
    ]


def status_rows(plans: Sequence[ConnectionPlan]) -> dict[int, int]:
    """The row of each connection (its `conn`) on the status page; a standby has that of the planned one."""
    rows = {one.conn: row for row, one in enumerate(one for one in plans if one.standby_of is None)}
    return rows | {one.conn: rows[one.standby_of] for one in plans if one.standby_of is not None}


def plan(targets: Sequence[Target], first_conn: int = 0, proxies: ProxyRules = DIRECT) -> list[ConnectionPlan]:
    """Distribute the topics of `targets` over connections, within the exchanges' limits.

    Args:
        targets: the targets.
        first_conn: number of the first connection.
        proxies: proxy selection for feeds that name none.

    Raises:
        ConfigError: an exchange's limits are exceeded, a secret is missing in the environment, or a proxy's address is
            not valid.

    """
    plans: list[ConnectionPlan] = []
    for target in targets:
        rules = proxies_of(target.feed, proxies)
        connections = list(_connections(target))
        _check_totals(target.feed, [topics for _, topics in connections])
        for nth, (socket, topics) in enumerate(connections):
            place = nth, len(connections)
            plans.append(_plan(target, socket, topics, place, first_conn + len(plans), rules))
    return plans


def proxies_of(feed: Feed, proxies: ProxyRules) -> ProxyRules:
    """The proxy selection of a feed: its own proxy, or `proxies`.

    Raises:
        ConfigError: its proxy's address is not valid, or a secret is missing in the environment.

    """
    rules = proxies.for_feed(feed.resolved_proxy(), feed.name)
    try:
        for url in feed.urls():
            # a placeholder that is filled in later may be a port
            rules.of(PLACEHOLDER.sub("1", ENVIRONMENT.sub("1", url)))
    except ValueError as error:
        raise _error(str(error)) from None
    return rules


def _plan(
    target: Target,
    socket: Socket,
    topics: tuple[PlannedTopic, ...],
    place: tuple[int, int],
    conn: int,
    proxies: ProxyRules,
) -> ConnectionPlan:
    """One of the feed's connections: its index, and their number."""
    feed = target.feed
    limits, keep_alive, opening, token = feed.limits, feed.keep_alive, feed.on_connect, socket.token
    idle_timeout = min((one.idle_timeout for one in topics if one.idle_timeout is not None), default=None)
    given = [SubscriptionRequest(number=number, text=text) for number, text in enumerate(target.subscribe, 1)]
    requests = (*given, *subscription_requests(topics, first=len(given) + 1))
    return ConnectionPlan(
        conn=conn,
        feed=feed.name,
        url=address(socket.resolved_url(), topics),
        public_url=public_address(socket.url, topics, feed.public_url_parts),
        headers=socket.resolved_headers(),
        compression=socket.compression,
        token=_token_request(token, feed) if token else None,
        proxies=proxies,
        requested_by_url=tuple(one.requested for one in topics if one.subscribe.url),
        wait=opening.wait if opening else 0.0,
        first=opening.send if opening else (),
        requests=requests,
        answers=tuple(Answer(**answer.model_dump()) for answer in keep_alive.answers) if keep_alive else (),
        send_interval=limits.spacing(place[1]) if limits else 0.0,
        keep_alive=KeepAlive(every=keep_alive.every, text=keep_alive.text) if keep_alive and keep_alive.every else None,
        start_after=_start_after(feed, place[0]),
        # half of the exchange's limit: a full token bucket gives twice its size in the first interval
        pace=Pace(attempts=max(1, limits.connects // 2), interval=limits.connects_interval) if limits else None,
        replaceable=_replaceable(feed, idle_timeout),
        lifetime=limits.lifetime if limits else None,
        idle_timeout=idle_timeout,
        ping_interval=keep_alive.ping_interval if keep_alive else PING_INTERVAL,
        ping_timeout=keep_alive.ping_timeout if keep_alive else PING_TIMEOUT,
    )


def _token_request(token: Token, feed: Feed) -> TokenRequest:
    return TokenRequest(**token.model_dump(), public_url=mask_url(token.url, feed.public_url_parts))


def _connections(target: Target) -> Iterator[tuple[Socket, tuple[PlannedTopic, ...]]]:
    """Each connection of a target: its socket and its topics."""
    feed = target.feed
    if not feed.channels or feed.limits is None:
        for socket in feed.sockets.values():
            yield socket, ()
        return
    for key, socket in feed.sockets.items():
        beside = [planned_topic(feed, name) for name in feed.constant_channels(key)]
        topics = _topics(target, key)
        try:
            shares = spread([one for one in topics if one not in beside], beside, feed.limits, socket.url)
        except LimitExceededError as error:
            raise _error(f"{feed.name}: {error}; its limits do not allow that") from error
        for share in shares or ([tuple(beside)] if topics else []):
            yield socket, share


def _topics(target: Target, socket: str) -> list[PlannedTopic]:
    """The topics on one of the feed's sockets, grouped by symbol."""
    feed = target.feed
    channels = {name: feed.channel_table[name] for name in target.channels}
    channels = {name: channel for name, channel in channels.items() if feed.carries(socket, channel)}
    topics = [planned_topic(feed, name) for name, channel in channels.items() if not channel.per_symbol]
    per_symbol = [name for name, channel in channels.items() if channel.per_symbol]
    for symbol in target.symbols:
        if feed.sockets[socket].takes(symbol):
            topics += [planned_topic(feed, name, symbol) for name in per_symbol]
    known: dict[str, PlannedTopic] = {}
    for one in topics:
        other = known.setdefault(one.topic, one)
        if other.channel != one.channel:
            # only one of them would be requested, and messages of the other would be missing
            found = f"{one.topic!r} is a topic of {other.channel} and of {one.channel}"
            raise _error(f"{feed.name}: {found}: give their `topic`s different names")
    return list(known.values())


def _check_totals(feed: Feed, connections: Sequence[tuple[PlannedTopic, ...]]) -> None:
    """Check the exchange's limits for all connections from one address."""
    if feed.limits is None:
        return
    hint = "request fewer symbols or channels, or split them between machines with --shard"
    streams = sum(map(len, connections))
    if feed.limits.streams is not None and streams > feed.limits.streams:
        allowed = f"{feed.name} allows {feed.limits.streams} from one address"
        raise _error(f"{streams} subscriptions are needed, and {allowed}: {hint}")
    idle_timeout = min(
        (one.idle_timeout for topics in connections for one in topics if one.idle_timeout is not None), default=None
    )
    if feed.limits.connections is not None:
        most = max(1, feed.limits.connections - _replaceable(feed, idle_timeout))
        if len(connections) > most:
            kept = "" if most == feed.limits.connections else ", one of which is kept for replacements"
            allowed = f"{feed.name} allows {feed.limits.connections} from one address{kept}"
            raise _error(f"{len(connections)} connections are needed, and {allowed}: {hint}")


def _replaceable(feed: Feed, idle_timeout: float | None) -> bool:
    renewed = any("renew" in (channel.on_gap, channel.on_stale) for channel in feed.channels.values())
    return bool(idle_timeout or renewed or feed.closing_notice or (feed.limits and feed.limits.lifetime))


def _start_after(feed: Feed, nth: int) -> float:
    """Seconds to wait before the feed's `nth` connection."""
    if feed.limits is None:
        return 0.0
    # half of the exchange's limit, to leave room for reconnections
    at_once = max(1, feed.limits.connects // 2)
    attempts = nth // at_once * feed.limits.connects_interval
    together = feed.limits.messages_per_second_in_all
    return attempts if together is None else max(attempts, nth / together)


def _error(text: str) -> Exception:
    # imported here: receivers import this module, but neither YAML nor pydantic
    from wsrec.feed.errors import ConfigError

    return ConfigError(text)
