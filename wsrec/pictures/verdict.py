"""The verdict on a recording in one sentence, and the few facts beside it. It claims no more than the report knows.

That the exchange sent nothing else is not in it: `wsrec verify` proves that, from the exchange's own numbers.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from wsrec import units
from wsrec.pictures.model import Figures
from wsrec.report.model import Recording
from wsrec.ring.events import EventKind
from wsrec.stages import TOTAL, TOTAL_WITHOUT_NIC
from wsrec.units import clean, plural

State = Literal["good", "warn", "bad", "plain"]
_SHOWN_WARNINGS = 8
# between a figure and its unit, where no line breaks
_THIN = "\u202f"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a recording is worth.

    Attributes:
        state: `good`: nothing is known to be missing; `warn`: something is not known, or ended badly; `bad`: something
            is missing.
        sentence: in words.
        notes: what else a reader has to know, the report's warnings among it.

    """

    state: State
    sentence: str
    notes: list[str]


class Tile(msgspec.Struct, frozen=True, kw_only=True):
    """One fact: `label` says of what, `value` is short, `note` explains it."""

    label: str
    value: str
    note: str
    state: State = "plain"


def verdict(recording: Recording) -> Verdict:
    """The verdict on one recording."""
    missing, unknown = _missing(recording), _unknown(recording)
    messages = plural(recording.row_count("recv"), "frame")
    length = f"{messages} received in {_duration(recording.recorded)}"
    notes = [clean(warning, 300) for warning in recording.warnings[:_SHOWN_WARNINGS]]
    if missing:
        state: State = "bad"
        sentence = f"Incomplete: {_listed(missing)}; {length}."
        notes = [*(f"{each[0].upper()}{each[1:]}." for each in unknown), *notes]
    elif not recording.files:
        state, sentence = "warn", "Nothing to judge: no message file was read."
    elif unknown:
        state = "warn"
        sentence = f"Nothing is known to be missing of {length}, but {_listed(unknown)}."
    else:
        state = "good"
        sentence = (
            f"Complete: {length}, every row is there, no sequence number of the exchange is missing, nothing was lost."
        )
    return Verdict(state=state, sentence=sentence, notes=notes)


def _missing(recording: Recording) -> list[str]:
    """What is known to be missing."""
    lost_rows = sum(session.missing or 0 for session in recording.sessions)
    intervals = recording.events.get(EventKind.LOST_INTERVAL, 0)
    refused = sum(
        recording.topics.get(kind, recording.events.get(kind, 0))
        for kind in (EventKind.REFUSED, EventKind.UNANSWERED, EventKind.LATE)
    )
    not_inflated = recording.topics.get(EventKind.NOT_INFLATED, recording.events.get(EventKind.NOT_INFLATED, 0))
    found = (
        (lost_rows, f"{plural(lost_rows, 'row')} missing"),
        (recording.gaps, plural(recording.gaps or 0, "gap")),
        (intervals, f"{plural(intervals, 'lost interval')} ({_duration(recording.lost)})"),
        (refused, f"{plural(refused, 'subscription')} refused, unanswered or late"),
        (not_inflated, f"{plural(not_inflated, 'message')} not inflated"),
    )
    return [words for count, words in found if count]


def _unknown(recording: Recording) -> list[str]:
    """What is not known of the completeness."""
    duplicates = sum(session.duplicates or 0 for session in recording.sessions)
    found = (
        (_is_part(recording), "whether rows are missing only shows in a report of the whole"),
        (recording.files and recording.gaps is None, "the feed has no sequence numbers by which a gap would show"),
        (recording.unchecked, f"{plural(_skipped(recording), 'message')} could not be compared by sequence numbers"),
        (recording.events_unread, "not all events could be read"),
        (recording.files and not recording.events, "there are no events beside these files"),
        (duplicates, f"{plural(duplicates, 'row')} repeated"),
    )
    return [words for is_so, words in found if is_so]


def _is_part(recording: Recording) -> bool:
    """Whether the report is of chosen rows, so that what only whole files tell is not known."""
    return any(session.missing is None for session in recording.sessions)


def _skipped(recording: Recording) -> int:
    return sum(sum(each.skipped.values()) for each in recording.unchecked)


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def facts(recording: Recording, figures: Figures) -> list[Tile]:
    """The facts beside the verdict."""
    return [
        _rows(recording),
        _gaps(recording),
        _lost(recording),
        *_latency(recording),
        _rate(recording),
        _volume(recording),
        _clock(recording),
        _stamps(recording),
        *_tls(figures),
    ]


