"""Field places: where a feed's messages carry their fields, by channel, and conditions on messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from wsrec.decode.json_text import decoded
from wsrec.decode.scalars import UINT64_MAX, integer_of, time_of
from wsrec.feed.channel import Channel
from wsrec.feed.fields import Extract, Match, NumberPlaces, Places, TimePlace
from wsrec.feed.paths import Every, first, scalar_text, steps, values
from wsrec.feed.schema import Feed
from wsrec.feed.values import TimeUnit
from wsrec.units import clean

NAME_MAX = 128
"""Longest channel or symbol (characters); a longer one is read as absent."""

Names = Mapping[str, str]
"""The names that a message's id stands for (`fields.ids`); paths that begin with `$` are looked up here."""
NO_NAMES: Names = {}


class RowPlaces(NamedTuple):
    """Places of the members of a `Row`, except the channel, in messages of one channel; every time with its unit."""

    symbol: tuple[Extract, ...]
    time: tuple[TimePlace, ...]
    seq: NumberPlaces
    first: NumberPlaces
    previous: NumberPlaces
    reset: tuple[Match, ...]


def row_places(feed: Feed, channel: Channel | None) -> RowPlaces:
    """The places for messages of a channel, or of no known one."""
    fields, counted = feed.fields, feed.sequence
    if fields is None:
        return RowPlaces((), (), (), (), (), ())
    symbol, time, unit = fields.symbol, fields.exchange_time, fields.time_unit
    seq: NumberPlaces = counted.exchange_seq if counted else ()
    first: NumberPlaces = ()
    previous: NumberPlaces = ()
    resets = counted.resets if counted else None
    if channel is not None:
        symbol = symbol if channel.symbol is None else channel.symbol
        time = time if channel.exchange_time is None else channel.exchange_time
        unit = channel.time_unit or unit
        seq, first, previous = channel.exchange_seq or seq, channel.seq_first, channel.seq_previous
        resets = channel.resets or resets
    full = [place if isinstance(place, TimePlace) else TimePlace(path=place) for place in time]
    times = tuple(place if place.unit else place.model_copy(update={"unit": unit}) for place in full)
    return RowPlaces(extracts_of(symbol), times, seq, first, previous, resets.messages if resets else ())


def extract_of(place: str | Extract) -> Extract:
    """A place in either notation as an `Extract`."""
    return place if isinstance(place, Extract) else Extract(path=place)


def extracts_of(places: Places) -> tuple[Extract, ...]:
    """Places in either notation as `Extract`s."""
    return tuple(map(extract_of, places))


Value = Callable[[Any, Names], Any]
"""A function from a decoded message and the names of its id to a value or None."""


def first_value(path: str) -> Value:
    """A function to the first value at a path. One or two keys, the most frequent paths, need no loop."""
    if path.startswith("$"):
        return lambda _message, names: names.get(path[1:])
    way = steps(path)
    if not 1 <= len(way) <= 2 or not all(isinstance(step, str) for step in way):
        return lambda message, _names: next(values(message, way), None)
    key, last = way[0], way[-1]

    # only a dict accepts texts as keys: anything else on the path raises

    def of_key(message: Any, _names: Names) -> Any:
        try:
            return message[key]
        except (KeyError, TypeError):
            return None

    def of_two_keys(message: Any, _names: Names) -> Any:
        try:
            return message[key][last]
        except (KeyError, TypeError):
            return None

    return of_key if len(way) == 1 else of_two_keys


def is_single(path: str) -> bool:
    """Whether a message has at most one value at the path."""
    return not any(isinstance(step, Every) for step in steps(path))


def scalar_at(message: Any, path: str, names: Names = NO_NAMES) -> str | None:
    """The first text, integer, true or false at a path as text (`wsrec.feed.paths.scalar_text`); else None."""
    return scalar_text(names.get(path[1:]) if path.startswith("$") else first(message, path))


def holds(message: Any, where: Mapping[str, tuple[str, ...]], names: Names = NO_NAMES) -> bool:
    """Whether each path has one of its texts."""
    return all(scalar_at(message, path, names) in texts for path, texts in where.items())


def counts(message: Any, place: Extract, names: Names = NO_NAMES) -> bool:
    """Whether the place's conditions, `needs` and `where`, hold."""
    there = (names.get(path[1:]) if path.startswith("$") else first(message, path) for path in place.needs)
    return all(value is not None for value in there) and holds(message, place.where, names)


def matches(payload: bytes | memoryview, where: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether each path of a message has one of its texts."""
    message = decoded(payload)
    return message is not None and holds(message, where)


def integer_in(payload: bytes | memoryview, places: NumberPlaces) -> int | None:
    """The integer (0 to 2**64-1) at the first of the places that has one; None if none has."""
    message = decoded(payload)
    for path in places:
        number = integer_of(first(message, path))
        if number is not None and 0 <= number <= UINT64_MAX:
            return number
    return None


def stated_time(payload: bytes | memoryview, places: tuple[TimePlace, ...]) -> str:
    """The exchange time as text: the first value at `places` that is a time, cut to 100 characters; empty if none is.

    Args:
        payload: the message, JSON.
        places: the places of its time.

    """
    message = decoded(payload)
    found = (value for place in places if time_of(value := first(message, place.path), place) is not None)
    return clean(str(next(found, "")), 100)


def fitting_unit(
    payload: bytes | memoryview, places: tuple[TimePlace, ...], time: int, tolerance: int
) -> TimeUnit | None:
    """The unit in which a message's time would be near a moment; None if there is none.

    Args:
        payload: the message, JSON.
        places: the places of its time.
        time: the moment (ns since the epoch).
        tolerance: how near (ns).

    """
    message = decoded(payload)
    for place in places:
        value = first(message, place.path)
        for unit in TimeUnit:
            found = time_of(value, place.model_copy(update={"unit": unit}))
            if found is not None and abs(found - time) <= tolerance:
                return unit
    return None
