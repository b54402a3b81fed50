from libc.stdint cimport uint64_t


cdef extern from "_clock.h":
    ctypedef struct Mapping "wsrec_clock":
        uint64_t base_ticks
        uint64_t base_ns
        uint64_t rate

    uint64_t wsrec_now(const Mapping *clock) noexcept nogil


# the process's one mapping, which every hot path reads
cdef Mapping *mapping() noexcept
