"""Connection plans: the connections to open for a feed, and what to send on each.

These structs cross a process border as JSON, so they hold plain data only.
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
    # Only for the type checker: receivers import this module, and have no use for YAML or pydantic.
    from wsrec.feed.schema import Feed
    from wsrec.feed.sockets import Socket, Token
    from wsrec.plan.target import Target


class KeepAlive(msgspec.Struct, frozen=True, kw_only=True):
    """What the client has to send, and how often (s), for the exchange not to close: a ping frame, or `text`."""

    every: float
    text: str | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A message of the exchange that has to be answered: see `wsrec.feed.keep_alive.Answer`."""

    text: str
    path: str | None = None
    message: str | None = None
    match: str | None = None
    value: str | None = None
    encoding: Literal["text", "binary", "gzip"] = "text"
    max_bytes: int = 256


class TokenRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What to ask for before each connection: see `wsrec.feed.sockets.Token`."""

    url: str
    method: Literal["GET", "POST"]
    token: str
    endpoint: str | None = None
    public_url: str = MASK


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
        url: `ws://` or `wss://`, with whatever secrets the feed puts there; may hold `{token}` and `{uuid}`.
        public_url: the same without secrets, for events, metadata and logs.
        headers: added to the handshake request.
        compression: what the handshake offers.
        token: how to get what `{token}` stands for.
        proxies: which proxy to go through, for the connection and for the token.
        requested_by_url: the topics that the URL asks for.
        wait: time (s) between the opening handshake and the first message.
        first: messages that go before the subscriptions.
        requests: sent in this order once connected, and again after each reconnection.
        answers: messages of the exchange that have to be answered.
        send_interval: least time (s) between two messages that we send, the exchange's limit.
        start_after: time (s) after the session's start to connect at, so that many connections stay within the
            exchange's limit of connection attempts.
        pace: what bounds all attempts, the first, further ones and replacements; a gentle default where None.
        replaceable: whether another connection takes its place before it ends, and so has to stand by.
        standby_of: of a connection that stands by: the `conn` of the one that it takes turns with.
        lifetime: time (s) after which the exchange cuts the connection; it is replaced before.
        idle_timeout: time (s) without a message after which the connection counts as silent and is replaced.
        ping_interval: time (s) without a byte after which a WebSocket ping asks whether anybody is there.
        ping_timeout: time (s) that the answer may take before the connection counts as dead.

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
        """The same without secrets, to be stored; no longer connects."""
        return msgspec.structs.replace(self, url=self.public_url, headers={}, token=None, proxies=DIRECT)

    @property
    def proxy(self) -> Proxy | None:
        """The proxy that the connection goes through; a token may send it to a host of another."""
        return self.proxies.of(self.url)

    @property
    def answers_due(self) -> int:
        """How many messages at most may answer what is sent before the first keep-alive: one a topic, or a request."""
        return len(self.first) + sum(max(len(request.topics), 1) for request in self.requests)

    @property
    def topics(self) -> tuple[RequestedTopic, ...]:
        """Every topic that is asked for on it."""
        return (*self.requested_by_url, *(topic for request in self.requests for topic in request.topics))

    @property
    def subscribed_after(self) -> float:
        """Time (s) after the session's start at which its last subscription is sent, handshakes taken for nothing."""
        messages = len(self.first) + len(self.requests)
        return self.start_after + self.wait + max(messages - 1, 0) * self.send_interval


def divided(plan: ConnectionPlan, topics: Sequence[str], parts: tuple[SubscriptionRequest, ...]) -> ConnectionPlan:
    """The plan with `parts` in the place of the requests that ask for nothing but `topics`."""
    whole = frozenset(topics)
    places = [place for place, one in enumerate(plan.requests) if one.topics and whole.issuperset(one.topic_names)]
    if not places:
        return plan
    kept = [one for place, one in enumerate(plan.requests) if place not in places]
    at = places[0]
    return msgspec.structs.replace(plan, requests=(*kept[:at], *parts, *kept[at:]))


def standbys(plans: Sequence[ConnectionPlan]) -> list[ConnectionPlan]:
    """The connections that stand by for `plans`, numbered behind the last of them."""
    first = max((plan.conn for plan in plans), default=-1) + 1
    replaceable = [plan for plan in plans if plan.replaceable]
    return [
        msgspec.structs.replace(plan, conn=first + nth, standby_of=plan.conn) for nth, plan in enumerate(replaceable)
    ]


def plan(targets: Sequence[Target], first_conn: int = 0, proxies: ProxyRules = DIRECT) -> list[ConnectionPlan]:
    """Put every topic of `targets` onto connections, within what the exchanges allow.

    Args:
        targets: what to record.
        first_conn: number of the first connection.
        proxies: which proxy holds for a feed that names none.

    Raises:
        ConfigError: it is more than an exchange allows, or a secret that a feed takes from the environment is missing,
            or what should be a proxy's address is none.

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
    """Which proxy holds for a feed, in place of `proxies` where it names one.

    Raises:
        ConfigError: what should be a proxy's address is none, or lacks a secret of the environment.

    """
    rules = proxies.for_feed(feed.resolved_proxy(), feed.name)
    try:
        for url in feed.urls():
            # what is filled in later may be a port
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
    """One of the feed's connections: its place (from 0), and how many they are."""
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
        # half of what the exchange allows: a full bucket gives twice its size in the first interval
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
    """Each connection of a target: its socket, and the topics that it has to ask for."""
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
            raise _error(f"{feed.name}: {error}; that is more than its limits allow") from error
        for share in shares or ([tuple(beside)] if topics else []):
            yield socket, share


def _topics(target: Target, socket: str) -> list[PlannedTopic]:
    """The topics on one of the feed's sockets, a symbol's together."""
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
            # only one of them would be asked for, and messages of the other be missed
            found = f"{one.topic!r} is a topic of {other.channel} and of {one.channel}"
            raise _error(f"{feed.name}: {found}: give their `topic`s different names")
    return list(known.values())


def _check_totals(feed: Feed, connections: Sequence[tuple[PlannedTopic, ...]]) -> None:
    """Make sure that an exchange's totals for one address are kept."""
    if feed.limits is None:
        return
    hint = "ask for fewer symbols or channels, or share them among machines with --shard"
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
            kept = "" if most == feed.limits.connections else ", of which one is kept for replacements"
            allowed = f"{feed.name} allows {feed.limits.connections} from one address{kept}"
            raise _error(f"{len(connections)} connections are needed, and {allowed}: {hint}")


def _replaceable(feed: Feed, idle_timeout: float | None) -> bool:
    renewed = any("renew" in (channel.on_gap, channel.on_stale) for channel in feed.channels.values())
    return bool(idle_timeout or renewed or feed.closing_notice or (feed.limits and feed.limits.lifetime))


def _start_after(feed: Feed, nth: int) -> float:
    """Seconds to wait before the feed's `nth` connection."""
    if feed.limits is None:
        return 0.0
    # Half of what the exchange allows, so that reconnections have room beside it.
    at_once = max(1, feed.limits.connects // 2)
    attempts = nth // at_once * feed.limits.connects_interval
    together = feed.limits.messages_per_second_in_all
    return attempts if together is None else max(attempts, nth / together)


def _error(text: str) -> Exception:
    # only here: receivers import this module, and have no use for YAML or pydantic
    from wsrec.feed.errors import ConfigError

    return ConfigError(text)
