"""Channel, symbol, time and sequence numbers out of messages, by a feed's field paths.

What a message says is defined by `wsrec.decode.message`, which decodes all of it. Two faster ways to the same values,
of which `FieldReader` is the one that runs: the compiled one where it was built, else the one in Python, as also
WSREC_PURE=1 asks for.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from msgspec.structs import astuple

from wsrec.decode.arrays import large_binary
from wsrec.decode.message import (
    EARLIEST,
    INT64_MAX,
    INT64_MIN,
    NAME_MAX,
    NOTHING,
    SCALES,
    UNREADABLE,
    Ids,
    MessageReader,
    RowPlaces,
    extract_of,
    row_places,
)
from wsrec.decode.packed import GZIP, unpacked
from wsrec.feed.paths import Every, NotScannableError, scalar_text, steps
from wsrec.feed.schema import Extract, Feed, Fields, Match, TimePlace, TimeUnit

if TYPE_CHECKING:
    Scanner: Any
else:
    try:
        from wsrec.decode._fields import Scanner
    except ImportError:
        Scanner = None

# A hostile peer can name channels and symbols without end; beyond this many the memory of them starts again.
_KNOWN_MAX = 65_536
_SCALAR = re.compile(r"true|false|-?[0-9]+")
_VALUE = 2  # from here on a scanner tells a value: of text 2, of a whole number, true or false 3
_THERE, _FIRST, _ALIKE = range(3)  # what counts of the values at a path, as a `Scanner` takes it
_EXPONENTS = {TimeUnit.NS: 0, TimeUnit.US: 3, TimeUnit.MS: 6, TimeUnit.S: 9, TimeUnit.ISO: -1}
_TEXT = pa.dictionary(pa.int32(), pa.string())
_SIGNED = pa.decimal128(20)
_NUMBERS = (pa.int64(), pa.uint64(), _SIGNED, _SIGNED)
# what the compressed messages of a batch may inflate to together
_BATCH_MAX = 256 << 20
Bools = npt.NDArray[np.bool_]

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_MAX)]


class FieldColumns(NamedTuple):
    """What a batch of messages says, a value a message; null where a message says nothing.

    Attributes:
        channel: dictionary (int32) of string, the exchange's name of the channel.
        symbol: dictionary (int32) of string, as the exchange writes it.
        exchange_time: int64, ns since the epoch; also one that is not to be believed (`wsrec.decode.message.Row`).
        exchange_seq: uint64, the sequence number, the last one where a message covers a range.
        seq_first: decimal of 20 digits (-2**63 to 2**64-1), the first number of such a range.
        seq_previous: the same, the number of the message before, where messages name it.
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
        text = self._texts[:count]
        return FieldColumns._make([text, text, *(number[:count] for number in self._numbers), self._flags[:count]])

    def _make(self, count: int) -> None:
        self._texts, self._numbers = pa.nulls(count, _TEXT), [pa.nulls(count, kind) for kind in _NUMBERS]
        self._flags = pa.array(np.zeros(count, np.bool_))


class CompiledFieldReader:
    """Reads messages by the field paths of one feed. Never raises, whatever the messages hold.

    Cost, best of 7 over the Binance USD-M recording of docs/feeds.md (93,954 messages in batches of 4000, CPython 3.11,
    one core of a small cloud machine whose other core was busy; tests/decode/test_fields.py measures it again):
    bookTicker 169 ns a message, trade 155 ns, depth (1.6 KB) 886 ns, all together 204 ns. About 15 us a batch are part
    of it.

    Args:
        feed: the feed; without `fields` every value is null, and no message is looked at.

    """

    def __init__(self, feed: Feed) -> None:
        self._nothing = _Nothing()
        self._binary = feed.fields.binary if feed.fields else "json"
        self._reader: _Tables | _Plain | None = None
        if feed.fields:
            try:
                self._reader = _Tables(feed, feed.fields)
            except NotScannableError:
                self._reader = _Plain(feed)

    def read(
        self,
        payload: pa.Array,
        readable: Bools,
        conns: npt.NDArray[np.integer] | None = None,
        binary: Bools | None = None,
    ) -> FieldColumns:
        """The fields of each message, in order.

        Args:
            payload: `large_binary` array of the messages.
            readable: whether each message is to be read; where it is not, its values are null.
            conns: the connection of each; all came on one where None.
            binary: whether each was a binary message; none was where None.

        """
        if self._reader is None or not len(payload):
            return self._nothing.columns(len(payload))
        payload, readable = json_of(self._binary, payload, readable, binary)
        return self._reader.read(payload, readable, conns)

    def disconnected(self, conn: int) -> None:
        """Forget what was learned on a connection (`fields.ids`)."""
        if isinstance(self._reader, _Plain):
            self._reader.message.disconnected(conn)

    @property
    def ids(self) -> Ids:
        """What was learned on connections."""
        return self._reader.message.ids if isinstance(self._reader, _Plain) else {}

    def restore(self, ids: Ids) -> None:
        """Go on with what `ids` said before."""
        if isinstance(self._reader, _Plain):
            self._reader.message.restore(ids)


