"""Streams: the provably complete intervals of each channel and symbol, and why the others are not.

Rows and events come in order of time. A connection lives in epochs, from one `connect` to the next `disconnect`; within
an epoch TCP brings everything in order or breaks. So the time of a stream is covered from its subscription's
confirmation (its first message where nothing confirms) to the end of the epoch, and what lies between two covered
intervals is incomplete, also where the next epoch is that of the connection which stands by for this one. Whatever a
loss overlaps is incomplete, in every epoch. Within a covered interval the feed's rule decides: where it would show a
loss, the successions that were compared prove themselves; all the rest only the connection speaks for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from wsrec.feed.schema import Feed, SequenceRule, SequenceScope
from wsrec.format.columns import Bools
from wsrec.histogram import Int64s
from wsrec.monitor.comparison import Link, Links, count
from wsrec.monitor.confirmations import TAKES_NS
from wsrec.monitor.sequence import SequenceGap
from wsrec.plan.request_table import RequestTable
from wsrec.plan.topics import Topic, stream_of
from wsrec.ring import loss_evidence as evidence
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
        # whether that is told of; else its first row was the first sign of it, and what it asked for is not known
        self.connected = False
        self.end: int | None = None
        self.reason = ""
        # whether it took the place of one that was still open then
        self.took_over = False
        # and whether it had brought nothing by then, and nothing shows that it was there
        self.unproved = False
        # its last message, and whether it ended in another way than in order
        self.last_row = 0
        self.broke = False
        # where another one took over: its last data of any kind
        self.alive_until = 0
        self.asked: dict[str, int] = {}
        # what the writer knew not to have begun when the connection ended whose place this one took
        self.late: set[str] = set()
        self.acked: dict[str, int] = {}
        self.failed: dict[str, str] = {}
        # what waited for an answer where a file began: a writer that goes on with it does not know of that
        self.forgotten: set[str] = set()


class _Piece(NamedTuple):
    """What lies between two messages of a stream, or between many of the same state."""

    start: int
    end: int
    state: State
    reason: str


_WORST = (State.PROVED, State.UNBROKEN, State.INCOMPLETE)


class _Span:
    """A stream's messages in one epoch: the first, the last, and what lies between them."""

    def __init__(self, first: int) -> None:
        self.first = self.last = first
        self.run = 0
        self.pieces: list[_Piece] = []

    def add(self, piece: _Piece) -> None:
        """Put one behind the last."""
        if self.pieces:
            last = self.pieces[-1]
            same = last[2:] == piece[2:] and piece.state is not State.INCOMPLETE
            if same or len(self.pieces) >= _LISTED:
                # too many to tell apart: the worse of both
                state, reason = max(last[2:], piece[2:], key=lambda each: _WORST.index(each[0]))
                self.pieces[-1] = _Piece(last.start, piece.end, state, reason)
                return
        self.pieces.append(piece)


class _Messages:
    """What is known of one stream."""

    def __init__(self) -> None:
        self.count = 0
        self.gaps = 0
        self.links: Counter[int] = Counter()
        self.spans: dict[int, _Span] = {}
        self.last = 0


class Held(NamedTuple):
    """What the feed's rules say of rows.

    Attributes:
        gaps: what breaks them, by the rows' places.
        links: how each row was compared with its predecessor.
        runs: the run of compared successions that each belongs to, 0 where to none.

    """

    gaps: Sequence[SequenceGap]
    links: Links
    runs: Int64s


