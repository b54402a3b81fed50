"""wsrec.format.stored_json: damage of any kind is one error."""

from __future__ import annotations

import msgspec
import pytest

from wsrec.format.stored_json import decode_stored


@pytest.mark.parametrize("data", [b"", b"{", b'"\xf0"', b"[" * 100_000, b'"\\ud800"'])
def test_what_is_not_json_is_a_decode_error(data):
    with pytest.raises(msgspec.DecodeError):
        decode_stored(data)


def test_another_kind_is_a_validation_error():
    with pytest.raises(msgspec.ValidationError):
        decode_stored(b'"3"', int)
    assert decode_stored(b"3", int) == 3
