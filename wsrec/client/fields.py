"""Fields of messages in a callback, by a feed's field paths: those that the recorder stores as columns."""

from __future__ import annotations

import itertools
import weakref
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from wsrec.client.connection import Connection
from wsrec.client.implementation import Message
from wsrec.decode.reader import PythonFieldReader
from wsrec.feed.load import find_feed, load_feed
from wsrec.feed.packed import GZIP


class MessageFields(NamedTuple):
    """A message's fields; None where the feed has no path to one, or the message no value there.

    Attributes:
        channel, symbol: as the exchange writes them.
        exchange_time: the exchange's own event time, ns since the epoch.
        exchange_seq: the sequence number; the last one of a message that covers several.

    """

    channel: str | None
    symbol: str | None
    exchange_time: int | None
    exchange_seq: int | None


_NOTHING = MessageFields(None, None, None, None)


class MessageFieldReader:
    """Reads the fields of messages by the paths of one feed: `reader(message)` in the callback.

    Never raises for what a message contains. Some exchanges name a channel by an id that they give out when it is
    subscribed: the ids are learned per connection, so every message of a connection has to be read.

    Args:
        feed: name of a feed of the catalogue (`wsrec feeds list`), or path of a feed's YAML file.

    Raises:
        wsrec.ConfigError: there is no such feed, or its file is invalid.

    """

    def __init__(self, feed: str | Path) -> None:
        found = load_feed(Path(feed)) if isinstance(feed, Path) or feed.endswith((".yaml", ".yml")) else find_feed(feed)
        self._reader = PythonFieldReader(found)
        self._fields = found.fields
        self._numbers: weakref.WeakKeyDictionary[Connection, int] = weakref.WeakKeyDictionary()
        self._next = itertools.count()

    def __call__(self, message: Message) -> MessageFields:
        """The fields of a message whose callback is running."""
        if self._fields is None:
            return _NOTHING
        conn = self._number(message.connection)
        payload = message.data
        if payload[: len(GZIP)] == GZIP or not (message.is_text or self._fields.binary == "json"):
            return self._read_packed(bytes(payload), conn, binary=not message.is_text)
        return MessageFields._make(self._reader.read_message(payload, conn)[:4])

    def _number(self, connection: Connection) -> int:
        number = self._numbers.get(connection)
        if number is None:
            number = self._numbers[connection] = next(self._next)
            weakref.finalize(connection, self._reader.disconnected, number)
        return number

    def _read_packed(self, payload: bytes, conn: int, *, binary: bool) -> MessageFields:
        """The fields of a message that is compressed, or not JSON."""
        columns = self._reader.read(
            pa.array([payload], pa.large_binary()), np.ones(1, np.bool_), np.array([conn]), np.array([binary])
        )
        return MessageFields._make(column[0].as_py() for column in columns[:4])
