# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The compiled in-process consumer: equivalent to `wsrec.client.consumer`, message for message.

Read that first. Here a message is a C copy of its slot; the payload's view and the stamps are made only on request.
"""

cimport cython
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.buffer cimport PyBUF_READ
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint8_t, uint16_t, uint64_t

from wsrec.host._clock cimport Mapping, mapping, wsrec_now
from wsrec.ring.counter cimport wsrec_store
from wsrec.ring.slot_layout cimport FLAG_COARSE, FLAG_FIN, OF_THE_READ, Slot, check_layout

from wsrec.client.consumer import GONE, Assembler
from wsrec.client.stamps import Stamps
from wsrec.ring.slot_layout import COARSE_SHIFT
from wsrec.stages import StampSource
from wsrec.wire import frames


check_layout()

cdef const Mapping *CLOCK = mapping()


cdef uint8_t TEXT = frames.TEXT
cdef uint8_t BINARY = frames.BINARY
cdef uint8_t CLOSE = frames.CLOSE
cdef int SHIFT = COARSE_SHIFT
cdef object new_tuple = tuple.__new__


cdef inline uint64_t first_byte(const Slot *slot) noexcept nogil:
    """As in the Python module."""
    cdef uint64_t header = 2 if slot.length < 126 else 4 if slot.length < 1 << 16 else 10
    return slot.offset - min(header, slot.offset)


@cython.freelist(16)
@cython.final
cdef class Message:
    """A whole text or binary message; attributes are those of the Python class."""

    cdef readonly object connection
    cdef Slot _slot
    cdef const uint8_t *_start
    cdef Py_ssize_t _length
    # the ring's view, and where the payload begins in it; a slice that the caller keeps also keeps the ring mapped
    cdef object _ring_view
    cdef Py_ssize_t _at
    # the bytes that `_start` points into, if the message was assembled
    cdef object _whole
    cdef object _view
    # the count in the ring of its first byte, if it was assembled
    cdef uint64_t _first
    cdef bint _assembled

    @property
    def opcode(self):
        """1 for text, 2 for binary (RFC 6455 section 5.2)."""
        return self._slot.opcode

    @property
    def data(self):
        """The payload in the ring, read-only and not copied; released when the callback returns."""
        if self._view is None:
            self._check()
            if self._whole is None:
                self._view = self._ring_view[self._at : self._at + self._length]
            else:
                self._view = memoryview(self._whole)
        return self._view

    @property
    def text(self):
        """The payload decoded, which always works for a text message."""
        self._check()
        return PyUnicode_DecodeUTF8(<char *>self._start, self._length, NULL)

    @property
    def is_text(self):
        """Whether it is a text message."""
        return self._slot.opcode == TEXT

    @property
    def stamps(self):
        """The six stamps of the frame that completed the message; they outlast the callback."""
        cdef int shift = SHIFT if self._slot.flags & FLAG_COARSE else 0
        cdef uint64_t recv_start = self._slot.event + (<uint64_t>self._slot.recv_start << shift)
        cdef uint64_t recv_end = recv_start + (<uint64_t>self._slot.recv_end << shift)
        cdef uint64_t parsed = recv_end + (<uint64_t>self._slot.parsed << shift)
        nic = self._slot.nic if self._slot.nic else None
        return new_tuple(Stamps, (nic, self._slot.event, recv_start, recv_end, parsed, self._slot.handoff))

    @property
    def source(self):
        """The source of stage 1; without a timestamp, `source.reason` is why."""
        return StampSource(self._slot.source)

    @property
    def frame_in_read(self):
        """Position among the frames that the same read completed, from 0."""
        return self._slot.frame_in_read

    @property
    def frames_in_read(self):
        """Number of frames that the same read completed, up to those handed over together with this one."""
        return self._slot.frames_in_read

    @property
    def read_bytes(self):
        """Bytes that the read took off the socket."""
        return self._slot.read_bytes

    def arrival(self):
        """When its first and its last byte arrived; to be awaited, also after the callback, but within two seconds."""
        cdef uint64_t first = self._first if self._assembled else first_byte(&self._slot)
        return self.connection._arrival(first, self._slot.offset + self._slot.length - 1, self.stamps, self.source)

    def __bytes__(self):
        self._check()
        return PyBytes_FromStringAndSize(<char *>self._start, self._length)

    def __len__(self):
        self._check()
        return self._length

    def __repr__(self):
        size = "gone" if self._start is NULL else f"{self._length} bytes"
        return f"<wsrec.Message {'text' if self.is_text else 'binary'}, {size}>"

    cdef int _check(self) except -1:
        if self._start is NULL:
            raise RuntimeError(GONE)
        return 0

    cdef int _end(self) except -1:
        """The callback has returned: invalidate the message, and a view of it that the caller kept."""
        self._start = NULL
        self._whole = self._ring_view = None
        if self._view is not None:
            view, self._view = self._view, None
            try:
                view.release()
            except BufferError:
                pass
        return 0


cdef class Consumer:
    """Calls `on_message` for each message of one connection; arguments and attributes are those of the Python class."""

    cdef public bint stopped
    cdef readonly object assembler
    cdef object _connection, _on_message, _on_control, _on_error, _view
    # kept so that the memory behind the pointers stays mapped
    cdef const uint8_t[::1] _bytes
    cdef uint8_t[::1] _slot_bytes
    cdef uint64_t[::1] _ring_words, _slot_words
    cdef const uint8_t *_data
    cdef Slot *_slots
    cdef uint64_t *_tail
    cdef uint64_t *_released
    cdef uint64_t _mask, _slot_mask
    # the first byte of the message being assembled
    cdef uint64_t _first

    def __init__(self, slots, ring, connection, max_message, *, on_message, on_control, on_error):
        self.assembler = Assembler(max_message)
        self._connection = connection
        self._on_message = on_message
        self._on_control = on_control
        self._on_error = on_error
        self._view = ring.view.toreadonly()
        self._bytes = ring.view
        self._data = &self._bytes[0]
        self._mask = ring.mask
        self._ring_words = ring.tail.words
        self._tail = &self._ring_words[ring.tail.index]
        self._slot_bytes = slots.view
        self._slots = <Slot *>&self._slot_bytes[0]
        self._slot_mask = slots.mask
        self._slot_words = slots.released.words
        self._released = &self._slot_words[slots.released.index]

    def on_batch(self, uint64_t first, uint64_t stop):
        """Pass on the messages of the slots from `first` up to `stop`, and release their space."""
        cdef uint64_t number, end = 0
        cdef Slot *slot
        cdef const uint8_t *data
        # a read may be handed over in several batches, one for each TLS record
        cdef uint16_t frames_in_read = self._slots[(stop - 1) & self._slot_mask].frame_in_read + 1
        for number in range(first, stop):
            slot = &self._slots[number & self._slot_mask]
            end = slot.offset + slot.length
            if self.stopped:
                continue
            data = &self._data[slot.offset & self._mask]
            try:
                slot.frames_in_read = frames_in_read
                if slot.flags & ~OF_THE_READ == FLAG_FIN and (slot.opcode == TEXT or slot.opcode == BINARY):
                    self._pass_on(slot, slot.opcode, data, slot.length, None)
                elif slot.opcode >= CLOSE:
                    self._on_control(slot.opcode, PyBytes_FromStringAndSize(<char *>data, slot.length))
                else:
                    self._rare(slot, data)
            except Exception as error:
                self._on_error(error)
        wsrec_store(self._tail, end)
        wsrec_store(self._released, stop)

    cdef int _rare(self, Slot *slot, const uint8_t *data) except -1:
        """A part of a message, or a compressed one."""
        if slot.opcode:
            self._first = first_byte(slot)
        part = PyMemoryView_FromMemory(<char *>data, slot.length, PyBUF_READ)
        message = self.assembler.add(slot.opcode, slot.flags, part)
        if message is None:
            return 0
        self._pass_on(slot, self.assembler.opcode, <const uint8_t *><char *>message, len(message), message)
        return 0

    cdef int _pass_on(self, Slot *slot, uint8_t opcode, const uint8_t *data, Py_ssize_t length, whole) except -1:
        cdef Message message = Message.__new__(Message)
        message.connection = self._connection
        message._slot = slot[0]
        message._slot.opcode = opcode
        message._start = data
        message._ring_view = self._view
        message._at = slot.offset & self._mask
        message._length = length
        message._whole = whole
        if whole is not None:
            message._first, message._assembled = self._first, True
        # Stage 6, HANDOFF
        message._slot.handoff = wsrec_now(CLOCK)
        try:
            self._on_message(message)
        finally:
            message._end()
        return 0
