"""An incident in words; apart from `wsrec.report.incidents`, as what only prints needs neither Arrow nor numpy."""

from __future__ import annotations

import msgspec

from wsrec.report.model import Incident
from wsrec.ring.events import EventKind
from wsrec.units import clean, duration, utc


def in_words(incident: Incident) -> list[str]:
    """The details of an incident, printable, each in a few words."""
    parts = []
    detail = dict(incident.detail)
    if incident.kind == EventKind.LOST_INTERVAL and all(isinstance(detail.get(key), int) for key in ("from", "to")):
        begin, end = detail.pop("from"), detail.pop("to")
        detail.pop("duration_ns", None)
        parts.append(f"{duration(end - begin)}, from {utc(begin)} to {utc(end, date=utc(begin)[:10] != utc(end)[:10])}")
    for key, value in detail.items():
        if key.endswith("_ns") and isinstance(value, int):
            parts.append(f"{clean(key.removesuffix('_ns'), 20)} {duration(value)}")
        elif value not in (None, "", [], {}):
            plain = value if isinstance(value, str) else msgspec.json.encode(value).decode()
            parts.append(f"{clean(key, 20)} {clean(plain, 80)}")
    return parts
