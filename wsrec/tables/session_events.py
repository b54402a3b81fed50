"""What the events of a session say about its rows: breaks, overlaps, and what was subscribed when."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from wsrec.feed.schema import Feed
from wsrec.feed.sequence_rules import SequenceRule
from wsrec.format.columns import times
from wsrec.monitor.comparison import REASONS, Link
from wsrec.monitor.confirmations import TAKES_NS
from wsrec.ring.events import EventKind
from wsrec.tables.breaks import AFTERWARDS, Answered, Begin, Break, BreakKind, Join, Overlap, Unchecked, Undecided
from wsrec.tables.file_rows import FileRows, Resumption, resumptions


class SessionEvents:
    """What the events of one session and feed say about its rows.

    Args:
        feed: the feed.
        connections: `wsrec.connections` of a file's metadata.
        events: the events in order, each batch with the number of its file: all columns of `EVENT_SCHEMA`.
        files: the messages files in order, as far as they are read.

    Attributes:
        feed: the feed.
        breaks: the places where messages may be missing, in order of the events.
        files: the number of the file that has the event of each break.
        joins: the fetched snapshots that join.
        overlaps: where connections overlapped.
        begins: when connections were opened and topics requested.
        confirmed, denied: when topics were confirmed, and refused.
        unchecked: where rules were not applied, and which messages that concerns is not known.
        unnumbered: where messages have no number.
        unbooked: where messages have a checksum, and there was no book to compare it with.
        rows: the messages files, as far as they are read.
        undecided: where messages may be missing that can come late; None: nowhere.
        resumptions: where new writers began to check.

    """

    def __init__(
        self,
        feed: Feed,
        connections: Sequence[Mapping[str, Any]],
        events: Iterable[tuple[int, pa.RecordBatch]],
        files: Sequence[FileRows] = (),
    ) -> None:
        self.feed = feed
        self._partners = _partners(connections)
        self._topics: dict[tuple[int | None, str], tuple[str, str | None]] = dict(_topics(connections))
        self.breaks: list[Break] = []
        self.files: list[int] = []
        self.joins: list[Join] = []
        self.overlaps: list[Overlap] = []
        self.begins: list[Begin] = []
        self.confirmed: list[Answered] = []
        self.denied: list[Answered] = []
        self.unchecked: set[Unchecked] = set()
        self.unnumbered: set[Unchecked] = set()
        self.unbooked: set[Unchecked] = set()
        self.rows = list(files)
        self.resumptions = list(resumptions(files))
        self._first_file = min((each.number for each in files), default=0)
        self._event_files = set[int]()
        self._is_ended = False
        # the overlap of each old connection that is still open
        self._open: dict[int | None, int] = {}
        self._closed: set[int | None] = set()
        # when each connection ended last
        self._ended: dict[int | None, int] = {}
        # when each connection was opened last, and the number of the file that says so
        self._opened: dict[int, tuple[int, int]] = {}
        for file, batch in events:
            self._event_files.add(file)
            for event in _rows(batch):
                self._take(file, event)
        # what broke in a file without its events is not known behind it
        for before, after in pairwise(files):
            if self.lacks(before.number):
                self.resumptions.append(Resumption(after.number, after.first_seq, after.first_seq))
        self.undecided = self._undecided()
        for number, hole in _holes(files):
            self.breaks.append(hole)
            self.files.append(number)

    def _undecided(self) -> Undecided | None:
        late = self.feed.sequence.late if self.feed.sequence is not None else None
        if late is None or self._is_ended or not self.rows:
            return None
        conns = frozenset(each.conn for each in self.begins if each.conn not in self._closed)
        left, seq = late.within * len(conns), self.rows[-1].last_seq + 1
        for each in reversed(self.rows):
            if left <= 0:
                break
            left -= each.last_seq + 1 - each.first_seq
            seq = each.first_seq
        return Undecided(seq, conns)

    def file_of(self, seq: int) -> int:
        """The number of the file with a row, or of the first one if there is none."""
        return next((each.number for each in self.rows if each.first_seq <= seq <= each.last_seq), self._first_file)

    def lacks(self, file: int) -> bool:
        """Whether the events of a messages file are not here."""
        return file not in self._event_files and any(each.number == file and each.has_events for each in self.rows)

    def is_begun_in(self, conn: int, file: int, moment: int) -> bool:
        """Whether a connection's life at a moment (stage clock) began in a file or later, and took over from no other.

        Its first messages then have none before them.
        """
        opened = [each for each in self.begins if each.conn == conn and each.streams is None and each.place <= moment]
        if not opened:
            return False
        last = max(opened, key=lambda each: each.place)
        next_one = min(
            (e.place for e in self.begins if e.conn == conn and e.streams is None and e.place > last.place),
            default=AFTERWARDS,
        )
        took_over = any(each.new == conn and last.place <= each.taken < next_one for each in self.overlaps)
        return last.file >= file and not took_over

    def subscribed_since(self, conn: int, channel: str | None, symbol: str | None, until: int) -> int | None:
        """Since when a connection that is open at a moment (stage clock) is subscribed to a stream; None if it is not.

        That is when it was confirmed, where the exchange confirms, and when it was requested otherwise.
        """
        wanted = {(channel, folded(name)) for name in (symbol, None)}

        def places(events: Iterable[Begin | Answered], since: int) -> list[int]:
            return [
                each.place
                for each in events
                if each.conn == conn
                and since <= each.place <= until
                and each.streams is not None
                and any((name, folded(of)) in wanted for name, of in each.streams)
            ]

        opened = [e.place for e in self.begins if e.conn == conn and e.streams is None and e.place <= until]
        since = max(opened, default=0)
        if not any(
            (name, folded(of)) in wanted for stream in self._topics.values() for name, of in self._named(stream)
        ):
            # a stream that no topic names is not known to be missing
            return since
        begun = min(places(self.begins if self.feed.ack is None else self.confirmed, since), default=None)
        return None if begun is None or places(self.denied, begun) else begun

    def _named(self, stream: tuple[str, str | None]) -> Iterator[tuple[str, str | None]]:
        """A stream by each name that its messages may carry."""
        return ((name, stream[1]) for name in self._names(stream[0]))

    def _take(self, file: int, event: _Event) -> None:
        kind, detail = event.kind, event.detail
        breaks = [*(self._unsubscribed(event) if kind in _UNSUBSCRIBED else self._break(event))]
        if kind == EventKind.REPLACED:
            breaks += self._uncompared(file, event)
        self.breaks += breaks
        self.files += [file] * len(breaks)
        if kind == EventKind.SNAPSHOT_JOINED and event.conn is not None and event.channel is not None:
            if (number := _integer(detail.get("number"))) is not None:
                names = self._names(event.channel)
                self.joins.append(Join(event.place, event.conn, names, event.symbol, number, file))
        elif kind == EventKind.REPLACED:
            self._replaced(event)
        elif kind == EventKind.SESSION_END:
            self._is_ended = True
        elif kind == EventKind.DISCONNECT:
            # the old connection of an overlap is closed before the event `replaced`, or after it
            self._closed.add(event.conn)
            self._ended[event.conn] = event.place
            place = self._open.pop(event.conn, None)
            if place is not None:
                overlap = self.overlaps[place]
                self.overlaps[place] = overlap._replace(end=max(overlap.end, event.place))
        elif kind in (EventKind.CONNECT, EventKind.SUBSCRIBE) and event.conn is not None:
            topics = detail.get("topics") if kind == EventKind.SUBSCRIBE else None
            streams = None if topics is None else frozenset(self._streams(event.conn, topics))
            self._closed.discard(event.conn)
            if topics is None:
                self._open.pop(event.conn, None)
                self._opened[event.conn] = event.place, file
            self.begins.append(Begin(event.place, event.time, event.conn, streams, file))
        elif kind in (*_UNSUBSCRIBED, EventKind.ACK) and event.conn is not None:
            streams = frozenset(self._streams(event.conn, detail.get("topics")))
            of = self.confirmed if kind == EventKind.ACK else self.denied
            of.append(Answered(event.place, event.conn, streams))
        elif kind == EventKind.UNCHECKED:
            # without a channel: of a connection's numbers
            names, skipped = self._names(event.channel or ""), detail.get("skipped")
            for link, found_in in (
                (Link.UNLINKED, self.unchecked),
                (Link.UNNUMBERED, self.unnumbered),
                (Link.AFTER_UNNUMBERED, self.unnumbered),
                (Link.NO_BOOK, self.unbooked),
            ):
                if isinstance(skipped, dict) and REASONS[link] in skipped:
                    found_in |= {Unchecked(file, name) for name in names}

    def _replaced(self, event: _Event) -> None:
        detail = event.detail
        old, new = _integer(detail.get("from_conn")), _integer(detail.get("to_conn"))
        start, taken = _integer(detail.get("monotonic_from")), _integer(detail.get("monotonic_to"))
        if old is not None and new is not None and start is not None and taken is not None:
            if old not in self._closed:
                self._open[old] = len(self.overlaps)
            self.overlaps.append(Overlap(old, new, start, taken, max(taken, event.place)))

    def _uncompared(self, file: int, event: _Event) -> Iterator[Break]:
        """The first rows on a new connection whose writer died before they could be compared with the old one's."""
        old, new = (_integer(event.detail.get(name)) for name in ("from_conn", "to_conn"))
        if new is None or new not in self._opened:
            return
        place, opened_in = self._opened[new]
        if not any(opened_in < each.file <= file for each in self.resumptions):
            return
        found = _break(event, BreakKind.RESUMED, conns=frozenset([new]))
        yield found._replace(conn=new, start=place, place=place)
        ended = self._ended.get(old, event.place)
        for channel, symbol in sorted(self._unconfirmed(new, place, ended), key=repr):
            why = "not known to be confirmed when the old connection ended, as the writer died"
            of_stream = _break(event, BreakKind.LOST_INTERVAL, channels=frozenset([channel]), why=why)
            yield of_stream._replace(
                conn=new, conns=self._turns(new), channel=channel, symbol=symbol, start=ended, place=ended
            )

    def _unconfirmed(self, conn: int, since: int, until: int) -> set[tuple[str, str | None]]:
        """The streams requested on a connection since a moment that may not have begun until another."""
        mine = [each for each in self.begins if each.conn == conn and each.place >= since]
        requested = {stream for each in mine for stream in each.streams or ()}
        if self.feed.ack is None:
            begun = [each.streams or frozenset() for each in mine if each.place + TAKES_NS <= until]
        else:
            begun = [each.streams for each in self.confirmed if each.conn == conn and since <= each.place <= until]
        return requested.difference(*begun)

    def _unsubscribed(self, event: _Event) -> Iterator[Break]:
        """Streams that were refused, or may have begun on a new connection only after the old one had ended."""
        why = str(event.detail.get("message") or "not confirmed in time")
        for channel, symbol in self._streams(event.conn, event.detail.get("topics")):
            found = _break(
                event,
                BreakKind.LOST_INTERVAL,
                conns=self._turns(event.conn),
                channels=frozenset([channel]),
                why=f"{event.kind}: {why}",
            )
            # on a new connection a stream is missing since the end of the old one
            others = (self._turns(event.conn) or frozenset()) - {event.conn}
            place = max((self._ended[conn] for conn in others if conn in self._ended), default=event.place)
            place = place if event.kind == EventKind.LATE else event.place
            yield found._replace(channel=channel, symbol=symbol, start=place, place=place)

    def _break(self, event: _Event) -> Iterator[Break]:
        detail = event.detail
        match event.kind:
            case EventKind.GAP:
                kind = BreakKind.CHECKSUM if detail.get("rule") == SequenceRule.CHECKSUM else BreakKind.GAP
                yield self._numbered(event, kind)
            case EventKind.SEQUENCE_RESET:
                yield self._numbered(event, BreakKind.RESET)
            case EventKind.LOST_INTERVAL:
                yield self._lost(event)
            case EventKind.DISCONNECT:
                ordered = not detail.get("message") and detail.get("received_bytes") is not None
                kind = BreakKind.END if ordered else BreakKind.DISCONNECT
                conns = None if event.conn is None else frozenset([event.conn])
                yield _break(event, kind, conns=conns, why=str(detail.get("message") or "closed"))
            case EventKind.SNAPSHOT_MISSED:
                names = None if event.channel is None else self._names(event.channel)
                yield _break(event, BreakKind.UNJOINED, channels=names, why=str(detail.get("why") or ""))
            case EventKind.NOT_INFLATED:
                why = f"messages that cannot be inflated: {detail.get('message')}"
                yield _break(event, BreakKind.GAP, conns=self._turns(event.conn), why=why)
            case EventKind.SET_ASIDE:
                why = "a message that killed the writer was set aside"
                yield _break(event, BreakKind.GAP, conns=self._turns(event.conn), why=why, missing=1)

    def _numbered(self, event: _Event, kind: BreakKind) -> Break:
        detail = event.detail
        seq = _integer(detail.get("seq"))
        why = f"{detail.get('what') or 'restart'}: expected {detail.get('expected')}, found {detail.get('found')}"
        conns = None if event.conn is None else frozenset([event.conn])
        channels = None if event.channel is None else frozenset([event.channel])
        missing = _integer(detail.get("missing"))
        found = _break(event, kind, conns=conns, channels=channels, why=why, missing=missing)
        is_late = self.feed.sequence is not None and self.feed.sequence.late is not None
        return found._replace(seq=seq, is_late=is_late)

    def _lost(self, event: _Event) -> Break:
        detail = event.detail
        start, end = _integer(detail.get("monotonic_from")), _integer(detail.get("monotonic_to"))
        found = _break(
            event, BreakKind.LOST_INTERVAL, conns=self._turns(event.conn), why=str(detail.get("reason") or "")
        )
        place = event.place if end is None else end
        return found._replace(
            since=_integer(detail.get("from")),
            until=_integer(detail.get("to")),
            place=place,
            start=place if start is None else min(start, place),
        )

    def _turns(self, conn: int | None) -> frozenset[int] | None:
        """A connection and the one that it takes turns with; None for all connections."""
        return None if conn is None else self._partners.get(conn, frozenset([conn]))

    def _names(self, channel: str) -> frozenset[str]:
        """The names that messages of a channel may carry."""
        known = self.feed.channel_by_any_name.get(channel)
        return frozenset([channel, *(known.aliases if known is not None else ())])

    def _streams(self, conn: int | None, topics: Any) -> Iterator[tuple[str, str | None]]:
        for topic in topics if isinstance(topics, list) else ():
            stream = self._topics.get((conn, topic)) if isinstance(topic, str) else None
            if stream is not None:
                yield from self._named(stream)


