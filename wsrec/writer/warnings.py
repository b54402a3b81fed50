"""Operator warnings from a feed's events: everything that leads to an exit status other than 0.

An exchange's text is untrusted: control characters are escaped and the length is limited. Repeated warnings are folded
(`wsrec.log_folding`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wsrec import ipc
from wsrec.feed.schema import Feed
from wsrec.log_folding import FoldedWarnings
from wsrec.monitor.check import Finding, Signal
from wsrec.monitor.streams import DEFAULT_IDLE_NS
from wsrec.ring.events import EventKind
from wsrec.units import clean, duration, named
from wsrec.writer.uninflated import hint

_WORDS_MAX = 300
_LISTED_MAX = 20


class EventWarnings:
    """Warns about the events and findings of one feed.

    Args:
        feed: the feed.
        folded: takes the warnings; None during recovery.

    """

    def __init__(self, feed: Feed, folded: FoldedWarnings | None) -> None:
        self._feed = feed.name
        self._channels = feed.channel_by_any_name
        self._folded = folded
        self._words = {
            EventKind.REFUSED: ("refused subscriptions", self._refused),
            EventKind.UNANSWERED: ("unanswered subscriptions", self._unanswered),
            EventKind.LATE: ("subscriptions that started late", _late),
            EventKind.GAP: ("sequence gaps", _gap),
            EventKind.SNAPSHOT_MISSED: ("snapshots that do not join", _missed),
            EventKind.NOT_INFLATED: ("counts of messages that could not be read", _not_inflated),
            EventKind.LOST_INTERVAL: ("lost intervals", _lost),
        }

    def event(self, kind: EventKind, conn: int | None, detail: Mapping[str, Any]) -> None:
        """Warn about an event, if its kind calls for it; the detail includes `channel` and `symbol`."""
        words = self._words.get(kind)
        if words is not None and self._folded is not None:
            what, say = words
            message, hint = say(detail)
            channel, symbol = detail.get("channel"), detail.get("symbol")
            about = {name: _bounded(value) for name, value in detail.items() if name not in ("channel", "symbol")}
            self._folded.warn(
                self._feed, what, message, hint, conn=conn, kind=kind, channel=channel, symbol=symbol, detail=about
            )

    def found(self, findings: Sequence[Finding]) -> None:
        """Warn about findings beyond what their events state."""
        # recovery warns of nothing: the events state it, and it is too late to act
        if self._folded is None or self._folded.is_muted:
            return
        for found in findings:
            if found.kind is Signal.ODD_TIME:
                self._odd_time(found)
            elif found.kind is Signal.SKIPPING:
                where = clean(found.channel or "its messages", 100)
                message = f"{where}: {found.detail['words']}; missing messages are not detected there"
                hint = (
                    "if the exchange changed its messages, correct exchange_seq, seq_first or seq_previous of the feed"
                )
                what = "channels whose rule cannot be applied"
                self._folded.warn(self._feed, what, message, hint, kind=EventKind.UNCHECKED, channel=found.channel)
            elif found.kind is EventKind.SPLIT:
                self._split(found.detail)
        self._stale([found for found in findings if found.kind is EventKind.STALE], self._folded)

    def _odd_time(self, found: Finding) -> None:
        unit = found.detail["unit"]
        fits = f"; as {unit} it would fit" if unit else ""
        ipc.warn(
            f"{found.channel or 'a message of no channel'} has a time that is not within "
            f"{found.detail['tolerance']} s of its arrival{fits}: exchange_time is null "
            "(see fields.time_unit and fields.time_tolerance of the feed)",
            feed=self._feed,
            kind=EventKind.EXCHANGE_TIME_OFF,
            channel=found.channel,
        )

    def _split(self, detail: Mapping[str, Any]) -> None:
        """A request was refused as a whole, and is being split."""
        when = "requesting each part separately" if detail["parts"] else "requesting it again after a pause"
        topics, words = named(detail["topics"]), clean(detail["message"], _WORDS_MAX)
        ipc.info(f"the exchange refused {topics} together: {words}; {when}", feed=self._feed, kind=EventKind.SPLIT)

    def _stale(self, found: Sequence[Finding], folded: FoldedWarnings) -> None:
        """Streams have delivered no messages for longer than they should."""
        expected = [each for each in found if self._idle_timeout(each)]
        if expected:
            seconds, topics = expected[0].detail["idle_s"], [each.detail["topic"] for each in expected]
            folded.warn(
                self._feed,
                "stale streams",
                f"no message for {seconds:g} s or longer: {named(topics)}",
                kind=EventKind.STALE,
                **_of_one(expected),
                detail=_bounded({"idle_s": seconds, "topics": topics}),
            )
        # where the feed does not say that there should be messages, there may be none
        others = [each.detail["topic"] for each in found if not self._idle_timeout(each)]
        if others:
            message = f"no message for {DEFAULT_IDLE_NS / 1e9:g} s or longer: {named(others)}"
            ipc.info(message, feed=self._feed, kind=EventKind.STALE)

    def _idle_timeout(self, found: Finding) -> float | None:
        return self._channels[found.channel].idle_timeout if found.channel is not None else None

    def _refused(self, detail: Mapping[str, Any]) -> tuple[str, str | None]:
        stated = clean(detail.get("message") or "without a reason", _WORDS_MAX)
        if not detail["topics"]:
            return f"the exchange refused a request without saying which: {stated}", None
        hint = f"leave it out, or look up its name with `wsrec feeds show {self._feed}`"
        return f"the exchange refused {named(detail['topics'])}: {stated}", hint

    def _unanswered(self, detail: Mapping[str, Any]) -> tuple[str, str | None]:
        hint = f"look up its name with `wsrec feeds show {self._feed}`"
        why = f" ({detail['message']})" if detail.get("message") else ""
        return f"no answer to the subscription of {named(detail['topics'])}{why}", hint


def _bounded(value: Any) -> Any:
    """A value of a detail, small enough for a line to the supervisor, whatever an exchange sends."""
    match value:
        case str():
            return value[:_WORDS_MAX]
        case list() | tuple():
            return [_bounded(each) for each in value[:_LISTED_MAX]]
        case Mapping():
            return {name[:_WORDS_MAX]: _bounded(each) for name, each in [*value.items()][:_LISTED_MAX]}
        case _:
            return value


def _of_one(found: Sequence[Finding]) -> dict[str, Any]:
    """Channel and symbol of findings, if it is one."""
    return {"channel": found[0].channel, "symbol": found[0].symbol} if len(found) == 1 else {}


def _late(detail: Mapping[str, Any]) -> tuple[str, str | None]:
    what = f"messages of {named(detail['topics'])} may be missing in between"
    return f"a connection took over before all its subscriptions had started: {what} ({detail['message']})", None


def _gap(detail: Mapping[str, Any]) -> tuple[str, str | None]:
    channel, symbol, missing = detail.get("channel"), detail.get("symbol"), detail.get("missing")
    where = " ".join(clean(name, 100) for name in (channel, symbol) if name) or "the connection"
    count = f" ({missing:,} missing)" if missing else ""
    return f"gap in {where}: expected {detail['expected']}, found {detail['found']}{count}", None


def _lost(detail: Mapping[str, Any]) -> tuple[str, str | None]:
    reason = clean(str(detail.get("reason") or ""), _WORDS_MAX)
    return f"nothing was recorded for {duration(detail['duration_ns'])}: {reason}", None


def _not_inflated(detail: Mapping[str, Any]) -> tuple[str, str | None]:
    count, message = detail["count"], clean(detail["message"], _WORDS_MAX)
    what = message if count == 1 else f"{count:,} messages could not be read, the last: {message}"
    return what, hint(detail["message"])


def _missed(detail: Mapping[str, Any]) -> tuple[str, str | None]:
    where = " ".join(clean(name, 100) for name in (detail.get("channel"), detail.get("symbol")) if name)
    again = "fetching another" if detail["retry_s"] is not None else "not fetching another"
    return f"the snapshot of {where} does not join its stream: {detail['why']}; {again}", None
