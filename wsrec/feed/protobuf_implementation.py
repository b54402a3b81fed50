"""Protobuf reader selection: with the compiled scanner if it was built and WSREC_PURE is not set, else Python alone."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from wsrec.feed.protobuf import SCALARS, MessageType, ProtobufReader

if TYPE_CHECKING:
    Scanner: Any
else:
    try:
        from wsrec.feed._protobuf import Scanner
    except ImportError:
        Scanner = None

COMPILED = Scanner is not None and not os.environ.get("WSREC_PURE")


class DeclaredField(NamedTuple):
    """A field of a type.

    Attributes:
        name: its name.
        number: its number on the wire.
        type: a scalar type of the format (`SCALARS`), or the name of a declared type.
        repeated: whether there may be several, which make a list.

    """

    name: str
    number: int
    type: str
    repeated: bool


Types = Mapping[str, Sequence[DeclaredField]]
"""The fields of each type, by its name."""


class CompiledProtobufReader:
    """Reads what `ProtobufReader` reads; messages that the scanner does not decide are left to that.

    Args:
        types: the types.
        message: name of the type of a whole message.

    Raises:
        ValueError: the scanner does not support a field of the types.

    """

    def __init__(self, types: Types, message: str) -> None:
        self._python = python_reader(types, message)
        names = list(types)
        program = [
            [
                (field.name, field.number, "message", field.repeated, names.index(field.type))
                if field.type in types
                else (field.name, field.number, field.type, field.repeated, 0)
                for field in fields
            ]
            for fields in types.values()
        ]
        self._scan = Scanner(program, names.index(message)).json

    def json(self, payload: bytes | memoryview) -> bytes | None:
        """See `ProtobufReader.json`."""
        found: bytes | None = self._scan(payload)
        return self._python.json(payload) if found is None else found


def python_reader(types: Types, message: str) -> ProtobufReader:
    """The Python reader of messages of one of the types."""
    made = {name: MessageType() for name in types}
    for name, fields in types.items():
        for field in fields:
            kind = field.type if field.type in SCALARS else made[field.type]
            made[name].add(field.name, field.number, kind, repeated=field.repeated)
    return ProtobufReader(made[message])


def protobuf_reader(types: Types, message: str) -> CompiledProtobufReader | ProtobufReader:
    """The fastest reader of messages of one of the types."""
    if COMPILED:
        try:
            return CompiledProtobufReader(types, message)
        except ValueError:
            pass
    return python_reader(types, message)
