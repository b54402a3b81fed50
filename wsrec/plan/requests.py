"""Subscription requests: the messages, or the URL, that request a connection's topics.

A request has a number, from 1 on each connection, which accompanies it to the sent frame, its row, and the
answer. Each topic keeps its channel and symbol, so they need not be parsed from the exchange's texts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from wsrec.feed.masking import mask_tail, mask_url
from wsrec.feed.placeholders import Raw, fill, fill_url, names

if TYPE_CHECKING:
    # only for the type checker: receivers import the plan, but neither YAML nor pydantic
    from wsrec.feed.channel import Channel
    from wsrec.feed.schema import Feed
    from wsrec.feed.subscribe import Subscribe


class RequestedTopic(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One topic of a connection.

    Attributes:
        topic: its name in events, and in the request if the feed defines that; unique on a connection.
        channel: the channel's full name.
        symbol: as the exchange's messages write it; None if the channel has none.
        key: the topic's name in acknowledgements; empty if it is the topic itself.

    """

    topic: str
    channel: str
    symbol: str | None = None
    key: str = ""

    @property
    def ack_key(self) -> str:
        """The topic's name in acknowledgements."""
        return self.key or self.topic


class SubscriptionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One message that requests topics.

    Attributes:
        number: its number on its connection, from 1; the same each time that it is sent.
        text: the message; placeholders for times and random values are filled in when it is sent.
        topics: the requested topics; empty for a text given by the user.
        undo: a message to send before this one is sent again.

    """

    number: int
    text: str
    topics: tuple[RequestedTopic, ...] = ()
    undo: str | None = None

    @property
    def topic_names(self) -> tuple[str, ...]:
        """The names of the topics, as in events."""
        return tuple(one.topic for one in self.topics)


class PlannedTopic(NamedTuple):
    """One topic to record, and how to request it.

    Attributes:
        requested: the topic.
        written: its symbol as written in topics; empty if the channel has none.
        subscribe: how to request it.
        argument: template of its item of `{arguments}`.
        channel_alias: the value of `{channel}`.
        weight: its message rate relative to others.
        idle_timeout: time (s) without a message after which it counts as stale.

    """

    requested: RequestedTopic
    written: str
    subscribe: Subscribe
    argument: str | None
    channel_alias: str
    weight: float
    idle_timeout: float | None

    @property
    def topic(self) -> str:
        """Its name."""
        return self.requested.topic

    @property
    def channel(self) -> str:
        """The channel's full name."""
        return self.requested.channel


def planned_topic(feed: Feed, channel: str, symbol: str = "") -> PlannedTopic:
    """The topic of a channel for a symbol, which is written as in the exchange's messages."""
    known: Channel = feed.channel_table[channel]
    subscribe = known.subscribe or feed.subscribe
    assert subscribe is not None
    written = feed.symbols.topic_case.apply(symbol) if feed.symbols else symbol
    topic = known.topic.replace("{symbol}", written)
    key = known.ack_key.replace("{symbol}", written) if feed.ack and feed.ack.key and known.ack_key else topic
    return PlannedTopic(
        requested=RequestedTopic(
            topic=topic,
            channel=channel,
            symbol=symbol if known.per_symbol else None,
            key="" if key == topic else key,
        ),
        written=written,
        subscribe=subscribe,
        argument=known.argument or subscribe.argument,
        channel_alias=(known.channel_alias or channel).replace("{symbol}", written),
        weight=known.weight,
        idle_timeout=known.idle_timeout,
    )


def address(url: str, topics: Sequence[PlannedTopic]) -> str:
    """The URL of a connection, with its topics if the URL requests them."""
    template = topics[0].subscribe.url if topics else None
    return url if template is None else url + fill_url(template, {"topics": [one.topic for one in topics]})


def public_address(url: str, topics: Sequence[PlannedTopic], parts: Collection[str]) -> str:
    """The URL without possible secrets; `parts` are public (`wsrec.feed.masking`)."""
    template = topics[0].subscribe.url if topics else None
    names = {"topics": [one.topic for one in topics]}
    return mask_url(url, parts) + ("" if template is None else fill_url(mask_tail(template, parts), names))


def subscription_requests(topics: Sequence[PlannedTopic], first: int = 1) -> Iterator[SubscriptionRequest]:
    """The requests for topics, in a deterministic order; `{id}` is the request's number.

    Args:
        topics: the topics; those requested by the URL are left out.
        first: number of the first request.

    Raises:
        ValueError: a single topic exceeds the exchange's limit of a message.

    """
    groups: dict[tuple[Subscribe, str], list[PlannedTopic]] = {}
    for one in topics:
        if one.subscribe.url is None:
            groups.setdefault((one.subscribe, one.channel_alias if one.subscribe.by_channel else ""), []).append(one)
    number = first
    for (subscribe, _), group in groups.items():
        start = 0
        while start < len(group):
            size = min(subscribe.most or len(group), len(group) - start)
            text = _filled(subscribe.message, group[start : start + size], {"id": number})
            while subscribe.longest is not None and len(text.encode()) > subscribe.longest:
                if size == 1:
                    raise ValueError(f"{group[start].topic} alone takes more than {subscribe.longest} bytes")
                size = (size + 1) // 2
                text = _filled(subscribe.message, group[start : start + size], {"id": number})
            part = group[start : start + size]
            # the `{id}` of an unsubscribe message is filled in when it is sent
            undo = _filled(subscribe.unsubscribe, part, {}) if subscribe.unsubscribe else None
            yield SubscriptionRequest(number=number, text=text, topics=tuple(one.requested for one in part), undo=undo)
            start += size
            number += 1


def _filled(template: str | None, topics: Sequence[PlannedTopic], more: dict[str, int]) -> str:
    assert template is not None
    first = topics[0]
    values: dict[str, str | int | Sequence[str]] = {
        "topics": [one.topic for one in topics],
        "symbols": _symbols(topics),
        "topic": first.topic,
        "channel": first.channel_alias,
        "symbol": first.written,
        **more,
    }
    if "arguments" in names(template):
        values["arguments"] = _arguments(topics)
    return fill(template, values)


def _arguments(topics: Sequence[PlannedTopic]) -> list[Raw]:
    """The items of `{arguments}`: one per topic, or one per channel if the template takes several symbols."""
    together: dict[tuple[str, str, str], list[PlannedTopic]] = {}
    for one in topics:
        argument = one.argument or ""
        apart = "" if "symbols" in names(argument) else one.topic
        together.setdefault((argument, one.channel_alias, apart), []).append(one)
    return [
        Raw(
            fill(
                argument,
                {"topic": same[0].topic, "channel": channel, "symbol": same[0].written, "symbols": _symbols(same)},
            )
        )
        for (argument, channel, _), same in together.items()
    ]


def _symbols(topics: Sequence[PlannedTopic]) -> list[str]:
    return list(dict.fromkeys(one.written for one in topics if one.written))
