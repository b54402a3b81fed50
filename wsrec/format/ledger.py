"""The ledger of a file: counts what left the rings and what became of it, so that losses in between are detected.

Each file has its own, and they add up: a file's begins where the one before it ended, in slots of the slot ring and in
bytes of each connection's ring. So it survives a writer that is started anew, and recovery, which count again what is
made again. In each file, and so in their sum:

    slots   stop_slot - first_slot = received + sent + events + missing, and missing is 0
    frames  frames + carried_in = rows + joined + discarded + carried_out
    bytes   bytes + carried_in_bytes - deflated_bytes + inflated_bytes = row_bytes + discarded_bytes + carried_out_bytes
    rings   stop_byte - first_byte, of all connections, = bytes received + headers and handshakes between them

`wsrec.writer.ledger` keeps it, `wsrec.verify.ledger` holds it against the rows and the receiver's own counts.
"""

from __future__ import annotations

import msgspec


class Frames(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the frames of one direction, of one feed's connections.

    Attributes:
        frames: slots taken: a frame each, or a part of a frame too large for the ring.
        bytes: their payload.
        carried_in, carried_in_bytes: parts of messages that had begun before this file, and had not ended.
        joined: slots that went into the row of a later one.
        discarded, discarded_bytes: parts of messages that never ended.
        carried_out, carried_out_bytes: parts of messages that had not ended with this file.
        inflated: messages that were inflated, of `deflated_bytes` to `inflated_bytes`.
        rows: rows by opcode.
        row_bytes: their payload.

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
        """Frames that came and are nowhere; below 0: that are somewhere and never came."""
        there = sum(self.rows.values()) + self.joined + self.discarded + self.carried_out
        return self.frames + self.carried_in - there

    @property
    def byte_imbalance(self) -> int:
        """The same of payload bytes."""
        came = self.bytes + self.carried_in_bytes - self.discarded_bytes - self.carried_out_bytes
        return came - self.deflated_bytes + self.inflated_bytes - self.row_bytes

    def __add__(self, behind: Frames) -> Frames:
        """These and those of the file behind, as one file's."""
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
    """The bytes of a connection's ring that a file's frames came from: payloads, headers, answers to handshakes.

    Attributes:
        conn: the connection.
        first_byte, stop_byte: counts in its ring, from the end of the last frame before to the end of the last here.

    """

    conn: int
    first_byte: int
    stop_byte: int


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """The account of one file of one feed.

    Attributes:
        first_slot, stop_slot: counts in the slot ring, from the end of the feed's file before to the end of this one.
        received, sent, events: what those slots are, of all feeds of the writer: frames received, frames sent, events.
        missing: slots between them that no journal has.
        recv, own: what became of the feed's frames: of those received, and of those sent.
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
