# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
"""Compiled table rows: equivalent to `wsrec.decode.table_rows`, without Python objects per message.

`RowScanner` notes the values at the declared places of a message in one walk (_walk.h, _rows.h), and makes columns of
them. It decides only messages that are entirely as declared; all others, and what is left out of them, are Python's: the
scanner names them, and nothing of them is in its columns.
"""

from wsrec.decode import row_values
from wsrec.feed.table_columns import Kind

from cpython.mem cimport PyMem_Free
from libc.stdint cimport INT64_MAX, INT64_MIN, UINT32_MAX, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy, strlen

from wsrec.decode._places cimport (
    WSREC_INTEGER, WSREC_LITERAL, WSREC_OTHER, WSREC_TEXT, WSREC_UNDECIDED,
    Tree, allocate, free_places, grown, place_at, wsrec_place, wsrec_value,
)


cdef extern from "Python.h":
    double PyOS_string_to_double(const char* s, char** endptr, void* overflow_exception) except? -1.0
    char* PyOS_double_to_string(double val, char format_code, int precision, int flags, int* ptype) except NULL


cdef extern from "_rows.h":
    enum:
        WSREC_ABSENT

    struct wsrec_noted:
        int32_t wanted
        int32_t scope
        int32_t cell
        int32_t rows

    struct wsrec_scope:
        wsrec_value* cells
        int32_t* parents
        int32_t parent
        int32_t width
        uint32_t count

    struct wsrec_reading:
        wsrec_scope* scopes
        int32_t scope_count

    struct wsrec_message:
        const uint8_t* start
        const uint8_t* end
        const uint8_t* limit
        uint64_t* quotes
        wsrec_place* places
        wsrec_reading reading

    struct wsrec_numeral:
        const uint8_t* start
        int32_t digits
        int32_t exponent
        bint negative

    wsrec_noted* wsrec_noted_at(wsrec_place* places, int32_t index) noexcept nogil
    bint wsrec_read_rows(wsrec_message* m) noexcept nogil
    bint wsrec_digits(const uint8_t* p, const uint8_t* end, uint64_t* value) noexcept nogil
    bint wsrec_times(uint64_t a, uint64_t b, uint64_t* product) noexcept nogil
    bint wsrec_iso(const uint8_t* p, uint32_t size, int64_t* value) noexcept nogil
    bint wsrec_parse_numeral(const uint8_t* p, const uint8_t* end, wsrec_numeral* found) noexcept nogil
    uint64_t wsrec_mantissa(const wsrec_numeral* numeral) noexcept nogil
    bint wsrec_equal(const wsrec_numeral* a, const wsrec_numeral* b) noexcept nogil
    bint wsrec_is_space(uint8_t byte) noexcept nogil


ctypedef wsrec_value Value
ctypedef wsrec_scope Scope
ctypedef wsrec_numeral Numeral

cdef int64_t NO_TIME = row_values.NO_TIME
cdef uint64_t[20] POWERS
POWERS[:] = [10**n for n in range(20)]
cdef double[23] EXACT  # powers of ten that a double holds
EXACT[:] = [10.0**n for n in range(23)]

cdef enum Verdict:
    NONE = 0
    SOME = 1
    PYTHON = 2  # Python has to read the message

# tests of a condition
cdef enum Test:
    PRESENT, ABSENT, EQUALS, DIFFERS, ZERO, NOT_ZERO, ARRAY, OBJECT, TEXT, NUMBER, BOOLEAN, EMPTY

TESTS = {
    "present": PRESENT, "absent": ABSENT, "equals": EQUALS, "differs": DIFFERS, "zero": ZERO, "not_zero": NOT_ZERO,
    "array": ARRAY, "object": OBJECT, "text": TEXT, "number": NUMBER, "boolean": BOOLEAN, "empty": EMPTY,
}

cdef enum Type:  # A_NUMBER and A_SIZE are doubles
    A_NUMBER, A_SIZE, A_TIME, AN_INTEGER, A_COUNT, A_WORD, A_TEXT, A_TRUTH

TYPES = {
    Kind.NUMBER: A_NUMBER, Kind.SIZE: A_SIZE, Kind.RATE: A_NUMBER, Kind.TIME: A_TIME, Kind.INTEGER: AN_INTEGER,
    Kind.COUNT: A_COUNT, Kind.WORD: A_WORD, Kind.TEXT: A_TEXT, Kind.TRUTH: A_TRUTH,
}

# forms of a declaration
cdef enum Form:
    PLAIN, SIDES, LEVEL

