# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The compiled hot path: the same behaviour as `wsrec.receive.hotpath`, without a Python object per frame.

Read `hotpath.py` first: the same six stages are here in the same order, and the reasons are given there. The usual
frame, a whole text or binary message, is handled in `_scan`. The rare ones (fragments, control frames, frames in parts,
invalid ones) are decided by the same Python code in both, so they cannot differ there; one test suite and a
differential property test run on both.

Stages 2 to 6 are on the stage clock of `wsrec.host.clock`. A plain socket and the ciphertext of `stamped` and `direct` TLS
are read here by recvmsg(2), and records of data are decrypted here in mode `direct`; the other transports read by
themselves.
"""

from libc.errno cimport EAGAIN, EBADMSG, EINTR, EINVAL, EIO, EMSGSIZE, errno
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, strerror

from wsrec.host._clock cimport Mapping, mapping, wsrec_now
from wsrec.ring.counter cimport wsrec_load, wsrec_store
from wsrec.ring.slot_layout cimport FLAG_COARSE, FLAG_FIN, FLAG_LAST, FLAG_RSV1, Slot, check_layout
from wsrec.segments.stream_map cimport wsrec_stream_map, wsrec_map_append, wsrec_map_record
from wsrec.tls._records cimport INCOMPLETE, RecordReader

from wsrec.receive.direct import DirectTransport
from wsrec.receive.hotpath import MIN_ROOM, broken_off
from wsrec.receive.ktls import KtlsTransport
from wsrec.receive.producer import RESERVED_SLOTS
from wsrec.receive.tls import CIPHERTEXT_MAX, StampedTlsTransport
from wsrec.receive.transport import READ_MAX, PlainTransport
from wsrec.ring.slot_layout import COARSE_SHIFT
from wsrec.stages import StampSource
from wsrec.tls.records import APPLICATION_DATA, HEADER
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

    static inline void wsrec_prefetch(const void *line) { __builtin_prefetch(line, 1); }

    /* recvmsg(2) and its SCM_TIMESTAMPING: software and raw hardware timestamp in ns, 0 for none. Without `stamped`
       there is no room for ancillary data: then kernel TLS reports a record that is not data by EIO */
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

    /* True for valid UTF-8 (RFC 3629 section 4): ASCII 64 bytes at a time, else a character at a time */
    static inline int wsrec_utf8(const uint8_t *data, size_t length) {
        const uint8_t *end = data + length;
        while (data < end) {
            while (end - data >= 64) {
                uint64_t words[8], any = 0;
                memcpy(words, data, sizeof words);
                for (int i = 0; i < 8; i++) any |= words[i];
                if (any & 0x8080808080808080u) break;
                data += 64;
            }
            while (end - data >= 8) {
                uint64_t word;
                memcpy(&word, data, sizeof word);
                if (word & 0x8080808080808080u) break;
                data += 8;
            }
            while (data < end && *data < 0x80) data++;
            while (data < end && *data >= 0x80) {
                uint8_t first = *data, low = 0x80, high = 0xBF;
                int more;
                if (first >= 0xC2 && first <= 0xDF) more = 1;
                else if (first >= 0xE0 && first <= 0xEF) {
                    more = 2;
                    if (first == 0xE0) low = 0xA0;
                    if (first == 0xED) high = 0x9F;
                } else if (first >= 0xF0 && first <= 0xF4) {
                    more = 3;
                    if (first == 0xF0) low = 0x90;
                    if (first == 0xF4) high = 0x8F;
                } else return 0;
                if (end - data <= more || data[1] < low || data[1] > high) return 0;
                for (int i = 2; i <= more; i++) if (data[i] < 0x80 || data[i] > 0xBF) return 0;
                data += more + 1;
            }
        }
        return 1;
    }
    """
    void wsrec_prefetch(const void *line) noexcept nogil
    ssize_t wsrec_receive(
        int fd, void *into, size_t room, int stamped, uint64_t *software, uint64_t *hardware
    ) noexcept nogil
    bint wsrec_utf8(const uint8_t *data, size_t length) noexcept nogil
    # Cython's own macros, __builtin_expect
    bint likely(bint) noexcept nogil
    bint unlikely(bint) noexcept nogil


check_layout()

cdef const Mapping *CLOCK = mapping()


