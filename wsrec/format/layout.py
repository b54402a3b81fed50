"""The layout of a capture: paths of the files in an output folder, and the hour and file that a row belongs to.

    OUT/messages/feed=FEED/date=YYYY-MM-DD/hour=HH/SESSION-NUMBER.parquet   one row a message
    OUT/events/feed=FEED/date=YYYY-MM-DD/hour=HH/SESSION-NUMBER.parquet     what happened around them
    OUT/.wsrec/manifest.jsonl                                               a line a finished pair of files
    OUT/.wsrec/SESSION/                                                     journals of a session that is being recorded
    OUT/.wsrec/aside/                                                       what could not be used: nothing is deleted

Date and hour are UTC, and those of the hand-off: a row belongs to the hour in which it was handed off (`hour`).
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
OWN, ASIDE = ".wsrec", "aside"

HOUR_NS = 3_600_000_000_000

NAME = re.compile(r"(?P<session>.+)-(?P<number>[0-9]{6,})\.parquet", re.DOTALL)
_PARTITIONS = ("feed", "date", "hour")


class Place(NamedTuple):
    """What the place of a file says of it.

    Attributes:
        kind: `messages` or `events`.
        feed: the feed's name.
        hour: the hour it belongs to (hours since the epoch); None where its folders name no hour.
        session, number: by its name.

    """

    kind: str
    feed: str
    hour: int | None
    session: str
    number: int

    @property
    def pair(self) -> tuple[str, str, int]:
        """What the message file and the events file beside it have in common: feed, session and number."""
        return self.feed, self.session, self.number


def hour(handoff: Any) -> Any:
    """The hour that a row, an event or an array of them belongs to.

    Args:
        handoff: when it was handed off, or happened (ns since the epoch).

    Returns:
        Hours since the epoch.

    """
    return handoff // HOUR_NS


def period(handoff: Any, rotate_seconds: float) -> Any:
    """The file that each row belongs to, as numbers that never go back: the hour, and the time in it.

    Args:
        handoff: ns since the epoch, one or an array.
        rotate_seconds: how long a file lasts at most; every hour ends a file, so more than an hour is an hour.

    """
    rotate_ns = max(int(min(rotate_seconds, 3600.0) * 1e9), 1)
    return hour(handoff) * (HOUR_NS + 1) + handoff % HOUR_NS // rotate_ns


def place(feed: str, began: int, session: str, number: int) -> Path:
    """Where a pair of files stands below `messages` and `events`.

    Args:
        feed: the feed's name.
        began: when its first row was handed off, or its first event happened (ns since the epoch).
        session: the session's id.
        number: the number of the pair in the session.

    """
    moment = datetime.fromtimestamp(int(hour(began)) * 3600, UTC)
    folder = Path(f"feed={feed}") / f"date={moment:%Y-%m-%d}" / f"hour={moment:%H}"
    return folder / f"{session}-{number:06d}.parquet"


def read_place(root: Path, path: Path) -> Place | None:
    """What a file's place in an output folder says; None where wsrec puts no file there."""
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
    """Where the other file of a pair stands: the events file of a message file, and the reverse; None for neither."""
    parts = path.parts
    for one, beside in (KINDS, KINDS[::-1]):
        if one in parts[:-1]:
            at = len(parts) - 1 - parts[::-1].index(one)
            return Path(*parts[:at], beside, *parts[at + 1 :])
    return None


def own_folder(out: Path) -> Path:
    """The folder of an output folder that is wsrec's own."""
    return out / OWN


def session_folder(out: Path, session: str) -> Path:
    """Where the journals of a session stand while it is being recorded."""
    return out / OWN / session


def manifest_path(out: Path) -> Path:
    """Where the manifest of an output folder stands."""
    return out / OWN / "manifest.jsonl"


def aside_folder(out: Path) -> Path:
    """Where what could not be used is kept."""
    return out / OWN / ASIDE
