"""JSON of wsrec's own files: any byte of it may be damaged, and that is one error."""

from __future__ import annotations

from typing import Any, TypeVar, overload

import msgspec

T = TypeVar("T")


@overload
def decode_stored(data: bytes) -> Any: ...
@overload
def decode_stored(data: bytes, kind: type[T]) -> T: ...
def decode_stored(data: bytes, kind: Any = Any) -> Any:
    """Decode JSON as `kind`.

    Raises:
        msgspec.ValidationError: it is JSON, but not of this kind.
        msgspec.DecodeError: it is not JSON; msgspec has other errors for invalid UTF-8 and deep nesting.

    """
    try:
        return msgspec.json.decode(data, type=kind)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error
