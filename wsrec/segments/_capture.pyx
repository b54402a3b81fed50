# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""The compiled capture: `_flow.h`, `_packet.h` and `_capture_loop.h` for `wsrec.segments.capture`."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from wsrec.segments.segment_ring import SEGMENT_DTYPE, BrokenReason, SegmentFlag, SegmentKind


cdef extern from "_capture_loop.h":
    ctypedef struct wsrec_segment:
        pass
    int WSREC_OPEN, WSREC_SEGMENT, WSREC_TLS_RECORD, WSREC_LOSS, WSREC_BROKEN
    int WSREC_NIC, WSREC_REPEATED, WSREC_FILLED, WSREC_AHEAD
    int WSREC_URGENT, WSREC_RECORDS, WSREC_CONTRADICTED
    int64_t WSREC_WINDOW
    int WSREC_RETIRE_MS
    uint64_t WSREC_MARGIN_NS, WSREC_NO_RECORDS
    ctypedef struct wsrec_output:
        wsrec_segment *records
        uint64_t mask, capacity, next, consumed, utc
        uint64_t *published
        uint64_t *released
        uint64_t *dropped
    ctypedef struct wsrec_flow:
        uint32_t id
        uint16_t conn, port, remote_port
        uint8_t version
        uint8_t remote[16]
        uint64_t records_from
    ctypedef struct wsrec_table:
        wsrec_output out
        uint32_t *by_port
        wsrec_flow *flows
        uint32_t places
        uint64_t packets, segments, heal_until
        int64_t window
        int64_t nic_limit, nic_offset
        uint32_t nic_rejected
    ctypedef struct wsrec_capture:
        int fd
        uint8_t *ring
        uint32_t block_size, blocks, next
        uint64_t *covered_until
        uint32_t stop
        uint64_t cpu_ns, dropped, frozen
    void wsrec_packet(
        wsrec_table *table, const uint8_t *data, uint32_t captured, uint32_t length, uint16_t protocol, uint64_t stamp,
        uint8_t nic, int interface, uint64_t now, uint8_t checked
    ) noexcept nogil
    void wsrec_block(wsrec_table *table, const uint8_t *block, uint32_t size, uint64_t now) noexcept nogil
    int wsrec_announce(wsrec_output *out) noexcept nogil
    void wsrec_lose(wsrec_output *out, uint64_t packets, uint64_t since, uint64_t until) noexcept nogil
    void wsrec_forget(wsrec_flow *flow) noexcept nogil
    int wsrec_run(wsrec_capture *capture, wsrec_table *table) noexcept nogil


cdef extern from *:
    """
    #include <stddef.h>
    static inline uint64_t wsrec_get(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
    static inline void wsrec_put(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }
    static inline void wsrec_put32(uint32_t *word, uint32_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }

    #define WSREC_AT(name) (int)offsetof(wsrec_segment, name)
    static const int wsrec_segment_at[] = {
        WSREC_AT(offset), WSREC_AT(stamp), WSREC_AT(length), WSREC_AT(flow), WSREC_AT(conn), WSREC_AT(kind),
        WSREC_AT(flags), WSREC_AT(value)};
    """
    uint64_t wsrec_get(const uint64_t *word) noexcept nogil
    void wsrec_put(uint64_t *word, uint64_t value) noexcept nogil
    void wsrec_put32(uint32_t *word, uint32_t value) noexcept nogil
    const int *wsrec_segment_at


def _check_layout():
    """Compare the compiled layout of a record with that of `segment_ring`, as `ring.slot_layout.check_compiled`."""
    names = SEGMENT_DTYPE.names
    here = [wsrec_segment_at[number] for number in range(<int>len(names))]
    numbers = {
        SegmentKind.OPEN: WSREC_OPEN, SegmentKind.SEGMENT: WSREC_SEGMENT, SegmentKind.TLS_RECORD: WSREC_TLS_RECORD,
        SegmentKind.LOSS: WSREC_LOSS, SegmentKind.BROKEN: WSREC_BROKEN,
    }
    flags = {
        SegmentFlag.NIC: WSREC_NIC, SegmentFlag.REPEATED: WSREC_REPEATED, SegmentFlag.FILLED: WSREC_FILLED,
        SegmentFlag.AHEAD: WSREC_AHEAD,
    }
    reasons = {
        BrokenReason.URGENT: WSREC_URGENT, BrokenReason.RECORDS: WSREC_RECORDS,
        BrokenReason.CONTRADICTED: WSREC_CONTRADICTED,
    }
    if (
        sizeof(wsrec_segment) != SEGMENT_DTYPE.itemsize
        or here != [SEGMENT_DTYPE.fields[name][1] for name in names]
        or any(int(one) != number for found in (numbers, flags, reasons) for one, number in found.items())
    ):
        raise RuntimeError("compiled code has another layout of the segment ring: compile wsrec again")


_check_layout()

RETIRE_MS = WSREC_RETIRE_MS
MARGIN_NS = WSREC_MARGIN_NS


