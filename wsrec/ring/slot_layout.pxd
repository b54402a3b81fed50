from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t


# The layout of a slot, as defined and documented in slot_layout.py
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


# `wsrec.ring.slot_flags`
cdef enum:
    FLAG_FIN = 0x01
    FLAG_RSV1 = 0x02
    FLAG_COARSE = 0x10
    FLAG_LAST = 0x20
    CONTROL_RECORD = 0x0C
    OF_THE_READ = 0x30


cdef inline int check_layout() except -1:
    """Compare this file with the table in Python; each module that uses it does so when it is imported."""
    from wsrec.ring.slot_layout import check_compiled

    cdef Slot slot
    cdef char *start = <char *>&slot
    fields = {
        "offset": (<char *>&slot.offset - start, sizeof(slot.offset)),
        "nic": (<char *>&slot.nic - start, sizeof(slot.nic)),
        "event": (<char *>&slot.event - start, sizeof(slot.event)),
        "handoff": (<char *>&slot.handoff - start, sizeof(slot.handoff)),
        "recv_start": (<char *>&slot.recv_start - start, sizeof(slot.recv_start)),
        "recv_end": (<char *>&slot.recv_end - start, sizeof(slot.recv_end)),
        "parsed": (<char *>&slot.parsed - start, sizeof(slot.parsed)),
        "length": (<char *>&slot.length - start, sizeof(slot.length)),
        "read_bytes": (<char *>&slot.read_bytes - start, sizeof(slot.read_bytes)),
        "frame_in_read": (<char *>&slot.frame_in_read - start, sizeof(slot.frame_in_read)),
        "frames_in_read": (<char *>&slot.frames_in_read - start, sizeof(slot.frames_in_read)),
        "conn": (<char *>&slot.conn - start, sizeof(slot.conn)),
        "opcode": (<char *>&slot.opcode - start, sizeof(slot.opcode)),
        "flags": (<char *>&slot.flags - start, sizeof(slot.flags)),
        "source": (<char *>&slot.source - start, sizeof(slot.source)),
    }
    flags = {
        "FLAG_FIN": FLAG_FIN,
        "FLAG_RSV1": FLAG_RSV1,
        "FLAG_COARSE": FLAG_COARSE,
        "FLAG_LAST": FLAG_LAST,
        "CONTROL_RECORD": CONTROL_RECORD,
        "OF_THE_READ": OF_THE_READ,
    }
    check_compiled(sizeof(Slot), fields, flags)
    return 0
