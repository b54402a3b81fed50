"""The ledger of a file: counts of what left the rings and what became of it, so that losses in between are detected.

Each file has its own ledger, and they add up: a file's ledger begins where that of the previous file ended, in slots of
the slot ring and in bytes of each connection's ring. So the sum stays right across a restarted writer and recovery,
which count the files again that they write again. In each file, and so in the sum of files:

    slots   stop_slot - first_slot = received + sent + events + missing, and missing is 0
    frames  frames + carried_in = rows + joined + discarded + carried_out
    bytes   bytes + carried_in_bytes - deflated_bytes + inflated_bytes = row_bytes + discarded_bytes + carried_out_bytes
    rings   stop_byte - first_byte, of all connections, = bytes received + headers and handshakes between them

`wsrec.writer.ledger` counts it, `wsrec.verify.ledger` compares it with the rows and the receiver's own counts.
"""

from __future__ import annotations

import msgspec


class Frames(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the frames of one direction, for one feed's connections.

    Attributes:
        frames: slots taken, one per frame or per part of a frame that is too large for the ring.
        bytes: their payload bytes.
        carried_in, carried_in_bytes: parts of messages that began before this file and were not complete.
        joined: slots that were joined into the row of a later slot.
        discarded, discarded_bytes: parts of messages that never became complete.
        carried_out, carried_out_bytes: parts of messages that were not complete at the end of this file.
        inflated: messages that were inflated, from `deflated_bytes` to `inflated_bytes`.
        rows: rows by opcode.
        row_bytes: payload bytes of the rows.

    """

    frames: int = 0
    bytes: int = 0
    carried_in: int = 0
    carried_in_bytes: int = 0
    joined: int = 0
    discarded: int = 0
    discarded_bytes: int = 0
    carried_out: int = 0
    carried_out_bytes: int = 0
    inflated: int = 0
    deflated_bytes: int = 0
    inflated_bytes: int = 0
    rows: dict[str, int] = {}
    row_bytes: int = 0

    @property
    def imbalance(self) -> int:
        """Frames taken that became nothing; below 0: more than were taken."""
        there = sum(self.rows.values()) + self.joined + self.discarded + self.carried_out
        return self.frames + self.carried_in - there

    @property
    def byte_imbalance(self) -> int:
        """The same for payload bytes."""
        came = self.bytes + self.carried_in_bytes - self.discarded_bytes - self.carried_out_bytes
        return came - self.deflated_bytes + self.inflated_bytes - self.row_bytes

    def __add__(self, behind: Frames) -> Frames:
        """The sum of this file's frames and those of the next, as if of one file."""
        summed = {
            name: getattr(self, name) + getattr(behind, name)
            for name in self.__struct_fields__
            if name != "rows" and not name.startswith("carried")
        }
        return Frames(
            **summed,
            rows={word: self.rows.get(word, 0) + behind.rows.get(word, 0) for word in self.rows | behind.rows},
            carried_in=self.carried_in,
            carried_in_bytes=self.carried_in_bytes,
            carried_out=behind.carried_out,
            carried_out_bytes=behind.carried_out_bytes,
        )


class RingBytes(msgspec.Struct, frozen=True, kw_only=True):
    """The range of a connection's ring that a file's frames came from: payloads, headers, handshake responses.

    Attributes:
        conn: the connection.
        first_byte, stop_byte: counts in its ring: ends of the last frames of the previous file and of this one.

    """

    conn: int
    first_byte: int
    stop_byte: int


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """The ledger of one file of one feed.

    Attributes:
        first_slot, stop_slot: counts in the slot ring, from the end of the feed's previous file to the end of this one.
        received, sent, events: number of those slots by type, of all feeds of the writer.
        missing: number of slots in that range that are in no journal.
        recv, own: what became of the feed's received frames, and of its sent ones.
        rings: by connection of the feed.

    """

    first_slot: int = 0
    stop_slot: int = 0
    received: int = 0
    sent: int = 0
    events: int = 0
    missing: int = 0
    recv: Frames = Frames()
    own: Frames = Frames()
    rings: tuple[RingBytes, ...] = ()
