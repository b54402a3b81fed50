# cython: language_level=3
"""The time stamp counter for `wsrec.host.clock`: reading, sampling and mapping it onto CLOCK_MONOTONIC."""

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
    """The stage clock, ns: the mapped counter once `follow` has set a rate, CLOCK_MONOTONIC until then."""
    return wsrec_now(&_mapping)


def invariant():
    """True if the processor reports a counter of constant rate (invariant TSC)."""
    return wsrec_invariant()


def sample(int tries=8):
    """Counter, CLOCK_MONOTONIC and CLOCK_MONOTONIC_RAW (ns) at one moment: the narrowest of several tries."""
    cdef uint64_t before, between, after, ns, raw_ns, ticks = 0, monotonic = 0, raw = 0, width = ~<uint64_t>0
    cdef int number
    # the reads are one clock read apart, a few tens of ns
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
    """Stage clock, CLOCK_MONOTONIC and CLOCK_REALTIME at one moment (ns), the narrowest of several tries.

    Followed by the time (ns) within which stage and realtime were read, and the one for all three.
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
        # judged by all three: an interruption between the last two reads would falsify the clocks' difference
        if after - before < span:
            span = after - before
            width = between - before
            stage = before + width // 2
            realtime = utc
            # moved back to the moment of the other two
            monotonic = ns - ((between + after) // 2 - stage)
    return stage, monotonic, realtime, width, span


def at(uint64_t ticks):
    """The mapped time (ns) of a tick count."""
    return wsrec_map(&_mapping, ticks)


def follow(uint64_t base_ticks, uint64_t base_ns, uint64_t rate):
    """Map the counter from now on: `rate` in 2**-32 ns per tick; rate 0 returns to CLOCK_MONOTONIC."""
    _mapping.base_ticks, _mapping.base_ns, _mapping.rate = base_ticks, base_ns, rate
