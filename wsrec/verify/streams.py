"""Streams: which intervals of each channel and symbol are provably complete, and why the others are not.

Rows and events come in order of time. A connection lives in epochs, from one `connect` to the next `disconnect`; within
an epoch TCP brings everything in order or breaks. So the time of a stream is covered from its subscription's
confirmation (its first message where nothing confirms) to the end of the epoch, and what lies between two covered
intervals is incomplete. Within a covered interval the feed's rule decides: where it would show a loss, the messages
from the first to the last prove themselves; before, behind and without such a rule only the connection speaks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from wsrec.feed.schema import Feed, SequenceRule, SequenceScope
from wsrec.feed.sequence import SequenceGap
from wsrec.feed.topics import Topic, TopicReader
from wsrec.histogram import Int64s
from wsrec.report.columns import Bools
from wsrec.ring.events import EventKind
from wsrec.verify.model import Interval, Loss, State, Stream

_PROVING = (SequenceRule.NEXT, SequenceRule.TOUCHING, SequenceRule.PREVIOUS)
# An exchange can name symbols without end; beyond this many they are one stream a connection
_STREAMS = 65_536
_LISTED = 1_000
_OTHERS = "(other channels)"

Key = tuple[int, str | None, str | None]


class _Epoch:
    """One life of a connection."""

    def __init__(self) -> None:
        self.opened: int | None = None
        self.end: int | None = None
        self.reason = ""
        self.handed_over = False
        # until when nothing came any more that should have, where that is known
        self.lost_until: int | None = None
        self.acked: dict[str, int] = {}
        self.failed: dict[str, str] = {}


class _Span:
    """A stream's messages in one epoch: the first, the last, and the breaks of the rule between them."""

    def __init__(self, first: int) -> None:
        self.first = self.last = first
        self.breaks: list[tuple[int, int, str]] = []


class _Messages:
    """What is known of one stream."""

    def __init__(self) -> None:
        self.count = 0
        self.gaps = 0
        self.spans: dict[int, _Span] = {}
        self.last = 0


