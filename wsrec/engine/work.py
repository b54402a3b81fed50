"""What an engine is: items in, results out in their order; and merging them (the contract: `wsrec.engine`)."""

from __future__ import annotations

import itertools
import traceback
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

import msgspec

Progress = Callable[[int, int], None]
"""Called from time to time with the bytes of the items that are done, and of all."""

R = TypeVar("R")

# shares a worker: few enough to merge most results where they are made, enough that all end at about the same time
_SHARES = 8


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """Files that are read together; subclass it for what else its function needs.

    Attributes:
        files: their paths; relative ones are meant in the caller's current folder.
        size: bytes to read, for progress and equal shares.

    """

    files: tuple[str, ...]
    size: int = 0

    def __str__(self) -> str:
        first = self.files[0] if self.files else "nothing"
        return first if len(self.files) < 2 else f"{first} and {len(self.files) - 1} more"


class EngineError(Exception):
    """An item failed, its worker ended, or the workers cannot be used; the message says which, and a hint."""


class Failure(msgspec.Struct, frozen=True):
    """An exception as workers hand it back: its item and itself in a line, and where it was raised."""

    message: str
    where: str

    def raised(self) -> EngineError:
        """The exception for the caller."""
        error = EngineError(self.message)
        error.add_note(self.where)
        return error


class Engine(Protocol):
    """Runs a function over items. To be closed: its workers end with it.

    Attributes:
        parallelism: how many items are worked on at the same time.

    """

    parallelism: int

    def map(
        self,
        function: Callable[[Any], R],
        items: Sequence[Item],
        progress: Progress | None = None,
        *,
        large: bool = False,
    ) -> Iterator[R]:
        """Yield the result of each item, in order of the items.

        Args:
            function: see `wsrec.engine`.
            items: the items.
            progress: called from time to time.
            large: the results are large: only those of a few items for each worker are kept at a time.

        Raises:
            EngineError: an item failed, or the workers cannot be used.

        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class InProcess:
    """The engine of `--jobs 1`: this process, one item after the other."""

    parallelism = 1

    def map(
        self,
        function: Callable[[Any], R],
        items: Sequence[Item],
        progress: Progress | None = None,
        *,
        large: bool = False,
    ) -> Iterator[R]:
        """As `Engine.map`."""
        total, done = sum(item.size for item in items), 0
        for item in items:
            result = attempt(function, item)
            if isinstance(result, Failure):
                raise result.raised()
            yield result
            done += item.size
            if progress is not None:
                progress(done, total)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


def attempt(function: Callable[[Any], R], item: Item) -> R | Failure:
    """The result of an item, or what was raised instead of one."""
    try:
        return function(item)
    except _ItemError as error:
        return error.failure
    except Exception as error:  # noqa: BLE001 (whatever it is, the item has to be named)
        what = str(error) if isinstance(error, EngineError) else f"{item}: {type(error).__name__}: {error}"
        return Failure(what, traceback.format_exc())


def reduce(
    engine: Engine,
    function: Callable[[Any], R],
    merge: Callable[[R, R], R],
    items: Sequence[Item],
    progress: Progress | None = None,
) -> R | None:
    """The merged result of all items; None without items.

    The workers merge the results of neighbours themselves, so that few are moved and kept.

    Raises:
        EngineError: an item failed, or the workers cannot be used.

    """
    merged: R | None = None
    for result in engine.map(_Merged(function, merge), _shares(items, engine.parallelism), progress):
        merged = result if merged is None else merge(merged, result)
    return merged


class _Share(Item, frozen=True, kw_only=True):
    items: tuple[Item, ...]


class _ItemError(Exception):
    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class _Merged(Generic[R]):
    def __init__(self, function: Callable[[Any], R], merge: Callable[[R, R], R]) -> None:
        self._function, self._merge = function, merge

    def __call__(self, share: _Share) -> R:
        merged: R | None = None
        for item in share.items:
            result = attempt(self._function, item)
            if isinstance(result, Failure):
                raise _ItemError(result)
            merged = result if merged is None else self._merge(merged, result)
        assert merged is not None
        return merged


def _shares(items: Sequence[Item], workers: int) -> list[Item]:
    """The items in neighbourly shares of about equal size: one each for this process, as it has nothing to move."""
    most = sum(item.size for item in items) / (workers * _SHARES) if workers > 1 else 0
    count = len(items) / (workers * _SHARES) if workers > 1 else 0
    shares: list[list[Item]] = []
    size = 0
    for item in items:
        if not shares or size + item.size > most or len(shares[-1]) >= max(count, 1):
            shares.append([])
            size = 0
        shares[-1].append(item)
        size += item.size
    return [
        _Share(
            files=tuple(itertools.chain.from_iterable(item.files for item in share)),
            size=sum(item.size for item in share),
            items=tuple(share),
        )
        for share in shares
    ]
