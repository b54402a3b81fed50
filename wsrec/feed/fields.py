"""Channel, symbol, time and sequence numbers out of messages, by a feed's field paths.

Two ways to the same values. The fast one decodes only what is asked for, with msgspec Structs made from the first
place of each field: a head (the channel's name, and the part of the message that holds everything else, undecoded),
then that part by the Struct of its channel. Whatever does not fit exactly (another place, a number in quotes,
ISO times, a list where an object was expected, nonsense) takes the slow one: decode everything and walk the paths.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec.structs import astuple

from wsrec.feed.schema import Channel, Extract, Feed, Fields, Places, TimeUnit

INT64_MAX = (1 << 63) - 1
INT64_MIN = -(1 << 63)
NAME_MAX = 128
"""Longest channel or symbol (characters) that is believed; a longer one is read as none."""

# A hostile peer can name channels without end; beyond this many the memory of them starts again.
_KNOWN_MAX = 65_536
_SCALES = {TimeUnit.NS: 1, TimeUnit.US: 1_000, TimeUnit.MS: 1_000_000, TimeUnit.S: 1_000_000_000}
_UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError, ArithmeticError)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:?\d\d)?", re.ASCII | re.IGNORECASE
)
_INTEGER = re.compile(r"-?\d{1,19}", re.ASCII)
_NUMBER = re.compile(r"-?\d{1,20}(\.\d{1,20})?", re.ASCII)

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_MAX)]


class _Row(NamedTuple):
    symbol: str | None
    time: int | None
    seq: int | None
    first: int | None
    previous: int | None


_NOTHING = _Row(None, None, None, None, None)


class FieldColumns(NamedTuple):
    """What a batch of messages says, a value a message; None where a message says nothing.

    Attributes:
        channel: the exchange's name of the channel.
        symbol: as the exchange writes it.
        exchange_time: ns since the epoch.
        exchange_seq: the sequence number, the last one where a message covers a range.
        seq_first: the first number of such a range.
        seq_previous: the number of the message before, where messages name it.

    """

    channel: list[str | None]
    symbol: list[str | None]
    exchange_time: list[int | None]
    exchange_seq: list[int | None]
    seq_first: list[int | None]
    seq_previous: list[int | None]


class _Reading(NamedTuple):
    """How messages of one channel are read."""

    channel: str | None
    decode: Callable[[Any], Any] | None
    """The fast way from the message's body to a Struct of a row, or None: always the slow way."""


