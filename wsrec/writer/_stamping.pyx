# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Stamps of slots in UTC, compiled: equivalent to `wsrec.writer.stamping`, in one pass, without the interpreter's lock."""

from libc.stdint cimport int64_t, uint8_t, uint64_t

from wsrec.ring.slot_layout cimport FLAG_COARSE, Slot, check_layout

from wsrec.ring.slot_flags import NOT_RECEIVED
from wsrec.ring.slot_layout import COARSE_SHIFT
from wsrec.writer.stamping import STEPS, TIMES

check_layout()

cdef int _rows = len(TIMES) + STEPS
cdef uint8_t _not_received = NOT_RECEIVED
cdef int _shift = COARSE_SHIFT


def fill_stamps(slots, const int64_t[::1] offset, int64_t[:, ::1] out, received, stamped):
    """As `wsrec.writer.stamping.fill_stamps`.

    Raises:
        ValueError: the arrays differ in length, or `out` does not have a row for each column.

    """
    cdef Py_ssize_t row, count = len(slots), size = slots.dtype.itemsize
    cdef const uint8_t[::1] raw = slots.view("u1")
    cdef uint8_t[::1] is_received = received.view("u1"), is_stamped = stamped.view("u1")
    cdef const uint8_t *at = &raw[0] if count else NULL
    cdef const Slot *slot
    cdef int shift
    cdef uint64_t nic, event, recv_start, recv_end, parsed, handoff, waited, took, parse
    if size < <Py_ssize_t>sizeof(Slot) or out.shape[0] != _rows or not (
        offset.shape[0] == out.shape[1] == is_received.shape[0] == is_stamped.shape[0] == count
    ):
        raise ValueError(f"the arrays do not fit {count} slots")
    with nogil:
        # unsigned, since these may overflow: what a damaged journal holds is up to its finder
        for row in range(count):
            slot = <const Slot *>at
            at += size
            shift = _shift if slot.flags & FLAG_COARSE else 0
            waited = <uint64_t>slot.recv_start << shift
            took = <uint64_t>slot.recv_end << shift
            parse = <uint64_t>slot.parsed << shift
            nic = slot.nic
            handoff = slot.handoff + <uint64_t>offset[row]
            event = slot.event + <uint64_t>offset[row]
            recv_start = event + waited
            recv_end = recv_start + took
            parsed = recv_end + parse
            is_received[row] = slot.flags & _not_received == 0
            is_stamped[row] = nic != 0
            if nic:
                out[0, row] = <int64_t>nic
            elif is_received[row]:
                out[0, row] = <int64_t>recv_end
            else:
                # fetched data has no time but its hand-off
                out[0, row] = <int64_t>(event if slot.event else handoff)
            out[1, row] = <int64_t>nic
            out[2, row] = <int64_t>event
            out[3, row] = <int64_t>recv_start
            out[4, row] = <int64_t>recv_end
            out[5, row] = <int64_t>parsed
            out[6, row] = <int64_t>handoff
            out[7, row] = <int64_t>slot.handoff
            out[8, row] = <int64_t>(event - nic)
            out[9, row] = <int64_t>waited
            out[10, row] = <int64_t>took
            out[11, row] = <int64_t>parse
            out[12, row] = <int64_t>(handoff - parsed)
