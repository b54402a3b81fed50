"""Which rows of a capture are wanted: by time, symbol and channel."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from wsrec.feed.errors import ConfigError
from wsrec.format.asked_names import spellings
from wsrec.format.capture_file import CaptureFile

if TYPE_CHECKING:
    # takes a quarter of a second, and a selection by time needs no feed
    from wsrec.feed.schema import Feed

_DAY_NS = 86_400_000_000_000


class Selection(msgspec.Struct, frozen=True):
    """Which rows are wanted.

    Attributes:
        since, until: those that arrived (`recv_time`) at or after, and before (ns since the epoch).
        symbols: as the exchange writes them, in any case, or as `BTC/USDT`; empty: all.
        channels: names of the catalogue or common names (`trades`); empty: all.

    """

    since: int | None = None
    until: int | None = None
    symbols: frozenset[str] = frozenset()
    channels: tuple[str, ...] = ()

    def in_feed(self, feed: Feed) -> Selection:
        """The same with the symbols as a feed's messages carry them, folded."""
        folded = frozenset[str]().union(*(spellings(feed, name) for name in self.symbols))
        return msgspec.structs.replace(self, symbols=folded)


EVERYTHING = Selection()


def outside(file: CaptureFile, selection: Selection) -> bool:
    """Whether no row of a file can be wanted, by its times."""
    too_late = selection.until is not None and file.first_time is not None and file.first_time >= selection.until
    too_early = selection.since is not None and file.last_time is not None and file.last_time < selection.since
    return too_late or too_early


def inside(file: CaptureFile, selection: Selection) -> bool:
    """Whether each row of a file is wanted, by its times."""
    if selection.symbols or selection.channels:
        return False
    since, until, first, last = selection.since, selection.until, file.first_time, file.last_time
    return (since is None or (first is not None and first >= since)) and (
        until is None or (last is not None and last < until)
    )


def folder_outside(path: Path, selection: Selection) -> bool:
    """Whether no row of a file can be wanted, by the day of its folder, so that it need not be opened.

    A day before and after is left to the file's own times: the clock may have been set while it was written.
    """
    day = next((part.removeprefix("date=") for part in reversed(path.parts) if part.startswith("date=")), None)
    try:
        began = int(datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC).timestamp()) * 10**9 if day else None
    except ValueError:
        began = None
    if began is None:
        return False
    too_late = selection.until is not None and began - _DAY_NS >= selection.until
    return too_late or (selection.since is not None and began + 2 * _DAY_NS < selection.since)


def check_times(since: int | None, until: int | None) -> None:
    """Check that there is time between two times.

    Raises:
        ConfigError: the second is not after the first.

    """
    if since is not None and until is not None and since >= until:
        raise ConfigError("--until: found a time that is not after that of --since, expected a later one")