def json_of(kind: str, payload: pa.Array, readable: Bools, binary: Bools | None) -> tuple[pa.Array, Bools]:
    """The JSON in messages of a feed whose binary ones are of this kind (`fields.binary`), and which can be read."""
    if binary is None or kind == "json":
        return payload, readable
    wanted = readable & binary
    if kind == "opaque":
        return payload, readable & ~wanted
    wanted |= readable & pc.starts_with(payload, pattern=GZIP).to_numpy(zero_copy_only=False)
    if not wanted.any():
        return payload, readable
    readable = readable & ~wanted
    messages = [message if is_plain else b"" for message, is_plain in zip(_views(payload), readable, strict=True)]
    left = _BATCH_MAX
    for row, message in zip(np.flatnonzero(wanted).tolist(), _views(payload.filter(pa.array(wanted))), strict=True):
        data = unpacked(message) if left > 0 else None
        if data is not None:
            messages[row], readable[row] = data, True
            left -= len(data)
    return large_binary(messages), readable


class _Plain:
    """Reads every message the plain way: what feeds need whose fields depend on what came before."""

    def __init__(self, feed: Feed) -> None:
        self.message = MessageReader(feed)

    def read(self, payload: pa.Array, readable: Bools, conns: npt.NDArray[np.integer] | None) -> FieldColumns:
        """See `CompiledFieldReader.read`."""
        each = itertools.repeat(0) if conns is None else conns.tolist()
        return columns_of(
            [
                self.message.read(message, conn) if wanted else NOTHING
                for message, wanted, conn in zip(_views(payload), readable.tolist(), each, strict=False)
            ]
        )


def columns_of(rows: Sequence[tuple[Any, ...]]) -> FieldColumns:
    """Rows as columns."""
    channel, symbol, *numbers, reset = (list(column) for column in zip(*rows, strict=True))
    names = [pa.array(column, pa.string()).dictionary_encode() for column in (channel, symbol)]
    counted = [pa.array(column, kind) for column, kind in zip(numbers, _NUMBERS, strict=True)]
    return FieldColumns._make([*names, *counted, pa.array(reset, pa.bool_())])


