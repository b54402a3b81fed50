"""The rows and events that a selection wants, and which of its names have none."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from wsrec.format.asked_names import check_channels, missing_channels, missing_symbols, spellings, wanted_channels
from wsrec.format.capture_file import CaptureFile
from wsrec.format.columns import times, words
from wsrec.format.reading import Capture
from wsrec.format.selection import Selection
from wsrec.ring.events import EventKind
from wsrec.units import clean

Bools = npt.NDArray[np.bool_]


class ChosenRows:
    """The rows of one file, of messages or events, that a selection wants.

    Args:
        file: the file.
        selection: which rows.

    Attributes:
        found: the names of the selection that rows of `messages` have had.

    Raises:
        CaptureError: the feed of the file cannot be read.

    """

    def __init__(self, file: CaptureFile, selection: Selection) -> None:
        self.found: set[str] = set()
        self._file, self._selection = file, selection
        self._symbols: dict[str, frozenset[str]] = {}
        self._channels: dict[str, frozenset[str]] = {}
        if selection.symbols or selection.channels:
            # feeds take a quarter of a second to import, which a selection by time does not need
            from wsrec.format.declared_feed import declared_feed

            feed = declared_feed(file)
            self._symbols = {name: spellings(feed, name) for name in selection.symbols}
            self._channels = {name: frozenset(wanted_channels(feed, [name]) or ()) for name in selection.channels}

    def messages(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Yield the rows that are wanted; those of no symbol or channel are not, if one is named.

        Raises:
            CaptureError: the file is damaged.

        """
        channels = sorted(frozenset[str]().union(*self._channels.values()))
        if self._channels and not channels:
            return
        among = {"channel": channels} if channels else None
        columns = list(dict.fromkeys([*columns, *(["channel"] if channels else []), *["symbol"] * bool(self._symbols)]))
        since, until = self._selection.since, self._selection.until
        for batch in self._file.batches(
            columns, since=since, until=until, among=among, use_threads=False, ordered=False
        ):
            chosen = batch.filter(pa.array(self._of_symbols(batch, unnamed=False))) if self._symbols else batch
            if chosen.num_rows:
                self._note(chosen)
                yield chosen

    def events(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The events of a batch that are wanted: those of no symbol or channel, too, as they concern each.

        A lost interval counts if it reaches into the times, whenever it was noticed.

        Raises:
            msgspec.DecodeError: the detail of a lost interval is not JSON.

        """
        moments, _ = times(batch, "time")
        kind, kinds = words(batch, "kind")
        is_lost = np.array([word == EventKind.LOST_INTERVAL for word in kinds])[kind]
        first, last = moments.copy(), moments.copy()
        for row in np.flatnonzero(is_lost).tolist():
            detail = msgspec.json.decode(batch.column("detail")[row].as_py() or "{}")
            begin, end = (detail.get(key) if isinstance(detail, dict) else None for key in ("from", "to"))
            if isinstance(begin, int) and isinstance(end, int):
                first[row], last[row] = begin, end
        chosen = np.ones(batch.num_rows, np.bool_)
        if self._selection.since is not None:
            chosen &= last >= self._selection.since
        if self._selection.until is not None:
            chosen &= first < self._selection.until
        if self._symbols:
            chosen &= self._of_symbols(batch, unnamed=True)
        if self._channels:
            channels = frozenset[str]().union(*self._channels.values())
            chosen &= _among(batch, "channel", lambda name: name in channels, unnamed=True)
        return batch.filter(pa.array(chosen))

    def _of_symbols(self, batch: pa.RecordBatch, *, unnamed: bool) -> Bools:
        symbols = frozenset[str]().union(*self._symbols.values())
        return _among(batch, "symbol", lambda name: name.casefold() in symbols, unnamed=unnamed)

    def _note(self, batch: pa.RecordBatch) -> None:
        if self._symbols:
            seen = {name.casefold() for name in _distinct(batch, "symbol")}
            self.found |= {name for name, spelt in self._symbols.items() if not spelt.isdisjoint(seen)}
        if self._channels:
            seen = _distinct(batch, "channel")
            self.found |= {name for name, meant in self._channels.items() if not meant.isdisjoint(seen)}


def nothing_of(capture: Capture, selection: Selection, found: Collection[str], *, has_rows: bool) -> list[str]:
    """Which names of a selection have no rows, in words; without any row that there is none in its time.

    Raises:
        ConfigError: a channel that no feed of the capture has.

    """
    symbols = sorted(selection.symbols.difference(found))
    channels = [name for name in selection.channels if name not in found]
    notes: list[str] = []
    if symbols or channels:
        from wsrec.format.declared_feed import declared_feed

        feeds = list({file.feed: declared_feed(file) for file in reversed(capture.files)}.values())
        check_channels(feeds, channels, "--channel")
        absent = [f"--symbol: {each}" for each in missing_symbols(capture.files, feeds, symbols, ())]
        if selection == Selection(channels=selection.channels):
            absent += (f"--channel: {each}" for each in missing_channels(capture.files, channels))
        # else they may be in the capture, but not with this symbol or in this time
        notes = absent or [f"no message of {clean(name, 60)!r} is in this part" for name in [*symbols, *channels]]
    if not has_rows and not notes:
        notes.append("no message is in this part")
    return notes


def _among(batch: pa.RecordBatch, name: str, wanted: Callable[[str], bool], *, unnamed: bool) -> Bools:
    """Which rows have a word that is wanted; `unnamed`: whether those without a word are."""
    code, known = words(batch, name)
    of_words: Bools = np.array([unnamed if word is None else wanted(word) for word in known], np.bool_)
    chosen: Bools = of_words[code]
    return chosen


def _distinct(batch: pa.RecordBatch, name: str) -> set[str]:
    code, known = words(batch, name)
    return {word for number in np.unique(code).tolist() if (word := known[number]) is not None}
