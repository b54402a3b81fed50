"""The compiled field reader: a feed's field paths as tables for `_fields.Scanner`, with fallback to Python.

The scanner finds the values at a feed's paths in a message's bytes, and reads numbers and times itself. Python resolves
each distinct text of a name once. Messages that the scanner does not decide are read by `PythonFieldReader`, the
reference. A feed with paths that do not fit into the tables is read by that reader alone.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wsrec.arrays import Flags
from wsrec.decode.columns import NAME_TYPE, NUMBER_TYPES, FieldColumns
from wsrec.decode.packed import json_of
from wsrec.decode.places import NAME_MAX, RowPlaces, extract_of, row_places
from wsrec.decode.reader import Ids, PythonFieldReader
from wsrec.decode.scalars import EXPONENTS
from wsrec.feed.fields import Extract, Fields, Match, TimePlace
from wsrec.feed.paths import Every, NotScannableError, steps
from wsrec.feed.schema import Feed
from wsrec.feed.values import TimeUnit

if TYPE_CHECKING:
    Scanner: Any
else:
    try:
        from wsrec.decode._fields import Scanner
    except ImportError:
        Scanner = None

# a hostile peer can name any number of channels and symbols; beyond this many all are forgotten
_KNOWN_MAX = 65_536
_SCALAR = re.compile(r"true|false|-?[0-9]+")
_VALUE = 2  # from here on a value follows: of a text 2, of an integer, true or false 3
_THERE, _FIRST, _ALIKE = range(3)  # modes of `Scanner` for the values at a path


class CompiledFieldReader:
    """Reads what `PythonFieldReader` reads, by compiled code, ten times as fast (docs/explanation/performance.md).

    Args:
        feed: the feed; without `fields` every value is null, and no message is parsed.

    Attributes:
        feed: the feed.

    """

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self._python = PythonFieldReader(feed)
        self._fields = feed.fields
        self._tables: _Tables | None = None
        if feed.fields:
            with suppress(NotScannableError):
                self._tables = _Tables(feed, feed.fields, self._python)

    def read(
        self,
        payload: pa.Array,
        readable: Flags,
        conns: npt.NDArray[np.integer] | None = None,
        binary: Flags | None = None,
    ) -> FieldColumns:
        """See `PythonFieldReader.read`."""
        if self._tables is None or self._fields is None or not len(payload):
            return self._python.read(payload, readable, conns, binary)
        payload, readable = json_of(self._fields, payload, readable, binary)
        return self._tables.read(payload, readable)

    def disconnected(self, conn: int) -> None:
        """See `PythonFieldReader.disconnected`."""
        self._python.disconnected(conn)

    @property
    def ids(self) -> Ids:
        """See `PythonFieldReader.ids`."""
        return self._python.ids

    def restore(self, ids: Ids) -> None:
        """See `PythonFieldReader.restore`."""
        self._python.restore(ids)


class _Way:
    """A way of forming a name from the values at some paths.

    Args:
        place: the place of a name, or a text that has to be there.
        channel: whether it is the channel's name.

    Attributes:
        paths: the paths, each with a mode: that there is a value, the first one, or the one that all are equal to.
        is_text: whether the name is a text at a single path, without conditions.

    """

    def __init__(self, place: Extract | Match, *, channel: bool = False) -> None:
        self.is_channel = channel
        self.place = place
        if isinstance(place, Match):
            # a value that may also be a number, true or false is not only a text
            self.paths, self.is_text = [(place.path, _FIRST)], not _SCALAR.fullmatch(place.match)
            return
        self._sources = place.parts if place.path is None else (place.path,)
        self.paths = [(path, _THERE) for path in place.needs]
        self.paths += [(path, _FIRST) for path in place.where]
        self.paths += [(path, _FIRST if channel else _ALIKE) for path in self._sources]
        self.is_text = place.path is not None and len(self.paths) == 1

    def name(self, found: bytes) -> str | None:
        """The name, from the values that a `Scanner` found at the paths."""
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
    """A feed's field paths as the tables of a `Scanner`, and the names met so far.

    Raises:
        NotScannableError: a scanner does not support the paths, or what is wanted at them.

    """

    def __init__(self, feed: Feed, fields: Fields, python: PythonFieldReader) -> None:
        if fields.ids is not None:
            raise NotScannableError("ids have to be learned in the order of messages")
        self._python = python
        # channels that are read alike share a plan; the first plan is for messages of no known channel
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

    def read(self, payload: pa.Array, readable: Flags) -> FieldColumns:
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
        """The columns in the memory that the scanner has written (`Scanner.room`)."""
        sizes = [count * 8] * 2 + [count * 16] * 2 + [count * 4] * 2 + [(count + 7) // 8] * 7
        starts = itertools.accumulate(sizes, initial=0)
        parts = [memory.slice(start, size) for start, size in zip(starts, sizes, strict=False)]
        numbers = [
            pa.Array.from_buffers(kind, count, [valid, data])
            for kind, data, valid in zip(NUMBER_TYPES, parts[:4], parts[6:10], strict=True)
        ]
        channel, symbol = (
            pa.DictionaryArray.from_buffers(NAME_TYPE, count, [valid, data], names.array())
            for data, valid, names in zip(parts[4:6], parts[10:12], (self._channels, self._symbols), strict=True)
        )
        reset = pa.Array.from_buffers(pa.bool_(), count, [None, parts[12]])
        return FieldColumns._make([channel, symbol, *numbers, reset])

    def _forget(self) -> None:
        self._scanner.forget()
        self._channels, self._symbols = _Names(), _Names()

    def _learn(self, way: int, found: bytes) -> tuple[int, int]:
        """Resolve a text: the name's code, and for a channel its plan; 0 if a `Match` is met."""
        taken = self._ways[way]
        name = taken.name(found)
        if taken.is_channel:
            return self._channels.code(name), self._plan_of.get(name, 0) if name else 0
        if isinstance(taken.place, Match):
            return 0 if name is not None else -1, 0
        return self._symbols.code(name), 0

    def _read_message(self, payload: bytes) -> tuple[int | None, ...]:
        channel, symbol, *numbers = self._python.read_message(payload)
        return (self._channels.code(channel), self._symbols.code(symbol), *numbers)


class _Names:
    """Names with small numbers, which are their positions in a dictionary column's dictionary."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self._array = pa.array([], pa.string())

    def __len__(self) -> int:
        return len(self._codes)

    def code(self, name: str | None) -> int:
        """The number of a name, which may be new; -1 for None."""
        return -1 if name is None else self._codes.setdefault(name, len(self._codes))

    def array(self) -> pa.Array:
        """All names so far."""
        if len(self._array) != len(self._codes):
            self._array = pa.array(list(self._codes), pa.string())
        return self._array


def _scanned(path: str) -> list[str | int | None]:
    """The steps of a path as a `Scanner` takes them."""
    way = steps(path) if not path.startswith("$") else ()
    if not way:
        raise NotScannableError(path)
    return [-1 if step is Every.KEY else None if step is Every.ELEMENT else step for step in way]


def _exponent(place: TimePlace) -> int:
    """The power of ten of a time's unit in ns; -1 for RFC 3339 text, -2 for such text in a zone of its own."""
    return -2 if place.offset is not None else EXPONENTS[place.unit or TimeUnit.MS]