class _Event(NamedTuple):
    time: int
    place: int
    kind: str
    conn: int | None
    channel: str | None
    symbol: str | None
    detail: dict[str, Any]


def _rows(batch: pa.RecordBatch) -> Iterator[_Event]:
    moments, _ = times(batch, "time")
    places = batch.column("monotonic").fill_null(AFTERWARDS).to_pylist()
    columns = [batch.column(name).to_pylist() for name in ("kind", "conn", "channel", "symbol", "detail")]
    for time, place, kind, conn, channel, symbol, detail in zip(moments.tolist(), places, *columns, strict=True):
        if kind not in _USED:
            continue
        try:
            decoded = msgspec.json.decode(detail)
        except msgspec.DecodeError:
            decoded = {}
        yield _Event(time, place, kind, conn, channel, symbol, decoded if isinstance(decoded, dict) else {})


_UNSUBSCRIBED = (EventKind.LATE, EventKind.REFUSED, EventKind.UNANSWERED)
_USED = frozenset(
    {
        *(EventKind.GAP, EventKind.SEQUENCE_RESET, EventKind.LOST_INTERVAL, EventKind.DISCONNECT, EventKind.CONNECT),
        *(EventKind.SUBSCRIBE, EventKind.SNAPSHOT_JOINED, EventKind.SNAPSHOT_MISSED, EventKind.REPLACED),
        *(EventKind.UNCHECKED, EventKind.NOT_INFLATED, EventKind.SET_ASIDE, EventKind.ACK),
        EventKind.SESSION_END,
        *_UNSUBSCRIBED,
    }
)


