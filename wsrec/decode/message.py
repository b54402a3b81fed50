"""What one message says, by a feed's field paths: decode all of it and walk the paths.

This is the plain way that says what is right; `wsrec.decode.fields` has faster ones for batches.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from wsrec.feed.paths import scalar_text, steps, values
from wsrec.feed.schema import (
    Channel,
    ChannelIds,
    Extract,
    Feed,
    Fields,
    Match,
    NumberPlaces,
    Places,
    TimePlace,
    TimeUnit,
)

INT64_MAX = (1 << 63) - 1
INT64_MIN = -(1 << 63)
UINT64_MAX = (1 << 64) - 1
NAME_MAX = 128
"""Longest channel or symbol (characters) that is believed; a longer one is read as none."""

SCALES = {TimeUnit.NS: 1, TimeUnit.US: 1_000, TimeUnit.MS: 1_000_000, TimeUnit.S: 1_000_000_000}
"""Nanoseconds in a unit of time."""
_IDS_MAX = 4096
_TEXT_MAX = 1000
_NO_NAMES: Mapping[str, str] = {}
UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError, ArithmeticError)
"""What decoding a message may raise."""

EARLIEST = 946_684_800_000_000_000
"""2000 (ns since the epoch): an earlier time is none of an exchange's."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:?\d\d)?", re.ASCII | re.IGNORECASE
)
_NUMERAL = re.compile(r"-?\d+(\.\d+)?(e[+-]?\d{1,4})?", re.ASCII | re.IGNORECASE)
NUMERAL_MAX = 100
"""Longest text (characters) that is read as a number."""
_NUMBER = re.compile(r"-?\d{1,20}(\.\d{1,20})?", re.ASCII)


Ids = dict[int, dict[str, dict[str, str]]]
"""By connection, then id: names and what they stand for."""


def _decimal(text: str) -> Decimal | None:
    """A decimal; None for one whose exponent is beyond all measure."""
    try:
        return Decimal(text)
    except ArithmeticError:
        return None


_DECODE = msgspec.json.Decoder(float_hook=_decimal).decode


class Row(NamedTuple):
    """What a message says; None where it says nothing.

    Attributes:
        channel: the exchange's name of the channel.
        symbol: as the exchange writes it.
        time: ns since the epoch. One before `EARLIEST`, or beyond int64 (the nearest one then), is there only where no
            other place has one: it is to be told of and not believed.
        seq: the sequence number, the last one where a message covers a range: 0 to 2**64-1.
        first: the first number of such a range: -2**63 to 2**64-1.
        previous: the number of the message before, where messages name it: -2**63 to 2**64-1 (-1 stands for none).
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
    """Where the members of a `Row`, but for the channel, are in messages of one channel; every time with its unit."""

    symbol: tuple[Extract, ...]
    time: tuple[TimePlace, ...]
    seq: NumberPlaces
    first: NumberPlaces
    previous: NumberPlaces
    reset: tuple[Match, ...]


class MessageReader:
    """Reads a message by the field paths of one feed. Never raises, whatever the message holds.

    What ids stand for (`fields.ids`) is learned from the messages, connection by connection: they have to be read in
    the order in which they came.

    Args:
        feed: the feed; without `fields` every message says nothing.

    """

    def __init__(self, feed: Feed) -> None:
        self._fields = feed.fields
        self._channel = _extracts(feed.fields.channel) if feed.fields else ()
        self._channels = feed.channel_by_any_name
        self._places = {id(channel): row_places(feed, channel) for channel in self._channels.values()}
        self._unknown = row_places(feed, None)
        self._ids = _Ids(feed.fields.ids) if feed.fields and feed.fields.ids else None

    def read(self, payload: memoryview | bytes, conn: int = 0) -> Row:
        """The fields of a message of JSON that came on a connection."""
        if self._fields is None:
            return NOTHING
        try:
            message = _DECODE(payload)
        except UNREADABLE:
            message = decoded(payload)
            if message is None:
                return self._read_text(self._fields, payload)
        names = self._ids.names(message, conn) if self._ids else {}
        channel = _first_text(message, self._channel, names)
        known = self._channels.get(channel) if channel else None
        symbol, time, seq, first, previous, reset = self._unknown if known is None else self._places[id(known)]
        return Row(
            channel,
            _first_text(message, symbol, names, alike=True),
            _first_time(message, time),
            _first_integer(message, seq, 0, last=True),
            _first_integer(message, first),
            _first_integer(message, previous),
            any(_scalar(message, place.path) == place.match for place in reset),
        )

    def disconnected(self, conn: int) -> None:
        """Forget what ids stand for on a connection."""
        if self._ids is not None:
            self._ids.forget(conn)

    @property
    def ids(self) -> Ids:
        """What ids stand for, by connection and id."""
        return self._ids.known if self._ids is not None else {}

    def restore(self, ids: Ids) -> None:
        """Go on with what `ids` said before."""
        if self._ids is not None:
            self._ids.known = ids

    @staticmethod
    def _read_text(fields: Fields, payload: memoryview | bytes) -> Row:
        if not fields.texts or len(payload) > _TEXT_MAX:
            return NOTHING
        return NOTHING._replace(channel=fields.texts.get(bytes(payload).decode(errors="replace")))


class _Ids:
    """What ids stand for, connection by connection."""

    def __init__(self, ids: ChannelIds) -> None:
        self._model = ids
        self._names = {name: _extracts(places) for name, places in ids.names.items()}
        self.known: Ids = {}

    def names(self, message: Any, conn: int) -> Mapping[str, str]:
        """The names that the message's id stands for; learns them where the message announces one."""
        ids = self._model
        if not holds(message, ids.where):
            key = _scalar(message, ids.at)
            return self.known.get(conn, {}).get(key, {}) if key is not None else {}
        key = _scalar(message, ids.id)
        known = self.known.setdefault(conn, {})
        if key is not None and len(key) <= NAME_MAX and (key in known or len(known) < _IDS_MAX):
            found = {name: _first_text(message, places) for name, places in self._names.items()}
            known[key] = {name: text for name, text in found.items() if text is not None}
        return {}

    def forget(self, conn: int) -> None:
        self.known.pop(conn, None)


