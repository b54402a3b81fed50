# cython: language_level=3
"""The time stamp counter, for `wsrec.host.clock`, which decides whether and how it is used."""

from libc.stdint cimport uint64_t


cdef extern from "_clock.h":
    uint64_t wsrec_monotonic() noexcept nogil
    uint64_t wsrec_realtime() noexcept nogil
    uint64_t wsrec_raw() noexcept nogil
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
    """Counter, CLOCK_MONOTONIC and CLOCK_MONOTONIC_RAW (ns) at one moment: the narrowest of some tries."""
    cdef uint64_t before, between, after, ns, raw_ns, ticks = 0, monotonic = 0, raw = 0, width = ~<uint64_t>0
    cdef int number
    # one after another lie a read of the clock apart, which is no more than some tens of ns
    for number in range(tries):
        before = wsrec_ticks()
        ns = wsrec_monotonic()
        between = wsrec_ticks()
        raw_ns = wsrec_raw()
        after = wsrec_ticks()
        if after - before < width:
            width = after - before
            ticks = before + (between - before) // 2
            monotonic = ns
            raw = raw_ns
    return ticks, monotonic, raw


def anchor(int tries=8):
    """Stage clock, CLOCK_MONOTONIC and CLOCK_REALTIME at one moment: the best of some tries.

    Then within how many ns the first and the last were read, and within how many all three.
    """
    cdef uint64_t before, between, after, utc, ns, stage = 0, monotonic = 0, realtime = 0, width = 0
    cdef uint64_t span = ~<uint64_t>0
    cdef int number
    for number in range(tries):
        before = wsrec_now(&_mapping)
        utc = wsrec_realtime()
        between = wsrec_now(&_mapping)
        ns = wsrec_monotonic()
        after = wsrec_now(&_mapping)
        # the whole: what interrupts between the last two reads makes of the clocks' difference what it is not
        if after - before < span:
            span = after - before
            width = between - before
            stage = before + width // 2
            realtime = utc
            # taken back to the moment of the other
            monotonic = ns - ((between + after) // 2 - stage)
    return stage, monotonic, realtime, width, span


def at(uint64_t ticks):
    """What the mapping makes of a count of ticks, ns."""
    return wsrec_map(&_mapping, ticks)


def follow(uint64_t base_ticks, uint64_t base_ns, uint64_t rate):
    """Map the counter from now on: `rate` is in 2**-32 ns a tick; a rate of 0 goes back to CLOCK_MONOTONIC."""
    _mapping.base_ticks, _mapping.base_ns, _mapping.rate = base_ticks, base_ns, rate