class FieldReader:
    """Reads messages by the field paths of one feed. Never raises, whatever the messages hold.

    Cost, best of 7 over the Binance USD-M recording of docs/feeds.md (93,954 memoryviews in batches of 1000, CPython
    3.11, one core of a small cloud machine; tests/feed/test_fields.py measures it again): bookTicker 0.90 us a
    message, trade 0.95 us, depth (1.6 KB) 3.5 us, all together 1.1 us. Decoding head and body apart reads the text
    twice; one Struct for all channels reads it once, but cannot have a key that is a number in one channel and a list
    in another (Binance's `a`), and for small messages it was no faster.

    Args:
        feed: the feed; without `fields` every value is None.

    """

    def __init__(self, feed: Feed) -> None:
        self._fields = feed.fields
        self._channels = feed.channel_by_any_name
        self._known: dict[str, _Reading] = {}
        self._loose = msgspec.json.Decoder(float_hook=Decimal)
        self._head, self._body_key = _head(feed.fields, list(self._channels.values())) if feed.fields else (None, None)

    def read(self, payloads: Sequence[memoryview | bytes]) -> FieldColumns:
        """The fields of each payload, in order."""
        if self._fields is None or not payloads:
            return FieldColumns._make([None] * len(payloads) for _ in FieldColumns._fields)
        channels: list[str | None] = []
        rows: list[_Row] = []
        slow_times: dict[int, int | None] = {}
        decode_head, nested, known = self._head, self._body_key is not None, self._known
        for payload in payloads:
            try:
                if decode_head is None:
                    raise _NotFastError
                head = decode_head(payload)
                channel, decode = known.get(head.text) or self._learn(self._fields, head.text)
                if decode is None:
                    raise _NotFastError
                row = astuple(decode(head.body if nested else payload))
            except _UNREADABLE:
                channel, row = self._read_slowly(self._fields, payload)
                slow_times[len(rows)] = row[1]
            channels.append(channel)
            rows.append(row)  # type: ignore[arg-type]
        symbol, times, seq, first, previous = map(list, zip(*rows, strict=True))
        scale = _SCALES.get(self._fields.time_unit, 1)
        time: list[Any] = [None if value is None else value * scale for value in times]
        for index, value in slow_times.items():
            time[index] = value
        return FieldColumns(channels, symbol, time, seq, first, previous)

    def _learn(self, fields: Fields, text: str) -> _Reading:
        """How to read the messages whose first channel place holds `text`."""
        name = _extract(fields.channel[0]).take(text)
        reading = _Reading(name, self._body_decoder(fields, self._channels.get(name)) if name else None)
        if len(self._known) >= _KNOWN_MAX:
            self._known.clear()
        self._known[text] = reading
        return reading

    def _body_decoder(self, fields: Fields, channel: Channel | None) -> Callable[[Any], Any] | None:
        """Decodes a body to a Struct of a row; None where the channel's first places do not allow it."""
        scale = _SCALES.get(fields.time_unit)
        if scale is None or fields.time_unit is TimeUnit.S:  # seconds come with fractions
            return None
        integer = Annotated[int, msgspec.Meta(ge=INT64_MIN, le=INT64_MAX)]
        time = Annotated[int, msgspec.Meta(ge=-(INT64_MAX // scale), le=INT64_MAX // scale)]
        types: tuple[Any, ...] = (_Name, time, integer, integer, integer)
        members: list[tuple[str, Any, Any]] = []
        keys: set[str] = set()
        for member, kind, places in zip(_Row._fields, types, _places(fields, channel), strict=True):
            if not places:
                # Never found: a field has to have a name, and this one with its space can only hold a null.
                members.append((member, None, msgspec.field(default=None, name=f"absent {member}")))
                continue
            key = _flat_key(places[0], self._body_key)
            if key is None or key in keys:
                return None
            keys.add(key)
            members.append((member, kind, msgspec.field(name=key)))
        return msgspec.json.Decoder(msgspec.defstruct("Body", members, kw_only=True, gc=False)).decode

    def _read_slowly(self, fields: Fields, payload: memoryview | bytes) -> tuple[str | None, _Row]:
        try:
            message = self._loose.decode(payload)
        except _UNREADABLE:
            return None, _NOTHING
        name = _first_text(message, fields.channel)
        symbol, time, seq, first, previous = _places(fields, self._channels.get(name) if name else None)
        return name, _Row(
            _first_text(message, symbol),
            next(
                (t for v in _found(message, time) if (t := _nanoseconds(v, fields.time_unit)) is not None),
                None,
            ),
            _first_integer(message, seq),
            _first_integer(message, first),
            _first_integer(message, previous),
        )


class _NotFastError(ValueError):
    """This message has to take the slow way."""


def _places(fields: Fields, channel: Channel | None) -> tuple[Places, Places, Places, Places, Places]:
    """Where the members of a `_Row` are in messages of a channel."""
    if channel is None:
        return fields.symbol, fields.exchange_time, (), (), ()
    return (
        fields.symbol if channel.symbol is None else channel.symbol,
        fields.exchange_time if channel.exchange_time is None else channel.exchange_time,
        channel.exchange_seq,
        channel.seq_first,
        channel.seq_previous,
    )


def _head(fields: Fields, channels: list[Channel]) -> tuple[Callable[[Any], Any] | None, str | None]:
    """The decoder of heads, and the key under which messages keep their body, if it is one key.

    No decoder where the channel's name is not at the top of the message.
    """
    if not fields.channel:
        return None, None
    place = _extract(fields.channel[0])
    wanted = [places[0] for channel in [None, *channels] for places in _places(fields, channel) if places]
    outer = {path.partition(".")[0] for path in (_extract(place).path for place in wanted) if "." in path}
    body_key = outer.pop() if len(outer) == 1 else None
    if "." in place.path or place.path == body_key:
        return None, None
    members: list[tuple[str, Any, Any]] = [("text", _Name, msgspec.field(name=place.path))]
    if body_key is not None:
        members.append(("body", msgspec.Raw, msgspec.field(name=body_key)))
    return msgspec.json.Decoder(msgspec.defstruct("Head", members, gc=False)).decode, body_key


def _flat_key(place: str | Extract, body_key: str | None) -> str | None:
    """The key in the body that is this place; None where it takes more than a key."""
    extract = _extract(place)
    if extract != Extract(path=extract.path):
        return None
    outer, dot, key = extract.path.rpartition(".")
    return key if (outer == body_key if dot else body_key is None) else None


def _extract(place: str | Extract) -> Extract:
    return place if isinstance(place, Extract) else Extract(path=place)


def walk(message: Any, path: str) -> Any:
    """What lies under the dotted `path` in decoded JSON, or None."""
    for key in path.split("."):
        if not isinstance(message, dict):
            return None
        message = message.get(key)
    return message


def _found(message: Any, places: Places) -> Iterator[Any]:
    return (walk(message, _extract(place).path) for place in places)


def _first_text(message: Any, places: Places) -> str | None:
    for place, value in zip(places, _found(message, places), strict=True):
        if isinstance(value, str) and len(value) <= NAME_MAX:
            taken = _extract(place).take(value)
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
    time = int(value * _SCALES[unit])
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
