"""What the page holds as JSON: the pictures of captures, made smaller and fit for a browser.

Every text is cut and made printable. Whole numbers that do not fit a double (times in ns) are strings. Beginnings of
steps of time are counts of their width, each but the first as its difference from the one before it. Frames are lists
in the order of `FRAME`, with their texts as indices into one list.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import msgspec

from wsrec.pictures.model import Figures, Pictures, SlowFrame
from wsrec.pictures.tiles import tiles
from wsrec.report.model import Part, Recording, Report
from wsrec.units import clean, duration, plural, utc

_LARGEST_DOUBLE = 2**53
_LONGEST_TEXT = 200
_LONGEST_PATH = 400
_SHOWN_WARNINGS = 8

FRAME = (
    *("time", "session", "file", "seq", "conn", "channel", "symbol", "opcode"),
    *("payload_bytes", "read_bytes", "frame_in_read", "frames_in_read", "steps", "total"),
)
"""The fields of a frame in the page's data, in order."""


def capture_data(pictures: Pictures, drawn: int) -> dict[str, Any]:
    """The data of one capture.

    Args:
        pictures: what there is to draw.
        drawn: the number of recordings, those with most messages first, that get their figures; the others have only
            their verdict.

    """
    recordings = pictures.report.recordings
    order = sorted(range(len(recordings)), key=lambda at: -recordings[at].row_count("recv"))
    return {
        "sources": [clean(source, _LONGEST_PATH) for source in pictures.sources[:20]],
        "part": _part(pictures.report.part),
        "problems": _problems(pictures.report),
        "recordings": [
            _recording_data(recordings[at], pictures.figures[at], with_figures=place < drawn)
            for place, at in enumerate(order)
        ],
    }


def _part(part: Part | None) -> str:
    """What the report is restricted to, in words; empty: nothing."""
    if part is None:
        return ""
    named = [clean(", ".join(names), _LONGEST_TEXT) for names in (part.channels, part.symbols) if names]
    since = [] if part.since is None else [f"from {utc(part.since)}"]
    until = [] if part.until is None else [f"until {utc(part.until)}"]
    return f"only {' '.join([*named, *since, *until])}"


def _problems(report: Report) -> list[str]:
    found = [*report.errors, *report.unreadable, *report.absent, *report.nothing_of]
    more = [f"and {len(found) - 20:,} more"] if len(found) > 20 else []
    return [clean(problem, _LONGEST_PATH) for problem in found[:20]] + more


def _recording_data(recording: Recording, figures: Figures, *, with_figures: bool) -> dict[str, Any]:
    texts = _Texts()
    data: dict[str, Any] = {
        "feed": clean(recording.feed, _LONGEST_TEXT),
        "host": clean(recording.host, _LONGEST_TEXT),
        "first": _plain(recording.first_recv_time, 1),
        "last": _plain(recording.last_recv_time, 1),
        "verdict": _verdict(recording),
        "tiles": msgspec.to_builtins(tiles(recording, figures)),
        "circumstances": _plain(msgspec.to_builtins(figures.facts), 1),
        "delays": _plain(msgspec.to_builtins(recording.exchange_delay_by_channel), 1),
        "totals": _totals(recording),
        "stages": _stages(recording),
        "drawn": with_figures,
    }
    if not with_figures:
        return data
    width = 1
    shown = msgspec.structs.replace(figures, slowest={}, over_time=None, facts=[])
    if figures.over_time is not None:
        width = figures.over_time.width
    else:
        # the width of their steps is not known without any message: single events are
        lines = [msgspec.structs.replace(line, begins=[], counts=[]) for line in figures.lines]
        shown = msgspec.structs.replace(shown, lines=lines)
    # names and facts of the recording are those of the report
    data = _plain(msgspec.to_builtins(shown), width) | data
    data["slowest"] = {key: [texts.frame(each) for each in frames] for key, frames in figures.slowest.items()}
    if figures.over_time is not None:
        bare = [msgspec.structs.replace(each, slow=[]) for each in figures.over_time.latency]
        data["over_time"] = _plain(msgspec.to_builtins(msgspec.structs.replace(figures.over_time, latency=bare)), width)
        for each, latency in zip(data["over_time"]["latency"], figures.over_time.latency, strict=True):
            each["slow"] = [texts.frame(frame) for frame in latency.slow]
    data["texts"] = texts.known()
    return data


def _verdict(recording: Recording) -> dict[str, Any]:
    verdict = recording.verdict
    received = f"{plural(recording.row_count('recv'), 'frame')} received in {duration(recording.recorded)}"
    return {
        "state": verdict.state,
        "sentence": clean(verdict.sentence, _LONGEST_PATH),
        "received": received,
        "notes": [clean(note, _LONGEST_PATH) for note in recording.warnings[:_SHOWN_WARNINGS]],
    }


def _totals(recording: Recording) -> dict[str, Any]:
    """The counts that two captures are compared by."""
    rate = recording.rate
    return {
        "frames": recording.row_count("recv"),
        "rate": None if rate is None or rate.mean is None else round(rate.mean, 2),
        "peak": None if rate is None else rate.peak,
        "missing": _known_sum(session.missing for session in recording.sessions),
        "gaps": recording.gaps,
        "lost": recording.lost,
    }


def _known_sum(values: Iterable[int | None]) -> int | None:
    """The sum; None if one of them is."""
    found = list(values)
    return None if None in found else sum(each or 0 for each in found)


def _stages(recording: Recording) -> list[dict[str, Any]]:
    """The steps of all frames, without their histograms."""
    table = next((table for table in recording.stages if table.frames == "all"), None)
    steps = [] if table is None else table.steps
    return [
        {name: getattr(step, name) for name in ("key", "name", "count", "p50", "p90", "p99", "p999", "max")}
        for step in steps
    ]


class _Texts:
    """The texts of frames, each once."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def known(self) -> list[str]:
        return [clean(text, _LONGEST_PATH) for text in self._places]

    def frame(self, frame: SlowFrame) -> list[Any]:
        return [self._field(getattr(frame, name)) for name in FRAME]

    def _field(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._places.setdefault(value, len(self._places))
        return _plain(value, 1)


def _plain(value: Any, width: int) -> Any:
    """Builtins without what a browser cannot take; `width`: of the steps of time in it (ns)."""
    match value:
        case dict():
            width = value.get("width", width)
            return {key: _steps(each, width) if key == "begins" else _plain(each, width) for key, each in value.items()}
        case list():
            return [_plain(each, width) for each in value]
        case str():
            return clean(value, _LONGEST_TEXT)
        case bool() | None:
            return value
        case int() if abs(value) > _LARGEST_DOUBLE:
            return str(value)
        case float():
            return round(value, 2)
        case _:
            return value


def _steps(begins: list[int], width: int) -> list[int]:
    counted = [begin // width for begin in begins]
    return [*counted[:1], *(after - before for before, after in itertools.pairwise(counted))]
