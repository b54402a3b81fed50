"""Checks of the ledger against itself, the rows, and the final counts of receiver and rings.

What is proved by it: each slot that the receiver published is in one file and only one (the files' ranges follow one
another from 0 to `published`), each frame is a row, a part of one or named as discarded, and each byte of a
connection's ring is payload, or lies between two payloads, where headers and handshakes are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from wsrec.format.ledger import Frames, Ledger
from wsrec.verify.model import Balance, Finding, Kind
from wsrec.verify.rows import FileRows

Report = Callable[[Kind, Path | str, str], None]

_SMALLEST_HEADER = 2
_DIRECTIONS = {"recv": "recv", "sent": "own"}


class LedgerAudit:
    """The ledgers of one session and feed, file by file.

    Args:
        tell: called with each difference.
        whole: whether the first file that comes is the session's first.

    Attributes:
        sums: what all files have of received frames.
        received, sent, events, missing: slots of the files, of all feeds of the writer.
        stop_slot: where the last file ends.
        ring_bytes: bytes of the feed's rings up to there.
        closed: the receiver's counts at the end, where they are its last word; else None.
        balanced: whether no difference was found.

    """

    def __init__(self, report: Report, *, whole: bool) -> None:
        self.sums = Frames()
        self.received = self.sent = self.events = self.missing = 0
        self.stop_slot: int | None = 0 if whole else None
        self.closed: dict[str, Any] | None = None
        self.balanced = True
        self._report_kind = report
        self._whole = whole
        self._own = Frames()
        self._overhead = 0
        self._ring_stops: dict[int, int] = {}
        self._files = 0

    @property
    def ring_bytes(self) -> int:
        """Bytes of the feed's rings up to the end of the last file."""
        return sum(self._ring_stops.values())

    def file(self, where: Path | str, ledger: Ledger, rows: FileRows | None) -> None:
        """Enter the next file; `rows` are what its message file has, None where it could not be read.

        A file without one, only with events, has the rows of an empty one.
        """
        self._chain(where, ledger)
        self._balance(where, ledger)
        if rows is not None:
            self._match(where, ledger, rows)
        self._files += 1
        self.received += ledger.received
        self.sent += ledger.sent
        self.events += ledger.events
        self.missing += ledger.missing
        self.sums += ledger.recv
        self._own += ledger.own
        self.stop_slot = ledger.stop_slot

    def _report(self, where: Path | str, what: str) -> None:
        self.balanced = False
        self._report_kind(Kind.CONTRADICTION, where, f"the ledger does not balance: {what}")

    def _chain(self, where: Path | str, ledger: Ledger) -> None:
        """A file begins where the one before it ended."""
        if self.stop_slot is not None and ledger.first_slot != self.stop_slot:
            held = f"slots {self.stop_slot:,} to {ledger.first_slot:,} are in no file"
            twice = f"slots {ledger.first_slot:,} to {self.stop_slot:,} are in two files"
            self._report(where, held if ledger.first_slot > self.stop_slot else twice)
        begins = not self._files
        for name, before, now in (("received", self.sums, ledger.recv), ("sent", self._own, ledger.own)):
            left, came = (before.carried_out, before.carried_out_bytes), (now.carried_in, now.carried_in_bytes)
            if left != came and (self._whole or not begins):
                self._report(
                    where, f"{came[0]:,} parts of {name} messages come from before, {left[0]:,} were left there"
                )
        for ring in ledger.rings:
            before_byte = self._ring_stops.get(ring.conn, 0 if self._whole else ring.first_byte)
            if ring.first_byte != before_byte:
                what = f"its ring goes on at byte {ring.first_byte:,}, the file before ended at {before_byte:,}"
                self._report(where, f"connection {ring.conn}: {what}")
            self._ring_stops[ring.conn] = ring.stop_byte

    def _balance(self, where: Path | str, ledger: Ledger) -> None:
        slots = ledger.received + ledger.sent + ledger.events + ledger.missing
        span = ledger.stop_slot - ledger.first_slot
        if slots != span:
            self._report(where, f"it took {span:,} slots and counts {slots:,}")
        if ledger.recv.frames > ledger.received or ledger.own.frames > ledger.sent:
            self._report(where, "the feed has more frames than the writer")
        for name, frames in (("received", ledger.recv), ("sent", ledger.own)):
            for what, left in (("frames", frames.imbalance), ("payload bytes", frames.byte_imbalance)):
                if left:
                    became = "became of nothing that came" if left < 0 else "are nowhere"
                    self._report(where, f"{abs(left):,} {what} {name} {became}")
        overhead = sum(ring.stop_byte - ring.first_byte for ring in ledger.rings) - ledger.recv.bytes
        least = _SMALLEST_HEADER * (sum(ledger.recv.rows.values()) - ledger.recv.carried_in)
        if overhead < least:
            self._report(where, f"its rings have {overhead:,} bytes beside payloads, headers take {least:,} or more")
        self._overhead += overhead

    def _match(self, where: Path | str, ledger: Ledger, rows: FileRows) -> None:
        """The rows that it counts are those that are there."""
        for direction, name in _DIRECTIONS.items():
            counted: Frames = getattr(ledger, name)
            found = {opcode: n for (way, opcode), n in rows.opcodes.items() if way == direction}
            if counted.rows != found:
                self._report(where, f"it counts {_listed(counted.rows)} {direction}, the rows are {_listed(found)}")
            if counted.row_bytes != rows.bytes[direction]:
                both = f"{counted.row_bytes:,} payload bytes {direction}, the rows have {rows.bytes[direction]:,}"
                self._report(where, f"it counts {both}")

    def end(self, name: str, stated: dict[str, Any], *, restarted: bool) -> None:
        """Compare the sums with the final counts of the rings and of the receiver, whose final report may be missing.

        Args:
            name: of the session.
            stated: detail of its `session_end`.
            restarted: whether a receiver died meanwhile: then its last counts may be a tenth of a second old.

        """
        slots, ring_bytes, receiver = stated.get("slots"), stated.get("ring_bytes"), stated.get("receiver")
        if not isinstance(slots, int) or not isinstance(ring_bytes, int) or not isinstance(receiver, dict):
            self._report(name, "session_end lacks the counts of the rings")
            return
        if slots != self.stop_slot:
            self._report(name, f"the receiver published {slots:,} slots, the files end at {self.stop_slot:,}")
        # what is in no journal is told of already; it may have been any connection's
        exact = receiver.get("finished") is True and not restarted and not self.missing
        self.closed = receiver if exact else None
        left = ring_bytes - self.ring_bytes
        if left < 0 or (left and exact):
            self._report(name, f"the rings took {ring_bytes:,} bytes, the files have {self.ring_bytes:,} of them")
        elif left:
            missing = "that are in no journal" if self.missing else "that were not complete when the receiver died"
            what = f"{left:,} bytes had been received of frames {missing}"
            self._report_kind(Kind.INCOMPLETE, name, what)
        frames = receiver.get("frames")
        most = self.received + self.missing
        if not isinstance(frames, int) or (frames != self.received if exact else frames > most):
            self._report(name, f"the receiver counted {frames} frames, the files have {self.received:,}")

    def result(self) -> Balance | None:
        """The sums; None where no file has a ledger."""
        if not self._files:
            return None
        sums = self.sums
        return Balance(
            balanced=self.balanced,
            slots=self.received + self.sent + self.events,
            missing=self.missing,
            frames=sums.frames,
            frame_bytes=sums.bytes,
            rows=sum(sums.rows.values()),
            row_bytes=sums.row_bytes,
            joined=sums.joined,
            discarded=sums.discarded,
            unfinished=sums.carried_out,
            inflated=sums.inflated,
            sent=self._own.frames,
            events=self.events,
            overhead_bytes=self._overhead,
        )


