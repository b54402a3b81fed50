"""What one message says, by a feed's field paths: decode all of it and walk the paths.

This is the plain way that says what is right; `wsrec.feed.fields` has faster ones for batches.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from wsrec.feed.schema import Channel, Extract, Feed, Match, Places, TimeUnit

INT64_MAX = (1 << 63) - 1
INT64_MIN = -(1 << 63)
NAME_MAX = 128
"""Longest channel or symbol (characters) that is believed; a longer one is read as none."""

SCALES = {TimeUnit.NS: 1, TimeUnit.US: 1_000, TimeUnit.MS: 1_000_000, TimeUnit.S: 1_000_000_000}
"""Nanoseconds in a unit of time."""
UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError, ArithmeticError)
"""What decoding a message may raise."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:?\d\d)?", re.ASCII | re.IGNORECASE
)
_INTEGER = re.compile(r"-?\d{1,19}", re.ASCII)
_NUMBER = re.compile(r"-?\d{1,20}(\.\d{1,20})?", re.ASCII)


class Row(NamedTuple):
    """What a message says; None where it says nothing.

    Attributes:
        channel: the exchange's name of the channel.
        symbol: as the exchange writes it.
        time: ns since the epoch.
        seq: the sequence number, the last one where a message covers a range.
        first: the first number of such a range.
        previous: the number of the message before, where messages name it.
        reset: whether its numbers may begin anew with it.

    """

    channel: str | None
    symbol: str | None
    time: int | None
    seq: int | None
    first: int | None
    previous: int | None
    reset: bool


NOTHING = Row(None, None, None, None, None, None, False)


class RowPlaces(NamedTuple):
    """Where the members of a `Row`, but for the channel, are in messages of one channel."""

    symbol: Places
    time: Places
    seq: Places
    first: Places
    previous: Places
    reset: tuple[Match, ...]


class MessageReader:
    """Reads a message by the field paths of one feed. Never raises, whatever the message holds.

    Args:
        feed: the feed; without `fields` every message says nothing.

    """

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._fields = feed.fields
        self._channels = feed.channel_by_any_name
        self._decode = msgspec.json.Decoder(float_hook=Decimal).decode

    def read(self, payload: memoryview | bytes) -> Row:
        """The fields of a message."""
        if self._fields is None:
            return NOTHING
        try:
            message = self._decode(payload)
        except UNREADABLE:
            return NOTHING
        channel = _first_text(message, self._fields.channel)
        known = self._channels.get(channel) if channel else None
        symbol, time, seq, first, previous, reset = row_places(self._feed, known)
        unit = self._fields.time_unit
        return Row(
            channel,
            _first_text(message, symbol),
            next((t for v in _found(message, time) if (t := _nanoseconds(v, unit)) is not None), None),
            _first_integer(message, seq),
            _first_integer(message, first),
            _first_integer(message, previous),
            any(walk(message, place.path) == place.match for place in reset),
        )


def row_places(feed: Feed, channel: Channel | None) -> RowPlaces:
    """Where messages of a channel, or of no known one, have their values."""
    fields, counted = feed.fields, feed.sequence
    if fields is None:
        return RowPlaces((), (), (), (), (), ())
    symbol, time = fields.symbol, fields.exchange_time
    seq = counted.exchange_seq if counted else ()
    resets = counted.resets if counted else None
    if channel is None:
        return RowPlaces(symbol, time, seq, (), (), resets.messages if resets else ())
    resets = channel.resets or resets
    return RowPlaces(
        symbol if channel.symbol is None else channel.symbol,
        time if channel.exchange_time is None else channel.exchange_time,
        channel.exchange_seq or seq,
        channel.seq_first,
        channel.seq_previous,
        resets.messages if resets else (),
    )


def integer_in(payload: bytes | memoryview, places: Places) -> int | None:
    """The integer at the first of the places of a message that has one; None where none has."""
    try:
        return _first_integer(msgspec.json.decode(payload), places)
    except UNREADABLE:
        return None


def extract_of(place: str | Extract) -> Extract:
    """A place written either way as an `Extract`."""
    return place if isinstance(place, Extract) else Extract(path=place)


def walk(message: Any, path: str) -> Any:
    """What lies under the dotted `path` in decoded JSON, or None."""
    for key in path.split("."):
        if not isinstance(message, dict):
            return None
        message = message.get(key)
    return message


def _found(message: Any, places: Places) -> Iterator[Any]:
    return (walk(message, extract_of(place).path) for place in places)


def _first_text(message: Any, places: Places) -> str | None:
    for place, value in zip(places, _found(message, places), strict=True):
        if isinstance(value, str) and len(value) <= NAME_MAX:
            taken = extract_of(place).take(value)
            if taken:
                return taken
    return None


def _first_integer(message: Any, places: Places) -> int | None:
    for value in _found(message, places):
        if isinstance(value, str) and _INTEGER.fullmatch(value):
            value = int(value)
        if type(value) is int and INT64_MIN <= value <= INT64_MAX:
            return value
    return None


def _nanoseconds(value: Any, unit: TimeUnit) -> int | None:
    """An exchange's time in ns since the epoch, exactly; None where it is none or beyond int64."""
    if unit is TimeUnit.ISO:
        return _iso_nanoseconds(value) if isinstance(value, str) else None
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = Decimal(value)
    if isinstance(value, Decimal):
        # Before it is multiplied out: 1e999999 would be a number of a million digits.
        if not value.is_finite() or value.adjusted() > 20:
            return None
    elif type(value) is not int:
        return None
    time = int(value * SCALES[unit])
    return time if INT64_MIN <= time <= INT64_MAX else None


def _iso_nanoseconds(text: str) -> int | None:
    found = _ISO.fullmatch(text)
    if found is None:
        return None
    date, clock, fraction, zone = found.groups()
    try:
        # datetime knows microseconds only, so the fraction goes beside it.
        moment = datetime.fromisoformat(f"{date}T{clock}{(zone or 'Z').upper()}")
        since = moment - _EPOCH
    except (ValueError, OverflowError):
        return None
    time = (since.days * 86_400 + since.seconds) * 1_000_000_000 + int((fraction or "0").ljust(9, "0"))
    return time if INT64_MIN <= time <= INT64_MAX else None
