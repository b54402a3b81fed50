# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Numbers and times of values in a message's bytes: the compiled counterpart of `wsrec.decode.scalars`."""

from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t, uint8_t, uint32_t, uint64_t

from wsrec.decode._places cimport (
    WSREC_LITERAL, WSREC_OTHER, WSREC_TEXT, WSREC_UNDECIDED, wsrec_value,
)


cdef extern from "_json.h":
    const uint64_t* WSREC_POWERS
    bint wsrec_digits(const uint8_t* p, const uint8_t* end, uint64_t* value) noexcept nogil
    bint wsrec_times(uint64_t a, uint64_t b, uint64_t* product) noexcept nogil
    bint wsrec_iso(const uint8_t* p, uint32_t size, int64_t* value) noexcept nogil


ctypedef wsrec_value Value

# result of reading a place or a row
cdef enum Verdict:
    ABSENT = 0
    PRESENT = 1
    UNKNOWN = 2  # a text that Python has to resolve
    UNDECIDED = 3  # a message that Python has to read
    NO_ROOM = 4  # a message larger than the bitmap of quotes

cdef enum:
    NUMERAL_MAX = 100  # longest text that is read as a number
    DIGITS_MAX = 19  # always fit in an unsigned 64-bit integer


cdef inline bint is_digit(uint8_t byte) noexcept nogil:
    return <uint8_t>(byte - c"0") <= 9


cdef inline Verdict read_integer(const Value* found, int64_t* value, bint* negative) noexcept nogil:
    """The integer from -2**63 to 2**64-1 at a place, quoted or not; `value` gets its lower 64 bits."""
    cdef const uint8_t* p = found.start
    cdef const uint8_t* end = p + found.length
    cdef uint64_t magnitude
    if found.kind == WSREC_UNDECIDED:
        return UNDECIDED
    if found.kind == WSREC_OTHER or found.kind == WSREC_LITERAL or p == end:
        return ABSENT
    negative[0] = p[0] == c"-"
    if not wsrec_digits(p + negative[0], end, &magnitude):
        return read_numeral(found, value, negative)
    return halved(magnitude, value, negative)


cdef inline Verdict halved(uint64_t magnitude, int64_t* value, bint* negative) noexcept nogil:
    if negative[0]:
        if magnitude > <uint64_t>INT64_MAX + 1:
            return ABSENT
        negative[0] = magnitude != 0
        magnitude = 0 - magnitude
    value[0] = <int64_t>magnitude
    return PRESENT


cdef inline Verdict read_numeral(const Value* found, int64_t* value, bint* negative) noexcept nogil:
    """The same for values that are not only digits."""
    cdef const uint8_t* p = found.start
    cdef const uint8_t* end = p + found.length
    cdef const uint8_t* point
    cdef uint64_t magnitude
    p += negative[0]
    point = p
    while point < end and is_digit(point[0]):
        point += 1
    if point == p or found.length > NUMERAL_MAX:
        return ABSENT if found.kind == WSREC_TEXT else UNDECIDED
    if point < end and point[0] != c"." and point[0] != c"e" and point[0] != c"E":
        return ABSENT
    if point == end or point[0] != c"." or point + 1 == end or not wsrec_digits(p, point, &magnitude):
        # too many digits, or an exponent
        return UNDECIDED
    point += 1
    while point < end and point[0] == c"0":
        point += 1
    if point == end:
        return halved(magnitude, value, negative)
    while point < end and is_digit(point[0]):
        point += 1
    # a fraction, unless an exponent makes it an integer; or a text that is not a number
    return ABSENT if point == end or (point[0] != c"e" and point[0] != c"E") else UNDECIDED


cdef inline Verdict signed(uint64_t magnitude, bint negative, int64_t* value) noexcept nogil:
    """A time, clamped to int64."""
    if magnitude > <uint64_t>INT64_MAX + negative:
        value[0] = INT64_MIN if negative else INT64_MAX
    else:
        value[0] = <int64_t>(0 - magnitude) if negative else <int64_t>magnitude
    return PRESENT


cdef inline Verdict read_time(const Value* found, int exponent, int64_t* value) noexcept nogil:
    """The time in ns at a place, given in units of 10**exponent ns; exact, truncated towards zero.

    Beyond int64 it is the nearest one.
    """
    cdef const uint8_t* p = found.start
    cdef const uint8_t* end = p + found.length
    cdef uint64_t magnitude
    cdef bint negative
    if found.kind == WSREC_UNDECIDED:
        return UNDECIDED
    if found.kind == WSREC_OTHER or found.kind == WSREC_LITERAL or p == end:
        return ABSENT
    negative = p[0] == c"-"
    if not wsrec_digits(p + negative, end, &magnitude):
        return read_fraction(found, exponent, value)
    if not wsrec_times(magnitude, WSREC_POWERS[exponent], &magnitude):
        magnitude = <uint64_t>-1
    return signed(magnitude, negative, value)


cdef inline Verdict read_fraction(const Value* found, int exponent, int64_t* value) noexcept nogil:
    """The same for values that are not only digits."""
    cdef const uint8_t* p = found.start
    cdef const uint8_t* end = p + found.length
    cdef uint64_t whole, fraction = 0
    cdef int decimals
    cdef bint negative = p[0] == c"-"
    cdef const uint8_t* point
    p += negative
    point = p
    while point < end and is_digit(point[0]):
        point += 1
    if point == end or point[0] != c".":
        # too many digits, an exponent, or a text that is not a number
        return ABSENT if found.kind == WSREC_TEXT and (point == p or point < end) else UNDECIDED
    if point == p or point + 1 == end:
        return ABSENT
    decimals = <int>min(end - point - 1, 99)
    if end - p - 1 > DIGITS_MAX or not wsrec_digits(p, point, &whole) or not wsrec_digits(point + 1, end, &fraction):
        return UNDECIDED
    # at most 19 digits in total, so only the last step can exceed 64 bits
    if decimals > exponent:
        fraction //= WSREC_POWERS[decimals - exponent]
    else:
        fraction *= WSREC_POWERS[exponent - decimals]
    if not wsrec_times(whole, WSREC_POWERS[exponent], &whole) or whole + fraction < whole:
        whole, fraction = <uint64_t>-1, 0
    return signed(whole + fraction, negative, value)


cdef inline Verdict read_iso(const Value* found, int64_t* value) noexcept nogil:
    """The RFC 3339 time at a place, in ns."""
    if found.kind == WSREC_UNDECIDED:
        return UNDECIDED
    if found.kind != WSREC_TEXT:
        return ABSENT
    return PRESENT if wsrec_iso(found.start, found.length, value) else UNDECIDED
