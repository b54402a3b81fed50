"""Updating of the ledger: counts what leaves the rings and what becomes of it (`wsrec.format.ledger`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from wsrec.format.ledger import Frames, Ledger, RingBytes
from wsrec.ring.bytering import ByteRing
from wsrec.ring.slot_flags import CONTROL_RECORD, FLAG_SENT
from wsrec.ring.slotring import SlotRing
from wsrec.ring.status import StatusPage
from wsrec.writer.batch import Batch
from wsrec.writer.gather import Slots
from wsrec.writer.reassembly import Fragments, Key
from wsrec.writer.rows import Bools, Int64s, Stamps, count_opcodes

_RECEIVED = 0


class Passed(NamedTuple):
    """Slots that other feeds of a writer have entered and this one has not: how many, and what they are (`Ledger`)."""

    slots: int
    received: int
    sent: int
    events: int
    missing: int


def passed(own: Iterable[Ledger], others: Iterable[Ledger]) -> Passed:
    """What lies behind a feed's files and before the end of another's: each counts all slots from the session's first.

    Args:
        own: of all files of the feed.
        others: of all files of another feed, up to one behind which this feed has nothing.

    """
    near, far = _together(own), _together(others)
    return Passed(*(there - here for here, there in zip(near, far, strict=True)))


def _together(ledgers: Iterable[Ledger]) -> tuple[int, ...]:
    counted = [
        (each.stop_slot - each.first_slot, each.received, each.sent, each.events, each.missing) for each in ledgers
    ]
    return tuple(map(sum, zip((0,) * len(Passed._fields), *counted, strict=True)))


class BatchCounts(NamedTuple):
    """A batch as all feeds of a writer count it.

    Attributes:
        first, stop: counts in the slot ring.
        slots: its slots.
        lengths: their payloads (bytes).
        received, sent: which of them are frames received, and frames sent.

    """

    first: int
    stop: int
    slots: Slots
    lengths: Int64s
    received: Bools
    sent: Bools


def count_batch(batch: Batch) -> BatchCounts:
    """Look through a batch, once for all feeds."""
    words = batch.slots["flags"] & CONTROL_RECORD
    lengths = batch.slots["length"].astype(np.int64)
    return BatchCounts(batch.first, batch.next, batch.slots, lengths, words == 0, words == FLAG_SENT)


class Inflated(NamedTuple):
    """Messages that were inflated: of which connections, from how many bytes to how many."""

    conns: npt.NDArray[np.uint16]
    before: Int64s
    after: Int64s


class FeedLedger:
    """Keeps the ledger of one feed, file by file.

    Args:
        conns: the feed's connections.
        alone: whether the writer has no other feed.
        before: the ledger of the feed's last file that has landed, None where there is none.
        passed: slots behind that file in which nothing was of this feed, and which are in files of the others.

    """

    def __init__(
        self, conns: Iterable[int], *, alone: bool, before: Ledger | None = None, passed: Passed | None = None
    ) -> None:
        self._conns = sorted(conns)
        self._alone = alone
        self._slot = before.stop_slot if before else 0
        self._ring_stops = np.zeros(1 + max(self._conns, default=0), np.int64)
        for ring in before.rings if before else ():
            if ring.conn in self._conns:
                self._ring_stops[ring.conn] = ring.stop_byte
        self._begin()
        if passed is not None:
            self._slot += passed.slots
            self._received, self._sent, self._events, self._missing = passed[1:]

    def _begin(self) -> None:
        self._first_slot = self._slot
        self._ring_firsts = self._ring_stops.copy()
        self._received = self._sent = self._events = self._missing = 0
        self._recv, self._own = _Account(), _Account()
        self._begun = False

    def begin(self, unfinished: Mapping[Key, Fragments]) -> None:
        """Begin a file's ledger with what came from before, unless it has begun."""
        if not self._begun:
            self._begun = True
            self._recv.carried_in = self._of(unfinished, _RECEIVED)
            self._own.carried_in = self._of(unfinished, FLAG_SENT)

    def take(self, seen: BatchCounts, unfinished: Mapping[Key, Fragments]) -> None:
        """Enter a batch; `unfinished` are the parts of messages that had begun before it."""
        self.begin(unfinished)
        self._missing += seen.first - self._slot
        self._slot = seen.stop
        received, sent = int(np.count_nonzero(seen.received)), int(np.count_nonzero(seen.sent))
        self._received += received
        self._sent += sent
        self._events += len(seen.slots) - received - sent
        mine, own = seen.received, seen.sent
        if not self._alone:
            of_feed = np.isin(seen.slots["conn"], self._conns)
            mine, own = mine & of_feed, own & of_feed
            received, sent = int(np.count_nonzero(mine)), int(np.count_nonzero(own))
        self._recv.add(received, int(seen.lengths.sum(where=mine)))
        if sent:
            self._own.add(sent, int(seen.lengths.sum(where=own)))
        if received:
            ends = seen.slots["offset"].astype(np.int64) + seen.lengths
            conns = seen.slots["conn"]
            if received < len(mine):
                conns, ends = conns[mine], ends[mine]
            # of those of one connection the last one stays
            self._ring_stops[conns] = ends

    def joined(self, joined: Mapping[Key, Fragments], discarded: Mapping[Key, Fragments]) -> None:
        """Enter what was joined into later slots, and what never ended."""
        if joined or discarded:
            self._recv.join(self._of(joined, _RECEIVED), self._of(discarded, _RECEIVED))
            self._own.join(self._of(joined, FLAG_SENT), self._of(discarded, FLAG_SENT))

    def inflated(self, inflated: Inflated) -> None:
        """Enter what was inflated."""
        before, after = inflated.before, inflated.after
        if not self._alone:
            mine = np.isin(inflated.conns, self._conns)
            before, after = before[mine], after[mine]
        self._recv.inflated += len(before)
        self._recv.deflated_bytes += int(before.sum())
        self._recv.inflated_bytes += int(after.sum())

    def rows(self, slots: Slots, when: Stamps, lengths: Int64s) -> None:
        """Enter rows and their payloads (bytes)."""
        if when.received.all():
            self._recv.row(slots, lengths)
            return
        self._recv.row(slots[when.received], lengths[when.received])
        sent = slots["flags"] & FLAG_SENT != 0
        self._own.row(slots[sent], lengths[sent])

    def finish(self, unfinished: Mapping[Key, Fragments]) -> Ledger:
        """The ledger of the file that ends here, with the parts of messages that have not ended."""
        # where nothing came out of the rings, what was carried in is carried out
        self.begin(unfinished)
        ledger = Ledger(
            first_slot=self._first_slot,
            stop_slot=self._slot,
            received=self._received,
            sent=self._sent,
            events=self._events,
            missing=self._missing,
            recv=self._recv.close(self._of(unfinished, _RECEIVED)),
            own=self._own.close(self._of(unfinished, FLAG_SENT)),
            rings=tuple(
                RingBytes(conn=c, first_byte=int(self._ring_firsts[c]), stop_byte=int(self._ring_stops[c]))
                for c in self._conns
            ),
        )
        self._begin()
        return ledger

    def _of(self, parts: Mapping[Key, Fragments], words: int) -> Fragments:
        """The sum of the feed's connections."""
        mine = [parts[conn, words] for conn in self._conns if (conn, words) in parts] if parts else []
        return Fragments(sum(each.slots for each in mine), sum(each.bytes for each in mine))


