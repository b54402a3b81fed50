"""The intervals of a stream: complete while its connection was open and subscribed, else incomplete with the reason."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from wsrec.feed.schema import Feed
from wsrec.monitor.confirmations import TAKES_NS
from wsrec.verify.epochs import Epoch, Epochs
from wsrec.verify.model import Interval, Loss, State
from wsrec.verify.session_facts import SessionFacts
from wsrec.verify.stream_rows import Key, Messages, Span, StreamRows


class Timeline:
    """Cuts the time of each stream of one session into intervals.

    Args:
        feed: the feed; None if it is unknown.
        epochs, facts, rows: what is known about the session.

    """

    def __init__(self, feed: Feed | None, epochs: Epochs, facts: SessionFacts, rows: StreamRows) -> None:
        self._feed, self._epochs, self._facts, self._rows = feed, epochs, facts, rows
        self._has_fields = feed is not None and feed.fields is not None
        # epochs with a message of any stream: only a message shows that the exchange was sending
        self._with_messages = {(key[0], life) for key, messages in rows.streams.items() for life in messages.spans}

    def _ends(self, key: Key, before: int) -> tuple[int, str] | None:
        """Until when epochs that began before this moment were subscribed to a stream, and how the last one ended."""
        _, channel, symbol = key
        ends = []
        for conn in self._epochs.partners(key[0]):
            messages = self._rows.streams.get((conn, channel, symbol))
            for number, epoch in enumerate(self._epochs.of(conn)):
                if epoch.opened is not None and epoch.opened < before:
                    span = messages.spans.get(number) if messages else None
                    ends.append((self._end(conn, epoch, span), epoch.reason))
        return max(ends, default=None)

    def _end(self, conn: int, epoch: Epoch, span: Span | None) -> int:
        """Until when a stream is complete in an epoch: a lost connection may have been dead before that was noticed."""
        assert self._facts.end is not None
        assert epoch.opened is not None
        end = self._facts.end if epoch.end is None else epoch.end
        last_sign = max(epoch.last_row, epoch.opened)
        cuts = [
            max(loss.start, epoch.opened)
            for loss in self._facts.losses
            if loss.conn == conn and loss.start < end and (loss.end >= end or last_sign <= loss.start)
        ]
        if not cuts and (epoch.broke or (epoch.end is None and self._facts.ended is None)):
            # the process that could have noticed the loss was killed
            cuts = [max(last_sign, epoch.last_data)]
        return max(min([end, *cuts]), span.last if span else 0)

    def of(self, key: Key, messages: Messages, topic: str | None) -> Iterator[Interval]:
        """A stream's time on one connection, from its first confirmation or message to the session's end."""
        conn = key[0]
        until: int | None = None
        for number, epoch in enumerate(self._epochs.of(conn)):
            if epoch.opened is None:
                continue
            before = self._ends(key, epoch.opened)
            span = messages.spans.get(number)
            end = self._end(conn, epoch, span)
            start = epoch.acked.get(topic) if topic is not None else None
            confirmed = start is not None
            reason = None
            if span is not None:
                # the first message confirms it, too
                start = span.first if start is None else min(start, span.first)
            if start is None and not self._owes(epoch, topic):
                # no message, and the exchange does not confirm: the subscription may be silent
                start = epoch.opened
                if before is not None and self._late(epoch, topic, before[0]):
                    requested_at = epoch.requested_at.get(topic or "")
                    start = (
                        end
                        if requested_at is None or self._confirms
                        else min(max(requested_at + TAKES_NS, before[0]), end)
                    )
            if start is None:
                start = end if before is not None else epoch.opened
                done = "the exchange confirmed it" if self._confirms else "it was requested"
                refused = epoch.refused.get(topic or "", f"the connection ended before {done}")
                reason = epoch.failed.get(topic or "", refused)
            if until is None:
                until = start if before is None else before[0]
                if self._facts.headless is not None:
                    # without a `connect` event it may have been open since then
                    behind = self._facts.headless.end if epoch.connected else until
                    since, why = self._facts.headless.start, self._facts.headless.reason
                    yield Interval(start=since, end=max(min(behind, until), since), state=State.INCOMPLETE, reason=why)
            if before is not None and start > before[0]:
                broken = reason or self._broken(epoch, topic, before, confirmed=confirmed)
                gaps = self._rows.unjoined.get(key, ())
                broken = broken or next((gap.reason for gap in gaps if span and gap.end == span.first), None)
                if broken is not None:
                    yield Interval(start=before[0], end=start, state=State.INCOMPLETE, reason=broken)
            if reason is None:
                unproved = epoch.unproved or (conn, number) not in self._with_messages
                silent = unproved or not (messages.count and confirmed)
                silent = silent and not self._facts.not_inflated[conn]
                yield from _subscribed(start, end, span, silent=silent, confirmed=confirmed, unproved=epoch.unproved)
            elif before is None:
                yield Interval(start=start, end=end, state=State.INCOMPLETE, reason=reason)
            until = max(end, until)
        for loss in self._facts.losses:
            # losses after the last epoch; before and between epochs the stream is incomplete anyway
            if loss.conn in (conn, None) and until is not None and loss.end > until:
                complete_until = (self._ends(key, loss.start) or (until, ""))[0]
                start = max(until, min(complete_until, loss.start))
                yield Interval(start=start, end=loss.end, state=State.INCOMPLETE, reason=loss.reason)
                until = loss.end

    def _broken(self, epoch: Epoch, topic: str | None, before: tuple[int, str], *, confirmed: bool) -> str | None:
        """Why a stream does not continue from the end of the previous epoch to its known beginning in this one.

        Args:
            epoch: the epoch.
            topic: the stream's topic.
            before: when the previous epoch ended, and why.
            confirmed: whether the subscription was confirmed.

        """
        if not epoch.took_over:
            return f"reconnected: {before[1]}"
        if confirmed:
            return "the previous connection ended before the exchange had confirmed it on this one"
        if self._late(epoch, topic, before[0]):
            return "the previous connection ended before the request on this one had time to take effect"
        return None

    @property
    def _confirms(self) -> bool:
        """Whether the exchange confirms subscriptions."""
        return self._feed is not None and self._feed.ack is not None

    def _late(self, epoch: Epoch, topic: str | None, before: int) -> bool:
        """Whether an unconfirmed subscription may have begun only after the previous connection had ended."""
        if not epoch.took_over:
            return False
        if topic is not None:
            requested_at = epoch.requested_at.get(topic)
            return topic in epoch.late or requested_at is None or requested_at + TAKES_NS > before
        # without fields a message's topic is unknown: any of them may be late
        return not self._has_fields and (bool(epoch.late) or max(epoch.requested_at.values(), default=0) > before)

    def _owes(self, epoch: Epoch, topic: str | None) -> bool:
        """Whether a subscription without a confirmation or a message is known to have failed.

        When the connection or the session ended normally, the writer has judged all pending requests: one without an
        `unanswered` event could not have been confirmed at all.
        """
        if not epoch.connected:
            return True
        if topic is None:
            # the event of its request may be missing
            return self._facts.torn
        if topic not in epoch.requested_at:
            return True
        if not self._confirms:
            return False
        forgotten = (self._facts.resumed or self._facts.torn) and topic in epoch.forgotten
        judged = not forgotten and not epoch.broke and self._facts.ended is not None
        return topic in epoch.failed or not judged

    def behind_rows(self, loss: Loss) -> Loss:
        """A connection's loss, not before the epoch's last row: data read just before the loss is handed off later."""
        for epoch in self._epochs.of(loss.conn) if loss.conn is not None else ():
            begun = epoch.opened is not None and epoch.opened <= loss.start
            if begun and loss.start < epoch.last_row <= min(loss.end, loss.end if epoch.end is None else epoch.end):
                return msgspec.structs.replace(loss, start=epoch.last_row)
        return loss


def _subscribed(
    start: int, end: int, span: Span | None, *, silent: bool, confirmed: bool, unproved: bool
) -> Iterator[Interval]:
    """The intervals of one epoch in which the stream was subscribed."""
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


def unbroken(interval: Interval) -> Interval:
    """The interval as unbroken: only the connection is evidence for it."""
    return msgspec.structs.replace(interval, state=State.UNBROKEN)


def joined(intervals: Iterator[Interval]) -> Iterator[Interval]:
    """Merge adjacent intervals of the same state and reason."""
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


def without(intervals: list[Interval], loss: Loss) -> Iterator[Interval]:
    """Make intervals incomplete where they overlap a loss."""
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
