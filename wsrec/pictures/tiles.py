"""The few facts beside the verdict of a recording, each with its value and what it rests on."""

from __future__ import annotations

from typing import Literal

import msgspec

from wsrec import units
from wsrec.pictures.model import Figures
from wsrec.report.model import Recording
from wsrec.report.verdict import has_all_events, lost_intervals, proved_channels
from wsrec.ring.events import EventKind
from wsrec.stages import TOTAL, TOTAL_WITHOUT_NIC
from wsrec.units import clean, plural

State = Literal["good", "warn", "bad", "plain"]
# between a figure and its unit, where no line breaks
_THIN = "\u202f"


class Tile(msgspec.Struct, frozen=True, kw_only=True):
    """One fact: `label` says of what, `value` is short, `note` explains it."""

    label: str
    value: str
    note: str
    state: State = "plain"


def _is_part(recording: Recording) -> bool:
    """Whether the report is of chosen rows, so that what only whole files tell is not known."""
    return any(session.missing is None for session in recording.sessions)


def _skipped(recording: Recording) -> int:
    return sum(sum(each.skipped.values()) for each in recording.unchecked)


def tiles(recording: Recording, figures: Figures) -> list[Tile]:
    """The facts beside the verdict."""
    if _is_part(recording) and recording.first_recv_time is None:
        return [Tile(label="Rows", value="none", note="nothing was selected", state="warn")]
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
    return Tile(label="Rows", value="none missing", note=f"by wsrec's own count; {note}", state="good")


def _gaps(recording: Recording) -> Tile:
    if recording.gaps is None:
        return Tile(label="Gaps", value="unknown", note="the feed has no sequence numbers", state="warn")
    if recording.gaps:
        return Tile(label="Gaps", value=f"{recording.gaps:,}", note="by the exchange's sequence numbers", state="bad")
    if recording.unchecked:
        note = f"{plural(_skipped(recording), 'message')} could not be compared"
        return Tile(label="Gaps", value="unknown", note=note, state="warn")
    proved, channels = len(proved_channels(recording)), len(recording.channels)
    if proved < channels:
        value = f"none in {proved:,} of {channels:,} channels" if proved else "unknown"
        others = "the others" if proved else "any channel"
        return Tile(label="Gaps", value=value, note=f"no sequence number would show one in {others}")
    return Tile(label="Gaps", value="none", note="by the exchange's sequence numbers", state="good")


def _lost(recording: Recording) -> Tile:
    known, intervals = recording.events.get(EventKind.LOST_INTERVAL, 0), lost_intervals(recording)
    stalls = recording.events.get(EventKind.STALL, 0)
    note = f"{plural(stalls, 'stall')} ({_duration(recording.stalled)})" if stalls else "no stall"
    if intervals:
        value = _duration(recording.lost) if intervals == known else "unknown"
        return Tile(label="Lost", value=value, note=f"{plural(intervals, 'interval')}; {note}", state="bad")
    if not has_all_events(recording):
        return Tile(label="Lost", value="unknown", note="not all events files were read", state="warn")
    return Tile(label="Lost", value="none known", note=note, state="good" if not stalls else "warn")


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
        value=f"{recording.row_count('recv'):,}",
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
    segments = stage1.segment + stage1.segment_nic
    received = stage1.nic + stage1.kernel + segments + stage1.none
    named = [(stage1.nic, "NIC"), (stage1.kernel, "kernel"), (segments, "segment"), (stage1.none, "none")]
    found = sorted((each for each in named if each[0]), reverse=True)
    if not found:
        return Tile(label="Arrival stamps", value="none", note="no received rows", state="warn")
    note = ", ".join(f"{name} {count / received:.1%}" for count, name in found)
    return Tile(label="Arrival stamps", value=found[0][1], note=note, state="plain")


def _tls(figures: Figures) -> list[Tile]:
    modes = next((fact.values for fact in figures.facts if fact.name == "TLS mode"), [])
    if not modes:
        return []
    version = next((fact.values[0].split()[0] for fact in figures.facts if fact.name == "TLS" and fact.values), "")
    return [Tile(label="TLS mode", value=clean(", ".join(modes[:3]), 60), note=clean(version, 60))]


def _duration(ns: float | None) -> str:
    return units.duration(ns, _THIN)


def _size(number: int) -> str:
    return units.size(number).replace(" ", _THIN)
