# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The hot path compiled: what `wsrec.receive.hotpath` does, frame for frame, without a Python object a frame.

Read `hotpath.py` first: the same six stages stand here in the same order, and there it says why each is where it is.
What is rare (fragments, control frames, frames in parts, broken ones) is decided by the same Python code in both, so
they cannot differ there; one test suite and a differential property test run on both.

Stages 2 to 6 are CLOCK_MONOTONIC through the vDSO, the clock of the Python path.
"""

from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport strerror

from wsrec.receive.hotpath import MIN_ROOM
from wsrec.receive.ktls import KtlsTransport
from wsrec.receive.producer import RESERVED_SLOTS
from wsrec.receive.transport import READ_MAX, PlainTransport
from wsrec.ring.slotring import COARSE_SHIFT, Flag
from wsrec.stages import StampSource
from wsrec.wire import frames
from wsrec.wire.errors import ProtocolError


cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    #include <sys/socket.h>
    #include <sys/uio.h>
    #include <time.h>

    #ifndef SO_TIMESTAMPING
    #define SO_TIMESTAMPING 37
    #endif

    static inline uint64_t wsrec_now(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
    }

    static inline uint64_t wsrec_load(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
    static inline void wsrec_store(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }

    /* recvmsg(2) and its SCM_TIMESTAMPING: software and raw hardware stamp in ns, 0 where there is none. Without
       `stamped` there is no room for ancillary data: then TLS in the kernel tells by EIO of a record that is no data */
    static inline ssize_t wsrec_receive(
        int fd, void *into, size_t room, int stamped, uint64_t *software, uint64_t *hardware) {
        struct iovec part = {into, room};
        union { struct cmsghdr align; char space[CMSG_SPACE(3 * sizeof(struct timespec))]; } control;
        struct msghdr message = {0};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        message.msg_control = stamped ? control.space : 0;
        message.msg_controllen = stamped ? sizeof control.space : 0;
        ssize_t size = recvmsg(fd, &message, 0);
        *software = *hardware = 0;
        if (size > 0)
            for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c))
                if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPING
                    && c->cmsg_len >= CMSG_LEN(3 * sizeof(struct timespec))) {
                    struct timespec stamps[3];
                    memcpy(stamps, CMSG_DATA(c), sizeof stamps);
                    *software = (uint64_t)stamps[0].tv_sec * 1000000000u + (uint64_t)stamps[0].tv_nsec;
                    *hardware = (uint64_t)stamps[2].tv_sec * 1000000000u + (uint64_t)stamps[2].tv_nsec;
                }
        return size;
    }
    """
    uint64_t wsrec_now() nogil
    uint64_t wsrec_load(const uint64_t *word) nogil
    void wsrec_store(uint64_t *word, uint64_t value) nogil
    ssize_t wsrec_receive(
        int fd, void *into, size_t room, int stamped, uint64_t *software, uint64_t *hardware
    ) nogil


cdef packed struct Slot:
    uint64_t offset
    uint64_t nic
    uint64_t event
    uint64_t handoff
    uint32_t recv_start
    uint32_t recv_end
    uint32_t parsed
    uint32_t length
    uint32_t read_bytes
    uint16_t frame_in_read
    uint16_t frames_in_read
    uint16_t conn
    uint8_t opcode
    uint8_t flags
    uint8_t source
    uint8_t unused[3]

cdef uint8_t FIN = frames.FIN
cdef uint8_t OPCODE = frames.OPCODE
cdef uint8_t WHOLE_TEXT = frames.FIN | frames.TEXT
cdef uint8_t WHOLE_BINARY = frames.FIN | frames.BINARY
cdef uint8_t CLOSE = frames.CLOSE
cdef uint8_t RSV1 = frames.RSV1
cdef uint8_t FLAG_FIN = int(Flag.FIN)
cdef uint8_t FLAG_RSV1 = int(Flag.RSV1)
cdef uint8_t FLAG_COARSE = int(Flag.COARSE)
cdef int SHIFT = COARSE_SHIFT
cdef uint64_t RESERVED = RESERVED_SLOTS
cdef uint64_t LARGEST_READ = READ_MAX
cdef uint64_t LEAST_ROOM = MIN_ROOM
cdef uint64_t SMALLEST_FRAME = 2
cdef uint64_t LARGEST_DIFFERENCE = 0xFFFFFFFF
cdef uint8_t SOURCE_KERNEL = int(StampSource.KERNEL)
cdef uint8_t SOURCE_ABSENT = int(StampSource.NONE_ABSENT)