class _Account:
    """`Frames`, being counted."""

    def __init__(self) -> None:
        self._frames = self._bytes = 0
        self.carried_in = Fragments(0, 0)
        self._joined = 0
        self._discarded = Fragments(0, 0)
        self.inflated = self.deflated_bytes = self.inflated_bytes = 0
        self._rows: dict[str, int] = {}
        self._row_bytes = 0

    def add(self, frames: int, size: int) -> None:
        self._frames += frames
        self._bytes += size

    def join(self, joined: Fragments, discarded: Fragments) -> None:
        self._joined += joined.slots
        self._discarded = Fragments(self._discarded.slots + discarded.slots, self._discarded.bytes + discarded.bytes)

    def row(self, slots: Slots, lengths: Int64s) -> None:
        for word, count in count_opcodes(slots).items():
            self._rows[word] = self._rows.get(word, 0) + count
        self._row_bytes += int(lengths.sum())

    def close(self, carried_out: Fragments) -> Frames:
        return Frames(
            frames=self._frames,
            bytes=self._bytes,
            carried_in=self.carried_in.slots,
            carried_in_bytes=self.carried_in.bytes,
            joined=self._joined,
            discarded=self._discarded.slots,
            discarded_bytes=self._discarded.bytes,
            carried_out=carried_out.slots,
            carried_out_bytes=carried_out.bytes,
            inflated=self.inflated,
            deflated_bytes=self.deflated_bytes,
            inflated_bytes=self.inflated_bytes,
            rows=self._rows,
            row_bytes=self._row_bytes,
        )


class RingCounts(NamedTuple):
    """What the rings and the receiver say at a session's end, for the event that closes it.

    Attributes:
        slots: published since the session began; exact, whatever happened to the receiver.
        ring_bytes: by connection: bytes that were put into its ring; exact as well.
        receiver: the receiver's own counts: reads, frames, bytes (taken off the sockets, decrypted), discarded_bytes
            (of them: what was no frame in the end), stalls; finished: whether they are its last word.

    """

    slots: int
    ring_bytes: dict[int, int]
    receiver: dict[str, Any]

    def detail(self, conns: Iterable[int]) -> dict[str, Any]:
        """The part of the event's detail, for the feed of these connections."""
        own = sum(self.ring_bytes.get(conn, 0) for conn in conns)
        return {"slots": self.slots, "ring_bytes": own, "receiver": self.receiver}


def ring_counts(slots: SlotRing, rings: Mapping[int, ByteRing], status: StatusPage) -> RingCounts:
    """Read them; the receiver has ended."""
    stated = status.receiver
    counts = {name: int(stated[name]) for name in ("reads", "frames", "bytes", "discarded_bytes", "stalls")}
    receiver = {**counts, "finished": bool(stated["finished"])}
    return RingCounts(slots.published.read(), {conn: ring.head.read() for conn, ring in rings.items()}, receiver)
