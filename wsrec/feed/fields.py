"""Channel, symbol, time and sequence numbers out of messages, by a feed's field paths.

What a message says is defined by `wsrec.feed.message`, which decodes all of it. Two faster ways to the same values, of
which `FieldReader` is the one that runs: the compiled one where it was built, else the one in Python, as also
WSREC_PURE=1 asks for.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec.structs import astuple

from wsrec.feed.message import (
    INT64_MAX,
    INT64_MIN,
    NAME_MAX,
    NOTHING,
    SCALES,
    UNREADABLE,
    MessageReader,
    RowPlaces,
    extract_of,
    row_places,
)
from wsrec.feed.schema import Channel, Extract, Feed, Fields, Match, Places, TimeUnit

if TYPE_CHECKING:
    Scanner: Any
else:
    try:
        from wsrec.feed._fields import Scanner
    except ImportError:
        Scanner = None

# A hostile peer can name channels and symbols without end; beyond this many the memory of them starts again.
_KNOWN_MAX = 65_536
_EXPONENTS = {TimeUnit.NS: 0, TimeUnit.US: 3, TimeUnit.MS: 6, TimeUnit.S: 9, TimeUnit.ISO: -1}
_TEXT = pa.dictionary(pa.int32(), pa.string())

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_MAX)]


class FieldColumns(NamedTuple):
    """What a batch of messages says, a value a message; null where a message says nothing.

    Attributes:
        channel: dictionary (int32) of string, the exchange's name of the channel.
        symbol: dictionary (int32) of string, as the exchange writes it.
        exchange_time: int64, ns since the epoch.
        exchange_seq: int64, the sequence number, the last one where a message covers a range.
        seq_first: int64, the first number of such a range.
        seq_previous: int64, the number of the message before, where messages name it.
        seq_reset: bool, never null: whether the message says that its numbers begin anew.

    A dictionary may hold names that no message of the batch has.

    """

    channel: pa.DictionaryArray
    symbol: pa.DictionaryArray
    exchange_time: pa.Array
    exchange_seq: pa.Array
    seq_first: pa.Array
    seq_previous: pa.Array
    seq_reset: pa.BooleanArray


class _Nothing:
    """The columns of messages that say nothing, at no cost a message."""

    def __init__(self) -> None:
        self._make(0)

    def columns(self, count: int) -> FieldColumns:
        if count > len(self._texts):
            self._make(2 * count)
        text, number = self._texts[:count], self._numbers[:count]
        return FieldColumns(text, text, number, number, number, number, self._flags[:count])

    def _make(self, count: int) -> None:
        self._texts, self._numbers = pa.nulls(count, _TEXT), pa.nulls(count, pa.int64())
        self._flags = pa.array(np.zeros(count, np.bool_))


class CompiledFieldReader:
    """Reads messages by the field paths of one feed. Never raises, whatever the messages hold.

    Cost, best of 7 over the Binance USD-M recording of docs/feeds.md (93,954 messages in batches of 4000, CPython 3.11,
    one core of a small cloud machine whose other core was busy; tests/feed/test_fields.py measures it again):
    bookTicker 169 ns a message, trade 155 ns, depth (1.6 KB) 886 ns, all together 204 ns. About 15 us a batch are part
    of it.

    Args:
        feed: the feed; without `fields` every value is null, and no message is looked at.

    """

    def __init__(self, feed: Feed) -> None:
        self._nothing = _Nothing()
        self._tables = _Tables(feed, feed.fields) if feed.fields else None

    def read(self, payload: pa.Array, readable: npt.NDArray[np.bool_]) -> FieldColumns:
        """The fields of each message, in order.

        Args:
            payload: `large_binary` array of the messages.
            readable: whether each message is to be read; where it is not, its values are null.

        """
        if self._tables is None or not len(payload):
            return self._nothing.columns(len(payload))
        return self._tables.read(payload, readable)


class _Tables:
    """A feed's field paths as the tables of a `Scanner`, and the names that it has met."""

    def __init__(self, feed: Feed, fields: Fields) -> None:
        self._message = MessageReader(feed)
        # Channels that are read alike share a plan; the first is for messages of no known channel.
        plans: dict[RowPlaces, int] = {row_places(feed, None): 0}
        self._plan_of = {
            name: plans.setdefault(row_places(feed, channel), len(plans))
            for name, channel in feed.channel_by_any_name.items()
        }
        paths: dict[str, int] = {}
        ways: dict[tuple[bool, Extract | Match], int] = {}

        def numbers(places: Places) -> list[int]:
            return [paths.setdefault(extract_of(place).path, len(paths)) for place in places]

        def texts(places: Places, *, channel: bool = False) -> list[int]:
            return [ways.setdefault((channel, extract_of(place)), len(ways)) for place in places]

        def flags(places: tuple[Match, ...]) -> list[int]:
            return [ways.setdefault((False, place), len(ways)) for place in places]

        channel = texts(fields.channel, channel=True)
        programs = [
            (texts(plan.symbol), *map(numbers, (plan.time, plan.seq, plan.first, plan.previous)), flags(plan.reset))
            for plan in plans
        ]
        self._ways = list(ways)
        places = [paths.setdefault(way.path, len(paths)) for _, way in ways]
        self._scanner = Scanner(
            [path.split(".") for path in paths],
            places,
            channel,
            programs,
            _EXPONENTS[fields.time_unit],
            self._learn,
            self._read_message,
        )
        self._forget()

    def read(self, payload: pa.Array, readable: npt.NDArray[np.bool_]) -> FieldColumns:
        """See `CompiledFieldReader.read`."""
        if max(self._scanner.known, len(self._channels), len(self._symbols)) > _KNOWN_MAX:
            self._forget()
        count = len(payload)
        _, offsets, data = payload.buffers()
        start, size = (data.address, data.size) if data is not None else (0, 0)
        flags = np.ascontiguousarray(readable, np.bool_)
        columns = np.zeros(Scanner.room(count), np.uint8)
        self._scanner.read(
            start, start + size, offsets.address + payload.offset * 8, flags.ctypes.data, count, columns.ctypes.data
        )
        return self._columns(pa.py_buffer(columns), count)

    def _columns(self, memory: pa.Buffer, count: int) -> FieldColumns:
        """The columns in the memory that the scanner wrote (`Scanner.room`)."""
        sizes = [count * 8] * 4 + [count * 4] * 2 + [(count + 7) // 8] * 7
        starts = itertools.accumulate(sizes, initial=0)
        parts = [memory.slice(start, size) for start, size in zip(starts, sizes, strict=False)]
        numbers = [
            pa.Array.from_buffers(pa.int64(), count, [valid, data])
            for data, valid in zip(parts[:4], parts[6:10], strict=True)
        ]
        channel, symbol = (
            pa.DictionaryArray.from_buffers(_TEXT, count, [valid, data], names.array())
            for data, valid, names in zip(parts[4:6], parts[10:12], (self._channels, self._symbols), strict=True)
        )
        reset = pa.Array.from_buffers(pa.bool_(), count, [None, parts[12]])
        return FieldColumns._make((channel, symbol, *numbers, reset))

    def _forget(self) -> None:
        self._scanner.forget()
        self._channels, self._symbols = _Names(), _Names()

    def _learn(self, way: int, text: str) -> tuple[int, int]:
        """What `text` stands for: the name's code, and for a channel its plan; for a `Match`, 0 where it fits."""
        is_channel, extract = self._ways[way]
        if isinstance(extract, Match):
            return (0 if text == extract.match else -1), 0
        name = extract.take(text) or None
        if is_channel:
            return self._channels.code(name), self._plan_of.get(name, 0) if name else 0
        return self._symbols.code(name), 0

    def _read_message(self, payload: bytes) -> tuple[int | None, ...]:
        channel, symbol, *numbers = self._message.read(payload)
        return (self._channels.code(channel), self._symbols.code(symbol), *numbers)


class _Names:
    """Names by small numbers, which are their places in a dictionary column's dictionary."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self._array = pa.array([], pa.string())

    def __len__(self) -> int:
        return len(self._codes)

    def code(self, name: str | None) -> int:
        """The number of a name, which may be new; -1 for none."""
        return -1 if name is None else self._codes.setdefault(name, len(self._codes))

    def array(self) -> pa.Array:
        """All names so far."""
        if len(self._array) != len(self._codes):
            self._array = pa.array(list(self._codes), pa.string())
        return self._array


class _Reading(NamedTuple):
    """How messages of one channel are read."""

    channel: str | None
    decode: Callable[[Any], Any] | None
    """The fast way from the message's body to a Struct of a row, or None: always the plain way."""
    reset: str | None
    """The text in the row's last member that lets numbers begin anew."""


class PythonFieldReader:
    """Does what `CompiledFieldReader` does, in Python, at 1.5 us a message (depth 4.5 us, all together 1.9 us).

    It decodes only what is asked for, with msgspec Structs made from the first place of each field: a head (the
    channel's name, and the part of the message that holds everything else, undecoded), then that part by the Struct of
    its channel. Whatever does not fit exactly (another place, a number in quotes, ISO times, a list where an object was
    expected, nonsense) is read the plain way.

    Decoding head and body apart reads the text twice; one Struct for all channels reads it once, but cannot have a key
    that is a number in one channel and a list in another (Binance's `a`), and for small messages it was no faster.

    Args:
        feed: as for `CompiledFieldReader`.

    """

    def __init__(self, feed: Feed) -> None:
        self._nothing = _Nothing()
        self._fields = feed.fields
        self._channels = feed.channel_by_any_name
        self._known: dict[str, _Reading] = {}
        self._feed = feed
        if feed.fields:
            self._message = MessageReader(feed)
            self._head, self._body_key = _head(feed, feed.fields)

    def read(self, payload: pa.Array, readable: npt.NDArray[np.bool_]) -> FieldColumns:
        """See `CompiledFieldReader.read`."""
        if self._fields is None or not len(payload):
            return self._nothing.columns(len(payload))
        channels: list[str | None] = []
        rows: list[tuple[Any, ...]] = []
        plain_times: dict[int, int | None] = {}
        decode_head, nested, known = self._head, self._body_key is not None, self._known
        for message, wanted in zip(_views(payload), readable.tolist(), strict=True):
            try:
                if decode_head is None or not wanted:
                    raise _NotFastError
                str(message, "utf-8")  # what msgspec passes over it does not check
                head = decode_head(message)
                channel, decode, reset = known.get(head.text) or self._learn(self._fields, head.text)
                if decode is None:
                    raise _NotFastError
                *rest, text = astuple(decode(head.body if nested else message))
                row = (*rest, reset is not None and text == reset)
            except UNREADABLE:
                channel, *rest = self._message.read(message) if wanted else NOTHING
                row = tuple(rest)
                plain_times[len(rows)] = row[1]
            channels.append(channel)
            rows.append(row)
        symbols, times, seq, first, previous, resets = map(list, zip(*rows, strict=True))
        scale = SCALES.get(self._fields.time_unit, 1)
        time: list[Any] = [None if value is None else value * scale for value in times]
        for index, value in plain_times.items():
            time[index] = value
        return FieldColumns._make(
            (
                *(pa.array(column, pa.string()).dictionary_encode() for column in (channels, symbols)),
                *(pa.array(column, pa.int64()) for column in (time, seq, first, previous)),
                pa.array(resets, pa.bool_()),
            )
        )

    def _learn(self, fields: Fields, text: str) -> _Reading:
        """How to read the messages whose first channel place holds `text`."""
        name = extract_of(fields.channel[0]).take(text)
        channel = self._channels.get(name) if name else None
        matches = row_places(self._feed, channel).reset
        reset = matches[0].match if matches else None
        reading = _Reading(name, self._body_decoder(fields, channel) if name else None, reset)
        if len(self._known) >= _KNOWN_MAX:
            self._known.clear()
        self._known[text] = reading
        return reading

    def _body_decoder(self, fields: Fields, channel: Channel | None) -> Callable[[Any], Any] | None:
        """Decodes a body to a Struct of a row; None where the channel's first places do not allow it."""
        scale = SCALES.get(fields.time_unit)
        if scale is None or fields.time_unit is TimeUnit.S:  # seconds come with fractions
            return None
        integer = Annotated[int, msgspec.Meta(ge=INT64_MIN, le=INT64_MAX)]
        time = Annotated[int, msgspec.Meta(ge=-(INT64_MAX // scale), le=INT64_MAX // scale)]
        types: tuple[Any, ...] = (_Name, time, integer, integer, integer, str | None)
        members: list[tuple[str, Any, Any]] = []
        keys: set[str] = set()
        for member, kind, places in zip(RowPlaces._fields, types, row_places(self._feed, channel), strict=True):
            if not places:
                # Never found: a field has to have a name, and this one with its space can only hold a null.
                members.append((member, None, msgspec.field(default=None, name=f"absent {member}")))
                continue
            key = _flat_key(places[0], self._body_key)
            # a second text that may match is looked for where the first one does not
            if key is None or key in keys or (member == "reset" and len(places) > 1):
                return None
            keys.add(key)
            field = msgspec.field(name=key, default=None) if member == "reset" else msgspec.field(name=key)
            members.append((member, kind, field))
        return msgspec.json.Decoder(msgspec.defstruct("Body", members, kw_only=True, gc=False)).decode


class _NotFastError(ValueError):
    """This message has to be read the plain way."""


def _head(feed: Feed, fields: Fields) -> tuple[Callable[[Any], Any] | None, str | None]:
    """The decoder of heads, and the key under which messages keep their body, if it is one key.

    No decoder where the channel's name is not at the top of the message.
    """
    if not fields.channel:
        return None, None
    place = extract_of(fields.channel[0])
    channels = [None, *feed.channel_by_any_name.values()]
    wanted = [_path(places[0]) for channel in channels for places in row_places(feed, channel) if places]
    outer = {path.partition(".")[0] for path in wanted if "." in path}
    body_key = outer.pop() if len(outer) == 1 else None
    if "." in place.path or place.path == body_key:
        return None, None
    members: list[tuple[str, Any, Any]] = [("text", _Name, msgspec.field(name=place.path))]
    if body_key is not None:
        members.append(("body", msgspec.Raw, msgspec.field(name=body_key)))
    return msgspec.json.Decoder(msgspec.defstruct("Head", members, gc=False)).decode, body_key


def _path(place: str | Extract | Match) -> str:
    return place if isinstance(place, str) else place.path


def _flat_key(place: str | Extract | Match, body_key: str | None) -> str | None:
    """The key in the body that is this place; None where it takes more than a key."""
    if isinstance(place, Extract) and place != Extract(path=place.path):
        return None
    outer, dot, key = _path(place).rpartition(".")
    return key if (outer == body_key if dot else body_key is None) else None


def _views(payload: pa.Array) -> Iterator[memoryview]:
    """Each message of a `large_binary` array, where it lies."""
    _, offset_buffer, data_buffer = payload.buffers()
    offsets = np.frombuffer(offset_buffer, np.int64, len(payload) + 1, payload.offset * 8).tolist()
    data = memoryview(data_buffer if data_buffer is not None else b"").cast("B").toreadonly()
    return (data[start:stop] for start, stop in itertools.pairwise(offsets))


COMPILED = Scanner is not None and not os.environ.get("WSREC_PURE")
FieldReader: type[CompiledFieldReader | PythonFieldReader] = CompiledFieldReader if COMPILED else PythonFieldReader
"""The one that runs."""