cdef class HotPath:
    """One connection's way from readiness to hand-off; arguments and attributes are those of the Python class."""

    cdef public bint open
    cdef public uint64_t reads
    cdef public uint64_t frames
    cdef public uint64_t received
    cdef public uint64_t last_event
    cdef object _ring, _producer, _transport, _rules
    cdef object _on_opening, _on_control, _on_end, _on_full, _on_batch
    # kept so that what the pointers point to stays mapped
    cdef const uint8_t[::1] _bytes
    cdef uint8_t[::1] _slot_bytes
    cdef uint64_t[::1] _ring_words, _slot_words
    cdef const uint8_t *_data
    cdef Slot *_slots
    cdef uint64_t *_ring_head
    cdef uint64_t *_ring_tail
    cdef uint64_t *_published
    cdef uint64_t *_released
    cdef uint64_t _mask, _capacity, _slot_mask, _slot_capacity
    cdef uint64_t _head, _position, _handed_off
    cdef uint64_t _part_left, _part_size, _max_message
    cdef uint8_t _part_first
    cdef uint16_t _conn
    cdef bint _message_open
    # the socket to read in C, or -1 where the transport reads
    cdef int _fd
    cdef bint _stamped
    # whether what it reads was TLS, so that Python must look at what is no data
    cdef bint _kernel_tls
    # stage 1 of the last read, where it comes from, and how much that read took off the socket
    cdef uint64_t _stamp
    cdef uint8_t _source
    cdef uint32_t _read_bytes
    # where the next read goes: how much it may bring, 0 where there was no room, and the count of slots at that time
    cdef uint64_t _prepared_room, _prepared_at
    cdef object _into, _view, _read

    def __init__(
        self, conn, ring, producer, transport, rules, *, on_opening, on_control, on_end, on_full, on_batch=None
    ):
        self._conn = conn
        self._ring = ring
        self._producer = producer
        self._transport = transport
        self._rules = rules
        self._on_opening = on_opening
        self._on_control = on_control
        self._on_end = on_end
        self._on_full = on_full
        self._on_batch = on_batch
        self._bytes = ring.view
        self._data = &self._bytes[0]
        self._mask = ring.mask
        self._capacity = ring.capacity
        self._ring_words = ring.head.words
        self._ring_head = &self._ring_words[ring.head.index]
        self._ring_tail = &self._ring_words[ring.tail.index]
        slots = producer.slots
        self._slot_bytes = slots.view
        self._slots = <Slot *>&self._slot_bytes[0]
        self._slot_mask = slots.mask
        self._slot_capacity = slots.capacity
        self._slot_words = slots.published.words
        self._published = &self._slot_words[slots.published.index]
        self._released = &self._slot_words[slots.released.index]
        self._head = self._position = self._handed_off = ring.head.read()
        self._part_size = ring.capacity // 4
        self._max_message = rules.max_message
        self._kernel_tls = type(transport) is KtlsTransport
        self._fd = transport.fileno if self._kernel_tls or type(transport) is PlainTransport else -1
        self._stamped = transport.source == StampSource.NONE_ABSENT
        self._source = transport.source
        self._view = ring.view
        self._read = transport.read

    @property
    def unparsed(self):
        """Bytes received of a frame that is not complete."""
        return self._head - self._position

    def has_room(self):
        """Whether both rings can take a read."""
        return self._room() >= LEAST_ROOM

    def discard(self):
        """See the Python class."""
        self._head = self._position = self._handed_off
        wsrec_store(self._ring_head, self._head)
        self._prepared_room = 0

    def on_readable(self):
        """The readiness callback: read once, parse every frame that is complete, hand the batch off."""
        cdef uint64_t event, recv_start, recv_end, kernel, nic
        cdef int64_t size
        cdef bint by_python = self._fd < 0
        # Stage 2, EVENT
        event = wsrec_now()
        if not self._prepared_room or self._prepared_at != <uint64_t>self._producer.count:
            self._prepare()
        if not self._prepared_room:
            self._on_full()
            return
        # Stages 3 and 4, RECV_START and RECV_END
        if self._fd >= 0:
            recv_start = wsrec_now()
            size = wsrec_receive(
                self._fd,
                <void *>&self._data[self._head & self._mask],
                self._prepared_room,
                self._stamped,
                &kernel,
                &nic,
            )
            recv_end = wsrec_now()
            if size < 0:
                size = -errno
            elif size:
                self._note_stamp(size, kernel, nic)
            if self._kernel_tls and size < 0 and size not in (-EAGAIN, -EINTR):
                # a record that is no data, or a broken one: Python knows which
                self._into = self._ring.slice(self._head, self._prepared_room)
                by_python = True
        if by_python:
            recv_start = wsrec_now()
            try:
                result = self._read(self._into)
            except OSError as error:
                self._on_end(error)
                return
            recv_end = wsrec_now()
            size = -EAGAIN if result is None else result
            self._stamp, self._source = self._transport.stamp, self._transport.source
            self._read_bytes = self._transport.read_bytes
        if size <= 0:
            if size == 0:
                self._on_end(None)
            elif size not in (-EAGAIN, -EINTR):
                self._on_end(OSError(-size, strerror(<int>-size).decode()))
            return

        self._head += size
        wsrec_store(self._ring_head, self._head)
        self.reads += 1
        self.received += size
        self.last_event = event
        if not self.open:
            self._position += self._on_opening(self._ring.slice(self._position, self._head - self._position))
        if self.open:
            self._parse(event, recv_start, recv_end)
        self._prepare()

    cdef int _prepare(self) except -1:
        """Find out where the next read may go; see the Python class."""
        cdef uint64_t room = self._room(), start = self._head & self._mask
        self._prepared_room = room if room >= LEAST_ROOM else 0
        self._prepared_at = self._producer.count
        if self._fd < 0 and self._prepared_room:
            self._into = self._view[start : start + room]
        return 0

    cdef int _note_stamp(self, int64_t size, uint64_t kernel, uint64_t nic) except -1:
        """Stage 1 of what recvmsg brought. A NIC's stamp is rare, and whether to trust it is for the Python code."""
        self._read_bytes = <uint32_t>size
        if nic:
            self._stamp, self._source = self._transport.stamps.choose(kernel, nic)
        elif kernel:
            self._stamp, self._source = kernel, SOURCE_KERNEL
        elif self._stamped:
            self._stamp, self._source = 0, SOURCE_ABSENT
        return 0

    cdef int _parse(self, uint64_t event, uint64_t recv_start, uint64_t recv_end) except -1:
        cdef uint64_t waited = recv_start - event, took = recv_end - recv_start
        cdef uint64_t head = self._head, position = self._position
        cdef uint64_t first_slot = self._producer.count, count = first_slot
        cdef uint64_t parsed, available, length, at
        cdef uint32_t size
        cdef uint8_t first, short_length, header, flags
        cdef const uint8_t *data = self._data
        cdef Slot *slot
        controls = None
        failure = None

        while True:
            available = head - position
            at = position & self._mask
            if self._part_left:
                first, length, header = self._part_first, self._part_left, 0
            else:
                if available < 2:
                    break
                first, short_length = data[at], data[at + 1]
                if short_length < 126:
                    length, header = short_length, 2
                elif short_length == 126:
                    if available < 4:
                        break
                    length, header = <uint64_t>data[at + 2] << 8 | data[at + 3], 4
                elif short_length == 127 and available >= 10 and data[at + 2] < 0x80:
                    length, header = big_endian(&data[at + 2]), 10
                else:
                    # incomplete, or broken: the Python parser knows which, and raises
                    try:
                        if frames.parse_header(self._ring.view, at, available) is None:
                            break
                    except ProtocolError as error:
                        failure = error
                    break
            if (
                header
                and (first == WHOLE_TEXT or first == WHOLE_BINARY)
                and not self._message_open
                and header + length <= available
                and length <= self._max_message
            ):
                flags, size = FLAG_FIN, <uint32_t>length
            else:
                try:
                    admitted = self._admit(first, length, header, available)
                except ProtocolError as error:
                    failure = error
                    break
                if admitted is None:
                    break
                flags, size = admitted
            # Stage 5, PARSED
            parsed = wsrec_now()
            position += header
            slot = &self._slots[count & self._slot_mask]
            slot.offset = position
            slot.nic = self._stamp
            slot.event = event
            slot.length = size
            slot.read_bytes = self._read_bytes
            slot.frame_in_read = <uint16_t>(count - first_slot)
            slot.conn = self._conn
            slot.opcode = first & OPCODE
            slot.source = self._source
            if waited | took | (parsed - recv_end) <= LARGEST_DIFFERENCE:
                slot.recv_start = <uint32_t>waited
                slot.recv_end = <uint32_t>took
                slot.parsed = <uint32_t>(parsed - recv_end)
            else:
                # the process was stopped for seconds: the differences need their coarse unit
                flags |= FLAG_COARSE
                slot.recv_start = <uint32_t>min(waited >> SHIFT, LARGEST_DIFFERENCE)
                slot.recv_end = <uint32_t>min(took >> SHIFT, LARGEST_DIFFERENCE)
                slot.parsed = <uint32_t>min((parsed - recv_end) >> SHIFT, LARGEST_DIFFERENCE)
            slot.flags = flags
            if first & OPCODE >= CLOSE:
                if controls is None:
                    controls = []
                controls.append((first & OPCODE, position, size))
            position += size
            count += 1

        self._position = position
        if count != first_slot:
            self._handed_off = position
            self._hand_off(first_slot, count)
            if self._on_batch is not None:
                self._on_batch(first_slot, count)
        if controls is not None:
            for opcode, offset, length in controls:
                self._on_control(opcode, bytes(self._ring.slice(offset, length)))
        if failure is not None:
            self._on_end(failure)
        return 0

    cdef _admit(self, uint8_t first, uint64_t length, uint8_t header, uint64_t available):
        """Every frame but the usual one; see the Python class. Flags and size, or None where more must arrive first."""
        cdef uint64_t size
        cdef uint8_t flags = 0
        if header:
            self._rules.check(first, length)
            if first & RSV1:
                flags = FLAG_RSV1
        if header + length <= available:
            size = length
            if first & FIN:
                flags |= FLAG_FIN
        elif header + length > self._part_size and self._part_size <= available:
            size = available - header
        else:
            return None
        if header:
            self._rules.advance(first, length)
            self._message_open = self._rules.open
        self._part_left = length - size
        self._part_first = first & ~OPCODE
        return flags, size

    cdef int _hand_off(self, uint64_t first_slot, uint64_t count) except -1:
        cdef uint64_t number, handoff
        cdef uint16_t frames_in_read = <uint16_t>(count - first_slot)
        # Stage 6, HANDOFF
        handoff = wsrec_now()
        for number in range(first_slot, count):
            self._slots[number & self._slot_mask].handoff = handoff
            self._slots[number & self._slot_mask].frames_in_read = frames_in_read
        wsrec_store(self._published, count)
        self._producer.count = count
        self.frames += count - first_slot
        return 0

    cdef uint64_t _room(self) except? 1:
        """Bytes that a read may bring, as the Python class has it; 0 where the reserve is all that is left."""
        cdef uint64_t slots = self._slot_capacity - (<uint64_t>self._producer.count - wsrec_load(self._released))
        cdef uint64_t room = self._capacity - (self._head - wsrec_load(self._ring_tail))
        if slots <= RESERVED:
            return 0
        return min(room, (slots - RESERVED) * SMALLEST_FRAME, LARGEST_READ)


cdef inline uint64_t big_endian(const uint8_t *data) noexcept nogil:
    cdef uint64_t value = 0
    cdef int index
    for index in range(8):
        value = value << 8 | data[index]
    return value
