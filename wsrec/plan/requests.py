"""What a connection says to get its topics: messages, or an address."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from wsrec.feed.masking import mask_tail, mask_url
from wsrec.feed.placeholders import Raw, fill, fill_url, names

if TYPE_CHECKING:
    # only for the type checker: receivers import the plan, and have no use for YAML or pydantic
    from wsrec.feed.schema import Channel, Feed, Subscribe


class Ask(NamedTuple):
    """One topic that is wanted.

    Attributes:
        topic: its name in events, and what is sent where the feed says so.
        ack_key: what an answer calls it.
        channel: the channel's full name.
        symbol: as it is written in topics; empty where the channel has none.
        subscribe: how it is asked for.
        argument: template of its item of `{arguments}`.
        asked_as: what `{channel}` stands for.
        weight: the messages that it brings, relative to others.
        idle_timeout: time (s) without a message after which it counts as silent.

    """

    topic: str
    ack_key: str
    channel: str
    symbol: str
    subscribe: Subscribe
    argument: str | None
    asked_as: str
    weight: float
    idle_timeout: float | None


def ask(feed: Feed, channel: str, symbol: str = "") -> Ask:
    """The topic of a channel for a symbol, given as the exchange's payload writes it."""
    known: Channel = feed.channel_table[channel]
    subscribe = known.subscribe or feed.subscribe
    assert subscribe is not None
    written = feed.symbols.topic_case.apply(symbol) if feed.symbols else symbol
    return Ask(
        topic=known.topic.replace("{symbol}", written),
        ack_key=(known.ack_key or known.topic).replace("{symbol}", written),
        channel=channel,
        symbol=written,
        subscribe=subscribe,
        argument=known.argument or subscribe.argument,
        asked_as=(known.asked_as or channel).replace("{symbol}", written),
        weight=known.weight,
        idle_timeout=known.idle_timeout,
    )


def address(url: str, asks: Sequence[Ask]) -> str:
    """The URL of a connection whose address asks; the socket's own where messages do."""
    template = asks[0].subscribe.url if asks else None
    return url if template is None else url + fill_url(template, {"topics": [one.topic for one in asks]})


def public_address(url: str, asks: Sequence[Ask], parts: Collection[str]) -> str:
    """The same without what may be secret; `parts` are not (`wsrec.feed.masking`)."""
    template = asks[0].subscribe.url if asks else None
    tail = "" if template is None else fill_url(mask_tail(template, parts), {"topics": [one.topic for one in asks]})
    return mask_url(url, parts) + tail


class Message(NamedTuple):
    """A message that asks for topics.

    Attributes:
        text: the message.
        asks: what it asks for.
        undo: the message that ends these subscriptions, `{id}` not filled in; None where the exchange wants none.

    """

    text: str
    asks: tuple[Ask, ...]
    undo: str | None


def messages(asks: Sequence[Ask], *, numbered: bool = True) -> Iterator[Message]:
    """The messages that ask for topics, in an order that does not depend on chance.

    Args:
        asks: what is asked for.
        numbered: whether `{id}` is filled in, from 1 on.

    Raises:
        ValueError: one topic alone is more than the exchange takes in a message.

    """
    groups: dict[tuple[Subscribe, str], list[Ask]] = {}
    for one in asks:
        if one.subscribe.url is None:
            groups.setdefault((one.subscribe, one.asked_as if one.subscribe.by_channel else ""), []).append(one)
    number = 0
    for (subscribe, _), group in groups.items():
        start = 0
        while start < len(group):
            number += 1
            size = min(subscribe.most or len(group), len(group) - start)
            text = _filled(subscribe.message, group[start : start + size], {"id": number} if numbered else {})
            while subscribe.longest is not None and len(text.encode()) > subscribe.longest:
                if size == 1:
                    raise ValueError(f"{group[start].topic} alone takes more than {subscribe.longest} bytes")
                size = (size + 1) // 2
                text = _filled(subscribe.message, group[start : start + size], {"id": number} if numbered else {})
            part = tuple(group[start : start + size])
            yield Message(text, part, _filled(subscribe.unsubscribe, part, {}) if subscribe.unsubscribe else None)
            start += size


def _filled(template: str | None, asks: Sequence[Ask], more: dict[str, int]) -> str:
    assert template is not None
    first = asks[0]
    values: dict[str, str | int | Sequence[str]] = {
        "topics": [one.topic for one in asks],
        "symbols": _symbols(asks),
        "topic": first.topic,
        "channel": first.asked_as,
        "symbol": first.symbol,
        **more,
    }
    if "arguments" in names(template):
        values["arguments"] = _arguments(asks)
    return fill(template, values)


def _arguments(asks: Sequence[Ask]) -> list[Raw]:
    """The items of `{arguments}`: one a topic, or one a channel where the template has many symbols."""
    together: dict[tuple[str, str, str], list[Ask]] = {}
    for one in asks:
        argument = one.argument or ""
        apart = "" if "symbols" in names(argument) else one.topic
        together.setdefault((argument, one.asked_as, apart), []).append(one)
    return [
        Raw(
            fill(
                argument,
                {"topic": same[0].topic, "channel": channel, "symbol": same[0].symbol, "symbols": _symbols(same)},
            )
        )
        for (argument, channel, _), same in together.items()
    ]


def _symbols(asks: Sequence[Ask]) -> list[str]:
    return list(dict.fromkeys(one.symbol for one in asks if one.symbol))
