# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The texts that Python has resolved to names, by place and bytes: a hash table with open addressing."""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy

from wsrec.decode._places cimport allocate, grown


cdef extern from *:
    bint wsrec_same(const uint8_t* a, const uint8_t* b, uint32_t length) noexcept nogil
    uint64_t wsrec_hash(const uint8_t* p, uint32_t length, uint64_t seed) noexcept nogil


cdef struct Text:
    # a known text; `place` is -1 in an empty entry
    uint64_t hash
    uint64_t start  # in the arena
    uint32_t length
    int32_t place
    int32_t code
    int32_t plan


cdef struct KnownTexts:
    uint64_t seed  # of the hashes: a hostile peer cannot choose texts of one hash
    Text* table
    uint64_t mask  # its size less 1; a power of two less 1
    uint64_t count
    uint8_t* arena  # the texts' bytes
    uint64_t arena_size
    uint64_t arena_room


cdef inline Text* find_text(
    const KnownTexts* known, int32_t place, const uint8_t* start, uint32_t length
) noexcept nogil:
    """The entry of a text, or the empty one where it belongs."""
    cdef uint64_t hash = wsrec_hash(start, length, known.seed + <uint64_t>place)
    cdef uint64_t index = hash & known.mask
    cdef Text* text
    while True:
        text = &known.table[index]
        if text.place < 0 or (
            text.hash == hash
            and text.place == place
            and text.length == length
            and wsrec_same(known.arena + text.start, start, length)
        ):
            return text
        index = (index + 1) & known.mask


cdef inline int remember_text(
    KnownTexts* known, int32_t place, const uint8_t* start, uint32_t length, int32_t code, int32_t plan
) except -1:
    """Add a text with its code and plan."""
    cdef Text* text
    if known.count * 2 > known.mask:
        grow_table(known)
    if known.arena_size + length > known.arena_room:
        known.arena = <uint8_t*>grown(known.arena, (known.arena_size + length) * 2)
        known.arena_room = (known.arena_size + length) * 2
    memcpy(known.arena + known.arena_size, start, length)
    text = find_text(known, place, start, length)
    text.hash = wsrec_hash(start, length, known.seed + <uint64_t>place)
    text.start, text.length = known.arena_size, length
    text.place, text.code, text.plan = place, code, plan
    known.arena_size += length
    known.count += 1
    return 0


cdef inline int forget_texts(KnownTexts* known) except -1:
    """Remove all texts."""
    known.count = 0
    known.arena_size = 0
    free(known.table)
    known.table = NULL
    known.table = empty_table(1024)
    known.mask = 1023
    return 0


cdef inline void free_texts(KnownTexts* known) noexcept:
    free(known.table)
    free(known.arena)


cdef inline int grow_table(KnownTexts* known) except -1:
    cdef Text* old = known.table
    cdef uint64_t size = known.mask + 1
    cdef uint64_t index, place
    cdef Text* table = empty_table(size * 2)
    for index in range(size):
        if old[index].place >= 0:
            place = old[index].hash & (size * 2 - 1)
            while table[place].place >= 0:
                place = (place + 1) & (size * 2 - 1)
            table[place] = old[index]
    known.table, known.mask = table, size * 2 - 1
    free(old)
    return 0


cdef inline Text* empty_table(uint64_t size) except NULL:
    cdef Text* table = <Text*>allocate(size, sizeof(Text))
    cdef uint64_t index
    for index in range(size):
        table[index].place = -1
    return table
