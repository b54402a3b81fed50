# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""Protobuf messages as JSON, compiled: writes what `wsrec.feed.protobuf` reads, straight from the bytes.

Messages of the usual kind only: each field once, text without characters that JSON escapes, no reals. All others, the
damaged ones too, are left to the Python reader.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdio cimport snprintf
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy

cdef enum:
    VARINT = 0
    FIXED64 = 1
    LENGTH = 2
    FIXED32 = 5
    FIELDS_MAX = 32
    DEPTH_MAX = 32
    NUMBER_MAX = (1 << 29) - 1

# kinds of fields; the numbers are those of `KINDS`
cdef enum:
    STRING = 0
    MESSAGE = 1
    BOOL = 2
    INT32 = 3
    INT64 = 4
    UINT32 = 5
    UINT64 = 6
    SINT32 = 7
    SINT64 = 8

KINDS = ("string", "message", "bool", "int32", "int64", "uint32", "uint64", "sint32", "sint64")

cdef struct Field:
    uint64_t tag
    uint64_t number
    int kind
    bint repeated
    # of a message: its type
    int type
    # `"name":`
    const char *name
    Py_ssize_t name_length

cdef struct Type:
    int count
    Field fields[FIELDS_MAX]

cdef struct Out:
    char *data
    Py_ssize_t size
    Py_ssize_t capacity


cdef const uint8_t *varint(const uint8_t *at, const uint8_t *end, uint64_t *value) noexcept nogil:
    """Read a number; returns where it ends, NULL if it has no end."""
    cdef int shift = 0
    cdef uint8_t byte
    value[0] = 0
    while at < end and shift < 70:
        byte = at[0]
        at += 1
        if shift < 64:
            value[0] |= <uint64_t>(byte & 0x7F) << shift
        if byte < 0x80:
            return at
        shift += 7
    return NULL


cdef bint put(Out *out, const char *data, Py_ssize_t length) noexcept nogil:
    """Append to the output; returns whether there is memory for it."""
    cdef Py_ssize_t wanted = out.size + length
    cdef char *grown
    if wanted > out.capacity:
        wanted = 2 * wanted + 256
        grown = <char *>realloc(out.data, wanted)
        if grown == NULL:
            return False
        out.data, out.capacity = grown, wanted
    memcpy(out.data + out.size, data, length)
    out.size += length
    return True


cdef bint put_text(Out *out, const uint8_t *text, Py_ssize_t length) noexcept nogil:
    """Append a text in quotes; returns whether it is of plain characters."""
    cdef Py_ssize_t at
    for at in range(length):
        if text[at] < 0x20 or text[at] >= 0x7F or text[at] == 34 or text[at] == 92:
            return False
    return put(out, b'"', 1) and put(out, <const char *>text, length) and put(out, b'"', 1)


cdef bint put_number(Out *out, uint64_t bits, int kind) noexcept nogil:
    """Append a number or a truth value."""
    cdef char digits[32]
    cdef int length
    cdef uint32_t low = <uint32_t>bits
    if kind == BOOL:
        return put(out, b"true", 4) if bits else put(out, b"false", 5)
    if kind == UINT64 or kind == UINT32:
        length = snprintf(digits, sizeof(digits), b"%llu", <unsigned long long>(bits if kind == UINT64 else low))
    elif kind == INT32:
        length = snprintf(digits, sizeof(digits), b"%lld", <long long><int32_t>low)
    elif kind == SINT32:
        length = snprintf(digits, sizeof(digits), b"%lld", <long long><int32_t>((low >> 1) ^ (0 - (low & 1))))
    elif kind == SINT64:
        length = snprintf(digits, sizeof(digits), b"%lld", <long long><int64_t>((bits >> 1) ^ (0 - (bits & 1))))
    else:
        length = snprintf(digits, sizeof(digits), b"%lld", <long long><int64_t>bits)
    return put(out, digits, length)


cdef const uint8_t *skipped(const uint8_t *at, const uint8_t *end, uint64_t wire) noexcept nogil:
    """Where a value that is not read ends; NULL if it does not."""
    cdef uint64_t value
    if wire == VARINT:
        return varint(at, end, &value)
    if wire == FIXED64:
        return at + 8 if end - at >= 8 else NULL
    if wire == FIXED32:
        return at + 4 if end - at >= 4 else NULL
    if wire != LENGTH:
        return NULL
    at = varint(at, end, &value)
    if at == NULL or value > <uint64_t>(end - at):
        return NULL
    return at + value


