"""The layout of a capture: paths of the files in an output folder, and the hour and file that a row belongs to.

    OUT/messages/feed=FEED/date=YYYY-MM-DD/hour=HH/SESSION-NUMBER.parquet   one row per message
    OUT/events/feed=FEED/date=YYYY-MM-DD/hour=HH/SESSION-NUMBER.parquet     connections, gaps, losses
    OUT/.wsrec/manifest.jsonl                                               one line per finished pair of files
    OUT/.wsrec/on-file.json                                                 up to where `--on-file` was run
    OUT/.wsrec/SESSION/                                                     journals of a session in progress
    OUT/.wsrec/aside/                                                       unusable files: nothing is deleted
    OUT/.wsrec/compacting/                                                  files that `wsrec compact` is making

Date and hour are UTC and follow from the hand-off: a row belongs to the hour of its hand-off (`hour`).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

FileKind = Literal["messages", "events"]
MESSAGES: Final = "messages"
EVENTS: Final = "events"
KINDS = (MESSAGES, EVENTS)
OWN, ASIDE, COMPACTING = ".wsrec", "aside", "compacting"

HOUR_NS = 3_600_000_000_000

NAME = re.compile(r"(?P<session>.+)-(?P<number>[0-9]{6,})\.parquet", re.DOTALL)
_PARTITIONS = ("feed", "date", "hour")


class Place(NamedTuple):
    """The parts of a file's path.

    Attributes:
        kind: `messages` or `events`.
        feed: the feed's name.
        hour: its hour (hours since the epoch); None if its folders name no hour.
        session, number: from its name.

    """

    kind: str
    feed: str
    hour: int | None
    session: str
    number: int

    @property
    def pair(self) -> tuple[str, str, int]:
        """The key that a message file and its events file share: feed, session and number."""
        return self.feed, self.session, self.number


def hour(handoff: Any) -> Any:
    """The hour that a row or an event belongs to, or an array of hours.

    Args:
        handoff: time of the hand-off or of the event (ns since the epoch), one or an array.

    Returns:
        Hours since the epoch.

    """
    return handoff // HOUR_NS


def period(handoff: Any, rotate_seconds: float) -> Any:
    """The file that each row belongs to, as a number that never decreases: the hour, and the rotation in it.

    Args:
        handoff: ns since the epoch, one or an array.
        rotate_seconds: longest duration of a file. Every hour starts a new file, so longer durations act as an hour.

    """
    rotate_ns = max(int(min(rotate_seconds, 3600.0) * 1e9), 1)
    return hour(handoff) * (HOUR_NS + 1) + handoff % HOUR_NS // rotate_ns


def place(feed: str, began: int, session: str, number: int) -> Path:
    """The path of a pair of files below `messages` and `events`.

    Args:
        feed: the feed's name.
        began: hand-off of its first row, or time of its first event (ns since the epoch).
        session: the session's id.
        number: the pair's number in the session.

    """
    moment = datetime.fromtimestamp(int(hour(began)) * 3600, UTC)
    folder = Path(f"feed={feed}") / f"date={moment:%Y-%m-%d}" / f"hour={moment:%H}"
    return folder / f"{session}-{number:06d}.parquet"


def read_place(root: Path, path: Path) -> Place | None:
    """Parse a file's path in an output folder; None if wsrec would not write a file there."""
    parts = path.relative_to(root).parts if path.is_relative_to(root) else ()
    if len(parts) != 2 + len(_PARTITIONS) or parts[0] not in KINDS or ".." in parts:
        return None
    name = NAME.fullmatch(path.name)
    folders = [part.partition("=") for part in parts[1:-1]]
    if name is None or tuple(key for key, _, _ in folders) != _PARTITIONS:
        return None
    feed, date, in_day = (value for _, _, value in folders)
    return Place(parts[0], feed, _hour_of(date, in_day), name["session"], int(name["number"]))


def _hour_of(date: str, in_day: str) -> int | None:
    try:
        moment = datetime.strptime(f"{date} {in_day}", "%Y-%m-%d %H").replace(tzinfo=UTC)
    except ValueError:
        return None
    return int(moment.timestamp()) // 3600


def other(path: Path) -> Path | None:
    """The path of the pair's other file: the events file for a message file, and the reverse; None for other paths."""
    parts = path.parts
    for one, beside in (KINDS, KINDS[::-1]):
        if one in parts[:-1]:
            at = len(parts) - 1 - parts[::-1].index(one)
            return Path(*parts[:at], beside, *parts[at + 1 :])
    return None


def own_folder(out: Path) -> Path:
    """wsrec's own folder in an output folder."""
    return out / OWN


def session_folder(out: Path, session: str) -> Path:
    """The folder of a session's journals while it is recorded."""
    return out / OWN / session


def manifest_path(out: Path) -> Path:
    """The path of an output folder's manifest."""
    return out / OWN / "manifest.jsonl"


def aside_folder(out: Path) -> Path:
    """The folder for unusable files, which are never deleted."""
    return out / OWN / ASIDE


def compacting_folder(out: Path) -> Path:
    """The folder for files that `wsrec compact` is making; the one that runs holds it."""
    return out / OWN / COMPACTING