class _Way:
    """A way of taking a name from the values at some paths.

    Args:
        place: a place of a name, or a text that has to be there.
        channel: whether it is the channel's name.

    Attributes:
        paths: the paths, each with what counts there: that there is a value, the first one, or the one that all are.
        is_text: whether it takes a text from a single path, whatever else the message holds.

    """

    def __init__(self, place: Extract | Match, *, channel: bool = False) -> None:
        self.is_channel = channel
        self.place = place
        if isinstance(place, Match):
            # what may be a number, true or false as well is not a text alone
            self.paths, self.is_text = [(place.path, _FIRST)], not _SCALAR.fullmatch(place.match)
            return
        self._sources = place.parts if place.path is None else (place.path,)
        self.paths = [(path, _THERE) for path in place.needs]
        self.paths += [(path, _FIRST) for path in place.where]
        self.paths += [(path, _FIRST if channel else _ALIKE) for path in self._sources]
        self.is_text = place.path is not None and len(self.paths) == 1

    def name(self, found: bytes) -> str | None:
        """The name, of what a `Scanner` found at the paths."""
        place = self.place
        if self.is_text:
            text: str | None = found.decode()
        elif isinstance(place, Match):
            text = found[2:].decode() if found[0] >= _VALUE else None
        else:
            text = self._joined(place, found)
        if isinstance(place, Match):
            return text if text == place.match else None
        return place.take(text) or None if text is not None and len(text) <= NAME_MAX else None

    def _joined(self, place: Extract, found: bytes) -> str | None:
        parts: list[tuple[int, str]] = []
        at = 0
        while at < len(found):
            kind, length = found[at], found[at + 1] if found[at] >= _VALUE else -1
            parts.append((kind, found[at + 2 : at + 2 + length].decode() if length >= 0 else ""))
            at += 2 + length
        needs, rest = parts[: len(place.needs)], parts[len(place.needs) :]
        where, sources = rest[: len(place.where)], rest[len(place.where) :]
        met = all(kind for kind, _ in needs) and all(
            kind >= _VALUE and text in texts for (kind, text), texts in zip(where, place.where.values(), strict=True)
        )
        if not met:
            return None
        if place.path is not None:
            kind, text = sources[0]
            return text if kind == _VALUE else None
        if place.join is not None:
            return place.joined([text for _, text in sources]) if all(kind >= _VALUE for kind, _ in sources) else None
        return place.value


