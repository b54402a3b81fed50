"""Counts for the ledger: what leaves the rings and what becomes of it (`wsrec.format.ledger`)."""

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
    """Number of slots by type (`Ledger`) that other feeds of a writer have counted and this one has not."""

    slots: int
    received: int
    sent: int
    events: int
    missing: int


def passed(own: Iterable[Ledger], others: Iterable[Ledger]) -> Passed:
    """Slots after a feed's files and before the end of another's; each counts all slots from the session's first.

    Args:
        own: the ledgers of the feed's files.
        others: the ledgers of another feed's files, up to one after which this feed has nothing.

    """
    near, far = _together(own), _together(others)
    return Passed(*(there - here for here, there in zip(near, far, strict=True)))


def _together(ledgers: Iterable[Ledger]) -> tuple[int, ...]:
    counted = [
        (each.stop_slot - each.first_slot, each.received, each.sent, each.events, each.missing) for each in ledgers
    ]
    return tuple(map(sum, zip((0,) * len(Passed._fields), *counted, strict=True)))


class BatchCounts(NamedTuple):
    """Counts of a batch for all feeds of a writer.

    Attributes:
        first, stop: counts in the slot ring.
        slots: its slots.
        lengths: their payload lengths (bytes).
        received, sent: masks of received and of sent frames.

    """

    first: int
    stop: int
    slots: Slots
    lengths: Int64s
    received: Bools
    sent: Bools


def count_batch(batch: Batch) -> BatchCounts:
    """Count a batch, once for all feeds."""
    words = batch.slots["flags"] & CONTROL_RECORD
    lengths = batch.slots["length"].astype(np.int64)
    return BatchCounts(batch.first, batch.next, batch.slots, lengths, words == 0, words == FLAG_SENT)


class Inflated(NamedTuple):
    """Messages that were inflated: their connections, and their sizes before and after."""

    conns: npt.NDArray[np.uint16]
    before: Int64s
    after: Int64s


class FeedLedger:
    """Keeps the ledger of one feed, file by file.

    Args:
        conns: the feed's connections.
        alone: whether the writer has no other feed.
        before: the ledger of the feed's last finished file; None without one.
        passed: slots after that file without anything of this feed, which are in files of the others.

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
        """Begin a file's ledger with the fragments carried in, unless it has begun."""
        if not self._begun:
            self._begun = True
            self._recv.carried_in = self._of(unfinished, _RECEIVED)
            self._own.carried_in = self._of(unfinished, FLAG_SENT)

    def take(self, seen: BatchCounts, unfinished: Mapping[Key, Fragments]) -> None:
        """Add a batch; `unfinished` are the fragments of messages that began before it."""
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
            # of several slots of a connection the last one stays
            self._ring_stops[conns] = ends

    def joined(self, joined: Mapping[Key, Fragments], discarded: Mapping[Key, Fragments]) -> None:
        """Add fragments that were joined into later slots, and those of messages never completed."""
        if joined or discarded:
            self._recv.join(self._of(joined, _RECEIVED), self._of(discarded, _RECEIVED))
            self._own.join(self._of(joined, FLAG_SENT), self._of(discarded, FLAG_SENT))

    def inflated(self, inflated: Inflated) -> None:
        """Add inflated messages."""
        before, after = inflated.before, inflated.after
        if not self._alone:
            mine = np.isin(inflated.conns, self._conns)
            before, after = before[mine], after[mine]
        self._recv.inflated += len(before)
        self._recv.deflated_bytes += int(before.sum())
        self._recv.inflated_bytes += int(after.sum())

    def rows(self, slots: Slots, when: Stamps, lengths: Int64s) -> None:
        """Add rows with their payload lengths (bytes)."""
        if when.received.all():
            self._recv.row(slots, lengths)
            return
        self._recv.row(slots[when.received], lengths[when.received])
        sent = slots["flags"] & FLAG_SENT != 0
        self._own.row(slots[sent], lengths[sent])

    def finish(self, unfinished: Mapping[Key, Fragments]) -> Ledger:
        """The ledger of the file that ends here, with the fragments of incomplete messages."""
        # if nothing came out of the rings, the fragments carried in are carried out
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
    """Running counts for a `Frames`."""

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
    """Counts of the rings and the receiver at a session's end, for its `session_end` event.

    Attributes:
        slots: number published since the session began; exact, whatever happened to the receiver.
        ring_bytes: bytes put into each connection's ring; exact as well.
        receiver: the receiver's own counts: reads, frames, bytes (taken from the sockets, decrypted), discarded_bytes
            (of those, bytes that never became a frame), stalls; finished: whether they are final.

    """

    slots: int
    ring_bytes: dict[int, int]
    receiver: dict[str, Any]

    def detail(self, conns: Iterable[int]) -> dict[str, Any]:
        """The counts as a part of the event's detail, for the feed with these connections."""
        own = sum(self.ring_bytes.get(conn, 0) for conn in conns)
        return {"slots": self.slots, "ring_bytes": own, "receiver": self.receiver}


def ring_counts(slots: SlotRing, rings: Mapping[int, ByteRing], status: StatusPage) -> RingCounts:
    """Read the counts after the receiver's end."""
    stated = status.receiver
    counts = {name: int(stated[name]) for name in ("reads", "frames", "bytes", "discarded_bytes", "stalls")}
    receiver = {**counts, "finished": bool(stated["finished"])}
    return RingCounts(slots.published.read(), {conn: ring.head.read() for conn, ring in rings.items()}, receiver)