class Streams:
    """The streams of one session and feed.

    Args:
        feed: the feed as its files' metadata have it; None where they have none that can be read.

    Attributes:
        losses: what could not be received, by time.
        gap_rows: `seq` of the rows whose gap the events files tell of.
        start, end: first and last moment of anything.
        stalls, stalled: full rings, and for how long (ns).
        ended: the detail of the `session_end` event, None without one.
        receiver_died: whether a receiver was started anew.
        recovered: whether a part of it was recovered from a journal.
        resumed: whether its writer died and another went on.
        unattributed: received messages that name no channel.

    """

    def __init__(self, feed: Feed | None) -> None:
        self._feed = feed
        self._has_fields = feed is not None and feed.fields is not None
        self._epochs: dict[int, list[_Epoch]] = {}
        self._streams: dict[Key, _Messages] = {}
        self._asked: dict[int, dict[str, None]] = {}
        # gaps of numbers that run over a channel (or a connection: None): each of its streams may miss the messages
        self._shared_gaps: dict[tuple[int, str | None], list[Loss]] = {}
        self._last_row: dict[int, int] = {}
        self.losses: list[Loss] = []
        self.gap_rows: set[int] = set()
        self.gap_events = 0
        self.start: int | None = None
        self.end: int | None = None
        self.stalls = self.stalled = 0
        self.ended: dict[str, Any] | None = None
        self.recovered = False
        self.resumed = False
        self.receiver_died = False
        self.unattributed = 0

    def event(self, time: int, kind: str, conn: int | None, detail: dict[str, Any]) -> None:
        """An event (ns since the epoch), in order of time among rows and events."""
        if kind not in (EventKind.LOST_INTERVAL, EventKind.RECOVERED):
            # these two can be written long after the session
            self.start = time if self.start is None else min(self.start, time)
            self.end = time if self.end is None else max(self.end, time)
        if kind == EventKind.SESSION_END:
            self.ended = detail
        elif kind == EventKind.RECOVERED:
            self.recovered = True
        elif kind == EventKind.RESTART:
            self.resumed = self.resumed or detail.get("process") == "writer"
            self.receiver_died = self.receiver_died or detail.get("process") == "receiver"
        elif kind == EventKind.GAP:
            self.gap_events += 1
            self.gap_rows.add(_integer(detail.get("seq"), -1))
        elif kind == EventKind.STALL:
            self.stalls += 1
            self.stalled += _integer(detail.get("duration_ns"))
        elif kind == EventKind.LOST_INTERVAL:
            self._lost(time, conn, detail)
        elif kind == EventKind.REPLACED:
            self._replaced(_integer(detail.get("from_conn"), -1))
        elif conn is not None:
            self._connection_event(time, kind, conn, detail)

    def _connection_event(self, time: int, kind: str, conn: int, detail: dict[str, Any]) -> None:
        if kind == EventKind.CONNECT:
            epoch = self._current(conn)
            epoch.opened = time if epoch.opened is None else epoch.opened
        elif kind == EventKind.SUBSCRIBE:
            self._asked.setdefault(conn, {}).update(dict.fromkeys(topics_of(detail)))
        elif kind == EventKind.ACK:
            self._current(conn).acked.update(dict.fromkeys(topics_of(detail), time))
        elif kind in (EventKind.REFUSED, EventKind.UNANSWERED):
            said = detail.get("message")
            reason = f"the exchange refused it: {said}" if kind == EventKind.REFUSED else "nobody answered the request"
            self._current(conn).failed.update(dict.fromkeys(topics_of(detail), reason))
        elif kind == EventKind.CLOSE:
            epoch = self._current(conn)
            if epoch.end is None:
                epoch.end, epoch.reason = time, f"closed by {detail.get('by')}"
        elif kind == EventKind.DISCONNECT:
            epoch = self._current(conn)
            epoch.end = time if epoch.end is None else min(epoch.end, time)
            epoch.reason = str(detail.get("message") or epoch.reason or "the connection ended")
            self._epochs[conn].append(_Epoch())

    def _lost(self, time: int, conn: int | None, detail: dict[str, Any]) -> None:
        start, end = _integer(detail.get("from"), time), _integer(detail.get("to"), time)
        reason = str(detail.get("reason", ""))
        self.losses.append(Loss(conn=conn, start=start, end=end, reason=reason))
        for number in self._epochs if conn is None else (conn,):
            for epoch in self._epochs.get(number, [])[-2:]:
                # a connection that broke may have been dead before that showed
                if epoch.opened is not None and epoch.opened <= start and (epoch.end is None or epoch.end > start):
                    epoch.end, epoch.reason, epoch.lost_until = start, epoch.reason or reason, end

    def _replaced(self, conn: int) -> None:
        """Another connection has taken over before this one was closed: until its next turn it owes nothing."""
        ended = [epoch for epoch in self._epochs.get(conn, []) if epoch.opened is not None]
        if ended:
            ended[-1].handed_over = True

    def _current(self, conn: int) -> _Epoch:
        epochs = self._epochs.setdefault(conn, [])
        if not epochs:
            epochs.append(_Epoch())
        return epochs[-1]

    def missing(self, start: int, end: int, reason: str) -> None:
        """What happened between two moments is not known: rows or events are missing."""
        self.losses.append(Loss(conn=None, start=start, end=end, reason=reason))

    def rows(
        self,
        handoff: Int64s,
        conns: npt.NDArray[np.uint16],
        channels: tuple[npt.NDArray[np.integer], list[str | None]],
        symbols: tuple[npt.NDArray[np.integer], list[str | None]],
        carried: Bools,
        gaps: Sequence[SequenceGap],
    ) -> None:
        """Rows between two disconnects; `channels` and `symbols` as codes and words, `gaps` by their place in them."""
        if not len(handoff):
            return
        self.start = int(handoff[0]) if self.start is None else min(self.start, int(handoff[0]))
        self.end = int(handoff[-1]) if self.end is None else max(self.end, int(handoff[-1]))
        counted = carried
        if self._has_fields:
            counted = carried & (channels[0] != len(channels[1]) - 1)
            self.unattributed += int(np.count_nonzero(carried) - np.count_nonzero(counted))
        place = np.flatnonzero(counted)
        wide = (len(channels[1]), len(symbols[1]))
        code = (conns.astype(np.int64) * wide[0] + channels[0]) * wide[1] + symbols[0]
        order = place[np.argsort(code[place], kind="stable")]
        bounds = np.flatnonzero(np.diff(code[order], prepend=-1, append=-1))
        groups = {}
        for begin, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            rows = order[begin:stop]
            first = int(rows[0])
            key = (int(conns[first]), channels[1][int(channels[0][first])], symbols[1][int(symbols[0][first])])
            groups[key] = rows
        broken: dict[Key, list[SequenceGap]] = {}
        for gap in gaps:
            if gap.scope is SequenceScope.SYMBOL:
                broken.setdefault((gap.conn, gap.channel, gap.symbol), []).append(gap)
            else:
                self._share(gap, handoff, np.flatnonzero(carried & (conns == gap.conn)))
        for key, rows in groups.items():
            self._add(key, handoff, rows, broken.get(key, ()))
        for conn in np.unique(conns[carried]).tolist():
            self._last_row[conn] = int(handoff[np.flatnonzero(carried & (conns == conn))[-1]])

    def _share(self, gap: SequenceGap, handoff: Int64s, rows: Int64s) -> None:
        """A gap that is not one stream's, `rows` being those of its connection."""
        after = int(handoff[gap.index])
        at = int(np.searchsorted(rows, gap.index))
        before = int(handoff[rows[at - 1]]) if at else self._last_row.get(gap.conn, after)
        shared = self._shared_gaps.setdefault((gap.conn, gap.channel), [])
        if len(shared) < _LISTED:
            shared.append(Loss(conn=gap.conn, start=before, end=after, reason=_describe(gap)))
        else:
            shared[-1] = msgspec.structs.replace(shared[-1], end=after)

    def _add(self, key: Key, handoff: Int64s, rows: Int64s, gaps: Sequence[SequenceGap]) -> None:
        if key not in self._streams and len(self._streams) >= _STREAMS:
            key = (key[0], _OTHERS, None)
        stream = self._streams.setdefault(key, _Messages())
        epochs = self._epochs.setdefault(key[0], [])
        if not epochs:
            epochs.append(_Epoch())
        first = int(handoff[rows[0]])
        if epochs[-1].opened is None:
            # in the files' part that was looked at the connection is there already, or came with this very read
            epochs[-1].opened = first
        span = stream.spans.setdefault(len(epochs) - 1, _Span(first))
        for gap in gaps:
            at = int(np.searchsorted(rows, gap.index))
            before = int(handoff[rows[at - 1]]) if at else (stream.last or first)
            stream.gaps += 1
            if len(span.breaks) < _LISTED:
                span.breaks.append((before, int(handoff[gap.index]), _describe(gap)))
            else:
                # too many to tell apart: one that reaches from there to here
                began, _, said = span.breaks[-1]
                span.breaks[-1] = (began, int(handoff[gap.index]), said)
        span.last = stream.last = int(handoff[rows[-1]])
        stream.count += len(rows)

    def result(self) -> list[Stream]:
        """All streams, with those that were asked for and stayed silent."""
        topics = self._topics()
        named: set[tuple[int, str]] = set()
        streams = []
        for key, messages in sorted(self._streams.items(), key=lambda item: tuple(map(_sortable, item[0]))):
            conn, channel, symbol = key
            topic = next((t for t in topics.get(conn, ()) if channel in t.channels and _same(symbol, t.symbol)), None)
            if topic is not None:
                named.add((conn, topic.topic))
            streams.append(self._stream(key, messages, None if topic is None else topic.topic))
        for conn, asked in self._asked.items():
            known = {topic.topic: topic for topic in topics.get(conn, ())}
            for text in asked:
                silent = known.get(text)
                if (conn, text) not in named and (silent is not None or not self._streams):
                    channel = min(silent.channels, key=len) if silent else None
                    key = (conn, channel, silent.symbol if silent else None)
                    streams.append(self._stream(key, _Messages(), text))
        return streams

    def _stream(self, key: Key, messages: _Messages, topic: str | None) -> Stream:
        conn, channel, symbol = key
        rule = self._feed.sequence_rule(channel) if self._feed else SequenceRule.NONE
        intervals = list(self._intervals(conn, messages, topic, proving=rule in _PROVING))
        shared = [loss for key in ((conn, None), (conn, channel)) for loss in self._shared_gaps.get(key, ())]
        for loss in [*(loss for loss in self.losses if loss.conn is None), *shared]:
            intervals = list(_without(intervals, loss))
        time = {state: sum(i.duration for i in intervals if i.state is state) for state in State}
        states = {interval.state for interval in intervals}
        if State.INCOMPLETE in states or messages.gaps or not intervals:
            state = State.INCOMPLETE
        elif not messages.count:
            state = State.SILENT
        else:
            state = State.PROVED if rule in _PROVING else State.UNBROKEN
        return Stream(
            conn=conn,
            channel=channel,
            symbol=symbol,
            topic=topic,
            rule=rule.value,
            state=state,
            messages=messages.count,
            gaps=messages.gaps,
            proved=time[State.PROVED],
            unbroken=time[State.UNBROKEN] + time[State.SILENT],
            incomplete=time[State.INCOMPLETE],
            intervals=intervals[:_LISTED],
        )

    def _intervals(self, conn: int, messages: _Messages, topic: str | None, *, proving: bool) -> Iterator[Interval]:
        """A stream's time from its first confirmation or message to the session's end."""
        assert self.end is not None
        until: int | None = None
        why = ""
        handed_over = False
        for number, epoch in enumerate(self._epochs.get(conn, [])):
            if epoch.opened is None:
                continue
            span = messages.spans.get(number)
            end = max(self.end if epoch.end is None else epoch.end, span.last if span else 0)
            start = epoch.acked.get(topic) if topic is not None else None
            if start is None and span is not None:
                start = span.first
            if start is None:
                start = end if until is not None else epoch.opened
                failed = epoch.failed.get(topic or "", "no message came, and nothing confirms the subscription")
                yield Interval(start=start if until is None else until, end=end, state=State.INCOMPLETE, reason=failed)
                until, why = end, epoch.reason
                continue
            if until is not None and start > until and not handed_over:
                yield Interval(start=until, end=start, state=State.INCOMPLETE, reason=f"reconnected: {why}")
            yield from _covered(start, end, span, proving=proving, silent=not messages.count)
            until, why, handed_over = end, epoch.reason, epoch.handed_over
            if handed_over and epoch.lost_until is not None and epoch.lost_until > end:
                yield Interval(start=end, end=epoch.lost_until, state=State.INCOMPLETE, reason=why)
        last = [loss for loss in self.losses if loss.conn in (conn, None) and until is not None and loss.end > until]
        if last and until is not None and not handed_over:
            yield Interval(start=until, end=last[-1].end, state=State.INCOMPLETE, reason=last[-1].reason)

    def _topics(self) -> dict[int, list[Topic]]:
        """What each connection asked for, as streams."""
        if self._feed is None:
            return {}
        reader = TopicReader(self._feed)
        return {
            conn: [found for topic in asked if (found := reader.read(topic)) is not None]
            for conn, asked in self._asked.items()
        }


