"""Audit of the ledgers against one another, the rows, and the final counts of receiver and rings.

It proves that each slot that the receiver published is in exactly one file (the files' ranges follow one another from 0
to `published`), that each frame is a row, a part of one or counted as discarded, and that each byte of a connection's
ring is payload or overhead between payloads (headers and handshakes).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from wsrec.format.ledger import Frames, Ledger
from wsrec.verify.file_rows import FileRows
from wsrec.verify.model import Balance, Kind
from wsrec.verify.result import Books

Report = Callable[[Kind, Path | str, str], None]

_SMALLEST_HEADER = 2
_DIRECTIONS = {"recv": "recv", "sent": "own"}


class LedgerAudit:
    """The ledgers of one session and feed, file by file.

    Args:
        report: called with each difference.
        whole: whether the first file is the session's first.

    Attributes:
        sums: totals of received frames over all files.
        received, sent, events, missing: number of slots in the files, of all feeds of the writer.
        stop_slot: where the last file ends.
        ring_bytes: bytes of the feed's rings up to that slot.
        closed: the receiver's final counts; None if they may not be final.
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
        """Add the next file; `rows` are the totals of its message file, None if it could not be read.

        For a pair without a message file, `rows` are those of an empty one.
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
        """Check that a file begins where the previous one ended."""
        if self.stop_slot is not None and ledger.first_slot != self.stop_slot:
            held = f"slots {self.stop_slot:,} to {ledger.first_slot:,} are in no file"
            twice = f"slots {ledger.first_slot:,} to {self.stop_slot:,} are in two files"
            self._report(where, held if ledger.first_slot > self.stop_slot else twice)
        begins = not self._files
        for name, before, now in (("received", self.sums, ledger.recv), ("sent", self._own, ledger.own)):
            left, came = (before.carried_out, before.carried_out_bytes), (now.carried_in, now.carried_in_bytes)
            if left != came and (self._whole or not begins):
                self._report(
                    where, f"it continues {came[0]:,} parts of {name} messages, the file before left {left[0]:,}"
                )
        for ring in ledger.rings:
            before_byte = self._ring_stops.get(ring.conn, 0 if self._whole else ring.first_byte)
            if ring.first_byte != before_byte:
                what = f"its ring continues at byte {ring.first_byte:,}, the file before ended at {before_byte:,}"
                self._report(where, f"connection {ring.conn}: {what}")
            self._ring_stops[ring.conn] = ring.stop_byte

    def _balance(self, where: Path | str, ledger: Ledger) -> None:
        slots = ledger.received + ledger.sent + ledger.events + ledger.missing
        span = ledger.stop_slot - ledger.first_slot
        if slots != span:
            self._report(where, f"it took {span:,} slots and counts {slots:,}")
        if ledger.recv.frames > ledger.received or ledger.own.frames > ledger.sent:
            self._report(where, "its feed has more frames than its writer")
        for name, frames in (("received", ledger.recv), ("sent", ledger.own)):
            for what, left in (("frames", frames.imbalance), ("payload bytes", frames.byte_imbalance)):
                if left:
                    became = "became of nothing that came" if left < 0 else "are unaccounted for"
                    self._report(where, f"{abs(left):,} {what} {name} {became}")
        overhead = sum(ring.stop_byte - ring.first_byte for ring in ledger.rings) - ledger.recv.bytes
        least = _SMALLEST_HEADER * (sum(ledger.recv.rows.values()) - ledger.recv.carried_in)
        if overhead < least:
            self._report(
                where, f"its rings have {overhead:,} bytes besides payloads, headers alone take {least:,} or more"
            )
        self._overhead += overhead

    def _match(self, where: Path | str, ledger: Ledger, rows: FileRows) -> None:
        """Compare its counts of rows with the rows."""
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
            name: the session.
            stated: the detail of its `session_end`.
            restarted: whether a receiver died: its last counts may then be 0.1 s old.

        """
        slots, ring_bytes, receiver = stated.get("slots"), stated.get("ring_bytes"), stated.get("receiver")
        if not isinstance(slots, int) or not isinstance(ring_bytes, int) or not isinstance(receiver, dict):
            self._report(name, "session_end lacks the counts of the rings")
            return
        if slots != self.stop_slot:
            self._report(name, f"the receiver published {slots:,} slots, the files end at {self.stop_slot:,}")
        # missing slots are reported already, and may belong to any connection
        exact = receiver.get("finished") is True and not restarted and not self.missing
        self.closed = receiver if exact else None
        left = ring_bytes - self.ring_bytes
        if left < 0 or (left and exact):
            self._report(name, f"the rings took {ring_bytes:,} bytes, the files have {self.ring_bytes:,} of them")
        elif left:
            missing = "that are in no journal" if self.missing else "that were not complete when the receiver died"
            what = f"{left:,} received bytes belong to frames {missing}"
            self._report_kind(Kind.INCOMPLETE, name, what)
        frames = receiver.get("frames")
        most = self.received + self.missing
        if not isinstance(frames, int) or (frames != self.received if exact else frames > most):
            self._report(name, f"the receiver counted {frames} frames, the files have {self.received:,}")

    @property
    def books(self) -> Books:
        """The totals that are compared between the feeds of a session."""
        return Books(received=self.received, frames=self.sums.frames, ring_bytes=self.ring_bytes, closed=self.closed)

    def result(self) -> Balance | None:
        """The totals; None if no file has a ledger."""
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


def read_ledger(about: dict[str, Any] | None) -> Ledger | None:
    """The ledger in a file's metadata; None if it is missing or has another form."""
    try:
        return msgspec.convert((about or {}).get("ledger"), Ledger)
    except msgspec.ValidationError:
        return None


def _listed(rows: Mapping[Any, int]) -> str:
    return ", ".join(f"{count:,} {word}" for word, count in sorted(rows.items())) or "none"
