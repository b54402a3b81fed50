# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""An order book in memory, compiled: equivalent to `wsrec.order_books.book`, with the levels in arrays.

Each side is three arrays with free space at both ends, from the worst to the best level. A level is searched for from
the best one on, and a new one moves the shorter part.
"""

from libc.math cimport isnan
from libc.stdint cimport int8_t, int64_t, uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memmove

from wsrec.order_books.book import LEVELS_MAX, Levels

cdef enum:
    SET = 0
    DELETE = 1
    CLEAR = 2

cdef enum:
    NO_SIDE = -1

cdef struct Side:
    double sign
    double *keys
    double *sizes
    int64_t *counts
    Py_ssize_t begin
    Py_ssize_t end
    Py_ssize_t capacity


cdef int make(Side *side, double sign) noexcept nogil:
    side.sign = sign
    side.begin = side.end = side.capacity = 0
    side.keys = side.sizes = NULL
    side.counts = NULL
    return 0


cdef void release(Side *side) noexcept nogil:
    free(side.keys)
    free(side.sizes)
    free(side.counts)


cdef bint grow(Side *side) noexcept nogil:
    """More space at both ends; returns whether there is memory for it."""
    cdef Py_ssize_t count = side.end - side.begin
    cdef Py_ssize_t capacity = 2 * count + 64
    cdef Py_ssize_t begin = (capacity - count) // 2
    cdef double *keys = <double *>malloc(capacity * sizeof(double))
    cdef double *sizes = <double *>malloc(capacity * sizeof(double))
    cdef int64_t *counts = <int64_t *>malloc(capacity * sizeof(int64_t))
    if keys == NULL or sizes == NULL or counts == NULL:
        free(keys)
        free(sizes)
        free(counts)
        return False
    if count:
        memcpy(keys + begin, side.keys + side.begin, count * sizeof(double))
        memcpy(sizes + begin, side.sizes + side.begin, count * sizeof(double))
        memcpy(counts + begin, side.counts + side.begin, count * sizeof(int64_t))
    release(side)
    side.keys, side.sizes, side.counts = keys, sizes, counts
    side.begin, side.end, side.capacity = begin, begin + count, capacity
    return True


cdef Py_ssize_t find(const Side *side, double key) noexcept nogil:
    """The place of the first level that is not worse than this key."""
    cdef Py_ssize_t low, high = side.end, step = 1, middle
    # from the best level on, in growing steps
    low = high - step
    while low > side.begin and side.keys[low] >= key:
        high = low
        step *= 2
        low = high - step
    if low < side.begin:
        low = side.begin
    while low < high:
        middle = low + (high - low) // 2
        if side.keys[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low


cdef inline void shift(Side *side, Py_ssize_t place, Py_ssize_t by, Py_ssize_t count) noexcept nogil:
    """Move levels."""
    memmove(side.keys + place + by, side.keys + place, count * sizeof(double))
    memmove(side.sizes + place + by, side.sizes + place, count * sizeof(double))
    memmove(side.counts + place + by, side.counts + place, count * sizeof(int64_t))


cdef int put(Side *side, double price, double size, int64_t count, Py_ssize_t most) noexcept nogil:
    """Set a level; returns 0, 1 if there are too many, or 2 without memory."""
    cdef double key = price * side.sign
    cdef Py_ssize_t place = find(side, key), behind
    if place < side.end and side.keys[place] == key:
        side.sizes[place] = size
        side.counts[place] = count
        return 0
    if side.end - side.begin >= most:
        return 1
    behind = place - side.begin
    if (behind < side.end - place and side.begin > 0) or (side.end == side.capacity and side.begin > side.capacity // 4):
        shift(side, side.begin, -1, behind)
        side.begin -= 1
        place -= 1
    else:
        if side.end == side.capacity or (behind < side.end - place and not side.begin):
            if not grow(side):
                return 2
            place = side.begin + behind
        shift(side, place, 1, side.end - place)
        side.end += 1
    side.keys[place], side.sizes[place], side.counts[place] = key, size, count
    return 0


cdef void remove(Side *side, double price) noexcept nogil:
    cdef double key = price * side.sign
    cdef Py_ssize_t place = find(side, key)
    if place == side.end or side.keys[place] != key:
        return
    if place - side.begin < side.end - place - 1:
        shift(side, side.begin, 1, place - side.begin)
        side.begin += 1
    else:
        shift(side, place + 1, -1, side.end - place - 1)
        side.end -= 1


cdef class Book:
    """As `wsrec.order_books.book.Book`."""

    cdef Side bids
    cdef Side asks
    cdef Py_ssize_t depth
    cdef Py_ssize_t most
    cdef readonly bint crossed
    cdef readonly bint overfull

    def __cinit__(self, Py_ssize_t depth=0, Py_ssize_t most=LEVELS_MAX):
        make(&self.bids, 1.0)
        make(&self.asks, -1.0)
        self.depth, self.most = depth, most

    def __dealloc__(self):
        release(&self.bids)
        release(&self.asks)

    def __len__(self):
        return self.bids.end - self.bids.begin + self.asks.end - self.asks.begin

    def clear(self):
        """Remove all levels."""
        self.empty()
        self.crossed = False

    cdef void empty(self) noexcept nogil:
        self.bids.begin = self.bids.end = self.bids.capacity // 2
        self.asks.begin = self.asks.end = self.asks.capacity // 2
        self.overfull = False

    def apply(self, changes, Py_ssize_t start, Py_ssize_t stop):
        """Apply rows `start` to `stop` in order.

        Raises:
            MemoryError: there is no memory for a level; the levels before it were applied.

        """
        cdef const int8_t[::1] actions = changes.actions, sides = changes.sides
        cdef const double[::1] prices = changes.prices, sizes = changes.sizes
        cdef const int64_t[::1] counts = changes.counts
        cdef const uint8_t[::1] named = changes.named.view("u1"), lasts = changes.lasts.view("u1")
        cdef Py_ssize_t row
        cdef int failed = 0
        cdef bint crossed
        cdef list turns = []
        if not 0 <= start <= stop <= actions.shape[0]:
            raise IndexError(f"rows {start} to {stop} of {actions.shape[0]}")
        if not (
            actions.shape[0] == sides.shape[0] == prices.shape[0] == sizes.shape[0] == counts.shape[0]
            and actions.shape[0] == named.shape[0] == lasts.shape[0]
        ):
            raise ValueError("the columns have different lengths")
        with nogil:
            for row in range(start, stop):
                if actions[row] == CLEAR:
                    self.empty()
                elif not isnan(prices[row]):
                    failed = self.change(
                        actions[row], sides[row], prices[row], sizes[row], counts[row], named[row]
                    )
                    if failed == 2:
                        break
                if lasts[row]:
                    crossed = self.finish()
                    if crossed != self.crossed:
                        self.crossed = crossed
                        with gil:
                            turns.append(row)
        if failed == 2:
            raise MemoryError
        return turns

    cdef int change(
        self, int8_t action, int8_t side, double price, double size, int64_t count, bint named
    ) noexcept nogil:
        cdef Side *own = &self.asks if side > 0 else &self.bids
        cdef Side *other = &self.bids if side > 0 else &self.asks
        cdef int failed
        if action == SET and size > 0:
            if side == NO_SIDE:
                return 0
            if named:
                # an id changes sides
                remove(other, price)
            failed = put(own, price, size, count, self.most)
            if failed == 1:
                self.overfull = True
            return failed
        remove(own, price)
        if side == NO_SIDE:
            remove(other, price)
        return 0

    cdef bint finish(self) noexcept nogil:
        """Cut both sides to the subscribed depth; returns whether the book is crossed."""
        if self.depth:
            self.bids.begin = max(self.bids.begin, self.bids.end - self.depth)
            self.asks.begin = max(self.asks.begin, self.asks.end - self.depth)
        if self.bids.begin == self.bids.end or self.asks.begin == self.asks.end:
            return False
        return self.bids.keys[self.bids.end - 1] >= -self.asks.keys[self.asks.end - 1]

    def levels(self, Py_ssize_t count=0):
        """The best levels of bids and asks; 0: all."""
        return best(&self.bids, count), best(&self.asks, count)


cdef best(const Side *side, Py_ssize_t count):
    cdef Py_ssize_t place, begin = side.begin
    cdef list prices = [], sizes = [], counts = []
    if count and side.end - begin > count:
        begin = side.end - count
    place = side.end
    while place > begin:
        place -= 1
        prices.append(side.keys[place] * side.sign)
        sizes.append(side.sizes[place])
        counts.append(side.counts[place])
    return Levels(prices, sizes, counts)
