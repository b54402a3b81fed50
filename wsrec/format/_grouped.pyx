# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Counts durations into the histograms of their groups, compiled: equivalent to the functions of `wsrec.format.grouped`."""

from libc.stdint cimport INT64_MAX, INT64_MIN, int32_t, int64_t, uint8_t, uint16_t, uint64_t
from libc.stdlib cimport free, malloc

from wsrec.histogram import BUCKETS, COARSE_BITS, COARSE_BUCKETS, MAX_BITS, SUB_BUCKET_BITS

cdef int BITS = SUB_BUCKET_BITS
cdef int64_t LONGEST = (1 << MAX_BITS) - 1
cdef int64_t LOWER = (1 << 32) - 1
cdef Py_ssize_t SIZE = BUCKETS
cdef int FEW_BITS = COARSE_BITS
cdef Py_ssize_t FEW = COARSE_BUCKETS


cdef extern from *:
    int leading_zeros "__builtin_clzll"(unsigned long long) nogil


cdef struct Figures:
    int64_t *counts
    # of the durations with a bucket of their own: of less than 2**20 of them, it cannot overflow
    int64_t sum
    # of the others: of their lower 32 bits, and of the rest
    int64_t low
    int64_t high
    int64_t least
    int64_t most
    int64_t negative


cdef inline int64_t count(Figures *of, int64_t value) noexcept nogil:
    # its bucket
    cdef int shift
    if value < of.least:
        of.least = value
    if value > of.most:
        of.most = value
    if value < 0 or value > LONGEST:
        of.low += value & LOWER
        of.high += value >> 32
        if value < 0:
            of.negative += 1
            value = 0
        else:
            value = LONGEST
    else:
        of.sum += value
    # the highest bits of the duration, and how many others there are: exactly the order of the buckets
    shift = 63 - BITS - leading_zeros(<unsigned long long>value | 1)
    if shift > 0:
        value = (value >> shift) + (<int64_t>shift << BITS)
    of.counts[value] += 1
    return value


cdef Figures *begin(histograms) except NULL:
    cdef Py_ssize_t number = len(histograms)
    cdef int64_t[::1] counts
    cdef Figures *figures = <Figures *>malloc((number + 1) * sizeof(Figures))
    if figures == NULL:
        raise MemoryError
    try:
        for index, histogram in enumerate(histograms):
            counts = histogram.counts
            if counts.shape[0] != SIZE:
                raise ValueError("a histogram of another size")
            figures[<Py_ssize_t>index] = Figures(&counts[0], 0, 0, 0, INT64_MAX, INT64_MIN, 0)
    except:
        free(figures)
        raise
    return figures


cdef int end(histograms, Figures *figures) except -1:
    cdef Figures *of
    for index, histogram in enumerate(histograms):
        of = &figures[<Py_ssize_t>index]
        if of.least <= of.most:
            histogram.sum += of.sum + (int(of.high) << 32) + of.low
            histogram.min = of.least if histogram.min is None else min(histogram.min, of.least)
            histogram.max = of.most if histogram.max is None else max(histogram.max, of.most)
            histogram.negative += of.negative
    return 0


def add(
    histograms, const int64_t[::1] ns, const uint16_t[::1] group, int64_t[::1] total=None, int64_t[::1] buckets=None
):
    """As `wsrec.format.grouped.python_add`.

    Raises:
        ValueError: the arrays differ in length, or a histogram has another size.

    """
    cdef Py_ssize_t row, rows = ns.shape[0], number = len(histograms)
    cdef int64_t bucket
    cdef bint summed = total is not None, shared = buckets is not None
    if shared and buckets.shape[0] != SIZE:
        raise ValueError("a histogram of another size")
    if group.shape[0] != rows or (summed and total.shape[0] != rows):
        raise ValueError("arrays of different lengths")
    cdef Figures *figures = begin(histograms)
    try:
        with nogil:
            for row in range(rows):
                if summed:
                    # what is null adds anything: unsigned, as that may overflow
                    total[row] = <int64_t>(<uint64_t>total[row] + <uint64_t>ns[row])
                if group[row] < number:
                    bucket = count(&figures[group[row]], ns[row])
                    if shared:
                        buckets[bucket] += 1
        end(histograms, figures)
    finally:
        free(figures)


