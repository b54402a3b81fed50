# cython: language_level=3
"""The time stamp counter, for `wsrec.receive.clock`, which decides whether and how it is used."""

from libc.stdint cimport uint64_t


cdef extern from "_clock.h":
    uint64_t wsrec_monotonic() noexcept nogil
    uint64_t wsrec_ticks() noexcept nogil
    uint64_t wsrec_map(const Mapping *clock, uint64_t ticks) noexcept nogil
    bint wsrec_invariant() noexcept nogil


cdef Mapping _mapping
_mapping.base_ticks = _mapping.base_ns = _mapping.rate = 0


cdef Mapping *mapping() noexcept:
    return &_mapping


def now():
    """The stage clock, ns: the mapped counter once `follow` gave it a rate, CLOCK_MONOTONIC until then."""
    return wsrec_now(&_mapping)


def invariant():
    """Whether the processor says that its counter runs at one rate always."""
    return wsrec_invariant()


def sample(int tries=8):
    """Counter and CLOCK_MONOTONIC (ns) at one moment, and within how many ticks: the narrowest of some tries."""
    cdef uint64_t before, after, ns, ticks = 0, monotonic = 0, width = ~<uint64_t>0
    cdef int number
    for number in range(tries):
        before = wsrec_ticks()
        ns = wsrec_monotonic()
        after = wsrec_ticks()
        if after - before < width:
            width = after - before
            ticks = before + width // 2
            monotonic = ns
    return ticks, monotonic, width


def at(uint64_t ticks):
    """What the mapping makes of a count of ticks, ns."""
    return wsrec_map(&_mapping, ticks)


def follow(uint64_t base_ticks, uint64_t base_ns, uint64_t rate):
    """Map the counter from now on: `rate` is in 2**-32 ns a tick; a rate of 0 goes back to CLOCK_MONOTONIC."""
    _mapping.base_ticks, _mapping.base_ns, _mapping.rate = base_ticks, base_ns, rate
