from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t


# a slot as `slotring.SLOT_DTYPE` has it; slotring.py says what its fields mean
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
