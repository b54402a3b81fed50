"""The symbols and channels that a user names: what they are called in a feed, and which of them a capture lacks."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

from wsrec.feed.errors import ConfigError
from wsrec.format.capture_file import CaptureFile
from wsrec.format.errors import CaptureError
from wsrec.units import clean, did_you_mean

if TYPE_CHECKING:
    from wsrec.feed.schema import Feed

_SHOWN = 10


def spellings(feed: Feed, name: str) -> frozenset[str]:
    """A symbol as a feed's messages may carry it, folded: as it is, and of `BTC/USDT` what the exchange writes."""
    found = {name.casefold()}
    if "/" in name and feed.symbols is not None:
        with contextlib.suppress(ConfigError):
            found.add(feed.symbols.normalise(name).casefold())
    return frozenset(found)


def wanted_channels(feed: Feed, names: Collection[str]) -> list[str] | None:
    """Names that a feed's messages may carry for channels given by the catalogue's or a common name; None for all."""
    if not names:
        return None
    by_name = feed.channel_by_any_name
    found: set[str] = set()
    for name in names:
        meant = by_name.get(name)
        found |= {key for key, channel in by_name.items() if channel is meant or channel.common == name}
    return sorted(found)


def check_channels(feeds: Collection[Feed], names: Collection[str], option: str = "--channels") -> None:
    """Check that each channel is one of a feed; `option` names them.

    Raises:
        ConfigError: none of them has it.

    """
    for name in names:
        if not any(wanted_channels(feed, [name]) for feed in feeds):
            shown = " or ".join(sorted(f"`wsrec feeds show {feed.name}`" for feed in feeds))
            known = {key for feed in feeds for key in feed.channel_by_any_name}
            known |= {
                channel.common for feed in feeds for channel in feed.channel_by_any_name.values() if channel.common
            }
            meant = did_you_mean(name, sorted(known))
            raise ConfigError(
                f"{option}: found {clean(name, 60)!r}, expected a channel of {shown}{f', {meant}' if meant else ''}"
            )


def missing_symbols(
    files: Sequence[CaptureFile], feeds: Collection[Feed], asked: Collection[str], seen: Collection[str]
) -> Iterator[str]:
    """Say of each symbol that was asked for and not seen in rows, if the capture has none of that name.

    Args:
        files: the capture's messages files; they are read only if a symbol was not seen.
        feeds: its feeds.
        asked: as the user wrote them.
        seen: those of the rows.

    """
    known = _folded(seen)
    absent = [name for name in asked if not _is_in(known, feeds, name)]
    if not absent:
        return
    there = _values(files, "symbol")
    known = _folded(there)
    for name in absent:
        if not _is_in(known, feeds, name):
            meant = did_you_mean(name, there)
            hint = f", {clean(meant, 100)}" if meant else ""
            yield f"found {clean(name, 60)!r}, which the capture does not have, expected {_shown(there)}{hint}"


def missing_channels(files: Sequence[CaptureFile], asked: Collection[str]) -> Iterator[str]:
    """Say of channels of which there is no row which ones the capture has."""
    if asked:
        there = _shown(_values(files, "channel"))
        for name in asked:
            yield f"no row is of {clean(name, 60)!r}; the capture has {there}"


def _is_in(known: Collection[str], feeds: Collection[Feed], name: str) -> bool:
    return any(not spellings(feed, name).isdisjoint(known) for feed in feeds)


def _folded(names: Collection[str]) -> set[str]:
    return {name.casefold() for name in names}


def _values(files: Sequence[CaptureFile], column: str) -> list[str]:
    """What the messages have in a column; of a damaged file what comes before the damage."""
    found: set[str] = set()
    for file in files:
        with contextlib.suppress(CaptureError):
            for batch in file.batches([column]):
                found.update(value for value in batch[column].unique().to_pylist() if value is not None)
    return sorted(found)


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(clean(name, 60) for name in names[:_SHOWN]) + more if names else "none, as it has none at all"
