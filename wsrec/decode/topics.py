"""What a topic stands for: the channel and the symbol that it asks for, read back out of the exchange's words."""

from __future__ import annotations

import re
from typing import NamedTuple

from wsrec.feed.schema import ConfigError, Feed


class Topic(NamedTuple):
    """A topic as a stream.

    Attributes:
        topic: in the exchange's words.
        channel: the channel's full name.
        channels: the names that its messages may carry.
        symbol: as the exchange writes it in messages; None: any.
        family: whether it stands for all symbols that begin with it and a dash.

    """

    topic: str
    channel: str
    channels: frozenset[str]
    symbol: str | None
    family: bool = False

    @property
    def name(self) -> str:
        """The shortest name that its messages may carry; of several as short always the same one."""
        return min(self.channels, key=lambda name: (len(name), name))

    def carries(self, symbol: str | None) -> bool:
        """Whether a message of one of its channels, with this symbol or none, may be the topic's."""
        if self.symbol is None or symbol is None:
            return self.symbol is None or self.family
        asked, found = self.symbol.upper(), symbol.upper()
        return found == asked or (self.family and found.startswith(f"{asked}-"))


class TopicReader:
    """Reads the topics of one feed.

    Args:
        feed: the feed.

    """

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        names: dict[str, set[str]] = {name: {name} for name in feed.channel_table}
        for template, channel in feed.channels.items():
            if not channel.parameters:
                names[template].update(channel.aliases)
        self._patterns = []
        for name, channel in feed.channel_table.items():
            escaped = re.escape(channel.topic).replace(re.escape("{symbol}"), "(.+)")
            self._patterns.append((re.compile(escaped, re.DOTALL), channel, name, frozenset(names[name])))

    def read(self, topic: str) -> Topic | None:
        """What a topic stands for; None where no channel of the feed has such topics."""
        found = []
        for pattern, channel, name, names in self._patterns:
            match = pattern.fullmatch(topic)
            if match is None:
                continue
            if not channel.per_symbol:
                return Topic(topic, name, names, None)
            try:
                symbol = self._feed.symbols.normalise(match[1]) if self._feed.symbols else match[1]
            except ConfigError:
                continue
            found.append(Topic(topic, name, names, symbol, channel.family))
        # the pattern that leaves the least to the symbol says most
        return min(found, key=lambda each: len(each.symbol or ""), default=None)
