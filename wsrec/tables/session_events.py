"""What the events of a session say about its rows: breaks, overlaps, and what was subscribed when."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from wsrec.feed.schema import Feed
from wsrec.feed.sequence_rules import SequenceRule
from wsrec.format.columns import times
from wsrec.monitor.comparison import REASONS, Link
from wsrec.ring.events import EventKind
from wsrec.tables.breaks import AFTERWARDS, Answered, Begin, Break, BreakKind, Join, Overlap, Unchecked


class SessionEvents:
    """What the events of one session and feed say about its rows.

    Args:
        feed: the feed.
        connections: `wsrec.connections` of a file's metadata.
        events: the events in order, each batch with the number of its file: all columns of `EVENT_SCHEMA`.

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

    """

    def __init__(
        self, feed: Feed, connections: Sequence[Mapping[str, Any]], events: Iterable[tuple[int, pa.RecordBatch]]
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
        # the overlap of each old connection that is still open
        self._open: dict[int | None, int] = {}
        self._closed: set[int | None] = set()
        # when each connection ended last
        self._ended: dict[int | None, int] = {}
        for file, batch in events:
            for event in _rows(batch):
                self._take(file, event)

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
        for found in self._unsubscribed(event) if event.kind in _UNSUBSCRIBED else self._break(event):
            self.breaks.append(found)
            self.files.append(file)
        kind, detail = event.kind, event.detail
        if kind == EventKind.SNAPSHOT_JOINED and event.conn is not None and event.channel is not None:
            if (number := _integer(detail.get("number"))) is not None:
                self.joins.append(Join(event.place, event.conn, self._names(event.channel), event.symbol, number))
        elif kind == EventKind.REPLACED:
            self._replaced(event)
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
            self._open.pop(event.conn if topics is None else None, None)
            self.begins.append(Begin(event.place, event.time, event.conn, streams))
        elif kind in (*_UNSUBSCRIBED, EventKind.ACK) and event.conn is not None:
            streams = frozenset(self._streams(event.conn, detail.get("topics")))
            of = self.confirmed if kind == EventKind.ACK else self.denied
            of.append(Answered(event.place, event.conn, streams))
        elif kind == EventKind.UNCHECKED and event.channel is not None:
            names, skipped = self._names(event.channel), detail.get("skipped")
            for link, found_in in ((Link.UNLINKED, self.unchecked), (Link.UNNUMBERED, self.unnumbered)):
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
            case EventKind.RESTART if detail.get("process") == "writer":
                yield _break(event, BreakKind.RESUMED)
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
        return found._replace(seq=seq)

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
        EventKind.RESTART,
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