def _covered(start: int, end: int, span: _Span | None, *, proving: bool, silent: bool) -> Iterator[Interval]:
    """The time of one epoch in which the stream was subscribed to."""
    if span is None:
        state = State.SILENT if silent else State.UNBROKEN
        yield Interval(start=start, end=max(start, end), state=state, reason="no message came")
        return
    first = max(span.first, start)
    if first > start:
        yield Interval(start=start, end=first, state=State.UNBROKEN, reason="before the first message")
    at = first
    state = State.PROVED if proving else State.UNBROKEN
    for before, after, reason in span.breaks:
        before, after = max(before, at), max(after, at)
        if before > at:
            yield Interval(start=at, end=before, state=state)
        yield Interval(start=before, end=after, state=State.INCOMPLETE, reason=reason)
        at = after
    last = max(span.last, at)
    if last > at or not span.breaks:
        yield Interval(start=at, end=last, state=state)
    if end > last:
        yield Interval(start=last, end=end, state=State.UNBROKEN, reason="after the last message")


def _without(intervals: list[Interval], loss: Loss) -> Iterator[Interval]:
    """The intervals, incomplete where they overlap a loss."""
    for each in intervals:
        start, end = max(each.start, loss.start), min(each.end, loss.end)
        if each.state is State.INCOMPLETE or start > end or (start == end and loss.start < loss.end):
            yield each
            continue
        if each.start < start:
            yield Interval(start=each.start, end=start, state=each.state, reason=each.reason)
        yield Interval(start=start, end=end, state=State.INCOMPLETE, reason=loss.reason)
        if end < each.end:
            yield Interval(start=end, end=each.end, state=each.state, reason=each.reason)


def _describe(gap: SequenceGap) -> str:
    missing = "" if gap.missing is None else f", {gap.missing:,} missing"
    return f"sequence gap ({gap.rule.value}): expected {gap.expected}, found {gap.found}{missing}"


def topics_of(detail: dict[str, Any]) -> list[str]:
    """The topics that an event names."""
    topics = detail.get("topics")
    return [topic for topic in topics if isinstance(topic, str)] if isinstance(topics, list) else []


def _same(symbol: str | None, asked: str | None) -> bool:
    return asked is None or (symbol is not None and symbol.upper() == asked.upper())


def _sortable(value: int | str | None) -> tuple[bool, int, str]:
    return (value is not None, value if isinstance(value, int) else 0, value if isinstance(value, str) else "")


def _integer(value: Any, default: int = 0) -> int:
    return value if isinstance(value, int) else default