cdef uint8_t FIN = frames.FIN
cdef uint8_t OPCODE = frames.OPCODE
cdef uint8_t WHOLE_TEXT = frames.FIN | frames.TEXT
cdef uint8_t WHOLE_BINARY = frames.FIN | frames.BINARY
cdef uint8_t CLOSE = frames.CLOSE
cdef uint8_t RSV1 = frames.RSV1
cdef int SHIFT = COARSE_SHIFT
cdef uint64_t RESERVED = RESERVED_SLOTS
cdef uint64_t LARGEST_READ = READ_MAX
cdef uint64_t LEAST_ROOM = MIN_ROOM
cdef uint64_t SMALLEST_FRAME = 2
cdef uint64_t LARGEST_CIPHERTEXT = CIPHERTEXT_MAX
cdef uint8_t DATA = APPLICATION_DATA
cdef uint64_t RECORD_HEADER = HEADER
# one cache miss takes as long as parsing so many
cdef uint64_t HAND_OFF_FRAMES = 16
cdef uint64_t LARGEST_DIFFERENCE = 0xFFFFFFFF
cdef uint8_t SOURCE_KERNEL = int(StampSource.KERNEL)
cdef uint8_t SOURCE_ABSENT = int(StampSource.NONE_ABSENT)


cdef inline bint is_whole(const uint8_t *data, uint64_t size) noexcept nogil:
    """Whether `data` begins with a whole TLS record."""
    return size >= RECORD_HEADER and size - RECORD_HEADER >= (<uint64_t>data[3] << 8 | data[4])


