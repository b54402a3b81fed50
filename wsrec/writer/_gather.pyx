# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Copies payloads, compiled: equivalent to `wsrec.writer.gather`, with one memcpy per payload, without the interpreter's lock."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from wsrec.ring.slot_layout cimport CONTROL_RECORD, Slot, check_layout

check_layout()


def gather(slots, views, const int32_t[::1] ring_of, uint8_t[::1] payloads, int64_t[::1] ends):
    """As `wsrec.writer.gather.gather`.

    Raises:
        ValueError: `payloads` is too small; nothing beyond it was written.

    """
    cdef const uint8_t[::1] raw = slots.view("u1")
    cdef const uint8_t[::1] view
    cdef Py_ssize_t row, count = len(slots), number = len(views), at = 0, size = payloads.shape[0]
    cdef const Slot *slot = <const Slot *>&raw[0] if count else NULL
    cdef const uint8_t **bases = <const uint8_t **>malloc(number * sizeof(void *))
    cdef uint64_t *masks = <uint64_t *>malloc(number * sizeof(uint64_t))
    cdef int32_t ring
    cdef bint fits = True
    if bases == NULL or masks == NULL:
        free(bases)
        free(masks)
        raise MemoryError
    try:
        for row in range(number):
            view = views[row]
            bases[row] = &view[0]
            masks[row] = view.shape[0] // 2 - 1
        with nogil:
            for row in range(count):
                ring = 0 if slot.flags & CONTROL_RECORD else ring_of[slot.conn]
                if <Py_ssize_t>slot.length > size - at:
                    fits = False
                    break
                memcpy(&payloads[0] + at, bases[ring] + (slot.offset & masks[ring]), slot.length)
                at += slot.length
                ends[ring] = slot.offset + slot.length
                slot += 1
    finally:
        free(bases)
        free(masks)
    if not fits:
        raise ValueError(f"{size} bytes are too few for the payloads of {count} slots")
