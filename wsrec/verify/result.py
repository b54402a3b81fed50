"""What the verification of one session of one feed gives: complete in itself, so that results made anywhere merge."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from wsrec.verify.model import Capture, Finding, Kind, Session

_GRAVEST = list(Kind)


class Books(msgspec.Struct, frozen=True, kw_only=True):
    """The totals of a session's ledgers that all feeds of its writer must share.

    Attributes:
        received: slots of received frames in its files, of all feeds.
        frames: frames of this feed.
        ring_bytes: bytes of the feed's rings up to the end of its last file.
        closed: the receiver's final counts; None if they may not be final.

    """

    received: int
    frames: int
    ring_bytes: int
    closed: dict[str, Any] | None


class SessionResult(msgspec.Struct, frozen=True, kw_only=True):
    """The verification of one session of one feed.

    Attributes:
        session: its figures.
        findings: what was found in it.
        books: its part of what is compared between the feeds of a session.

    """

    session: Session
    findings: list[Finding]
    books: Books


def merge(root: Path, findings: Iterable[Finding], results: Iterable[SessionResult], *, whole: bool) -> Capture:
    """Merge the sessions of an output folder.

    Args:
        root: the folder.
        findings: those of its inventory.
        results: those of its sessions, in order of session and feed.
        whole: whether the whole folder was verified.

    """
    results, found = list(results), list(findings)
    of_session: dict[str, list[Books]] = {}
    for each in results:
        found += each.findings
        of_session.setdefault(each.session.session, []).append(each.books)
    for session, books in of_session.items():
        found += _cross_check(session, books)
    found.sort(key=lambda finding: _GRAVEST.index(finding.kind))
    return Capture(path=str(root), whole=whole, sessions=[each.session for each in results], findings=found)


def _cross_check(session: str, feeds: list[Books]) -> list[Finding]:
    """Compare the totals of a session's feeds with the counts of their common receiver."""
    stated = [books.closed for books in feeds if books.closed is not None]
    if len(stated) < len(feeds):
        return []
    differing = []
    if any(receiver != stated[0] for receiver in stated):
        differing.append("the session_end of its feeds differ in what the receiver counted")
    frames, received = sum(books.frames for books in feeds), max(books.received for books in feeds)
    if frames != received:
        differing.append(f"its feeds have {frames:,} frames received, the receiver handed {received:,} off")
    taken, discarded = stated[0].get("bytes"), stated[0].get("discarded_bytes")
    rings = sum(books.ring_bytes for books in feeds)
    if not isinstance(taken, int) or not isinstance(discarded, int) or taken - discarded != rings:
        what = f"the receiver read {taken} bytes and discarded {discarded}, its rings have {rings:,}"
        differing.append(what)
    return [
        Finding(kind=Kind.CONTRADICTION, where=f"session {session}", what=f"the ledger does not balance: {what}")
        for what in differing
    ]