FORMS = {"plain": PLAIN, "sides": SIDES, "level": LEVEL}


cdef struct Where:
    # a cell of a scope
    int32_t scope
    int32_t cell


cdef struct Span:
    int32_t first
    int32_t count


cdef struct Word:
    const uint8_t* start
    uint32_t length
    int32_t code  # -1: no value


cdef struct Condition:
    Where at
    Test test
    Span texts
    bint has_others  # a text that is none of these, and none of `others`, is Python's to refuse
    Span others
    bint may_be_absent


cdef struct Cell:
    bint is_constant
    Where at
    Span conditions
    Span words  # count 0: none
    Span none
    bint none_zero
    bint is_signed
    int32_t positive
    int32_t negative
    bint absolute
    bint clip
    int32_t exponent  # of times: units of 10**exponent ns; -1: RFC 3339 text
    int64_t constant
    double number


cdef struct Column:
    Type type
    Span cells
    int32_t output
    bint required
    bint says  # whether a value makes the row say something


cdef struct Flag:
    int32_t bit
    Span when
    int32_t column  # -1: by conditions; else the word is the bit


cdef struct Result:
    int64_t integer
    double number
    const uint8_t* start
    uint32_t length


cdef struct Side:
    bint declared
    Where array
    int32_t scope
    Span columns
    Span delete


cdef struct Declaration:
    Form form
    int32_t table
    Span when
    int32_t rows  # scope
    Where row  # the row itself, or the array of rows in its parent
    bint has_row
    Where array
    bint has_array
    Span where
    Span columns
    Span flags
    int32_t flags_output
    bint is_statement
    bint is_nested
    int32_t best[6]  # outputs of price, size and count of both sides; -1: none
    bint needs_symbol
    # books
    int32_t always_snapshot
    Span snapshot
    Span delete
    bint refuses_zero_price
    Side sides[2]
    int32_t action
    int32_t is_snapshot
    int32_t side
    int32_t price
    int32_t size


cdef struct Output:
    Type type
    uint8_t* data  # 8 bytes a row
    uint8_t* valid  # a byte a row
    uint8_t* text  # of A_TEXT
    uint64_t text_size
    uint64_t text_room


cdef struct Table:
    Output* outputs
    int32_t output_count
    int64_t* message
    uint64_t rows
    uint64_t room


