"""Messages in the wire format of Protocol Buffers as JSON, by declared types (`wsrec.feed.protobuf_schema`).

The format: https://protobuf.dev/programming-guides/encoding. The JSON has a member for each field that the message has,
by its declared name, and a list for each repeated one, empty too. Text stays text, numbers become numbers with all
their digits: unlike in the format's own JSON, where int64 is text.

A message may be anything: its sizes and nesting are bounded, and what is no message of the declared type, text that is
no UTF-8 included, is refused as a whole. As the format demands, fields that are not declared are skipped, of a field
that comes twice the last one counts, and messages that come twice are merged.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

SCALARS = ("string", "int32", "int64", "uint32", "uint64", "sint32", "sint64", "bool", "double", "float")
"""Names of the scalar types that a field may have."""

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_SIZES = {_FIXED64: 8, _FIXED32: 4}
_DEPTH_MAX = 32
_NUMBER_MAX = (1 << 29) - 1
_encode = msgspec.json.Encoder().encode


class NoMessageError(Exception):
    """Bytes that are no message of the declared type."""


class MessageType:
    """A type of messages: its fields by number.

    Attributes:
        fields: each field by its tag, which is its number and how it is written.
        numbers: numbers of the fields.
        lists: names of the repeated fields.

    """

    def __init__(self) -> None:
        self.fields: dict[int, _Field] = {}
        self.numbers: set[int] = set()
        self.lists: list[str] = []

    def add(self, name: str, number: int, kind: MessageType | str, *, repeated: bool) -> None:
        """Declare a field of a scalar type (`SCALARS`) or of another type."""
        self.numbers.add(number)
        if repeated:
            self.lists.append(name)
        if isinstance(kind, MessageType):
            self.fields[number << 3 | _LENGTH] = _Field(name, repeated, message=kind)
        elif kind == "string":
            self.fields[number << 3 | _LENGTH] = _Field(name, repeated)
        else:
            wire, convert = _NUMBERS[kind]
            self.fields[number << 3 | wire] = _Field(name, repeated, wire=wire, convert=convert)
            if repeated:
                # numbers may be written one after the other under one tag
                self.fields[number << 3 | _LENGTH] = _Field(name, repeated, wire=wire, convert=convert, packed=True)


@dataclass(frozen=True, slots=True)
class _Field:
    """How a field with a certain tag is read.

    Attributes:
        name: its name.
        repeated: whether it makes a list.
        message: its type, if it is a message.
        wire, convert: of a number: how it is written, and the function from its bits to its value.
        packed: whether it is a row of numbers.

    """

    name: str
    repeated: bool
    message: MessageType | None = None
    wire: int = _LENGTH
    convert: Callable[[int], Any] | None = None
    packed: bool = False


class ProtobufReader:
    """Reads messages of one type.

    Args:
        message: the type.

    """

    def __init__(self, message: MessageType) -> None:
        self._type = message

    def json(self, payload: bytes | memoryview) -> bytes | None:
        """A message as JSON; None if it is none of this type."""
        data = bytes(payload)
        try:
            return _encode(_message(data, 0, len(data), self._type, {}, 0))
        except NoMessageError:
            return None


def _message(data: bytes, at: int, end: int, kind: MessageType, made: dict[str, Any], depth: int) -> dict[str, Any]:
    """Read the fields of a message between two places into `made`."""
    if depth > _DEPTH_MAX:
        raise NoMessageError("nested too deep")
    for name in kind.lists:
        made.setdefault(name, [])
    fields = kind.fields
    while at < end:
        # most numbers are a single byte: that saves a call
        tag = data[at]
        if tag < 0x80:
            at += 1
        else:
            tag, at = _varint(data, at, end)
        field = fields.get(tag)
        if field is None:
            at = _skipped(data, at, end, tag, kind)
            continue
        if field.convert is not None and not field.packed:
            bits, at = _bits(data, at, end, field.wire)
            value: Any = field.convert(bits)
        else:
            begin = at + 1
            if begin <= end and data[at] < 0x80 and begin + data[at] <= end:
                at = begin + data[at]
            else:
                begin, at = _length(data, at, end)
            if field.message is not None:
                into = {} if field.repeated else made.get(field.name) or {}
                value = _message(data, begin, at, field.message, into, depth + 1)
            elif field.packed:
                made[field.name] += _packed(data, begin, at, field)
                continue
            else:
                value = _text(data, begin, at)
        if field.repeated:
            made[field.name].append(value)
        else:
            made[field.name] = value
    return made


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """A number in groups of seven bits, the lowest first, and where it ends."""
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            # of a tenth group only the lowest bit counts
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
    raise NoMessageError("a number without an end")


def _length(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Begin and end of a value that its length precedes."""
    length, at = _varint(data, at, end)
    if length > end - at:
        raise NoMessageError("a length beyond the end")
    return at, at + length


def _bits(data: bytes, at: int, end: int, wire: int) -> tuple[int, int]:
    """The bits of a number, and where it ends."""
    if wire == _VARINT:
        return _varint(data, at, end)
    size = _SIZES[wire]
    if size > end - at:
        raise NoMessageError("a number beyond the end")
    return int.from_bytes(data[at : at + size], "little"), at + size


def _packed(data: bytes, at: int, end: int, field: _Field) -> list[Any]:
    assert field.convert is not None
    found = []
    while at < end:
        bits, at = _bits(data, at, end, field.wire)
        found.append(field.convert(bits))
    return found


def _text(data: bytes, begin: int, end: int) -> str:
    try:
        return data[begin:end].decode()
    except UnicodeDecodeError:
        raise NoMessageError("text that is no UTF-8") from None


def _skipped(data: bytes, at: int, end: int, tag: int, kind: MessageType) -> int:
    """Where a field that is not declared ends."""
    number, wire = tag >> 3, tag & 7
    if not 0 < number <= _NUMBER_MAX:
        raise NoMessageError("a field's number out of range")
    if number in kind.numbers:
        raise NoMessageError("a field that is not of its declared type")
    if wire == _LENGTH:
        return _length(data, at, end)[1]
    if wire not in (_VARINT, *_SIZES):
        # groups, which proto3 does not have
        raise NoMessageError("a field of an unknown kind")
    return _bits(data, at, end, wire)[1]


def _signed(size: int) -> Callable[[int], int]:
    half, mask = 1 << size - 1, (1 << size) - 1
    return lambda bits: ((bits & mask) ^ half) - half


def _zigzag(size: int) -> Callable[[int], int]:
    mask = (1 << size) - 1
    return lambda bits: (bits & mask) >> 1 ^ -(bits & 1)


_NUMBERS: dict[str, tuple[int, Callable[[int], Any]]] = {
    "int32": (_VARINT, _signed(32)),
    "int64": (_VARINT, _signed(64)),
    "uint32": (_VARINT, lambda bits: bits & 0xFFFF_FFFF),
    "uint64": (_VARINT, lambda bits: bits),
    "sint32": (_VARINT, _zigzag(32)),
    "sint64": (_VARINT, _zigzag(64)),
    "bool": (_VARINT, bool),
    "double": (_FIXED64, lambda bits: struct.unpack("<d", bits.to_bytes(8, "little"))[0]),
    "float": (_FIXED32, lambda bits: struct.unpack("<f", bits.to_bytes(4, "little"))[0]),
}
