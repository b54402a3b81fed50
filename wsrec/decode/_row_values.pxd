# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Values of a table row from a message's bytes: the compiled counterpart of `wsrec.decode.row_values`."""

from cpython.mem cimport PyMem_Free
from libc.stdint cimport INT64_MAX, UINT32_MAX, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, strlen

from wsrec.decode._places cimport WSREC_LITERAL, WSREC_TEXT
from wsrec.decode._scalars cimport WSREC_POWERS, Value, is_digit, wsrec_digits, wsrec_iso, wsrec_times


cdef extern from "Python.h":
    double PyOS_string_to_double(const char* s, char** endptr, void* overflow_exception) except? -1.0
    char* PyOS_double_to_string(double val, char format_code, int precision, int flags, int* ptype) except NULL


cdef extern from "_numerals.h":
    const double* WSREC_EXACT

    struct wsrec_numeral:
        const uint8_t* start
        int32_t digits
        int32_t exponent
        bint negative

    bint wsrec_parse_numeral(const uint8_t* p, const uint8_t* end, wsrec_numeral* found) noexcept nogil
    uint64_t wsrec_mantissa(const wsrec_numeral* numeral) noexcept nogil
    bint wsrec_equal(const wsrec_numeral* a, const wsrec_numeral* b) noexcept nogil


cdef extern from *:
    const int64_t WSREC_NO_TIME


ctypedef wsrec_numeral Numeral

cdef enum Verdict:
    NONE = 0
    SOME = 1
    PYTHON = 2  # Python has to read the message

cdef struct Result:
    int64_t integer
    double number
    const uint8_t* start
    uint32_t length


cdef inline Verdict as_double(const Value* found, const Numeral* numeral, Result* result) except *:
    """The double nearest to a number, if it is the same number in its shortest form; others are Python's."""
    cdef uint64_t mantissa
    cdef double value
    if not numeral.digits:
        result.number = 0.0
        return SOME
    if numeral.digits <= 15 and -22 <= numeral.exponent <= 22:
        # both are exact, and one operation rounds correctly (Clinger, "How to Read Floating Point Numbers Accurately")
        mantissa = wsrec_mantissa(numeral)
        value = <double>mantissa
        if numeral.exponent >= 0:
            value = value * WSREC_EXACT[numeral.exponent]
        else:
            value = value / WSREC_EXACT[-numeral.exponent]
        result.number = -value if numeral.negative else value
        return SOME
    return by_python(found, numeral, result)


cdef inline Verdict by_python(const Value* found, const Numeral* numeral, Result* result) except *:
    """The same by the interpreter's own conversion, for numbers of many digits or a large exponent."""
    cdef char copy[104]
    cdef char* shortest
    cdef Numeral same
    memcpy(copy, found.start, found.length)
    copy[found.length] = 0
    result.number = PyOS_string_to_double(copy, NULL, NULL)
    if result.number - result.number != 0 or result.number == 0:
        return PYTHON  # beyond float64
    if numeral.negative != (result.number < 0):
        result.number = -result.number
    shortest = PyOS_double_to_string(result.number, c"r", 0, 0, NULL)
    if not wsrec_parse_numeral(<const uint8_t*>shortest, <const uint8_t*>shortest + strlen(shortest), &same):
        PyMem_Free(shortest)
        return PYTHON
    if not wsrec_equal(&same, numeral):
        # whether a row keeps it is Python's to count
        PyMem_Free(shortest)
        return PYTHON
    PyMem_Free(shortest)
    return SOME


cdef inline Verdict as_time(const Value* found, int exponent, Result* result) noexcept:
    """A time in ns, as `wsrec.decode.scalars.time_of`; none before `WSREC_NO_TIME`."""
    cdef const uint8_t* p = found.start
    cdef const uint8_t* end = p + found.length
    cdef const uint8_t* point
    cdef uint64_t whole, fraction = 0
    cdef int64_t time
    cdef int decimals = 0
    if found.kind == WSREC_LITERAL:
        return PYTHON
    if exponent < 0:
        if found.kind != WSREC_TEXT or not wsrec_iso(found.start, found.length, &time):
            return PYTHON
        return moment(time, result)
    if not wsrec_digits(p, end, &whole):
        point = p
        while point < end and is_digit(point[0]):
            point += 1
        if point == end or point[0] != c"." or point == p or point + 1 == end:
            return PYTHON
        decimals = <int>(end - point - 1)
        if end - p - 1 > 19 or not wsrec_digits(p, point, &whole) or not wsrec_digits(point + 1, end, &fraction):
            return PYTHON
    if decimals > exponent:
        fraction //= WSREC_POWERS[decimals - exponent]
    else:
        fraction *= WSREC_POWERS[exponent - decimals]
    if not wsrec_times(whole, WSREC_POWERS[exponent], &whole) or whole > <uint64_t>INT64_MAX - fraction:
        return PYTHON
    return moment(<int64_t>(whole + fraction), result)


cdef inline Verdict moment(int64_t time, Result* result) noexcept:
    """None on the epoch's first day; what is neither that nor a time of ours is Python's to count."""
    result.integer = time
    if time >= WSREC_NO_TIME:
        return SOME if time < INT64_MAX else PYTHON
    return NONE if time >= 0 else PYTHON


cdef inline Verdict as_truth(const Value* found, Result* result) noexcept:
    cdef uint32_t length = found.length
    if (length == 4 and not memcmp(found.start, b"true", 4)) or (length == 1 and found.start[0] == c"1"):
        result.integer = 1
        return SOME
    if (length == 5 and not memcmp(found.start, b"false", 5)) or (length == 1 and found.start[0] == c"0"):
        result.integer = 0
        return SOME
    return PYTHON


cdef inline Verdict as_integer(const Value* found, bint is_count, Result* result) noexcept:
    cdef const uint8_t* p = found.start
    cdef bint negative = p[0] == c"-"
    cdef uint64_t magnitude
    if found.kind == WSREC_LITERAL or not wsrec_digits(p + negative, p + found.length, &magnitude):
        return PYTHON
    if magnitude > <uint64_t>INT64_MAX or (is_count and (negative or magnitude > UINT32_MAX)):
        return PYTHON
    result.integer = -<int64_t>magnitude if negative else <int64_t>magnitude
    return SOME