def folded(symbol: str | None) -> str | None:
    """A symbol in upper case, for comparison: exchanges write it in either case."""
    return None if symbol is None else symbol.upper()


def _break(
    event: _Event,
    kind: BreakKind,
    *,
    conns: frozenset[int] | None = None,
    channels: frozenset[str] | None = None,
    why: str = "",
    missing: int | None = None,
) -> Break:
    if conns is None and event.conn is not None:
        conns = frozenset([event.conn])
    return Break(
        kind=kind,
        time=event.time,
        since=None,
        until=event.time,
        start=event.place,
        place=event.place,
        noticed=event.place,
        seq=None,
        conn=event.conn,
        conns=conns,
        channels=channels,
        channel=event.channel,
        symbol=event.symbol,
        missing=missing,
        detail=why,
    )


def _holes(files: Sequence[FileRows]) -> Iterator[tuple[int, Break]]:
    """Where files between others are missing or cannot be read, and the number of the file behind."""
    for before, after in pairwise(files):
        first, last = before.last_seq + 1, after.first_seq - 1
        if first > last:
            continue
        time = after.first_time or before.last_time or 0
        found = _Event(time, AFTERWARDS if after.begin is None else after.begin, "", None, None, None, {})
        why = f"the rows {first} to {last} are in no file that is here and can be read"
        hole = _break(found, BreakKind.LOST_INTERVAL, why=why, missing=last - first + 1)
        yield after.number, hole._replace(since=before.last_time, until=after.first_time, seq=after.first_seq)


def _partners(connections: Sequence[Mapping[str, Any]]) -> dict[int, frozenset[int]]:
    """The connections that each takes turns with, itself included."""
    first: dict[int, int] = {}
    for described in connections:
        conn, of = _integer(described.get("conn")), _integer(described.get("standby_of"))
        if conn is not None:
            first[conn] = conn if of is None else of
    members: dict[int, set[int]] = {}
    for conn, of in first.items():
        members.setdefault(of, {of}).add(conn)
    return {conn: frozenset(members[of]) for conn, of in first.items()}


def _topics(
    connections: Sequence[Mapping[str, Any]],
) -> Iterator[tuple[tuple[int | None, str], tuple[str, str | None]]]:
    """Channel and symbol of each topic, by connection."""
    for described in connections:
        conn = _integer(described.get("conn"))
        listed = [*_list(described.get("requested_by_url"))]
        for request in _list(described.get("requests")):
            listed += _list(request.get("topics"))
        for topic in listed:
            name, channel = topic.get("topic"), topic.get("channel")
            if conn is not None and isinstance(name, str) and isinstance(channel, str):
                yield (conn, name), (channel, topic.get("symbol"))


def _list(value: Any) -> list[Mapping[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