def _rows(recording: Recording) -> Tile:
    missing = sum(session.missing or 0 for session in recording.sessions)
    note = f"{plural(recording.files, 'file')}, {plural(len(recording.sessions), 'session')}"
    if missing:
        return Tile(label="Rows", value=f"{missing:,} missing", note=note, state="bad")
    if not recording.files:
        return Tile(label="Rows", value="none", note=note, state="warn")
    if _is_part(recording):
        return Tile(label="Rows", value="a part", note=f"{note} with such rows")
    return Tile(label="Rows", value="all there", note=f"by wsrec's own count; {note}", state="good")


def _gaps(recording: Recording) -> Tile:
    if recording.gaps is None:
        return Tile(label="Gaps", value="unknown", note="the feed has no sequence numbers", state="warn")
    if recording.gaps:
        return Tile(label="Gaps", value=f"{recording.gaps:,}", note="by the exchange's sequence numbers", state="bad")
    if recording.unchecked:
        note = f"{plural(_skipped(recording), 'message')} could not be compared"
        return Tile(label="Gaps", value="unknown", note=note, state="warn")
    return Tile(label="Gaps", value="none", note="by the exchange's sequence numbers", state="good")


def _lost(recording: Recording) -> Tile:
    intervals = recording.events.get(EventKind.LOST_INTERVAL, 0)
    stalls = recording.events.get(EventKind.STALL, 0)
    note = f"{plural(stalls, 'stall')} ({_duration(recording.stalled)})" if stalls else "no stall"
    if intervals:
        return Tile(
            label="Lost", value=_duration(recording.lost), note=f"{plural(intervals, 'interval')}; {note}", state="bad"
        )
    if recording.events_unread or not recording.events:
        return Tile(label="Lost", value="unknown", note="not all events could be read", state="warn")
    return Tile(label="Lost", value="nothing", note=note, state="good" if not stalls else "warn")


def _latency(recording: Recording) -> list[Tile]:
    table = next((table for table in recording.stages if table.frames == "all"), None)
    steps = {step.key: step for step in table.steps} if table is not None else {}
    total = steps.get(TOTAL.key) or steps.get(TOTAL_WITHOUT_NIC.key)
    if total is None:
        return []
    return [
        Tile(label="Median latency", value=_duration(total.p50), note=total.name.replace("->", " to ")),
        Tile(label="p99 latency", value=_duration(total.p99), note=f"max {_duration(total.max)}"),
    ]


def _rate(recording: Recording) -> Tile:
    rate = recording.rate
    if rate is None:
        return Tile(label="Messages", value="none", note="", state="warn")
    mean = "" if rate.mean is None else f"{rate.mean:,.0f}/s mean, "
    return Tile(
        label="Frames",
        value=units.short_count(recording.row_count("recv")),
        note=f"{mean}{rate.peak:,}/s in the busiest second",
    )


def _volume(recording: Recording) -> Tile:
    return Tile(label="Payload", value=_size(recording.payload_bytes), note=f"{_size(recording.file_bytes)} on disk")


def _clock(recording: Recording) -> Tile:
    clock = recording.clock
    name = ", ".join(clean(name, 30) for name in clock.clocks[:3])
    if clock.steps:
        note = f"largest {_duration(clock.largest_step)}; {name}"
        return Tile(label="Clock", value=plural(clock.steps, "step"), note=note, state="warn")
    if clock.width is None:
        return Tile(label="Clock", value="unknown", note=name or "no anchors in the files", state="warn")
    note = f"{name}, {plural(clock.anchors, 'anchor')}, no step seen"
    return Tile(label="UTC within", value=_duration(clock.width), note=note)


def _stamps(recording: Recording) -> Tile:
    stage1 = recording.stage1
    received = stage1.nic + stage1.kernel + stage1.none
    named = [(stage1.nic, "NIC"), (stage1.kernel, "kernel"), (stage1.none, "none")]
    found = sorted((each for each in named if each[0]), reverse=True)
    if not found:
        return Tile(label="Arrival stamps", value="none", note="no received rows", state="warn")
    note = ", ".join(f"{name} {count / received:.1%}" for count, name in found)
    return Tile(label="Arrival stamps", value=found[0][1], note=note, state="plain")


def _tls(figures: Figures) -> list[Tile]:
    modes = next((fact.values for fact in figures.facts if fact.name == "TLS mode"), [])
    if not modes:
        return []
    cipher = next((fact.values[0] for fact in figures.facts if "cipher" in fact.name.lower() and fact.values), "")
    return [Tile(label="TLS mode", value=clean(", ".join(modes[:3]), 60), note=clean(cipher, 60))]


def _duration(ns: float | None) -> str:
    return units.duration(ns, _THIN)


def _size(number: int) -> str:
    return units.size(number).replace(" ", _THIN)
