"""Operator warnings from a feed's events: everything that leads to an exit status other than 0.

An exchange's text is untrusted: control characters are escaped and the length is limited. Repeated warnings are folded
(`wsrec.log_folding`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wsrec import ipc
from wsrec.log_folding import FoldedWarnings
from wsrec.ring.events import EventKind
from wsrec.units import clean, duration, named
from wsrec.writer.uninflated import hint

_WORDS_MAX = 300


class EventWarnings:
    """Warns about the events of one feed.

    Args:
        feed: the feed's name.
        folded: takes the warnings.

    """

    def __init__(self, feed: str, folded: FoldedWarnings) -> None:
        self._feed = feed
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
        if words is not None:
            what, say = words
            message, hint = say(detail)
            self._folded.warn(self._feed, what, message, hint, conn=conn)

    def unchecked(self, channel: str | None, stated: str) -> None:
        """A rule cannot be applied to all messages of a channel."""
        message = f"{clean(channel or 'its messages', 100)}: {stated}; missing messages are not detected there"
        hint = "if the exchange changed its messages, correct exchange_seq, seq_first or seq_previous of the feed"
        self._folded.warn(self._feed, "channels whose rule cannot be applied", message, hint)

    def split(self, topics: Sequence[str], words: str, now: bool) -> None:
        """A request was refused as a whole, and is being split; `now`, or after a pause."""
        when = "requesting each part separately" if now else "requesting it again after a pause"
        ipc.info(f"{self._feed}: the exchange refused {named(topics)} together: {clean(words, _WORDS_MAX)}; {when}")

    def silent(self, topics: Sequence[str], seconds: float) -> None:
        """Subscriptions have delivered no messages for `seconds`."""
        message = f"no message for {seconds:g} s or longer: {named(topics)}"
        self._folded.warn(self._feed, "silent subscriptions", message)

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