def add_between(
    later, earlier, const int64_t[::1] start, const int64_t[::1] stop, const int32_t[::1] code,
    const uint16_t[::1] group_of, const uint8_t[::1] counted, int64_t[::1] resolution,
):
    """As `wsrec.format.grouped.python_add_between`.

    Raises:
        ValueError: the arrays differ in length, a histogram has another size, or a code has no group.

    """
    cdef Py_ssize_t row, rows = start.shape[0], number = len(later), codes = group_of.shape[0]
    cdef bint chosen = counted is not None, known = True
    cdef uint16_t group
    cdef int64_t ns, rest
    cdef Figures *figures
    cdef int64_t[::1] fine = resolution
    if not rows == stop.shape[0] == code.shape[0] or (chosen and counted.shape[0] != rows):
        raise ValueError("arrays of different lengths")
    if not number == len(earlier) == fine.shape[0]:
        raise ValueError("groups of different numbers")
    histograms = [*later, *earlier]
    figures = begin(histograms)
    try:
        with nogil:
            for row in range(rows):
                if chosen and not counted[row]:
                    continue
                if not 0 <= code[row] < codes:
                    known = False
                    break
                group = group_of[code[row]]
                if group >= number:
                    continue
                ns = <int64_t>(<uint64_t>stop[row] - <uint64_t>start[row])
                if ns < 0:
                    count(&figures[number + group], <int64_t>(0 - <uint64_t>ns))
                else:
                    count(&figures[group], ns)
                # constants, by which a compiler divides in a few cycles; the first is true of nearly all
                if fine[group] == 1000000:
                    if start[row] % <int64_t>1000000 == 0:
                        continue
                    fine[group] = 1000
                if fine[group] == 1000000000 and start[row] % <int64_t>1000000000 != 0:
                    fine[group] = 1000000
                if fine[group] == 1000000 and start[row] % <int64_t>1000000 != 0:
                    fine[group] = 1000
                if fine[group] == 1000 and start[row] % <int64_t>1000 != 0:
                    fine[group] = 1
        end(histograms, figures)
        if not known:
            raise ValueError("a code without a group")
    finally:
        free(figures)


def add_messages(
    int64_t[:, :] figures, int64_t[:, :] histograms, const uint16_t[::1] row, const uint8_t[::1] counted,
    const int64_t[::1] size, const int64_t[::1] time, const int64_t[::1] start, const int64_t[::1] stop,
):
    """As `wsrec.format.grouped.python_add_messages`.

    Raises:
        ValueError: the arrays differ in length.

    """
    cdef Py_ssize_t at, rows = row.shape[0], number = figures.shape[0]
    cdef uint16_t of
    cdef int shift
    cdef int64_t ns
    if not rows == counted.shape[0] == size.shape[0] == time.shape[0] == start.shape[0] == stop.shape[0]:
        raise ValueError("arrays of different lengths")
    if number != histograms.shape[0] or (number and (figures.shape[1] < 3 or histograms.shape[1] != FEW)):
        raise ValueError("tables of another shape")
    with nogil:
        for at in range(rows):
            of = row[at]
            if not counted[at] or of >= number:
                continue
            figures[of, 0] += 1
            figures[of, 1] += size[at]
            if time[at] > figures[of, 2]:
                figures[of, 2] = time[at]
            ns = <int64_t>(<uint64_t>stop[at] - <uint64_t>start[at])
            ns = 0 if ns < 0 else LONGEST if ns > LONGEST else ns
            shift = 63 - FEW_BITS - leading_zeros(<unsigned long long>ns | 1)
            histograms[of, (ns >> shift) + (<int64_t>shift << FEW_BITS) if shift > 0 else ns] += 1
