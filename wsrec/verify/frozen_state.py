"""The state of a session's verification after some of its files, as bytes: later files continue from it.

It is a pickle without code: only classes of the rooms that verification consists of, and what numpy and Arrow need for
their arrays, are looked up. The feed, the task, the meter and the threads are not in it; field readers and methods are
named.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from types import FunctionType, MethodType
from typing import Any

import msgspec

from wsrec.decode.compiled_reader import CompiledFieldReader
from wsrec.decode.implementation import FieldReader
from wsrec.decode.reader import Ids, PythonFieldReader
from wsrec.feed.schema import Feed
from wsrec.verify.ahead import Ahead
from wsrec.verify.inventory import SessionTask
from wsrec.verify.meter import Meter
from wsrec.verify.session import SessionReading

# numpy 1 and 2
_ARRAYS = ("numpy.core.multiarray", "numpy._core.multiarray")
_UNFIT = (AttributeError, EOFError, ImportError, IndexError, KeyError, TypeError, ValueError)
_ROOMS = frozenset({"arrays", "counts", "feed", "format", "monitor", "plan", "ring", "verify"})
_OTHERS = frozenset(
    {
        "array._array_reconstructor",
        "array.array",
        "builtins.bytearray",
        "collections.Counter",
        "collections.deque",
        "msgspec._utils.rebuild",
        "numpy.dtype",
        "numpy.ndarray",
        *(f"{module}.{name}" for module in _ARRAYS for name in ("_reconstruct", "scalar")),
        "pyarrow.lib._restore_array",
        "pyarrow.lib.py_buffer",
        "pyarrow.lib.type_for_alias",
        "re._compile",
    }
)
_PROTOCOL = 4


class FrozenStateError(Exception):
    """Bytes are no state that this wsrec has frozen."""


def freeze(reading: SessionReading) -> bytes:
    """The state of a session's reading, as bytes."""
    file = io.BytesIO()
    config = msgspec.json.encode(reading.config)
    file.write(len(config).to_bytes(8, "little") + config)
    _Freezer(file, reading).dump(reading)
    return file.getvalue()


def thaw(data: bytes, task: SessionTask, meter: Meter, ahead: Ahead) -> SessionReading:
    """A session's reading, as it was when it was frozen.

    Args:
        data: its state.
        task: the session, which may have more files now.
        meter: takes what is read of them.
        ahead: the threads that prepare their rows.

    Raises:
        FrozenStateError: it is no such state.

    """
    try:
        start = 8 + int.from_bytes(data[:8], "little")
        config = msgspec.json.decode(data[8:start])
        feed = None if config is None else Feed.model_validate(config)
        named = {"feed": feed, "task": task, "meter": meter, "ahead": ahead}
        reading = _Thawer(io.BytesIO(data[start:]), named).load()
    except (pickle.UnpicklingError, *_UNFIT) as error:
        raise FrozenStateError(str(error)) from error
    if not isinstance(reading, SessionReading):
        raise FrozenStateError(f"found {type(reading).__name__}, expected a session's reading")
    return reading


class _Freezer(pickle.Pickler):
    def __init__(self, file: io.BytesIO, reading: SessionReading) -> None:
        super().__init__(file, _PROTOCOL)
        self._named = {id(reading.task): "task", id(reading.meter): "meter", id(reading.ahead): "ahead"}
        if reading.feed is not None:
            self._named[id(reading.feed)] = "feed"

    def persistent_id(self, found: Any) -> str | None:
        """The name of what is not in the state."""
        return self._named.get(id(found))

    def reducer_override(self, found: Any) -> Any:
        """Field readers are made anew of the feed, methods are named."""
        if isinstance(found, CompiledFieldReader | PythonFieldReader):
            return _reader, (found.feed, found.ids)
        if isinstance(found, MethodType):
            return _method, (found.__self__, found.__name__)
        return NotImplemented


class _Thawer(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, named: dict[str, Any]) -> None:
        super().__init__(file)
        self._named = named

    def persistent_load(self, name: Any) -> Any:
        """What is not in the state."""
        return self._named[name]

    def find_class(self, module: str, name: str) -> Any:
        """A class of verification, or what arrays need; nothing else is looked up."""
        if (module, name) in _OWN:
            return _OWN[module, name]
        found = super().find_class(module, name) if _is_known(module, name) else None
        if found is None or (module.startswith("wsrec.") and not isinstance(found, type)):
            raise pickle.UnpicklingError(f"found {module}.{name}, which no state has")
        return found


def _is_known(module: str, name: str) -> bool:
    package, _, rest = module.partition(".")
    own = package == "wsrec" and rest.partition(".")[0] in _ROOMS and "." not in name
    return own or f"{module}.{name}" in _OTHERS


def _reader(feed: Feed, ids: Ids) -> CompiledFieldReader | PythonFieldReader:
    reader = FieldReader(feed)
    reader.restore(ids)
    return reader


def _method(owner: Any, name: str) -> Any:
    """A method of an object of wsrec's."""
    kind = type(owner)
    if not kind.__module__.startswith("wsrec.") or not isinstance(getattr(kind, name, None), FunctionType):
        raise pickle.UnpicklingError(f"found {kind.__name__}.{name}, expected a method of wsrec's")
    return getattr(owner, name)


_OWN: dict[tuple[str, str], Callable[..., Any]] = {(__name__, each.__name__): each for each in (_reader, _method)}
