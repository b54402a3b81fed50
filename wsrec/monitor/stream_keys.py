"""Stream keys: the connection, channel and symbol of a message as one int64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wsrec.arrays import Int64s, Places, codes

# 16 bits for the connection, 15 for the channel, 32 for the symbol
_CONN_SHIFT = 47
_CHANNEL_SHIFT = 32
_OF_CONNECTION = (1 << _CONN_SHIFT) - 1
_SYMBOL = (1 << _CHANNEL_SHIFT) - 1


def stream_keys(conn: Any, channel: Any, symbol: Any) -> Any:
    """The key of a connection, channel and symbol, each given by its number. Keys sort in this order."""
    return conn << _CONN_SHIFT | channel << _CHANNEL_SHIFT | symbol


def connection_of(key: Any) -> Any:
    """The connection of a key."""
    return key >> _CONN_SHIFT


def without_connection(key: Any) -> Any:
    """A key without its connection: equal for the same channel and symbol on any connection."""
    return key & _OF_CONNECTION


def channel_of(key: Any) -> Any:
    """The channel of a key without its connection."""
    return key >> _CHANNEL_SHIFT


def symbol_of(key: Any) -> Any:
    """The symbol of a key."""
    return key & _SYMBOL


def by_stream(
    conns: npt.NDArray[Any], channels: Int64s, symbols: Int64s, channel_count: int, symbol_count: int
) -> tuple[Places, Int64s]:
    """Group messages by stream: the order that brings each stream's together, in their own order, and the sorted keys.

    Args:
        conns: the connection of each message.
        channels: the number of its channel, below `channel_count`.
        symbols: the number of its symbol, below `symbol_count`.
        channel_count: how many numbers there are for channels.
        symbol_count: how many there are for symbols.

    """
    conns = conns.astype(np.int64)
    keys = stream_keys(conns, channels, symbols)
    # The same order by smaller numbers, sorted by 16 bits at a time from the lowest, which takes linear time.
    left = (conns * channel_count + channels) * symbol_count + symbols
    order = np.argsort(left.astype(np.uint16), kind="stable")
    while (left := left >> 16).any():
        order = order[np.argsort(left[order].astype(np.uint16), kind="stable")]
    return order, keys[order]


class NameNumbers:
    """Lasting numbers for the names of a dictionary column, whose own codes may change from batch to batch.

    Args:
        number: returns the number of a name: above 0, or 0 for a name of no interest.

    """

    def __init__(self, number: Callable[[str], int]) -> None:
        self._number = number
        self._dictionary = pa.array([], pa.string())
        # the last one is that of null, whose code is made -1
        self._numbers: Int64s = np.zeros(1, np.int64)

    def of(self, column: pa.DictionaryArray) -> Int64s:
        """The number of each value; 0 for null."""
        dictionary, old = column.dictionary, self._dictionary
        if not dictionary.equals(old):
            # usually it is the old one, with some names added
            same = len(old) if dictionary[: len(old)].equals(old) else 0
            new = [self._number(name) for name in dictionary[same:].to_pylist()]
            self._numbers = np.concatenate((self._numbers[:same], np.array([*new, 0], np.int64)))
            self._dictionary = dictionary
        # no code is out of bounds; `wrap` turns the -1 of null into the last place
        numbers: Int64s = self._numbers.take(codes(column, -1), mode="wrap")
        return numbers
