"""Whether the first captured arrival of a byte is the one that TCP took.

The capture sees packets before TCP does, also those that TCP refuses: for their checksum, their acknowledgement, an
old timestamp (RFC 7323 section 5), or because it has no memory for them. But what is asked for was read. A byte that
had come once by the end of its read came with what TCP took; of one that had come more than once the first may have
been refused, unless the read's own stamp is that of the first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from wsrec.segments.segment_ring import SegmentFlag
from wsrec.segments.segment_store import CLOCK_NS, NIC_NS, Found
from wsrec.stages import SegmentOrder, StampSource

Uint64s = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]
Uint8s = npt.NDArray[np.uint8]

# of several that hold the last one counts
_ORDERS = (
    (SegmentFlag.AHEAD, SegmentOrder.AHEAD),
    (SegmentFlag.FILLED, SegmentOrder.FILLED),
    (SegmentFlag.REPEATED, SegmentOrder.REPEATED),
)


class Reads(NamedTuple):
    """The reads that took some bytes.

    Attributes:
        stamp: that came with each, ns since the epoch; undefined without one.
        source: its `StampSource`.
        ended: when the read ended, ns since the epoch.
        covered: whether all that had arrived until then was looked at.

    """

    stamp: Uint64s
    source: Uint8s
    ended: Uint64s
    covered: Bools


class Judged(NamedTuple):
    """What holds of the first arrivals of some bytes.

    Attributes:
        accepted: it is the one that TCP took.
        contradicted: it may be another one, or was after the read.
        same_clock: the read's stamp is of the same clock.

    """

    accepted: Bools
    contradicted: Bools
    same_clock: Bools


def judge(found: Found, reads: Reads) -> Judged:
    """Judge the first arrivals of bytes by the reads that took them."""
    by_nic = found.flags & SegmentFlag.NIC != 0
    same_clock = reads.source == np.where(by_nic, np.uint8(StampSource.NIC), np.uint8(StampSource.KERNEL))
    # of what fills a hole the read may have the stamp of what had come before it: TCP joins both
    in_turn = same_clock & (found.flags & SegmentFlag.FILLED == 0)
    ended = reads.ended + np.where(by_nic, np.uint64(NIC_NS), np.uint64(CLOCK_NS))
    possible = found.known & (found.stamp <= np.where(in_turn, reads.stamp, ended))
    proved = same_clock & (found.stamp == reads.stamp)
    again = (found.again <= reads.ended) & ~proved
    accepted = possible & ~again & (proved | reads.covered)
    return Judged(accepted, found.known & (~possible | again), same_clock)


def unproved(found: Found, reads: Reads) -> Bools:
    """Which first arrivals are not known to be those that TCP took before all is looked at that came until the read."""
    return found.known & ~(judge(found, reads._replace(covered=np.zeros(len(reads.ended), np.bool_))).accepted)


def first_known(begun: Found, found: Found, reads: Reads) -> Bools:
    """For which messages the arrival of the first byte, `begun`, can stand beside that of the last, `found`."""
    known = judge(begun, reads).accepted & found.known
    # stamps of two clocks are not compared; later than the last byte only where that came ahead of it
    known &= (begun.flags ^ found.flags) & SegmentFlag.NIC == 0
    known &= (begun.stamp <= found.stamp) | (found.flags & SegmentFlag.AHEAD != 0)
    return known


def orders(found: Found) -> Uint8s:
    """The `SegmentOrder` of first arrivals."""
    order = np.full(len(found.flags), SegmentOrder.IN_ORDER, np.uint8)
    for flag, word in _ORDERS:
        order[found.flags & flag != 0] = word
    return order


def sources(found: Found) -> Uint8s:
    """Whose clock the stamps of first arrivals are of: a `StampSource`."""
    by_nic = found.flags & SegmentFlag.NIC != 0
    return np.where(by_nic, np.uint8(StampSource.SEGMENT_NIC), np.uint8(StampSource.SEGMENT))
