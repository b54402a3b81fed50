# cython: language_level=3
"""The wanted places of a reader, as a tree that `wsrec_walk` (_walk.h) follows.

The module that cimports this includes the header of its reader, which says what is noted at a place.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memcpy, memset


cdef extern from *:
    enum:
        WSREC_OTHER, WSREC_TEXT, WSREC_UNDECIDED, WSREC_INTEGER, WSREC_DECIMAL, WSREC_LITERAL

    struct wsrec_value:
        const uint8_t* start
        uint32_t length
        int32_t kind

    struct wsrec_place:
        int32_t* children
        int32_t items
        int32_t each
        int32_t sibling
        int32_t parent
        uint32_t position
        uint32_t key_length
        uint8_t* key


cdef inline void* allocate(size_t count, size_t size) except NULL:
    """Zeroed memory.

    Raises:
        MemoryError: there is none.

    """
    cdef void* memory = calloc(count if count else 1, size)
    if memory == NULL:
        raise MemoryError
    return memory


cdef inline void* grown(void* memory, size_t size) except NULL:
    """The same content in memory of another size; errors as of `allocate`."""
    memory = realloc(memory, size)
    if memory == NULL:
        raise MemoryError
    return memory


cdef struct Tree:
    # place 0 is the message itself
    wsrec_place* places
    int32_t count


cdef inline int32_t add_place(Tree* tree, int32_t parent) except -1:
    tree.places = <wsrec_place*>grown(tree.places, (tree.count + 1) * sizeof(wsrec_place))
    memset(&tree.places[tree.count], 0, sizeof(wsrec_place))
    tree.places[tree.count].parent = parent
    tree.count += 1
    return tree.count - 1


cdef inline int32_t place_of_key(Tree* tree, int32_t parent, const uint8_t* key, uint32_t length) except -1:
    """The place of a key of an object, created if necessary."""
    cdef wsrec_place* place
    cdef int32_t child
    if tree.places[parent].children == NULL:
        tree.places[parent].children = <int32_t*>allocate(256, sizeof(int32_t))
    child = tree.places[parent].children[key[0]]
    while child and (tree.places[child].key_length != length or memcmp(tree.places[child].key, key, length)):
        child = tree.places[child].sibling
    if not child:
        child = add_place(tree, parent)
        place = &tree.places[child]
        place.key, place.key_length = <uint8_t*>allocate(length, 1), length
        memcpy(place.key, key, length)
        place.sibling = tree.places[parent].children[key[0]]
        tree.places[parent].children[key[0]] = child
    return child


cdef inline int32_t place_of_item(Tree* tree, int32_t parent, uint32_t position) except -1:
    """The place of an array's element at a position."""
    cdef int32_t child = tree.places[parent].items
    while child and tree.places[child].position != position:
        child = tree.places[child].sibling
    if not child:
        child = add_place(tree, parent)
        tree.places[child].position = position
        tree.places[child].sibling = tree.places[parent].items
        tree.places[parent].items = child
    return child


cdef inline int32_t place_of_each(Tree* tree, int32_t parent) except -1:
    """The place of an array's every other element."""
    cdef int32_t child = tree.places[parent].each
    if not child:
        child = add_place(tree, parent)
        tree.places[parent].each = child
    return child


cdef inline int32_t place_at(Tree* tree, steps) except -1:
    """The place at the end of some steps from the message: keys (str), positions (int), every element (None)."""
    cdef int32_t index = 0
    if not tree.count:
        add_place(tree, 0)
    for step in steps:
        if isinstance(step, str):
            key = step.encode()
            index = place_of_key(tree, index, key, len(key))
        elif step is None:
            index = place_of_each(tree, index)
        else:
            index = place_of_item(tree, index, step)
    return index


cdef inline void free_places(Tree* tree) noexcept:
    cdef int32_t index
    for index in range(tree.count):
        free(tree.places[index].children)
        free(tree.places[index].key)
    free(tree.places)