class Streams:
    """The streams of one session and feed.

    Args:
        feed: the feed as its files' metadata have it; None where they have none that can be read.
        requests: what its connections ask for, as its files' metadata say; `subscribe` events tell of later ones.
        whole: whether all of the session's files are looked at.

    Attributes:
        standby_of: of a connection that stands by: the one that it takes turns with.
        losses: what could not be received, by time.
        lost_slots: how many frames and events events say are lost.
        gap_rows: `seq` of the rows whose gap the events files tell of.
        start, end: first and last moment of anything.
        started: whether the event of the session's start is there.
        stalls, stalled: full rings, and for how long (ns).
        ended: the detail of the `session_end` event, None without one.
        receiver_died: whether a receiver was restarted.
        recovered: whether a part of it was recovered from a journal.
        resumed: whether its writer died and another went on.
        unattributed: received messages that name no channel.
        not_inflated: messages that do not inflate, by connection: they may be of any of its streams.

    """

    def __init__(
        self, feed: Feed | None, requests: RequestTable, standby_of: Mapping[int, int], *, whole: bool = True
    ) -> None:
        self._feed = feed
        self._requests = requests
        self._has_fields = feed is not None and feed.fields is not None
        self._epochs: dict[int, list[_Epoch]] = {}
        self._streams: dict[Key, _Messages] = {}
        self._asked: dict[int, dict[str, None]] = {}
        # gaps of numbers that run over a channel (or a connection: None): each of its streams may miss the messages
        self._shared_gaps: dict[tuple[int, str | None], list[Loss]] = {}
        # what of a stream lies between numbers that do not join, of two connections that take turns
        self._unjoined: dict[Key, list[Loss]] = {}
        self._last_row: dict[int, int] = {}
        self._standby_of = standby_of
        self.losses: list[Loss] = []
        self._unread: list[Loss] = []
        # whether some of what happened is not there, or cannot be read
        self._torn = not whole
        self.lost_slots = 0
        self.gap_rows: set[int] = set()
        self.gap_events = 0
        self.start: int | None = None
        self.end: int | None = None
        self.started = False
        self._headless: Loss | None = None
        self.stalls = self.stalled = 0
        self.ended: dict[str, Any] | None = None
        self.recovered = False
        self.resumed = False
        self.receiver_died = False
        self.unattributed = 0
        # the lives of connections that brought a message of any stream: nothing else shows that the exchange was there
        self._lively: set[tuple[int, int]] = set()
        self.not_inflated: Counter[int] = Counter()

    def event(self, time: int, kind: str, conn: int | None, detail: dict[str, Any]) -> None:
        """An event (ns since the epoch), in order of time among rows and events."""
        if kind not in (EventKind.LOST_INTERVAL, EventKind.RECOVERED):
            # these two can be written long after the session
            self.start = time if self.start is None else min(self.start, time)
            self.end = time if self.end is None else max(self.end, time)
        if kind == EventKind.SESSION_START:
            self.started = True
        elif kind == EventKind.SESSION_END:
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
            start, end = _integer(detail.get("from"), time), _integer(detail.get("to"), time)
            known = ("reason", "from_evidence", "to_evidence", "bound")
            stated: dict[str, Any] = {key: str(detail.get(key) or "") for key in known}
            self.losses.append(Loss(conn=conn, start=start, end=end, **stated))
            if slots := _integer(detail.get("slots")):
                # what happened to the connections is not told either
                self.interrupt(stated["reason"])
                self.lost_slots += slots
        elif kind == EventKind.REPLACED:
            turn = _integer(detail.get("from_conn"), -1), _integer(detail.get("to_conn"), -1)
            self._replaced(*turn, detail.get("to"), proved=detail.get("proved") is True)
        elif conn is not None:
            self._connection_event(time, kind, conn, detail)

    def _connection_event(self, time: int, kind: str, conn: int, detail: dict[str, Any]) -> None:
        if kind == EventKind.CONNECT:
            epoch = self._current(conn)
            epoch.opened, epoch.connected = time if epoch.opened is None else epoch.opened, True
        elif kind == EventKind.SUBSCRIBE:
            if isinstance(detail.get("request"), int):
                self._requests.announced(conn, detail["request"], topics_of(detail))
            self._asked.setdefault(conn, {}).update(dict.fromkeys(topics_of(detail)))
            asked = self._current(conn).asked
            asked.update((topic, time) for topic in topics_of(detail) if topic not in asked)
        elif kind == EventKind.NOT_INFLATED:
            self.not_inflated[conn] += _integer(detail.get("count"))
        elif kind == EventKind.LATE:
            self._current(conn).late.update(topics_of(detail))
        elif kind == EventKind.ACK:
            self._current(conn).acked.update(dict.fromkeys(topics_of(detail), time))
        elif kind in (EventKind.REFUSED, EventKind.UNANSWERED):
            stated = detail.get("message")
            answer = "nobody answered the request" + (f": {stated}" if stated else "")
            reason = f"the exchange refused it: {stated}" if kind == EventKind.REFUSED else answer
            self._current(conn).failed.update(dict.fromkeys(topics_of(detail), reason))
        elif kind == EventKind.CLOSE:
            epoch = self._current(conn)
            if epoch.end is None:
                epoch.end, epoch.reason = time, f"closed by {detail.get('by')}"
        elif kind == EventKind.DISCONNECT:
            epoch = self._current(conn)
            # what we close goes on to bring messages until it is closed
            epoch.end = time
            epoch.broke = bool(detail.get("message")) or detail.get("received_bytes") is None
            epoch.reason = str(detail.get("message") or epoch.reason or "the connection ended")
            self._epochs[conn].append(_Epoch())

    def _replaced(self, old: int, new: int, until: Any, *, proved: bool) -> None:
        """A connection has taken over from one that was still open, and had its last data then."""
        for conn in (old, new):
            opened = [epoch for epoch in self._epochs.get(conn, []) if epoch.opened is not None]
            if opened and conn == new:
                opened[-1].took_over, opened[-1].unproved = True, not proved
            elif opened and (opened[-1].end is None or opened[-1].end >= _integer(until)):
                # else it is of a life that is told of nowhere: its events are not there, or cannot be read
                opened[-1].alive_until = _integer(until)

    def _current(self, conn: int) -> _Epoch:
        epochs = self._epochs.setdefault(conn, [])
        if not epochs:
            epochs.append(_Epoch())
        return epochs[-1]

    def missing(self, start: int, end: int, reason: str, *, unread: bool = False) -> None:
        """What happened between two moments is not known: rows or events are missing, or (`unread`) cannot be read."""
        self._torn = True
        of = self._unread if unread else self.losses
        of.append(Loss(conn=None, start=start, end=end, reason=reason))

    def headless(self, start: int, end: int, reason: str, *, unread: bool = False) -> None:
        """The same of all from the session's beginning to the first row that is there: each stream lacks it."""
        self._torn = True
        known: dict[str, Any] = {}
        if start < end:
            known = {"from_evidence": evidence.NAMED, "to_evidence": evidence.NEXT_ROW, "bound": evidence.UPPER}
        self._headless = Loss(conn=None, start=start, end=end, reason=reason, **known)
        (self._unread if unread else self.losses).append(self._headless)

    def begin_file(self) -> None:
        """A file begins, and where a writer died, maybe what another one knows."""
        for epochs in self._epochs.values():
            epochs[-1].forgotten |= epochs[-1].asked.keys() - epochs[-1].acked.keys()

    def interrupt(self, reason: str) -> None:
        """What happened up to here, or from here on, is not known: no connection is taken for the one that was there.

        What it was known to have brought ends with its last message; what it brings from here on begins with the first.
        """
        self._torn = True
        for epochs in self._epochs.values():
            epoch = epochs[-1]
            if epoch.opened is not None or epoch.asked:
                epoch.opened = epoch.last_row if epoch.opened is None else epoch.opened
                epoch.end, epoch.broke, epoch.reason = max(epoch.last_row, epoch.opened), True, reason
                epochs.append(_Epoch())

    def rows(
        self,
        handoff: Int64s,
        conns: npt.NDArray[np.uint16],
        channels: tuple[npt.NDArray[np.integer], list[str | None]],
        symbols: tuple[npt.NDArray[np.integer], list[str | None]],
        carried: Bools,
        held: Held,
    ) -> None:
        """Rows between two disconnects; `channels` and `symbols` as codes and words, `held` by their place in them."""
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
        for gap in held.gaps:
            if gap.from_conn is not None:
                continue
            if gap.scope is SequenceScope.SYMBOL:
                broken.setdefault((gap.conn, gap.channel, gap.symbol), []).append(gap)
            else:
                self._share(gap, handoff, np.flatnonzero(carried & (conns == gap.conn)))
        for key, rows in groups.items():
            self._add(key, handoff, rows, held, broken.get(key, ()))
        for gap in held.gaps:
            if gap.from_conn is not None:
                self.unjoined(gap)
        for conn in np.unique(conns[carried]).tolist():
            self._last_row[conn] = self._current(conn).last_row = int(
                handoff[np.flatnonzero(carried & (conns == conn))[-1]]
            )

    def unjoined(self, gap: SequenceGap) -> None:
        """The first number of a stream on a connection lies beyond the last on the one whose place it took."""
        old, new = ((conn, gap.channel, gap.symbol) for conn in (gap.from_conn or 0, gap.conn))
        messages, before = self._streams.get(new), self._streams.get(old)
        epochs = self._epochs.get(old[0], [])
        ended = [number for number in before.spans if epochs[number].end is not None] if before is not None else []
        if messages is None or before is None or not ended:
            return
        epoch = self._current(gap.conn)
        messages.gaps += 1
        # the old one may be there again
        first, last = messages.spans[max(messages.spans)].first, before.spans[max(ended)].last
        until = max(epochs[max(ended)].end or 0, last)
        reason = f"{_describe(gap)}, from connection {gap.from_conn} to {gap.conn}"
        # where both were open when it came, nothing says which of them brought less than it should
        since = last if last < first else min(first, epoch.opened or first)
        for key, start, end in ((old, last, until), (new, since, first)):
            lost = self._unjoined.setdefault(key, [])
            if len(lost) < _LISTED:
                lost.append(Loss(conn=key[0], start=start, end=end, reason=reason))

    def _share(self, gap: SequenceGap, handoff: Int64s, rows: Int64s) -> None:
        """A gap that is not one stream's, `rows` being those of its connection."""
        after = int(handoff[gap.at])
        at = int(np.searchsorted(rows, gap.at))
        before = int(handoff[rows[at - 1]]) if at else self._last_row.get(gap.conn, after)
        self._share_between(gap, self._since(gap, before), after)

    def passed_over(self, gap: SequenceGap, end: int) -> None:
        """Numbers that had not come when their connection ended (ns since the epoch)."""
        self._share_between(gap, self._since(gap, end), end)

    def _since(self, gap: SequenceGap, before: int) -> int:
        """Since when the messages of a gap may be missing; `before` where nothing can come late."""
        if gap.since is None:
            return before
        # all that came before it may have been late
        opened = [each.opened for each in self._epochs.get(gap.conn, ()) if each.connected and each.opened is not None]
        return gap.since or max(opened, default=self.start or 0)

    def _share_between(self, gap: SequenceGap, before: int, after: int) -> None:
        shared = self._shared_gaps.setdefault((gap.conn, gap.channel), [])
        if len(shared) < _LISTED:
            shared.append(Loss(conn=gap.conn, start=before, end=after, reason=_describe(gap)))
        else:
            shared[-1] = msgspec.structs.replace(shared[-1], end=after)

    def _add(self, key: Key, handoff: Int64s, rows: Int64s, held: Held, gaps: Sequence[SequenceGap]) -> None:
        if key not in self._streams and len(self._streams) >= _STREAMS:
            key = (key[0], _OTHERS, None)
        stream = self._streams.setdefault(key, _Messages())
        epochs = self._epochs.setdefault(key[0], [])
        if not epochs:
            epochs.append(_Epoch())
        moments, runs = handoff[rows], held.runs[rows]
        first = int(moments[0])
        if epochs[-1].opened is None:
            # in the files' part that was looked at the connection is there already, or came with this very read
            epochs[-1].opened = first
        span = stream.spans.get(len(epochs) - 1)
        new = span is None
        if span is None:
            span = stream.spans[len(epochs) - 1] = _Span(first)
        proved = runs == np.concatenate(([0 if new else span.run], runs[:-1]))
        proved &= runs > 0
        states = np.where(proved, 0, 1)
        reported: dict[int, SequenceGap] = {int(np.searchsorted(rows, gap.index)): gap for gap in gaps}
        states[list(reported)] = 2
        before = np.concatenate(([span.last], moments[:-1]))
        # a piece for each run of the same state, and for each gap
        opens = np.flatnonzero((np.diff(states, prepend=-1) != 0) | (states == 2))
        for begin, stop in zip(opens.tolist(), [*opens[1:].tolist(), len(rows)], strict=True):
            if new and begin == 0:
                # before the first message of an epoch there is none
                begin += 1
                if begin == stop:
                    continue
            state, reason = _WORST[int(states[begin])], ""
            if state is State.INCOMPLETE:
                reason = _describe(reported[begin])
            elif state is State.UNBROKEN and (held.links[rows[begin:stop]] != Link.NONE).any():
                reason = "not compared"
            span.add(_Piece(int(before[begin]), int(moments[stop - 1]), state, reason))
        stream.gaps += len(gaps)
        stream.links.update(dict(enumerate(np.bincount(held.links[rows]).tolist())))
        span.run = int(runs[-1])
        span.last = stream.last = int(moments[-1])
        stream.count += len(rows)

    def result(self) -> list[Stream]:
        """All streams, with those that were asked for and stayed silent."""
        topics = self._topics()
        self._lively = {(key[0], life) for key, messages in self._streams.items() for life in messages.spans}
        named: set[tuple[int, str]] = set()
        streams = []
        for key, messages in sorted(self._streams.items(), key=lambda item: tuple(map(_sortable, item[0]))):
            conn, channel, symbol = key
            carry = [t for t in topics.get(conn, ()) if channel in t.channels and t.carries(symbol)]
            topic = carry[0] if carry else None
            # a message may be of its symbol's own topic and of its family's: neither was silent then
            named.update((conn, t.topic) for t in carry if t is topic or t.family)
            streams.append(self._stream(key, messages, None if topic is None else topic.topic))
        for conn, asked in self._asked.items():
            known = {topic.topic: topic for topic in topics.get(conn, ())}
            for text in asked:
                silent = known.get(text)
                if (conn, text) not in named and (silent is not None or not self._streams):
                    channel = silent.name if silent else None
                    key = (conn, channel, silent.symbol if silent else None)
                    streams.append(self._stream(key, _Messages(), text))
        return streams

    def _stream(self, key: Key, messages: _Messages, topic: str | None) -> Stream:
        conn, channel, symbol = key
        rule = self._feed.sequence_rule(channel) if self._feed else SequenceRule.NONE
        intervals = list(self._intervals(key, messages, topic))
        if rule not in _PROVING:
            intervals = list(_joined(each if each.state is not State.PROVED else _unbroken(each) for each in intervals))
        shared = [loss for key in ((conn, None), (conn, channel)) for loss in self._shared_gaps.get(key, ())]
        own = [self._behind_rows(loss) for loss in self.losses if loss.conn in (conn, None)]
        lost = [*own, *self._unread, *shared, *self._unjoined.get((conn, channel, symbol), ())]
        for loss in lost:
            intervals = list(_without(intervals, loss))
        time = {state: sum(i.end - i.start for i in intervals if i.state is state) for state in State}
        states = {interval.state for interval in intervals}
        compared = count(messages.links.items())
        if State.INCOMPLETE in states or messages.gaps or not intervals:
            state = State.INCOMPLETE
        elif not messages.count and not self.not_inflated[conn]:
            state = State.SILENT
        else:
            # a number that could not be read may be its last
            proved = self._all_proved(messages, rule) and not self.not_inflated[conn]
            state = State.PROVED if proved else State.UNBROKEN
        return Stream(
            conn=conn,
            channel=channel,
            symbol=symbol,
            topic=topic,
            rule=rule.value,
            state=state,
            messages=messages.count,
            not_inflated=self.not_inflated[conn],
            gaps=messages.gaps,
            compared=compared.compared,
            skipped=compared.skipped,
            resets=messages.links[Link.RESET],
            proved=time[State.PROVED],
            unbroken=time[State.UNBROKEN],
            silent=time[State.SILENT],
            incomplete=time[State.INCOMPLETE],
            intervals=intervals[:_LISTED],
        )

    def _behind_rows(self, loss: Loss) -> Loss:
        """A connection's loss, from the last row of the life that it ends: what was read last was handed off later."""
        for epoch in self._epochs.get(loss.conn, ()) if loss.conn is not None else ():
            begun = epoch.opened is not None and epoch.opened <= loss.start
            if begun and loss.start < epoch.last_row <= min(loss.end, loss.end if epoch.end is None else epoch.end):
                return msgspec.structs.replace(loss, start=epoch.last_row)
        return loss

    @staticmethod
    def _all_proved(messages: _Messages, rule: SequenceRule) -> bool:
        """Whether everything between the first and the last message of each epoch was compared, and there is any."""
        pieces = [piece for span in messages.spans.values() for piece in span.pieces]
        return rule in _PROVING and bool(pieces) and all(piece.state is State.PROVED for piece in pieces)

    def _partners(self, conn: int) -> list[int]:
        """The connections that it takes turns with."""
        first = self._standby_of.get(conn, conn)
        return [first, *(other for other, of in self._standby_of.items() if of == first)]

    def _ends(self, key: Key, before: int) -> tuple[int, str] | None:
        """Up to when a stream was covered by the lives of its connections that began before this moment, and why."""
        _, channel, symbol = key
        ends = []
        for conn in self._partners(key[0]):
            messages = self._streams.get((conn, channel, symbol))
            for number, epoch in enumerate(self._epochs.get(conn, [])):
                if epoch.opened is not None and epoch.opened < before:
                    span = messages.spans.get(number) if messages else None
                    ends.append((self._end(conn, epoch, span), epoch.reason))
        return max(ends, default=None)

    def _end(self, conn: int, epoch: _Epoch, span: _Span | None) -> int:
        """Up to when an epoch covers a stream: a connection that is lost may have been dead before that showed."""
        assert self.end is not None
        assert epoch.opened is not None
        end = self.end if epoch.end is None else epoch.end
        alive = max(epoch.last_row, epoch.opened)
        cuts = [
            max(loss.start, epoch.opened)
            for loss in self.losses
            if loss.conn == conn and loss.start < end and (loss.end >= end or alive <= loss.start)
        ]
        if not cuts and (epoch.broke or (epoch.end is None and self.ended is None)):
            # who knew since when it was lost, or would have found out, did not live to tell
            cuts = [max(alive, epoch.alive_until)]
        return max(min([end, *cuts]), span.last if span else 0)

    def _intervals(self, key: Key, messages: _Messages, topic: str | None) -> Iterator[Interval]:
        """A stream's time on one connection, from its first confirmation or message to the session's end."""
        conn = key[0]
        until: int | None = None
        for number, epoch in enumerate(self._epochs.get(conn, [])):
            if epoch.opened is None:
                continue
            before = self._ends(key, epoch.opened)
            span = messages.spans.get(number)
            end = self._end(conn, epoch, span)
            start = epoch.acked.get(topic) if topic is not None else None
            confirmed = start is not None
            reason = None
            if span is not None:
                # a message shows it too
                start = span.first if start is None else min(start, span.first)
            if start is None and not self._owes(epoch, topic):
                # nothing came, and nothing was to say whether there was something to come
                start = epoch.opened
                if before is not None and self._late(epoch, topic, before[0]):
                    asked = epoch.asked.get(topic or "")
                    start = end if asked is None or self._confirms else min(max(asked + TAKES_NS, before[0]), end)
            if start is None:
                start = end if before is not None else epoch.opened
                done = "the exchange confirmed it" if self._confirms else "it was asked for"
                reason = epoch.failed.get(topic or "", f"the connection ended before {done}")
            if until is None:
                until = start if before is None else before[0]
                if self._headless is not None:
                    # where its connection is not told of, it may have been open since
                    behind = self._headless.end if epoch.connected else until
                    since, why = self._headless.start, self._headless.reason
                    yield Interval(start=since, end=max(min(behind, until), since), state=State.INCOMPLETE, reason=why)
            if before is not None and start > before[0]:
                broken = reason or self._broken(epoch, topic, before, confirmed=confirmed)
                gaps = self._unjoined.get(key, ())
                broken = broken or next((gap.reason for gap in gaps if span and gap.end == span.first), None)
                if broken is not None:
                    yield Interval(start=before[0], end=start, state=State.INCOMPLETE, reason=broken)
            if reason is None:
                mute = epoch.unproved or (conn, number) not in self._lively
                silent = mute or not (messages.count and confirmed)
                silent = silent and not self.not_inflated[conn]
                yield from _covered(start, end, span, silent=silent, confirmed=confirmed, unproved=epoch.unproved)
            elif before is None:
                yield Interval(start=start, end=end, state=State.INCOMPLETE, reason=reason)
            until = max(end, until)
        for loss in self.losses:
            # what was lost behind the last epoch; before it, and between two, the stream is not covered anyway
            if loss.conn in (conn, None) and until is not None and loss.end > until:
                covered = (self._ends(key, loss.start) or (until, ""))[0]
                start = max(until, min(covered, loss.start))
                yield Interval(start=start, end=loss.end, state=State.INCOMPLETE, reason=loss.reason)
                until = loss.end

    def _broken(self, epoch: _Epoch, topic: str | None, before: tuple[int, str], *, confirmed: bool) -> str | None:
        """Why a stream does not go on from the end of the life before to where it is known to have begun in this one.

        Args:
            epoch: the life.
            topic: the stream's topic.
            before: when the one before ended, and why.
            confirmed: whether the subscription was.

        """
        if not epoch.took_over:
            return f"reconnected: {before[1]}"
        if confirmed:
            return "the connection before ended before the exchange had confirmed it on this one"
        if self._late(epoch, topic, before[0]):
            return "the connection before ended before it was asked for on this one and had time to begin"
        return None

    @property
    def _confirms(self) -> bool:
        """Whether the exchange confirms what is asked for."""
        return self._feed is not None and self._feed.ack is not None

    def _late(self, epoch: _Epoch, topic: str | None, before: int) -> bool:
        """Whether a subscription that nothing confirms may have begun only after the connection before had ended."""
        if not epoch.took_over:
            return False
        if topic is not None:
            asked = epoch.asked.get(topic)
            return topic in epoch.late or asked is None or asked + TAKES_NS > before
        # what messages are of is not known: it may be of any
        return not self._has_fields and (bool(epoch.late) or max(epoch.asked.values(), default=0) > before)

    def _owes(self, epoch: _Epoch, topic: str | None) -> bool:
        """Whether a subscription that was not confirmed, and of which no message came, is known to have failed.

        The writer has judged what waited for an answer when the connection was closed in order, or the session: what
        it does not call unanswered nothing could confirm.
        """
        if not epoch.connected:
            return True
        if topic is None:
            # when it was asked for may stand in what is not there
            return self._torn
        if topic not in epoch.asked:
            return True
        if not self._confirms:
            return False
        forgotten = (self.resumed or self._torn) and topic in epoch.forgotten
        judged = not forgotten and not epoch.broke and self.ended is not None
        return topic in epoch.failed or not judged

    def _topics(self) -> dict[int, list[Topic]]:
        """What each connection asked for, as streams."""
        if self._feed is None:
            return {}
        streams: dict[int, list[Topic]] = {}
        for conn, asked in self._asked.items():
            requested = (self._requests.topic(conn, topic) for topic in asked)
            found = (stream_of(self._feed, topic) for topic in requested if topic is not None)
            streams[conn] = [stream for stream in found if stream is not None]
        return streams


