"""Opening of a pair of files, with a check against its manifest line before its content is used."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from wsrec.format.manifest import listed_as
from wsrec.verify.files import about_events, about_messages, sound
from wsrec.verify.finding_log import FindingLog
from wsrec.verify.inventory import Pair
from wsrec.verify.model import Kind

_HASH = "feed_config_sha256"


class PairFiles(NamedTuple):
    """A pair of files, before their rows are read.

    Attributes:
        pair: their paths, and their line in the manifest.
        about: metadata of the message file; None if it is missing, or not the file that was written.
        beside: metadata of the events file; None likewise.
        refused: those that the system refuses to read: `messages`, `events`.

    """

    pair: Pair
    about: dict[str, Any] | None
    beside: dict[str, Any] | None
    refused: frozenset[str]

    @property
    def where(self) -> Path | str:
        """The path or manifest line for findings."""
        return self.pair.messages or self.pair.events or self.pair.where

    @property
    def expects_rows(self) -> bool:
        """Whether there is, or was, a message file."""
        return self.pair.messages is not None or (self.pair.line is not None and self.pair.line.path is not None)

    @property
    def lacks_events(self) -> bool:
        """Whether there is, or was, an events file that cannot be used."""
        line = self.pair.line
        expects = self.pair.events is not None or (line is not None and line.events_path is not None)
        return expects and self.beside is None

    @property
    def lost_rows(self) -> str:
        """Why the message file cannot be used."""
        return f"the message file of number {self.pair.number} {self._why('messages')}"

    @property
    def lost_events(self) -> str:
        """Why the events file cannot be used."""
        return f"the events file of number {self.pair.number} {self._why('events')}"

    @property
    def proved(self) -> bool:
        """Whether the manifest lists the pair and vouches for the bytes of all its files, which were compared."""
        pair, line = self.pair, self.pair.line
        if line is None or self.refused:
            return False
        return all(
            (name is None and path is None) or (path is not None and digest is not None and about is not None)
            for name, path, digest, about in (
                (line.path, pair.messages, line.sha256, self.about),
                (line.events_path, pair.events, line.events_sha256, self.beside),
            )
        )

    def _why(self, kind: str) -> str:
        return "cannot be read" if kind in self.refused else "is damaged or missing"


def open_pair(pair: Pair, root: Path, log: FindingLog) -> PairFiles:
    """Open the files of a pair.

    Args:
        pair: the pair.
        root: the output folder.
        log: takes findings.

    """
    line, refused = pair.line, set(pair.unreadable)
    about: dict[str, Any] | None = None
    beside: dict[str, Any] | None = None
    if line is not None:
        _check_line(pair, log)
    if pair.messages is not None:
        before = log.counts[Kind.UNREADABLE]
        digest, length = (line.sha256, line.bytes) if line else (None, None)
        if sound(pair.messages, root, digest, length, log.add, partial(_take_line_of, pair, root)):
            about = about_messages(pair.messages, pair, log.add)
        refused |= {"messages"} if log.counts[Kind.UNREADABLE] > before else set()
    if pair.events is not None:
        before = log.counts[Kind.UNREADABLE]
        if sound(pair.events, root, line.events_sha256 if line else None, None, log.add):
            beside = about_events(pair.events, pair, log.add)
        refused |= {"events"} if log.counts[Kind.UNREADABLE] > before else set()
    if about is not None and beside is not None and about.get(_HASH) != beside.get(_HASH):
        # the events file may refer to it by the hash alone
        log.add(Kind.CONTRADICTION, str(pair.events), f"its wsrec.{_HASH} is not that of the message file beside it")
    if about is not None:
        _check_events(pair, about, beside, log)
    return PairFiles(pair, about, beside, frozenset(refused))


def _check_events(pair: Pair, about: dict[str, Any], beside: dict[str, Any] | None, log: FindingLog) -> None:
    """Check that a message file states the events of its events file, which states its own."""
    if beside is not None:
        events = beside.get("events")
    elif pair.line is not None and pair.line.events_path is None:
        events = 0
    else:
        return
    if (stated := about.get("events")) != events:
        what = f"wsrec.events is {stated}, the events file beside it has {events}"
        log.add(Kind.CONTRADICTION, str(pair.messages), what)


def _take_line_of(pair: Pair, root: Path, digest: str) -> bool:
    """Take the line with this checksum if `wsrec compact` sorts the file now, or was killed before it was in place."""
    line = pair.line and listed_as(root, pair.line, digest)
    if line is None:
        return False
    pair.line = line
    return True


def _check_line(pair: Pair, log: FindingLog) -> None:
    """Check that the pair's line lists both of its files."""
    line = pair.line
    assert line is not None
    listed = (line.path, line.sha256), (line.events_path, line.events_sha256)
    for file, (path, digest) in zip((pair.messages, pair.events), listed, strict=True):
        if file is not None and path is None:
            log.add(Kind.CONTRADICTION, file, "is not listed in the manifest")
        elif (path is None) != (digest is None):
            log.add(Kind.CONTRADICTION, pair.where, f"has no SHA-256 of {path}")
    if line.path is None and any(line.named("rows").values()):
        log.add(Kind.CONTRADICTION, pair.where, "counts messages, but names no file with them")
