# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Compiled field extraction: equivalent to `wsrec.decode.reader`, without Python objects per message.

A message is JSON (RFC 8259), parsed in two passes. The first marks its quotes in a bitmap (_json.h). The second walks
from string to string, checks the whole grammar, and notes the values at the wanted paths (_walk.h, _fields.h).

Messages that this code does not decide are read by `wsrec.decode.reader.PythonFieldReader`: invalid JSON, a repeated
wanted key, an escape in a wanted text or in a key next to a wanted one, `\\u` anywhere, wanted integers of more than 19
digits or with an exponent, numbers of more than 100 digits, exponents of more than 4 digits, nesting deeper than 64, an
object in place of an array whose elements are all wanted. Python also resolves each distinct text of a name, once.
"""

import os

from wsrec.decode import scalars
from wsrec.feed.paths import NotScannableError

from libc.stdint cimport INT64_MAX, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy

from wsrec.decode._known_texts cimport (
    KnownTexts, Text, find_text, forget_texts, free_texts, remember_text,
)
from wsrec.decode._places cimport (
    WSREC_DECIMAL, WSREC_INTEGER, WSREC_OTHER, WSREC_TEXT, WSREC_UNDECIDED,
    Tree, add_place, allocate, free_places, grown, place_at, place_of_each, place_of_item, place_of_key, wsrec_place,
    wsrec_value,
)
from wsrec.decode._scalars cimport (
    ABSENT, NO_ROOM, NUMERAL_MAX, PRESENT, UNDECIDED, UNKNOWN, Value, Verdict, read_integer, read_iso, read_time,
)


cdef extern from "_fields.h":
    struct wsrec_noted:
        uint64_t epoch
        wsrec_value first
        wsrec_value last
        int32_t left
        int32_t also
        int32_t alike
        int32_t differs

    struct wsrec_reading:
        uint64_t epoch
        int32_t place_count

    struct wsrec_message:
        const uint8_t* start
        const uint8_t* end
        const uint8_t* limit
        uint64_t* quotes
        wsrec_place* places
        uint64_t instance
        wsrec_reading reading

    wsrec_noted* wsrec_noted_at(wsrec_place* places, int32_t index) noexcept nogil
    bint wsrec_is_message(wsrec_message* m) noexcept nogil


ctypedef wsrec_noted Noted
ctypedef wsrec_message Message


cdef enum:
    TEXT_MAX = 128  # bytes; a longer name is left to Python, which counts characters
    PARTS_MAX = 16  # values that a name may be joined from
    ALIKE = 2  # all values at the path must be equal
    PART_SIZE = 2 + TEXT_MAX  # most bytes of one of them: type, length, value

cdef int64_t EARLIEST = scalars.EARLIEST

assert NUMERAL_MAX == scalars.NUMERAL_MAX


cdef struct Row:
    int32_t channel
    int32_t symbol
    int64_t numbers[4]  # the lower 64 bits
    bint negative[4]
    bint known[4]
    bint reset


cdef class Scanner:
    """Reads the messages of one feed, driven by tables made from its field paths.

    Args:
        paths: the paths of values, as steps: a key (str), a position (int, from 0), or every element (None). Other
            arguments refer to them by index. A step below 0 means that Python reads the rest of the path: a message with an
            object or an array there is left to it if that path's value is needed.
        texts: the places of names. Each is an index of `paths`, for a text; or a list of at most `PARTS_MAX` pairs of an
            index of `paths` and a mode: 0 whether there is a value, 1 the first value, 2 the value that all there have.
        channel: the places of the channel's name (indices of `texts`), tried in this order.
        plans: for each plan, the places of symbol (indices of `texts`), exchange time (pairs of an index of `paths` and
            the exponent of a unit of 10**exponent ns; -1: RFC 3339 text, -2: Python reads it), sequence number, first
            and previous number (indices of `paths`), and of resets (indices of `texts`; the numbers restart if one has
            a code). The first plan is for messages of no known channel. Of several values at a path the first counts,
            but the last for the sequence number. There is no symbol if the values at its path differ.
        learn: called with a place of `texts` and its text; returns the name's code (-1: none) and, for a channel, its
            plan. Several values are passed as one `bytes`: for each 0 (absent), 1 (present), 2 (a text) or 3 (an
            integer, true or false), and for the latter two its length (one byte) and the value.
        read: called with a message to read in Python; returns the codes of channel and symbol (-1: none), then the
            numbers or None.

    """

    cdef Tree _tree
    cdef uint64_t* _quotes
    cdef Py_ssize_t _quotes_room  # size of a message (bytes) for which they suffice
    cdef int32_t* _places  # number of each path's place
    cdef int32_t* _texts  # that of each place of a name; -n if it has several, which begin at `_parts[n]`
    cdef int32_t* _parts  # number of places, then each and its mode
    cdef int32_t* _plans  # start of each plan; then each plan: six times the number of places and the places
    cdef int32_t* _channel  # number of places, places
    cdef uint8_t _joined[PARTS_MAX * PART_SIZE]
    cdef object _learn_text
    cdef object _read_message
    cdef uint64_t _epoch
    cdef uint64_t _instance
    cdef KnownTexts _known_texts
    # the unknown text that stopped the reading
    cdef int32_t _unknown_place
    cdef const uint8_t* _unknown
    cdef uint32_t _unknown_length

    def __cinit__(self, paths, texts, channel, plans, learn, read):
        self._learn_text, self._read_message = learn, read
        self._known_texts.seed = int.from_bytes(os.urandom(8), "little")
        add_place(&self._tree, 0)
        self._places = <int32_t*>allocate(len(paths), sizeof(int32_t))
        for index, steps in enumerate(paths):
            self._places[index] = self._place(steps)
        index = 0
        while index < self._tree.count:  # grafting may add nodes
            self._graft(index)
            index += 1
        self._texts = <int32_t*>allocate(len(texts), sizeof(int32_t))
        parts = [0]
        for index, place in enumerate(texts):
            if isinstance(place, int):
                self._texts[index] = self._places[place]
                continue
            if len(place) > PARTS_MAX:
                raise NotScannableError(f"a name of more than {PARTS_MAX} values")
            self._texts[index] = -len(parts)
            parts.append(len(place))
            for path, counts in place:
                parts += [self._places[path], counts]
                if counts == ALIKE:
                    self._noted(self._places[path]).alike = True
        self._parts = numbers_of(parts)
        self._channel = numbers_of([len(channel), *channel])
        flat, starts = [], []
        for symbol, times, *numbers, reset in plans:
            for index in symbol:
                if isinstance(texts[index], int):
                    self._noted(self._places[texts[index]]).alike = True
            starts.append(len(plans) + len(flat))
            flat += [len(symbol), *symbol, 2 * len(times)]
            for path, exponent in times:
                flat += [self._places[path], exponent]
            for places in numbers:
                flat += [len(places), *(self._places[place] for place in places)]
            flat += [len(reset), *reset]
        self._plans = numbers_of(starts + flat)
        self.forget()

    def __dealloc__(self):
        free_places(&self._tree)
        free(self._quotes)
        free(self._places)
        free(self._texts)
        free(self._parts)
        free(self._plans)
        free(self._channel)
        free_texts(&self._known_texts)

    @property
    def known(self):
        """Number of known texts."""
        return self._known_texts.count

    def forget(self):
        """Forget all texts. Their codes may then be used again."""
        forget_texts(&self._known_texts)

    def read(self, size_t data, size_t limit, size_t offsets, size_t readable, Py_ssize_t count, size_t into):
        """Read the fields of a batch.

        Args:
            data: address of the messages' bytes.
            limit: end address of the memory that may be read.
            offsets: address of `count` + 1 int64: offsets of the messages in `data`, and the end of the last one.
            readable: address of `count` bytes: 0 for a message that is to be skipped.
            count: number of messages.
            into: address of zeroed memory for the columns, see `room`.

        """
        cdef const uint8_t* bytes_ = <const uint8_t*>data
        cdef const int64_t* starts = <const int64_t*>offsets
        cdef const uint8_t* wanted = <const uint8_t*>readable
        cdef int64_t* numbers = <int64_t*>into
        cdef int32_t* codes = <int32_t*>(numbers + 6 * count)
        cdef uint8_t* valid = <uint8_t*>(codes + 2 * count)
        cdef Py_ssize_t stride = (count + 7) // 8
        cdef Py_ssize_t row = 0
        cdef Verdict verdict = PRESENT
        cdef Message message
        cdef Row found
        message.limit = <const uint8_t*>limit
        message.places, message.reading.place_count = self._tree.places, self._tree.count
        message.instance = self._instance
        while row < count:
            with nogil:
                while row < count:
                    if wanted[row]:
                        if starts[row + 1] - starts[row] > self._quotes_room:
                            verdict = NO_ROOM
                            break
                        self._epoch += 1
                        message.start, message.end = bytes_ + starts[row], bytes_ + starts[row + 1]
                        message.quotes, message.reading.epoch = self._quotes, self._epoch
                        verdict = self._row(&message, &found)
                        if verdict != PRESENT:
                            break
                        store(&found, row, count, stride, numbers, codes, valid)
                    row += 1
            self._instance = message.instance
            if row == count:
                return
            if verdict == NO_ROOM:
                self._quotes_room = (starts[row + 1] - starts[row]) * 2
                self._quotes = <uint64_t*>grown(self._quotes, (self._quotes_room + 63) // 64 * sizeof(uint64_t))
            elif verdict == UNKNOWN:
                self._learn()
            else:
                found = row_of(self._read_message((bytes_ + starts[row])[:starts[row + 1] - starts[row]]))
                store(&found, row, count, stride, numbers, codes, valid)
                row += 1

    @staticmethod
    def room(Py_ssize_t count):
        """Size of the columns of `count` messages in bytes.

        They follow one another: two columns of 64 bits (exchange time, sequence number), two of 128 (first, previous),
        two of int32 (channel, symbol), the validity bitmaps of all six in this order, and a bitmap of resets.
        """
        return count * (6 * sizeof(int64_t) + 2 * sizeof(int32_t)) + 7 * ((count + 7) // 8)

    cdef Verdict _row(self, Message* m, Row* row) noexcept nogil:
        cdef const int32_t* program
        cdef int32_t plan = 0
        cdef int32_t code
        cdef Verdict verdict
        cdef int column
        if not wsrec_is_message(m):
            return UNDECIDED
        verdict = self._name(m, self._channel, False, &row.channel, &plan)
        if verdict > PRESENT:
            return verdict
        program = self._plans + self._plans[plan]
        verdict = self._name(m, program, True, &row.symbol, &plan)
        if verdict > PRESENT:
            return verdict
        program += program[0] + 1
        verdict = self._time(m, program, &row.numbers[0])
        if verdict > PRESENT:
            return verdict
        row.known[0] = verdict == PRESENT
        for column in range(1, 4):
            program += program[0] + 1
            verdict = self._number(m, program, column == 1, &row.numbers[column], &row.negative[column])
            if verdict > PRESENT:
                return verdict
            row.known[column] = verdict == PRESENT
        program += program[0] + 1
        verdict = self._name(m, program, False, &code, &plan)
        if verdict > PRESENT:
            return verdict
        row.reset = code >= 0
        return PRESENT

    cdef inline Verdict _name(
        self, Message* m, const int32_t* places, bint alike, int32_t* code, int32_t* plan
    ) noexcept nogil:
        """The name at the first place that has one; code -1 if none has. `alike`: skip places with differing values."""
        cdef int32_t index, at
        cdef Noted* noted
        cdef const uint8_t* start
        cdef int32_t length
        cdef Text* text
        code[0] = -1
        for index in range(1, places[0] + 1):
            at = self._texts[places[index]]
            if at >= 0:
                noted = wsrec_noted_at(m.places, at)
                if noted.epoch != m.reading.epoch:
                    continue
                if noted.first.kind != WSREC_TEXT:
                    if noted.first.kind == WSREC_UNDECIDED:
                        return UNDECIDED
                    continue
                if alike and noted.differs:
                    continue
                if noted.first.length > TEXT_MAX:
                    return UNDECIDED
                start, length = noted.first.start, <int32_t>noted.first.length
            else:
                length = self._join(m, self._parts - at)
                if length < 0:
                    return UNDECIDED
                start = self._joined
            text = find_text(&self._known_texts, places[index], start, <uint32_t>length)
            if text.place < 0:
                self._unknown_place, self._unknown, self._unknown_length = places[index], start, length
                return UNKNOWN
            if text.code >= 0:
                code[0], plan[0] = text.code, text.plan
                return PRESENT
        return ABSENT

    cdef int32_t _join(self, Message* m, const int32_t* parts) noexcept nogil:
        """Concatenate the values that a name is made from; returns the length, or -1 if Python has to decide."""
        cdef uint8_t* end = self._joined
        cdef const Value* value
        cdef int32_t index
        cdef Noted* noted
        for index in range(1, 2 * parts[0], 2):
            noted = wsrec_noted_at(m.places, parts[index])
            value = &noted.first
            if noted.epoch != m.reading.epoch:
                end[0] = 0
                end += 1
            elif value.kind == WSREC_UNDECIDED:
                return -1
            elif parts[index + 1] == ALIKE and noted.differs:
                end[0] = 0
                end += 1
            elif not parts[index + 1] or value.kind == WSREC_OTHER or value.kind == WSREC_DECIMAL:
                end[0] = 1
                end += 1
            elif value.length > TEXT_MAX or (value.kind == WSREC_INTEGER and value.start[0] == c"-"):
                # -0 is 0
                return -1
            else:
                end[0] = 2 if value.kind == WSREC_TEXT else 3
                end[1] = <uint8_t>value.length
                memcpy(end + 2, value.start, value.length)
                end += 2 + value.length
        return <int32_t>(end - self._joined)

    cdef inline Verdict _number(
        self, Message* m, const int32_t* places, bint last, int64_t* value, bint* negative
    ) noexcept nogil:
        """The number at the first place that has one; with `last`, only numbers from 0 on count."""
        cdef int32_t index
        cdef Noted* noted
        cdef Verdict verdict
        for index in range(1, places[0] + 1):
            noted = wsrec_noted_at(m.places, places[index])
            if noted.epoch != m.reading.epoch:
                continue
            verdict = read_integer(&noted.last if last else &noted.first, value, negative)
            if verdict != ABSENT and not (last and verdict == PRESENT and negative[0]):
                return verdict
        return ABSENT

    cdef inline Verdict _time(self, Message* m, const int32_t* places, int64_t* value) noexcept nogil:
        """The time at the first place with one after 2000 and within int64; else that of the first place."""
        cdef int32_t index
        cdef int64_t beyond = 0
        cdef Noted* noted
        cdef Verdict verdict, last = ABSENT
        for index in range(1, places[0], 2):
            noted = wsrec_noted_at(m.places, places[index])
            if noted.epoch != m.reading.epoch:
                continue
            if places[index + 1] == -2:
                return UNDECIDED
            elif places[index + 1] >= 0:
                verdict = read_time(&noted.first, places[index + 1], value)
            else:
                verdict = read_iso(&noted.first, value)
            if verdict == UNDECIDED or (verdict == PRESENT and EARLIEST < value[0] < INT64_MAX):
                return verdict
            if verdict == PRESENT and last == ABSENT:
                beyond, last = value[0], PRESENT
        value[0] = beyond
        return last

    cdef _learn(self):
        """Have Python resolve the text that stopped the reading, and remember the result."""
        cdef int32_t place = self._unknown_place
        cdef const uint8_t* start = self._unknown
        cdef uint32_t length = self._unknown_length
        code, plan = self._learn_text(place, start[:length])
        remember_text(&self._known_texts, place, start, length, code, plan)

    cdef int32_t _place(self, steps) except -1:
        """The place at the end of the steps, created if necessary."""
        for index, step in enumerate(steps):
            if isinstance(step, int) and step < 0:
                return self._left(place_at(&self._tree, steps[:index]))
        return place_at(&self._tree, steps)

    cdef int32_t _left(self, int32_t parent) except -1:
        """The place below which Python reads."""
        cdef int32_t child = self._noted(parent).left
        if not child:
            child = add_place(&self._tree, parent)
            self._noted(parent).left = child
        return child

    cdef _graft(self, int32_t array):
        """Link an element's place at a given position to that for every element, which gets its values as well."""
        cdef int32_t item = self._tree.places[array].items
        while item and self._tree.places[array].each:
            self._follow(item, self._tree.places[array].each)
            item = self._tree.places[item].sibling

    cdef _follow(self, int32_t place, int32_t other):
        """Make values at and below `place` also be noted at and below `other`, as far as wanted there."""
        cdef Tree* tree = &self._tree
        cdef const uint8_t* key
        cdef uint32_t length
        cdef int32_t child
        cdef int byte
        if self._noted(place).also and self._noted(place).also != other:
            raise NotScannableError("positions and each element of arrays in arrays")
        self._noted(place).also = other
        if tree.places[other].children != NULL:
            for byte in range(256):
                child = tree.places[other].children[byte]
                while child:
                    key, length = tree.places[child].key, tree.places[child].key_length
                    self._follow(place_of_key(tree, place, key, length), child)
                    child = tree.places[child].sibling
        child = tree.places[other].items
        while child:
            self._follow(place_of_item(tree, place, tree.places[child].position), child)
            child = tree.places[child].sibling
        if tree.places[other].each:
            self._follow(place_of_each(tree, place), tree.places[other].each)
        if self._noted(other).left:
            self._follow(self._left(place), self._noted(other).left)

    cdef inline Noted* _noted(self, int32_t place) noexcept:
        return wsrec_noted_at(self._tree.places, place)