def _covered(
    start: int, end: int, span: _Span | None, *, silent: bool, confirmed: bool, unproved: bool
) -> Iterator[Interval]:
    """The time of one epoch in which the stream was subscribed to."""
    if span is None:
        state = State.SILENT if silent else State.UNBROKEN
        reason = "no message came" if confirmed else "no message came, and nothing confirms the subscription"
        yield Interval(start=start, end=max(start, end), state=state, reason=reason)
        return
    if span.first > start:
        state = State.SILENT if unproved else State.UNBROKEN
        yield Interval(start=start, end=span.first, state=state, reason="before the first message")
    for piece in span.pieces:
        yield Interval(start=piece.start, end=piece.end, state=piece.state, reason=piece.reason)
    if not span.pieces and end <= span.last:
        yield Interval(start=span.first, end=span.last, state=State.UNBROKEN, reason="a single message")
    if end > span.last:
        reason = "after the last message" if span.pieces else "after a single message"
        yield Interval(start=span.last, end=end, state=State.UNBROKEN, reason=reason)


def _unbroken(interval: Interval) -> Interval:
    return msgspec.structs.replace(interval, state=State.UNBROKEN)


def _joined(intervals: Iterator[Interval]) -> Iterator[Interval]:
    """The intervals, those of one state and reason that follow one another as one."""
    last: Interval | None = None
    for each in intervals:
        if last is not None and (last.end, last.state, last.reason) == (each.start, each.state, each.reason):
            last = msgspec.structs.replace(last, end=each.end)
            continue
        if last is not None:
            yield last
        last = each
    if last is not None:
        yield last


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


def _sortable(value: int | str | None) -> tuple[bool, int, str]:
    return (value is not None, value if isinstance(value, int) else 0, value if isinstance(value, str) else "")


def _integer(value: Any, default: int = 0) -> int:
    return value if isinstance(value, int) else default
