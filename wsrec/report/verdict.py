"""The verdict on a recording: what is known to be missing, and of what the exchange's numbers show that nothing is.

It claims no more than the files' counts, events and rules tell: `wsrec verify` judges each stream and interval.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from wsrec.counts import Counts
from wsrec.report.model import Recording, Session, Verdict
from wsrec.ring.events import EventKind
from wsrec.units import clean, duration, plural

PROVING = ("next", "previous", "touching", "checksum")
"""Rules that show a loss; `increasing` shows disorder only."""

_SHOWN = 6


def rules_of(config: Mapping[str, Any], channels: Collection[str]) -> dict[str, str]:
    """The sequence rule of channels, by the feed's configuration in a file's metadata; `none` without one."""
    declared = config.get("channels")
    if config.get("sequence"):
        return dict.fromkeys(channels, "next")
    rules: dict[str, str] = {}
    for key, channel in declared.items() if isinstance(declared, dict) else ():
        about = channel if isinstance(channel, dict) else {}
        rule = str(about.get("sequence", "none"))
        for name in _names(str(key), about.get("parameters")):
            rules[name] = rule
        for alias in about.get("aliases", ()):
            rules.setdefault(str(alias), rule)
    return {name: rules.get(name, "none") for name in channels}


def _names(key: str, parameters: Any) -> Iterator[str]:
    """A channel's names, one for each value of its parameters."""
    if not isinstance(parameters, dict) or not parameters:
        yield key
        return
    for values in itertools.product(*parameters.values()):
        filled = dict(zip(parameters, values, strict=True))
        name = key
        for parameter, value in filled.items():
            name = name.replace(f"{{{parameter}}}", str(value))
        yield name


def verdict(recording: Recording, *, is_part: bool, unread: int, unfinished: Mapping[str, bool]) -> Verdict:
    """The verdict on a recording; on one that goes on, so far."""
    judged = _judged(recording, is_part=is_part, unread=unread, unfinished=unfinished)
    if not any(unfinished.get(session.session) for session in recording.sessions):
        return judged
    return msgspec.structs.replace(judged, sentence=f"so far {judged.sentence}")


def _judged(recording: Recording, *, is_part: bool, unread: int, unfinished: Mapping[str, bool]) -> Verdict:
    """The verdict on what is there.

    Args:
        recording: the recording; its own verdict is not looked at.
        is_part: whether only a part of its rows was read.
        unread: files and folders that could not be read, of any recording.
        unfinished: sessions, of any recording, that have not ended: whether a recorder is running.

    """
    missing = list(_missing(recording))
    unknown = list(_unknown(recording, is_part=is_part, unread=unread, unfinished=unfinished))
    proved = proved_channels(recording)
    unproved = [each.channel for each in recording.channels if each.channel not in proved]
    if missing:
        return Verdict(state="incomplete", sentence=", ".join(missing), missing=missing, unknown=unknown)
    if recording.first_recv_time is None:
        return Verdict(
            state="unproved",
            sentence="nothing was selected" if is_part else "there are no rows",
            missing=[],
            unknown=unknown,
        )
    checked = f"Checked by sequence number: {_listed(proved)}"
    if proved and not unknown and not unproved:
        return Verdict(state="complete", sentence=f"nothing is missing. {checked}", missing=[], unknown=[])
    sentences = [f"no loss known, but {'; '.join(unknown)}" if unknown else "no loss known"]
    if proved:
        sentences.append(checked)
    if unproved:
        sentences.append(f"Not checkable: {_listed(unproved)}")
        unknown.append(f"not checkable by sequence number: {_listed(unproved)}")
    return Verdict(state="unproved", sentence=". ".join(sentences), missing=[], unknown=unknown)


def proved_channels(recording: Recording) -> list[str]:
    """The channels in which the exchange's numbers would have shown a loss, in the report's order."""
    return [each.channel for each in recording.channels if recording.gaps is not None and each.rule in PROVING]


