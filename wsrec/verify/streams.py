"""Streams: the provably complete intervals of each channel and symbol, and why the others are not.

Rows and events come in order of time. A connection lives in epochs, from one `connect` to the next `disconnect`; within
an epoch TCP brings everything in order or breaks. So the time of a stream is covered from its subscription's
confirmation (its first message where nothing confirms) to the end of the epoch, and what lies between two covered
intervals is incomplete, also where the next epoch is that of the connection which stands by for this one. Whatever a
loss overlaps is incomplete, in every epoch. Within a covered interval the feed's rule decides: where it would show a
loss, the successions that were compared prove themselves; all the rest only the connection speaks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from wsrec.feed.schema import Feed
from wsrec.feed.sequence_rules import SequenceRule
from wsrec.monitor.comparison import Link, count
from wsrec.plan.request_table import RequestTable
from wsrec.ring.events import EventKind
from wsrec.verify.epochs import Epochs
from wsrec.verify.intervals import Timeline, joined, unbroken, without
from wsrec.verify.model import State, Stream
from wsrec.verify.session_facts import SessionFacts, integer
from wsrec.verify.stream_rows import LISTED, Key, Messages, StreamRows

_PROVING = (SequenceRule.NEXT, SequenceRule.TOUCHING, SequenceRule.PREVIOUS)


class Streams:
    """The streams of one session and feed.

    Args:
        feed: the feed as its files' metadata have it; None where they have none that can be read.
        requests: what its connections ask for.
        standby_of: of each connection that stands by, the one that it takes turns with.
        whole: whether all of the session's files are looked at.

    Attributes:
        facts: what is known of the session.
        rows: its messages.

    """

    def __init__(
        self, feed: Feed | None, requests: RequestTable, standby_of: Mapping[int, int], *, whole: bool = True
    ) -> None:
        self._feed = feed
        self._epochs = Epochs(requests, standby_of)
        self.facts = SessionFacts(whole=whole)
        self.rows = StreamRows(self._epochs, self.facts, has_fields=feed is not None and feed.fields is not None)

    def event(self, time: int, kind: str, conn: int | None, detail: dict[str, Any]) -> None:
        """An event (ns on the stage clock), in order of time among rows and events."""
        self.facts.event(time, kind, conn, detail)
        if kind == EventKind.LOST_INTERVAL:
            if integer(detail.get("slots")):
                # what happened to the connections is not told either
                self.interrupt(str(detail.get("reason") or ""))
        elif kind == EventKind.REPLACED:
            turn = integer(detail.get("from_conn"), -1), integer(detail.get("to_conn"), -1)
            self._epochs.replaced(*turn, integer(detail.get("to")), proved=detail.get("proved") is True)
        elif conn is not None:
            self._epochs.event(time, kind, conn, detail)

    def begin_file(self) -> None:
        """A file begins, and where a writer died, maybe what another one knows."""
        self._epochs.begin_file()

    def interrupt(self, reason: str) -> None:
        """What happened up to here, or from here on, is not known: no connection goes on as the one that was there."""
        self.facts.torn = True
        self._epochs.interrupt(reason)

    def result(self) -> list[Stream]:
        """All streams, with those that were asked for and stayed silent."""
        topics = self._epochs.topics(self._feed)
        timeline = Timeline(self._feed, self._epochs, self.facts, self.rows)
        named: set[tuple[int, str]] = set()
        streams = []
        for key, messages in sorted(self.rows.streams.items(), key=lambda item: tuple(map(_sortable, item[0]))):
            conn, channel, symbol = key
            carry = [t for t in topics.get(conn, ()) if channel in t.channels and t.carries(symbol)]
            topic = carry[0] if carry else None
            # a message may be of its symbol's own topic and of its family's: neither was silent then
            named.update((conn, t.topic) for t in carry if t is topic or t.family)
            streams.append(self._stream(timeline, key, messages, None if topic is None else topic.topic))
        for conn, requested_at in self._epochs.requested.items():
            known = {topic.topic: topic for topic in topics.get(conn, ())}
            for text in requested_at:
                silent = known.get(text)
                if (conn, text) not in named and (silent is not None or not self.rows.streams):
                    channel = silent.name if silent else None
                    key = (conn, channel, silent.symbol if silent else None)
                    streams.append(self._stream(timeline, key, Messages(), text))
        return streams

    def _stream(self, timeline: Timeline, key: Key, messages: Messages, topic: str | None) -> Stream:
        conn, channel, symbol = key
        rule = self._feed.sequence_rule(channel) if self._feed else SequenceRule.NONE
        intervals = list(timeline.of(key, messages, topic))
        if rule not in _PROVING:
            intervals = list(joined(each if each.state is not State.PROVED else unbroken(each) for each in intervals))
        shared = [loss for key in ((conn, None), (conn, channel)) for loss in self.rows.shared_gaps.get(key, ())]
        own = [timeline.behind_rows(loss) for loss in self.facts.losses if loss.conn in (conn, None)]
        lost = [*own, *self.facts.unread, *shared, *self.rows.unjoined.get((conn, channel, symbol), ())]
        for loss in lost:
            intervals = list(without(intervals, loss))
        time = {state: sum(i.end - i.start for i in intervals if i.state is state) for state in State}
        states = {interval.state for interval in intervals}
        compared = count(messages.links.items())
        if State.INCOMPLETE in states or messages.gaps or not intervals:
            state = State.INCOMPLETE
        elif not messages.count and not self.facts.not_inflated[conn]:
            state = State.SILENT
        else:
            # a number that could not be read may be its last
            proved = self._all_proved(messages, rule) and not self.facts.not_inflated[conn]
            state = State.PROVED if proved else State.UNBROKEN
        return Stream(
            conn=conn,
            channel=channel,
            symbol=symbol,
            topic=topic,
            rule=rule.value,
            state=state,
            messages=messages.count,
            not_inflated=self.facts.not_inflated[conn],
            gaps=messages.gaps,
            compared=compared.compared,
            skipped=compared.skipped,
            resets=messages.links[Link.RESET],
            proved=time[State.PROVED],
            unbroken=time[State.UNBROKEN],
            silent=time[State.SILENT],
            incomplete=time[State.INCOMPLETE],
            intervals=intervals[:LISTED],
        )

    @staticmethod
    def _all_proved(messages: Messages, rule: SequenceRule) -> bool:
        """Whether everything between the first and the last message of each epoch was compared, and there is any."""
        pieces = [piece for span in messages.spans.values() for piece in span.pieces]
        return rule in _PROVING and bool(pieces) and all(piece.state is State.PROVED for piece in pieces)


def _sortable(value: int | str | None) -> tuple[bool, int, str]:
    return (value is not None, value if isinstance(value, int) else 0, value if isinstance(value, str) else "")