cdef class RowScanner:
    """Makes columns of the messages of one channel.

    Args:
        places: the wanted places: for each its steps (a key or a position; None: each element), scope and cell.
        scopes: for each scope its parent and its number of cells.
        program: the declarations (`wsrec.decode.compiled_table_reader`).

    """

    cdef wsrec_message _read  # of the message that is being read, what is noted
    cdef Tree _tree
    cdef Py_ssize_t _quotes_room
    cdef list _kept  # memory of words
    cdef Condition* _conditions
    cdef Word* _words
    cdef Cell* _cells
    cdef Column* _columns
    cdef Flag* _flags
    cdef Declaration* _declarations
    cdef int32_t _declaration_count
    cdef Span* _skips
    cdef int32_t _skip_count
    cdef Table* _tables
    cdef int32_t _table_count

    def __cinit__(self, places, scopes, program):
        self._kept = []
        self._read.reading.scopes = <Scope*>allocate(len(scopes), sizeof(Scope))
        self._read.reading.scope_count = len(scopes)
        for index, (parent, width) in enumerate(scopes):
            self._read.reading.scopes[index].parent, self._read.reading.scopes[index].width = parent, max(width, 1)
        for steps, scope, cell in places:
            self._wish(steps, scope, cell)
        self._read.places = self._tree.places
        self._load(program)

    def __dealloc__(self):
        cdef int32_t index, column
        free_places(&self._tree)
        for index in range(self._read.reading.scope_count):
            free(self._read.reading.scopes[index].cells)
            free(self._read.reading.scopes[index].parents)
        free(self._read.reading.scopes)
        free(self._read.quotes)
        for index in range(self._table_count):
            for column in range(self._tables[index].output_count):
                free(self._tables[index].outputs[column].data)
                free(self._tables[index].outputs[column].valid)
                free(self._tables[index].outputs[column].text)
            free(self._tables[index].outputs)
            free(self._tables[index].message)
        free(self._tables)
        free(self._conditions)
        free(self._words)
        free(self._cells)
        free(self._columns)
        free(self._flags)
        free(self._declarations)
        free(self._skips)

    def read(self, size_t data, size_t limit, size_t offsets, size_t chosen, Py_ssize_t count, size_t has_symbol):
        """Read messages; their rows are then in `take`.

        Args:
            data: address of the messages' bytes.
            limit: end address of the memory that may be read.
            offsets: address of int64: offsets of all messages of the batch in `data`.
            chosen: address of `count` int64: the messages to be read.
            count: their number.
            has_symbol: address of a byte for each message of the batch: whether it has a symbol.

        Returns:
            The messages that Python has to read.

        """
        cdef const uint8_t* bytes_ = <const uint8_t*>data
        cdef const int64_t* starts = <const int64_t*>offsets
        cdef const int64_t* wanted = <const int64_t*>chosen
        cdef const uint8_t* symbols = <const uint8_t*>has_symbol
        cdef Py_ssize_t index
        cdef int64_t message
        cdef list python = []
        self._read.limit = <const uint8_t*>limit
        for index in range(count):
            message = wanted[index]
            if starts[message + 1] - starts[message] > self._quotes_room:
                self._quotes_room = (starts[message + 1] - starts[message]) * 2
                self._read.quotes = <uint64_t*>grown(self._read.quotes, (self._quotes_room + 63) // 64 * sizeof(uint64_t))
            self._read.start, self._read.end = bytes_ + starts[message], bytes_ + starts[message + 1]
            if not self._message(message, symbols[message]):
                python.append(message)
        return python

    def take(self):
        """The rows since the last call.

        Returns:
            For each table: the message of each row (bytes of int64), and for each output
            its values (8 bytes each: a double, an integer, a code, 0 or 1; of texts the end of each in the third), their
            validity (a byte each) and the texts.

        """
        found = []
        cdef int32_t index, column
        cdef Table* table
        cdef Output* output
        for index in range(self._table_count):
            table = &self._tables[index]
            outputs = []
            for column in range(table.output_count):
                output = &table.outputs[column]
                outputs.append((
                    (<const uint8_t*>output.data)[:8 * table.rows] if table.rows else b"",
                    (<const uint8_t*>output.valid)[:table.rows] if table.rows else b"",
                    (<const uint8_t*>output.text)[:output.text_size] if output.text_size else b"",
                ))
                output.text_size = 0
            message = (<const uint8_t*>table.message)[:8 * table.rows] if table.rows else b""
            found.append((message, outputs))
            table.rows = 0
        return found

    cdef bint _message(self, int64_t message, bint has_symbol) except -1:
        """Make the rows of a message; false, without any, if Python has to read it."""
        cdef int32_t index
        cdef bint fits = False
        cdef uint64_t done = 0  # a bit a table that a declaration fitted
        cdef Declaration* declaration
        cdef Verdict verdict
        cdef uint64_t rows[16]
        if not wsrec_read_rows(&self._read):
            return False
        for index in range(self._skip_count):
            if self._hold(self._skips[index], 0, 0) != NONE:
                return False
        for index in range(self._table_count):
            rows[index] = self._tables[index].rows
        for index in range(self._declaration_count):
            declaration = &self._declarations[index]
            if done >> declaration.table & 1:
                continue
            verdict = self._hold(declaration.when, 0, 0)
            if verdict == NONE:
                continue
            done |= <uint64_t>1 << declaration.table
            if verdict == PYTHON or (declaration.needs_symbol and not has_symbol) or not self._declared(declaration, message):
                self._undo(rows)
                return False
            fits = True
        return fits

    cdef void _undo(self, uint64_t* rows) noexcept:
        cdef int32_t index, column
        cdef Table* table
        cdef Output* output
        for index in range(self._table_count):
            table = &self._tables[index]
            table.rows = rows[index]
            for column in range(table.output_count):
                output = &table.outputs[column]
                if output.type == A_TEXT:
                    output.text_size = (<uint64_t*>output.data)[table.rows - 1] if table.rows else 0

    cdef bint _declared(self, Declaration* d, int64_t message) except -1:
        """Make the rows of one declaration; false if Python has to."""
        cdef Scope* scope = &self._read.reading.scopes[d.rows]
        cdef uint32_t count = 1 if d.rows == 0 else scope.count
        cdef uint32_t row
        cdef Verdict verdict
        if d.rows and not count:
            # an empty array makes none; of a book it may be a snapshot, and without the array the reason is Python's
            return (
                d.form == PLAIN and d.has_array and not d.is_nested
                and self._shape(self._at(d.array, 0, 0), ARRAY) == SOME
            )
        if d.is_nested and d.form != PLAIN:
            for row in range(self._read.reading.scopes[scope.parent].count):
                if self._shape(self._at(d.array, scope.parent, row), EMPTY) != NONE:
                    return False
                if self._shape(self._at(d.array, scope.parent, row), ARRAY) != SOME:
                    return False
        for row in range(count):
            if d.has_row and self._at(d.row, d.rows, row).kind != WSREC_OTHER:
                return False
            if d.where.count:
                verdict = self._hold(d.where, d.rows, row)
                if verdict == PYTHON:
                    return False
                if verdict == NONE:
                    continue
            if d.form == PLAIN:
                verdict = self._plain(d, row, message)
            elif d.form == SIDES:
                verdict = self._sides(d, row, message)
            else:
                verdict = self._level(d, row, message)
            if verdict == PYTHON:
                return False
        return True

    cdef Verdict _plain(self, Declaration* d, uint32_t row, int64_t message) except *:
        cdef Table* table = &self._tables[d.table]
        cdef int32_t index
        cdef bint says = False
        cdef Verdict verdict
        self._begin(table, message)
        if self._fill(table, d.columns, d.rows, row) == PYTHON:
            return PYTHON
        if d.refuses_zero_price and (<double*>table.outputs[d.price].data)[table.rows] == 0:
            return PYTHON
        for index in range(0, 6, 3):
            if d.best[index] >= 0:
                no_quote(table, d.best + index)
        if d.is_statement:
            for index in range(d.columns.first, d.columns.first + d.columns.count):
                says = says or (
                    self._columns[index].says and table.outputs[self._columns[index].output].valid[table.rows]
                )
            if not says:
                return NONE
        if d.flags.count:
            verdict = self._mark(d, table, row)
            if verdict == PYTHON:
                return PYTHON
        table.rows += 1
        return SOME

    cdef Verdict _mark(self, Declaration* d, Table* table, uint32_t row) except *:
        """Set the flags of the table's next row."""
        cdef int32_t index
        cdef int64_t mask = 0
        cdef Flag* flag
        cdef Result result
        cdef Verdict verdict
        for index in range(d.flags.first, d.flags.first + d.flags.count):
            flag = &self._flags[index]
            if flag.column >= 0:
                verdict = self._value(table, &self._columns[flag.column], d.rows, row, &result)
            else:
                verdict = self._hold(flag.when, d.rows, row)
                result.integer = flag.bit
            if verdict == PYTHON:
                return PYTHON
            if verdict == SOME:
                mask |= <int64_t>1 << result.integer
        if mask:
            put(table, d.flags_output, mask)
        return SOME

    cdef Verdict _sides(self, Declaration* d, uint32_t row, int64_t message) except *:
        """Levels in an array for each side."""
        cdef Table* table = &self._tables[d.table]
        cdef int32_t side, snapshot = d.always_snapshot
        cdef uint32_t level
        cdef Scope* scope
        cdef const Value* array
        cdef bint found = False
        cdef Verdict verdict
        if d.snapshot.count:
            verdict = self._hold(d.snapshot, d.rows, row)
            if verdict == PYTHON:
                return PYTHON
            snapshot = verdict == SOME
        if snapshot:
            self._begin(table, message)
            if self._fill(table, d.columns, d.rows, row) == PYTHON:
                return PYTHON
            put(table, d.action, 2)
            put(table, d.is_snapshot, 1)
            table.rows += 1
        for side in range(2):
            if not d.sides[side].declared:
                continue
            array = self._at(d.sides[side].array, d.rows, row)
            if array.kind == WSREC_ABSENT:
                continue
            if array.kind != WSREC_OTHER or array.start[0] != c"[":
                return PYTHON
            scope = &self._read.reading.scopes[d.sides[side].scope]
            for level in range(scope.count):
                if d.rows and <uint32_t>scope.parents[level] != row:
                    continue
                found = True
                self._begin(table, message)
                if self._fill(table, d.columns, d.rows, row) == PYTHON:
                    return PYTHON
                if self._fill(table, d.sides[side].columns, d.sides[side].scope, level) == PYTHON:
                    return PYTHON
                put(table, d.side, side)
                put(table, d.is_snapshot, snapshot)
                if self._end_level(d, table, d.sides[side].delete, d.sides[side].scope, level) == PYTHON:
                    return PYTHON
        # what has no level may have other values that cannot be read: the reason is Python's
        return SOME if found or snapshot else PYTHON

    cdef Verdict _level(self, Declaration* d, uint32_t row, int64_t message) except *:
        """A row that is a level; those of snapshots are Python's."""
        cdef Table* table = &self._tables[d.table]
        if d.always_snapshot or (d.snapshot.count and self._hold(d.snapshot, d.rows, row) != NONE):
            return PYTHON
        self._begin(table, message)
        if self._fill(table, d.columns, d.rows, row) == PYTHON:
            return PYTHON
        put(table, d.is_snapshot, 0)
        return self._end_level(d, table, d.delete, d.rows, row)

    cdef Verdict _end_level(self, Declaration* d, Table* table, Span delete, int32_t scope, uint32_t row) except *:
        """Complete a level: set or deleted."""
        cdef bint deletes = False
        cdef Verdict verdict
        cdef double* size = <double*>table.outputs[d.size].data + table.rows
        if not table.outputs[d.price].valid[table.rows]:
            return PYTHON
        if d.refuses_zero_price and (<double*>table.outputs[d.price].data)[table.rows] == 0:
            return PYTHON
        if delete.count:
            verdict = self._hold(delete, scope, row)
            if verdict == PYTHON:
                return PYTHON
            deletes = verdict == SOME
        if deletes:
            size[0] = 0
            table.outputs[d.size].valid[table.rows] = 1
        elif not table.outputs[d.size].valid[table.rows]:
            return PYTHON
        deletes = deletes or size[0] == 0
        if not deletes and not table.outputs[d.side].valid[table.rows]:
            return PYTHON
        put(table, d.action, deletes)
        table.rows += 1
        return SOME

    cdef Verdict _fill(self, Table* table, Span columns, int32_t scope, uint32_t row) except *:
        """Read columns into the table's next row."""
        cdef int32_t index
        cdef Column* column
        cdef Result result
        cdef Verdict verdict
        for index in range(columns.first, columns.first + columns.count):
            column = &self._columns[index]
            verdict = self._value(table, column, scope, row, &result)
            if verdict == PYTHON or (verdict == NONE and column.required):
                return PYTHON
            if verdict == SOME:
                if column.type == A_TEXT:
                    put_text(table, column.output, &result)
                elif column.type <= A_SIZE:
                    (<double*>table.outputs[column.output].data)[table.rows] = result.number
                    table.outputs[column.output].valid[table.rows] = 1
                else:
                    put(table, column.output, result.integer)
        return SOME

    cdef Verdict _value(self, Table* table, Column* column, int32_t scope, uint32_t row, Result* result) except *:
        """The value of a column: the first of its cells that has one."""
        cdef int32_t index
        cdef Cell* cell
        cdef Verdict verdict
        for index in range(column.cells.first, column.cells.first + column.cells.count):
            cell = &self._cells[index]
            if cell.conditions.count:
                verdict = self._hold(cell.conditions, scope, row)
                if verdict == PYTHON:
                    return PYTHON
                if verdict == NONE:
                    continue
            if cell.is_constant:
                result.integer, result.number = cell.constant, cell.number
                return SOME
            verdict = self._cell(table, column, cell, self._at(cell.at, scope, row), result)
            if verdict != NONE:
                return verdict
        return NONE

    cdef Verdict _cell(self, Table* table, Column* column, Cell* cell, const Value* found, Result* result) except *:
        cdef Numeral numeral
        cdef int32_t code
        numeral.digits = 0
        if found.kind == WSREC_ABSENT:
            return NONE
        if found.kind == WSREC_UNDECIDED or found.kind == WSREC_OTHER:
            return PYTHON
        if found.kind == WSREC_TEXT and not found.length and not (
            cell.words.count or cell.is_signed or column.type == A_TRUTH
        ):
            return NONE
        if cell.none.count and self._word(cell.none, found, &code):
            return NONE
        if column.type <= A_SIZE or cell.is_signed or (cell.none_zero and column.type != A_TEXT):
            if found.kind == WSREC_LITERAL:
                return PYTHON
            if not wsrec_parse_numeral(found.start, found.start + found.length, &numeral):
                return PYTHON
            if cell.none_zero and not numeral.digits:
                return NONE
        if cell.is_signed:
            if not numeral.digits:
                return NONE
            result.integer = cell.negative if numeral.negative else cell.positive
            return SOME if result.integer >= 0 else NONE
        if column.type <= A_SIZE:
            if cell.absolute:
                numeral.negative = False
            elif cell.clip and numeral.negative:
                numeral.digits = 0
                numeral.negative = False
            elif column.type == A_SIZE and numeral.negative and numeral.digits:
                return PYTHON
            return as_double(found, &numeral, result)
        if column.type == A_WORD:
            if not self._word(cell.words, found, &code):
                return PYTHON
            result.integer = code
            return SOME if code >= 0 else NONE
        if column.type == A_TIME:
            return as_time(found, cell.exponent, result)
        if column.type == A_TEXT:
            if found.length > 1000 or (found.kind == WSREC_INTEGER and found.start[0] == c"-"):
                return PYTHON
            result.start, result.length = found.start, found.length
            return SOME
        if column.type == A_TRUTH:
            return as_truth(found, result)
        return as_integer(found, column.type == A_COUNT, result)

    cdef inline const Value* _at(self, Where at, int32_t scope, uint32_t row) noexcept:
        """The value of a cell, as seen from a row of a scope: of that row, or of what it lies in."""
        cdef Scope* owner
        while at.scope != scope:
            row = <uint32_t>self._read.reading.scopes[scope].parents[row]
            scope = self._read.reading.scopes[scope].parent
        owner = &self._read.reading.scopes[scope]
        return &owner.cells[<size_t>row * <size_t>owner.width + <size_t>at.cell]

    cdef Verdict _hold(self, Span conditions, int32_t scope, uint32_t row) noexcept:
        """Whether all conditions hold."""
        cdef int32_t index
        cdef Verdict verdict
        for index in range(conditions.first, conditions.first + conditions.count):
            verdict = self._test(&self._conditions[index], scope, row)
            if verdict != SOME:
                return verdict
        return SOME

    cdef Verdict _test(self, Condition* condition, int32_t scope, uint32_t row) noexcept:
        cdef const Value* found = self._at(condition.at, scope, row)
        cdef Numeral numeral
        cdef int32_t code
        if condition.test == ABSENT:
            return SOME if found.kind == WSREC_ABSENT else NONE
        if found.kind == WSREC_ABSENT:
            return NONE if condition.may_be_absent else PYTHON
        if condition.test == PRESENT:
            return SOME
        if condition.test >= ARRAY:
            return self._shape(found, condition.test)
        if found.kind == WSREC_UNDECIDED or (found.kind == WSREC_INTEGER and found.start[0] == c"-"):
            return PYTHON
        if condition.test == EQUALS:
            if found.kind != WSREC_OTHER and self._word(condition.texts, found, &code):
                return SOME
            if condition.has_others and (found.kind == WSREC_OTHER or not self._word(condition.others, found, &code)):
                return PYTHON
            return NONE
        if condition.test == DIFFERS:
            return NONE if found.kind != WSREC_OTHER and self._word(condition.texts, found, &code) else SOME
        if found.kind == WSREC_OTHER or found.kind == WSREC_LITERAL:
            return NONE
        if not wsrec_parse_numeral(found.start, found.start + found.length, &numeral):
            return NONE
        return SOME if (not numeral.digits) == (condition.test == ZERO) else NONE

    cdef Verdict _shape(self, const Value* found, Test wanted) noexcept:
        cdef const uint8_t* p
        if found.kind == WSREC_OTHER:
            if wanted == EMPTY:
                p = found.start + 1
                while wsrec_is_space(p[0]):
                    p += 1
                return SOME if p[0] == c"]" or p[0] == c"}" else NONE
            return SOME if wanted == (ARRAY if found.start[0] == c"[" else OBJECT) else NONE
        if found.kind == WSREC_TEXT:
            return SOME if wanted == TEXT or (wanted == EMPTY and not found.length) else NONE
        if found.kind == WSREC_LITERAL:
            return SOME if wanted == BOOLEAN else NONE
        if found.kind == WSREC_UNDECIDED:
            # a text with an escape, or a long number
            return PYTHON
        return SOME if wanted == NUMBER and found.kind != WSREC_ABSENT else NONE

    cdef bint _word(self, Span words, const Value* found, int32_t* code) noexcept:
        """Whether a value is one of some words."""
        cdef int32_t index
        cdef Word* word
        for index in range(words.first, words.first + words.count):
            word = &self._words[index]
            if word.length == found.length and not memcmp(word.start, found.start, found.length):
                code[0] = word.code
                return True
        return False

    cdef int _begin(self, Table* table, int64_t message) except -1:
        """Make room for the next row, without values."""
        cdef int32_t index
        cdef Output* output
        cdef uint64_t room
        if table.rows == table.room:
            room = table.room * 2 if table.room else 1024
            table.message = <int64_t*>grown(table.message, room * 8)
            for index in range(table.output_count):
                output = &table.outputs[index]
                output.data = <uint8_t*>grown(output.data, room * 8)
                output.valid = <uint8_t*>grown(output.valid, room)
            table.room = room
        table.message[table.rows] = message
        for index in range(table.output_count):
            output = &table.outputs[index]
            output.valid[table.rows] = 0
            if output.type == A_TEXT:
                # what an unfinished row left is forgotten
                output.text_size = (<uint64_t*>output.data)[table.rows - 1] if table.rows else 0
                (<uint64_t*>output.data)[table.rows] = output.text_size
            else:
                (<int64_t*>output.data)[table.rows] = 0
        return 0

    # building

    cdef int _wish(self, steps, int32_t scope, int32_t cell) except -1:
        cdef wsrec_noted* noted = wsrec_noted_at(self._tree.places, place_at(&self._tree, steps))
        noted.wanted, noted.scope, noted.cell = True, scope, cell
        if steps and steps[len(steps) - 1] is None:
            noted.rows = scope
        return 0

    cdef int _load(self, program) except -1:
        """Load a program: lists of plain values, in the order of the fields above."""
        cdef int32_t index, side
        cdef Declaration* d
        self._conditions = <Condition*>allocate(len(program.conditions), sizeof(Condition))
        for index, condition in enumerate(program.conditions):
            self._conditions[index].at = where_of(condition.at)
            self._conditions[index].test = <Test><int>TESTS[condition.test]
            self._conditions[index].texts = span_of(condition.texts)
            self._conditions[index].has_others = condition.has_others
            self._conditions[index].others = span_of(condition.others)
            self._conditions[index].may_be_absent = condition.may_be_absent
        self._words = <Word*>allocate(len(program.words), sizeof(Word))
        for index, (text, code) in enumerate(program.words):
            self._kept.append(text)
            self._words[index].start, self._words[index].length = text, len(text)
            self._words[index].code = code
        self._cells = <Cell*>allocate(len(program.cells), sizeof(Cell))
        for index, cell in enumerate(program.cells):
            self._cells[index].is_constant = cell.is_constant
            self._cells[index].at = where_of(cell.at)
            self._cells[index].conditions = span_of(cell.conditions)
            self._cells[index].words = span_of(cell.words)
            self._cells[index].none = span_of(cell.none)
            self._cells[index].none_zero = cell.none_zero
            self._cells[index].is_signed = cell.is_signed
            self._cells[index].positive, self._cells[index].negative = cell.positive, cell.negative
            self._cells[index].absolute, self._cells[index].clip = cell.absolute, cell.clip
            self._cells[index].exponent = cell.exponent
            self._cells[index].constant, self._cells[index].number = cell.constant, cell.number
        self._columns = <Column*>allocate(len(program.columns), sizeof(Column))
        for index, column in enumerate(program.columns):
            self._columns[index].type = <Type><int>TYPES[column.kind]
            self._columns[index].cells = span_of(column.cells)
            self._columns[index].output = column.output
            self._columns[index].required, self._columns[index].says = column.required, column.says
        self._flags = <Flag*>allocate(len(program.flags), sizeof(Flag))
        for index, (bit, when, column) in enumerate(program.flags):
            self._flags[index].bit, self._flags[index].when = bit, span_of(when)
            self._flags[index].column = column
        self._skips = <Span*>allocate(len(program.skips), sizeof(Span))
        self._skip_count = len(program.skips)
        for index, span in enumerate(program.skips):
            self._skips[index] = span_of(span)
        self._declarations = <Declaration*>allocate(len(program.declarations), sizeof(Declaration))
        self._declaration_count = len(program.declarations)
        for index, declared in enumerate(program.declarations):
            d = &self._declarations[index]
            d.form, d.table, d.when = <Form><int>FORMS[declared.form], declared.table, span_of(declared.when)
            d.rows = declared.rows
            d.has_row, d.has_array = declared.row is not None, declared.array is not None
            d.row, d.array = where_of(declared.row or (0, 0)), where_of(declared.array or (0, 0))
            d.where, d.columns = span_of(declared.where), span_of(declared.columns)
            d.flags, d.flags_output = span_of(declared.flags), declared.flags_output
            d.is_statement, d.needs_symbol = declared.is_statement, declared.needs_symbol
            d.is_nested = declared.is_nested
            for side in range(6):
                d.best[side] = declared.best[side]
            d.always_snapshot, d.snapshot = declared.always_snapshot, span_of(declared.snapshot)
            d.delete, d.refuses_zero_price = span_of(declared.delete), declared.refuses_zero_price
            d.action, d.is_snapshot, d.side, d.price, d.size = declared.outputs
            for side in range(2):
                levels = declared.sides[side]
                d.sides[side].declared = levels is not None
                if levels is not None:
                    d.sides[side].array, d.sides[side].scope = where_of(levels.array), levels.scope
                    d.sides[side].columns, d.sides[side].delete = span_of(levels.columns), span_of(levels.delete)
        self._tables = <Table*>allocate(len(program.tables), sizeof(Table))
        self._table_count = len(program.tables)
        for index, kinds in enumerate(program.tables):
            self._tables[index].output_count = len(kinds)
            self._tables[index].outputs = <Output*>allocate(len(kinds), sizeof(Output))
            for side, kind in enumerate(kinds):
                self._tables[index].outputs[side].type = <Type><int>TYPES[kind]
        return 0


cdef void no_quote(Table* table, const int32_t* outputs) noexcept:
    """Without a price, or with price 0, there is no quote on a side."""
    cdef int32_t index
    if table.outputs[outputs[0]].valid[table.rows] and (<double*>table.outputs[outputs[0]].data)[table.rows] != 0:
        return
    for index in range(3):
        if outputs[index] >= 0:
            table.outputs[outputs[index]].valid[table.rows] = 0


cdef inline void put(Table* table, int32_t output, int64_t value) noexcept:
    (<int64_t*>table.outputs[output].data)[table.rows] = value
    table.outputs[output].valid[table.rows] = 1


cdef int put_text(Table* table, int32_t index, const Result* result) except -1:
    cdef Output* output = &table.outputs[index]
    if output.text_size + result.length > output.text_room:
        output.text_room = (output.text_size + result.length) * 2
        output.text = <uint8_t*>grown(output.text, output.text_room)
    memcpy(output.text + output.text_size, result.start, result.length)
    output.text_size += result.length
    (<uint64_t*>output.data)[table.rows] = output.text_size
    output.valid[table.rows] = 1
    return 0


cdef Verdict as_double(const Value* found, const Numeral* numeral, Result* result) except *:
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
        value = value * EXACT[numeral.exponent] if numeral.exponent >= 0 else value / EXACT[-numeral.exponent]
        result.number = -value if numeral.negative else value
        return SOME
    return by_python(found, numeral, result)


cdef Verdict by_python(const Value* found, const Numeral* numeral, Result* result) except *:
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


cdef Verdict as_time(const Value* found, int exponent, Result* result) noexcept:
    """A time in ns, as `wsrec.decode.scalars.time_of`; none before `NO_TIME`."""
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
        fraction //= POWERS[decimals - exponent]
    else:
        fraction *= POWERS[exponent - decimals]
    if not wsrec_times(whole, POWERS[exponent], &whole) or whole > <uint64_t>INT64_MAX - fraction:
        return PYTHON
    return moment(<int64_t>(whole + fraction), result)


cdef inline Verdict moment(int64_t time, Result* result) noexcept:
    """None on the epoch's first day; what is neither that nor a time of ours is Python's to count."""
    result.integer = time
    if time >= NO_TIME:
        return SOME if time < INT64_MAX else PYTHON
    return NONE if time >= 0 else PYTHON


cdef inline bint is_digit(uint8_t byte) noexcept:
    return <uint8_t>(byte - c"0") <= 9


cdef Verdict as_truth(const Value* found, Result* result) noexcept:
    cdef uint32_t length = found.length
    if (length == 4 and not memcmp(found.start, b"true", 4)) or (length == 1 and found.start[0] == c"1"):
        result.integer = 1
        return SOME
    if (length == 5 and not memcmp(found.start, b"false", 5)) or (length == 1 and found.start[0] == c"0"):
        result.integer = 0
        return SOME
    return PYTHON


cdef Verdict as_integer(const Value* found, bint is_count, Result* result) noexcept:
    cdef const uint8_t* p = found.start
    cdef bint negative = p[0] == c"-"
    cdef uint64_t magnitude
    if found.kind == WSREC_LITERAL or not wsrec_digits(p + negative, p + found.length, &magnitude):
        return PYTHON
    if magnitude > <uint64_t>INT64_MAX or (is_count and (negative or magnitude > UINT32_MAX)):
        return PYTHON
    result.integer = -<int64_t>magnitude if negative else <int64_t>magnitude
    return SOME


cdef Where where_of(pair):
    cdef Where found
    found.scope, found.cell = pair
    return found


cdef Span span_of(pair):
    cdef Span found
    found.first, found.count = pair
    return found