def _missing(recording: Recording) -> Iterator[str]:
    """What is known to be missing."""
    rows = sum(session.missing or 0 for session in recording.sessions)
    if rows:
        yield f"{plural(rows, 'row')} missing"
    if recording.gaps:
        yield f"{plural(recording.gaps, 'gap')} in the exchange's numbers"
    known, intervals = recording.events.get(EventKind.LOST_INTERVAL, 0), lost_intervals(recording)
    if intervals:
        length = f" ({'' if known == intervals else 'at least '}{duration(recording.lost)})" if known else ""
        yield f"{plural(intervals, 'lost interval')}{length}"
    counts = recording.counts or Counts()
    others = counts.refused
    for kind, words in ((EventKind.REFUSED, "refused"), (EventKind.UNANSWERED, "unanswered"), (EventKind.LATE, "late")):
        topics = recording.topics.get(kind, 0)
        others -= topics
        if topics:
            yield f"{plural(topics, 'subscription')} {words}"
    if others > 0:
        yield f"{plural(others, 'subscription')} refused, unanswered or late"
    unread = max(recording.topics.get(EventKind.NOT_INFLATED, 0), counts.not_inflated)
    if unread:
        yield f"{plural(unread, 'message')} not inflated"


def lost_intervals(recording: Recording) -> int:
    """The lost intervals: by the events, or by the counts of the message files where those know of more."""
    counted = recording.counts.lost_intervals if recording.counts is not None else 0
    return max(recording.events.get(EventKind.LOST_INTERVAL, 0), counted)


def has_all_events(recording: Recording) -> bool:
    """Whether the events of all message files were read."""
    return bool(recording.events) and not recording.events_unread and not recording.events_absent


def _unknown(recording: Recording, *, is_part: bool, unread: int, unfinished: Mapping[str, bool]) -> Iterator[str]:
    """What is not known of its completeness."""
    if is_part:
        yield "of a part it is not said whether rows are missing"
    skipped = sum(sum(each.skipped.values()) for each in recording.unchecked)
    if skipped:
        yield f"{plural(skipped, 'message')} could not be compared"
    if recording.events_unread:
        yield "not all events could be read"
    elif not recording.events and not is_part:
        yield "no events lie beside these files"
    elif recording.events_absent and not is_part:
        # one without an event is not written: it is not known that it was there
        yield f"no events file lies beside {plural(recording.events_absent, 'message file')}"
    if unread:
        yield f"{plural(unread, 'file or folder', 'files or folders')} could not be read"
    if any(_is_later(session) for session in recording.sessions):
        yield "earlier files of a session are not in this report"
    if recording.events and any(_has_no_end(session, unfinished) for session in recording.sessions):
        if has_all_events(recording):
            yield "later files of a session are not in this report"
        else:
            yield "later files of a session may not be in this report"
    going_on = {unfinished[each.session] for each in recording.sessions if each.session in unfinished}
    if True in going_on:
        yield "a session is still being recorded"
    if False in going_on:
        yield "a session was interrupted and is not recovered"
    disconnects = recording.events.get(EventKind.DISCONNECT, 0)
    if disconnects:
        yield plural(disconnects, "disconnection")
    repeated = sum(session.duplicates or 0 for session in recording.sessions)
    if repeated:
        yield f"{plural(repeated, 'row')} repeated"


def _is_later(session: Session) -> bool:
    return session.missing is not None and bool(session.first_seq)


def _has_no_end(session: Session, unfinished: Mapping[str, bool]) -> bool:
    """Whether the end of a session that is not going on is missing, or rows before it that no hole shows."""
    if session.ended is None or session.session in unfinished:
        return False
    known = session.received + (session.missing or 0)
    return not session.ended or (not session.first_seq and (session.announced or 0) > known)


def _listed(channels: Sequence[str]) -> str:
    names = [clean(name, 40) for name in channels[:_SHOWN]]
    more = f" and {len(channels) - _SHOWN:,} more" if len(channels) > _SHOWN else ""
    return ", ".join(names) + more
