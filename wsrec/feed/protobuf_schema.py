"""The feed YAML's `fields.binary_schema`: the types of binary messages in the wire format of Protocol Buffers.

    binary: protobuf
    binary_schema:
      message: Wrapper
      types:
        Wrapper: {channel: string = 1, sendTime: int64 = 6, deals: Deals = 314}
        Deals: {deals: repeated Deal = 1}
        Deal: {price: string = 1, quantity: string = 2}

A field is written as in a .proto file, after its name. Fields that the schema does not name are skipped.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import Annotated

from pydantic import Field, model_validator

from wsrec.feed.errors import ConflictError
from wsrec.feed.protobuf import SCALARS, ProtobufReader
from wsrec.feed.protobuf_implementation import CompiledProtobufReader, DeclaredField, Types, protobuf_reader
from wsrec.feed.values import Model

NUMBER_MAX = (1 << 29) - 1
"""Largest number of a field."""

_NAME = "[A-Za-z][A-Za-z0-9_]{0,99}"
_FIELD = re.compile(rf"^(repeated )?({_NAME}) = ([1-9][0-9]{{0,8}})$")

TypeName = Annotated[str, Field(pattern=f"^{_NAME}$")]
FieldText = Annotated[str, Field(pattern=_FIELD.pattern)]


class ProtobufSchema(Model):
    """The types of a feed's binary messages."""

    message: TypeName = Field(description="Type of a whole message.")
    types: dict[TypeName, dict[TypeName, FieldText]] = Field(
        description="Types by name, and the fields of each: `{price: string = 1, deals: repeated Deal = 2}`. Scalars: "
        f"{', '.join(f'`{name}`' for name in SCALARS)}.",
        min_length=1,
    )

    @model_validator(mode="after")
    def _consistent(self) -> ProtobufSchema:
        if self.message not in self.types:
            raise ConflictError(("message",), f"found {self.message!r}, expected one of types: {', '.join(self.types)}")
        for name, fields in self.types.items():
            numbers: dict[int, str] = {}
            for key, text in fields.items():
                where = ("types", name, key)
                field = declared(key, text)
                if field.type not in SCALARS and field.type not in self.types:
                    raise ConflictError(where, f"found type {field.type!r}, expected a scalar or one of types")
                if field.number > NUMBER_MAX:
                    raise ConflictError(where, f"found number {field.number}, expected at most {NUMBER_MAX}")
                if (other := numbers.setdefault(field.number, key)) != key:
                    raise ConflictError(where, f"found number {field.number}, which is that of {other!r} already")
        return self

    @property
    def declared(self) -> Types:
        """The fields of each type."""
        return {name: [declared(key, text) for key, text in fields.items()] for name, fields in self.types.items()}

    @cached_property
    def reader(self) -> CompiledProtobufReader | ProtobufReader:
        """The reader of such messages."""
        return protobuf_reader(self.declared, self.message)


def declared(name: str, text: str) -> DeclaredField:
    """The field of this name that a text declares: `repeated Deal = 1`."""
    found = _FIELD.match(text)
    assert found is not None, text
    repeated, kind, number = found.groups()
    return DeclaredField(name, int(number), kind, repeated is not None)