def row_places(feed: Feed, channel: Channel | None) -> RowPlaces:
    """Where messages of a channel, or of no known one, have their values."""
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
    return RowPlaces(_extracts(symbol), times, seq, first, previous, resets.messages if resets else ())


def integer_in(payload: bytes | memoryview, places: NumberPlaces) -> int | None:
    """The integer (0 to 2**64-1) at the first of the places of a message that has one; None where none has."""
    message = decoded(payload)
    return _first_integer(message, places, 0) if message is not None else None


def says(payload: bytes | memoryview, where: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether each path of a message has one of the texts beside it."""
    message = decoded(payload)
    return message is not None and holds(message, where)


def decoded(payload: bytes | memoryview) -> Any:
    """The message, decimals exact; None where it is no JSON."""
    try:
        return _DECODE(payload)
    except UNREADABLE:
        pass
    try:
        return _DECODE(mended(payload))
    except UNREADABLE:
        return None


_TOKEN = re.compile(rb'("[^"\\]*+(?:\\.[^"\\]*+)*+"?)(\s*:)?|-?\b(?:NaN|Infinity|\d{1000,})\b', re.DOTALL)
_ESCAPED = re.compile(rb"(?:[^\\]++|\\[^u]|\\u[0-9a-fA-F]{4})*+", re.DOTALL)
_PAIRED = re.compile(
    rb"(?:[^\\]++|\\[^u]|\\u(?![dD][89a-fA-F])....|\\u[dD][89abAB]..\\u[dD][c-fC-F]..)*+",
    re.DOTALL,
)


def mended(payload: bytes | memoryview) -> bytes:
    """A message that cannot be decoded for some of its values, with null in their place: they cost only themselves.

    They are NaN and Infinity, which writers of other languages let through; halves of UTF-16 pairs, which the grammar
    of JSON allows (RFC 8259, section 8.2); and integers of more than 1000 digits.

    Raises:
        ValueError: there is nothing of the kind in it.

    """
    text, count = bytes(payload), 0

    def replaced(found: re.Match[bytes]) -> bytes:
        nonlocal count
        string, colon = found[1], found[2] or b""
        if string is None:
            count += 1
            return b"null"
        if b"\\u" not in string or not _is_split(string):
            return found[0]
        count += 1
        # a key has to stay a text, and is none that anybody looks for
        return b'"\\ufffd"' + colon if colon else b"null"

    if text.lstrip()[:1] not in (b"{", b"["):
        raise ValueError("no JSON object or array")
    text = _TOKEN.sub(replaced, text)
    if not count:
        raise ValueError("nothing to mend")
    return text


def _is_split(string: bytes) -> bool:
    """Whether an escaped half of a UTF-16 pair is without its other half."""
    return bool(_ESCAPED.fullmatch(string)) and not _PAIRED.fullmatch(string)


def extract_of(place: str | Extract) -> Extract:
    """A place written either way as an `Extract`."""
    return place if isinstance(place, Extract) else Extract(path=place)


def _extracts(places: Places) -> tuple[Extract, ...]:
    return tuple(map(extract_of, places))


def _text(message: Any, place: Extract, names: Mapping[str, str], alike: bool) -> str | None:
    """The text that a place gives, or None. Of several values at a path the first counts; `alike`: if all are."""
    if (place.needs or place.where) and not counts(message, place, names):
        return None
    text: Any
    value = _same if alike else _first
    if place.join is not None:
        parts = [scalar_text(value(message, path, names)) for path in place.parts]
        text = place.joined([part for part in parts if part is not None]) if None not in parts else None
    else:
        text = place.value if place.path is None else value(message, place.path, names)
    return place.take(text) or None if isinstance(text, str) and len(text) <= NAME_MAX else None


def _first(message: Any, path: str, names: Mapping[str, str]) -> Any:
    return names.get(path[1:]) if path.startswith("$") else next(values(message, steps(path)), None)


def _same(message: Any, path: str, names: Mapping[str, str]) -> Any:
    """The text or number that all values at a path are; None where they differ, or are neither."""
    if path.startswith("$"):
        return names.get(path[1:])
    found = values(message, steps(path))
    value = next(found, None)
    if not isinstance(value, str | int):
        return None
    return value if all(type(other) is type(value) and other == value for other in found) else None


def _scalar(message: Any, path: str, names: Mapping[str, str] | None = None) -> str | None:
    return scalar_text(_first(message, path, names or {}))


def counts(message: Any, place: Extract, names: Mapping[str, str] | None = None) -> bool:
    """Whether the place's conditions hold."""
    needed = all(_first(message, path, names or {}) is not None for path in place.needs)
    return needed and holds(message, place.where, names)


def holds(message: Any, where: Mapping[str, tuple[str, ...]], names: Mapping[str, str] | None = None) -> bool:
    """Whether each path has one of the texts beside it."""
    return all(_scalar(message, path, names) in texts for path, texts in where.items())


def _first_text(
    message: Any, places: tuple[Extract, ...], names: Mapping[str, str] = _NO_NAMES, *, alike: bool = False
) -> str | None:
    for place in places:
        text = _text(message, place, names, alike)
        if text is not None:
            return text
    return None


def _first_integer(message: Any, places: NumberPlaces, least: int = INT64_MIN, *, last: bool = False) -> int | None:
    """The integer at the first place that has one: of several values there the first, or the last, counts."""
    for path in places:
        found = values(message, steps(path))
        value = next(found, None)
        if last:
            value = next(iter(deque(found, 1)), value)
        number = _integer(value)
        if number is not None and least <= number <= UINT64_MAX:
            return number
    return None


def _integer(value: Any) -> int | None:
    """The integer that a number is, in quotes or not, however it is written: `3`, `3.0`, `3e0`."""
    if isinstance(value, str):
        if len(value) > NUMERAL_MAX or not _NUMERAL.fullmatch(value):
            return None
        value = _decimal(value)
    if isinstance(value, Decimal):
        # before it is multiplied out: 1e9999 would be a number of ten thousand digits
        if not value.is_finite() or value.adjusted() > 20 or value != value.to_integral_value():
            return None
        return int(value)
    return value if type(value) is int else None


def _first_time(message: Any, places: tuple[TimePlace, ...]) -> int | None:
    """The time at the first place that has one after `EARLIEST` and within int64; else what the first has."""
    beyond: int | None = None
    for place in places:
        time = _time(message, place)
        if time is None:
            continue
        if EARLIEST < time < INT64_MAX:
            return time
        beyond = time if beyond is None else beyond
    return beyond


def _time(message: Any, place: TimePlace) -> int | None:
    """The time in ns since the epoch at a place, exactly, or the nearest int64; of several values the first counts."""
    value = next(values(message, steps(place.path)), None)
    if place.unit is not TimeUnit.ISO:
        return _nanoseconds(value, place.unit or TimeUnit.MS)
    return _iso_nanoseconds(value, place.offset) if isinstance(value, str) else None


def _nanoseconds(value: Any, unit: TimeUnit) -> int | None:
    """An exchange's time in ns since the epoch, exactly, or the nearest int64; None where it is none."""
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        value = Decimal(value)
    if isinstance(value, Decimal):
        if not value.is_finite():
            return None
        # Before it is multiplied out: 1e999999 would be a number of a million digits.
        if value.adjusted() > 20:
            return INT64_MAX if value > 0 else INT64_MIN
    elif type(value) is not int:
        return None
    return _within(int(value * SCALES[unit]))


def _within(time: int) -> int:
    return min(max(time, INT64_MIN), INT64_MAX)


def _iso_nanoseconds(text: str, offset: str | None) -> int | None:
    """RFC 3339 text in ns since the epoch; `offset` is the zone where the text names none."""
    found = _ISO.fullmatch(text)
    if found is None:
        return None
    date, clock, fraction, zone = found.groups()
    try:
        # datetime knows microseconds only, so the fraction goes beside it.
        moment = datetime.fromisoformat(f"{date}T{clock}{(zone or offset or 'Z').upper()}")
        since = moment - _EPOCH
    except (ValueError, OverflowError):
        return None
    return _within((since.days * 86_400 + since.seconds) * 1_000_000_000 + int((fraction or "0").ljust(9, "0")))


def fitting_unit(
    payload: bytes | memoryview, places: tuple[TimePlace, ...], time: int, tolerance: int
) -> TimeUnit | None:
    """The unit in which a message's time would lie near a moment; None where none would.

    Args:
        payload: the message, JSON.
        places: where its time is.
        time: the moment (ns since the epoch).
        tolerance: how near (ns).

    """
    message = decoded(payload)
    if message is None:
        return None
    for place in places:
        for unit in TimeUnit:
            found = _time(message, place.model_copy(update={"unit": unit}))
            if found is not None and abs(found - time) <= tolerance:
                return unit
    return None
