"""Protobuf messages as JSON: what the real implementation reads of the same bytes, and nothing of others."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from wsrec.feed.protobuf import ProtobufReader
from wsrec.feed.protobuf_implementation import CompiledProtobufReader, Scanner, python_reader
from wsrec.feed.protobuf_schema import ProtobufSchema, declared

TYPES = {
    "Whole": {
        "text": "string = 1",
        "small": "int32 = 2",
        "large": "int64 = 3",
        "natural": "uint32 = 4",
        "vast": "uint64 = 5",
        "zig": "sint32 = 6",
        "zag": "sint64 = 7",
        "truth": "bool = 8",
        "exact": "double = 9",
        "short": "float = 10",
        "inner": "Inner = 313",
        "inners": "repeated Inner = 15",
        "numbers": "repeated int64 = 16",
        "reals": "repeated double = 17",
        "texts": "repeated string = 18",
    },
    "Inner": {"price": "string = 1", "deeper": "Inner = 2", "time": "int64 = 4"},
}
SCHEMA = ProtobufSchema(message="Whole", types=TYPES)
# the compiled scanner has neither reals nor rows of numbers
PLAIN = ("text", "small", "large", "natural", "vast", "zig", "zag", "truth", "inner", "inners", "texts")
WITHOUT_REALS = ProtobufSchema(
    message="Whole", types={**TYPES, "Whole": {name: TYPES["Whole"][name] for name in PLAIN}}
)


def _real_type() -> Any:
    """The same types in the real implementation, by its own descriptors."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="whole.proto", syntax="proto3", package="t")
    for name, fields in TYPES.items():
        made = file.message_type.add(name=name)
        for key, text in fields.items():
            _, number, kind, repeated = declared(key, text)
            label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
            if kind in TYPES:
                made.field.add(name=key, number=number, label=label, type=field.TYPE_MESSAGE, type_name=f".t.{kind}")
            else:
                made.field.add(name=key, number=number, label=label, type=getattr(field, f"TYPE_{kind.upper()}"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Whole"))


REAL = _real_type()


def read(payload: bytes) -> Any:
    found = SCHEMA.reader.json(payload)
    return None if found is None else json.loads(found)


def whole(**values: Any) -> dict[str, Any]:
    """What a message says: repeated fields are lists, empty too."""
    return {**{name: [] for name in ("inners", "numbers", "reals", "texts")}, **values}


def int_of(bits: int) -> st.SearchStrategy[int]:
    return st.integers(-(1 << bits - 1), (1 << bits - 1) - 1)


reals = st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(codec="utf-8"))
inner = st.recursive(
    st.fixed_dictionaries({}, optional={"price": texts, "time": int_of(64)}),
    lambda deeper: st.fixed_dictionaries({"deeper": deeper}, optional={"price": texts}),
    max_leaves=3,
)
values = st.fixed_dictionaries(
    {},
    optional={
        "text": texts,
        "small": int_of(32),
        "large": int_of(64),
        "natural": st.integers(0, (1 << 32) - 1),
        "vast": st.integers(0, (1 << 64) - 1),
        "zig": int_of(32),
        "zag": int_of(64),
        "truth": st.booleans(),
        "exact": reals,
        "short": st.floats(width=32, allow_nan=False, allow_infinity=False),
        "inner": inner,
        "inners": st.lists(inner, max_size=3),
        "numbers": st.lists(int_of(64), max_size=4),
        "reals": st.lists(reals, max_size=3),
        "texts": st.lists(texts, max_size=3),
    },
)


def of_real(found: message.Message) -> dict[str, Any]:
    """What the real implementation has read, in the form of ours."""
    said: dict[str, Any] = {}
    for field in found.DESCRIPTOR.fields:
        value = getattr(found, field.name)
        if field.is_repeated:
            said[field.name] = [of_real(each) if field.message_type else each for each in value]
        elif field.message_type:
            if found.HasField(field.name):
                said[field.name] = of_real(value)
        elif value or (isinstance(value, float) and math.copysign(1, value) < 0):
            said[field.name] = value
    return said


def without_zeros(said: Any) -> Any:
    """Without the zeros and empty texts that a message may, but need not have written."""
    if isinstance(said, list):
        return [without_zeros(each) if isinstance(each, dict) else each for each in said]
    return {
        key: without_zeros(value) if isinstance(value, dict | list) else value
        for key, value in said.items()
        if isinstance(value, dict | list) or value or str(value) == "-0.0"
    }


@given(values)
def test_messages_of_the_real_implementation_say_the_same(said: dict[str, Any]):
    written = REAL(**said)
    assert read(written.SerializeToString()) == of_real(written)


@given(values, st.data())
def test_damaged_messages_are_refused_or_read_as_the_real_implementation_does(said: dict[str, Any], data: Any):
    payload = bytearray(REAL(**said).SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(payload)))
        payload[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    found = read(bytes(payload))
    # what the real one refuses we must not read; the other way round we may be stricter
    if found is not None:
        try:
            real = of_real(REAL.FromString(bytes(payload)))
        except message.DecodeError as error:
            raise AssertionError(f"read {payload.hex()} as {found}") from error
        assert without_zeros(found) == json.loads(json.dumps(real), parse_constant=lambda _name: None)


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(payload: bytes):
    SCHEMA.reader.json(payload)


@pytest.mark.skipif(Scanner is None, reason="the compiled protobuf scanner was not built here")
class TestCompiled:
    """The scanner leaves to Python what it does not decide, so that the two never differ."""

    python = python_reader(WITHOUT_REALS.declared, "Whole")

    @property
    def compiled(self) -> CompiledProtobufReader:
        return CompiledProtobufReader(WITHOUT_REALS.declared, "Whole")

    @given(values, st.data())
    def test_reads_what_python_reads(self, said: dict[str, Any], data: Any):
        kept = {name: value for name, value in said.items() if name in PLAIN}
        payload = bytearray(REAL(**kept).SerializeToString())
        for _ in range(data.draw(st.integers(0, 2))):
            at = data.draw(st.integers(0, len(payload)))
            payload[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
        wanted, found = self.python.json(bytes(payload)), self.compiled.json(bytes(payload))
        assert (found is None) == (wanted is None)
        assert found is None or json.loads(found) == json.loads(wanted or b"")

    def test_decides_messages_of_the_usual_kind(self):
        said = {"text": "spot@x", "large": -5, "vast": 1 << 63, "zig": -3, "truth": True, "texts": ["a", "b"]}
        written = REAL(**said, inner={"price": "1.5", "time": 7}, inners=[{}, {"price": ""}]).SerializeToString()
        schema = WITHOUT_REALS.declared
        names = list(schema)
        program = [
            [(f.name, f.number, "message" if f.type in names else f.type, f.repeated, 1) for f in fields]
            for fields in schema.values()
        ]
        found = Scanner(program, 0).json(written)
        assert json.loads(found) == json.loads(self.python.json(written) or b"")

    def test_a_schema_with_reals_is_read_by_python_alone(self):
        with pytest.raises(ValueError, match="not supported"):
            CompiledProtobufReader(SCHEMA.declared, "Whole")
        assert isinstance(SCHEMA.reader, ProtobufReader)


class TestWire:
    @pytest.mark.parametrize(
        ("payload", "said"),
        [
            (b"", {}),
            (b"\x0a\x01a\x0a\x01b", {"text": "b"}),
            (b"\x10\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", {"small": -1}),
            (b"\xca\x13\x03\x0a\x01x\xca\x13\x02\x20\x05", {"inner": {"price": "x", "time": 5}}),
            (b"\x80\x01\x01\x82\x01\x02\x02\x03\x80\x01\x04", {"numbers": [1, 2, 3, 4]}),
            (b"\x98\x06\x01\x0a\x01a\xa2\x06\x01z\xad\x06\x00\x00\x00\x00\xa9\x06" + bytes(8), {"text": "a"}),
        ],
        ids=["nothing", "the last counts", "negative", "merged", "packed and not", "unknown fields are skipped"],
    )
    def test_read(self, payload, said):
        assert read(payload) == whole(**said)

    @pytest.mark.parametrize(
        "payload",
        [
            b"\x0a",
            b"\x0a\x05ab",
            b"\x0a\x02\xff\xfe",
            b"\x08\x01",
            b"\x10" + b"\xff" * 11,
            b"\x0b\x0c",
            b"\x00\x01",
            b"\xa9\x06" + bytes(7),
            b'{"msg":"x"}',
            b"\xca\x13\x02\x0a\x05abcde",
        ],
        ids=[
            "no length",
            "cut short",
            "no UTF-8",
            "another kind than declared",
            "endless number",
            "a group",
            "field 0",
            "number cut short",
            "JSON",
            "inner longer than its place",
        ],
    )
    def test_refused(self, payload):
        assert read(payload) is None

    def test_nesting_is_bounded(self):
        payload = b""
        for _ in range(200):
            size = len(payload)
            payload = b"\x12" + (bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])) + payload
        nested = b"\xca\x13" + bytes([len(payload) & 127 | 128, len(payload) >> 7]) + payload
        assert read(nested) is None

    def test_what_is_no_number_of_json_is_null(self):
        assert read(REAL(exact=math.nan).SerializeToString()) == whole(exact=None)


class TestSchema:
    @pytest.mark.parametrize(
        ("types", "expected"),
        [
            ({"Whole": {"a": "string"}}, "pattern"),
            ({"Whole": {"a": "text = 1"}}, "a scalar or one of types"),
            ({"Whole": {"a": "string = 1", "b": "string = 1"}}, "that of 'a' already"),
            ({"Whole": {"a": "string = 999999999"}}, "at most 536870911"),
            ({"Other": {"a": "string = 1"}}, "expected one of types: Other"),
        ],
    )
    def test_mistakes_are_named(self, types, expected):
        with pytest.raises(ValidationError, match=expected):
            ProtobufSchema(message="Whole", types=types)