cdef class FlowTable:
    """The captured flows, and what their packets bring to the segment ring.

    Flows have places, which the caller assigns and gives back: a place may be used again once the capture has passed
    all that was captured while it was in use.

    Args:
        ring: the segment ring, whose producer it is.
        places: largest number of flows at a time.
        window: no socket accepts what lies further (bytes) from what it has; at most the largest TCP window.

    """

    cdef wsrec_table *_table
    cdef wsrec_capture _capture
    # kept so that the memory behind the pointers stays mapped
    cdef uint8_t[::1] _records
    cdef uint64_t[::1] _words

    def __cinit__(self, ring, uint32_t places, int64_t window=WSREC_WINDOW):
        cdef wsrec_output *out
        memset(&self._capture, 0, sizeof(self._capture))
        self._table = <wsrec_table *>calloc(1, sizeof(wsrec_table))
        if self._table is NULL:
            raise MemoryError
        self._table.flows = <wsrec_flow *>calloc(places, sizeof(wsrec_flow))
        if self._table.flows is NULL:
            raise MemoryError
        self._table.places = places
        self._table.window = min(window, WSREC_WINDOW)
        self._table.nic_limit = <int64_t>1 << 62
        self._records = ring.view
        self._words = ring.published.words
        out = &self._table.out
        out.records = <wsrec_segment *>&self._records[0]
        out.capacity, out.mask = ring.capacity, ring.mask
        out.published = &self._words[ring.published.index]
        out.released = &self._words[ring.released.index]
        out.dropped = &self._words[ring.dropped.index]
        out.next = wsrec_get(out.published)
        out.consumed = wsrec_get(out.released)
        self._capture.covered_until = &self._words[ring.covered_until.index]

    def __dealloc__(self):
        cdef uint32_t place
        if self._table is not NULL:
            if self._table.flows is not NULL:
                for place in range(self._table.places):
                    wsrec_forget(&self._table.flows[place])
            free(self._table.flows)
            free(self._table)

    @property
    def packets(self):
        """Packets seen."""
        return self._table.packets

    @property
    def segments(self):
        """Segments with payload, of its flows."""
        return self._table.segments

    @property
    def dropped(self):
        """Packets that the kernel had no room for."""
        return self._capture.dropped

    @property
    def cpu_ns(self):
        """Processor time of the thread in `run`, ns."""
        return wsrec_get(&self._capture.cpu_ns)

    @property
    def nic_offset_ns(self):
        """How far (ns) a NIC's clock was from the system's when its stamps were given up; None if they were not."""
        return self._table.nic_offset if self._table.nic_rejected else None

    def put(
        self, uint32_t place, uint32_t flow, uint16_t conn, uint16_t port, bytes remote, uint16_t remote_port, *,
        bint records=False
    ):
        """Capture a flow from now on.

        Args:
            place: a free place.
            flow: its number.
            conn: number of its connection.
            port: the local port; a flow that had it before gets no more packets.
            remote: the peer's address, 4 or 16 bytes.
            remote_port: the peer's port.
            records: whether its TLS records are wanted, from the first byte on.

        """
        cdef wsrec_flow *one
        if place >= self._table.places or len(remote) not in (4, 16):
            raise ValueError("no such place, or no such address")
        one = &self._table.flows[place]
        wsrec_forget(one)
        one.id, one.conn, one.port, one.remote_port = flow, conn, port, remote_port
        one.version = 4 if len(remote) == 4 else 6
        memcpy(one.remote, <const uint8_t *>remote, len(remote))
        one.records_from = 0 if records else WSREC_NO_RECORDS
        wsrec_put32(&self._table.by_port[port], place + 1)

    def records_from(self, uint32_t place, uint64_t offset):
        """Look for TLS records from this stream offset on, which has not arrived yet; from 2**64 - 1 on: for none."""
        if place >= self._table.places:
            raise ValueError("no such place")
        wsrec_put(&self._table.flows[place].records_from, offset)

    def remove(self, uint32_t place):
        """Give the flow at `place` no more packets."""
        cdef uint16_t port
        if place >= self._table.places:
            raise ValueError("no such place")
        port = self._table.flows[place].port
        if self._table.by_port[port] == place + 1:
            wsrec_put32(&self._table.by_port[port], 0)

    def packet(
        self, const uint8_t[::1] data, uint32_t length, uint16_t protocol, uint64_t stamp, bint nic=False,
        uint64_t now=0, int interface=1, bint checked=True
    ):
        """Take one packet, as `run` does: what was captured of its `length` bytes from the network layer on."""
        cdef const uint8_t *start = &data[0] if len(data) else NULL
        wsrec_packet(self._table, start, <uint32_t>len(data), length, protocol, stamp, nic, interface, now, checked)
        self._publish()

    def block(self, const uint8_t[::1] data, uint64_t now=0):
        """Take one block of the kernel's ring (at least 64 bytes), as `run` does."""
        if len(data) < 64:
            raise ValueError("a block is larger")
        wsrec_block(self._table, &data[0], <uint32_t>len(data), now)
        self._publish()

    cdef void _publish(self) noexcept:
        wsrec_announce(&self._table.out)
        wsrec_put(self._table.out.published, self._table.out.next)

    def run(self, int fd, uint8_t[::1] ring, uint32_t block_size):
        """Take what arrives in the packet socket `fd`, whose mapped ring is `ring`, until `stop`; without the GIL.

        Raises:
            OSError: poll(2) failed.

        """
        cdef int error
        if len(ring) % block_size:
            raise ValueError("a ring has whole blocks")
        self._capture.fd = fd
        self._capture.ring = &ring[0]
        self._capture.block_size = block_size
        self._capture.blocks = <uint32_t>(len(ring) // block_size)
        self._capture.next = 0
        with nogil:
            error = wsrec_run(&self._capture, self._table)
        if error:
            raise OSError(error, "poll of the packet socket")

    def heal(self, uint64_t until):
        """Take holes for the capture's own until then (ns, monotonic), as `run` does where packets were dropped."""
        self._table.heal_until = until

    def stop(self):
        """Make `run` return once it has taken all that arrived until now."""
        wsrec_put32(&self._capture.stop, 1)
