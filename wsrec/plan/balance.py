"""Placement of topics on as few connections as the limits allow, balanced by weight."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wsrec.plan.requests import PlannedTopic, address, subscription_requests
from wsrec.units import plural

if TYPE_CHECKING:
    from wsrec.feed.limits import Limits


class LimitExceededError(ValueError):
    """A limit of the exchange is exceeded even with one topic per connection."""


def spread(
    topics: Sequence[PlannedTopic], beside: Sequence[PlannedTopic], limits: Limits, url: str
) -> list[tuple[PlannedTopic, ...]]:
    """Distribute topics over connections, deterministically.

    Args:
        topics: every topic, once.
        beside: topics that every connection has in addition.
        limits: the exchange's limits.
        url: the socket's URL, to which topics may be appended.

    Raises:
        LimitExceededError: a single topic exceeds a limit.

    """
    if not topics:
        return []
    room = len(topics) if limits.streams_per_connection is None else limits.streams_per_connection - len(beside)
    if room < 1:
        raise LimitExceededError(f"{len(beside)} topics are on every connection, and no others fit")
    a_channel = limits.streams_per_channel or len(topics)
    most = max(Counter(one.channel for one in topics).values())
    count = max(-(-len(topics) // room), -(-most // a_channel))
    while True:
        shares = _deal(topics, count, room, a_channel)
        broken = "the topics of a channel do not fit"
        if shares is not None:
            whole = [(*beside, *share) for share in shares]
            broken = next((why for share in whole if (why := _broken(share, limits, url))), "")
            if not broken:
                return whole
        if count >= len(topics):
            raise LimitExceededError(broken)
        count = min(len(topics), count + max(1, count // 8))


def _deal(topics: Sequence[PlannedTopic], count: int, room: int, a_channel: int) -> list[list[PlannedTopic]] | None:
    """Shares of even weight: heaviest topic first, each to the lightest connection. None if they do not fit."""
    shares: list[list[int]] = [[] for _ in range(count)]
    channels: list[Counter[str]] = [Counter() for _ in range(count)]
    lightest = [(0.0, nth) for nth in range(count)]
    for index in sorted(range(len(topics)), key=lambda index: -topics[index].weight):
        topic = topics[index]
        passed = []
        while lightest and channels[lightest[0][1]][topic.channel] >= a_channel:
            passed.append(heapq.heappop(lightest))
        if not lightest:
            return None
        load, nth = heapq.heappop(lightest)
        shares[nth].append(index)
        channels[nth][topic.channel] += 1
        if len(shares[nth]) < room:
            passed.append((load + topic.weight, nth))
        for one in passed:
            heapq.heappush(lightest, one)
    return [[topics[index] for index in sorted(share)] for share in shares]


def _broken(share: Sequence[PlannedTopic], limits: Limits, url: str) -> str:
    """The limit that a connection with these topics exceeds; empty if none."""
    subscribe = share[0].subscribe
    if subscribe.url is not None:
        size = len(address(url, share))
        return f"the address has {size} characters" if size > (subscribe.longest or size) else ""
    try:
        texts = [request.text for request in subscription_requests(share)]
    except ValueError as error:
        raise LimitExceededError(str(error)) from error
    if len(texts) > 1 and any(one.subscribe.replaces for one in share):
        return f"{len(texts)} messages are needed, but each one replaces the previous one"
    if limits.messages_per_connection is not None and len(texts) > limits.messages_per_connection:
        return f"{plural(len(texts), 'subscription message')} on a connection"
    size = sum(len(text.encode()) for text in texts)
    if limits.bytes_per_connection is not None and size > limits.bytes_per_connection:
        return f"{size} bytes of subscription messages on a connection"
    return ""