class _Tables:
    """A feed's field paths as the tables of a `Scanner`, and the names that it has met.

    Raises:
        NotScannableError: the paths, or what is wanted at them, are more than a scanner can do.

    """

    def __init__(self, feed: Feed, fields: Fields) -> None:
        if fields.ids is not None:
            raise NotScannableError("ids have to be learned in the order of messages")
        self._message = MessageReader(feed)
        # Channels that are read alike share a plan; the first is for messages of no known channel.
        plans: dict[RowPlaces, int] = {row_places(feed, None): 0}
        self._plan_of = {
            name: plans.setdefault(row_places(feed, channel), len(plans))
            for name, channel in feed.channel_by_any_name.items()
        }
        paths: dict[str, int] = {}
        ways: dict[tuple[bool, Extract | Match], int] = {}

        def path(text: str) -> int:
            return paths.setdefault(text, len(paths))

        def texts(places: Iterable[str | Extract | Match], *, channel: bool = False) -> list[int]:
            wanted = (place if isinstance(place, Match) else extract_of(place) for place in places)
            return [ways.setdefault((channel, place), len(ways)) for place in wanted]

        channel = texts(fields.channel, channel=True)
        programs = [
            (
                texts(plan.symbol),
                [(path(place.path), _exponent(place)) for place in plan.time],
                *([path(place) for place in places] for places in (plan.seq, plan.first, plan.previous)),
                texts(plan.reset),
            )
            for plan in plans
        ]
        self._ways = [_Way(place, channel=is_channel) for is_channel, place in ways]
        parts = [
            path(way.paths[0][0]) if way.is_text else [(path(text), counts) for text, counts in way.paths]
            for way in self._ways
        ]
        self._scanner = Scanner(
            [_scanned(text) for text in paths], parts, channel, programs, self._learn, self._read_message
        )
        self._forget()

    def read(self, payload: pa.Array, readable: Bools, conns: object) -> FieldColumns:
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
        sizes = [count * 8] * 2 + [count * 16] * 2 + [count * 4] * 2 + [(count + 7) // 8] * 7
        starts = itertools.accumulate(sizes, initial=0)
        parts = [memory.slice(start, size) for start, size in zip(starts, sizes, strict=False)]
        numbers = [
            pa.Array.from_buffers(kind, count, [valid, data])
            for kind, data, valid in zip(_NUMBERS, parts[:4], parts[6:10], strict=True)
        ]
        channel, symbol = (
            pa.DictionaryArray.from_buffers(_TEXT, count, [valid, data], names.array())
            for data, valid, names in zip(parts[4:6], parts[10:12], (self._channels, self._symbols), strict=True)
        )
        reset = pa.Array.from_buffers(pa.bool_(), count, [None, parts[12]])
        return FieldColumns._make([channel, symbol, *numbers, reset])

    def _forget(self) -> None:
        self._scanner.forget()
        self._channels, self._symbols = _Names(), _Names()

    def _learn(self, way: int, found: bytes) -> tuple[int, int]:
        """What was found stands for: the name's code, and for a channel its plan; 0 where a `Match` is met."""
        taken = self._ways[way]
        name = taken.name(found)
        if taken.is_channel:
            return self._channels.code(name), self._plan_of.get(name, 0) if name else 0
        if isinstance(taken.place, Match):
            return 0 if name is not None else -1, 0
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
    scale: int
    """Nanoseconds in a unit of the row's time."""
    reset: str | None = None
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
        self._feed = feed
        self._fields = feed.fields
        self._channels = feed.channel_by_any_name
        self._known: dict[str, _Reading] = {}
        if feed.fields:
            self._message = MessageReader(feed)
            self._head, self._body_key = _head(feed, feed.fields)

    def read(
        self,
        payload: pa.Array,
        readable: Bools,
        conns: npt.NDArray[np.integer] | None = None,
        binary: Bools | None = None,
    ) -> FieldColumns:
        """See `CompiledFieldReader.read`."""
        if self._fields is None or not len(payload):
            return self._nothing.columns(len(payload))
        payload, readable = json_of(self._fields.binary, payload, readable, binary)
        rows: list[tuple[Any, ...]] = []
        decode_head, nested, known = self._head, self._body_key is not None, self._known
        each = itertools.repeat(0) if conns is None else conns.tolist()
        for message, wanted, conn in zip(_views(payload), readable.tolist(), each, strict=False):
            try:
                if decode_head is None or not wanted:
                    raise _NotFastError
                str(message, "utf-8")  # what msgspec passes over it does not check
                head = decode_head(message)
                channel, decode, scale, reset = known.get(head.text) or self._learn(self._fields, head.text)
                if decode is None:
                    raise _NotFastError
                symbol, time, *numbers, text = astuple(decode(head.body if nested else message))
                resets = reset is not None and scalar_text(text) == reset
                rows.append((channel, symbol, None if time is None else time * scale, *numbers, resets))
            except UNREADABLE:
                rows.append(self._message.read(message, conn) if wanted else NOTHING)
        return columns_of(rows)

    def disconnected(self, conn: int) -> None:
        """See `CompiledFieldReader.disconnected`."""
        if self._fields is not None:
            self._message.disconnected(conn)

    @property
    def ids(self) -> Ids:
        """See `CompiledFieldReader.ids`."""
        return self._message.ids if self._fields is not None else {}

    def restore(self, ids: Ids) -> None:
        """See `CompiledFieldReader.restore`."""
        if self._fields is not None:
            self._message.restore(ids)

    def _learn(self, fields: Fields, text: str) -> _Reading:
        """How to read the messages whose first channel place holds `text`."""
        name = extract_of(fields.channel[0]).take(text)
        reading = (
            self._reading(name, row_places(self._feed, self._channels.get(name))) if name else _Reading(name, None, 1)
        )
        if len(self._known) >= _KNOWN_MAX:
            self._known.clear()
        self._known[text] = reading
        return reading

    def _reading(self, channel: str, wanted: RowPlaces) -> _Reading:
        """Decodes a body to a Struct of a row, unless the channel's first places do not allow it."""
        unit = wanted.time[0].unit if wanted.time else TimeUnit.NS
        scale = SCALES.get(unit or TimeUnit.MS)
        if scale is None or unit is TimeUnit.S:  # seconds come with fractions
            return _Reading(channel, None, 1)
        number = Annotated[int, msgspec.Meta(ge=0, le=INT64_MAX)]
        integer = Annotated[int, msgspec.Meta(ge=INT64_MIN, le=INT64_MAX)]
        time = Annotated[int, msgspec.Meta(ge=EARLIEST // scale + 1, le=INT64_MAX // scale - 1)]
        types: tuple[Any, ...] = (_Name, time, number, integer, integer, str | bool | int | None)
        members: list[tuple[str, Any, Any]] = []
        keys: set[str] = set()
        for member, kind, places in zip(RowPlaces._fields, types, wanted, strict=True):
            if not places:
                # Never found: a field has to have a name, and this one with its space can only hold a null.
                members.append((member, None, msgspec.field(default=None, name=f"absent {member}")))
                continue
            if member == "reset" and len(places) > 1:
                return _Reading(channel, None, 1)
            key = _flat_key(places[0], self._body_key)
            if key is None or key in keys:
                return _Reading(channel, None, 1)
            keys.add(key)
            optional = {"default": None} if member == "reset" else {}
            members.append((member, kind, msgspec.field(name=key, **optional)))
        decode = msgspec.json.Decoder(msgspec.defstruct("Body", members, kw_only=True, gc=False)).decode
        return _Reading(channel, decode, scale, wanted.reset[0].match if wanted.reset else None)


class _NotFastError(ValueError):
    """This message has to be read the plain way."""


def _head(feed: Feed, fields: Fields) -> tuple[Callable[[Any], Any] | None, str | None]:
    """The decoder of heads, and the key under which messages keep their body, if it is one key.

    No decoder where the channel's name is not at the top of the message, or messages depend on others.
    """
    place = extract_of(fields.channel[0]) if fields.channel else None
    if place is None or fields.ids is not None or not _is_plain(place):
        return None, None
    name = _plain_keys(place.path or "")
    channels = [None, *feed.channel_by_any_name.values()]
    wanted = [places[0] for channel in channels for places in row_places(feed, channel) if places]
    ways = [keys for each in wanted if (keys := _plain_keys(_path_of(each)))]
    outer = {keys[0] for keys in ways if len(keys) > 1}
    body_key = outer.pop() if len(outer) == 1 else None
    if name is None or len(name) > 1 or name[0] == body_key:
        return None, None
    members: list[tuple[str, Any, Any]] = [("text", _Name, msgspec.field(name=name[0]))]
    if body_key is not None:
        members.append(("body", msgspec.Raw, msgspec.field(name=body_key)))
    return msgspec.json.Decoder(msgspec.defstruct("Head", members, gc=False)).decode, body_key


def _flat_key(place: Any, body_key: str | None) -> str | None:
    """The key in the body that is this place (of any field); None where it takes more than a key."""
    if isinstance(place, Extract) and place != Extract(path=place.path):
        return None
    keys = _plain_keys(_path_of(place))
    if keys is None or len(keys) > 2:
        return None
    return keys[-1] if (keys[0] == body_key if len(keys) == 2 else body_key is None) else None


def _path_of(place: str | Extract | TimePlace | Match) -> str:
    return place if isinstance(place, str) else place.path or "$"


def _plain_keys(path: str) -> list[str] | None:
    """The keys of a path that has nothing else."""
    keys = steps(path) if not path.startswith("$") else ()
    return [key for key in keys if isinstance(key, str)] if keys and all(isinstance(key, str) for key in keys) else None


def _is_plain(place: Extract) -> bool:
    """Whether it takes its text from a path, whatever else the message holds."""
    return place.path is not None and not place.needs and not place.where


def _scanned(path: str) -> list[str | int | None]:
    """The steps of a path as a `Scanner` takes them."""
    way = steps(path) if not path.startswith("$") else ()
    if not way:
        raise NotScannableError(path)
    return [-1 if step is Every.KEY else None if step is Every.ELEMENT else step for step in way]


def _exponent(place: TimePlace) -> int:
    """The power of ten of a time's unit in ns; -1 for RFC 3339 text, -2 for such text in a zone of its own."""
    return -2 if place.offset is not None else _EXPONENTS[place.unit or TimeUnit.MS]


def _views(payload: pa.Array) -> Iterator[memoryview]:
    """Each message of a `large_binary` array, where it lies."""
    _, offset_buffer, data_buffer = payload.buffers()
    offsets = np.frombuffer(offset_buffer, np.int64, len(payload) + 1, payload.offset * 8).tolist()
    data = memoryview(data_buffer if data_buffer is not None else b"").cast("B").toreadonly()
    return (data[start:stop] for start, stop in itertools.pairwise(offsets))


COMPILED = Scanner is not None and not os.environ.get("WSREC_PURE")
FieldReader: type[CompiledFieldReader | PythonFieldReader] = CompiledFieldReader if COMPILED else PythonFieldReader
"""The one that runs."""