cdef class HotPath:
    """The receive path of one connection, from readiness to hand-off; its interface is that of the Python class."""

    cdef public bint open
    cdef public bint stopped
    cdef public uint64_t reads
    cdef public uint64_t frames
    cdef public uint64_t received
    cdef public uint64_t last_event
    cdef object _ring, _producer, _transport, _rules
    cdef object _on_opening, _on_control, _on_end, _on_full, _on_batch
    # kept so that the memory behind the pointers stays mapped
    cdef uint8_t[::1] _bytes
    cdef uint8_t[::1] _slot_bytes
    cdef uint64_t[::1] _ring_words, _slot_words
    cdef uint8_t *_data
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
    # whether text is validated as UTF-8, and up to which byte count it was
    cdef bint _validate_text
    cdef uint64_t _validated
    # the socket to read in C, or -1 if the transport reads; and whether its data has to be decrypted
    cdef int _fd
    cdef bint _stamped, _encrypted
    # kernel TLS: Python handles records that are not data
    cdef bint _kernel_tls
    cdef uint8_t[::1] _ciphertext
    # mode `direct`: the record layer, None in other modes; whether only data may come; the part of a record that has
    # come, and its size; what is decrypted next of the ciphertext and where that ends; and whether the stream has ended
    cdef RecordReader _reader
    cdef bint _only_data
    cdef uint8_t[::1] _rest
    cdef uint64_t[::1] _held
    cdef uint64_t _record_at, _record_end
    cdef bint _over
    # where the bytes of the TCP stream are captured, if they are: the stream map, the stream offset up to which they were
    # taken off the socket, and what lies before the content in a record
    cdef wsrec_stream_map _map
    cdef bint _mapped
    cdef uint8_t[::1] _map_bytes
    cdef uint64_t[::1] _map_words
    cdef uint64_t _taken, _lead
    # whether a read is delivered record by record
    cdef bint _by_record
    # the read in progress: its first slot, whether its last one is not marked yet, and what waits for its end
    cdef uint64_t _first_slot
    cdef bint _unmarked
    cdef list _controls
    cdef object _failure
    # stages 2 to 4 of the last read; stage 1, its source, and the bytes which that read took off the socket
    cdef uint64_t _event, _waited, _took, _recv_end
    cdef uint64_t _stamp
    cdef uint8_t _source
    cdef uint32_t _read_bytes
    # the next read: its target, its size (0 if there was no room), and the count of slots at that time
    cdef void *_target
    cdef uint64_t _prepared_room, _prepared_at
    cdef object _into, _view, _read, _more, _decrypt, _ciphertext_room
    # how far the next read and its records may fill the ring
    cdef uint64_t _room_end

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
        self._validate_text = rules.validate_text
        self._by_record = transport.by_record
        self._only_data = True
        if type(transport) is DirectTransport and self._by_record and type(transport.reader) is RecordReader:
            self._reader = transport.reader
            self._ciphertext = transport.ciphertext
            self._rest = transport.rest
            self._held = transport.held
            self._map_to(transport)
        self._encrypted = isinstance(transport, StampedTlsTransport) and not self._by_record
        if self._encrypted:
            self._ciphertext = transport.ciphertext
            self._decrypt = transport.decrypt
            self._ciphertext_room = transport.ciphertext_room
        self._kernel_tls = type(transport) is KtlsTransport
        in_c = (
            self._encrypted
            or self._reader is not None
            or self._kernel_tls
            or type(transport) is PlainTransport
        )
        self._fd = transport.fileno if in_c else -1
        self._stamped = transport.source == StampSource.NONE_ABSENT
        self._source = transport.source
        self._view = ring.view
        self._read = transport.read
        self._more = transport.more

    @property
    def unparsed(self):
        """Bytes received of an incomplete frame."""
        return self._head - self._position

    def has_room(self):
        """True if both rings have room for a read."""
        return self._room() >= LEAST_ROOM

    def discard(self):
        """See the Python class."""
        self._head = self._position = self._handed_off
        wsrec_store(self._ring_head, self._head)
        self._prepared_room = 0

    def on_readable(self):
        """Readiness callback: read once, parse every complete frame, hand the batch off."""
        cdef uint64_t event, recv_start, recv_end, kernel, nic
        cdef int64_t size
        cdef bint by_python = False
        # Stage 2, EVENT
        event = wsrec_now(CLOCK)
        if unlikely(not self._prepared_room or self._prepared_at != wsrec_load(self._published)):
            self._prepare()
            if not self._prepared_room:
                self._on_full()
                return False
        # Stage 3, RECV_START; prefetch the slot's cache line, which the writer's core has and this one will write
        wsrec_prefetch(&self._slots[self._prepared_at & self._slot_mask])
        recv_start = wsrec_now(CLOCK)
        if likely(self._fd >= 0 and self._target is not NULL):
            if self._reader is not None and unlikely(self._held[0]):
                memcpy(&self._ciphertext[0], &self._rest[0], min(self._held[0], <uint64_t>self._rest.shape[0]))
            size = wsrec_receive(self._fd, self._target, self._prepared_room, self._stamped, &kernel, &nic)
            if self._encrypted and size >= 0:
                try:
                    result = self._decrypt(size, self._into)
                except OSError as error:
                    self._on_end(error)
                    return False
                # Stage 4, RECV_END
                recv_end = wsrec_now(CLOCK)
                self._note_stamp(size, kernel, nic)
                size = -EAGAIN if result is None else result
                if size == -EAGAIN:
                    self._prepare()
            elif self._reader is not None and (likely(size > 0) or self._is_held(size)):
                size = max(size, 0)
                self._note_stamp(size, kernel, nic)
                self._record_at, self._record_end = 0, self._held[0] + <uint64_t>size
                self._taken += <uint64_t>size
                try:
                    size = self._open_record()
                except OSError as error:
                    self._on_end(error)
                    return False
                # Stage 4, RECV_END
                recv_end = wsrec_now(CLOCK)
                if size == -EAGAIN:
                    self._prepare()
            else:
                # Stage 4, RECV_END
                recv_end = wsrec_now(CLOCK)
                if size < 0:
                    size = -errno
                    if self._kernel_tls and size in (-EIO, -EBADMSG, -EMSGSIZE, -EINVAL):
                        # a record that is not data, or an invalid one: Python finds out which. It is still there, while
                        # an error of the socket is reported only once
                        by_python = True
                elif size:
                    self._note_stamp(size, kernel, nic)
        else:
            by_python = True
        if unlikely(by_python):
            try:
                result = self._read(self._into)
            except OSError as error:
                self._on_end(error)
                return False
            # Stage 4, RECV_END
            recv_end = wsrec_now(CLOCK)
            size = -EAGAIN if result is None else result
            self._stamp, self._source = self._transport.stamp, self._transport.source
            self._read_bytes = self._transport.read_bytes
        if unlikely(size <= 0):
            if size == 0:
                self._on_end(None)
            elif size not in (-EAGAIN, -EINTR):
                self._on_end(OSError(-size, strerror(<int>-size).decode()))
            return False

        self.reads += 1
        self.last_event = event
        self._event, self._waited = event, recv_start - event
        self._first_slot = wsrec_load(self._published)
        end = None
        while True:
            self._recv_end, self._took = recv_end, recv_end - recv_start
            self._take(size)
            if likely(not self._by_record):
                break
            try:
                size = self._next()
            except OSError as error:
                # without its traceback, for the same reason as below
                size, end = 0, error.with_traceback(None)
            # Stage 4 of the next record
            recv_end = wsrec_now(CLOCK)
            if size <= 0:
                break
        self._end_read()
        if unlikely(self._failure is not None):
            self._on_end(self._failure)
        elif unlikely(size == 0):
            self._on_end(end)
        self._prepare()
        return True

    cdef int _take(self, uint64_t size) except -1:
        """Parse and hand off what is new in the ring; see the Python class."""
        self._head += size
        wsrec_store(self._ring_head, self._head)
        self.received += size
        if unlikely(self.stopped or self._failure is not None):
            return 0
        if unlikely(not self.open):
            self._position += self._on_opening(self._ring.slice(self._position, self._head - self._position))
        if likely(self.open):
            self._parse()
        return 0

    cdef int64_t _next(self) except? -1:
        """Size of the next record of this read, now in the ring; 0 for the end of the stream, -EAGAIN for no more."""
        cdef uint64_t start
        if likely(self._reader is not None):
            return self._open_record()
        start = self._head & self._mask
        result = self._more(self._view[start : start + (self._room_end - self._head)])
        return -EAGAIN if result is None else result

    cdef int64_t _open_record(self) except? -1:
        """Decrypt the next record of data of this read behind what is in the ring.

        Returns:
            Its size; 0 for the end of the stream, -EAGAIN if no record is complete.

        """
        cdef const uint8_t *data = &self._ciphertext[0]
        cdef uint8_t *into
        cdef size_t consumed = 0
        cdef uint8_t kind = 0
        cdef int64_t size
        while True:
            into = &self._data[self._head & self._mask]
            size = self._reader.open_record(
                data + self._record_at,
                self._record_end - self._record_at,
                into,
                self._room_end - self._head,
                &consumed,
                &kind,
            )
            if unlikely(size < 0):
                break
            self._record_at += consumed
            if likely(kind == DATA and self._only_data):
                if likely(size):
                    if unlikely(self._mapped):
                        wsrec_map_append(
                            &self._map,
                            self._head + <uint64_t>size,
                            self._taken - (self._record_end - self._record_at),
                            <uint16_t>(consumed - self._lead - <size_t>size),
                        )
                    return size
            elif not self._on_record(kind, size):
                return 0
        if unlikely(size != INCOMPLETE):
            error = self._reader.error(size)
            self._finish(error)
            raise error
        # less than RECORD_MAX: a record that claims to be longer is refused
        self._held[0] = self._record_end - self._record_at
        if unlikely(self._held[0]):
            memcpy(&self._rest[0], data + self._record_at, self._held[0])
        return -EAGAIN

    cdef bint _on_record(self, uint8_t kind, uint64_t size) except -1:
        """Pass on a record that is not data, which is behind what is in the ring; False at the end of the stream."""
        cdef uint64_t start = self._head & self._mask
        try:
            goes_on = self._transport.on_record(kind, self._view[start : start + size])
        except OSError as error:
            self._finish(error)
            raise
        self._only_data = not self._transport.forbids_data
        if not goes_on:
            self._finish(None)
        return goes_on

    cdef int _finish(self, error) except -1:
        """The stream has ended; from now on the transport says so, and nothing more is read here."""
        self._over = True
        # so that the next read is prepared anew
        self._prepared_room = 0
        self._transport.hold(self._record_end - self._record_at, error)
        return 0

    cdef bint _is_held(self, int64_t size) noexcept:
        """True if a record is held in full though recvmsg brought nothing (`size`): it came with the handshake."""
        if size < 0 and errno != EAGAIN:
            return False
        return is_whole(&self._rest[0], self._held[0])

    cdef int _end_read(self) except -1:
        """Mark the last frame of the read, then pass on its control frames."""
        cdef uint64_t count = wsrec_load(self._published)
        if self._unmarked:
            self._slots[(count - 1) & self._slot_mask].flags |= FLAG_LAST
            self._unmarked = False
        if likely(count != self._first_slot):
            self._producer.count = count
        if unlikely(self._controls is not None):
            controls, self._controls = self._controls, None
            for opcode, offset, length in controls:
                self._on_control(opcode, bytes(self._ring.slice(offset, length)))
        return 0

    cdef int _map_to(self, transport) except -1:
        """Write to the stream map where the records of `transport` lay, if its TCP stream is captured."""
        flow = transport.flow
        self._mapped = flow is not None and flow.lead is not None
        if not self._mapped:
            return 0
        records = flow.writer.map
        self._map_bytes = records.view
        self._map_words = records.published.words
        self._map.records = <wsrec_map_record *>&self._map_bytes[0]
        self._map.published = &self._map_words[records.published.index]
        self._map.released = &self._map_words[records.released.index]
        self._map.mask, self._map.capacity = records.mask, records.capacity
        self._map.flow, self._map.conn, self._map.lost = flow.number, flow.conn, 0
        self._taken, self._lead = flow.offset + transport.taken, flow.lead
        return 0

    cdef int _prepare(self) except -1:
        """Determine the target of the next read; see the Python class."""
        cdef uint64_t room = self._room(), start = self._head & self._mask
        self._prepared_at = wsrec_load(self._published)
        if room < LEAST_ROOM:
            self._prepared_room = 0
            return 0
        self._prepared_room = room
        self._room_end = self._head + room
        self._target = <void *>&self._data[start]
        if self._fd < 0 or self._encrypted or self._kernel_tls:
            self._into = self._view[start : start + room]
        if self._encrypted:
            self._target = &self._ciphertext[0]
            self._prepared_room = self._ciphertext_room(self._into)
            if not self._prepared_room:
                # the stream has ended, which the transport reports
                self._prepared_room = room
                self._target = NULL
        elif self._reader is not None:
            if unlikely(self._over):
                # the transport reports it
                self._into = self._view[start : start + room]
                self._target = NULL
            else:
                # what is decrypted takes no more room than it did before
                self._prepared_room = min(room, LARGEST_CIPHERTEXT) - self._held[0]
                self._target = &self._ciphertext[0] + self._held[0]
        return 0

    cdef int _note_stamp(self, int64_t size, uint64_t kernel, uint64_t nic) except -1:
        """Stage 1 of a recvmsg. Hardware timestamps are rare, and whether to trust one is decided in Python."""
        self._read_bytes = <uint32_t>size
        if nic:
            self._stamp, self._source = self._transport.stamps.choose(kernel, nic)
        elif kernel:
            self._stamp, self._source = kernel, SOURCE_KERNEL
        elif self._stamped:
            self._stamp, self._source = 0, SOURCE_ABSENT
        return 0

    cdef int _parse(self) except -1:
        cdef uint64_t unit = wsrec_load(self._published), count = unit
        cdef uint64_t available, length
        cdef uint32_t size
        cdef uint8_t first, header, flags

        while True:
            if likely(not self._part_left and not self._message_open):
                count = self._scan(count)
            available = self._head - self._position
            if likely(not available):
                break
            try:
                if self._part_left:
                    first, length, header = self._part_first, self._part_left, 0
                else:
                    found = frames.parse_header(self._ring.view, self._position & self._mask, available)
                    if found is None:
                        break
                    first, length, header = found
                admitted = self._admit(first, length, header, available)
            except ProtocolError as error:
                # its traceback would hold this frame, which holds it: a cycle, and nothing collects cycles here
                self._failure = error.with_traceback(None)
                break
            if admitted is None:
                break
            flags, size = admitted
            self._position += header
            # Stage 5, PARSED
            self._write_slot(count, first, flags, size, wsrec_now(CLOCK) - self._recv_end)
            if first & OPCODE >= CLOSE:
                if self._controls is None:
                    self._controls = []
                self._controls.append((first & OPCODE, self._position, size))
            self._position += size
            count += 1

        if likely(count != unit):
            self._handed_off = self._position
            if likely(self._is_last()):
                self._slots[(count - 1) & self._slot_mask].flags |= FLAG_LAST
                self._unmarked = False
            else:
                self._unmarked = True
            self._hand_off(wsrec_load(self._published), count)
            self.frames += count - unit
            if self._on_batch is not None:
                self._producer.count = count
                try:
                    self._on_batch(unit, count)
                except BaseException as error:
                    if self._by_record:
                        self._break_off(broken_off(error))
                    raise
        return 0

    cdef int _break_off(self, error) except -1:
        """End the stream in the middle of a read; see `_hand_off` of the Python class."""
        if self._reader is not None:
            self._finish(error)
        else:
            self._transport.break_off(error)
        self._on_end(error)
        return 0

    cdef inline bint _is_last(self) noexcept nogil:
        """True if it is known that nothing of this read follows what was just parsed."""
        if likely(not self._by_record):
            return True
        if self._reader is None:
            return False
        return not is_whole(&self._ciphertext[0] + self._record_at, self._record_end - self._record_at)

    cdef uint64_t _scan(self, uint64_t count) noexcept nogil:
        """Write the slots of whole messages from `_position` on, up to any other or an incomplete frame.

        They are handed off a few at a time while others follow; the last ones are left for the end of the read.
        """
        cdef const uint8_t *data = self._data
        cdef uint64_t handed_off = wsrec_load(self._published)
        cdef const uint8_t *frame
        cdef uint64_t available, length, header
        cdef uint64_t position = self._position
        while True:
            available = self._head - position
            if available < 2:
                break
            frame = &data[position & self._mask]
            length, header = frame[1], 2
            if length >= 126:
                if length != 126 or available < 4:
                    break
                length, header = <uint64_t>frame[2] << 8 | frame[3], 4
            if unlikely(frame[0] != WHOLE_TEXT and frame[0] != WHOLE_BINARY):
                break
            if unlikely(header + length > available or length > self._max_message):
                break
            if self._validate_text and frame[0] == WHOLE_TEXT:
                # a message validated in part must continue from there
                if self._validated > position or not wsrec_utf8(frame + header, length):
                    break
            if unlikely(count - handed_off >= HAND_OFF_FRAMES):
                self._hand_off(handed_off, count)
                handed_off = count
            position += header
            self._position = position
            # Stage 5, PARSED
            self._write_slot(count, frame[0], FLAG_FIN, <uint32_t>length, wsrec_now(CLOCK) - self._recv_end)
            position += length
            count += 1
        self._position = position
        return count

    cdef inline void _write_slot(
        self, uint64_t count, uint8_t first, uint8_t flags, uint32_t size, uint64_t parsed
    ) noexcept nogil:
        """Fill in a slot, except for what `_hand_off` adds; the payload begins at `_position`."""
        cdef Slot *slot = &self._slots[count & self._slot_mask]
        slot.offset = self._position
        slot.nic = self._stamp
        slot.event = self._event
        slot.length = size
        slot.read_bytes = self._read_bytes
        slot.frame_in_read = <uint16_t>(count - self._first_slot)
        slot.frames_in_read = 0
        slot.conn = self._conn
        slot.opcode = first & OPCODE
        slot.source = self._source
        if likely(self._waited | self._took | parsed <= LARGEST_DIFFERENCE):
            slot.flags = flags
            slot.recv_start = <uint32_t>self._waited
            slot.recv_end = <uint32_t>self._took
            slot.parsed = <uint32_t>parsed
        else:
            # the process was stopped for seconds: store the differences in the coarse unit
            slot.flags = flags | FLAG_COARSE
            slot.recv_start = <uint32_t>min(self._waited >> SHIFT, LARGEST_DIFFERENCE)
            slot.recv_end = <uint32_t>min(self._took >> SHIFT, LARGEST_DIFFERENCE)
            slot.parsed = <uint32_t>min(parsed >> SHIFT, LARGEST_DIFFERENCE)

    cdef _admit(self, uint8_t first, uint64_t length, uint8_t header, uint64_t available):
        """The less common frames; see the Python class. Flags and size, or None if more data is needed first."""
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
            self._validate(first, self._position + header, available - header, False)
            return None
        self._validate(first, self._position + header, size, bool(flags & FLAG_FIN))
        if header:
            self._rules.advance(first, length)
            self._message_open = self._rules.open
        self._part_left = length - size
        self._part_first = first & ~OPCODE
        return flags, size

    cdef int _validate(self, uint8_t first, uint64_t start, uint64_t size, bint final) except -1:
        """Validate the payload of a text frame; see the Python class."""
        cdef uint64_t begin
        if self._validate_text and self._rules.is_text(first):
            begin = max(start, self._validated)
            self._validated = start + size
            self._rules.check_text(self._ring.slice(begin, start + size - begin), final=final)
        return 0

    cdef void _hand_off(self, uint64_t first, uint64_t count) noexcept nogil:
        cdef uint64_t number, handoff
        # Stage 6, HANDOFF
        handoff = wsrec_now(CLOCK)
        for number in range(first, count):
            self._slots[number & self._slot_mask].handoff = handoff
        wsrec_store(self._published, count)

    cdef uint64_t _room(self) except? 1:
        """Largest read in bytes, as in the Python class; 0 if only the reserved slots are left."""
        cdef uint64_t slots = self._slot_capacity - (wsrec_load(self._published) - wsrec_load(self._released))
        cdef uint64_t room = self._capacity - (self._head - wsrec_load(self._ring_tail))
        if slots <= RESERVED:
            return 0
        return min(room, (slots - RESERVED) * SMALLEST_FRAME, LARGEST_READ)
