"""The Python field reader: extracts channel, symbol, time and sequence numbers. The reference for the compiled reader.

Each message is decoded as a whole, and each field is taken from the first of its places with a value. A feed's places
are known beforehand, so they are compiled to functions (`_name`, `_time`, `_number`), one `_ChannelReader` per channel.
A message then costs one decode and a few calls.

`wsrec.decode.compiled_reader` reads the same values with compiled code, and leaves the messages that it does not decide
to this reader; the tests compare the two. `wsrec.decode.implementation` chooses one.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wsrec.arrays import Flags, views
from wsrec.decode.columns import NOTHING, FieldColumns, NullColumns, Row, columns_of
from wsrec.decode.json_text import UNREADABLE, decode, decoded
from wsrec.decode.packed import json_of
from wsrec.decode.places import (
    NAME_MAX,
    NO_NAMES,
    Names,
    RowPlaces,
    Value,
    counts,
    extracts_of,
    first_value,
    holds,
    is_single,
    row_places,
    scalar_at,
)
from wsrec.decode.scalars import EARLIEST, INT64_MAX, INT64_MIN, SCALES, UINT64_MAX, integer_of, time_of
from wsrec.feed.fields import ChannelIds, Extract, Match, NumberPlaces, TimePlace
from wsrec.feed.paths import scalar_text, steps, values
from wsrec.feed.schema import Feed
from wsrec.feed.values import TimeUnit

Ids = dict[int, dict[str, dict[str, str]]]
"""By connection, then id: names and their values."""

_IDS_MAX = 4096
_TEXT_MAX = 1000
# a hostile peer can name any number of channels and symbols
_KNOWN_MAX = 4096

_Name = Callable[[Any, Names], str | None]
_Integer = Callable[[Any], int | None]
_Siblings = Callable[[Any], tuple[str, int, int] | None]


class PythonFieldReader:
    """Reads messages by the field paths of one feed. Never raises, whatever a message contains.

    The names of ids (`fields.ids`) are learned from the messages of each connection, so messages must be read in the
    order of their arrival.

    Args:
        feed: the feed; without `fields` every value is null, and no message is parsed.

    Attributes:
        feed: the feed.

    """

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self._nulls = NullColumns()
        self._fields = feed.fields
        self._channel = _name(extracts_of(feed.fields.channel) if feed.fields else ())
        readers: dict[RowPlaces, _ChannelReader] = {}
        self._readers: dict[str | None, _ChannelReader] = {
            name: readers.setdefault(places := row_places(feed, channel), _ChannelReader.of(places))
            for name, channel in feed.channel_by_any_name.items()
        }
        self._unknown = _ChannelReader.of(row_places(feed, None))
        self._ids = _Ids(feed.fields.ids) if feed.fields and feed.fields.ids else None

    def read(
        self,
        payload: pa.Array,
        readable: Flags,
        conns: npt.NDArray[np.integer] | None = None,
        binary: Flags | None = None,
    ) -> FieldColumns:
        """The fields of each message, in order.

        Args:
            payload: `large_binary` array of the messages.
            readable: whether each message is to be read; the values of others are null.
            conns: the connection of each message; None if all arrived on one.
            binary: whether each message was binary; None if none was.

        """
        if self._fields is None or not len(payload):
            return self._nulls.columns(len(payload))
        payload, readable = json_of(self._fields, payload, readable, binary)
        read, each = self.read_message, itertools.repeat(0) if conns is None else conns.tolist()
        cells: list[Any] = []
        for message, wanted, conn in zip(views(payload), readable.tolist(), each, strict=False):
            cells += read(message, conn) if wanted else NOTHING
        return columns_of(cells)

    def read_message(self, payload: memoryview | bytes, conn: int = 0) -> Row:
        """The fields of one JSON message of a connection."""
        try:
            message = decode(payload)
        except UNREADABLE:
            message = decoded(payload)
            if message is None:
                return self._read_text(payload)
        names = self._ids.names(message, conn) if self._ids else NO_NAMES
        channel = self._channel(message, names)
        reader: _ChannelReader = self._readers.get(channel, self._unknown)
        siblings, symbol, time, seq, first, previous, reset = reader
        main = siblings(message) if siblings else None
        # most channels have no `first`, `previous` and `reset`: None saves a call
        return (
            channel,
            *(main or (symbol(message, names), time(message), seq(message))),
            first(message) if first else None,
            previous(message) if previous else None,
            reset(message) if reset else False,
        )

    def disconnected(self, conn: int) -> None:
        """Forget the ids learned on a connection (`fields.ids`)."""
        if self._ids is not None:
            self._ids.known.pop(conn, None)

    @property
    def ids(self) -> Ids:
        """The ids learned, by connection."""
        return self._ids.known if self._ids is not None else {}

    def restore(self, ids: Ids) -> None:
        """Restore the ids known at the end of the previous file."""
        if self._ids is not None:
            self._ids.known = ids

    def _read_text(self, payload: memoryview | bytes) -> Row:
        """The fields of a message that is not JSON: its whole text may belong to a channel (`fields.texts`)."""
        if self._fields is None or not self._fields.texts or len(payload) > _TEXT_MAX:
            return NOTHING
        return self._fields.texts.get(bytes(payload).decode(errors="replace")), *NOTHING[1:]


class _ChannelReader(NamedTuple):
    """Functions from a decoded message of one channel to the members of its `Row`; `siblings` to the first three."""

    siblings: _Siblings | None
    symbol: _Name
    time: _Integer
    seq: _Integer
    first: _Integer | None
    previous: _Integer | None
    reset: Callable[[Any], bool] | None

    @classmethod
    def of(cls, places: RowPlaces) -> _ChannelReader:
        """The functions for these places."""
        return cls(
            _siblings(places),
            _name(places.symbol, alike=True),
            _time(places.time),
            _number(places.seq, 0, last=True),
            _number(places.first, INT64_MIN) if places.first else None,
            _number(places.previous, INT64_MIN) if places.previous else None,
            _any_match(places.reset) if places.reset else None,
        )


def _siblings(places: RowPlaces) -> _Siblings | None:
    """A function to symbol, time and sequence number where they lie side by side at their first places, as most do.

    It takes a third of the time of three functions. It returns None for messages that need them; there is none if the
    places do.
    """
    if not (places.symbol and places.time and places.seq):
        return None
    symbol_place, time_place = places.symbol[0], places.time[0]
    scale = SCALES.get(time_place.unit or TimeUnit.MS)
    if symbol_place.path is None or symbol_place != Extract(path=symbol_place.path) or scale is None:
        return None
    ways = [steps(path) for path in (symbol_place.path, time_place.path, places.seq[0])]
    above = {way[:-1] for way in ways}
    if above not in ({()}, {ways[0][:1]}) or not all(isinstance(step, str) for way in ways for step in way):
        return None
    members, parent = itemgetter(*(way[-1] for way in ways)), itemgetter(ways[0][0]) if above != {()} else None

    def siblings(message: Any) -> tuple[str, int, int] | None:
        try:
            symbol, time, seq = members(parent(message) if parent else message)
        except (KeyError, TypeError):
            return None
        if type(symbol) is str and 0 < len(symbol) <= NAME_MAX and type(time) is int and type(seq) is int:
            time *= scale
            if EARLIEST < time < INT64_MAX and 0 <= seq <= UINT64_MAX:
                return symbol, time, seq
        return None

    return siblings


# each function handles the first place and calls a function for the following places: a loop over places costs more


def _nothing(*_: object) -> None:
    return None


def _name(places: Sequence[Extract], *, alike: bool = False) -> _Name:
    """A function to the name at the first of the places that has one; for several values at a path see `_value`."""
    if not places:
        return _nothing
    place, other = places[0], _name(places[1:], alike=alike)
    text = _text(place, alike)
    known: dict[str, str] = {}

    def learn(found: str) -> str | None:
        taken = place.take(found) or None if len(found) <= NAME_MAX else None
        if taken is not None:
            if len(known) >= _KNOWN_MAX:
                known.clear()
            known[found] = taken
        return taken

    def name(message: Any, names: Names) -> str | None:
        found = text(message, names)
        if type(found) is str:
            taken = known.get(found) or learn(found)
            if taken is not None:
                return taken
        return other(message, names)

    def name_if(message: Any, names: Names) -> str | None:
        return name(message, names) if counts(message, place, names) else other(message, names)

    return name_if if place.needs or place.where else name


def _text(place: Extract, alike: bool) -> Value:
    """A function to the text at a place, or None if the value is not a text."""
    if place.path is not None:
        return _value(place.path, alike)
    if place.join is None:
        return lambda _message, _names: place.value
    parts = [_value(path, alike) for path in place.parts]

    def joined(message: Any, names: Names) -> str | None:
        texts = [scalar_text(part(message, names)) for part in parts]
        known = [text for text in texts if text is not None]
        return place.joined(known) if len(known) == len(texts) else None

    return joined


def _value(path: str, alike: bool) -> Value:
    """A function to the first value at a path; with `alike`, to the text or number that all values there equal."""
    if not alike or path.startswith("$"):
        return first_value(path)
    way = steps(path)
    if is_single(path):
        return first_value(path)

    def same(message: Any, _names: Names) -> Any:
        found = values(message, way)
        value = next(found, None)
        if not isinstance(value, str | int):
            return None
        return value if all(type(other) is type(value) and other == value for other in found) else None

    return same


def _time(places: Sequence[TimePlace]) -> _Integer:
    """A function to the time at the first place with one after `EARLIEST` and within int64, else to the first time."""
    if not places:
        return _nothing
    place, others = places[0], _time(places[1:])
    value, scale = first_value(place.path), SCALES.get(place.unit or TimeUnit.MS, 0)

    def time(message: Any) -> int | None:
        found = value(message, NO_NAMES)
        moment = found * scale if type(found) is int and scale else time_of(found, place)
        if moment is not None and EARLIEST < moment < INT64_MAX:
            return moment
        other = others(message)
        if moment is None or (other is not None and EARLIEST < other < INT64_MAX):
            return other
        return min(max(moment, INT64_MIN), INT64_MAX)

    return time


def _number(places: NumberPlaces, least: int, *, last: bool = False) -> _Integer:
    """A function to the integer at the first place that has one: of several values at a path, the first or `last`."""
    if not places:
        return _nothing
    path, other = places[0], _number(places[1:], least, last=last)
    value = _last_value(path) if last and not is_single(path) else first_value(path)

    def number(message: Any) -> int | None:
        found = value(message, NO_NAMES)
        if type(found) is not int:
            found = integer_of(found)
        return found if found is not None and least <= found <= UINT64_MAX else other(message)

    return number


def _last_value(path: str) -> Value:
    way = steps(path)
    return lambda message, _names: next(iter(deque(values(message, way), 1)), None)


def _any_match(places: Sequence[Match]) -> Callable[[Any], bool]:
    """A function that checks whether one of the places has its text."""
    wanted = [(first_value(place.path), place.match) for place in places]
    return lambda message: any(scalar_text(value(message, NO_NAMES)) == text for value, text in wanted)


class _Ids:
    """The names of ids, by connection."""

    def __init__(self, ids: ChannelIds) -> None:
        self._model = ids
        self._names = {name: _name(extracts_of(places)) for name, places in ids.names.items()}
        self.known: Ids = {}

    def names(self, message: Any, conn: int) -> Mapping[str, str]:
        """The names of the message's id; learns them if the message announces one."""
        ids = self._model
        if not holds(message, ids.where):
            key = scalar_at(message, ids.at)
            return self.known.get(conn, {}).get(key, {}) if key is not None else {}
        key = scalar_at(message, ids.id)
        known = self.known.setdefault(conn, {})
        if key is not None and len(key) <= NAME_MAX and (key in known or len(known) < _IDS_MAX):
            found = {name: read(message, NO_NAMES) for name, read in self._names.items()}
            known[key] = {name: text for name, text in found.items() if text is not None}
        return {}