def cross_check(session: str, feeds: list[LedgerAudit]) -> list[Finding]:
    """What the feeds of one session have together, against the one receiver that they had."""
    stated = [books.closed for books in feeds if books.closed is not None]
    if len(stated) < len(feeds):
        return []
    differing = []
    if any(receiver != stated[0] for receiver in stated):
        differing.append("the session_end of its feeds differ in what the receiver counted")
    frames, received = sum(books.sums.frames for books in feeds), max(books.received for books in feeds)
    if frames != received:
        differing.append(f"its feeds have {frames:,} frames received, the receiver handed {received:,} off")
    taken, discarded = stated[0].get("bytes"), stated[0].get("discarded_bytes")
    rings = sum(books.ring_bytes for books in feeds)
    if not isinstance(taken, int) or not isinstance(discarded, int) or taken - discarded != rings:
        what = f"the receiver took {taken} bytes and gave {discarded} up, its rings have {rings:,}"
        differing.append(what)
    return [
        Finding(kind=Kind.CONTRADICTION, where=f"session {session}", what=f"the ledger does not balance: {what}")
        for what in differing
    ]


def read_ledger(about: dict[str, Any] | None) -> Ledger | None:
    """The ledger in a file's metadata; None where there is none that this wsrec writes."""
    try:
        return msgspec.convert((about or {}).get("ledger"), Ledger)
    except msgspec.ValidationError:
        return None


def _listed(rows: Mapping[Any, int]) -> str:
    return ", ".join(f"{count:,} {word}" for word, count in sorted(rows.items())) or "none"
