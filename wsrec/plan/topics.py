"""Topics as streams: the channel and symbols of the messages that a topic delivers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from wsrec.plan.requests import RequestedTopic

if TYPE_CHECKING:
    from wsrec.feed.schema import Feed


class Topic(NamedTuple):
    """A topic as a stream.

    Attributes:
        topic: its name in events.
        channel: the channel's full name.
        channels: the names that its messages may carry.
        symbol: as the exchange writes it in messages; None: any.
        family: whether it delivers all symbols that begin with its symbol and a dash.

    """

    topic: str
    channel: str
    channels: frozenset[str]
    symbol: str | None
    family: bool = False

    @property
    def name(self) -> str:
        """The shortest name that its messages may carry; always the same one of several."""
        return min(self.channels, key=lambda name: (len(name), name))

    def carries(self, symbol: str | None) -> bool:
        """Whether a message of one of its channels, with this symbol or none, may belong to the topic."""
        if self.symbol is None or symbol is None:
            return self.symbol is None or self.family
        wanted, found = self.symbol.upper(), symbol.upper()
        return found == wanted or (self.family and found.startswith(f"{wanted}-"))


def stream_of(feed: Feed, requested: RequestedTopic) -> Topic | None:
    """The stream of a requested topic; None if the feed has no such channel."""
    channel = feed.channel_table.get(requested.channel)
    if channel is None:
        return None
    # a channel with parameters is several channels with the same aliases
    template = feed.channels.get(requested.channel)
    aliases = template.aliases if template is not None and not template.parameters else ()
    names = frozenset((requested.channel, *aliases))
    family = channel.family and requested.symbol is not None
    return Topic(requested.topic, requested.channel, names, requested.symbol, family)
