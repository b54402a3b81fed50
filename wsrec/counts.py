"""Counters of a recording: one declaration each, from which all structs and sums are generated.

A counter is declared here and counted in one place, `wsrec.format.counting`, by the writer and by `wsrec verify`. That
puts it into each line of the manifest, each file's metadata, the status page, and the summary and its JSON. A resumed
writer continues it, `wsrec verify` compares it with rows and events, `wsrec report` sums it, and
docs/reference/format.md describes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import add
from typing import Annotated, Any, Literal, NamedTuple, get_type_hints

import msgspec
from msgspec import Meta
from msgspec.structs import astuple

_ROWS = {"of": "rows"}
_EVENTS = {"of": "events"}


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of a file, a session, or several of them; can be added and subtracted."""

    messages: Annotated[int, Meta(description="messages received: text and binary", extra=_ROWS)] = 0
    control: Annotated[int, Meta(description="control frames received: ping, pong, close", extra=_ROWS)] = 0
    sent: Annotated[int, Meta(description="frames that wsrec sent", extra=_ROWS)] = 0
    payload_bytes: Annotated[int, Meta(description="payload of the messages received", extra=_ROWS)] = 0
    gaps: Annotated[
        int, Meta(description="sequence gaps (`gaps_checked`: whether they can be detected)", extra=_EVENTS)
    ] = 0
    lost_intervals: Annotated[
        int, Meta(description="intervals in which nothing could be received or recorded", extra=_EVENTS)
    ] = 0
    refused: Annotated[
        int,
        Meta(
            description="subscriptions refused, not answered or late: their topics, or 1 for an answer without topics",
            extra=_EVENTS,
        ),
    ] = 0
    answered: Annotated[
        int, Meta(description="topics that were confirmed, refused, or not answered in time", extra=_EVENTS)
    ] = 0
    not_inflated: Annotated[
        int, Meta(description="compressed messages that could not be inflated: stored as received", extra=_EVENTS)
    ] = 0

    def __add__(self, other: Counts) -> Counts:
        """The sum."""
        return Counts(**dict(zip(COUNTERS, map(add, astuple(self), astuple(other)), strict=True)))

    def __sub__(self, other: Counts) -> Counts:
        """The difference."""
        return Counts(**{name: getattr(self, name) - getattr(other, name) for name in COUNTERS})

    def named(self, of: Literal["rows", "events"] | None = None) -> dict[str, int]:
        """The counters by name: all, or those that can be derived from rows or from events."""
        return {each.name: getattr(self, each.name) for each in COUNTER_INFO if of in (None, each.of)}


class Counter(NamedTuple):
    """One declaration: the counter's name, its meaning, and whether it can be derived from rows or events."""

    name: str
    meaning: str
    of: Literal["rows", "events"]


def _declared() -> list[Counter]:
    found = []
    for name, hint in get_type_hints(Counts, include_extras=True).items():
        (meta,) = hint.__metadata__
        found.append(Counter(name, meta.description, meta.extra["of"]))
    return found


COUNTER_INFO = _declared()
COUNTERS: tuple[str, ...] = tuple(each.name for each in COUNTER_INFO)


def counts_of(counted: Any) -> Counts:
    """The counters of an object that has them among other fields, such as a manifest line or a status page."""
    get = counted.__getitem__ if not isinstance(counted, Counts) else lambda name: getattr(counted, name)
    return Counts(**{name: int(get(name)) for name in COUNTERS})


def total(counted: Iterable[Counts]) -> Counts:
    """The sum of several counts, or of none."""
    return sum(counted, Counts())