cdef class Scanner:
    """Writes messages as JSON.

    Args:
        types: the types, each as a list of its fields: name, number, kind (`KINDS`), whether it is repeated, and of a
            message the number of its type.
        root: number of the type of a whole message.

    Raises:
        ValueError: a type has a field that is not supported, or too many of them.

    """

    cdef Type *types
    cdef int root
    cdef Out out
    # what the names in `types` point to
    cdef list names

    def __cinit__(self, list types not None, int root):
        cdef int number, place
        cdef Field *field
        cdef bytes name
        self.names = []
        self.root = root
        self.types = <Type *>calloc(len(types), sizeof(Type))
        if self.types == NULL:
            raise MemoryError
        for number, fields in enumerate(types):
            if len(fields) > FIELDS_MAX:
                raise ValueError("too many fields")
            self.types[number].count = len(fields)
            for place, (text, tag, kind, repeated, inner) in enumerate(fields):
                field = &self.types[number].fields[place]
                if kind not in KINDS or (repeated and kind not in ("string", "message")):
                    raise ValueError(f"a field of the kind {kind} is not supported")
                name = b'"%b":' % text.encode()
                self.names.append(name)
                field.name, field.name_length = name, len(name)
                field.kind, field.repeated, field.type = KINDS.index(kind), repeated, inner
                field.number = tag
                field.tag = <uint64_t>tag << 3 | (LENGTH if field.kind <= MESSAGE else VARINT)

    def __dealloc__(self):
        free(self.types)
        free(self.out.data)

    def json(self, const uint8_t[::1] payload not None):
        """A message as JSON; None if it is left to the Python reader."""
        cdef Py_ssize_t length = payload.shape[0]
        self.out.size = 0
        if not length or not self.message(&payload[0], &payload[0] + length, self.root, 0):
            return None
        return self.out.data[: self.out.size]

    cdef bint message(self, const uint8_t *begin, const uint8_t *end, int type, int depth) noexcept:
        """Append a message; returns whether it could."""
        cdef Type *kind = &self.types[type]
        cdef const uint8_t *places[FIELDS_MAX]
        cdef uint64_t values[FIELDS_MAX]
        cdef const uint8_t *at = begin
        cdef uint64_t tag, number
        cdef int place, written = 0
        if depth > DEPTH_MAX:
            return False
        for place in range(kind.count):
            places[place] = NULL
        while at < end:
            at = varint(at, end, &tag)
            if at == NULL:
                return False
            for place in range(kind.count):
                if kind.fields[place].tag == tag:
                    break
            else:
                number = tag >> 3
                if not 0 < number <= NUMBER_MAX:
                    return False
                for place in range(kind.count):
                    if kind.fields[place].number == number:
                        return False
                at = skipped(at, end, tag & 7)
                if at == NULL:
                    return False
                continue
            if places[place] != NULL and not kind.fields[place].repeated:
                return False
            at = varint(at, end, &number)
            if at == NULL:
                return False
            if places[place] == NULL:
                places[place], values[place] = at, number
            if kind.fields[place].kind <= MESSAGE:
                if number > <uint64_t>(end - at):
                    return False
                at += number
        if not put(&self.out, b"{", 1):
            return False
        for place in range(kind.count):
            if places[place] == NULL and not kind.fields[place].repeated:
                continue
            if written and not put(&self.out, b",", 1):
                return False
            written = 1
            if not put(&self.out, kind.fields[place].name, kind.fields[place].name_length):
                return False
            if kind.fields[place].repeated:
                if not self.several(begin, end, &kind.fields[place], depth):
                    return False
            elif not self.value(&kind.fields[place], places[place], values[place], depth):
                return False
        return put(&self.out, b"}", 1)

    cdef bint value(self, Field *field, const uint8_t *at, uint64_t bits, int depth) noexcept:
        """Append a value; of a text or message `bits` is its length."""
        if field.kind == STRING:
            return put_text(&self.out, at, <Py_ssize_t>bits)
        if field.kind == MESSAGE:
            return self.message(at, at + bits, field.type, depth + 1)
        return put_number(&self.out, bits, field.kind)

    cdef bint several(self, const uint8_t *at, const uint8_t *end, Field *field, int depth) noexcept:
        """Append the values of a repeated field of a message that was looked through."""
        cdef uint64_t tag, length
        cdef int written = 0
        if not put(&self.out, b"[", 1):
            return False
        while at < end:
            at = varint(at, end, &tag)
            if tag != field.tag:
                at = skipped(at, end, tag & 7)
                continue
            at = varint(at, end, &length)
            if written and not put(&self.out, b",", 1):
                return False
            written = 1
            if not self.value(field, at, length, depth):
                return False
            at += length
        return put(&self.out, b"]", 1)