cdef inline void store(
    const Row* found, Py_ssize_t row, Py_ssize_t count, Py_ssize_t stride, int64_t* numbers, int32_t* codes, uint8_t* valid
) noexcept nogil:
    """Write a row into zeroed columns."""
    cdef uint8_t bit = <uint8_t>(1 << (row & 7))
    cdef int column
    valid += row >> 3
    for column in range(4):
        if found.known[column]:
            if column < 2:
                numbers[column * count + row] = found.numbers[column]
            else:
                numbers[(2 * column - 2) * count + 2 * row] = found.numbers[column]
                numbers[(2 * column - 2) * count + 2 * row + 1] = -found.negative[column]
            valid[column * stride] |= bit
    if found.channel >= 0:
        codes[row] = found.channel
        valid[4 * stride] |= bit
    if found.symbol >= 0:
        codes[count + row] = found.symbol
        valid[5 * stride] |= bit
    if found.reset:
        valid[6 * stride] |= bit


cdef Row row_of(values):
    cdef Row row
    cdef int column
    row.channel, row.symbol = values[0], values[1]
    for column in range(4):
        value = values[2 + column]
        row.known[column], row.negative[column] = value is not None, value is not None and value < 0
        row.numbers[column] = <int64_t><uint64_t>((value or 0) & 0xFFFFFFFFFFFFFFFF)
    row.reset = values[6]
    return row


cdef int32_t* numbers_of(values) except NULL:
    cdef int32_t* memory = <int32_t*>allocate(len(values), sizeof(int32_t))
    for index, value in enumerate(values):
        memory[index] = value
    return memory
