"""Topics onto connections: within every limit, on as few as that takes, each with its share of the messages."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wsrec.plan.requests import Ask, address, messages

if TYPE_CHECKING:
    from wsrec.feed.schema import Limits


class LimitExceededError(ValueError):
    """A limit of the exchange that not even a connection a topic would keep."""


def spread(asks: Sequence[Ask], beside: Sequence[Ask], limits: Limits, url: str) -> list[tuple[Ask, ...]]:
    """Which topics each connection asks for; the same ones come out whenever the same go in.

    Args:
        asks: every topic, once.
        beside: what each connection asks for too.
        limits: what the exchange allows on a connection.
        url: the socket's, to which topics may be appended.

    Raises:
        LimitExceededError: a single topic is too much.

    """
    if not asks:
        return []
    room = len(asks) if limits.streams_per_connection is None else limits.streams_per_connection - len(beside)
    if room < 1:
        raise LimitExceededError(f"{len(beside)} topics go onto every connection, and no more than that fit")
    a_channel = limits.streams_per_channel or len(asks)
    most = max(Counter(ask.channel for ask in asks).values())
    count = max(-(-len(asks) // room), -(-most // a_channel))
    while True:
        shares = _deal(asks, count, room, a_channel)
        broken = "the topics of a channel do not fit"
        if shares is not None:
            whole = [(*beside, *share) for share in shares]
            broken = next((why for share in whole if (why := _broken(share, limits, url))), "")
            if not broken:
                return whole
        if count >= len(asks):
            raise LimitExceededError(broken)
        count = min(len(asks), count + max(1, count // 8))


def _deal(asks: Sequence[Ask], count: int, room: int, a_channel: int) -> list[list[Ask]] | None:
    """Shares of even weight: the heaviest topic first, each to the connection that has least. None: they do not fit."""
    shares: list[list[int]] = [[] for _ in range(count)]
    channels: list[Counter[str]] = [Counter() for _ in range(count)]
    lightest = [(0.0, nth) for nth in range(count)]
    for index in sorted(range(len(asks)), key=lambda index: -asks[index].weight):
        ask = asks[index]
        passed = []
        while lightest and channels[lightest[0][1]][ask.channel] >= a_channel:
            passed.append(heapq.heappop(lightest))
        if not lightest:
            return None
        load, nth = heapq.heappop(lightest)
        shares[nth].append(index)
        channels[nth][ask.channel] += 1
        if len(shares[nth]) < room:
            passed.append((load + ask.weight, nth))
        for one in passed:
            heapq.heappush(lightest, one)
    return [[asks[index] for index in sorted(share)] for share in shares]


def _broken(share: Sequence[Ask], limits: Limits, url: str) -> str:
    """The limit that a connection with these topics does not keep; empty where it keeps all."""
    subscribe = share[0].subscribe
    if subscribe.url is not None:
        size = len(address(url, share))
        return f"the address has {size} characters" if size > (subscribe.longest or size) else ""
    try:
        texts = [message.text for message in messages(share)]
    except ValueError as error:
        raise LimitExceededError(str(error)) from error
    if len(texts) > 1 and any(ask.subscribe.replaces for ask in share):
        return f"{len(texts)} messages are needed, of which each replaces the one before"
    if limits.messages_per_connection is not None and len(texts) > limits.messages_per_connection:
        return f"{len(texts)} subscription messages on a connection"
    size = sum(len(text.encode()) for text in texts)
    if limits.bytes_per_connection is not None and size > limits.bytes_per_connection:
        return f"{size} bytes of subscription messages on a connection"
    return ""
