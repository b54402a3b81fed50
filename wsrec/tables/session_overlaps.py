"""What two sessions of a feed recorded at the same time, as in a takeover: its messages are in a capture twice.

No row says so, as each session is complete by itself. Whoever sums rows has to know.
"""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence

import msgspec
import pyarrow as pa

from wsrec.feed.schema import Feed
from wsrec.feed.table_columns import Table
from wsrec.format.asked_names import wanted_channels
from wsrec.format.capture_file import CaptureFile
from wsrec.format.declared_feed import declared_feed
from wsrec.format.errors import CaptureError
from wsrec.format.selection import EVERYTHING, Selection, outside
from wsrec.tables.session_files import are_of_one_run
from wsrec.units import clean, named, plural, utc

EACH_ONCE = "to count each once: docs/reference/tables.md, Two sessions at once"
"""The cure."""

_Stream = tuple[str, str | None]


class SessionOverlap(msgspec.Struct, frozen=True):
    """Messages of a table that two sessions of a feed recorded at the same time.

    Attributes:
        feed, table: their names.
        earlier, later: the sessions, in order of their beginnings.
        since, until: the interval that both recorded (ns since the epoch, both included).
        streams: the streams of which both have messages in it: channel, and symbol where there is one.
        messages: how many of these may be there twice: of each stream as many as the session with fewer of them has.

    """

    feed: str
    table: str
    earlier: str
    later: str
    since: int
    until: int
    streams: list[str]
    messages: int

    def __str__(self) -> str:
        """What the two have in common, in a line without the cure."""
        some = plural(self.messages, "message")
        sessions = f"{clean(self.earlier, 80)} and {clean(self.later, 80)}"
        return (
            f"{self.table} of {clean(self.feed, 60)}: up to {some} of {named(self.streams)} are in two "
            f"sessions at once, {sessions}, from {utc(self.since)} to {utc(self.until)}"
        )


def session_overlaps(
    files: Sequence[CaptureFile],
    tables: Collection[Table],
    selection: Selection = EVERYTHING,
    feeds: Mapping[str, Feed] | None = None,
) -> list[SessionOverlap]:
    """What of some tables is there twice, as two sessions recorded it at the same time.

    Messages are read only where the times of two sessions' files overlap. A damaged file counts up to its damage.

    Args:
        files: the messages files.
        tables: the tables.
        selection: which rows.
        feeds: feeds in place of those of the catalogue, by name.

    """
    by_session: defaultdict[tuple[str, str], list[CaptureFile]] = defaultdict(list)
    for file in files:
        if file.first_time is not None and file.last_time is not None and not outside(file, selection):
            by_session[file.feed, file.session].append(file)
    found = []
    for (name, earlier), (_, later), since, until in _pairs(by_session):
        since, until = max(since, selection.since or since), min(until, (selection.until or until + 1) - 1)
        if since > until:
            continue
        feed = (feeds or {}).get(name) or declared_feed(by_session[name, earlier][0])
        streams = _in_both([by_session[name, each] for each in (earlier, later)], since, until, feed, selection)
        for table in (each for each in tables if each is not Table.GAPS):
            of_table = {stream: count for stream, count in streams.items() if table in feed.table_names(stream[0])}
            if of_table:
                names = sorted(" ".join(filter(None, stream)) for stream in of_table)
                about = name, str(table), earlier, later, since, until
                found.append(SessionOverlap(*about, names, sum(of_table.values())))
    return found


def _pairs(
    by_session: Mapping[tuple[str, str], Sequence[CaptureFile]],
) -> Iterator[tuple[tuple[str, str], tuple[str, str], int, int]]:
    """Two sessions of a feed with the interval that both are in; two writers of one run share its streams."""
    times = {
        owner: (min(file.first_time or 0 for file in files), max(file.last_time or 0 for file in files))
        for owner, files in by_session.items()
    }
    owners = sorted(times, key=lambda owner: (owner[0], times[owner]))
    for place, one in enumerate(owners):
        for other in owners[place + 1 :]:
            since, until = times[other][0], min(times[one][1], times[other][1])
            if other[0] != one[0] or since > until:
                break
            if not are_of_one_run(one[1], other[1]):
                yield one, other, since, until


def _in_both(
    of_sessions: Sequence[Sequence[CaptureFile]], since: int, until: int, feed: Feed, selection: Selection
) -> dict[_Stream, int]:
    """The streams of which both sessions have messages between two times, with the smaller of their numbers."""
    channels = wanted_channels(feed, selection.channels)
    symbols = selection.in_feed(feed).symbols
    counts = []
    for files in of_sessions:
        count: Counter[_Stream] = Counter()
        for file in files:
            # it is reported by those who need all of its rows
            with contextlib.suppress(CaptureError):
                for batch in file.batches(["channel", "symbol"], since=since, until=until + 1, ordered=False):
                    rows = pa.Table.from_batches([batch]).group_by(["channel", "symbol"]).aggregate([([], "count_all")])
                    for row in rows.to_pylist():
                        count[row["channel"], row["symbol"]] += row["count_all"]
        counts.append(count)
    return {
        stream: times
        for stream, times in (counts[0] & counts[1]).items()
        if stream[0] is not None
        and (channels is None or stream[0] in channels)
        # of a message without a symbol the rows may have any
        and (not symbols or stream[1] is None or stream[1].casefold() in symbols)
    }
